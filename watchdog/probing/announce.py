"""Announce: tells the segment where an address lives that this node holds. Gratuitous ARP (RFC 5227 section 3: a request, sender and
target the address itself) or unsolicited neighbour advertisements (RFC 4861 section 7.2.6). Never for an address that is not held."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from base.arp import REQUEST, ArpPacket, encode_arp
from base.clock import now_ns
from base.core import NS_PER_MS
from base.ndp import unsolicited_advertisement
from watchdog.judgement.commands import Announce
from watchdog.judgement.events import CommandFailed, WatcherEvent
from watchdog.probing.kernel import KernelMonitor
from watchdog.probing.segment import BROADCAST

SPACING_NS = 50 * NS_PER_MS
MAX_COUNT = 20
MAX_PENDING = 512


@dataclass(slots=True)
class _Pending:
    left: int
    due_ns: int


class Announcer:
    """Sends the first announcement at once, the others SPACING_NS apart; a part with ``next_deadline`` and ``on_deadline``."""

    def __init__(self, kernel: KernelMonitor, emit: Callable[[WatcherEvent], None]) -> None:
        self._kernel = kernel
        self._emit = emit
        self._pending: dict[str, _Pending] = {}

    def announce(self, order: Announce) -> None:
        """Take an order; a failure is reported as CommandFailed. A second order for an address replaces the first."""
        if len(self._pending) >= MAX_PENDING and order.address not in self._pending:
            self._emit(CommandFailed("Announce", f"{order.address}: too many announcements under way"))
            return
        self._pending[order.address] = _Pending(min(max(1, order.count), MAX_COUNT), now_ns())
        self.on_deadline(now_ns())

    def next_deadline(self) -> int | None:
        """When the next announcement is due."""
        return min((p.due_ns for p in self._pending.values()), default=None)

    def on_deadline(self, at_ns: int) -> None:
        """Send what is due."""
        for address, pending in list(self._pending.items()):
            if pending.due_ns > at_ns:
                continue
            error = self._send(address)
            pending.left -= 1
            pending.due_ns = at_ns + SPACING_NS
            if error:
                self._emit(CommandFailed("Announce", f"{address}: {error}"))
            if error or not pending.left:
                del self._pending[address]

    def close(self) -> None:
        """Forget what was not sent yet."""
        self._pending.clear()

    def _send(self, address: str) -> str:
        # The kernel knows on which interface it lives: a VMAC's macvlan has another MAC than the interface below.
        interface = self._kernel.interface_of(address)
        if not interface:
            return "this node does not hold it"
        try:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0) as raw:
                raw.bind((interface, 0))
                mac: bytes = raw.getsockname()[4]
                raw.send(self._frame(address, mac))
        except OSError as error:
            return f"{interface}: {error.strerror or error}"
        return ""

    @staticmethod
    def _frame(address: str, mac: bytes) -> bytes:
        if ":" in address:
            return unsolicited_advertisement(mac, address)
        return encode_arp(ArpPacket(BROADCAST, mac, REQUEST, mac, address, address))
