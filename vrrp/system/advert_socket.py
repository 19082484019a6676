"""Raw sockets that carry adverts: one to receive and one to send per interface and carrier (IPv4 here, IPv6 in advert_socket6).

The receive socket passes only our VRIDs (classic BPF in the kernel, attached before anything can arrive), the send socket writes its own IP
header as keepalived does. A packet that cannot be sent is an event (EPERM: a firewall rule in our own OUTPUT chain), never an exception.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Protocol

from base.packetsocket import SO_TIMESTAMPNS, Instruction, attach_filter
from vrrp.protocol.authentication_header import HEADER_BYTES, IPPROTO_AH, Authenticator
from vrrp.protocol.hmac_session import HmacSession
from vrrp.protocol.hmac_trailer import TRAILER_BYTES
from vrrp.protocol.packet import (
    IPPROTO_VRRP,
    IPV6_HEADER_BYTES,
    Advert,
    ChecksumStyle,
    IPAddress,
    build_ipv4_header,
    build_ipv6_header,
    encode_advert,
    internet_checksum,
    next_identification,
    pseudo_header,
)

DRAIN_LIMIT = 64
MAX_AGE_NS = 5_000_000
"""An older packet counts as this old: more is no wake-up latency but a stall, which the core hears of separately."""
_TIMESPEC = struct.Struct("=qq")
_SO_BINDTODEVICE = 25
_SO_RCVBUFFORCE = 33
_IP_MULTICAST_ALL = 49
_RECEIVE_BUFFER_BYTES = 4 << 20
"""A flood must not push adverts out while this process waits for a CPU; the memory is only used then."""
MAX_FILTERED_VRIDS = 250
_SHORTEST_PACKET = 28
"""An IPv4 header without options and a VRRP header."""

_LDX_IHL: Instruction = (0xB1, 0, 0, 0)
_LD_B_IND = 0x50
RET_ALL: Instruction = (0x06, 0, 0, 0xFFFF)
RET_NONE: Instruction = (0x06, 0, 0, 0)


class Carrier(Enum):
    """What adverts travel in; instances with different carriers share no socket and may share a VRID."""

    IPV4 = "IPv4"
    IPV4_AH = "IPv4 with AH"
    IPV6 = "IPv6"


class AdvertReceiver(Protocol):
    """What the shell needs of a receive socket, whatever the carrier. Packets begin with their IP header."""

    interface: str
    index: int
    base_index: int
    """The interface below, of a macvlan; else 0."""
    vrids: frozenset[int]
    carrier: Carrier
    buffer_bytes: int
    """As configured; 0 = our own choice."""
    ttl_at: int
    """Offset of the TTL or hop limit."""
    tail_from: int
    """What follows is the same in every repetition of an advert: source, destination, payload."""

    @property
    def groups(self) -> frozenset[IPAddress]:
        """The multicast groups joined."""

    def fileno(self) -> int:
        """The descriptor to watch."""

    def drain(self, limit: int = DRAIN_LIMIT) -> list[tuple[int, bytes]]:
        """At most ``limit`` packets, each with its age in ns."""

    def vrid_of(self, data: bytes) -> int:
        """The VRID in a packet, 0 if the packet is too short to have one."""

    def close(self) -> None:
        """Leave the groups and close."""


class AdvertSender(Protocol):
    """What sends finished packets, whatever the carrier."""

    interface: str | None
    index: int

    def send(self, packet: bytes | bytearray, destination: str, *, direct: bool) -> int:
        """Send one packet; 0 or the errno."""

    def close(self) -> None:
        """Close the socket."""


def with_ages(packets: list[tuple[bytes, bytes]]) -> list[tuple[int, bytes]]:
    """(SO_TIMESTAMPNS, packet) → (age, packet): ns since the kernel received it, at most MAX_AGE_NS; 0 without a time stamp.

    Called last in a drain: ages count from its end, where the caller reads the other clock.
    """
    wall_ns = time.time_ns()
    return [(_age_ns(stamp, wall_ns) if stamp else 0, data) for stamp, data in packets]


def _age_ns(stamp: bytes, wall_ns: int) -> int:
    seconds, nanoseconds = _TIMESPEC.unpack(stamp)
    since_ns: int = wall_ns - seconds * 1_000_000_000 - nanoseconds
    return min(max(0, since_ns), MAX_AGE_NS)


def filter_vrids(vrids: Iterable[int], offset: int = 0) -> list[Instruction]:
    """Accept only VRRP packets of these VRIDs; an IPv4 raw socket's filter sees the packet from its IP header on.

    ``offset``: bytes between IP header and VRRP header.
    """
    wanted = sorted(set(vrids))
    if len(wanted) > MAX_FILTERED_VRIDS:
        return [RET_ALL]
    count = len(wanted)
    tests = [(0x15, count - at, 0, vrid) for at, vrid in enumerate(wanted)]
    return [_LDX_IHL, (_LD_B_IND, 0, 0, offset + 1), *tests, RET_NONE, RET_ALL]


def set_receive_buffer(sock: socket.socket, size: int = 0) -> None:
    """Room for a burst of adverts of many virtual routers, or as configured (``size`` bytes)."""
    if size:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, min(size, (1 << 31) - 1))
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)


def bind_receiver(sock: socket.socket, device: str, source: IPAddress | None) -> None:
    """To a device ("" = any) and to an address of ours (None = any)."""
    if device:
        sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, device.encode() + b"\0")
    if source is not None:
        sock.bind((str(source), 0))


def flush_strays(sock: socket.socket) -> None:
    """Between socket() and the filter another interface's packets may have come in."""
    for _ in range(1000):
        try:
            sock.recv(1)
        except BlockingIOError:
            return


def received(sock: socket.socket, limit: int, ancillary_bytes: int) -> Iterator[tuple[bytes, list[tuple[int, int, bytes]], Any]]:
    """At most ``limit`` times data, ancillary data and address of what lies in the socket; errors of the interface are passed over."""
    for _ in range(limit):
        try:
            data, ancillary, _flags, address = sock.recvmsg(4096, ancillary_bytes)
        except BlockingIOError:
            return
        except OSError:
            continue
        yield data, ancillary, address


class ReceiveSocket:
    """Adverts over IPv4 that arrive on one interface, for all virtual routers on it.

    ``device``: where ``interface`` is only a word for the log, the interface to bind to ("" = any); ``source``: only what is sent to this
    address.
    """

    base_index = 0
    ttl_at = 8
    tail_from = 12

    def __init__(
        self,
        interface: str,
        index: int,
        vrids: Iterable[int],
        groups: Iterable[IPv4Address],
        *,
        carrier: Carrier = Carrier.IPV4,
        buffer_bytes: int = 0,
        device: str | None = None,
        source: IPv4Address | None = None,
    ) -> None:
        self.interface = interface
        self.index = index
        self.carrier = carrier
        self._offset, protocol = (HEADER_BYTES, IPPROTO_AH) if carrier is Carrier.IPV4_AH else (0, IPPROTO_VRRP)
        self.vrids = frozenset(vrids)
        self._groups = frozenset(groups)
        self.buffer_bytes = buffer_bytes
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
        try:
            attach_filter(self._sock, [RET_NONE])
            bind_receiver(self._sock, interface if device is None else device, source)
            self._sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
            self._sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            set_receive_buffer(self._sock, buffer_bytes)
            for group in sorted(self._groups):
                request = struct.pack("=4s4si", group.packed, b"\0\0\0\0", index)
                self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
            flush_strays(self._sock)
            attach_filter(self._sock, filter_vrids(self.vrids, self._offset))
        except BaseException:
            self._sock.close()
            raise

    @property
    def groups(self) -> frozenset[IPAddress]:
        """The multicast groups joined."""
        return frozenset[IPAddress](self._groups)

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._sock.fileno()

    def vrid_of(self, data: bytes) -> int:
        """The VRID in a packet, 0 if the packet is too short to have one."""
        at = (data[0] & 0x0F) * 4 + self._offset + 1 if len(data) >= _SHORTEST_PACKET else len(data)
        return data[at] if at < len(data) else 0

    def drain(self, limit: int = DRAIN_LIMIT) -> list[tuple[int, bytes]]:
        """At most ``limit`` packets, IP header included, each with its age: ns since the kernel received it, at most MAX_AGE_NS.

        A deadline counts from when the advert arrived, not from when this process got round to reading it. Errors of the interface
        (ENETDOWN) are the monitor's business.
        """
        packets = received(self._sock, limit, 64)
        return with_ages([(ancillary[0][2] if ancillary else b"", data) for data, ancillary, _address in packets])

    def close(self) -> None:
        """Leave the groups and close."""
        self._sock.close()


class SendSocket:
    """Sends finished IPv4 packets out of one interface, or (``interface`` None) wherever the routes lead."""

    def __init__(self, interface: str | None, index: int) -> None:
        self.interface = interface
        self.index = index
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW)
        try:
            self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
            self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
            if interface is not None:
                self._sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, interface.encode() + b"\0")
                request = struct.pack("=4s4si", b"\0\0\0\0", b"\0\0\0\0", index)
                self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
        except BaseException:
            self._sock.close()
            raise

    def send(self, packet: bytes | bytearray, destination: str, *, direct: bool) -> int:
        """Send one packet; 0 or the errno. ``direct``: never through a gateway (MSG_DONTROUTE)."""
        try:
            self._sock.sendto(packet, socket.MSG_DONTROUTE if direct else 0, (destination, 0))
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


_PROBE = bytes.fromhex("3100000000640000")
"""The header of a v3 advert for VRID 0, which is reserved (RFC 9568 section 5.2.3), without checksum and addresses."""


class AdvertPackets:
    """The packets of one virtual router's advert: encoded once, resent with only the IPv4 id counted up."""

    def __init__(
        self,
        source: IPAddress,
        destinations: Sequence[IPAddress],
        *,
        ttl: int = 255,
        checksum: ChecksumStyle = ChecksumStyle.PSEUDO_HEADER,
        authenticator: Authenticator | None = None,
        hmac: HmacSession | None = None,
    ) -> None:
        self.source = source
        self.destinations = tuple(destinations)
        self._ttl = ttl
        self._checksum = checksum
        self._authenticator = authenticator
        self._hmac = hmac if hmac is not None and hmac.policy.signs else None
        self.checksum_destination: IPAddress | None = None
        """Stands in the checksum's pseudo header instead of the destination (keepalived before 1.3.6)."""
        self._identification = 1
        self._advert: Advert | None = None
        self._packets: list[tuple[bytearray, str, bool]] = []

    def encode(self, advert: Advert) -> list[tuple[bytearray, str, bool]]:
        """(packet, destination, direct) for each destination."""
        packets = []
        for destination in self.destinations:
            payload = encode_advert(advert, self.source, self.checksum_destination or destination, self._checksum)
            header = self._header(destination, len(payload) + (0 if self._hmac is None else TRAILER_BYTES))
            packets.append((bytearray(header + payload), str(destination), destination.is_multicast))
        return packets

    @property
    def numbered(self) -> bool:
        """Does each sending need a new sequence number, so that nobody can send these packets later in our place?"""
        return self._authenticator is not None or self._hmac is not None

    def _header(self, destination: IPAddress, payload_bytes: int) -> bytes:
        if isinstance(self.source, IPv4Address):
            assert isinstance(destination, IPv4Address)
            return build_ipv4_header(self.source, destination, payload_bytes, identification=0, ttl=self._ttl)
        assert not isinstance(destination, IPv4Address)
        return build_ipv6_header(self.source, destination, payload_bytes, hop_limit=self._ttl)

    def forget(self) -> None:
        """What was encoded is out of date."""
        self._advert = None

    def prepare(self, advert: Advert) -> None:
        """Encode ``advert`` now, so that sending it costs nothing later."""
        self._packets = self.encode(advert)
        self._advert = advert

    def send(self, advert: Advert, socket_: AdvertSender) -> list[tuple[str, int]]:
        """Send ``advert`` to every destination; returns (destination, errno) of the failures."""
        if advert is not self._advert:
            self.prepare(advert)
        failures = []
        has_id = self.source.version == 4
        sequence = 0 if self._authenticator is None else self._authenticator.next_sequence()
        trailer = b"" if self._hmac is None else self._trailer(self._hmac)
        for packet, destination, direct in self._packets:
            if has_id:
                packet[4], packet[5] = self._identification >> 8, self._identification & 0xFF
            sent: bytes | bytearray = packet
            if self._authenticator is not None:
                sent = self._sealed(self._authenticator, packet, sequence)
            elif trailer:
                sent = packet + trailer if has_id else _with_trailer6(packet, trailer)
            code = socket_.send(sent, destination, direct=direct)
            if code:
                failures.append((destination, code))
        self._identification = next_identification(self._identification)
        return failures

    def probe(self, socket_: AdvertSender) -> list[tuple[str, int]]:
        """Send what a firewall takes for an advert and no router does: VRID 0, priority 0. Returns the failures."""
        failures = []
        for destination in self.destinations:
            header = self._header(destination, len(_PROBE))
            code = socket_.send(header + _PROBE, str(destination), direct=destination.is_multicast)
            if code:
                failures.append((str(destination), code))
        return failures

    def _trailer(self, session: HmacSession) -> bytes:
        """One for all destinations, because it covers none of them."""
        header_bytes = 20 if self.source.version == 4 else IPV6_HEADER_BYTES
        if not self._packets:
            return b""
        advert = bytes(self._packets[0][0][header_bytes:])
        return session.trailer(advert, self.source, session.next_sequence(time.time_ns()))

    @staticmethod
    def _sealed(authenticator: Authenticator, packet: bytearray, sequence: int) -> bytes:
        header = packet[:20]
        header[2:4] = (len(packet) + HEADER_BYTES).to_bytes(2, "big")
        header[9] = IPPROTO_AH
        return authenticator.seal(header, bytes(packet[20:]), sequence)


def _with_trailer6(packet: bytearray, trailer: bytes) -> bytearray:
    """Over IPv6 the checksum of the advert covers the trailer."""
    whole = packet + trailer
    payload = whole[IPV6_HEADER_BYTES:]
    payload[6:8] = b"\0\0"
    covered = pseudo_header(IPv6Address(bytes(packet[8:24])), IPv6Address(bytes(packet[24:40])), len(payload)) + bytes(payload)
    whole[IPV6_HEADER_BYTES + 6 : IPV6_HEADER_BYTES + 8] = internet_checksum(covered).to_bytes(2, "big")
    return whole
