"""Announce: tells the segment where an address lives that this node holds. Gratuitous ARP (RFC 5227 section 3: a request, sender and
target the address itself) or unsolicited neighbour advertisements (RFC 4861 section 7.2.6). Never for an address that is not held.

One socket sends on every interface for both families and stays open for as long as the daemon runs: closing a packet socket waits for an
RCU grace period, and a watcher that waits sends no heartbeat (case T1).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from base.arp import gratuitous_arp
from base.clock import now_ns
from base.core import NS_PER_MS
from base.ndp import unsolicited_advertisement
from base.packetsocket import ETH_P_ARP, ETH_P_IPV6
from watchdog.config.model import LinkAddress
from watchdog.judgement.commands import Announce
from watchdog.judgement.events import CommandFailed, WatcherEvent
from watchdog.probing.kernel import KernelMonitor

SPACING_NS = 50 * NS_PER_MS
MAX_COUNT = 20
MAX_PENDING = 512
MAX_PER_TURN = 32
"""Frames for one call: with hundreds of addresses the heartbeats come in between."""
TURN_NS = NS_PER_MS


@dataclass(slots=True)
class _Pending:
    left: int
    due_ns: int


class Announcer:
    """Sends the first announcement at once, the others SPACING_NS apart; a part with ``next_deadline`` and ``on_deadline``."""

    def __init__(self, kernel: KernelMonitor, emit: Callable[[WatcherEvent], None]) -> None:
        self._kernel = kernel
        self._emit = emit
        self._pending: dict[LinkAddress, _Pending] = {}
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)

    def announce(self, order: Announce) -> None:
        """Take an order; a failure is reported as CommandFailed. A second order for an address replaces the first."""
        at = LinkAddress(order.interface, order.address)
        if len(self._pending) >= MAX_PENDING and at not in self._pending:
            self._emit(CommandFailed("Announce", f"{at}: too many announcements under way"))
            return
        self._pending[at] = _Pending(min(max(1, order.count), MAX_COUNT), now_ns())

    def next_deadline(self) -> int | None:
        """When the next announcement is due."""
        return min((p.due_ns for p in self._pending.values()), default=None)

    def on_deadline(self, at_ns: int) -> None:
        """Send what is due, a bounded number at once."""
        sent = 0
        for at, pending in list(self._pending.items()):
            if pending.due_ns > at_ns:
                continue
            if sent >= MAX_PER_TURN:
                pending.due_ns = at_ns + TURN_NS
                continue
            sent += 1
            error = self._send(at)
            pending.left -= 1
            pending.due_ns = at_ns + SPACING_NS
            if error:
                self._emit(CommandFailed("Announce", f"{at}: {error}"))
            if error or not pending.left:
                del self._pending[at]

    def close(self) -> None:
        """Forget what was not sent yet."""
        self._pending.clear()
        self._socket.close()

    def _send(self, at: LinkAddress) -> str:
        if not self._kernel.holds(at):
            return "this node does not hold it"
        mac = bytes.fromhex(self._kernel.mac_of(at.interface).replace(":", ""))
        if len(mac) != 6:
            return "the interface has no ethernet address"
        if at.family == 6:
            frame, ethertype = unsolicited_advertisement(mac, at.address, router=self._kernel.forwards_ipv6(at.interface)), ETH_P_IPV6
        else:
            frame, ethertype = gratuitous_arp(mac, at.address), ETH_P_ARP
        try:
            self._socket.sendto(frame, (at.interface, ethertype))
        except OSError as error:
            return error.strerror or str(error)
        return ""
