"""Gratuitous ARP: tells the neighbours where an address lives now.

As keepalived since 1.2: an ARP *request*, broadcast, sender and target address = the virtual one (RFC 5227 section 3 calls it an ARP
announcement); never a reply.
"""

from __future__ import annotations

import errno
import socket
from collections import Counter, deque
from ipaddress import IPv4Address

from base.arp import gratuitous_arp
from vrrp.protocol.packet import IPAddress

MAX_QUEUED = 10_000


class Pace:
    """The pause between two announcements of everybody who shares it (vrrp_garp_interval, vrrp_gna_interval, garp_group), 0 = none; they
    go out in the order in which they were asked for, whoever asked."""

    def __init__(self, interval_ns: int = 0) -> None:
        self.interval_ns = interval_ns
        self.ready_ns = 0
        """When the next one may go out."""
        self.waiting: deque[tuple[Announcer, IPAddress]] = deque()


class Announcer:
    """Sends the announcements of one family (here: ARP) out of one interface; opened once, so that a takeover does not wait for it.

    ``pace``: the pause between two announcements, perhaps shared with other interfaces.
    """

    def __init__(self, interface: str, index: int, mac: bytes, pace: Pace | None = None) -> None:
        self.interface = interface
        self.index = index
        self.mac = mac
        self.pace = pace or Pace()
        self.failures: Counter[int] = Counter()
        self._frames: dict[IPAddress, bytes] = {}
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
        try:
            self._sock.bind((interface, 0))
        except BaseException:
            self._sock.close()
            raise

    def prepare(self, address: IPAddress) -> None:
        """Build the frame of ``address`` now."""
        self._frames[address] = self._frame(address)

    def announce(self, at_ns: int, address: IPAddress) -> None:
        """Send one announcement now, or when the pause allows it. Failures are counted by errno."""
        if not self.pace.interval_ns:
            self._send(address)
            return
        if len(self.pace.waiting) < MAX_QUEUED:
            self.pace.waiting.append((self, address))
        self.flush(at_ns)

    @property
    def due_ns(self) -> int | None:
        """When ``flush`` has work."""
        waiting = self.pace.waiting
        return self.pace.ready_ns if waiting and waiting[0][0] is self else None

    def flush(self, at_ns: int) -> None:
        """Send what the pause allows."""
        pace = self.pace
        while pace.waiting and pace.waiting[0][0] is self and pace.ready_ns <= at_ns:
            self._send(pace.waiting.popleft()[1])
            pace.ready_ns = at_ns + pace.interval_ns

    def cancel(self, address: IPAddress) -> None:
        """Forget queued announcements of an address that we no longer hold."""
        if self.pace.waiting:
            self.pace.waiting = deque(item for item in self.pace.waiting if item != (self, address))

    def _frame(self, address: IPAddress) -> bytes:
        assert isinstance(address, IPv4Address)
        return gratuitous_arp(self.mac, str(address))

    def _send(self, address: IPAddress) -> None:
        frame = self._frames.get(address) or self._frame(address)
        try:
            self._sock.send(frame)
        except OSError as error:
            self.failures[error.errno or errno.EIO] += 1

    def close(self) -> None:
        """Close the socket; what waits is forgotten."""
        self.pace.waiting = deque(item for item in self.pace.waiting if item[0] is not self)
        self._sock.close()
