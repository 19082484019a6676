"""PURE: everything a fence session can ask of its owner. The order of a returned list is a contract."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


class FenceState(Enum):
    """How sure we are, per level and for the whole fence.

    ``REQUESTED``: intent durable or on its way. ``CLAIMED``: every device of the level says done; nothing but its word. ``PROVED``: see
    fencing/plan/proof.py. ``REFUTED``: the target was heard, or still read as on, after the act. ``UNKNOWN``: a device may or may not have
    acted. ``NOT_DONE``: certainly no device acted (withdrawn, refused, unreachable, wrong identity).
    """

    REQUESTED = "requested"
    CLAIMED = "claimed"
    PROVED = "proved"
    REFUTED = "refuted"
    UNKNOWN = "unknown"
    NOT_DONE = "not_done"


@dataclass(frozen=True, slots=True)
class PersistIntent:
    """Make "we are about to fence ``target`` at ``level``" durable, then report IntentDurable. The act waits for it."""

    order_id: str
    target: str
    level: int
    detail: str


@dataclass(frozen=True, slots=True)
class SecondLookNeeded:
    """Judge again, now, and answer SecondLook. ``refuted``: an earlier level was refuted, so hearing the target is no reason to stop."""

    order_id: str
    target: str
    level: int
    refuted: bool


@dataclass(frozen=True, slots=True)
class RunDevice:
    """One action ("off" or "status") of one device; void when not begun within ``valid_ms`` of now; report DeviceReported."""

    order_id: str
    target: str
    level: int
    device: str
    action: str
    attempt: int
    valid_ms: int


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """Ask every solicited channel of the target and every control once more, now: proof and refutation need fresh answers."""

    order_id: str
    target: str


@dataclass(frozen=True, slots=True)
class RecordState:
    """The state of a level (counted from 1; 0 = the whole fence) changed; for the record. Not a barrier."""

    order_id: str
    target: str
    level: int
    state: FenceState
    detail: str


@dataclass(frozen=True, slots=True)
class FenceFinished:
    """The last command of a session. Only PROVED opens a strict gate; every other state is for a person.

    ``partial``: some devices of a multi-device level acted and others did not; nothing further was tried.
    """

    order_id: str
    target: str
    level: int
    state: FenceState
    detail: str
    partial: bool = False


FenceCommand: TypeAlias = PersistIntent | SecondLookNeeded | RunDevice | ProbeTarget | RecordState | FenceFinished
