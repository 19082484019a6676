"""Raw sockets that carry adverts over IPv4: one to receive and one to send per interface.

The receive socket passes only our VRIDs (classic BPF in the kernel, attached before anything can arrive), the send socket writes its own IP
header as keepalived does. A packet that cannot be sent is an event (EPERM: a firewall rule in our own OUTPUT chain), never an exception.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address

from base.packetsocket import SO_TIMESTAMPNS, Instruction, attach_filter
from vrrp.protocol.packet import (
    IPPROTO_VRRP,
    Advert,
    ChecksumStyle,
    build_ipv4_header,
    encode_advert,
    next_identification,
)

DRAIN_LIMIT = 64
MAX_AGE_NS = 5_000_000
"""An older packet counts as this old: more is no wake-up latency but a stall, which the core hears of separately."""
_TIMESPEC = struct.Struct("=qq")
_SO_BINDTODEVICE = 25
_SO_RCVBUFFORCE = 33
_IP_MULTICAST_ALL = 49
_RECEIVE_BUFFER_BYTES = 1 << 20
_MAX_FILTERED_VRIDS = 250

_LDX_IHL: Instruction = (0xB1, 0, 0, 0)
_LD_VRID: Instruction = (0x50, 0, 0, 1)
_RET_ALL: Instruction = (0x06, 0, 0, 0xFFFF)
_RET_NONE: Instruction = (0x06, 0, 0, 0)


def filter_vrids(vrids: Iterable[int]) -> list[Instruction]:
    """Accept only VRRP packets of these VRIDs; an IPv4 raw socket's filter sees the packet from its IP header on."""
    wanted = sorted(set(vrids))
    if len(wanted) > _MAX_FILTERED_VRIDS:
        return [_RET_ALL]
    count = len(wanted)
    tests = [(0x15, count - at, 0, vrid) for at, vrid in enumerate(wanted)]
    return [_LDX_IHL, _LD_VRID, *tests, _RET_NONE, _RET_ALL]


class ReceiveSocket:
    """Adverts that arrive on one interface, for all virtual routers on it."""

    def __init__(self, interface: str, index: int, vrids: Iterable[int], groups: Iterable[IPv4Address]) -> None:
        self.interface = interface
        self.index = index
        self.vrids = frozenset(vrids)
        self.groups = frozenset(groups)
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, IPPROTO_VRRP)
        try:
            attach_filter(self._sock, [_RET_NONE])
            self._sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, interface.encode() + b"\0")
            self._sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
            self._sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            try:
                self._sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
            except OSError:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
            for group in sorted(self.groups):
                request = struct.pack("=4s4si", group.packed, b"\0\0\0\0", index)
                self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
            self._flush_strays()
            attach_filter(self._sock, filter_vrids(self.vrids))
        except BaseException:
            self._sock.close()
            raise

    def _flush_strays(self) -> None:
        """Between socket() and the filter another interface's packets may have come in."""
        for _ in range(1000):
            try:
                self._sock.recv(1)
            except BlockingIOError:
                return

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._sock.fileno()

    def drain(self, limit: int = DRAIN_LIMIT) -> list[tuple[int, bytes]]:
        """At most ``limit`` packets, IP header included, each with its age: ns since the kernel received it, at most MAX_AGE_NS.

        A deadline counts from when the advert arrived, not from when this process got round to reading it. Errors of the interface
        (ENETDOWN) are the monitor's business.
        """
        packets: list[tuple[int, bytes]] = []
        receive = self._sock.recvmsg
        wall_ns = 0
        for _ in range(limit):
            try:
                data, ancillary, _flags, _address = receive(4096, 64)
            except BlockingIOError:
                break
            except OSError:
                continue
            wall_ns = wall_ns or time.time_ns()
            age_ns = 0
            if ancillary:
                seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
                age_ns = min(max(0, wall_ns - seconds * 1_000_000_000 - nanoseconds), MAX_AGE_NS)
            packets.append((age_ns, data))
        return packets

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


class AdvertPackets:
    """The packets of one virtual router's advert: encoded once, resent with only the IP id counted up."""

    def __init__(
        self,
        source: IPv4Address,
        destinations: Sequence[IPv4Address],
        *,
        ttl: int = 255,
        checksum: ChecksumStyle = ChecksumStyle.PSEUDO_HEADER,
    ) -> None:
        self.source = source
        self.destinations = tuple(destinations)
        self._ttl = ttl
        self._checksum = checksum
        self._identification = 1
        self._advert: Advert | None = None
        self._packets: list[tuple[bytearray, str, bool]] = []

    def encode(self, advert: Advert) -> list[tuple[bytearray, str, bool]]:
        """(packet, destination, direct) for each destination."""
        packets = []
        for destination in self.destinations:
            payload = encode_advert(advert, self.source, destination, self._checksum)
            header = build_ipv4_header(self.source, destination, len(payload), identification=0, ttl=self._ttl)
            packets.append((bytearray(header + payload), str(destination), destination.is_multicast))
        return packets

    def prepare(self, advert: Advert) -> None:
        """Encode ``advert`` now, so that sending it costs nothing later."""
        self._packets = self.encode(advert)
        self._advert = advert

    def send(self, advert: Advert, socket_: SendSocket) -> list[tuple[str, int]]:
        """Send ``advert`` to every destination; returns (destination, errno) of the failures."""
        if advert is not self._advert:
            self.prepare(advert)
        failures = []
        for packet, destination, direct in self._packets:
            packet[4], packet[5] = self._identification >> 8, self._identification & 0xFF
            code = socket_.send(packet, destination, direct=direct)
            if code:
                failures.append((destination, code))
        self._identification = next_identification(self._identification)
        return failures
