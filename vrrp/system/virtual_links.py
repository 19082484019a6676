"""Keeps the macvlans and ipvlans of virtual routers in the kernel: makes, adopts and restores them.

As keepalived: private mode, up all the time on every node, no address made of the MAC, arp_ignore, accept_local and promote_secondaries on,
rp_filter off, IPv6 off where it is not needed. Different on purpose: IPv6 is also off on a macvlan while its router is not MASTER.
Keepalived leaves it on, with the link-local address of the interface below: a BACKUP then answers for that address with the virtual MAC,
and its multicast reports teach switches the wrong port (it needs firewall rules against the latter).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from ipaddress import IPv6Address
from pathlib import Path

from base.core import NS_PER_S
from base.log import Log
from vrrp.config.model.links import LinkKind, VirtualLink
from vrrp.protocol.packet import IPAddress
from vrrp.system.interfaces import Interface, InterfaceTable
from vrrp.system.link_messages import (
    ACCEPT_LOCAL,
    ARP_IGNORE,
    PROMOTE_SECONDARIES,
    RP_FILTER,
    ipv4_settings_message,
    ipvlan_message,
    link_group_message,
    link_removal_message,
    link_up_message,
    macvlan_message,
    no_link_local_message,
)
from vrrp.system.netlink import MACVLAN_PRIVATE, RTM_GETLINK, CommandSocket, address_message, dump
from vrrp.system.routing import Pace

IPV6_CONF = Path("/proc/sys/net/ipv6/conf")
IPV4_SETTINGS = {ARP_IGNORE: 1, ACCEPT_LOCAL: 1, RP_FILTER: 0, PROMOTE_SECONDARIES: 1}
IPV6_SETTINGS = {ARP_IGNORE: 1}
"""For a macvlan that carries IPv6 only: it must not answer ARP for the addresses of other interfaces (keepalived since 2.3)."""


class LiveLink:
    """One link that is in the kernel, and the instances that are MASTER on it."""

    def __init__(self, spec: VirtualLink, index: int, log: Log) -> None:
        self.spec = spec
        self.index = index
        self._masters: set[str] = set()
        self._log = log

    @property
    def awake(self) -> bool:
        """Is IPv6 on? Always True where it would not matter."""
        return not self._sleeps or bool(self._masters)

    @property
    def _sleeps(self) -> bool:
        return self.spec.ipv6 and self.spec.kind is LinkKind.MACVLAN

    def wake(self, instance: str) -> None:
        """Before the first packet of a MASTER."""
        if self._sleeps and not self._masters:
            self._switch_ipv6(on=True)
        self._masters.add(instance)

    def quiet(self, instance: str) -> None:
        """No MASTER any more: nothing may leave with the virtual MAC."""
        self._masters.discard(instance)
        if self._sleeps and not self._masters:
            self._switch_ipv6(on=False)

    def set_up(self, masters: Iterable[str] = ()) -> None:
        """IPv6 as it must be now. It asks for no router: a default route by the macvlan would be the same one once more."""
        self._masters.update(masters)
        if self.spec.kind is LinkKind.MACVLAN:
            self._set_ipv6("accept_ra", "0")
        self._switch_ipv6(on=self.spec.ipv6 and self.awake)

    def masters(self) -> frozenset[str]:
        """Who is MASTER on it."""
        return frozenset(self._masters)

    def _switch_ipv6(self, *, on: bool) -> None:
        self._set_ipv6("disable_ipv6", "0" if on else "1")

    def _set_ipv6(self, setting: str, value: str) -> None:
        try:
            (IPV6_CONF / self.spec.name / setting).write_text(value)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):  # a kernel without IPv6, or the link is just gone
                self._log.limited(f"ipv6 {self.spec.name}", f"cannot set {setting} of {self.spec.name}: {error.strerror}")


class VirtualLinks:
    """``tell(instance, detail)`` hears of a link that had to be made again."""

    def __init__(self, log: Log, interfaces: InterfaceTable, tell: Callable[[str, str], None]) -> None:
        self.live: dict[str, LiveLink] = {}
        self.problems: dict[str, str] = {}
        """Name of a link that is wanted and not there → why."""
        self.restored = 0
        self.due_ns: int | None = None
        """When ``ensure`` should be called again for a link that waits."""
        self._wanted: dict[str, VirtualLink] = {}
        self._log = log
        self._interfaces = interfaces
        self._tell = tell
        self._netlink = CommandSocket()
        self._paces: dict[str, Pace] = {}

    # ---- making ---------------------------------------------------------------------------------------------------

    def ensure(self, at_ns: int, wanted: Iterable[VirtualLink]) -> None:
        """Make every link that is missing; the interface table knows them afterwards. Those wanted no more stay until ``tidy``."""
        self._wanted = {link.name: link for link in wanted}
        self.problems = {}
        self.due_ns = None
        fresh = [link for link in self._wanted.values() if not self._is_in_place(at_ns, link)]
        if not fresh:
            return
        self._interfaces.resync()
        for link in fresh:
            made = self._interfaces.get(link.name)
            if made is None:
                self.problems.setdefault(link.name, f"{link.name} is gone again")
            elif link.name not in self.problems:
                self._set_up(link, made.index)
        self._interfaces.resync()

    def _is_in_place(self, at_ns: int, link: VirtualLink) -> bool:
        """Nothing to do, or nothing can be done now? Else the link is there, or made here, and must be set up."""
        base = self._interfaces.get(link.base)
        if base is None:
            self.live.pop(link.name, None)  # the kernel removes a link with what it rides on
            return True
        if base.kind in ("macvlan", "ipvlan") and base.lower:
            base = self._interfaces.at(base.lower) or base  # what rides on a macvlan, the kernel puts on the interface below that
        found, before = self._interfaces.get(link.name), self.live.get(link.name)
        if found is not None and _fits(link, found, base):
            if before is not None and (before.spec, before.index) == (link, found.index):
                return True
            self._log.info(f"{link.name} on {link.base} is there already and is used")
            return False
        if found is not None and found.kind not in ("macvlan", "ipvlan"):
            self.problems[link.name] = f"{link.name} exists and is no {link.kind.value}"
            return True
        pace = self._paces.setdefault(link.name, Pace())
        if before is not None and found is None and at_ns < pace.next_ns:
            self.problems[link.name] = f"somebody keeps deleting {link.name}; it is made again in {pace.pause_ns / NS_PER_S:g} s"
            self.due_ns = pace.next_ns if self.due_ns is None else min(self.due_ns, pace.next_ns)
            return True
        if found is not None:
            self._log.info(f"{link.name} is there, but not as it must be; it is made anew")
            self._remove(found.index)
        if problem := self._make(link, base):
            self.problems[link.name] = problem
            self._log.limited(f"make {link.name}", f"({link.owner}) {problem}")
            return found is None
        if before is not None and found is None:
            pace.slow_down(at_ns)
            self.restored += 1
            self._tell(link.owner, f"somebody deleted {link.name}; it is made again")
        else:
            self._log.info(f"{link.name} made on {link.base}")
        return False

    def _make(self, link: VirtualLink, base: Interface) -> str:
        group = link.group or base.group
        if link.kind is LinkKind.MACVLAN:
            self._make_way(link, base)
            message = macvlan_message(link.name, base.index, link.mac, group=group)
        else:
            message = ipvlan_message(link.name, base.index, link.ipvlan_mode, group=group)
        failures = self._netlink.execute(message)
        if not failures:
            return ""
        text = f"the kernel has no {link.kind.value}" if failures[0] == errno.EOPNOTSUPP else os.strerror(failures[0])
        return f"{link.name} cannot be made on {link.base}: {text}"

    def _make_way(self, link: VirtualLink, base: Interface) -> None:
        """A macvlan of ours with this MAC under a former name: the kernel lets only one of them be up."""
        for name, live in list(self.live.items()):
            if name not in self._wanted and live.spec.mac == link.mac and live.spec.base == link.base:
                self._remove(live.index)
                del self.live[name]

    def _set_up(self, link: VirtualLink, index: int) -> None:
        before, live = self.live.get(link.name), LiveLink(link, index, self._log)
        settings = IPV6_SETTINGS if link.ipv6 else IPV4_SETTINGS
        live.set_up(() if before is None else before.masters())
        blob = no_link_local_message(index) if link.kind is LinkKind.MACVLAN else b""
        blob += ipv4_settings_message(index, settings) + link_up_message(index)
        if link.group:
            blob += link_group_message(index, link.group)
        if link.address is not None:
            own = link.address
            blob += address_message(add=True, index=index, address=own.address, prefix_length=own.prefix_length)
        for code in self._netlink.execute(blob, tolerate=(errno.EEXIST, errno.EAFNOSUPPORT)):
            self._log.limited(f"set up {link.name}", f"({link.owner}) {link.name} cannot be set up: {os.strerror(code)}")
        self.live[link.name] = live

    # ---- removing -------------------------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Remove what ``ensure`` was not asked for any more."""
        self._drop([name for name in self.live if name not in self._wanted])

    def remove_all(self) -> None:
        """The end of the daemon."""
        self._wanted = {}
        self._drop(list(self.live))

    def _drop(self, names: list[str]) -> None:
        for name in names:
            live = self.live.pop(name)
            found = self._interfaces.at(live.index)
            if found is not None and found.name != name:
                continue  # somebody renamed it: it is his now
            self._remove(live.index)
            base = self._interfaces.get(live.spec.base)
            if live.spec.notify_base and base is not None:
                self._netlink.execute(link_group_message(base.index, base.group))

    def _remove(self, index: int) -> None:
        for code in self._netlink.execute(link_removal_message(index), tolerate=(errno.ENODEV,)):
            self._log.error(f"the kernel refused to remove an interface: {os.strerror(code)}")

    def will_of(self, owner: str) -> bytes:
        """Messages that remove the links of this instance after our death."""
        return b"".join(link_removal_message(live.index) for live in self.live.values() if live.spec.owner == owner)

    # ---- asking ---------------------------------------------------------------------------------------------------

    def on(self, index: int) -> LiveLink | None:
        """The link with this interface index."""
        return next((live for live in self.live.values() if live.index == index), None)

    def settle(self) -> None:
        """Return when the kernel has finished what it is doing to interfaces."""
        dump(RTM_GETLINK)

    def signature(self) -> object:
        """Changes when ``ensure`` would have something to do."""
        found = []
        for link in self._wanted.values():
            interface, base = self._interfaces.get(link.name), self._interfaces.get(link.base)
            found.append((link.name, _identity(interface), None if base is None else base.index))
        return tuple(found)

    def close(self) -> None:
        """Close the socket; the links stay."""
        self._netlink.close()


def _identity(interface: Interface | None) -> object:
    return None if interface is None else (interface.index, interface.mac, interface.kind, interface.mode, interface.lower)


def _fits(link: VirtualLink, found: Interface, base: Interface) -> bool:
    if found.kind != link.kind.value or found.lower != base.index:
        return False
    return (found.mac, found.mode) == (link.mac, MACVLAN_PRIVATE) if link.kind is LinkKind.MACVLAN else found.mode == 0


def link_local_of(mac: bytes) -> IPAddress:
    """The link-local address that the kernel makes of a MAC (RFC 4291 appendix A)."""
    host = bytes((mac[0] ^ 2, mac[1], mac[2], 0xFF, 0xFE, mac[3], mac[4], mac[5]))
    return IPv6Address(bytes((0xFE, 0x80)) + bytes(6) + host)
