"""The key lines of auth_hmac."""

from __future__ import annotations

from vrrp.config.keyword import Reading, Rejected, Value
from vrrp.config.model.instance import HmacKey
from vrrp.config.syntax import Statement
from vrrp.config.values import read_integer

MIN_KEY_BYTES = 32
MAX_KEY_BYTES = 64


def hmac_key() -> Value:
    """``ID hex:DIGITS``, ``ID file:PATH`` or ``ID TEXT``: a tuple of one HmacKey."""
    return Value("ID hex:DIGITS|file:PATH|TEXT", _read_key)


def _read_key(reading: Reading, statement: Statement) -> object:
    if len(statement.arguments) < 2:
        return reading.error(statement, "key needs an id and a secret", "write: key 1 file:/etc/keepalived/hmac.key", "missing-value")
    key_id = read_integer(reading, statement.arguments[0], "key id", 1, 255)
    if isinstance(key_id, Rejected):
        return key_id
    given = statement.arguments[1]
    if given.text.startswith("file:"):
        return (HmacKey(key_id, file=given.text[5:]),)
    secret = key_bytes(given.text)
    if secret is None:
        return reading.error(given, f"key {key_id} is not written in hexadecimal digits", "write an even number of the digits 0-9 a-f")
    if not MIN_KEY_BYTES <= len(secret) <= MAX_KEY_BYTES:
        return reading.error(
            given, f"key {key_id} has {len(secret)} bytes", f"use {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes", "out-of-range"
        )
    return (HmacKey(key_id, secret),)


def key_bytes(text: str) -> bytes | None:
    """The secret that ``hex:DIGITS`` or any other text stands for; None if the digits are no digits."""
    try:
        return bytes.fromhex(text[4:]) if text.startswith("hex:") else text.encode("utf-8", "surrogateescape")
    except ValueError:
        return None
