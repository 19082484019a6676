"""Raw sockets that carry adverts over IPv6.

A raw IPv6 socket delivers no IP header (RFC 3542 section 3); what VRRP needs of it comes beside the payload and is put before it
again, so that the rest of the daemon sees one form of packet. Sending writes its own header: the source is then the address that the
configuration names, also while the kernel still checks it for duplicates.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv6Address

from base.packetsocket import SO_TIMESTAMPNS, Instruction, attach_filter
from vrrp.protocol.packet import IPPROTO_VRRP, IPV6_HEADER_BYTES, IPAddress, build_ipv6_header
from vrrp.system.advert_socket import (
    DRAIN_LIMIT,
    MAX_FILTERED_VRIDS,
    RET_ALL,
    RET_NONE,
    Carrier,
    bind_receiver,
    flush_strays,
    received,
    set_receive_buffer,
    with_ages,
)

_SO_BINDTODEVICE = 25
_IPV6_MULTICAST_ALL = 29
_IPV6_HDRINCL = 36
_IPV6_FREEBIND = 78
_INT = struct.Struct("=i")
_LD_VRID: Instruction = (0x30, 0, 0, 1)


def filter_vrids6(vrids: Iterable[int]) -> list[Instruction]:
    """Accept only VRRP packets of these VRIDs; an IPv6 raw socket's filter sees the packet from the VRRP header on."""
    wanted = sorted(set(vrids))
    if len(wanted) > MAX_FILTERED_VRIDS:
        return [RET_ALL]
    count = len(wanted)
    tests = [(0x15, count - at, 0, vrid) for at, vrid in enumerate(wanted)]
    return [_LD_VRID, *tests, RET_NONE, RET_ALL]


class ReceiveSocket6:
    """Adverts over IPv6 that arrive on one interface, for all virtual routers on it. ``device`` and ``source`` as ``ReceiveSocket``."""

    base_index = 0
    ttl_at = 7
    tail_from = 8

    def __init__(
        self,
        interface: str,
        index: int,
        vrids: Iterable[int],
        groups: Iterable[IPv6Address],
        buffer_bytes: int = 0,
        *,
        device: str | None = None,
        source: IPAddress | None = None,
    ) -> None:
        self.interface = interface
        self.index = index
        self.carrier = Carrier.IPV6
        self.vrids = frozenset(vrids)
        self._groups = frozenset(groups)
        self.buffer_bytes = buffer_bytes
        self._addresses: dict[str, IPv6Address] = {}
        self._sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, IPPROTO_VRRP)
        try:
            attach_filter(self._sock, [RET_NONE])
            bind_receiver(self._sock, interface if device is None else device, source)
            self._sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
            self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            self._sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            set_receive_buffer(self._sock, buffer_bytes)
            for group in sorted(self._groups):
                self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group.packed + _INT.pack(index))
            flush_strays(self._sock)
            attach_filter(self._sock, filter_vrids6(self.vrids))
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
        return data[IPV6_HEADER_BYTES + 1] if len(data) > IPV6_HEADER_BYTES + 1 else 0

    def drain(self, limit: int = DRAIN_LIMIT) -> list[tuple[int, bytes]]:
        """At most ``limit`` packets, IPv6 header included, each with its age; as ``ReceiveSocket.drain``."""
        packets: list[tuple[bytes, bytes]] = []
        for payload, ancillary, address in received(self._sock, limit, 128):
            stamp, hop_limit, destination = b"", 0, None
            for level, kind, value in ancillary:
                if level == socket.SOL_SOCKET:
                    stamp = value
                elif kind == socket.IPV6_HOPLIMIT:
                    hop_limit = _INT.unpack(value)[0]
                elif kind == socket.IPV6_PKTINFO:
                    destination = IPv6Address(value[:16])
            if destination is None:
                continue
            header = build_ipv6_header(self._source(address[0]), destination, len(payload), hop_limit=hop_limit)
            packets.append((stamp, header + payload))
        return with_ages(packets)

    def _source(self, text: str) -> IPv6Address:
        """Parsed once per sender; strangers cannot fill the memory."""
        known = self._addresses.get(text)
        if known is None:
            if len(self._addresses) >= DRAIN_LIMIT:
                self._addresses.clear()
            known = self._addresses[text] = IPv6Address(text.partition("%")[0])
        return known

    def close(self) -> None:
        """Leave the groups and close."""
        self._sock.close()


class SendSocket6:
    """Sends finished IPv6 packets out of one interface, or (``interface`` None) wherever the routes lead.

    ``source``: what the packets say; needed where the interface has no address (a macvlan), or the kernel finds no way out.
    """

    def __init__(self, interface: str | None, index: int, source: IPAddress | None = None) -> None:
        self.interface = interface
        self.index = index
        self._sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW)
        try:
            self._sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_HDRINCL, 1)
            self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
            if interface is not None:
                self._sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, interface.encode() + b"\0")
                self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            if source is not None:
                self._sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
                self._sock.bind((str(source), 0, 0, index))
        except BaseException:
            self._sock.close()
            raise

    def send(self, packet: bytes | bytearray, destination: str, *, direct: bool) -> int:
        """Send one packet; 0 or the errno. A multicast (``direct``) or link-local destination needs no route."""
        scope = self.index if direct or destination.startswith("fe80:") else 0
        try:
            self._sock.sendto(packet, (destination, 0, 0, scope))
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()
