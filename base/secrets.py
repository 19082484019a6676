"""Secrets from files, the environment or systemd credentials: never from argv, never in a log.

A secret is named by a reference: ``file:/path``, ``env:NAME`` or ``credential:NAME`` ($CREDENTIALS_DIRECTORY).
A bare absolute path is a file.
"""

from __future__ import annotations

import os
import stat

MAX_SECRET_BYTES = 64 * 1024


class SecretError(Exception):
    """A secret could not be read; the message names the place and the remedy, never the value."""


class Secret:
    """A value that does not show itself in ``repr``, ``str`` or a traceback."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value; call only where it is handed to the device or receiver."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def read_secret_file(path: str) -> bytes:
    """The content of a file that only its owner may read; raises SecretError otherwise."""
    try:
        with open(path, "rb") as f:
            info = os.fstat(f.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise SecretError(f"{path} is not a regular file")
            if info.st_mode & 0o077:
                raise SecretError(f"{path} can be read by others (mode {stat.S_IMODE(info.st_mode):04o}); chmod 600 {path}")
            if info.st_uid not in (0, os.geteuid()):
                raise SecretError(f"{path} belongs to uid {info.st_uid}; chown root {path}")
            data = f.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise SecretError(f"{path}: {error.strerror}; create it with mode 0600") from None
    if len(data) > MAX_SECRET_BYTES:
        raise SecretError(f"{path} is over {MAX_SECRET_BYTES} bytes; is this the right file?")
    return data


def resolve_secret(reference: str) -> Secret:
    """Read the secret that a reference names; raises SecretError. A trailing newline is not part of it."""
    kind, _, name = reference.partition(":")
    if reference.startswith("/"):
        kind, name = "file", reference
    if kind == "file":
        return Secret(read_secret_file(name).decode("utf-8", "strict").rstrip("\n"))
    if kind == "env":
        value = os.environ.get(name)
        if value is None:
            raise SecretError(f"environment variable {name} is not set")
        return Secret(value)
    if kind == "credential":
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise SecretError(f"credential {name}: no $CREDENTIALS_DIRECTORY; add LoadCredential={name}:… to the unit")
        return Secret(read_secret_file(os.path.join(directory, name)).decode("utf-8", "strict").rstrip("\n"))
    raise SecretError(f"{kind!r} is no kind of secret; write file:/path, env:NAME or credential:NAME")
