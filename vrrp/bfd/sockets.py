"""UDP sockets of BFD: one that receives per family and port, one that sends per session (RFC 5881 section 4, RFC 5883)."""

from __future__ import annotations

import errno
import random
import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address

from vrrp.bfd.settings import IPAddress, Peering

LOWEST_SOURCE_PORT = 49_152
HIGHEST_SOURCE_PORT = 65_535
PORT_ATTEMPTS = 64
MAX_BATCH = 128
_MAX_DATAGRAM = 512
_RECEIVE_BUFFER_BYTES = 1 << 20
_TOS_INTERNETWORK_CONTROL = 0xC0
_IP_RECVTTL = 12
_IP_PKTINFO = 8
_IP_FREEBIND = 15
_IPV6_RECVHOPLIMIT, _IPV6_HOPLIMIT = 51, 52
_IPV6_RECVPKTINFO, _IPV6_PKTINFO = 49, 50
_ANCILLARY_BYTES = 256


@dataclass(frozen=True, slots=True)
class Datagram:
    """What arrived. ``hop_limit``: TTL or hop limit, 0 if the kernel did not tell."""

    data: bytes
    source: IPAddress
    destination: IPAddress | None
    hop_limit: int


class ReceiveSocket:
    """Listens on one port for one family. Raises OSError."""

    def __init__(self, version: int, port: int) -> None:
        self.version, self.port = version, port
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        self._sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
            if version == 4:
                self._sock.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
                self._sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
                self._sock.bind(("0.0.0.0", port))
            else:
                self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                self._sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVHOPLIMIT, 1)
                self._sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
                self._sock.bind(("::", port))
        except OSError as error:
            self._sock.close()
            raise OSError(error.errno, f"cannot listen for BFD on UDP port {port}: {error.strerror}") from None

    def fileno(self) -> int:
        """The descriptor."""
        return self._sock.fileno()

    def drain(self) -> list[Datagram]:
        """What is there, at most MAX_BATCH."""
        found: list[Datagram] = []
        while len(found) < MAX_BATCH:
            try:
                data, ancillary, _flags, address = self._sock.recvmsg(_MAX_DATAGRAM, _ANCILLARY_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EINTR):
                    continue
                raise
            hop_limit, destination = _told(ancillary)
            found.append(Datagram(data, ip_address(address[0].partition("%")[0]), destination, hop_limit))
        return found

    def close(self) -> None:
        """Stop listening."""
        self._sock.close()


def _told(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, IPAddress | None]:
    hop_limit, destination = 0, None
    for level, kind, data in ancillary:
        if (level, kind) in ((socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, _IPV6_HOPLIMIT)):
            hop_limit = struct.unpack("=i", data[:4])[0]
        elif (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            destination = ip_address(data[8:12])
        elif (level, kind) == (socket.IPPROTO_IPV6, _IPV6_PKTINFO):
            destination = ip_address(data[:16])
    return hop_limit, destination


class SendSocket:
    """Sends the packets of one session, always from the same port out of 49152 to 65535. Raises OSError."""

    def __init__(self, peering: Peering) -> None:
        self._destination = (str(peering.neighbor), peering.port)
        family = socket.AF_INET if peering.neighbor.version == 4 else socket.AF_INET6
        self._sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            if peering.neighbor.version == 4:
                self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, peering.hop_limit)
                self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _TOS_INTERNETWORK_CONTROL)
            else:
                self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, peering.hop_limit)
                self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _TOS_INTERNETWORK_CONTROL)
            # The address may come later than we do (a tentative IPv6 address, a link that is down).
            self._sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
            self._bind("" if peering.source is None else str(peering.source))
        except OSError:
            self._sock.close()
            raise

    def _bind(self, source: str) -> None:
        for attempt in range(PORT_ATTEMPTS):
            port = random.SystemRandom().randint(LOWEST_SOURCE_PORT, HIGHEST_SOURCE_PORT)
            try:
                self._sock.bind((source, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE or attempt == PORT_ATTEMPTS - 1:
                    raise
            else:
                return

    def send(self, data: bytes) -> int:
        """Send; 0 or an errno. A packet that cannot leave is the neighbor's silence, not ours to repeat."""
        try:
            self._sock.sendto(data, self._destination)
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def close(self) -> None:
        """Close it."""
        self._sock.close()
