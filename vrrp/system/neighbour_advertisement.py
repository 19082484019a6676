"""Unsolicited Neighbor Advertisements: tells the IPv6 neighbours where an address lives now (RFC 4861 section 7.2.6).

As keepalived: from the virtual address to all nodes, Override set, Router set where this interface forwards (a router that forgets
the flag is removed from its hosts' default router lists), with the target's link-layer address.
"""

from __future__ import annotations

from ipaddress import IPv6Address

from base.ndp import unsolicited_advertisement
from vrrp.protocol.packet import IPAddress
from vrrp.system.announce import Announcer, Pace

LOOK_AGAIN_NS = 1_000_000_000
"""How old the knowledge about forwarding may be when something is announced."""


def forwards_ipv6(interface: str) -> bool:
    """Is this interface a router's, by its sysctl?"""
    try:
        with open(f"/proc/sys/net/ipv6/conf/{interface}/forwarding", "rb") as file:
            return file.read(1) not in (b"0", b"")
    except OSError:
        return False


class NeighbourAnnouncer(Announcer):
    """An ``Announcer`` for IPv6. Whether we forward is looked at again before a set of announcements: it may change at any time."""

    def __init__(self, interface: str, index: int, mac: bytes, pace: Pace | None = None) -> None:
        super().__init__(interface, index, mac, pace)
        self._router = forwards_ipv6(interface)
        self._looked_ns = 0

    def announce(self, at_ns: int, address: IPAddress) -> None:
        """Send one advertisement now, or when the pause allows it. Failures are counted by errno."""
        if at_ns - self._looked_ns > LOOK_AGAIN_NS:
            self._looked_ns = at_ns
            router = forwards_ipv6(self.interface)
            if router != self._router:
                self._router = router
                self._frames.clear()
        super().announce(at_ns, address)

    def _frame(self, address: IPAddress) -> bytes:
        assert isinstance(address, IPv6Address)
        return unsolicited_advertisement(self.mac, str(address), router=self._router)
