"""Unsolicited Neighbor Advertisements: tells the IPv6 neighbours where an address lives now (RFC 4861 section 7.2.6).

As keepalived: from the virtual address to all nodes, Override set, Router set where this interface forwards (a router that forgets
the flag is removed from its hosts' default router lists), with the target's link-layer address.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

from vrrp.protocol.packet import IPAddress, internet_checksum
from vrrp.system.announce import Announcer, Pace

ALL_NODES = IPv6Address("ff02::1")
ETH_P_IPV6 = 0x86DD
LOOK_AGAIN_NS = 1_000_000_000
"""How old the knowledge about forwarding may be when something is announced."""
_ICMPV6 = 58
_NEIGHBOUR_ADVERTISEMENT = 136
_TARGET_LINK_ADDRESS = 2
_ROUTER, _OVERRIDE = 0x80000000, 0x20000000
_HOP_LIMIT = 255


def neighbour_advertisement(mac: bytes, address: IPv6Address, *, router: bool) -> bytes:
    """The Ethernet frame of one unsolicited advertisement from ``mac`` (6 bytes)."""
    flags = _OVERRIDE | (_ROUTER if router else 0)
    message = struct.pack("!BBHI16sBB6s", _NEIGHBOUR_ADVERTISEMENT, 0, 0, flags, address.packed, _TARGET_LINK_ADDRESS, 1, mac)
    pseudo = address.packed + ALL_NODES.packed + struct.pack("!IHBB", len(message), 0, 0, _ICMPV6)
    message = message[:2] + internet_checksum(pseudo + message).to_bytes(2, "big") + message[4:]
    header = struct.pack("!IHBB16s16s", 6 << 28, len(message), _ICMPV6, _HOP_LIMIT, address.packed, ALL_NODES.packed)
    destination = b"\x33\x33" + ALL_NODES.packed[-4:]
    return destination + mac + ETH_P_IPV6.to_bytes(2, "big") + header + message


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
        return neighbour_advertisement(self.mac, address, router=self._router)
