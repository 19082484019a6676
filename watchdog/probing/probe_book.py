"""Ownership probes under way, and which answer belongs to which request; shared by ARP and NDP.

An answer carries no number. It is given to the oldest request that its MAC has not answered yet; only when that MAC has answered
every request sent so far does it count as a *second* answer to the newest one. So a slow owner never looks like two, and two owners
behind one virtual MAC show two answers to one request.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TypeVar

from base.core import NS_PER_MS
from watchdog.config.model import LinkAddress
from watchdog.judgement.commands import ProbeOwners
from watchdog.judgement.events import ProbeFinished

MAX_PROBES = 1024
MAX_ANSWERS_PER_PROBE = 64
MAX_REQUESTS = 16
CLAIM_INTERVAL_NS = 100 * NS_PER_MS
MAX_CLAIMS_PER_INTERVAL = 64


MAX_ANSWERS_OF_A_MAC = 2 * MAX_REQUESTS
MAX_REMEMBERED = 256
MAX_REGULARS = 64
KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


def _remember(book: OrderedDict[KeyT, ValueT], key: KeyT, value: ValueT, most: int) -> None:
    """Newest last, bounded."""
    book[key] = value
    book.move_to_end(key)
    if len(book) > most:
        book.popitem(last=False)


@dataclass(slots=True)
class _Probe:
    order: ProbeOwners
    ends_ns: int
    next_ns: int | None
    spacing_ns: int
    sent: int = 0
    answers: int = 0
    by_mac: dict[str, int] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class Attribution:
    """An answer to a request of a probe."""

    probe_id: int
    request_index: int


class ProbeBook:
    """Bounded in everything. The requests of a probe are spread over the first half of its window."""

    def __init__(self) -> None:
        self._probes: dict[int, _Probe] = {}
        self._answered: OrderedDict[str, int] = OrderedDict()
        """MAC → the newest probe that it answered; the longest silent is forgotten first."""
        self._regulars: OrderedDict[str, None] = OrderedDict()
        """MACs that answered more than one probe: a flood of random ones leaves them their room (case A4)."""

    def start(self, now_ns: int, order: ProbeOwners) -> ProbeFinished | None:
        """Take a probe on; returns its end at once if it cannot be."""
        if len(self._probes) >= MAX_PROBES or order.probe_id in self._probes:
            return ProbeFinished(order.probe_id, order.interface, order.address, 0, "too many probes under way")
        window_ns = max(1, order.window_ms) * NS_PER_MS
        requests = min(max(1, order.requests), MAX_REQUESTS)
        self._probes[order.probe_id] = _Probe(order, now_ns + window_ns, now_ns, window_ns // (2 * requests))
        return None

    def due_requests(self, now_ns: int) -> list[ProbeOwners]:
        """Probes whose next request is to be sent now; tell ``sent`` or ``failed`` about each."""
        return [p.order for p in self._probes.values() if p.next_ns is not None and p.next_ns <= now_ns]

    def sent(self, now_ns: int, probe_id: int) -> None:
        """A request went out."""
        self._probes[probe_id].sent += 1
        self._plan_next(now_ns, self._probes[probe_id])

    def failed(self, now_ns: int, probe_id: int, error: str) -> None:
        """A request could not be sent."""
        self._probes[probe_id].error = error
        self._plan_next(now_ns, self._probes[probe_id])

    def _plan_next(self, now_ns: int, probe: _Probe) -> None:
        more = probe.sent < min(probe.order.requests, MAX_REQUESTS) and now_ns + probe.spacing_ns < probe.ends_ns
        probe.next_ns = now_ns + probe.spacing_ns if more else None

    def answered(self, at: LinkAddress, mac: str) -> list[Attribution]:
        """The probes of this address on this link that an answer of ``mac`` belongs to."""
        found = []
        for probe_id, probe in self._probes.items():
            asked = LinkAddress(probe.order.interface, probe.order.address)
            if asked != at or not probe.sent or not self._has_room(probe_id, probe, mac):
                continue
            count = probe.by_mac.get(mac, 0)
            probe.by_mac[mac] = count + 1
            found.append(Attribution(probe_id, min(count, probe.sent - 1)))
        return found

    def _has_room(self, probe_id: int, probe: _Probe, mac: str) -> bool:
        if mac in self._regulars:
            self._regulars.move_to_end(mac)
            return probe.by_mac.get(mac, 0) < MAX_ANSWERS_OF_A_MAC
        if probe.answers >= MAX_ANSWERS_PER_PROBE:
            return False
        probe.answers += 1
        if self._answered.get(mac, probe_id) not in self._probes:  # it answered one that is over
            _remember(self._regulars, mac, None, MAX_REGULARS)
        _remember(self._answered, mac, probe_id, MAX_REMEMBERED)
        return True

    def finish(self, now_ns: int) -> list[ProbeFinished]:
        """Probes whose whole window is over, or that could not be sent at all."""
        over = [probe_id for probe_id, p in self._probes.items() if p.ends_ns <= now_ns or (p.error and not p.sent)]
        ended = [(probe_id, self._probes.pop(probe_id)) for probe_id in over]
        return [
            ProbeFinished(probe_id, p.order.interface, p.order.address, p.sent, "" if p.sent else p.error or "not sent")
            for probe_id, p in ended
        ]

    def next_deadline(self) -> int | None:
        """The next request or end of a window."""
        times = [t for p in self._probes.values() for t in (p.ends_ns, p.next_ns) if t is not None]
        return min(times, default=None)


class Limiter:
    """Lets the same thing pass at most once per interval, and at most so many different ones: a storm costs the core nothing.

    What is new may use a quarter of the room: who was let through before is not kept out by a flood of strangers (case A4).
    """

    MAX_REMEMBERED = 1024

    def __init__(self, interval_ns: int, most_per_interval: int) -> None:
        self._interval_ns = interval_ns
        self._last_ns: OrderedDict[tuple[object, ...], int] = OrderedDict()
        self._interval_start_ns = 0
        self._in_interval = {False: 0, True: 0}
        self._room = {False: max(1, most_per_interval // 4), True: most_per_interval}

    def admits(self, now_ns: int, *thing: object) -> bool:
        """True if ``thing`` may be reported now."""
        last_ns = self._last_ns.get(thing)
        if last_ns is not None and now_ns - last_ns < self._interval_ns:
            return False
        if now_ns - self._interval_start_ns >= self._interval_ns:
            self._interval_start_ns, self._in_interval = now_ns, {False: 0, True: 0}
        known = last_ns is not None
        if self._in_interval[known] >= self._room[known]:
            return False
        self._in_interval[known] += 1
        self._last_ns[thing] = now_ns
        self._last_ns.move_to_end(thing)
        while len(self._last_ns) > self.MAX_REMEMBERED:
            self._last_ns.popitem(last=False)
        return True
