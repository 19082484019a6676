"""Mail against a real SMTP server, by apprise and by smtplib: what arrives, what a failure is called, and that a repeat is recognisable."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as default_policy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.routing.events import Alert
from alerts.routing.settings import Receiver
from alerts.senders import dispatch, email_by_apprise, email_by_smtplib
from alerts.senders.mail_settings import mail_settings
from alerts.senders.message import OutgoingAlert, SendResult
from tests.alerts.servers import MailServer, free_port, make_certificate
from tests.alerts.test_senders import RESOLVE, out, secret

ROOT = Path(__file__).resolve().parents[2]


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


def test_two_recipients_get_one_mail(mail: MailServer) -> None:
    assert dispatch.send(out(), mailer(mail, to="a@example.com, B <b@example.com>")).ok
    assert mail.recipients == [["a@example.com", "b@example.com"]]
    # apprise writes the second one into Cc: the sign that the mail went by apprise.
    assert (mail.mails[0]["To"], mail.mails[0]["Cc"]) == ("a@example.com", "b@example.com")


def test_a_retry_after_a_4xx_carries_the_same_id(mail: MailServer) -> None:
    tried: list[str] = []

    def later(message: EmailMessage) -> str:
        tried.append(message["Message-ID"])
        return "250 accepted" if len(tried) == 3 else "451 try again"

    mail.reply = later
    results = [dispatch.send(out(), mailer(mail)) for _ in range(3)]
    assert [(r.ok, r.retryable) for r in results[:2]] == [(False, True)] * 2 and results[2].ok
    assert len(set(tried)) == 1 and mail.ids == [out().message_id]


def test_a_retry_after_a_lost_connection_carries_the_same_id(mail: MailServer) -> None:
    """The server takes the mail and the connection breaks before its answer is heard: the worst case."""
    listener = socket.create_server(("127.0.0.1", 0))
    ids: list[str] = []

    def take_and_break() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rwb") as stream:
            stream.write(b"220 breaks\r\n")
            stream.flush()
            for line in stream:
                if line.upper().startswith(b"DATA"):
                    stream.write(b"354 go on\r\n")
                    stream.flush()
                    text = b"".join(iter(stream.readline, b".\r\n"))
                    ids.append(message_from_bytes(text)["Message-ID"])
                    return
                stream.write(b"250 OK\r\n")
                stream.flush()

    thread = threading.Thread(target=take_and_break)
    thread.start()
    broken = mailer(mail, smtp_port=str(listener.getsockname()[1]))
    result = dispatch.send(out(), broken)
    thread.join(20)
    listener.close()
    assert (result.ok, result.retryable) == (False, True)
    assert dispatch.send(out(), mailer(mail)).ok
    assert ids == mail.ids == [out().message_id]


def test_the_ids_and_the_date_stand_once_and_are_the_alerts(mail: MailServer) -> None:
    assert dispatch.send(out(RESOLVE), mailer(mail)).ok
    for name in ("Message-ID", "Date", "In-Reply-To", "References", "Subject", "From", "To"):
        assert len(mail.mails[0].get_all(name, [])) == 1, name
    assert mail.mails[0]["Date"].startswith("Sun, 09 Sep 2001 01:46:40"), "of the alert, not of the attempt"


def test_utf_8_in_subject_and_body(mail: MailServer) -> None:
    alert = Alert(1, "schlüssel/雪", "i", "warning", "trigger", "zwei Knoten — ✂ 二", (("größe", "äöü 雪"),), "", "a", 10**18)
    assert dispatch.send(OutgoingAlert(alert, "prod"), mailer(mail, **{"from": "Wächter <brain@example.com>"})).ok
    message = mail.mails[0]
    assert message["Subject"] == "[prod] WARNING zwei Knoten — ✂ 二"
    assert message["X-Brainctl-Dedup-Key"] == "schlüssel/雪"
    assert message["From"].addresses[0].addr_spec == "brain@example.com"
    assert "größe" in message.get_content() and "äöü 雪" in message.get_content()


def test_an_address_that_apprise_does_not_take_is_served_all_the_same(mail: MailServer) -> None:
    """root of this host: smtplib alone carries it."""
    assert dispatch.send(out(), mailer(mail, to="root")).ok
    assert mail.recipients == [["root"]] and mail.ids == [out().message_id]


@pytest.mark.parametrize("broken", ["raise ImportError('not installed')", "raise RuntimeError('half an upgrade')", "nothing = True"])
def test_without_apprise_mail_goes_out_by_smtplib(mail: MailServer, tmp_path: Path, broken: str) -> None:
    (tmp_path / "apprise.py").write_text(broken + "\n")
    program = (
        "import sys; from alerts.senders import dispatch; from alerts.routing.settings import Receiver\n"
        "from tests.alerts.test_senders import out\n"
        "parameters = (('to', 'a@e.com, b@e.com'), ('from', 'c@e.com'), ('smtp_host', '127.0.0.1'), ('smtp_port', sys.argv[1]))\n"
        "print(dispatch.send(out(), Receiver('m', 'email', parameters)))"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-c", program, str(mail.port)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert "ok=True" in done.stdout, done.stderr
    assert mail.ids == [out().message_id] and mail.recipients == [["a@e.com", "b@e.com"]]
    assert mail.mails[0]["To"] == "a@e.com, b@e.com" and mail.mails[0]["Cc"] is None


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


@pytest.mark.parametrize("trust", ["ca_file", "system"])
@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_login_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: str, trust: str) -> None:
    """``ca_file`` takes the way by smtplib; a certificate that the system trusts takes the way by apprise."""
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    options = {"tls_context": context, "require_starttls": True} if tls == "starttls" else {"ssl_context": context}
    with MailServer(login=True, **options) as server:
        # The server's library offers AUTH after STARTTLS only, so that a login cannot be shown with "tls".
        login = {"username": "brain", "password_secret": secret(tmp_path, "right%41")} if tls == "starttls" else {}
        if tls == "tls":
            server.stop()
            server = MailServer(server.port, **options)
            server.start()
        distrusted = dispatch.send(out(), mailer(server, tls=tls, **login))
        assert not distrusted.ok and distrusted.retryable and "certificate" in distrusted.detail.lower()
        assert server.mails == [] and server.logins == [], "neither mail nor password for a server that cannot prove its name"
        if trust == "system":
            monkeypatch.setenv("SSL_CERT_FILE", certificate)
        else:
            login = {**login, "ca_file": certificate}
        two = {"to": "a@e.com, b@e.com"}
        assert dispatch.send(out(), mailer(server, tls=tls, **two, **login)) == SendResult(True)
        assert (server.mails[0]["Cc"] is not None) == (trust == "system"), "by apprise, if it can"
        if tls == "starttls":
            assert server.logins == [(b"brain", b"right%41")]
            bad = dispatch.send(out(), mailer(server, tls=tls, **{**login, "password_secret": secret(tmp_path, "wr0ng-s3cret")}))
            assert (bad.ok, bad.retryable) == (False, True)
            assert "wr0ng-s3cret" not in bad.detail
        assert len(server.mails) == 1
        server.stop()


def test_a_certificate_for_another_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with MailServer(ssl_context=context) as server:
        assert dispatch.send(out(), mailer(server, tls="tls")).ok
        other = dispatch.send(out(), mailer(server, tls="tls", smtp_host="localhost"))
        assert (other.ok, other.retryable) == (False, True) and len(server.mails) == 1


def test_the_password_is_in_no_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    password = secret(tmp_path, "pa55word")
    result = dispatch.send(
        out(),
        Receiver(
            "m",
            "email",
            (
                ("to", "a@e.com"),
                ("smtp_host", "127.0.0.1"),
                ("smtp_port", str(free_port())),
                ("tls", "starttls"),
                ("username", "u"),
                ("password_secret", password),
            ),
        ),
    )
    assert not result.ok and "pa55word" not in repr(result)
    captured = capfd.readouterr()
    assert "pa55word" not in captured.out + captured.err


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
    smtp = mail_settings({"from": "a@e.com", "to": "b@e.com"})
    by_smtplib = email_by_smtplib.compose(message, smtp.sender, smtp.recipients).as_bytes()
    by_apprise = b"".join(
        mail.encode("ascii") for _, mail in email_by_apprise.RepeatableEmail(message, smtp, 1.0).compose(message.body(), message.subject)
    )
    for raw in (by_smtplib, by_apprise):
        head = raw.split(b"\n\n", 1)[0]
        assert head.count(b"\nMessage-ID:") == 1 and b"\nBcc:" not in head
        assert all(len(line) < 998 for line in raw.splitlines())
        read = message_from_bytes(raw, policy=default_policy)
        assert read["Message-ID"] == message.message_id
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
