"""VRRP adverts on the wire: VRRPv2 (RFC 3768) and VRRPv3 (RFC 5798, RFC 9568), over IPv4 and IPv6.

Pure: bytes in, values out. Whatever arrives from the network either becomes an ``Advert`` or raises ``DecodeError`` with a typed
reason; nothing else. The receive checks and their order are keepalived's (reference: vrrp_in_chk), with three deliberate
differences, explained where they stand: VIP list, checksum style and unicast sender (docs/adr/0102-vrrp-receive-checks.md).
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

IPAddress: TypeAlias = IPv4Address | IPv6Address

IPPROTO_VRRP = 112
ADVERT_TYPE = 1
DEFAULT_GROUP_IPV4 = IPv4Address("224.0.0.18")
DEFAULT_GROUP_IPV6 = IPv6Address("ff02::12")
MULTICAST_TTL = 255
VRRP_TOS = 0xC0
AUTH_BYTES = 8
MAX_ADDRESSES = 255
CS_NS = 10_000_000
"""One centisecond, the unit of VRRPv3 intervals, in nanoseconds."""

_IPV4_HEADER = struct.Struct("!BBHHHBBH4s4s")
_IPV6_HEADER = struct.Struct("!IHBB16s16s")
IPV6_HEADER_BYTES = 40
_V2_HEADER = struct.Struct("!BBBBBBH")
_V3_HEADER = struct.Struct("!BBBBHH")
_HEADER_BYTES = 8


class Family(IntEnum):
    """Address family of an instance, by IP version number."""

    IPV4 = 4
    IPV6 = 6

    @property
    def address_bytes(self) -> int:
        """Size of one address on the wire."""
        return 4 if self is Family.IPV4 else 16


class AuthType(IntEnum):
    """Authentication type field of VRRPv2 (RFC 2338 section 5.3.6)."""

    NONE = 0
    PASS = 1
    AH = 2


class ChecksumStyle(Enum):
    """What a VRRPv3 checksum over IPv4 covers; IPv6 always has the pseudo header, VRRPv2 never."""

    PSEUDO_HEADER = "pseudo_header"
    """RFC 5798's usual reading and keepalived's default."""
    PLAIN = "plain"
    """keepalived's ``v3_checksum_as_v2``: sent without; both forms are accepted, garbage is not."""


class RejectReason(Enum):
    """Why a received packet was not taken as an advert of this instance."""

    IP_HEADER = "ip_header"
    IP_LENGTH = "ip_length"
    PROTOCOL = "protocol"
    FRAGMENT = "fragment"
    TRUNCATED = "truncated"
    LENGTH = "length"
    TTL = "ttl"
    PEER_TTL = "peer_ttl"
    VRID = "vrid"
    VERSION = "version"
    AUTH_TYPE = "auth_type"
    PASSWORD = "password"  # noqa: S105 - a reason, not a secret
    AUTHENTICATION_HEADER = "authentication_header"
    AUTHENTICATION = "authentication"
    REPLAY = "replay"
    HMAC_MISSING = "hmac_missing"
    HMAC_MALFORMED = "hmac_malformed"
    HMAC_UNKNOWN_KEY = "hmac_unknown_key"
    HMAC_INVALID = "hmac_invalid"
    HMAC_STALE = "hmac_stale"
    HMAC_REPLAY = "hmac_replay"
    INTERVAL = "interval"
    TYPE = "type"
    CHECKSUM = "checksum"
    CHECKSUM_STYLE = "checksum_style"
    UNICAST_UNEXPECTED = "unicast_unexpected"
    MULTICAST_UNEXPECTED = "multicast_unexpected"
    WRONG_GROUP = "wrong_group"
    OWN_ADDRESS = "own_address"
    OWNER_IGNORES = "owner_ignores"
    UNKNOWN_PEER = "unknown_peer"

    @property
    def remedy(self) -> str:
        """What an operator who sees this reason should look at."""
        return _REMEDIES.get(self, "the packet is damaged or forged; look at its sender")


_REMEDIES: dict[RejectReason, str] = {
    RejectReason.TTL: "a multicast advert must arrive with TTL 255; a router or a forger is in between",
    RejectReason.PEER_TTL: "a forger or a router is in between; if the peer is meant to send so, write 'PEER min_ttl N' in unicast_peer",
    RejectReason.VERSION: "set the same vrrp_version on all nodes",
    RejectReason.AUTH_TYPE: "set the same authentication block on all nodes",
    RejectReason.PASSWORD: "set the same auth_pass on all nodes (only its first 8 bytes count)",
    RejectReason.AUTHENTICATION: "set the same auth_pass on all nodes, and unicast_peer on all or on none of them",
    RejectReason.REPLAY: "normal for a moment when two masters meet; if it goes on, somebody replays old adverts",
    RejectReason.HMAC_MISSING: "set auth_hmac on the sender, or mode permissive here until every node signs",
    RejectReason.HMAC_UNKNOWN_KEY: "give this node the sender's key as well; keys are added everywhere before active_key changes",
    RejectReason.HMAC_INVALID: "set the same secret under the same key id on all nodes",
    RejectReason.HMAC_STALE: "set the clocks right (NTP) on all nodes, or raise time_window",
    RejectReason.HMAC_REPLAY: "somebody sends old adverts again",
    RejectReason.INTERVAL: "set the same advert_int on all nodes",
    RejectReason.CHECKSUM_STYLE: "the sender leaves the pseudo header out of the checksum; set v3_checksum_as_v2 on this node",
    RejectReason.UNICAST_UNEXPECTED: "the sender uses unicast_peer and this node does not",
    RejectReason.MULTICAST_UNEXPECTED: "this node uses unicast_peer and the sender does not",
    RejectReason.WRONG_GROUP: "set the same vrrp_mcast_group on all nodes",
    RejectReason.OWN_ADDRESS: "another host sends adverts from this node's own address",
    RejectReason.UNKNOWN_PEER: "add the sender to unicast_peer, or write check_unicast_src off to take adverts from anybody",
}


class DecodeError(Exception):
    """A packet was rejected; ``reason`` says why, ``detail`` gives the values that did not fit."""

    def __init__(self, reason: RejectReason, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)


@dataclass(frozen=True, slots=True)
class Advert:
    """One VRRP advertisement.

    ``interval_cs`` is in centiseconds for both versions (a v2 advert carries whole seconds). ``auth_data`` is the 8 bytes of a v2
    IPv4 advert and empty otherwise.
    """

    version: int
    family: Family
    vrid: int
    priority: int
    addresses: tuple[IPAddress, ...]
    interval_cs: int
    auth_type: AuthType = AuthType.NONE
    auth_data: bytes = field(default=b"", repr=False)

    @property
    def interval_ns(self) -> int:
        """The advertised interval in nanoseconds."""
        return self.interval_cs * CS_NS


@dataclass(frozen=True, slots=True)
class Datagram:
    """An IP datagram that carried an advert, as far as VRRP cares. ``ttl`` is the TTL or hop limit; ``authenticated``: it came in an
    authentication header that was right."""

    source: IPAddress
    destination: IPAddress
    ttl: int
    payload: bytes
    authenticated: bool = False
    trailer: bytes = b""
    """The auth_hmac trailer that was taken off; the checksum over IPv6 covers it."""


@dataclass(frozen=True, slots=True)
class Expectations:
    """What an instance demands of a received advert.

    ``group`` is the multicast destination, or None in unicast mode. ``peers`` matter in unicast mode only: with
    ``only_peers`` (check_unicast_src, here the default) every other sender is refused. ``linked_peers`` share our link: their adverts
    must arrive with one of ``link_ttls``, because a packet that a router forwarded has a lower TTL; routed peers may have any.
    """

    version: int
    family: Family
    vrid: int
    interval_cs: int
    local_address: IPAddress | None = None
    group: IPAddress | None = DEFAULT_GROUP_IPV4
    peers: frozenset[IPAddress] = frozenset()
    only_peers: bool = True
    linked_peers: frozenset[IPAddress] = frozenset()
    link_ttls: frozenset[int] = frozenset({MULTICAST_TTL})
    peer_ttl: dict[IPAddress, tuple[int, int]] = field(default_factory=dict)
    """Lowest and highest TTL of adverts from a unicast peer that has min_ttl or max_ttl; nothing else counts for it then."""
    auth_type: AuthType = AuthType.NONE
    auth_data: bytes = field(default=b"", repr=False)
    checksum: ChecksumStyle = ChecksumStyle.PSEUDO_HEADER
    owner_ignores: bool = False
    old_checksum_group: IPAddress | None = None
    """Also take unicast v3 adverts whose checksum names this group as their destination, as keepalived before 1.3.6 sends them."""


def pass_auth_data(password: bytes) -> bytes:
    """The 8 authentication bytes of PASS: the first 8 bytes of the password, padded with zeros."""
    return password[:AUTH_BYTES].ljust(AUTH_BYTES, b"\0")


def internet_checksum(data: bytes) -> int:
    """RFC 1071 ones-complement checksum of ``data``."""
    if len(data) % 2:
        data += b"\0"
    # 2**16 = 1 (mod 65535): the whole string as one number reduces to the folded sum.
    total = int.from_bytes(data, "big") % 0xFFFF
    if total == 0 and any(data):
        total = 0xFFFF
    return ~total & 0xFFFF


def pseudo_header(source: IPAddress, destination: IPAddress, length: int) -> bytes:
    """The pseudo header of RFC 5798 section 5.2.8 (IPv6: RFC 8200 section 8.1) for a VRRP payload of ``length`` bytes."""
    if source.version == 4:
        return source.packed + destination.packed + struct.pack("!BBH", 0, IPPROTO_VRRP, length)
    return source.packed + destination.packed + struct.pack("!IHBB", length, 0, 0, IPPROTO_VRRP)


def encode_advert(
    advert: Advert,
    source: IPAddress,
    destination: IPAddress,
    checksum: ChecksumStyle = ChecksumStyle.PSEUDO_HEADER,
) -> bytes:
    """The VRRP payload of ``advert`` with its checksum. ``source`` and ``destination`` only enter the pseudo header.

    Raises ValueError for a field that does not fit on the wire.
    """
    if not 1 <= advert.vrid <= 255 or not 0 <= advert.priority <= 255:
        raise ValueError(f"vrid {advert.vrid} or priority {advert.priority} out of range")
    if len(advert.addresses) > MAX_ADDRESSES:
        raise ValueError(f"{len(advert.addresses)} addresses do not fit into one advert (at most {MAX_ADDRESSES})")
    body = b"".join([address.packed for address in advert.addresses])
    first = advert.version << 4 | ADVERT_TYPE
    count = len(advert.addresses)
    if advert.version == 2:
        seconds = advert.interval_cs // 100
        if not 1 <= seconds <= 255:
            raise ValueError(f"a VRRPv2 interval is 1..255 whole seconds, not {advert.interval_cs} cs")
        head = _V2_HEADER.pack(first, advert.vrid, advert.priority, count, advert.auth_type, seconds, 0)
        if advert.family is Family.IPV4:
            body += advert.auth_data.ljust(AUTH_BYTES, b"\0")[:AUTH_BYTES]
    elif advert.version == 3:
        if not 1 <= advert.interval_cs <= 0xFFF:
            raise ValueError(f"a VRRPv3 interval is 1..4095 centiseconds, not {advert.interval_cs}")
        head = _V3_HEADER.pack(first, advert.vrid, advert.priority, count, advert.interval_cs, 0)
    else:
        raise ValueError(f"VRRP version {advert.version} does not exist")
    payload = head + body
    covered = payload
    if advert.family is Family.IPV6 or (advert.version == 3 and checksum is ChecksumStyle.PSEUDO_HEADER):
        covered = pseudo_header(source, destination, len(payload)) + payload
    return payload[:6] + internet_checksum(covered).to_bytes(2, "big") + payload[8:]


def decode_advert(payload: bytes, family: Family) -> Advert:
    """Read the structure of a VRRP payload; no checksum and no comparison with a configuration.

    Raises DecodeError: TRUNCATED, VERSION, LENGTH, TYPE, VRID, INTERVAL or AUTH_TYPE.
    """
    if len(payload) < _HEADER_BYTES:
        raise DecodeError(RejectReason.TRUNCATED, f"{len(payload)} bytes")
    version = payload[0] >> 4
    count = payload[3]
    if version not in (2, 3):
        raise DecodeError(RejectReason.VERSION, f"version {version}")
    size = family.address_bytes
    expected = advert_bytes(payload, family)
    if len(payload) != expected:
        hint = "; 28 bytes more are an auth_hmac trailer" if len(payload) == expected + 28 else ""
        raise DecodeError(RejectReason.LENGTH, f"{len(payload)} bytes, {count} addresses need {expected}{hint}")
    if payload[0] & 0x0F != ADVERT_TYPE:
        raise DecodeError(RejectReason.TYPE, f"type {payload[0] & 0x0F}")
    vrid = payload[1]
    if vrid == 0:
        raise DecodeError(RejectReason.VRID, "VRID 0")
    kind = IPv4Address if family is Family.IPV4 else IPv6Address
    end = _HEADER_BYTES + count * size
    addresses = tuple(kind(payload[at : at + size]) for at in range(_HEADER_BYTES, end, size))
    if version == 2:
        if payload[4] not in (AuthType.NONE, AuthType.PASS, AuthType.AH):
            raise DecodeError(RejectReason.AUTH_TYPE, f"type {payload[4]}")
        interval_cs, auth_type, auth_data = payload[5] * 100, AuthType(payload[4]), payload[end:]
    else:
        interval_cs, auth_type, auth_data = (payload[4] & 0x0F) << 8 | payload[5], AuthType.NONE, b""
    if interval_cs == 0:
        raise DecodeError(RejectReason.INTERVAL, "interval 0")
    return Advert(version, family, vrid, payload[2], addresses, interval_cs, auth_type, auth_data)


def advert_bytes(payload: bytes, family: int) -> int:
    """How long the advert at the beginning of ``payload`` says it is: header, addresses, and in version 2 over IPv4 eight bytes more."""
    if len(payload) < _HEADER_BYTES:
        return _HEADER_BYTES
    auth_bytes = AUTH_BYTES if payload[0] >> 4 == 2 and family == Family.IPV4 else 0
    return _HEADER_BYTES + payload[3] * Family(family).address_bytes + auth_bytes


def checksum_fits(payload: bytes, *, covered_prefix: bytes = b"") -> bool:
    """True if the checksum inside ``payload`` is right when ``covered_prefix`` (the pseudo header or nothing) is covered too."""
    total = int.from_bytes(covered_prefix + payload + (b"\0" if len(payload) % 2 else b""), "big")
    return total > 0 and total % 0xFFFF == 0


def has_old_checksum(datagram: Datagram, group: IPAddress) -> bool:
    """Was the pseudo header of this unicast v3 advert made with the group as destination (keepalived before 1.3.6)?"""
    payload = datagram.payload
    if group.version != datagram.source.version or not payload or payload[0] >> 4 != 3 or datagram.destination.is_multicast:
        return False
    return checksum_fits(payload, covered_prefix=pseudo_header(datagram.source, group, len(payload)))


def receive_advert(datagram: Datagram, expected: Expectations) -> Advert:
    """Decode ``datagram`` and apply every receive check of the instance, in keepalived's order.

    Differences from keepalived 2.2.7, on purpose: a differing VIP list is the core's to report, never a reason to drop (dropping
    makes two masters, #1603, #2444); a wrong checksum *style* has its own reason, so that the log can name the remedy; a unicast
    sender that is no peer, or a peer on our link whose packet was routed, is refused. Raises DecodeError.
    """
    if datagram.source.version != expected.family or datagram.destination.version != expected.family:
        raise DecodeError(RejectReason.IP_HEADER, "wrong address family")
    payload = datagram.payload
    advert = decode_advert(payload, expected.family)
    if advert.vrid != expected.vrid:
        raise DecodeError(RejectReason.VRID, f"VRID {advert.vrid}")
    if expected.group is not None and datagram.ttl != MULTICAST_TTL:
        raise DecodeError(RejectReason.TTL, f"TTL {datagram.ttl}")
    if advert.version != expected.version:
        raise DecodeError(RejectReason.VERSION, f"version {advert.version}, here {expected.version}")
    if advert.version == 2:
        _check_v2(advert, datagram.authenticated, expected)
    _check_checksum(datagram, advert, expected)
    _check_addressing(datagram, expected)
    if expected.owner_ignores:
        raise DecodeError(RejectReason.OWNER_IGNORES)
    return advert


def _check_v2(advert: Advert, authenticated: bool, expected: Expectations) -> None:
    if authenticated != (expected.auth_type is AuthType.AH):
        raise DecodeError(
            RejectReason.AUTH_TYPE, f"{'an' if authenticated else 'no'} authentication header, here {expected.auth_type.name}"
        )
    if advert.auth_type != expected.auth_type:
        raise DecodeError(RejectReason.AUTH_TYPE, f"type {advert.auth_type.name}, here {expected.auth_type.name}")
    if expected.auth_type is AuthType.PASS and not hmac.compare_digest(advert.auth_data, expected.auth_data):
        raise DecodeError(RejectReason.PASSWORD)
    if advert.interval_cs != expected.interval_cs:
        raise DecodeError(RejectReason.INTERVAL, f"{advert.interval_cs // 100} s, here {expected.interval_cs // 100} s")


def _check_checksum(datagram: Datagram, advert: Advert, expected: Expectations) -> None:
    payload = datagram.payload
    pseudo = pseudo_header(datagram.source, datagram.destination, len(payload))
    if advert.family is Family.IPV6:
        whole = payload + datagram.trailer
        accepted = checksum_fits(whole, covered_prefix=pseudo_header(datagram.source, datagram.destination, len(whole)))
    elif advert.version == 2:
        accepted = checksum_fits(payload)
    else:
        accepted = checksum_fits(payload, covered_prefix=pseudo)
        if not accepted and checksum_fits(payload):
            if expected.checksum is ChecksumStyle.PSEUDO_HEADER:
                raise DecodeError(RejectReason.CHECKSUM_STYLE)
            accepted = True
        accepted = accepted or (expected.old_checksum_group is not None and has_old_checksum(datagram, expected.old_checksum_group))
    if not accepted:
        raise DecodeError(RejectReason.CHECKSUM)


def _check_addressing(datagram: Datagram, expected: Expectations) -> None:
    if expected.group is not None:
        if not datagram.destination.is_multicast:
            raise DecodeError(RejectReason.UNICAST_UNEXPECTED, f"from {datagram.source}")
        if datagram.destination != expected.group:
            raise DecodeError(RejectReason.WRONG_GROUP, f"{datagram.destination}, here {expected.group}")
    elif datagram.destination.is_multicast:
        raise DecodeError(RejectReason.MULTICAST_UNEXPECTED, f"from {datagram.source}")
    if datagram.source == expected.local_address:
        raise DecodeError(RejectReason.OWN_ADDRESS, f"from {datagram.source}")
    if expected.group is None:
        _check_peer(datagram, expected)


def _check_peer(datagram: Datagram, expected: Expectations) -> None:
    peer, ttl = datagram.source, datagram.ttl
    if peer not in expected.peers:
        if expected.only_peers:
            raise DecodeError(RejectReason.UNKNOWN_PEER, f"from {peer}, TTL {ttl}")
    elif peer in expected.peer_ttl:
        low, high = expected.peer_ttl[peer]
        if not low <= ttl <= high:
            raise DecodeError(RejectReason.PEER_TTL, f"TTL {ttl}, peer {peer} has {low} to {high}")
    elif peer in expected.linked_peers and ttl not in expected.link_ttls:
        allowed = " or ".join(str(ttl) for ttl in sorted(expected.link_ttls))
        raise DecodeError(RejectReason.PEER_TTL, f"TTL {ttl}, peer {peer} is on our link and sends {allowed}")


def build_ipv4_header(source: IPv4Address, destination: IPv4Address, payload_bytes: int, *, identification: int, ttl: int) -> bytes:
    """The 20 bytes that keepalived puts before an advert: TOS 0xC0, no fragment bits; the kernel fills in the header checksum."""
    total = 20 + payload_bytes
    return _IPV4_HEADER.pack(0x45, VRRP_TOS, total, identification, 0, ttl, IPPROTO_VRRP, 0, source.packed, destination.packed)


def build_ipv6_header(source: IPv6Address, destination: IPv6Address, payload_bytes: int, *, hop_limit: int) -> bytes:
    """The 40 bytes before an advert over IPv6: traffic class 0xC0, no flow label."""
    return _IPV6_HEADER.pack(6 << 28 | VRRP_TOS << 20, payload_bytes, IPPROTO_VRRP, hop_limit, source.packed, destination.packed)


def next_identification(identification: int) -> int:
    """keepalived's IP id counter: from 1, wrapping at 16 bits and skipping 0."""
    return (identification + 1) & 0xFFFF or 1


def parse_ipv4(data: bytes, protocol: int = IPPROTO_VRRP) -> Datagram:
    """Take the IP header off a packet as a raw IPv4 socket delivers it.

    Raises DecodeError: IP_HEADER, IP_LENGTH, PROTOCOL or FRAGMENT.
    """
    if len(data) < 20:
        raise DecodeError(RejectReason.IP_HEADER, f"{len(data)} bytes")
    first, _tos, total, _id, fragment, ttl, carried, _check, source, destination = _IPV4_HEADER.unpack_from(data)
    header_bytes = (first & 0x0F) * 4
    if first >> 4 != 4 or header_bytes < 20 or header_bytes > len(data):
        raise DecodeError(RejectReason.IP_HEADER, f"first byte {first:#04x}")
    if total < header_bytes or total > len(data):
        raise DecodeError(RejectReason.IP_LENGTH, f"total length {total}, {len(data)} bytes received")
    if carried != protocol:
        raise DecodeError(RejectReason.PROTOCOL, f"protocol {carried}")
    if fragment & 0x3FFF:
        raise DecodeError(RejectReason.FRAGMENT)
    return Datagram(IPv4Address(source), IPv4Address(destination), ttl, data[header_bytes:total])


def parse_ipv6(data: bytes) -> Datagram:
    """Take the IP header off an IPv6 packet whose first next header is VRRP.

    Raises DecodeError: IP_HEADER, IP_LENGTH or PROTOCOL (also for extension headers, which no VRRP router sends).
    """
    if len(data) < IPV6_HEADER_BYTES:
        raise DecodeError(RejectReason.IP_HEADER, f"{len(data)} bytes")
    first, payload_bytes, protocol, hop_limit, source, destination = _IPV6_HEADER.unpack_from(data)
    if first >> 28 != 6:
        raise DecodeError(RejectReason.IP_HEADER, f"version {first >> 28}")
    end = IPV6_HEADER_BYTES + payload_bytes
    if end > len(data):
        raise DecodeError(RejectReason.IP_LENGTH, f"payload of {payload_bytes} bytes, {len(data)} bytes received")
    if protocol != IPPROTO_VRRP:
        raise DecodeError(RejectReason.PROTOCOL, f"next header {protocol}")
    return Datagram(IPv6Address(source), IPv6Address(destination), hop_limit, data[IPV6_HEADER_BYTES:end])


def parse_packet(data: bytes) -> Datagram:
    """``parse_ipv4`` or ``parse_ipv6``, by the version in the first byte."""
    return parse_ipv6(data) if data[:1] and data[0] >> 4 == 6 else parse_ipv4(data)
