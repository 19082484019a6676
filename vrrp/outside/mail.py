"""Mail on changes of state: keepalived's subjects and occasions, over SMTP with TLS and login where asked for.

What keepalived.conf has no words for comes from the environment of vrrpd (in a unit: ``Environment=`` and ``LoadCredential=``):

    VRRPD_SMTP_SECURITY   none (default), starttls or tls
    VRRPD_SMTP_CA_FILE    certificates to trust; default: the system's
    VRRPD_SMTP_USER       login name; without it there is no login
    VRRPD_SMTP_PASSWORD   where the password is: file:/path, env:NAME or credential:NAME

A login without TLS is refused: it would show the password to the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import ssl
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from enum import Enum

from base.core import NS_PER_S
from base.log import Log
from base.secrets import Secret, SecretError, resolve_secret
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.daemon import MailSettings
from vrrp.outside.events import Kind, StateChanged

MAX_QUEUED = 1000
RETRY_S = (1, 2, 5, 10, 30, 60)
GIVE_UP_S = 3600.0


class Security(Enum):
    """How the connection is protected."""

    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"


@dataclass(frozen=True, slots=True)
class Relay:
    """Where mail is handed over."""

    host: str
    port: int
    helo_name: str = ""
    timeout_s: float = 30.0
    security: Security = Security.NONE
    ca_file: str = ""
    user: str = ""
    password: Secret | None = None


class MailConfigError(Exception):
    """The settings cannot work; the message says what to change."""


def relay_of(mail: MailSettings, environment: Mapping[str, str]) -> Relay:
    """The relay of keepalived.conf with what the environment adds; raises MailConfigError."""
    word = environment.get("VRRPD_SMTP_SECURITY", "none").strip().lower()
    try:
        security = Security(word)
    except ValueError:
        raise MailConfigError(f"VRRPD_SMTP_SECURITY={word}: write none, starttls or tls") from None
    user = environment.get("VRRPD_SMTP_USER", "")
    password = None
    if user:
        if security is Security.NONE:
            raise MailConfigError("VRRPD_SMTP_USER without TLS would show the password to the network: set VRRPD_SMTP_SECURITY=starttls")
        try:
            password = resolve_secret(environment.get("VRRPD_SMTP_PASSWORD", "credential:smtp_password"))
        except SecretError as error:
            raise MailConfigError(f"VRRPD_SMTP_PASSWORD: {error}") from None
    return Relay(
        mail.server,
        mail.port,
        mail.helo_name,
        mail.connect_timeout_ns / NS_PER_S,
        security,
        environment.get("VRRPD_SMTP_CA_FILE", ""),
        user,
        password,
    )


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail, before it is addressed."""

    subject: str
    body: str


_OWNING = {"MASTER": "=> VRRP Instance is now owning VRRP VIPs <="}
_NOT_OWNING = "=> VRRP Instance is no longer owning VRRP VIPs <="
MAILED_STATES = ("MASTER", "BACKUP", "FAULT")


class MailRules:
    """Which changes are worth a mail, as keepalived decides it. Pure.

    Only instances and groups with smtp_alert, each state once in a row (the first one, BACKUP, too); no FAULT with
    no_email_faults; nothing when stopping.
    """

    def __init__(self) -> None:
        self._mailed: dict[tuple[Kind, str], str] = {}

    def mail_of(self, change: StateChanged, config: VrrpConfig, router_id: str) -> Mail | None:
        """The mail for this change, or None."""
        key = (change.kind, change.name)
        if change.state not in MAILED_STATES or not _wanted(change, config):
            return None
        if change.state == "FAULT" and config.global_defs.mail.no_faults:
            return None
        if self._mailed.get(key) == change.state:
            return None
        self._mailed[key] = change.state
        if change.kind is Kind.GROUP:
            what, text = "Group", f"=> All VRRP group instances are now in {change.state} state <="
        else:
            what, text = "Instance", _OWNING.get(change.state, _NOT_OWNING)
        why = f"Reason: {change.reason}\n" if change.reason else ""
        return Mail(f"[{router_id}] VRRP {what} {change.name} - Entering {change.state} state", f"{text}\n\n{why}")


def _wanted(change: StateChanged, config: VrrpConfig) -> bool:
    if change.kind is Kind.GROUP:
        return any(group.name == change.name and group.smtp_alert for group in config.sync_groups)
    instance = config.instance(change.name)
    return instance is not None and instance.smtp_alert


def mailbox(text: str) -> Address:
    """``ADDRESS`` or ``NAME <ADDRESS>`` as people write it: a comma or a bracket in the name ends no address, as it would in a header.

    An address that is no address stays as it is: the relay will say so.
    """
    name, address = "", text.strip()
    if address.endswith(">") and "<" in address:
        name, address = (part.strip() for part in address[:-1].rsplit("<", 1))
    user, _, domain = address.rpartition("@") if "@" in address else (address, "", "")
    return Address(name.strip('"'), username=user, domain=domain)


def compose(mail: Mail, sender: str, recipients: tuple[str, ...], host: str) -> EmailMessage:
    """The message as it is sent; the date is that of now."""
    message = EmailMessage()
    message["Date"] = formatdate(localtime=True)
    message["From"] = mailbox(sender)
    message["Subject"] = mail.subject
    message["X-Mailer"] = "vrrpd"
    message["Message-ID"] = make_msgid(domain=host or "localhost")
    message["Auto-Submitted"] = "auto-generated"
    message["To"] = [mailbox(recipient) for recipient in recipients]
    message.set_content(mail.body)
    return message


def deliver(relay: Relay, message: EmailMessage) -> None:
    """Hand one message over; blocks, at most ``timeout_s`` for each step. Raises OSError or smtplib.SMTPException."""
    context = ssl.create_default_context(cafile=relay.ca_file or None) if relay.security is not Security.NONE else None
    local = relay.helo_name or None
    client: smtplib.SMTP
    if relay.security is Security.TLS:
        client = smtplib.SMTP_SSL(relay.host, relay.port, local, timeout=relay.timeout_s, context=context)
    else:
        client = smtplib.SMTP(relay.host, relay.port, local, timeout=relay.timeout_s)
    try:
        if relay.security is Security.STARTTLS:
            client.starttls(context=context)
        if relay.user and relay.password is not None:
            client.login(relay.user, relay.password.reveal())
        refused = client.send_message(message)
        for recipient, (code, text) in refused.items():
            raise smtplib.SMTPRecipientsRefused({recipient: (code, text)})
    finally:
        with contextlib.suppress(OSError, smtplib.SMTPException):
            client.quit()
        client.close()


def is_permanent(error: Exception) -> bool:
    """Would the same message be refused again? 5xx for it or for every recipient; not for a login, which may be repaired."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _text in error.recipients.values())
    if isinstance(error, smtplib.SMTPAuthenticationError | smtplib.SMTPConnectError | smtplib.SMTPHeloError):
        return False
    return isinstance(error, smtplib.SMTPResponseException) and error.smtp_code >= 500


class MailQueue:
    """Mails leave one after the other in their order; the first one is tried until it is taken, refused for good or an hour old.

    A slow relay blocks a thread, never this process. What is given up is counted and logged.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._relay: Relay | None = None
        self._queue: deque[tuple[float, EmailMessage]] = deque()
        self._more = asyncio.Event()
        self.lost = 0
        self.sent = 0

    def __len__(self) -> int:
        return len(self._queue)

    def configure(self, relay: Relay | None) -> None:
        """From now on; None = no mail."""
        self._relay = relay
        self._more.set()

    def put(self, message: EmailMessage) -> None:
        """Add one at the end; beyond MAX_QUEUED the new one is given up: the first news of a trouble matter most."""
        if self._relay is None:
            return
        if len(self._queue) >= MAX_QUEUED:
            self._lose(message, f"{MAX_QUEUED} mails are waiting")
            return
        self._queue.append((time.monotonic(), message))
        self._more.set()

    def _lose(self, message: EmailMessage, why: str) -> None:
        self.lost += 1
        self._log.error(f"mail {str(message['Subject'])!r} is given up: {why}")

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            if not self._queue or self._relay is None:
                self._more.clear()
                await self._more.wait()
                continue
            queued_s, message = self._queue[0]
            error = await self._try(self._relay, message)
            if error is None:
                self.sent += 1
                failures = 0
                self._queue.popleft()
                continue
            if is_permanent(error) or time.monotonic() - queued_s > GIVE_UP_S:
                self._queue.popleft()
                self._lose(message, str(error))
                continue
            delay_s = RETRY_S[min(failures, len(RETRY_S) - 1)]
            failures += 1
            relay = f"{self._relay.host}:{self._relay.port}"
            self._log.limited("smtp", f"mail relay {relay}: {error}; tried again in {delay_s} s, {len(self._queue)} waiting")
            self._more.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._configured_anew(self._relay), delay_s)

    async def _configured_anew(self, before: Relay) -> None:
        """A reload ends the wait before the next try; another mail does not."""
        while self._relay == before:
            self._more.clear()
            await self._more.wait()

    async def _try(self, relay: Relay, message: EmailMessage) -> Exception | None:
        """In a daemon thread: one that hangs in a connect must not hold up the end of this process."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Exception | None] = loop.create_future()

        def finish(error: Exception | None) -> None:
            if not done.done():
                done.set_result(error)

        def work() -> None:
            error: Exception | None = None
            try:
                deliver(relay, message)
            except (OSError, smtplib.SMTPException, ValueError) as problem:
                error = problem
            with contextlib.suppress(RuntimeError):  # the loop is closed: we are at our end
                loop.call_soon_threadsafe(finish, error)

        threading.Thread(target=work, name="smtp", daemon=True).start()
        return await done
