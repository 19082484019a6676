"""Puts the tables of no_accept back when somebody takes them out: ``nft flush ruleset``, a reload of the host's own firewall.

The kernel tells of every change of any nft table; a look follows, and only what differs is replaced. Who keeps removing it makes the pauses
grow as with routes (routing.Pace). With ``nftables_ifindex`` a change of the interfaces is a reason to look too.
"""

from __future__ import annotations

import socket
from functools import partial

from base.clock import now_ns
from base.core import NS_PER_S
from base.log import Log
from base.pump import Pump
from vrrp.system.firewall import Firewall
from vrrp.system.routing import FIRST_PAUSE_NS, Pace
from vrrp.system.timers import Timers

_NETLINK_NETFILTER = 12
_NFNLGRP_NFTABLES = 7
_RTNLGRP_LINK = 1
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP = 270, 1
_DRAIN_LIMIT = 1000


class FirewallGuard:
    """Watches as long as ``firewall`` has rules; a part of the parent, which may wait for ``nft``."""

    def __init__(self, pump: Pump, timers: Timers, firewall: Firewall, log: Log) -> None:
        self.restored = 0
        """How often the tables had to be put back."""
        self._pump = pump
        self._timers = timers
        self._firewall = firewall
        self._log = log
        self._sockets: list[socket.socket] = []
        self._pace = Pace()
        self._due = False

    def watch(self) -> None:
        """Begin after ``Firewall.apply``, or end if there are no rules any more."""
        if not self._firewall.active:
            self.close()
        elif not self._sockets:
            try:
                self._sockets = [_subscribe(_NETLINK_NETFILTER, _NFNLGRP_NFTABLES), _subscribe(socket.NETLINK_ROUTE, _RTNLGRP_LINK)]
            except OSError as error:
                self._log.warning(f"the firewall rules of no_accept are set but not watched: {error}")
                return
            for sock in self._sockets:
                self._pump.add_reader(sock, partial(self._told, sock))

    def close(self) -> None:
        """Watch no more."""
        for sock in self._sockets:
            self._pump.remove_reader(sock)
            sock.close()
        self._sockets = []

    def _told(self, sock: socket.socket) -> None:
        for _ in range(_DRAIN_LIMIT):
            try:
                sock.recv(64)
            except BlockingIOError:
                break
            except OSError:
                continue  # an overrun: something changed
        if not self._due:
            self._due = True
            # Not at once: who replaces a firewall does it in several steps.
            self._timers.call_at(max(now_ns() + FIRST_PAUSE_NS, self._pace.next_ns), self._look)

    def _look(self) -> None:
        self._due = False
        if not self._sockets or self._firewall.in_place():
            return
        self._pace.slow_down(now_ns())
        pause = f"next look in {self._pace.pause_ns / NS_PER_S:g} s"
        if problem := self._firewall.put_back():
            self._log.error(f"the firewall rules of no_accept were changed and cannot be put back, {pause}: {problem}")
            self._due = True
            self._timers.call_at(self._pace.next_ns, self._look)
            return
        self.restored += 1
        self._log.limited("firewall put back", f"the firewall rules of no_accept were changed by somebody and are put back; {pause}")


def _subscribe(protocol: int, group: int) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    try:
        sock.bind((0, 0))
        sock.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
    except BaseException:
        sock.close()
        raise
    return sock
