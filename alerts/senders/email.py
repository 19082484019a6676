"""Mail: by apprise, and by smtplib alone where apprise is missing, broken or cannot do what the receiver asks for.

Both ways send the same Message-ID on every attempt of one alert and tell a refusal from an outage
(docs/adr/0141-mail-by-apprise.md). For the parameters see mail_settings.py.
"""

from __future__ import annotations

import smtplib
import time

from alerts.routing.settings import Receiver
from alerts.senders import email_by_smtplib
from alerts.senders.mail_settings import MailSettings, SettingsError, mail_settings
from alerts.senders.message import OutgoingAlert, SendResult, scrub
from base.secrets import SecretError


def send(message: OutgoingAlert, receiver: Receiver, deadline_s: float) -> SendResult:
    """Hand the mail to the SMTP server; ok once the server has accepted it for at least one recipient and none may be tried again."""
    until = time.monotonic() + deadline_s
    try:
        smtp = mail_settings(dict(receiver.parameters))
    except SettingsError as error:
        return SendResult(False, False, str(error))
    except SecretError as error:
        return SendResult(False, True, str(error))
    try:
        refused = _deliver(message, smtp, until)
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


def _deliver(message: OutgoingAlert, smtp: MailSettings, until: float) -> dict[str, tuple[int, bytes]]:
    try:
        # apprise is heavy: it is loaded when the first mail goes out, in the delivery process only.
        from alerts.senders import email_by_apprise
    except Exception:  # noqa: BLE001  not installed, or broken in whatever way: a page must still go out
        return email_by_smtplib.deliver(message, smtp, until)
    try:
        return email_by_apprise.deliver(message, smtp, until)
    except (OSError, smtplib.SMTPException):
        raise
    except Exception:  # noqa: BLE001  as above; if the mail did go out, its repeat carries the same Message-ID
        return email_by_smtplib.deliver(message, smtp, until)


def _reply(code: int, text: bytes | str) -> str:
    return f"{code} {text.decode('utf-8', 'replace') if isinstance(text, bytes) else text}"
