"""PURE: what a person must hear of beside the verdicts: a hold that does not hold, a record that cannot be written, a full disk.

A verdict says what is true of the pair; a trouble says what this node cannot do about it. Each is an incident of its own, with its own
page, whatever verdict is open (Promise 10): its scope is ``SCOPE#KIND``, for example ``51/4#hold_fails``.

Whoever sees the fact calls ``report`` as often as it likes; only changes have an effect. A trouble is paged when it has stood for its
patience, and its incident is closed when it has been gone for ``CLEAR_MS``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from base.core import NS_PER_MS
from watchdog.judgement.incidents import IncidentBook, Trouble
from watchdog.judgement.state import WatcherState

CLEAR_MS = 2_000


class Severity(Enum):
    """As alerts know them."""

    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class _Rule:
    severity: Severity
    patience_ms: int
    excusable: bool = True
    """Whether this node's own maintenance keeps it quiet."""


RULES: dict[Trouble, _Rule] = {
    Trouble.LAST_OWNER_LOST: _Rule(Severity.CRITICAL, 0, excusable=False),
    Trouble.SPLIT_LASTS: _Rule(Severity.CRITICAL, 0, excusable=False),
    Trouble.HOLD_FAILS: _Rule(Severity.CRITICAL, 0),
    Trouble.GATE_NOT_OBEYED: _Rule(Severity.CRITICAL, 5_000),
    Trouble.RECORD_SICK: _Rule(Severity.CRITICAL, 3_000),
    Trouble.DISK_LOW: _Rule(Severity.WARNING, 0),
    Trouble.FENCE_DEVICE_LOST: _Rule(Severity.WARNING, 0),
    Trouble.FENCE_LEVELS_GONE: _Rule(Severity.CRITICAL, 0),
    Trouble.MISCONFIGURED: _Rule(Severity.WARNING, 60_000),
    Trouble.SELF_FENCE_UNARMED: _Rule(Severity.CRITICAL, 0),
    Trouble.WITNESS_OUT: _Rule(Severity.WARNING, 0),
}


@dataclass(slots=True)
class _Standing:
    """One trouble that is there, or was until ``gone_ns``."""

    summary: str
    details: str
    since_ns: int
    told: bool = False


class Troubles:
    """The troubles of one watcher. ``scope`` is a group ("51/4") or the pair."""

    def __init__(self, state: WatcherState) -> None:
        self._state = state
        self._standing: dict[str, _Standing] = {}

    def report(self, now_ns: int, scope: str, trouble: Trouble, summary: str = "", details: str = "") -> None:
        """The trouble is there (``summary`` says in one line what a person must know), or it is not ("")."""
        place = place_of(scope, trouble)
        known = self._standing.get(place)
        if not summary:
            if known is not None:
                del self._standing[place]
                self.on_deadline(now_ns)
            return
        if known is None:
            self._standing[place] = _Standing(f"{self._state.settings.cluster} {scope}: {summary}", details, now_ns)
        self.on_deadline(now_ns)

    def holds(self, scope: str, trouble: Trouble) -> bool:
        """Whether it is there now."""
        return place_of(scope, trouble) in self._standing

    def forget(self, scope: str) -> None:
        """The group is not watched any more; its incidents are closed by the next ``on_deadline``."""
        for trouble in Trouble:
            self._standing.pop(place_of(scope, trouble), None)

    def on_deadline(self, now_ns: int) -> None:
        """Page what has stood for long enough, close what has been gone for long enough."""
        book = self._state.incidents
        for place, standing in self._standing.items():
            book.not_clear(place)
            if not standing.told and now_ns >= self._due_ns(place, standing):
                standing.told = True
                self._page(now_ns, place, standing)
        if self._state.settled(now_ns):  # what an earlier run left open is looked at anew first
            for place in [p for p in self._open(book) if p not in self._standing]:
                self._state.persist(*book.clear(now_ns, place, CLEAR_MS * NS_PER_MS))

    def next_deadline(self) -> int | None:
        """When a page is due, or an incident may be closed."""
        times = [self._due_ns(place, s) for place, s in self._standing.items() if not s.told]
        book = self._state.incidents
        for place in self._open(book):
            incident = book.open[place]
            if place not in self._standing:
                clear_ns = incident.clear_since_ns
                times.append(self._state.settled_from_ns if clear_ns is None else clear_ns + CLEAR_MS * NS_PER_MS)
        return min(times, default=None)

    def _due_ns(self, place: str, standing: _Standing) -> int:
        return standing.since_ns + RULES[trouble_of(place)].patience_ms * NS_PER_MS

    @staticmethod
    def _open(book: IncidentBook) -> list[str]:
        return [scope for scope, incident in book.open.items() if incident.trouble is not None]

    def _page(self, now_ns: int, place: str, standing: _Standing) -> None:
        state = self._state
        trouble = trouble_of(place)
        page = not (RULES[trouble].excusable and state.in_maintenance(now_ns))
        rows = state.incidents.raise_trouble(
            now_ns, place, trouble, RULES[trouble].severity.value, standing.summary, standing.details, state.epochs(), page
        )
        state.persist(*rows)
        state.publish(standing.summary)


def place_of(scope: str, trouble: Trouble) -> str:
    """The scope of a trouble's incident."""
    return f"{scope}#{trouble.value}"


def trouble_of(place: str) -> Trouble:
    """The kind of a trouble's incident, from its scope."""
    return Trouble(place.partition("#")[2])
