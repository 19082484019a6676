"""Mail on changes of state: keepalived's subjects, in order, through a relay that may be away, slow, or want TLS and a login."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import smtplib
import ssl
import subprocess
import threading
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from base.log import Log
from tests.lab import Lab, Node
from tests.vrrp.outside.outside_lab import INSTANCES
from vrrp.config.model.daemon import MailSettings
from vrrp.outside.mail import Mail, MailConfigError, MailQueue, Relay, Security, compose, deliver, relay_of

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")
PORT = 12525


class Mailbox:
    """An SMTP server in a thread; ``socket`` may lie in another namespace."""

    def __init__(self, **settings: object) -> None:
        self.mails: list[tuple[str, list[str], bytes]] = []
        self.helos: list[str] = []
        self.answers: list[str] = []
        self.settings = settings
        self.port = 0

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.answers:
            answer = self.answers.pop(0)
            if not answer.startswith("250"):
                return answer
        self.mails.append((str(envelope.mail_from), list(envelope.rcpt_tos), bytes(envelope.content or b"")))
        self.helos.append(str(session.host_name))
        return "250 OK"

    def subjects(self) -> list[str]:
        return [str(message_from_bytes(content)["Subject"]) for _from, _to, content in self.mails]

    @contextlib.contextmanager
    def listening(self, node: Node | None = None, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[None]:
        import socket

        sock = socket.socket() if node is None else node.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        self.port = sock.getsockname()[1]
        loop = asyncio.new_event_loop()

        async def serve() -> asyncio.Server:
            return await loop.create_server(lambda: SMTP(self, hostname="relay", loop=loop, **self.settings), sock=sock, ssl=tls)

        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        server = asyncio.run_coroutine_threadsafe(serve(), loop).result(10)
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(finish(server), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()


async def finish(server: asyncio.Server) -> None:
    """Close the listener and every connection."""
    server.close()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def configuration(extra: str = "") -> str:
    return f"""
global_defs {{
 router_id orc
 notification_email {{ ops@example.net
 second@example.net }}
 notification_email_from ka@example.org
 smtp_server 127.0.0.1 {PORT}
 smtp_helo_name helo.example.org
 smtp_alert on
 {extra}
}}
{INSTANCES}"""


@root
@pytest.mark.system
@pytest.mark.parametrize("extra", ["", "no_email_faults"])
@pytest.mark.shows(
    "global_defs/notification_email",
    "global_defs/notification_email_from",
    "global_defs/smtp_server",
    "global_defs/smtp_helo_name",
    "global_defs/smtp_alert",
    "global_defs/no_email_faults",
    "global_defs/router_id",
)
def test_the_same_mails_as_keepalived_for_the_same_changes(extra: str) -> None:
    boxes = []
    with Lab("a", "b") as lab:
        for node, start in (("b", lab.keepalived), ("a", lab.vrrpd)):
            box = Mailbox()
            with box.listening(lab.nodes[node], PORT):
                daemon = start(node, configuration(extra))
                lab.until(lambda box=box: len(box.mails) >= 6, 30, what="mails of BACKUP and MASTER")
                lab.cut(node)
                if not extra:
                    lab.until(lambda box=box: len(box.mails) >= 9, 30, what="mails of FAULT")
                else:
                    lab.until(lambda node=node: not lab.nodes[node].holds("10.77.0.100"))
                lab.heal(node)
                lab.until(
                    lambda box=box: len([s for s in box.subjects() if "BACKUP" in s]) >= (0 if extra else 3), 30, what="mails of BACKUP"
                )
                lab.until(lambda node=node: lab.nodes[node].holds("10.77.0.100") and lab.nodes[node].holds("10.77.0.110"), 30)
                lab.until(lambda box=box: len(box.mails) >= (12 if extra else 15), 30, what="mails of the end")
                assert daemon.stop() == 0
            boxes.append(box)
    theirs, ours = boxes
    assert per_subject(ours) == per_subject(theirs)
    assert {(sender, tuple(to)) for sender, to, _ in ours.mails} == {(sender, tuple(to)) for sender, to, _ in theirs.mails}
    assert set(ours.helos) == {"helo.example.org"}
    for _sender, _to, content in ours.mails:
        message = message_from_bytes(content)
        text = message.get_payload(decode=True).decode()
        assert any(line.startswith("=> ") for line in text.splitlines())
    assert first_lines(ours) == first_lines(theirs)


def per_subject(box: Mailbox) -> dict[str, list[str]]:
    """The order of each object's own mails; between the objects the daemons differ by milliseconds."""
    found: dict[str, list[str]] = {}
    for subject in box.subjects():
        found.setdefault(re.sub(r" - .*", "", subject), []).append(subject)
    return found


def first_lines(box: Mailbox) -> set[tuple[str, str]]:
    found = set()
    for (_, _, content), subject in zip(box.mails, box.subjects(), strict=True):
        found.add((subject, re.findall(r"^=> .*<=", content.decode(), re.MULTILINE)[0]))
    return found


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    home = tmp_path_factory.mktemp("tls")
    key, cert = home / "key.pem", home / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return key, cert


def server_context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[1], certificate[0])
    return context


def relay(box: Mailbox, certificate: tuple[Path, Path], security: str, password: str = "right") -> Relay:
    environment = {
        "VRRPD_SMTP_SECURITY": security,
        "VRRPD_SMTP_CA_FILE": str(certificate[1]),
        "VRRPD_SMTP_USER": "pager",
        "VRRPD_SMTP_PASSWORD": "env:TEST_OUTSIDE_PASSWORD",
    }
    os.environ["TEST_OUTSIDE_PASSWORD"] = password
    try:
        return relay_of(MailSettings(("ops@example.net",), "ka@example.org", "localhost", box.port), environment)
    finally:
        del os.environ["TEST_OUTSIDE_PASSWORD"]


def authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: object) -> AuthResult:
    return AuthResult(success=data == LoginPassword(b"pager", b"right"), handled=False)


MESSAGE = compose(Mail("[orc] subject", "text"), "ka@example.org", ("ops@example.net",), "host")


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_tls_and_login(certificate: tuple[Path, Path], security: str) -> None:
    context = server_context(certificate)
    tls = {"tls_context": context, "require_starttls": True} if security == "starttls" else {"auth_require_tls": False}
    box = Mailbox(authenticator=authenticate, auth_required=True, **tls)
    with box.listening(tls=context if security == "tls" else None):
        deliver(relay(box, certificate, security), MESSAGE)
        assert box.subjects() == ["[orc] subject"]
        with pytest.raises(smtplib.SMTPAuthenticationError):
            deliver(relay(box, certificate, security, "wrong"), MESSAGE)
        untrusted = Relay("localhost", box.port, timeout_s=10, security=Security(security))
        with pytest.raises(ssl.SSLCertVerificationError):
            deliver(untrusted, MESSAGE)
    assert len(box.mails) == 1


def test_a_login_without_tls_and_a_missing_password_are_refused(tmp_path: Path) -> None:
    settings = MailSettings(server="relay")
    with pytest.raises(MailConfigError, match="starttls"):
        relay_of(settings, {"VRRPD_SMTP_USER": "pager"})
    with pytest.raises(MailConfigError, match="VRRPD_SMTP_PASSWORD"):
        relay_of(settings, {"VRRPD_SMTP_USER": "pager", "VRRPD_SMTP_SECURITY": "tls", "VRRPD_SMTP_PASSWORD": f"file:{tmp_path}/none"})
    with pytest.raises(MailConfigError, match="VRRPD_SMTP_SECURITY"):
        relay_of(settings, {"VRRPD_SMTP_SECURITY": "ssl"})


def test_the_queue_keeps_order_over_refusals_and_absences() -> None:
    """First nobody listens, then the relay is busy, then it refuses one mail for good: the others come, in order."""
    box = Mailbox()
    box.answers = ["451 busy", "250", "554 never", "250", "250"]
    with box.listening():
        port = box.port  # now it is ours to listen on again

    async def scenario() -> MailQueue:
        queue = MailQueue(Log("test", -1))
        queue.configure(Relay("127.0.0.1", port, timeout_s=5))
        task = asyncio.create_task(queue.run())
        for number in range(4):
            queue.put(compose(Mail(f"mail {number}", "x"), "a@example.org", ("b@example.org",), "h"))
        await asyncio.sleep(0.3)
        assert len(queue) == 4
        with box.listening(port=port):
            async with asyncio.timeout(20):
                while len(queue):
                    await asyncio.sleep(0.02)
        task.cancel()
        return queue

    queue = asyncio.run(scenario())
    assert box.subjects() == ["mail 0", "mail 2", "mail 3"]
    assert (queue.sent, queue.lost) == (3, 1)


def test_a_relay_that_never_answers_blocks_nothing() -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(4)

        async def scenario() -> None:
            queue = MailQueue(Log("test", -1))
            queue.configure(Relay("127.0.0.1", silent.getsockname()[1], timeout_s=1))
            task = asyncio.create_task(queue.run())
            queue.put(MESSAGE)
            loop = asyncio.get_running_loop()
            begin = loop.time()
            for _ in range(20):
                await asyncio.sleep(0.01)
            assert loop.time() - begin < 1
            task.cancel()

        asyncio.run(scenario())
