"""The HMAC-SHA256 trailer of keepalived 2.4 (``auth_hmac``): 28 bytes after an advert of either version and family.

    type 1 · key id · 0 0 · seconds (4) · fraction (2) · counter (2) · first 16 bytes of HMAC-SHA256

The HMAC covers {family, version, VRID, 0, source address in 16 bytes}, the advert with checksum 0, the first 12 bytes of the trailer
and 16 zeros in place of itself. Pure. Built after the description of keepalived's development version (reference census 3.1); it was
never run against a real one, and the daemon refuses the keyword until it was (docs/VRRPD.md).
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from vrrp.protocol.packet import DecodeError, IPAddress, RejectReason

TRAILER_BYTES = 28
TRAILER_TYPE = 1
ICV_BYTES = 16
_STAMP = struct.Struct("!BBHIHH")
_CHECKSUM = slice(6, 8)


@dataclass(frozen=True, slots=True, order=True)
class Stamp:
    """When the sender signed: wall-clock ``seconds`` (32 bits), ``fraction`` and ``counter`` (16 bits each). Later is greater."""

    seconds: int
    fraction: int
    counter: int


def _value(key: bytes, source: IPAddress, advert: bytes, stamp: bytes) -> bytes:
    context = struct.pack("!BBBx16s", source.version, advert[0] >> 4, advert[1], source.packed)
    covered = bytearray(advert)
    covered[_CHECKSUM] = b"\0\0"
    return hmac.digest(key, context + bytes(covered) + stamp + bytes(ICV_BYTES), "sha256")[:ICV_BYTES]


def sign(advert: bytes, source: IPAddress, key_id: int, key: bytes, stamp: Stamp) -> bytes:
    """``advert`` (8 bytes at least) with its trailer."""
    prefix = _STAMP.pack(TRAILER_TYPE, key_id, 0, stamp.seconds, stamp.fraction, stamp.counter)
    return advert + prefix + _value(key, source, advert, prefix)


def verify(signed: bytes, source: IPAddress, keys: Mapping[int, bytes]) -> tuple[bytes, Stamp]:
    """The advert without its trailer, and when it was signed; whether that is fresh is the caller's to judge.

    Raises DecodeError: TRUNCATED, AUTHENTICATION_HEADER (no such trailer, unknown key) or AUTHENTICATION.
    """
    end = len(signed) - TRAILER_BYTES
    if end < 8:
        raise DecodeError(RejectReason.TRUNCATED, f"{len(signed)} bytes with a trailer")
    advert, prefix, value = signed[:end], signed[end : end + _STAMP.size], signed[end + _STAMP.size :]
    kind, key_id, reserved, seconds, fraction, counter = _STAMP.unpack(prefix)
    if kind != TRAILER_TYPE or reserved:
        raise DecodeError(RejectReason.AUTHENTICATION_HEADER, f"trailer of type {kind}")
    if key_id not in keys:
        raise DecodeError(RejectReason.AUTHENTICATION_HEADER, f"key {key_id} is not configured")
    if not hmac.compare_digest(value, _value(keys[key_id], source, advert, prefix)):
        raise DecodeError(RejectReason.AUTHENTICATION, f"key {key_id}")
    return advert, Stamp(seconds, fraction, counter)
