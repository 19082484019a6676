"""Webhooks, PagerDuty and every other service of apprise. Imported only in the delivery process, and only when such a receiver exists.

Parameters of ``webhook``: ``url`` or ``url_secret`` (http or https, posted as JSON), ``token_secret``
(Authorization: Bearer), ``username`` and ``password_secret``, ``verify`` ("0" = do not check the
certificate). Of ``pagerduty``: ``routing_key_secret``, ``region`` (us, eu), ``url`` (another Events v2
address, for a proxy), ``source``. Of ``apprise``: ``url_secret`` or ``url`` (any apprise URL).

apprise's own throttle is switched off (the router limits the rate), redirects are not followed (a page must
not wander to another host), and its log is silenced: its URLs and some of its messages hold tokens.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from alerts.routing.settings import Receiver
from alerts.senders.apprise_log import silenced_apprise
from alerts.senders.mail_settings import SettingsError
from alerts.senders.message import OutgoingAlert, SendResult, scrub
from base.secrets import Secret, SecretError, resolve_secret

CONNECT_S = 5.0
_TRY_AGAIN = (408, 425, 429)
"""HTTP answers of the 4xx class that mean "later"; all other 4xx will be the same next time."""


def send(message: OutgoingAlert, receiver: Receiver, deadline_s: float) -> SendResult:
    """Send by apprise; the caller bounds the whole time, here each socket operation is bounded."""
    parameters = dict(receiver.parameters)
    try:
        import apprise
    except ImportError as error:
        return SendResult(False, True, f"apprise cannot be imported ({error}); install it, or use an email receiver")
    try:
        secrets = {k: resolve_secret(v) for k, v in parameters.items() if k.endswith("_secret") and v}
    except SecretError as error:
        return SendResult(False, True, str(error))
    with silenced_apprise() as catcher:
        try:
            asset = apprise.AppriseAsset(http_redirects=False, app_id="brainctl", app_desc="brainctl", async_mode=False)
            plugins = _BUILDERS[receiver.type](message, parameters, secrets, asset)
            kind = _notify_type(message)
            ok = True
            for plugin in plugins:
                plugin.request_rate_per_sec = 0
                plugin.socket_connect_timeout = min(CONNECT_S, deadline_s)
                plugin.socket_read_timeout = deadline_s
                body = message.summary if receiver.type == "pagerduty" else message.body()
                title = "" if receiver.type == "pagerduty" else message.subject
                ok = bool(plugin.notify(body=body, title=title, notify_type=kind)) and ok
        except SettingsError as error:
            return SendResult(False, False, scrub(str(error), *secrets.values()))
        except (apprise.exception.AppriseException, TypeError, ValueError) as error:
            # The text of these may quote the URL: only its class is told.
            return SendResult(False, False, f"apprise does not accept the settings ({type(error).__name__}); see docs/ALERTS.md")
        except OSError as error:
            return SendResult(False, True, f"{type(error).__name__}: {error.strerror or 'no connection'}")
    if ok:
        return SendResult(True)
    if catcher.status is None:
        return SendResult(False, True, "no connection, or no answer in time")
    final = 400 <= catcher.status < 500 and catcher.status not in _TRY_AGAIN
    return SendResult(False, not final, f"the receiver answers HTTP {catcher.status}")


def _notify_type(message: OutgoingAlert) -> Any:
    from apprise import NotifyType

    if message.alert.action == "resolve":
        return NotifyType.SUCCESS
    return {"info": NotifyType.INFO, "warning": NotifyType.WARNING}.get(message.alert.severity, NotifyType.FAILURE)


def _url_of(parameters: Mapping[str, str], secrets: Mapping[str, Secret]) -> str:
    if "url_secret" in secrets:
        return secrets["url_secret"].reveal().strip()
    return parameters.get("url", "").strip()


def _webhook(message: OutgoingAlert, parameters: Mapping[str, str], secrets: Mapping[str, Secret], asset: Any) -> list[Any]:
    from apprise.plugins.custom_json import NotifyJSON

    try:
        url = urllib.parse.urlsplit(_url_of(parameters, secrets))
        port = url.port
    except ValueError:
        raise SettingsError("url is no http or https address") from None
    if url.scheme not in ("http", "https") or not url.hostname:
        raise SettingsError("url is no http or https address; write url or url_secret")
    headers = {"Idempotency-Key": message.message_id.strip("<>")}
    if "token_secret" in secrets:
        headers["Authorization"] = f"Bearer {secrets['token_secret'].reveal()}"
    password = _quoted(secrets["password_secret"].reveal()) if "password_secret" in secrets else url.password
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return [
        NotifyJSON(
            asset=asset,
            host=host,
            port=port,
            secure=url.scheme == "https",
            # apprise unquotes name and password, as if they came out of a URL; the path goes out as it was written.
            user=_quoted(parameters.get("username")) or url.username,
            password=password,
            fullpath=url.path or "/",
            params=dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True)),
            headers=headers,
            payload={"attachments": "", **message.to_json()},
            verify="no" if parameters.get("verify") == "0" else "yes",
        )
    ]


def _quoted(text: str | None) -> str | None:
    return urllib.parse.quote(text, safe="") if text else None


def _pagerduty(message: OutgoingAlert, parameters: Mapping[str, str], secrets: Mapping[str, Secret], asset: Any) -> list[Any]:
    from apprise.plugins.pagerduty import PAGERDUTY_API_LOOKUP, NotifyPagerDuty

    if "routing_key_secret" not in secrets:
        raise SettingsError("routing_key_secret is missing: the integration key of an Events API v2 integration")
    alert = message.alert
    plugin = NotifyPagerDuty(
        asset=asset,
        # Events v2 authenticates by the routing key in the body; the plugin wants some API key for a header that the service ignores.
        apikey="events-v2",
        integrationkey=secrets["routing_key_secret"].reveal(),
        source=parameters.get("source") or message.cluster or "brainctl",
        component=alert.node or "brainctl",
        group=message.cluster or None,
        class_id=alert.incident or None,
        include_image=False,
        details=dict(_flat_details(message)),
        region_name=parameters.get("region") or "us",
        severity=alert.severity if alert.severity in ("info", "warning", "critical") else "critical",
        action="resolve" if alert.action == "resolve" else "trigger",
        dedup=alert.dedup_key[:255],
    )
    if url := parameters.get("url", ""):
        if not url.startswith(("http://", "https://")):
            raise SettingsError("url is no http or https address")
        # The plugin finds the address of its region in this table: an address of our own is one more region.
        PAGERDUTY_API_LOOKUP[url] = url
        plugin.region_name = url
    return [plugin]


def _flat_details(message: OutgoingAlert) -> Iterator[tuple[str, str]]:
    for key, value in message.to_json().items():
        if isinstance(value, dict):
            yield from ((k, str(v)) for k, v in value.items())
        else:
            yield key, str(value)


def _generic(message: OutgoingAlert, parameters: Mapping[str, str], secrets: Mapping[str, Secret], asset: Any) -> list[Any]:
    import apprise

    url = _url_of(parameters, secrets)
    if not url:
        raise SettingsError("url_secret is missing: an apprise URL")
    services = apprise.Apprise(asset=asset)
    if not services.add(url) or not len(services):
        raise SettingsError("apprise does not know this URL: nobody would be told")
    return list(services)


_BUILDERS = {"webhook": _webhook, "pagerduty": _pagerduty, "apprise": _generic}
