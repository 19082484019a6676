"""Gratuitous ARP: tells the neighbours where an address lives now.

As keepalived since 1.2: an ARP *request*, broadcast, sender and target address = the virtual one (RFC 5227 section 3 calls it an ARP
announcement); never a reply.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import Counter, deque
from ipaddress import IPv4Address

from vrrp.protocol.packet import IPAddress

ETH_P_ARP = 0x0806
MAX_QUEUED = 10_000
_BROADCAST = b"\xff" * 6
_ARP = struct.Struct("!HHBBH6s4s6s4s")


def gratuitous_arp(mac: bytes, address: IPv4Address) -> bytes:
    """The Ethernet frame of one announcement from ``mac`` (6 bytes)."""
    arp = _ARP.pack(1, 0x0800, 6, 4, 1, mac, address.packed, _BROADCAST, address.packed)
    return _BROADCAST + mac + ETH_P_ARP.to_bytes(2, "big") + arp


class Announcer:
    """Sends the announcements of one family (here: ARP) out of one interface; opened once, so that a takeover does not wait for it.

    ``interval_ns``: the pause between two announcements on this interface (vrrp_garp_interval,
    vrrp_gna_interval); 0 = none. ``due_ns``: when
    ``flush`` has work.
    """

    def __init__(self, interface: str, index: int, mac: bytes, interval_ns: int = 0) -> None:
        self.interface = interface
        self.index = index
        self.mac = mac
        self.interval_ns = interval_ns
        self.due_ns: int | None = None
        self.failures: Counter[int] = Counter()
        self._queue: deque[IPAddress] = deque(maxlen=MAX_QUEUED)
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
        if not self.interval_ns:
            self._send(address)
            return
        self._queue.append(address)
        if self.due_ns is None:
            self.due_ns = at_ns
            self.flush(at_ns)

    def flush(self, at_ns: int) -> None:
        """Send what the pause allows."""
        while self.due_ns is not None and self.due_ns <= at_ns:
            if self._queue:
                self._send(self._queue.popleft())
                self.due_ns += max(self.interval_ns, at_ns - self.due_ns)
            else:
                self.due_ns = None

    def cancel(self, address: IPAddress) -> None:
        """Forget queued announcements of an address that we no longer hold."""
        if self._queue:
            self._queue = deque((a for a in self._queue if a != address), maxlen=MAX_QUEUED)

    def _frame(self, address: IPAddress) -> bytes:
        assert isinstance(address, IPv4Address)
        return gratuitous_arp(self.mac, address)

    def _send(self, address: IPAddress) -> None:
        frame = self._frames.get(address) or self._frame(address)
        try:
            self._sock.send(frame)
        except OSError as error:
            self.failures[error.errno or errno.EIO] += 1

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()
