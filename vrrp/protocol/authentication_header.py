"""IPsec authentication headers around VRRPv2 adverts (RFC 2402, RFC 2403 HMAC-MD5-96), as keepalived's ``auth_type AH`` makes them.

The header of 24 bytes stands between IPv4 header and advert: next header, length, zero, SPI (keepalived: the source address), sequence
number, and the first 96 bits of HMAC-MD5 over the packet with the fields that change on the way set to zero. Pure.

One counter per virtual router for both directions, also keepalived's: who takes over goes on above the last number it heard, so that
a restarted node learns where the others are before it speaks.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import replace
from ipaddress import IPv4Address

from vrrp.protocol.packet import AUTH_BYTES, IPPROTO_VRRP, Datagram, DecodeError, RejectReason, parse_ipv4

IPPROTO_AH = 51
HEADER_BYTES = 24
ICV_BYTES = 12
MAX_SEQUENCE = 0xFFFFFFFF
_IP_BYTES = 20
_LENGTH_WORDS = HEADER_BYTES // 4 - 2
_HEADER = struct.Struct("!BBH4sI12s")


def _covered(packet: bytes | bytearray, *, unicast: bool) -> bytes:
    """The packet as the ICV sees it: mutable IP fields (TOS, fragment, checksum, on a routed path the TTL) and ICV zero."""
    covered = bytearray(packet)
    covered[1] = 0
    covered[6:8] = b"\0\0"
    covered[10:12] = b"\0\0"
    if unicast:
        covered[8] = 0
    covered[_IP_BYTES + HEADER_BYTES - ICV_BYTES : _IP_BYTES + HEADER_BYTES] = bytes(ICV_BYTES)
    return bytes(covered)


def integrity_value(packet: bytes | bytearray, key: bytes, *, unicast: bool) -> bytes:
    """The 12 bytes that belong into ``packet`` (IPv4 header without options, authentication header, advert)."""
    return hmac.digest(key, _covered(packet, unicast=unicast), "md5")[:ICV_BYTES]


def is_sealed(packet: bytes) -> bool:
    """Does an IPv4 packet carry an authentication header?"""
    return len(packet) >= _IP_BYTES and packet[0] >> 4 == 4 and packet[9] == IPPROTO_AH


def unauthenticated(packet: bytes) -> Datagram:
    """What is inside, for a listener without the key: the form is checked, the ICV is not. Raises DecodeError."""
    datagram = parse_ipv4(packet, protocol=IPPROTO_AH)
    if packet[0] != 0x45 or len(datagram.payload) < HEADER_BYTES:
        raise DecodeError(RejectReason.AUTHENTICATION_HEADER, f"{len(datagram.payload)} bytes after the IP header")
    next_header, words, *_ = _HEADER.unpack_from(datagram.payload)
    if next_header != IPPROTO_VRRP or words != _LENGTH_WORDS:
        raise DecodeError(RejectReason.AUTHENTICATION_HEADER, f"next header {next_header}, length {words}")
    return replace(datagram, payload=datagram.payload[HEADER_BYTES:])


class OutdatedError(DecodeError):
    """REPLAY: authentic, but its number was used already. ``datagram``: what it says."""

    def __init__(self, detail: str, datagram: Datagram) -> None:
        super().__init__(RejectReason.REPLAY, detail)
        self.datagram = datagram


class Authenticator:
    """Seals and opens the packets of one virtual router. ``key``: the password, cut or padded with zeros to 8 bytes."""

    def __init__(self, key: bytes, *, unicast: bool) -> None:
        self.key = key[:AUTH_BYTES].ljust(AUTH_BYTES, b"\0")
        self.unicast = unicast
        self.sequence = 0
        """The highest number sent or accepted."""

    def next_sequence(self) -> int:
        """The number of the next logical advert (one for all its destinations). It stays at its end, 136 years at 1/s."""
        self.sequence = min(self.sequence + 1, MAX_SEQUENCE)
        return self.sequence

    def seal(self, ip_header: bytes | bytearray, payload: bytes, sequence: int) -> bytes:
        """The whole packet; ``ip_header`` is 20 bytes for protocol 51 with the final total length and IP id."""
        spi = bytes(ip_header[12:16])
        packet = bytearray(ip_header) + _HEADER.pack(IPPROTO_VRRP, _LENGTH_WORDS, 0, spi, sequence, bytes(ICV_BYTES)) + payload
        end = _IP_BYTES + HEADER_BYTES
        packet[end - ICV_BYTES : end] = integrity_value(packet, self.key, unicast=self.unicast)
        return bytes(packet)

    def open(self, data: bytes) -> Datagram:
        """Check a received packet and take both headers off; its number is used up.

        Raises DecodeError: what ``parse_ipv4`` raises, AUTHENTICATION_HEADER (form), AUTHENTICATION (ICV) or REPLAY (an OutdatedError).
        """
        datagram = unauthenticated(data)
        _next, _words, _reserved, spi, sequence, icv = _HEADER.unpack_from(data, _IP_BYTES)
        if spi != datagram.source.packed:
            raise DecodeError(RejectReason.AUTHENTICATION_HEADER, f"SPI {IPv4Address(spi)} is not the source {datagram.source}")
        packet = data[: _IP_BYTES + HEADER_BYTES + len(datagram.payload)]
        if not hmac.compare_digest(icv, integrity_value(packet, self.key, unicast=self.unicast)):
            raise DecodeError(RejectReason.AUTHENTICATION)
        if sequence <= self.sequence < MAX_SEQUENCE:
            detail = f"sequence {sequence}, expected more than {self.sequence}"
            raise OutdatedError(detail, replace(datagram, authenticated=True))
        self.sequence = sequence
        return replace(datagram, authenticated=True)
