"""The parameters of a receiver of type ``email``.

``to`` (addresses, comma separated), ``from``, ``smtp_host`` (localhost), ``smtp_port``, ``tls`` ("none",
"starttls" or "tls"; default "starttls" when there is a username, else "none"), ``username``,
``password_secret``, ``ca_file``.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import getaddresses

from base.secrets import Secret, resolve_secret

_PORTS = {"none": 25, "starttls": 587, "tls": 465}
_TLS_WORDS = {"": "", "0": "none", "none": "none", "no": "none", "starttls": "starttls", "1": "tls", "tls": "tls", "yes": "tls"}


class SettingsError(Exception):
    """A parameter of the receiver is wrong."""


@dataclass(frozen=True, slots=True)
class MailSettings:
    """A mail server, how to talk to it, and who gets the mail. ``context`` is None where TLS is off."""

    host: str
    port: int
    tls: str
    username: str
    password: Secret | None
    context: ssl.SSLContext | None
    sender: str
    recipients: tuple[str, ...]
    ca_file: str


def mail_settings(parameters: Mapping[str, str]) -> MailSettings:
    """Read the receiver's parameters. Raises SettingsError, and SecretError for a secret that cannot be read."""
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
    host, ca_file = parameters.get("smtp_host", "") or "localhost", parameters.get("ca_file", "")
    return MailSettings(host, int(port), tls, username, password, context, sender, recipients, ca_file)
