"""Keeps routes, rules and static entries in the kernel as long as they are wanted: those of every MASTER, and the static ones.

Reconciling needs no table of the kernel's routes: the add messages are sent again, and an acknowledgement without error means that the
entry was missing (EEXIST: it is there). A look is taken when the kernel tells of a deletion, or of a change of a link or an address
(IPv4 routes vanish silently with a link). Who keeps deleting makes the pauses grow, 0.25 s to 60 s, and it is said: we do not fight
for ever. A route that the kernel refuses does not end mastership (as keepalived); it is told and tried again at the same pace.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from base.core import NS_PER_S
from base.log import Log
from base.packetsocket import SO_RCVBUFFORCE, attach_filter
from vrrp.config.model.addresses import VirtualAddress
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.routing import Route, Rule
from vrrp.system.interfaces import InterfaceTable
from vrrp.system.netlink import address_message
from vrrp.system.routes import (
    RTM_DELROUTE,
    RTM_DELRULE,
    CannotEncode,
    Names,
    acknowledged,
    appended,
    describe,
    name_directories,
    numbered,
    route_message,
    rule_message,
)

STATIC = ""
"""The owner of the static entries; no instance has this name."""
FIRST_PAUSE_NS = NS_PER_S // 4
LONGEST_PAUSE_NS = 60 * NS_PER_S
CALM_NS = 120 * NS_PER_S
"""After so long without a deletion the next one is put back at once again."""
LAST_PREFERENCE = 16384
"""Rules without preference count down from here, as keepalived's."""
GONE = (errno.ESRCH, errno.ENOENT, errno.EADDRNOTAVAIL, errno.ENODEV)
_ERROR = struct.Struct("=IHHIIi")
_NLMSG_ERROR = 2
_RTMGRP_ROUTES_AND_RULES = 0x40 | 0x80 | 0x400 | 0x40000
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One route, rule or static address, encoded. ``tracked``: put back if somebody deletes it (no ``no_track``). ``group``: its
    track_group, "" = none."""

    text: str
    add: bytes
    remove: bytes
    tracked: bool
    group: str = ""


Plan = tuple[Entry, ...]
"""In the order of adding; removed in the opposite one."""


@dataclass(frozen=True, slots=True)
class RoutingNews:
    """Something to tell about ``owner`` (an instance, or STATIC): entries put back, or refused (``problem``)."""

    owner: str
    detail: str
    problem: bool = False


@dataclass(slots=True)
class Pace:
    """When an owner may be looked at again, and how often its entries had to be put back."""

    pause_ns: int = 0
    next_ns: int = 0
    last_ns: int = -(1 << 62)

    def slow_down(self, at_ns: int) -> None:
        """Something was missing: the pause starts at FIRST_PAUSE_NS, doubles each time, and falls back after CALM_NS."""
        calm = at_ns - self.last_ns > CALM_NS
        self.pause_ns = FIRST_PAUSE_NS if calm or not self.pause_ns else min(2 * self.pause_ns, LONGEST_PAUSE_NS)
        self.last_ns = at_ns
        self.next_ns = at_ns + self.pause_ns


class RoutingSocket:
    """Sends a plan as one blob and reads the kernel's answer to each message."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _BUFFER_BYTES)
        except OSError:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._sock.bind((0, 0))

    def add(self, entries: Sequence[Entry]) -> dict[int, int]:
        """Position → 0 (was missing, is there now) or errno (EEXIST: was there)."""
        return self._answers(b"".join(numbered(entry.add, number) for number, entry in enumerate(entries)))

    def remove(self, entries: Sequence[Entry]) -> dict[int, int]:
        """Position → errno of those that could not be removed. One that is not there is a success."""
        answers = self._answers(b"".join(numbered(entry.remove, number) for number, entry in enumerate(entries)))
        return {number: code for number, code in answers.items() if code and code not in GONE}

    def _answers(self, blob: bytes) -> dict[int, int]:
        answers: dict[int, int] = {}
        if not blob:
            return answers
        try:
            self._sock.send(blob)
        except OSError as error:
            return {0: error.errno or errno.EIO}
        while True:
            try:
                data = self._sock.recv(1 << 18)
            except BlockingIOError:
                return answers
            except OSError:
                continue  # an overrun: answers are lost, not entries
            at = 0
            while at + _ERROR.size <= len(data):
                length, kind, _flags, _sequence, _port, code = _ERROR.unpack_from(data, at)
                if kind == _NLMSG_ERROR:
                    answers[struct.unpack_from("=I", data, at + 28)[0]] = -code  # the sequence number of the message in question
                at += max(16, (length + 3) & ~3)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


class DeletionMonitor:
    """Becomes readable when any route or rule of this namespace was deleted; a filter keeps everything else out of the process."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        # The kernel loads big-endian, nlmsg_type has the host's order.
        kinds = [socket.htons(kind) for kind in (RTM_DELROUTE, RTM_DELRULE)]
        attach_filter(self._sock, [(0x28, 0, 0, 4), (0x15, 1, 0, kinds[0]), (0x15, 0, 1, kinds[1]), (0x06, 0, 0, 0x40000), (0x06, 0, 0, 0)])
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _BUFFER_BYTES)
        except OSError:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._sock.bind((0, _RTMGRP_ROUTES_AND_RULES))

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._sock.fileno()

    def drain(self, limit: int = 256) -> bool:
        """Was anything deleted? Lost events count as a deletion."""
        deleted = False
        for _ in range(limit):
            try:
                self._sock.recv(64)
            except BlockingIOError:
                break
            except OSError:
                pass
            deleted = True
        return deleted

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


class Routing:
    """Plans of every instance and of the static entries, and which of them are in force. ``tell`` takes the news."""

    def __init__(self, log: Log, tell: Callable[[int, RoutingNews], None]) -> None:
        self.plans: dict[str, Plan] = {}
        self.installed: dict[str, Plan] = {}
        self.restored: Counter[str] = Counter()
        self.refused_groups: frozenset[str] = frozenset()
        """The track_groups with a static entry that the kernel refuses."""
        self.due_ns: int | None = None
        """When ``check`` has work."""
        self._paces: dict[str, Pace] = {}
        self._log = log
        self._tell = tell
        self._socket = RoutingSocket()
        self._encoded: dict[tuple[object, ...], Entry] = {}
        self._signature: object = None
        self._names = Names()

    # ---- plans ----------------------------------------------------------------------------------------------------

    def configure(self, config: VrrpConfig, interfaces: InterfaceTable, renamed: Mapping[str, str] | None = None) -> None:
        """Encode what ``config`` wants; the kernel hears of it by ``refit``, ``install`` and ``remove``."""
        self._names = Names(name_directories(config.global_defs))
        preferences = itertools.count(LAST_PREFERENCE, -1)
        plans = {}
        for name, addresses, routes, rules in (
            (STATIC, config.static_addresses, config.static_routes, config.static_rules),
            *((model.name, (), model.routes, model.rules) for model in config.instances),
        ):
            placed = [rule if rule.priority is not None else replace(rule, priority=next(preferences)) for rule in rules]
            plans[name] = self._plan(interfaces, addresses, routes, placed)
        for old, new in (renamed or {}).items():
            if old in self.installed:
                self.installed[new] = self.installed.pop(old)
        self.plans = plans
        self._signature = self._indexes(config, interfaces)

    def outdated(self, config: VrrpConfig, interfaces: InterfaceTable) -> bool:
        """Did an interface of a route or static address appear, vanish or change its index?"""
        return self._indexes(config, interfaces) != self._signature

    def _indexes(self, config: VrrpConfig, interfaces: InterfaceTable) -> object:
        lines = [*config.static_routes, *(route for model in config.instances for route in model.routes)]
        names = {hop.interface for route in lines for hop in route.next_hops} | {a.interface for a in config.static_addresses}
        return tuple((name, getattr(interfaces.get(name), "index", None)) for name in sorted(names))

    def _plan(
        self, interfaces: InterfaceTable, addresses: Iterable[VirtualAddress], routes: Iterable[Route], rules: Iterable[Rule]
    ) -> Plan:
        def index_of(name: str) -> int | None:
            interface = interfaces.get(name)
            return None if interface is None else interface.index

        entries: list[Entry] = []
        lines: list[VirtualAddress | Route | Rule] = [*addresses, *routes, *rules]
        for line in lines:
            names = [line.interface] if isinstance(line, VirtualAddress) else []
            names += [hop.interface for hop in line.next_hops] if isinstance(line, Route) else []
            key = (line, *(index_of(name) for name in names))
            try:
                if key not in self._encoded:
                    self._encoded[key] = self._encode(line, index_of)
                entries.append(self._encoded[key])
            except CannotEncode as error:
                text = str(line) if isinstance(line, VirtualAddress) else describe(line)
                self._log.limited(f"not set {text}", f"{line.position}: {text} is not set: {error}")
        return tuple(entries)

    def _encode(self, line: VirtualAddress | Route | Rule, index_of: Callable[[str], int | None]) -> Entry:
        if isinstance(line, VirtualAddress):
            return _static_address(line, index_of(line.interface))
        if isinstance(line, Route):
            add, remove = (route_message(line, index_of, self._names, add=add) for add in (True, False))
        else:
            add, remove = (rule_message(line, self._names, add=add) for add in (True, False))
        return Entry(describe(line), add, remove, not line.no_track, line.track_group)

    # ---- in and out -----------------------------------------------------------------------------------------------

    def install(self, at_ns: int, owner: str) -> None:
        """Put the owner's plan into the kernel: an instance became MASTER, or the daemon starts (STATIC)."""
        before, plan = self.installed.get(owner, ()), self.plans.get(owner, ())
        self.installed[owner] = plan
        gone = [entry for entry in before if entry not in plan]
        if gone:
            # What is new comes first, behind the old: of two routes that differ in words that a removal cannot name, the kernel removes the
            # first. Where it takes both for the same, the new one is set when the old one is gone.
            self._socket.add([replace(entry, add=appended(entry.add)) for entry in plan if entry not in before])
            self._take_out(gone)
        self._refused(at_ns, owner, plan, self._socket.add(plan))

    def refit(self, at_ns: int) -> None:
        """Interfaces changed: every plan in force as it is encoded now."""
        for owner in list(self.installed):
            if owner in self.plans and self.installed[owner] != self.plans[owner]:
                self.install(at_ns, owner)

    def remove(self, owner: str) -> None:
        """Take out what is in force of this owner; what a dead predecessor may have left, if nothing is."""
        plan = self.installed.pop(owner, self.plans.get(owner, ()))
        self._take_out(plan)
        self._paces.pop(owner, None)

    def will_of(self, owner: str) -> bytes:
        """Messages that take the owner's entries out after our death."""
        return b"".join(entry.remove for entry in reversed(self.plans.get(owner, ())))

    def _take_out(self, plan: Iterable[Entry]) -> None:
        shared = {entry.remove for others in self.installed.values() for entry in others}
        gone = [entry for entry in reversed(tuple(plan)) if entry.remove not in shared]
        for number, code in self._socket.remove(gone).items():
            self._log.error(f"the kernel refused to remove {gone[number].text}: {os.strerror(code)}")

    def _refused(self, at_ns: int, owner: str, plan: Sequence[Entry], answers: Mapping[int, int]) -> bool:
        refused = [(plan[number], code) for number, code in sorted(answers.items()) if code not in (0, errno.EEXIST)]
        if owner == STATIC:
            self.refused_groups = frozenset(entry.group for entry, _code in refused if entry.group and entry.tracked)
        if not refused:
            return False
        pace = self._paces.setdefault(owner, Pace())
        pace.slow_down(at_ns)
        self._wake(pace.next_ns)
        entry, code = refused[0]
        more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
        detail = f"the kernel refused {entry.text}: {os.strerror(code)}{more}; next try in {pace.pause_ns / NS_PER_S:g} s"
        self._tell(at_ns, RoutingNews(owner, detail, True))
        return True

    # ---- reconciling ----------------------------------------------------------------------------------------------

    def suspect(self, at_ns: int) -> None:
        """Something of ours may be missing: look at the next deadline."""
        if any(self.installed.values()):
            self._wake(at_ns)

    def _wake(self, at_ns: int) -> None:
        self.due_ns = at_ns if self.due_ns is None else min(self.due_ns, at_ns)

    def check(self, at_ns: int) -> None:
        """Put back what is missing, of every owner whose pause is over."""
        if self.due_ns is None or at_ns < self.due_ns:
            return
        self.due_ns = None
        for owner, plan in self.installed.items():
            tracked = [entry for entry in plan if entry.tracked]
            if not tracked:
                continue
            pace = self._paces.get(owner)
            if pace is not None and at_ns < pace.next_ns:
                self._wake(pace.next_ns)
                continue
            answers = self._socket.add(tracked)
            back = [tracked[number] for number, code in sorted(answers.items()) if code == 0]
            if self._refused(at_ns, owner, tracked, answers) or not back:
                continue
            pace = self._paces.setdefault(owner, Pace())
            pace.slow_down(at_ns)
            self.restored[owner] += len(back)
            more = f" and {len(back) - 1} more" if len(back) > 1 else ""
            detail = f"{back[0].text}{more} was missing and is put back"
            if pace.pause_ns > NS_PER_S:
                detail += f"; somebody keeps removing it, the next look is in {pace.pause_ns / NS_PER_S:g} s"
            self._tell(at_ns, RoutingNews(owner, detail))

    def close(self) -> None:
        """Close the socket; the entries stay."""
        self._socket.close()


def _static_address(address: VirtualAddress, index: int | None) -> Entry:
    if index is None:
        raise CannotEncode(f"no interface {address.interface}")
    add, remove = (
        address_message(
            add=add,
            index=index,
            address=address.address,
            prefix_length=address.prefix_length,
            broadcast=address.broadcast,
            scope=address.scope,
            label=address.label,
            peer=address.peer,
            flags=int(address.flags),
            preferred_lft_s=address.preferred_lft_s,
        )
        for add in (True, False)
    )
    return Entry(f"static address {address} on {address.interface}", acknowledged(add), remove, not address.no_track, address.track_group)
