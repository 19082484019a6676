"""The senders against real servers: what arrives, what each failure is called, and that no secret gets out."""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from alerts.routing.events import Alert
from alerts.routing.settings import Receiver
from alerts.senders import dispatch
from alerts.senders.message import OutgoingAlert, SendResult
from tests.alerts.servers import HttpServer, check_pagerduty_event, free_port, make_certificate

ROUTING_KEY = "0123456789abcdef0123456789abcdef"
TRIGGER = Alert(
    7, "prod/51/4", "prod/51/4", "critical", "trigger", "two nodes own 10.0.0.1", (("owner", "a"), ("fence", "nein, äöü")), "", "a", 10**18
)
RESOLVE = Alert(8, "prod/51/4", "prod/51/4", "info", "resolve", "one owner again", (), "", "a", 10**18)


def out(alert: Alert = TRIGGER, occurrence: int = 0) -> OutgoingAlert:
    return OutgoingAlert(alert, "prod", occurrence)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def secret(tmp_path: Path, value: str, name: str = "secret") -> str:
    path = tmp_path / name
    path.write_text(value + "\n")
    path.chmod(0o600)
    return f"file:{path}"


# ---- HTTP -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def http() -> Iterator[HttpServer]:
    with HttpServer() as server:
        yield server


def pager(server: HttpServer, tmp_path: Path) -> Receiver:
    parameters = {"routing_key_secret": secret(tmp_path, ROUTING_KEY), "url": f"http://127.0.0.1:{server.port}/v2/enqueue"}
    return Receiver("pager", "pagerduty", tuple(parameters.items()))


def test_pagerduty_trigger_and_resolve(http: HttpServer, tmp_path: Path) -> None:
    for alert in (TRIGGER, RESOLVE):
        assert dispatch.send(out(alert), pager(http, tmp_path)) == SendResult(True)
    trigger, resolve = (body for _, _, body in http.requests)
    for body in (trigger, resolve):
        check_pagerduty_event(body)
        assert body["dedup_key"] == "prod/51/4" and body["routing_key"] == ROUTING_KEY
    assert [b["event_action"] for b in (trigger, resolve)] == ["trigger", "resolve"]
    assert trigger["payload"]["severity"] == "critical"
    assert trigger["payload"]["summary"] == "two nodes own 10.0.0.1"
    assert trigger["payload"]["custom_details"]["incident"] == "prod/51/4"
    assert trigger["payload"]["custom_details"]["owner"] == "a"
    assert [path for path, _, _ in http.requests] == ["/v2/enqueue"] * 2


@pytest.mark.parametrize("severity", ["info", "warning", "critical"])
def test_pagerduty_severities_and_long_text(http: HttpServer, tmp_path: Path, severity: str) -> None:
    alert = Alert(1, "k" * 400, "i", severity, "trigger", "long " * 1_000, (("d", "x" * 5_000),), "", "", 0)
    assert dispatch.send(out(alert), pager(http, tmp_path)).ok
    assert len(http.requests) == 1, "one alert is one event, however long"
    check_pagerduty_event(http.requests[0][2])
    assert http.requests[0][2]["payload"]["severity"] == severity


def test_webhook(http: HttpServer, tmp_path: Path) -> None:
    url = secret(tmp_path, f"http://127.0.0.1:{http.port}/hook/T0KEN?x=1&y=a%20b")
    parameters = (("url_secret", url), ("token_secret", secret(tmp_path, "bearer-value", "token")))
    assert dispatch.send(out(), Receiver("hook", "webhook", parameters)) == SendResult(True)
    path, headers, body = http.requests[0]
    assert path == "/hook/T0KEN?x=1&y=a+b"
    assert headers["Authorization"] == "Bearer bearer-value"
    assert headers["Idempotency-Key"] == out().message_id.strip("<>")
    assert (body["dedup_key"], body["action"], body["severity"], body["cluster"]) == ("prod/51/4", "trigger", "critical", "prod")
    assert body["details"] == {"owner": "a", "fence": "nein, äöü"}
    assert body["title"] == "[prod] CRITICAL two nodes own 10.0.0.1"


def test_webhook_password_and_path_go_out_as_they_were_written(http: HttpServer, tmp_path: Path) -> None:
    """apprise unquotes what it is given."""
    parameters = (
        ("url", f"http://127.0.0.1:{http.port}/a%2Fb"),
        ("username", "us%41er"),
        ("password_secret", secret(tmp_path, "100%41")),
    )
    assert dispatch.send(out(), Receiver("hook", "webhook", parameters)).ok
    path, headers, _ = http.requests[0]
    assert path == "/a%2Fb"
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"us%41er:100%41"


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_webhook_over_https_checks_the_certificate(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with HttpServer(context=context) as server:
        url = ("url", f"https://127.0.0.1:{server.port}/")
        assert not dispatch.send(out(), Receiver("hook", "webhook", (url,))).ok
        assert server.requests == []
        assert dispatch.send(out(), Receiver("hook", "webhook", (url, ("verify", "0")))).ok


def test_generic_apprise_url(http: HttpServer, tmp_path: Path) -> None:
    url = secret(tmp_path, f"json://127.0.0.1:{http.port}/generic")
    assert dispatch.send(out(), Receiver("any", "apprise", (("url_secret", url),))) == SendResult(True)
    assert http.requests[0][0].startswith("/generic")


@pytest.mark.parametrize("kind", ["webhook", "pagerduty", "apprise"])
@pytest.mark.parametrize(("status", "retryable"), [(500, True), (503, True), (429, True), (400, False), (404, False), (302, True)])
def test_http_failures(http: HttpServer, tmp_path: Path, kind: str, status: int, retryable: bool) -> None:
    http.status = lambda _b: status
    with HttpServer() as elsewhere:
        http.location = f"http://127.0.0.1:{elsewhere.port}/stolen"
        scheme = "json" if kind == "apprise" else "http"
        parameters = (("url", f"{scheme}://127.0.0.1:{http.port}/s3cret-path"), ("routing_key_secret", secret(tmp_path, ROUTING_KEY)))
        result = dispatch.send(out(), Receiver("r", kind, parameters))
        assert (result.ok, result.retryable) == (False, retryable)
        assert str(status) in result.detail
        assert "s3cret" not in result.detail and ROUTING_KEY not in result.detail
        assert elsewhere.requests == [], "a redirect is not followed"


@pytest.mark.parametrize("kind", ["webhook", "pagerduty", "apprise"])
def test_no_connection(tmp_path: Path, kind: str) -> None:
    port = free_port()
    scheme = "json" if kind == "apprise" else "http"
    parameters = (("url", f"{scheme}://127.0.0.1:{port}/s3cret-path"), ("routing_key_secret", secret(tmp_path, ROUTING_KEY)))
    result = dispatch.send(out(), Receiver("r", kind, parameters))
    assert (result.ok, result.retryable) == (False, True)
    assert "s3cret" not in result.detail


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("webhook", {}),
        ("webhook", {"url": "ftp://s3cret/"}),
        ("webhook", {"url": "http://[s3cret"}),
        ("pagerduty", {}),
        ("pagerduty", {"routing_key_secret": "KEY", "url": "s3cret"}),
        ("pagerduty", {"routing_key_secret": "KEY", "region": "moon"}),
        ("apprise", {}),
        ("apprise", {"url": "s3cret"}),
        ("apprise", {"url": "nosuchservice://s3cret"}),
        ("carrier-pigeon", {}),
    ],
)
def test_wrong_http_settings(tmp_path: Path, kind: str, parameters: dict[str, str]) -> None:
    if "routing_key_secret" in parameters:
        parameters["routing_key_secret"] = secret(tmp_path, ROUTING_KEY)
    result = dispatch.send(out(), Receiver("r", kind, tuple(parameters.items())))
    assert (result.ok, result.retryable) == (False, False)
    assert result.detail and "s3cret" not in result.detail and ROUTING_KEY not in result.detail


def test_several_in_a_row_are_not_throttled(http: HttpServer, tmp_path: Path) -> None:
    """apprise waits 5.5 s between two PagerDuty events by default."""
    receiver = pager(http, tmp_path)
    dispatch.send(out(), receiver)
    began = time.monotonic()
    for occurrence in range(4):
        assert dispatch.send(out(occurrence=occurrence), receiver).ok
    assert time.monotonic() - began < 5


def test_secrets_stay_out_of_every_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    url = secret(tmp_path, f"http://user:pa55word@127.0.0.1:{port}/t0ken-in-path")
    for kind in ("webhook", "apprise", "pagerduty"):
        parameters = (
            ("url_secret", url),
            ("routing_key_secret", secret(tmp_path, ROUTING_KEY, "key")),
            ("url", f"http://127.0.0.1:{port}"),
        )
        result = dispatch.send(out(), Receiver("r", kind, parameters))
        assert not result.ok
        for word in ("pa55word", "t0ken", ROUTING_KEY):
            assert word not in repr(result)
    captured = capfd.readouterr()
    for word in ("pa55word", "t0ken", ROUTING_KEY):
        assert word not in captured.out + captured.err
