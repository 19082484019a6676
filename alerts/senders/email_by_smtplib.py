"""Mail by the standard library's smtplib: the way that needs nothing, for when apprise is missing, broken or cannot do it."""

from __future__ import annotations

import contextlib
import smtplib
import time
from email.message import EmailMessage

from alerts.senders.mail_settings import MailSettings
from alerts.senders.message import OutgoingAlert, mail_headers

OPERATION_S = 10.0


def deliver(message: OutgoingAlert, smtp: MailSettings, until: float) -> dict[str, tuple[int, bytes]]:
    """Hand the mail over by ``until`` (time.monotonic, s); returns the recipients that were refused while others were accepted.

    Raises what smtplib raises, OSError, and ValueError for a mail that cannot be written.
    """
    return _transfer(smtp, compose(message, smtp.sender, smtp.recipients), until)


def compose(message: OutgoingAlert, sender: str, recipients: tuple[str, ...]) -> EmailMessage:
    """The mail, with a Message-ID that is the same for a repeat."""
    mail = EmailMessage()
    mail["Subject"] = message.subject
    mail["From"] = sender
    mail["To"] = ", ".join(recipients)
    for name, value in mail_headers(message).items():
        mail[name] = value
    mail.set_content(message.body())
    return mail


def _transfer(smtp: MailSettings, mail: EmailMessage, until: float) -> dict[str, tuple[int, bytes]]:
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
