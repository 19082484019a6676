"""Mail by apprise, with a Message-ID that is the same on every attempt. Imported only in the delivery process.

apprise's mail plugin writes the mail, connects, checks the certificate and logs in. Two things it does not do are added
by subclassing the two classes it has for that (docs/adr/0141-mail-by-apprise.md): it makes a new Message-ID for every
attempt, so that a repeat could not be recognised; and it keeps the server's reply to itself, so that a refusal (550)
could not be told from an outage.
"""

from __future__ import annotations

import email
import smtplib
import time
from typing import Any
from urllib.parse import quote

from apprise import AppriseAsset, NotifyFormat
from apprise.exception import AppriseException
from apprise.plugins.email.base import NotifyEmail
from apprise.plugins.email.smtp import AppriseSMTPController
from apprise.utils.parse import is_email

from alerts.senders.apprise_log import silenced_apprise
from alerts.senders.mail_settings import MailSettings
from alerts.senders.message import OutgoingAlert, mail_headers

OPERATION_S = 10.0
_QUIT_S = 1.0
_MODES = {"none": "insecure", "starttls": "starttls", "tls": "ssl"}


class UnfitError(Exception):
    """apprise cannot carry this mail, or not with these settings; nothing has been sent."""


def deliver(message: OutgoingAlert, smtp: MailSettings, until: float) -> dict[str, tuple[int, bytes]]:
    """Hand the mail over by ``until`` (time.monotonic, s); returns the recipients that were refused while others were accepted.

    Raises UnfitError, what smtplib raises, and OSError.
    """
    if smtp.ca_file:
        raise UnfitError("apprise cannot be given a ca_file")
    if unknown := [address for address in (smtp.sender, *smtp.recipients) if not is_email(address)]:
        raise UnfitError(f"apprise takes {unknown[0]} for no address")
    remaining = until - time.monotonic()
    if remaining <= 0:
        raise TimeoutError("the deadline has passed")
    with silenced_apprise():
        try:
            plugin = RepeatableEmail(message, smtp, min(remaining, OPERATION_S))
            plugin.notify(body=message.body(), title=message.subject, body_format=NotifyFormat.TEXT)
        except (AppriseException, TypeError) as error:
            # Its text may quote the settings: only the class is told.
            raise UnfitError(f"apprise does not accept the settings ({type(error).__name__})") from None
    if plugin.failure is not None:
        raise plugin.failure
    if plugin.refused is None:
        raise UnfitError("apprise did not send")
    return plugin.refused


class RepeatableEmail(NotifyEmail):  # type: ignore[misc]
    """apprise's plugin for one alert: one mail to all recipients, whose id and date are the alert's and not the attempt's.

    After ``notify``: ``refused`` are the recipients that were refused while others were accepted, ``failure`` says why
    nobody was; both None: nothing was tried.
    """

    request_rate_per_sec = 0
    """apprise's throttle is off: the router limits the rate."""

    def __init__(self, message: OutgoingAlert, smtp: MailSettings, operation_s: float) -> None:
        first, *others = smtp.recipients
        super().__init__(
            asset=AppriseAsset(app_id="brainctl", app_desc="brainctl", async_mode=False),
            host=smtp.host,
            smtp_host=smtp.host,
            port=smtp.port,
            secure_mode=_MODES[smtp.tls],
            secure=smtp.tls != "none",
            # apprise unquotes these, as if they came out of a URL.
            user=quote(smtp.username, safe="") if smtp.username else None,
            password=quote(smtp.password.reveal(), safe="") if smtp.password else None,
            from_addr=smtp.sender,
            targets=[first],
            cc=others,
        )
        self.socket_connect_timeout = operation_s
        self.refused: dict[str, tuple[int, bytes]] | None = None
        self.failure: OSError | smtplib.SMTPException | None = None
        self._lasting_headers = mail_headers(message)

    def compose(self, body: str, title: str) -> list[tuple[list[str], str]]:
        """Recipients and text of each mail: one, since all recipients share it and none gets a repeat for another's sake."""
        prepared = NotifyEmail.prepare_emails(
            subject=title,
            body=body,
            from_addr=self.from_addr,
            to=self.targets,
            cc=self.cc,
            smtp_host=self.smtp_host,
            notify_format=NotifyFormat.TEXT,
        )
        return [(mail.to_addrs, self._with_lasting_headers(mail.body)) for mail in prepared]

    def send(self, body: str, title: str = "", **_unused: Any) -> bool:
        """Called by apprise's ``notify``."""
        mails = self.compose(body, title)
        try:
            with _Session(
                host=self.smtp_host,
                port=self.port,
                secure_mode=self.secure_mode,
                user=self.user,
                password=self.password,
                verify_certificate=True,
                socket_connect_timeout=self.socket_connect_timeout,
            ) as session:
                self.refused = {}
                for recipients, mail in mails:
                    self.refused |= session.transfer(self.from_addr[1], recipients, mail)
        except (OSError, smtplib.SMTPException) as error:
            self.failure = error
            return False
        return not self.refused

    def _with_lasting_headers(self, text: str) -> str:
        mail = email.message_from_string(text)
        for name, value in self._lasting_headers.items():
            del mail[name]
            mail[name] = value
        return mail.as_string()


class _Session(AppriseSMTPController):  # type: ignore[misc]
    """apprise's connection to a mail server, whose replies are not swallowed."""

    def transfer(self, sender: str, recipients: list[str], mail: str) -> dict[str, tuple[int, bytes]]:
        """As smtplib's ``sendmail``: returns who was refused while others were accepted; raises if nobody was accepted."""
        refused: dict[str, tuple[int, bytes]] = self._socket.sendmail(sender, recipients, mail)
        # The mail is the server's now: what QUIT comes to does not matter.
        self._socket.sock.settimeout(_QUIT_S)
        return refused
