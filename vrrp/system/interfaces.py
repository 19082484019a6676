"""What this kernel's interfaces look like now: a table kept current by the netlink monitor."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TypeAlias

from vrrp.protocol.packet import IPAddress
from vrrp.system.netlink import RTM_GETADDR, RTM_GETLINK, AddressEvent, LinkEvent, NetlinkEvent, dump

IPNetwork: TypeAlias = IPv4Network | IPv6Network


@dataclass(slots=True)
class Interface:
    """One interface; ``LinkEvent`` tells what the fields are."""

    index: int
    name: str
    up: bool
    mac: bytes
    switched_on: bool = False
    kind: str = ""
    lower: int = 0
    mode: int = 0
    group: int = 0
    addresses: dict[IPAddress, dict[int, bool]] = field(default_factory=dict)
    """In the kernel's order: address → the prefix lengths that it is here with, and whether it is a secondary address with that one."""

    def note(self, event: LinkEvent) -> None:
        """What the kernel says of it now."""
        self.name, self.up, self.mac, self.switched_on = event.name, event.up, event.mac, event.switched_on
        self.kind, self.lower, self.mode, self.group = event.kind, event.lower, event.mode, event.group

    def primary_address(self, version: int, *, virtual: Container[IPAddress] = ()) -> IPAddress | None:
        """The first primary address of a family (IPv6: the first link-local one), as keepalived picks its source.

        ``virtual``: addresses that must not be picked because they are virtual (left over from a dead process).
        """
        for address, forms in self.addresses.items():
            if (
                address.version == version
                and not all(forms.values())
                and address not in virtual
                and (version == 4 or address.is_link_local)
            ):
                return address
        return None

    def connected(self, *, virtual: Container[IPAddress] = ()) -> frozenset[IPNetwork]:
        """The networks on this link, as the node's own (not the ``virtual``) addresses make them known."""
        own = ((address, length) for address, forms in self.addresses.items() if address not in virtual for length in forms)
        return frozenset(ip_network(pair, strict=False) for pair in own)

    def take(self, event: AddressEvent) -> None:
        """An address came or went, in one of its forms."""
        forms = self.addresses.setdefault(event.address, {})
        if event.gone:
            forms.pop(event.prefix_length, None)
        else:
            forms[event.prefix_length] = event.secondary
        if not forms:
            del self.addresses[event.address]


class InterfaceTable:
    """Every interface of this network namespace."""

    def __init__(self) -> None:
        self._by_index: dict[int, Interface] = {}
        self._by_name: dict[str, Interface] = {}

    def resync(self) -> None:
        """Read everything from the kernel."""
        self._by_index, self._by_name = {}, {}
        for event in dump(RTM_GETLINK) + dump(RTM_GETADDR):
            self.apply(event)

    def apply(self, event: NetlinkEvent) -> None:
        """Take one event of the monitor in."""
        interface = self._by_index.get(event.index)
        if isinstance(event, LinkEvent):
            self._by_name = {}
            if event.gone:
                self._by_index.pop(event.index, None)
            elif interface is None:
                interface = self._by_index[event.index] = Interface(event.index, event.name, event.up, event.mac)
            if not event.gone and interface is not None:
                interface.note(event)
        elif interface is not None:
            interface.take(event)

    def get(self, name: str) -> Interface | None:
        """The interface called ``name``."""
        if not self._by_name:
            self._by_name = {interface.name: interface for interface in self._by_index.values()}
        return self._by_name.get(name)

    def at(self, index: int) -> Interface | None:
        """The interface with this index."""
        return self._by_index.get(index)

    def addresses(self) -> set[IPAddress]:
        """Every address of every interface."""
        return {address for interface in self._by_index.values() for address in interface.addresses}

    def holds(self, address: IPAddress) -> bool:
        """Is the address on any interface?"""
        return any(address in interface.addresses for interface in self._by_index.values())
