"""PURE: everything that forbids an automatic fence, in one total list; nothing else in the product may allow one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from fencing.plan.settings import FenceLevel


class Interlock(Enum):
    """A reason not to fence; the value is the sentence for the operator."""

    DISABLED = "fencing is not enabled in brain.toml"
    NO_LEVEL = "no fence level is configured for this node"
    NOT_MEASURED = "no fence check has passed yet: run brainctl fence check"
    DELAY_TOO_SHORT = "fence delay is too short and there is no witness: both nodes could fence each other"
    QUARANTINED = "this node was fenced itself and nobody has cleared it"
    SUSPECT = "this node was fenced or ended without an orderly stop, and has heard neither the peer, a witness nor a person since"
    MAINTENANCE = "maintenance is on"
    SETTLING = "this daemon has just started and knows too little"
    ISOLATED = "this node is isolated: it cannot tell its own fault from the peer's"
    NO_REFERENCE = "no reference target is configured: own isolation cannot be told from the peer's death"
    STALLED = "this node was stalled; its evidence is void until fresh evidence arrives"
    PEER_NEVER_SEEN = "the peer was never seen since it was configured"
    RECORDER_DOWN = "the recorder is down: an intent cannot be made durable"
    RUNNER_DOWN = "the fence runner is not armed"
    OPEN_FENCE = "an earlier fence of this node is still unknown and being verified"
    BUDGET = "the fence budget of this hour is used up; a person must clear the latch"


@dataclass(frozen=True, slots=True)
class InterlockFacts:
    """What the owner knows at the moment of the question; every field speaks for itself, True = the good case is not assumed."""

    enabled: bool
    levels: tuple[FenceLevel, ...]
    measured_ms: int
    delay_safe: bool
    quarantined: bool
    maintenance: bool
    settled: bool
    isolated: bool
    reference_configured: bool
    stalled: bool
    peer_seen: bool
    recorder_up: bool
    runner_up: bool
    open_fence: bool
    budget_left: int
    suspect: bool = False


def standing(facts: InterlockFacts) -> tuple[Interlock, ...]:
    """The interlocks that forbid an automatic fence now, in order of declaration; empty = it may start."""
    shut = {
        Interlock.DISABLED: not facts.enabled,
        Interlock.NO_LEVEL: not any(level.devices for level in facts.levels),
        Interlock.NOT_MEASURED: facts.measured_ms <= 0,
        Interlock.DELAY_TOO_SHORT: not facts.delay_safe,
        Interlock.QUARANTINED: facts.quarantined,
        Interlock.SUSPECT: facts.suspect,
        Interlock.MAINTENANCE: facts.maintenance,
        Interlock.SETTLING: not facts.settled,
        Interlock.ISOLATED: facts.isolated,
        Interlock.NO_REFERENCE: not facts.reference_configured,
        Interlock.STALLED: facts.stalled,
        Interlock.PEER_NEVER_SEEN: not facts.peer_seen,
        Interlock.RECORDER_DOWN: not facts.recorder_up,
        Interlock.RUNNER_DOWN: not facts.runner_up,
        Interlock.OPEN_FENCE: facts.open_fence,
        Interlock.BUDGET: facts.budget_left <= 0,
    }
    return tuple(lock for lock in Interlock if shut[lock])
