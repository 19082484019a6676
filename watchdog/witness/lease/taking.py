"""PURE: who takes the turn on a shared disk. Two nodes, each writes only its own records and reads the other's.

To take the turn, or to renew it: write a claim, *then* read the other's newest record. Who finds no claim there has the turn, for
``lease_ms`` counted from before the write. Since each writes before it reads, two that claim at the same time cannot both find nothing
(the flag principle of Dekker and Lamport; Disk Paxos rests on the same order). If both find the other, rank 2 takes its claim back and
rank 1 looks again for a moment.

Whose claim has not changed for its whole ``lease_ms`` and a margin, by the clock of the one who *watches* it, is gone: the watcher saw it
after it was written, so the holder's own time, which counts from before the write, was over before. Nothing here compares two clocks; only
their rates must not differ by more than ``RATE_PPM``. A late write changes the record and with it the time that it is watched from.

Exhaustively searched in tests/watchdog/witness/test_taking.py: writes that land late, crashes at every step, restarts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from base.core import NS_PER_MS
from watchdog.witness.lease.slots import Record, Stamp

RATE_PPM = 2_000
"""Two clocks of 0.1 % each."""
MARGIN_MS = 100
CONTEST_MS = 500
"""How long rank 1 waits for rank 2 to take its claim back."""
LOOK_AGAIN_MS = 20


@dataclass(frozen=True, slots=True)
class ReadOther:
    """Read the other's slots (and our own), then call ``read``."""


@dataclass(frozen=True, slots=True)
class WriteOwn:
    """Write this record; call ``wrote`` only when it is durable and every later read of anybody sees it."""

    record: Record


@dataclass(frozen=True, slots=True)
class Wait:
    """Call ``waited`` after this time."""

    wait_ms: int


@dataclass(frozen=True, slots=True)
class Won:
    """The turn is ours until ``until_ns``."""

    until_ns: int


@dataclass(frozen=True, slots=True)
class Yielded:
    """The turn is not ours. ``own``: an earlier run of this node has it."""

    own: bool = False


Step: TypeAlias = ReadOther | WriteOwn | Wait | Won | Yielded


def own_end_ns(start_ns: int, lease_ms: int) -> int:
    """Until when a claim written after ``start_ns`` is certainly ours, by our own clock."""
    return start_ns + lease_ms * NS_PER_MS * (1_000_000 - RATE_PPM) // 1_000_000


def others_end_ns(seen_ns: int, lease_ms: int) -> int:
    """When a claim that is unchanged since ``seen_ns`` is certainly over, by the clock of who watches it."""
    return seen_ns + (lease_ms + MARGIN_MS) * NS_PER_MS * (1_000_000 + RATE_PPM) // 1_000_000


@dataclass(slots=True)
class Watched:
    """The newest record of a node, and since when its slots have not changed. ``mark`` stands for all their bytes."""

    record: Record | None = None
    mark: bytes = b""
    since_ns: int = 0
    known: bool = False

    def see(self, now_ns: int, record: Record | None, mark: bytes) -> None:
        """What was read; ``now_ns`` is when the read *ended*, so that what it shows was written before."""
        if not self.known or mark != self.mark:
            self.record, self.mark, self.since_ns, self.known = record, mark, now_ns, True

    def claims(self, now_ns: int) -> bool:
        """Whether it may have the turn now."""
        if not self.known:
            return True
        return self.record is not None and self.record.claims and now_ns <= others_end_ns(self.since_ns, self.record.lease_ms)


@dataclass(slots=True)
class DiskTurn:
    """One node's side. ``node`` 0 or 1 (whose slots are ours), ``first``: rank 1. ``incarnation`` rises with every process that writes.

    Drive it: ``take``/``give_back`` return the first step; carry it out and call ``read``, ``wrote`` or ``waited``, until Won or Yielded.
    One thing at a time: a step that did not end must be waited for, however long it takes.
    """

    node: int
    first: bool
    incarnation: int
    counter: int = 0
    until_ns: int | None = None
    other: Watched = field(default_factory=Watched)
    earlier: Watched = field(default_factory=Watched)
    """What an earlier run of this node left behind: its act may still take effect."""
    _phase: str = "idle"
    _lease_ms: int = 0
    _start_ns: int = 0
    _contest_end_ns: int = 0

    def take(self, now_ns: int, lease_ms: int) -> Step:
        """Take the turn, or renew it while ``until_ns`` lies ahead."""
        self._lease_ms, self._phase = lease_ms, "looking"
        return ReadOther()

    def introduce(self, now_ns: int) -> Step | None:
        """Once, before anything else: a record that claims nothing, by which the other node knows that we use the same disk. None while an
        earlier run of ours may have the turn: its claim must stay."""
        if self.counter or not self.earlier.known or self.earlier.claims(now_ns):
            return None
        self._phase = "leaving"
        return self._write(now_ns, claims=False)

    def give_back(self, now_ns: int) -> Step:
        """Nothing of ours can still take effect."""
        self.until_ns = None
        if not self.counter:
            return Yielded()  # this run never claimed anything
        self._phase = "leaving"
        return self._write(now_ns, claims=False)

    def read(self, now_ns: int) -> Step:
        """``other`` and ``earlier`` were brought up to date by what was read."""
        if self._phase == "looking":
            if not self.counter and self.earlier.claims(now_ns):
                return Yielded(own=True)
            if self.other.claims(now_ns):
                return Yielded()
            self._phase = "claiming"
            return self._write(now_ns, claims=True)
        if not self.other.claims(now_ns):
            self._phase = "idle"
            self.until_ns = own_end_ns(self._start_ns, self._lease_ms)
            return Won(self.until_ns)
        if self.first and now_ns < self._contest_end_ns:
            return Wait(LOOK_AGAIN_MS)
        if self.until_ns is not None and now_ns <= self.until_ns:
            # A renewal that met a claim: what we had stays ours until its time, so the claim must stay; the other gives way to it.
            self._phase = "idle"
            return Yielded()
        self._phase = "leaving"
        return self._write(now_ns, claims=False)

    def wrote(self, now_ns: int) -> Step:
        """The last record is durable."""
        if self._phase == "leaving":
            self._phase = "idle"
            return Yielded()
        self._phase = "contesting"
        self._contest_end_ns = now_ns + CONTEST_MS * NS_PER_MS
        return ReadOther()

    def waited(self, now_ns: int) -> Step:
        """Look again."""
        return ReadOther()

    def _write(self, now_ns: int, *, claims: bool) -> WriteOwn:
        self._start_ns = now_ns
        self.counter += 1
        return WriteOwn(Record(self.node, Stamp(self.incarnation, self.counter), claims, self._lease_ms))
