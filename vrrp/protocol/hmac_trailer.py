"""The HMAC-SHA256 trailer of keepalived 2.4 (``auth_hmac``): 28 bytes after an advert of either version and family.

    type 1 · key id · 0 0 · sequence (8 bytes: seconds 4, fraction 2, counter 2) · first 16 bytes of HMAC-SHA256

The HMAC covers {family, version, VRID, 0, source address in 16 bytes}, the advert with checksum 0, the first 12 bytes of the trailer
and 16 zeros in place of itself. The destination is not covered: all copies of one advert carry the same trailer. The VRRP checksum
over IPv4 ends before the trailer, the one over IPv6 covers it. Pure; facts from keepalived 2.4.3 (vrrp_auth_hmac).
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Mapping

from vrrp.protocol.packet import DecodeError, IPAddress, RejectReason

TRAILER_BYTES = 28
TRAILER_TYPE = 1
ICV_BYTES = 16
_PREFIX = struct.Struct("!BBHQ")
_CHECKSUM = slice(6, 8)


def _value(key: bytes, source: IPAddress, advert: bytes, prefix: bytes) -> bytes:
    context = struct.pack("!BBBx16s", source.version, advert[0] >> 4, advert[1], source.packed)
    covered = bytearray(advert)
    covered[_CHECKSUM] = b"\0\0"
    return hmac.digest(key, context + bytes(covered) + prefix + bytes(ICV_BYTES), "sha256")[:ICV_BYTES]


def make_trailer(advert: bytes, source: IPAddress, key_id: int, key: bytes, sequence: int) -> bytes:
    """The trailer of ``advert`` (8 bytes at least; its checksum does not matter)."""
    prefix = _PREFIX.pack(TRAILER_TYPE, key_id, 0, sequence)
    return prefix + _value(key, source, advert, prefix)


def sequence_of(trailer: bytes) -> tuple[int, int]:
    """Key id and sequence number as a trailer claims them. Raises DecodeError HMAC_MALFORMED."""
    if len(trailer) != TRAILER_BYTES:
        raise DecodeError(RejectReason.HMAC_MALFORMED, f"{len(trailer)} bytes")
    kind, key_id, reserved, sequence = _PREFIX.unpack_from(trailer)
    if kind != TRAILER_TYPE or reserved:
        raise DecodeError(RejectReason.HMAC_MALFORMED, f"type {kind}, reserved {reserved}")
    return key_id, sequence


def verify_trailer(advert: bytes, trailer: bytes, source: IPAddress, keys: Mapping[int, bytes]) -> None:
    """Is the trailer that of ``advert``, sent by ``source`` and signed with one of ``keys``? Raises DecodeError HMAC_MALFORMED,
    HMAC_UNKNOWN_KEY or HMAC_INVALID; whether it is fresh is not asked here."""
    key_id, _sequence = sequence_of(trailer)
    if key_id not in keys:
        raise DecodeError(RejectReason.HMAC_UNKNOWN_KEY, f"key {key_id} is not configured")
    if not hmac.compare_digest(trailer[_PREFIX.size :], _value(keys[key_id], source, advert, trailer[: _PREFIX.size])):
        raise DecodeError(RejectReason.HMAC_INVALID, f"key {key_id}")
