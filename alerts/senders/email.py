"""Mail by smtplib: needs nothing but the standard library, so it works when apprise is missing or broken.

Why not apprise's mail plugin: it makes a new Message-ID for every attempt and does not tell the server's
reply, so that a repeat could not be recognised and a refusal not be told from an outage
(docs/adr/0140-mail-by-smtplib.md).

Parameters: ``to`` (addresses, comma separated), ``from``, ``smtp_host`` (localhost), ``smtp_port``, ``tls``
("none", "starttls" or "tls"; default "starttls" when there is a username, else "none"), ``username``,
``password_secret``, ``ca_file``.
"""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, getaddresses

from alerts.routing.settings import Receiver
from alerts.senders.message import OutgoingAlert, SendResult, clean, scrub
from base.core import NS_PER_S
from base.secrets import Secret, SecretError, resolve_secret

_PORTS = {"none": 25, "starttls": 587, "tls": 465}
_TLS_WORDS = {"": "", "0": "none", "none": "none", "no": "none", "starttls": "starttls", "1": "tls", "tls": "tls", "yes": "tls"}
OPERATION_S = 10.0


class SettingsError(Exception):
    """A parameter of the receiver is wrong."""


@dataclass(frozen=True, slots=True)
class _Smtp:
    host: str
    port: int
    tls: str
    username: str
    password: Secret | None
    context: ssl.SSLContext | None
    sender: str
    recipients: tuple[str, ...]


def send(message: OutgoingAlert, receiver: Receiver, deadline_s: float) -> SendResult:
    """Hand the mail to the SMTP server; ok once the server has accepted it for at least one recipient and none may be tried again."""
    until = time.monotonic() + deadline_s
    try:
        smtp = _settings(dict(receiver.parameters))
    except SettingsError as error:
        return SendResult(False, False, str(error))
    except SecretError as error:
        return SendResult(False, True, str(error))
    try:
        mail = compose(message, smtp.sender, smtp.recipients)
        refused = _transfer(smtp, mail, until)
    except smtplib.SMTPAuthenticationError as error:
        return SendResult(False, True, scrub(f"{smtp.host} refuses the login: {_reply(error.smtp_code, error.smtp_error)}", smtp.password))
    except smtplib.SMTPRecipientsRefused as error:
        codes = [code for code, _ in error.recipients.values()]
        detail = "; ".join(f"{to}: {_reply(*reply)}" for to, reply in error.recipients.items())
        return SendResult(False, any(code < 500 for code in codes), scrub(f"no recipient was accepted: {detail}", smtp.password))
    except smtplib.SMTPResponseException as error:
        detail = f"{smtp.host} answers {_reply(error.smtp_code, error.smtp_error)}"
        # 5xx to DATA or MAIL FROM will be the same next time; anything else (greeting, STARTTLS) may be an outage.
        final = error.smtp_code >= 500 and isinstance(error, smtplib.SMTPDataError | smtplib.SMTPSenderRefused)
        return SendResult(False, not final, scrub(detail, smtp.password))
    except (OSError, smtplib.SMTPException) as error:
        return SendResult(False, True, scrub(f"{smtp.host}:{smtp.port}: {type(error).__name__}: {error}", smtp.password))
    except (ValueError, UnicodeError) as error:
        return SendResult(False, False, scrub(f"the mail cannot be written: {error}", smtp.password))
    if not refused:
        return SendResult(True)
    detail = "; ".join(f"{to}: {_reply(*reply)}" for to, reply in refused.items())
    later = any(code < 500 for code, _ in refused.values())
    # A recipient refused for now is tried again; the others then get a repeat that carries the same Message-ID.
    return SendResult(not later, True, scrub(f"refused for {detail}", smtp.password))


def compose(message: OutgoingAlert, sender: str, recipients: tuple[str, ...]) -> EmailMessage:
    """The mail, with a Message-ID that is the same for a repeat."""
    mail = EmailMessage()
    mail["Subject"] = message.subject
    mail["From"] = sender
    mail["To"] = ", ".join(recipients)
    mail["Date"] = formatdate(message.alert.wall_ns / NS_PER_S, usegmt=True)
    mail["Message-ID"] = message.message_id
    if message.message_id != message.thread_id:
        mail["In-Reply-To"] = message.thread_id
        mail["References"] = message.thread_id
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Priority"] = "1" if message.alert.severity == "critical" and message.alert.action == "trigger" else "3"
    mail["X-Brainctl-Dedup-Key"] = " ".join(clean(message.alert.dedup_key).split())
    mail["X-Brainctl-Action"] = message.alert.action
    mail.set_content(message.body())
    return mail


def _settings(parameters: Mapping[str, str]) -> _Smtp:
    recipients = tuple(address for _, address in getaddresses([parameters.get("to", "")]) if address)
    if not recipients or any("@" not in r and r != "root" for r in recipients):
        raise SettingsError(f"to = {parameters.get('to', '')!r} names no mail address")
    username = parameters.get("username", "")
    tls = _TLS_WORDS.get(parameters.get("tls", "").lower())
    if tls is None:
        raise SettingsError(f'tls = {parameters["tls"]!r}: write "none", "starttls" or "tls"')
    tls = tls or ("starttls" if username else "none")
    port = parameters.get("smtp_port", "") or str(_PORTS[tls])
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise SettingsError(f"smtp_port = {port!r} is no port")
    password = resolve_secret(parameters["password_secret"]) if parameters.get("password_secret") else None
    if username and password is None:
        raise SettingsError("username without password_secret")
    if password is not None and tls == "none":
        raise SettingsError('a password is not sent over a connection that is not encrypted; write tls = "starttls" or "tls"')
    context = None
    if tls != "none":
        try:
            context = ssl.create_default_context(cafile=parameters.get("ca_file") or None)
        except OSError as error:
            raise SettingsError(f"ca_file {parameters.get('ca_file')}: {error.strerror or error}") from None
    sender = parameters.get("from", "") or f"brainctl@{socket.getfqdn()}"
    return _Smtp(parameters.get("smtp_host", "") or "localhost", int(port), tls, username, password, context, sender, recipients)


def _transfer(smtp: _Smtp, mail: EmailMessage, until: float) -> dict[str, tuple[int, bytes]]:
    """Talk to the server; returns the recipients it refused while it accepted others."""

    def left() -> float:
        remaining = until - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the deadline has passed")
        return min(remaining, OPERATION_S)

    client: smtplib.SMTP
    if smtp.tls == "tls":
        client = smtplib.SMTP_SSL(smtp.host, smtp.port, timeout=left(), context=smtp.context)
    else:
        client = smtplib.SMTP(smtp.host, smtp.port, timeout=left())
    try:
        assert client.sock is not None
        if smtp.tls == "starttls":
            client.sock.settimeout(left())
            client.starttls(context=smtp.context)
        if smtp.password is not None:
            client.sock.settimeout(left())
            client.login(smtp.username, smtp.password.reveal())
        client.sock.settimeout(left())
        refused = client.send_message(mail, from_addr=smtp.sender, to_addrs=smtp.recipients)
        # The mail is the server's now: what QUIT comes to does not matter.
        with contextlib.suppress(OSError, smtplib.SMTPException):
            client.sock.settimeout(1.0)
            client.quit()
        return refused
    finally:
        client.close()


def _reply(code: int, text: bytes | str) -> str:
    return f"{code} {text.decode('utf-8', 'replace') if isinstance(text, bytes) else text}"
