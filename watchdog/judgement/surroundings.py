"""PURE: this node's own fitness: carriers, reference targets, what arrives on each interface, the local VRRP daemon (Promise 4).

Isolation needs a silence of ``silent_after_ms``: addresses are given up for it. Health is only compared with the peer's, so it may be
quicker: a reference that did not answer is asked again at once, and QUICK_ASKS questions in a row without an answer make it suspect.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from base.core import NS_PER_MS, JsonValue
from watchdog.config.model import ReferenceSettings
from watchdog.judgement.events import DaemonState
from watchdog.judgement.verdict import Isolation

ORPHAN_GRACE_MS = 500
ADVERT_SLACK_MS = 200
HURRIED_MS = 250
"""How soon an unanswered reference is asked again."""
HURRIED_ASKS = 12
"""After so many questions in a row without an answer it is asked at its own interval again."""
QUICK_ASKS = 4
COUNT_GAP_MS = 2_500
"""Readings that are further apart say nothing about the time between them."""
LEARN_ANEW_MS = 60_000
"""How long another MAC must answer beside a known one, while all is well, before it is a reference's too (a second gateway)."""
LEARN_REPLACED_MS = 5_000
"""The same, when none of the known MACs answers any more."""
MAX_MACS = 4
SEGMENT_SILENT_MS = 3_000
"""Nothing arrives on an interface for this long: shorter than the time in which a living pair alone makes itself heard there."""


@dataclass(slots=True)
class Segment:
    """What arrives on one interface. ``packets``: the kernel's counter as it was read last, at ``counted_ns``; ``heard_ns``: when it was
    seen to rise last, or read first. Only readings count: a counter that nobody reads says nothing."""

    packets: int
    counted_ns: int
    heard_ns: int

    def counted(self, now_ns: int, packets: int) -> None:
        """The counter was read."""
        if packets != self.packets or now_ns - self.counted_ns > COUNT_GAP_MS * NS_PER_MS:
            self.heard_ns = now_ns
        self.packets, self.counted_ns = packets, now_ns

    def is_silent(self, now_ns: int) -> bool:
        """Read for long enough, until lately, and nothing arrived."""
        lately = now_ns - self.counted_ns <= COUNT_GAP_MS * NS_PER_MS
        return lately and self.counted_ns - self.heard_ns >= SEGMENT_SILENT_MS * NS_PER_MS


@dataclass(slots=True)
class Reference:
    """A reference target: when it was asked and when it answered. ``asked_since_ns``: start of the present unbroken asking;
    ``unanswered``: questions since the last answer, the one under way included.

    Only answers from a *pinned* MAC count, one that was learnt while all was well (Promise 11): an isolated node is not talked out of its
    isolation by a stranger beside it. The first answer after a silence is in doubt until the next one confirms it.
    """

    settings: ReferenceSettings
    interface: str
    due_ns: int
    asked_since_ns: int | None = None
    asked_ns: int = 0
    answered_ns: int | None = None
    unanswered: int = 0
    pinned: dict[str, None] = field(default_factory=dict)
    in_doubt: bool = False
    stranger_ns: int | None = None
    replacement: str = ""
    """Another MAC that answered in good times; ``replacement_ns``: when it did last, whatever the times."""
    replacement_ns: int | None = None
    candidate: str = ""
    candidate_since_ns: int = 0

    def ask(self, now_ns: int) -> None:
        """It is asked now."""
        if self.asked_since_ns is None:
            self.asked_since_ns = now_ns
        self.asked_ns = now_ns
        self.unanswered += 1
        interval_ms = self.settings.interval_ms
        self.due_ns = now_ns + (min(HURRIED_MS, interval_ms) if self.unanswered <= HURRIED_ASKS else interval_ms) * NS_PER_MS

    def answer(self, now_ns: int, mac: str, all_well: bool) -> bool:
        """Somebody answered in its name. ``all_well``: nothing is wrong with the pair, so whoever answers is what the operator meant.
        True if a MAC was learnt."""
        learnt = mac not in self.pinned and self._learns(now_ns, mac, all_well)
        if mac not in self.pinned:
            self.stranger_ns = now_ns
            if mac == self.replacement:
                self.replacement_ns = now_ns
            return False
        silent_before = not self._is_recent(now_ns, self.answered_ns) and not self._is_recent(now_ns, self.asked_since_ns)
        self.in_doubt = silent_before and not learnt
        self.answered_ns = now_ns
        self.unanswered = 0
        interval_ms = min(HURRIED_MS, self.settings.interval_ms) if self.in_doubt else self.settings.interval_ms
        self.due_ns = max(now_ns, self.asked_ns + interval_ms * NS_PER_MS)
        return learnt

    def _learns(self, now_ns: int, mac: str, all_well: bool) -> bool:
        if not all_well:
            self.candidate = ""
            return False
        if self.candidate != mac:
            self.candidate, self.candidate_since_ns = mac, now_ns
            self.replacement = mac
        wait_ms = LEARN_ANEW_MS if self._is_recent(now_ns, self.answered_ns) else LEARN_REPLACED_MS
        if self.pinned and now_ns - self.candidate_since_ns < wait_ms * NS_PER_MS:
            return False
        self.pinned[mac] = None
        if len(self.pinned) > MAX_MACS:
            del self.pinned[next(iter(self.pinned))]
        return True

    def _is_recent(self, now_ns: int, at_ns: int | None) -> bool:
        return at_ns is not None and now_ns - at_ns <= self.settings.silent_after_ms * NS_PER_MS

    def is_suspect(self, now_ns: int) -> bool:
        """QUICK_ASKS questions in a row, each with its time, are unanswered: enough to compare, too little to give up for."""
        waited = self.unanswered > QUICK_ASKS or (self.unanswered == QUICK_ASKS and now_ns >= self.asked_ns + HURRIED_MS * NS_PER_MS)
        return waited or self.is_silent(now_ns)

    def answers(self, now_ns: int) -> bool:
        """Whether it answered recently enough, and not for the first time after a silence."""
        return not self.in_doubt and self._is_recent(now_ns, self.answered_ns)

    def is_silent(self, now_ns: int) -> bool:
        """Asked for long enough, and no answer: only then its silence means something. While no MAC is pinned an answer may be its own.
        While a MAC answers that did so in good times already, nobody knows whether it was replaced just before: then nothing is given up,
        and nobody is fenced. Who begins to answer only when the peer is silent changes nothing (a stranger beside a cut node).
        """
        asked_long = self.asked_since_ns is not None and not self._is_recent(now_ns, self.asked_since_ns)
        unknown = self._is_recent(now_ns, self.replacement_ns if self.pinned else self.stranger_ns)
        return asked_long and not unknown and not self._is_recent(now_ns, self.answered_ns)


class Surroundings:
    """Carriers by interface (up until told otherwise), references, and the local daemon's state."""

    def __init__(self, references: tuple[ReferenceSettings, ...], now_ns: int, node: str, pinned: tuple[tuple[str, str], ...] = ()) -> None:
        self.references = {r.name: Reference(r, r.interface.of(node), now_ns) for r in references}
        for name, mac in pinned:
            if name in self.references:
                self.references[name].pinned[mac] = None
        self.daemon: DaemonState | None = None
        self.daemon_since_ns = now_ns
        self.daemon_seen = False
        """Whether the daemon was seen running in this run: only then is its absence by pid file certain at once."""
        self._carriers: dict[str, bool] = {}
        self.segments: dict[str, Segment] = {}
        self._judged: tuple[tuple[bool, bool], ...] = ()

    def set_daemon(self, now_ns: int, daemon: DaemonState | None) -> bool:
        """LocalDaemonChanged; None = the operating system's word was contradicted. True if that is news."""
        self.daemon_seen = self.daemon_seen or daemon is DaemonState.RUNNING
        if self.daemon is daemon:
            return False
        self.daemon, self.daemon_since_ns = daemon, now_ns
        return True

    def orphan_since_ns(self, advert_interval_ms: int) -> int | None:
        """From when an address without a daemon is an orphan; None while the daemon is not known to be gone.

        A supervisor may restart it at once. One that was never seen may be running under another pid file: it gets time to advert.
        """
        if self.daemon is not DaemonState.STOPPED:
            return None
        unseen_ms = 0 if self.daemon_seen else 3 * advert_interval_ms // 2 + ADVERT_SLACK_MS
        return self.daemon_since_ns + max(ORPHAN_GRACE_MS, unseen_ms) * NS_PER_MS

    def contradicts_stopped(self, now_ns: int) -> bool:
        """Whether an advert that this host sends now proves that the daemon is not gone (it may have been queued just before)."""
        return self.daemon is DaemonState.STOPPED and now_ns - self.daemon_since_ns > ADVERT_SLACK_MS * NS_PER_MS

    def set_carrier(self, interface: str, up: bool) -> None:
        """CarrierChanged."""
        self._carriers[interface] = up

    def carrier(self, interface: str) -> bool:
        """Whether the interface has carrier, as far as we were told."""
        return self._carriers.get(interface, True)

    def due_references(self, now_ns: int) -> list[str]:
        """The references to ask now; their next time is set."""
        due = [name for name, reference in self.references.items() if now_ns >= reference.due_ns]
        for name in due:
            self.references[name].ask(now_ns)
        return due

    def ask_now(self, now_ns: int) -> None:
        """Something depends on the references: do not wait for their turn."""
        for reference in self.references.values():
            reference.due_ns = min(reference.due_ns, now_ns)

    def answered(self, now_ns: int, name: str, mac: str, all_well: bool) -> tuple[bool, bool]:
        """ReferenceAnswered. Returns whether the answer counts, and whether the MAC was learnt just now."""
        reference = self.references.get(name)
        if reference is None:
            return False, False
        learnt = reference.answer(now_ns, mac, all_well)
        return reference.answered_ns == now_ns, learnt

    def pinned(self) -> list[JsonValue]:
        """(reference, MAC) of all that was learnt, for the record."""
        return [[name, mac] for name, reference in self.references.items() for mac in reference.pinned]

    def counted(self, now_ns: int, interface: str, packets: int) -> None:
        """TrafficCounted."""
        segment = self.segments.get(interface)
        if segment is None:
            self.segments[interface] = Segment(packets, now_ns, now_ns)
        else:
            segment.counted(now_ns, packets)

    def segment_silent(self, now_ns: int, interfaces: tuple[str, ...]) -> bool:
        """Whether nothing at all arrives on one of these interfaces; False where nothing is counted."""
        return any(interface in self.segments and self.segments[interface].is_silent(now_ns) for interface in interfaces)

    def void(self) -> None:
        """Promise 8: answers may wait unread behind a stall; ask anew before a silence is believed."""
        for reference in self.references.values():
            reference.asked_since_ns = None
            reference.answered_ns = None
            reference.unanswered = 0
        self.segments.clear()

    def on_interfaces(self, interfaces: tuple[str, ...]) -> list[Reference]:
        """The references that are asked on one of these interfaces."""
        return [r for r in self.references.values() if r.interface in interfaces]

    def suspect(self, now_ns: int, interfaces: tuple[str, ...]) -> tuple[str, ...]:
        """Those of ``interfaces`` that have references of which none answers now: this node's port there may be dead."""
        return tuple(
            interface
            for interface in interfaces
            if (there := self.on_interfaces((interface,))) and all(r.is_suspect(now_ns) for r in there)
        )

    def references_ok(self, now_ns: int) -> bool | None:
        """True if any answers, None if none is configured or none was asked long enough."""
        return _answer_of(list(self.references.values()), now_ns)

    def last_answer_ns(self) -> int | None:
        """When any reference answered last."""
        return max((r.answered_ns for r in self.references.values() if r.answered_ns is not None), default=None)

    def isolation(self, now_ns: int, interfaces: tuple[str, ...], on_a_path: bool, segment_answers: bool) -> Isolation:
        """Promise 4: isolation. ``interfaces`` carry the VIPs in question; ``on_a_path``: the peer is heard on a heartbeat path;
        ``segment_answers``: somebody answered a census of ours lately, so our transmission works."""
        if any(not self.carrier(interface) for interface in interfaces):
            return Isolation.YES
        if on_a_path:
            return Isolation.NO
        there = self.on_interfaces(interfaces) or list(self.references.values())
        ok = _answer_of(there, now_ns)
        if ok is None:
            return Isolation.UNKNOWN
        return Isolation.NO if ok or segment_answers else Isolation.YES

    def news(self, now_ns: int) -> bool:
        """Whether a reference or a segment is judged otherwise than when this was asked last."""
        judged = tuple((r.is_suspect(now_ns), r.is_silent(now_ns)) for r in self.references.values())
        judged += tuple((s.is_silent(now_ns), False) for s in self.segments.values())
        before, self._judged = self._judged, judged
        return before != judged

    def next_deadline(self, now_ns: int) -> int | None:
        """When a reference is to be asked, or falls silent."""
        times = [r.due_ns for r in self.references.values()]
        for r in self.references.values():
            for base_ns in (r.answered_ns, r.asked_since_ns):
                if base_ns is not None:
                    silent_ns = base_ns + r.settings.silent_after_ms * NS_PER_MS + 1
                    if silent_ns > now_ns:
                        times.append(silent_ns)
        for segment in self.segments.values():
            stale_ns = segment.counted_ns + COUNT_GAP_MS * NS_PER_MS + 1
            if segment.is_silent(now_ns) and stale_ns > now_ns:
                times.append(stale_ns)
        return min(times, default=None)

    def to_json(self, now_ns: int) -> dict[str, JsonValue]:
        """Carriers, references and the local daemon for status."""
        return {
            "daemon": self.daemon.value if self.daemon else "unseen",
            "carriers": dict(sorted(self._carriers.items())),
            "references": [
                {
                    "name": r.settings.name,
                    "address": r.settings.address,
                    "answers": r.answers(now_ns),
                    "macs": list(r.pinned),
                    "age_ms": None if r.answered_ns is None else (now_ns - r.answered_ns) // NS_PER_MS,
                }
                for r in self.references.values()
            ],
        }


def _answer_of(references: list[Reference], now_ns: int) -> bool | None:
    """True if any answers, False if all were asked long enough in vain, None if nobody knows."""
    if any(r.answers(now_ns) for r in references):
        return True
    if not references or not all(r.is_silent(now_ns) for r in references):
        return None
    return False
