"""What steers priority and FAULT from outside: scripts, interfaces, files, processes and BFD sessions.

Pure. keepalived's rules: a weight is added while up (positive) or while down (negative), ``reverse`` swaps up and down, weight 0 means
that a failure is a FAULT; the sum is clamped to 1..254, an address owner never changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from vrrp.protocol.parameters import OWNER_PRIORITY

FILE_FAULT_VALUE = -254
"""A tracked file whose weighted value is this low is a FAULT."""


class TrackKind(Enum):
    """What is tracked; the value is the word in fault causes."""

    INTERFACE = "interface"
    SCRIPT = "script"
    FILE = "file"
    PROCESS = "process"
    BFD = "bfd"
    QUORUM = "quorum"
    """Of a virtual server: always with a negative weight, so unknown counts as up and nothing waits for it."""


@dataclass(frozen=True, slots=True)
class TrackReference:
    """One line of track_interface, track_script, track_file, track_process or track_bfd of an instance."""

    kind: TrackKind
    name: str
    weight: int = 0
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class ScriptParameters:
    """``rise`` successes in a row make a script good again, ``fall`` failures make it bad. ``init_fail``: bad until proved good; one
    success is enough for that, as in keepalived."""

    name: str
    rise: int = 1
    fall: int = 1
    init_fail: bool = False


class ScriptTracker:
    """keepalived's counter: 0 .. rise+fall-1, good from ``rise`` on; the very first result decides alone."""

    def __init__(self, parameters: ScriptParameters) -> None:
        self.parameters = parameters
        self.up: bool | None = False if parameters.init_fail else None
        self._count = parameters.rise - 1

    def finished(self, success: bool) -> bool:
        """Take one result; True if the state (unknown, up, down) changed."""
        p = self.parameters
        before = self.up
        top = p.rise + p.fall - 1
        if success:
            if self._count < p.rise - 1:
                self._count += 1
            else:
                self._count = top
                self.up = True
        elif self._count > p.rise:
            self._count -= 1
        else:
            self._count = 0
            self.up = False
        return self.up is not before

    def adopt(self, parameters: ScriptParameters) -> None:
        """A reload keeps what was learned."""
        self.parameters = parameters
        self._count = parameters.rise + parameters.fall - 1 if self.up else min(self._count, parameters.rise - 1)


Value = int | None
"""A tracked thing's value: 1 = up, 0 = down, None = unknown; for files the number."""


def weight_of(track: TrackReference, value: Value) -> int:
    """What ``track`` adds to the priority now."""
    if value is None or not track.weight:
        return 0
    if track.kind is TrackKind.FILE:
        return value * track.weight * (-1 if track.reverse else 1)
    up = bool(value) != track.reverse
    return track.weight if up == (track.weight > 0) else 0


def is_fault(track: TrackReference, value: Value) -> bool:
    """Must an instance with this track be in FAULT? An unknown script does not fault (it delays the start, see ``is_pending``)."""
    if track.kind is TrackKind.FILE:
        number = value or 0
        if track.weight:
            return weight_of(track, number) <= FILE_FAULT_VALUE
        return bool(number) != track.reverse
    if track.weight or value is None:
        return False
    return bool(value) == track.reverse


_AWAITED = (TrackKind.SCRIPT, TrackKind.PROCESS, TrackKind.BFD)


def is_pending(track: TrackReference, value: Value) -> bool:
    """Unweighted and without a result yet: the instance does not start before it has one."""
    return track.kind in _AWAITED and not track.weight and value is None


def fault_cause(track: TrackReference) -> str:
    """The name of the fault that this track raises."""
    return f"{track.kind.value} {track.name}"


def effective_priority(base: int, weights: Iterable[int]) -> int:
    """The configured priority plus the weights, clamped to 1..254; an owner keeps 255."""
    if base == OWNER_PRIORITY:
        return base
    return max(1, min(OWNER_PRIORITY - 1, base + sum(weights)))
