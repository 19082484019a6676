"""What this kernel holds: addresses, links and carriers, as they change. The truth of evidence K1."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable

from base.clock import now_ns
from base.core import NS_PER_S
from base.pump import Pump
from watchdog.config.model import LinkAddress
from watchdog.frames.heartbeat import LinkMac
from watchdog.frames.node_fields import MAX_MACS
from watchdog.judgement.events import (
    AddressChanged,
    AddressesListed,
    CarrierChanged,
    CommandFailed,
    HeldAddress,
    LinkMacsChanged,
    WatcherEvent,
)
from watchdog.probing.rtnetlink import Address, Change, KernelDump, Link, delete_address, dump, open_monitor, parse

RETRY_NS = NS_PER_S
_READ_BYTES = 1 << 17
_MAX_READS_PER_WAKE = 64
_MAX_THROWN_AWAY = 20_000
_MAC_CHARACTERS = 17
_SHARES_LAN = ("macvlan", "ipvlan")
"""Links that put frames on the LAN of the interface below them; a vlan is a LAN of its own."""
_VRRP_MACS = ("00:00:5e:00:01:", "00:00:5e:00:02:")


class KernelMonitor:
    """Follows the kernel over netlink and reports AddressChanged, CarrierChanged (of watched interfaces only), and AddressesListed
    whenever everything had to be listed anew. Raises OSError if netlink is not there at start.

    Nothing is reported before ``report_all``; ``held`` and the MACs are right from the start.
    """

    def __init__(self, pump: Pump, emit: Callable[[WatcherEvent], None]) -> None:
        self._pump = pump
        self._emit = emit
        self._links: dict[int, Link] = {}
        self._addresses: dict[tuple[int, str], Address] = {}
        self._watched: frozenset[str] = frozenset()
        self._carriers: dict[str, bool] = {}
        self._never_foreign: dict[str, frozenset[str]] = {}
        self._indexes: dict[str, int] = {}
        self._forwarding: dict[int, bool] = {}
        self._meanwhile: list[Change] | None = None
        """What was told while everything is being listed anew; None = nothing is."""
        self._lost_meanwhile = False
        self._reported_macs: LinkMacsChanged | None = None
        self._reporting = False
        self.overruns = 0
        self._retry_ns: int | None = None
        self._socket = open_monitor()
        try:
            self._replace(dump())
        except BaseException:
            self._socket.close()
            raise
        pump.add_reader(self._socket, self._drain)

    def watch(self, interfaces: Iterable[str]) -> None:
        """Report the carrier of these interfaces; one that does not exist has none."""
        self._watched = frozenset(interfaces)
        self._carriers = {name: up for name, up in self._carriers.items() if name in self._watched}
        self._report_carriers()
        self._report_macs()

    def report_all(self) -> None:
        """Report the present carriers, and every change from now on."""
        self._reporting = True
        self._carriers.clear()
        self._report_carriers()
        self._reported_macs = None
        self._report_macs()

    def held(self) -> tuple[HeldAddress, ...]:
        """Every usable address of this kernel."""
        return tuple(HeldAddress(self._name(a.index), a.address, self._lan(a.index)) for a in self._addresses.values() if a.usable)

    def addresses_of(self, interface: str) -> tuple[str, ...]:
        """The usable addresses of one interface, in the kernel's order."""
        return tuple(a.address for a in self._addresses.values() if a.usable and self._name(a.index) == interface)

    def node_macs(self) -> tuple[str, ...]:
        """MACs that mean this node and no other: those of VRRP virtual routers are left out."""
        macs = {link.mac for link in self._links.values() if link.mac and any(c not in "0:" for c in link.mac)}
        return tuple(sorted(mac for mac in macs if not mac.startswith(_VRRP_MACS)))

    def link_macs(self) -> tuple[LinkMac, ...]:
        """The MACs of the watched interfaces, and of what rides on them with a MAC of its own; those of VRRP virtual routers are told by
        the configuration. The peer pins these."""
        by_name = {link.name: link for link in self._links.values()}
        watched = [by_name[name] for name in sorted(self._watched) if name in by_name]
        below = {link.index for link in watched}
        riders = [link for link in self._links.values() if link.kind in _SHARES_LAN and link.lower in below and link not in watched]
        told = [link for link in (*watched, *sorted(riders, key=lambda link: link.name)) if len(link.mac) == _MAC_CHARACTERS]
        return tuple(LinkMac(link.name, link.mac) for link in told if not link.mac.startswith(_VRRP_MACS))[:MAX_MACS]

    def macs_never_foreign_on(self, interface: str) -> frozenset[str]:
        """MACs whose frames, *received* on ``interface``, are our own.

        Those of a macvlan on this very interface are missing: its frames leave by it and do not come back, so a received one is
        of somebody with the same virtual MAC. On any other interface they are our own, heard over the segment.
        """
        known = self._never_foreign.get(interface)
        if known is None:
            known = self._never_foreign[interface] = self._find_never_foreign(interface)
        return known

    def _find_never_foreign(self, interface: str) -> frozenset[str]:
        index = next((link.index for link in self._links.values() if link.name == interface), 0)
        here = {link.mac for link in self._links.values() if link.lower == index and link.kind == "macvlan"}
        base = self._links[index].mac if index else ""
        return frozenset(link.mac for link in self._links.values() if link.mac and (link.mac not in here or link.mac == base))

    def mac_of(self, interface: str) -> str:
        """The MAC of an interface, or ""."""
        link = self._links.get(self._index(interface))
        return link.mac if link is not None else ""

    def holds(self, at: LinkAddress) -> bool:
        """Whether this kernel holds the address on that very interface."""
        return (self._index(at.interface), at.address) in self._addresses

    def forwards_ipv6(self, interface: str) -> bool:
        """Whether the interface is a router's (net.ipv6.conf.INTERFACE.forwarding), as the kernel told it last."""
        return self._forwarding.get(self._index(interface), False)

    def remove_address(self, interface: str, address: str) -> None:
        """Delete an address, beside the loop; a failure is reported as CommandFailed. One that is already gone is no failure."""
        wanted = self._addresses.get((self._index(interface), address))
        if wanted is None:
            return

        def failed(error: OSError) -> None:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.ENODEV):
                self._emit(CommandFailed("RemoveAddress", f"{address} on {interface}: {error.strerror}"))

        if not self._pump.aside.run(lambda: delete_address(wanted), None, failed):
            failed(OSError(errno.EAGAIN, "too much is under way"))

    def next_deadline(self) -> int | None:
        """When to list everything again because it failed, else None."""
        return self._retry_ns

    def on_deadline(self, at_ns: int) -> None:
        """List again if that is due."""
        if self._retry_ns is not None and at_ns >= self._retry_ns:
            self._resync()

    def close(self) -> None:
        """Stop following."""
        self._pump.remove_reader(self._socket)
        self._socket.close()

    # ---- following ----------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        for _ in range(_MAX_READS_PER_WAKE):
            try:
                data = self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError:  # ENOBUFS: notifications were lost; whatever else it may be, a full list makes it good
                self._resync()
                return
            for change in parse(data):
                if self._meanwhile is not None:
                    self._meanwhile.append(change)
                self._apply(change)

    def _resync(self) -> None:
        """The kernel dropped notifications: throw away what is queued (a later word may be among what was lost), list everything beside
        the loop. What is told from here on is whole: said again after the list, in order, it ends with the newest word."""
        self.overruns += 1
        self._retry_ns = None
        if self._meanwhile is not None:
            self._lost_meanwhile = True
            return
        self._meanwhile, self._lost_meanwhile = [], False
        for _ in range(_MAX_THROWN_AWAY):
            try:
                self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                continue
        if not self._pump.aside.run(dump, self._listed, self._not_listed):
            self._not_listed(OSError(errno.EAGAIN, "too much is under way"))

    def _listed(self, everything: KernelDump) -> None:
        meanwhile, self._meanwhile = self._meanwhile or [], None
        reporting, self._reporting = self._reporting, False
        self._replace(everything)
        for change in meanwhile:
            self._apply(change)
        self._reporting = reporting
        if self._lost_meanwhile:
            self._resync()
            return
        if self._reporting:
            self._emit(AddressesListed(self.held()))
        self._report_carriers()
        self._report_macs()

    def _not_listed(self, error: OSError) -> None:
        self._meanwhile = None
        self._retry_ns = now_ns() + RETRY_NS
        self._emit(CommandFailed("list the kernel's addresses", str(error)))

    def _replace(self, everything: KernelDump) -> None:
        self._links = {link.index: link for link in everything.links}
        self._never_foreign.clear()
        self._indexes.clear()
        self._forwarding = dict(everything.forwarding)
        self._addresses = {(a.index, a.address): a for a in everything.addresses}

    def _apply(self, change: Change) -> None:
        if change.forwarding is not None:
            index, forwards = change.forwarding
            self._forwarding[index] = forwards
        elif change.link is not None:
            self._never_foreign.clear()
            self._indexes.clear()
            if change.present:
                self._links[change.link.index] = change.link
            else:
                for key in [key for key in self._addresses if key[0] == change.link.index]:
                    self._set(key, None)
                self._links.pop(change.link.index, None)
                self._forwarding.pop(change.link.index, None)
            self._report_carriers()
            self._report_macs()
        elif change.address is not None:
            self._set((change.address.index, change.address.address), change.address if change.present else None)

    def _set(self, key: tuple[int, str], address: Address | None) -> None:
        before = self._addresses.get(key)
        if address is None:
            self._addresses.pop(key, None)
        else:
            self._addresses[key] = address
        was, held = before is not None and before.usable, address is not None and address.usable
        if was != held and self._reporting:
            self._emit(AddressChanged(self._name(key[0]), key[1], held, self._lan(key[0])))

    def _report_carriers(self) -> None:
        if not self._reporting:
            return
        by_name = {link.name: link.carrier for link in self._links.values()}
        for name in sorted(self._watched):
            up = by_name.get(name, False)
            if self._carriers.get(name) is not up:
                self._carriers[name] = up
                self._emit(CarrierChanged(name, up))

    def _report_macs(self) -> None:
        macs = LinkMacsChanged(self.node_macs(), self.link_macs())
        if self._reporting and macs != self._reported_macs:
            self._reported_macs = macs
            self._emit(macs)

    def _index(self, interface: str) -> int:
        if not self._indexes:
            self._indexes = {link.name: link.index for link in self._links.values()}
        return self._indexes.get(interface, 0)

    def _lan(self, index: int) -> str:
        """The interface whose LAN an address there owns, "" if it is the same."""
        link = self._links.get(index)
        return self._name(link.lower) if link is not None and link.kind in _SHARES_LAN and link.lower else ""

    def _name(self, index: int) -> str:
        link = self._links.get(index)
        return link.name if link else f"index {index}"
