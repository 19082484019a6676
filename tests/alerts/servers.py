"""Real receivers on loopback: an SMTP server and an HTTP server that keep what they accept and can be told to misbehave."""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Callable
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as default_policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def make_certificate(directory: Path) -> tuple[str, str]:
    """A self-signed certificate for 127.0.0.1: paths of certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "cert.pem", directory / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = serialization.PrivateFormat.PKCS8
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption()))
    return str(paths[0]), str(paths[1])


class MailServer:
    """An SMTP server. ``reply`` may return another answer to DATA; ``refuse`` answers RCPT; ``gate`` blocks each."""

    def __init__(self, port: int | None = None, **options: Any) -> None:
        self.port = port or free_port()
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.logins: list[tuple[bytes, bytes]] = []
        self.reply: Callable[[EmailMessage], str] = lambda _m: "250 accepted"
        self.refuse: dict[str, str] = {}
        self.before_accept: Callable[[], None] = lambda: None
        self.after_accept: Callable[[], None] = lambda: None
        self._options = options
        self._controller: Controller | None = None

    async def handle_RCPT(self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]) -> str:
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        self.before_accept()
        mail = cast("EmailMessage", message_from_bytes(cast("bytes", envelope.content), policy=default_policy))
        answer = self.reply(mail)
        if answer.startswith("2"):
            self.mails.append(mail)
            self.recipients.append(list(envelope.rcpt_tos))
        self.after_accept()
        return answer

    def authenticate(self, _server: SMTP, _session: Session, _envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        if mechanism not in ("LOGIN", "PLAIN"):
            return AuthResult(success=False, handled=False)
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password in (b"right", b"right%41"))

    def start(self) -> None:
        options = dict(self._options)
        if options.pop("login", False):
            options |= {"authenticator": self.authenticate, "auth_required": True, "auth_require_tls": True}
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, ready_timeout=30, **options)
        self._controller.start()

    def stop(self) -> None:
        if self._controller is not None:
            self._controller.stop()
        self._controller = None

    def __enter__(self) -> MailServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def ids(self) -> list[str]:
        return [m["Message-ID"] for m in self.mails]


class HttpServer:
    """An HTTP(S) server that keeps each request it accepts as (path, headers, JSON body)."""

    def __init__(self, port: int | None = None, context: ssl.SSLContext | None = None) -> None:
        self.port = port or free_port()
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.status: Callable[[Any], int] = lambda _body: 202
        self.location = ""
        self.before_answer: Callable[[], None] = lambda: None
        self._context = context
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status = outer.status(body)
                if status < 300:
                    outer.requests.append((self.path, dict(self.headers), body))
                outer.before_answer()
                self.send_response(status)
                if outer.location:
                    self.send_header("Location", outer.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_args: object) -> None:
                pass

        Quiet.allow_reuse_address = True
        self._server = Quiet(("127.0.0.1", self.port), Handler)
        if self._context is not None:
            self._server.socket = self._context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._server = None

    def __enter__(self) -> HttpServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def check_pagerduty_event(body: Any) -> None:
    """The rules of https://developer.pagerduty.com/docs/events-api-v2/trigger-events/ (and acknowledge/resolve)."""
    assert isinstance(body, dict)
    known = {"routing_key", "event_action", "dedup_key", "payload", "client", "client_url", "links", "images"}
    assert set(body) <= known
    assert isinstance(body["routing_key"], str) and len(body["routing_key"]) == 32
    assert body["event_action"] in ("trigger", "acknowledge", "resolve")
    if "dedup_key" in body:
        assert isinstance(body["dedup_key"], str) and 0 < len(body["dedup_key"]) <= 255
    if body["event_action"] != "trigger":
        assert "dedup_key" in body
        return
    payload = body["payload"]
    assert set(payload) <= {"summary", "source", "severity", "timestamp", "component", "group", "class", "custom_details"}
    assert isinstance(payload["summary"], str) and 0 < len(payload["summary"]) <= 1024
    assert isinstance(payload["source"], str) and payload["source"]
    assert payload["severity"] in ("critical", "warning", "error", "info")
    for name in ("component", "group", "class"):
        assert isinstance(payload.get(name, ""), str)
    assert isinstance(payload.get("custom_details", {}), dict)
    assert len(json.dumps(body)) < 512 * 1024
