"""Neighbour solicitations and advertisements (RFC 4861) in ethernet frames. The one encoder for vrrpd and braind."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address

from base.packetsocket import ACCEPT, DROP, ETH_P_IPV6, Instruction

SOLICITATION, ADVERTISEMENT = 135, 136
ALL_NODES = IPv6Address("ff02::1")
ALL_NODES_MAC = b"\x33\x33\x00\x00\x00\x01"
ROUTER, SOLICITED, OVERRIDE = 0x80, 0x40, 0x20
_ICMPV6, _HOP_LIMIT = 58, 255
_SOURCE_LINK_LAYER, _TARGET_LINK_LAYER = 1, 2
_IPV6 = struct.Struct("!IHBB16s16s")
_MESSAGE = struct.Struct("!BBHB3x16s")
_ETHERNET_BYTES = 14
_LD_H_ABS, _LD_B_ABS, _JEQ = 0x28, 0x30, 0x15


@dataclass(frozen=True, slots=True)
class NeighbourAdvertisement:
    """A received advertisement: "``target`` is at ``mac``", sent by ``source_mac`` to ``destination_mac``. ``flags`` holds SOLICITED
    and OVERRIDE."""

    destination_mac: bytes
    source_mac: bytes
    target: str
    mac: bytes
    flags: int


def advertisement_filter() -> list[Instruction]:
    """Accept ICMPv6 neighbour advertisements without extension headers (RFC 4861 section 7.1 needs none)."""
    return [
        (_LD_H_ABS, 0, 0, 12),
        (_JEQ, 0, 5, ETH_P_IPV6),
        (_LD_B_ABS, 0, 0, 20),
        (_JEQ, 0, 3, _ICMPV6),
        (_LD_B_ABS, 0, 0, 54),
        (_JEQ, 0, 1, ADVERTISEMENT),
        ACCEPT,
        DROP,
    ]


def checksum(source: bytes, destination: bytes, message: bytes) -> int:
    """The ICMPv6 checksum (RFC 4443 section 2.3) of ``message``; 0 for a message that holds its right checksum."""
    covered = source + destination + struct.pack("!IHBB", len(message), 0, 0, _ICMPV6) + message
    if len(covered) % 2:
        covered += b"\0"
    total: int = sum(struct.unpack(f"!{len(covered) // 2}H", covered))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _frame(destination_mac: bytes, source_mac: bytes, source: IPv6Address, destination: IPv6Address, message: bytes) -> bytes:
    value = checksum(source.packed, destination.packed, message)
    message = message[:2] + value.to_bytes(2, "big") + message[4:]
    header = _IPV6.pack(6 << 28, len(message), _ICMPV6, _HOP_LIMIT, source.packed, destination.packed)
    return destination_mac + source_mac + ETH_P_IPV6.to_bytes(2, "big") + header + message


def solicitation(mac: bytes, source: str, target: str) -> bytes:
    """Who has ``target``? From ``source``, an address of ours, or from "::" (then without a link-layer option)."""
    sender, wanted = IPv6Address(source), IPv6Address(target)
    group = IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:13] + wanted.packed[13:])
    message = _MESSAGE.pack(SOLICITATION, 0, 0, 0, wanted.packed)
    if not sender.is_unspecified:
        message += bytes((_SOURCE_LINK_LAYER, 1)) + mac
    return _frame(b"\x33\x33" + group.packed[12:], mac, sender, group, message)


def unsolicited_advertisement(mac: bytes, address: str, *, router: bool) -> bytes:
    """To all nodes: ``address`` is at ``mac``, override what you know (RFC 4861 section 7.2.6).

    ``router``: this interface forwards. Hosts take a router that forgets the flag off their default router lists (section 7.2.5).
    """
    own = IPv6Address(address)
    message = _MESSAGE.pack(ADVERTISEMENT, 0, 0, OVERRIDE | (ROUTER if router else 0), own.packed) + bytes((_TARGET_LINK_LAYER, 1)) + mac
    return _frame(ALL_NODES_MAC, mac, own, ALL_NODES, message)


def decode_advertisement(frame: bytes) -> NeighbourAdvertisement | None:
    """The advertisement, or None if the frame is none that RFC 4861 section 7.1.2 lets pass (hop limit 255, checksum, lengths)."""
    at = _ETHERNET_BYTES + _IPV6.size
    if len(frame) < at + _MESSAGE.size or frame[12:14] != ETH_P_IPV6.to_bytes(2, "big"):
        return None
    first, length, next_header, hop_limit, source, destination = _IPV6.unpack_from(frame, _ETHERNET_BYTES)
    message = frame[at : at + length]
    if first >> 28 != 6 or next_header != _ICMPV6 or hop_limit != _HOP_LIMIT or len(message) != length or length < _MESSAGE.size:
        return None
    kind, code, _, flags, target = _MESSAGE.unpack_from(message)
    if kind != ADVERTISEMENT or code or checksum(source, destination, message):
        return None
    mac = _link_layer_option(message[_MESSAGE.size :])
    if mac is None:
        return None
    return NeighbourAdvertisement(frame[:6], frame[6:12], str(IPv6Address(target)), mac or frame[6:12], flags)


def _link_layer_option(options: bytes) -> bytes | None:
    """The target link-layer address, b"" if there is none, None if the options are broken."""
    found = b""
    while options:
        if len(options) < 2 or not options[1] or len(options) < options[1] * 8:
            return None
        if options[0] == _TARGET_LINK_LAYER and options[1] == 1:
            found = options[2:8]
        options = options[options[1] * 8 :]
    return found
