"""PURE: who keeps a VIP that both own, and who may fence whom, when.

Both nodes run these functions on the same exchanged figures and must agree without talking any further; the tests run every case
from both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from functools import lru_cache

from watchdog.frames.heartbeat import NodeFlags


@dataclass(frozen=True, slots=True)
class Standing:
    """What a node brings to the comparison, exactly as its heartbeat says it. ``priority`` is VRRP's; ``rank`` breaks ties.
    ``senior``: where the daemons do not preempt, it served the group first."""

    health: int
    priority: int
    rank: int
    senior: bool = False


def keeps(mine: Standing, theirs: Standing) -> bool:
    """Promise 4: exactly one node keeps the VIP: better health, then who served it first (nopreempt), then higher VRRP
    priority, then lower rank number.

    Antisymmetric because ranks differ: ``keeps(a, b) != keeps(b, a)``.
    """
    return (mine.health, mine.senior, mine.priority, -mine.rank) > (theirs.health, theirs.senior, theirs.priority, -theirs.rank)


class Defect(IntFlag):
    """What makes a node less fit to own a group. Each value outweighs all smaller ones together, so that no sum of trifles costs a VIP."""

    NONE = 0
    MAINTENANCE = 1
    STOPPING = 2
    SEGMENT_SILENT = 4
    """Nothing at all arrives on the group's interface (the clients' side: traffic counters, adverts, ARP and NDP answers)."""
    REFERENCES_SILENT = 8
    """Every reference of the group's interface is silent."""
    DAEMON_DOWN = 16
    """The local VRRP daemon is stopped, hangs, or was never seen."""
    ISOLATED = 32
    NO_CARRIER = 64
    QUARANTINED = 128


@dataclass(frozen=True, slots=True)
class GroupHealth:
    """How fit a node is to own one group, judged on that group's interface. ``score`` is the number in the frames."""

    interface: str
    defects: Defect = Defect.NONE

    @property
    def score(self) -> int:
        """0..255, higher is fitter; ``defects_of`` reads it back."""
        return PERFECT_HEALTH - self.defects


PERFECT_HEALTH = 255


def defects_of(score: int) -> Defect:
    """What a health number of a frame (0..255) says is wrong."""
    return Defect(PERFECT_HEALTH - score & PERFECT_HEALTH)


@dataclass(frozen=True, slots=True)
class HealthFacts:
    """What makes a node fit to own a VIP. ``references_ok`` is None when none is configured."""

    daemon_running: bool
    daemon_hung: bool
    carrier_up: bool
    references_ok: bool | None
    isolated: bool
    quarantined: bool
    maintenance: bool
    stopping: bool
    segment_silent: bool = False


@lru_cache(maxsize=512)
def defects(facts: HealthFacts) -> Defect:
    """The defects that the facts show."""
    found = Defect.NONE
    for bad, defect in (
        (facts.quarantined, Defect.QUARANTINED),
        (not facts.carrier_up, Defect.NO_CARRIER),
        (facts.isolated, Defect.ISOLATED),
        (facts.daemon_hung or not facts.daemon_running, Defect.DAEMON_DOWN),
        (facts.references_ok is False, Defect.REFERENCES_SILENT),
        (facts.segment_silent, Defect.SEGMENT_SILENT),
        (facts.stopping, Defect.STOPPING),
        (facts.maintenance, Defect.MAINTENANCE),
    ):
        if bad:
            found |= defect
    return found


def health(facts: HealthFacts) -> int:
    """0..255: the number for the frame."""
    return PERFECT_HEALTH - defects(facts)


@lru_cache(maxsize=512)
def flags(facts: HealthFacts) -> NodeFlags:
    """The same facts as the heartbeat shows them."""
    value = NodeFlags.NONE
    for on, flag in (
        (facts.isolated, NodeFlags.ISOLATED),
        (facts.quarantined, NodeFlags.QUARANTINED),
        (facts.maintenance, NodeFlags.MAINTENANCE),
        (facts.stopping, NodeFlags.STOPPING),
        (facts.daemon_running, NodeFlags.VRRP_RUNNING),
        (facts.daemon_hung, NodeFlags.VRRP_HUNG),
        (facts.references_ok is True, NodeFlags.REFERENCES_OK),
    ):
        if on:
            value |= flag
    return value
