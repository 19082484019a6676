"""The senders against real servers: what arrives, what each failure is called, and that no secret gets out."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.routing.events import Alert
from alerts.routing.settings import Receiver
from alerts.senders import dispatch, email
from alerts.senders.message import OutgoingAlert, SendResult
from tests.alerts.servers import HttpServer, MailServer, check_pagerduty_event, free_port, make_certificate

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


# ---- mail -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


def mailer(server: MailServer, **parameters: str) -> Receiver:
    basic = {"to": "oncall@example.com", "from": "brain@example.com", "smtp_host": "127.0.0.1", "smtp_port": str(server.port)}
    return Receiver("mail", "email", tuple({**basic, **parameters}.items()))


def test_mail_says_what_where_and_what_next(mail: MailServer) -> None:
    assert dispatch.send(out(), mailer(mail)) == SendResult(True)
    message = mail.mails[0]
    assert message["Subject"] == "[prod] CRITICAL two nodes own 10.0.0.1"
    assert message["X-Brainctl-Dedup-Key"] == "prod/51/4"
    text = message.get_content()
    assert "brainctl explain prod/51/4" in text and "nein, äöü" in text


def test_repeats_are_recognisable_and_threads_hold_together(mail: MailServer) -> None:
    receiver = mailer(mail)
    for message in (out(), out(), out(occurrence=1), out(RESOLVE)):
        assert dispatch.send(message, receiver).ok
    first, repeat, update, resolve = mail.ids
    assert first == repeat and len({first, update, resolve}) == 3
    assert [m["In-Reply-To"] for m in mail.mails] == [None, None, first, first]
    other_node = OutgoingAlert(Alert(99, "prod/51/4", "x", "warning", "trigger", "seen from b", node="b"), "prod")
    assert other_node.message_id == first, "both nodes' pages of one incident are one"


def test_both_recipients(mail: MailServer) -> None:
    assert dispatch.send(out(), mailer(mail, to="a@example.com, B <b@example.com>")).ok
    assert mail.recipients == [["a@example.com", "b@example.com"]]


@pytest.mark.parametrize(
    ("replies", "ok", "retryable"),
    [
        ({"a@e.com": "550 no such user", "b@e.com": "550 no"}, False, False),
        ({"a@e.com": "450 later", "b@e.com": "550 no"}, False, True),
        ({"a@e.com": "550 no such user"}, True, True),
        ({"a@e.com": "450 grey-listed"}, False, True),
    ],
)
def test_refused_recipients(mail: MailServer, replies: dict[str, str], ok: bool, retryable: bool) -> None:
    mail.refuse = replies
    result = dispatch.send(out(), mailer(mail, to="a@e.com,b@e.com"))
    assert (result.ok, result.retryable) == (ok, retryable)
    assert "a@e.com" in result.detail


@pytest.mark.parametrize(("reply", "retryable"), [("451 disk full", True), ("554 looks like spam", False)])
def test_refused_content(mail: MailServer, reply: str, retryable: bool) -> None:
    mail.reply = lambda _m: reply
    result = dispatch.send(out(), mailer(mail))
    assert (result.ok, result.retryable) == (False, retryable)
    assert reply[:3] in result.detail


def test_server_down() -> None:
    result = dispatch.send(out(), Receiver("m", "email", (("to", "a@e.com"), ("smtp_host", "127.0.0.1"), ("smtp_port", str(free_port())))))
    assert (result.ok, result.retryable) == (False, True)


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_login_over_tls(tmp_path: Path, tls: str) -> None:
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    options = {"tls_context": context, "require_starttls": True} if tls == "starttls" else {"ssl_context": context}
    with MailServer(login=tls == "starttls", **options) as server:
        good = {"username": "brain", "password_secret": secret(tmp_path, "right"), "ca_file": certificate}
        if tls == "tls":
            good = {"ca_file": certificate}
        assert dispatch.send(out(), mailer(server, tls=tls, **good)) == SendResult(True)
        if tls == "starttls":
            assert server.logins == [(b"brain", b"right")]
            bad = dispatch.send(out(), mailer(server, tls=tls, **{**good, "password_secret": secret(tmp_path, "wr0ng-s3cret")}))
            assert (bad.ok, bad.retryable) == (False, True)
            assert "wr0ng-s3cret" not in bad.detail
        distrusted = dispatch.send(out(), mailer(server, tls=tls))
        assert not distrusted.ok and distrusted.retryable
        assert len(server.mails) == 1


def test_starttls_is_never_silently_left_out(mail: MailServer, tmp_path: Path) -> None:
    """A server that does not offer it (or somebody who strips it) does not get the password."""
    result = dispatch.send(out(), mailer(mail, username="brain", password_secret=secret(tmp_path, "right")))
    assert not result.ok and mail.mails == [] and mail.logins == []


@pytest.mark.parametrize(
    "parameters",
    [
        {"to": ""},
        {"to": "nobody"},
        {"tls": "maybe"},
        {"smtp_port": "99999"},
        {"username": "u"},
        {"tls": "none", "password_secret": "SECRET"},
        {"tls": "tls", "ca_file": "/nowhere"},
    ],
)
def test_wrong_settings_are_refused_for_good(mail: MailServer, tmp_path: Path, parameters: dict[str, str]) -> None:
    if parameters.get("password_secret"):
        parameters = {**parameters, "password_secret": secret(tmp_path, "x")}
    result = dispatch.send(out(), mailer(mail, **parameters))
    assert (result.ok, result.retryable) == (False, False) and result.detail


def test_unreadable_secret_can_be_mended_later(mail: MailServer, tmp_path: Path) -> None:
    result = dispatch.send(out(), mailer(mail, username="u", password_secret=f"file:{tmp_path}/missing"))
    assert (result.ok, result.retryable) == (False, True)


@given(st.text(max_size=300), st.text(max_size=100), st.dictionaries(st.text(max_size=10), st.text(max_size=50), max_size=4))
@settings(deadline=None, max_examples=100)
def test_any_text_makes_a_mail(summary: str, key: str, details: dict[str, str]) -> None:
    alert = Alert(1, key, key, "critical", "trigger", summary, tuple(details.items()), "", "a", 10**18)
    message = OutgoingAlert(alert, "c")
    raw = email.compose(message, "a@e.com", ("b@e.com",)).as_bytes()
    head = raw.split(b"\n\n", 1)[0]
    assert head.count(b"\nMessage-ID:") == 1 and b"\nBcc:" not in head
    assert all(len(line) < 998 for line in raw.splitlines())
    import json

    json.dumps(message.to_json()).encode()


def test_deadline_holds_against_a_server_that_drips() -> None:
    """One byte every 0.2 s: no single operation times out, the whole attempt does."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def drip() -> None:
        connection, _ = listener.accept()
        with connection:
            while not stop.wait(0.2):
                try:
                    connection.sendall(b"2")
                except OSError:
                    return

    thread = threading.Thread(target=drip)
    thread.start()
    results: list[SendResult] = []
    done = threading.Event()
    receiver = Receiver("m", "email", (("to", "a@e.com"), ("smtp_host", "127.0.0.1"), ("smtp_port", str(listener.getsockname()[1]))))
    began = time.monotonic()
    dispatch.start(out(), receiver, lambda r: (results.append(r), done.set())[0], deadline_s=1.0)
    assert done.wait(20)
    assert time.monotonic() - began < 10
    assert (results[0].ok, results[0].retryable) == (False, True)
    stop.set()
    thread.join(20)
    listener.close()
    time.sleep(0.1)
    assert len(results) == 1


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
