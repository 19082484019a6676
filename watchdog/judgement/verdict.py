"""PURE: the verdict table. One ordered list of rules per scope; the first rule that matches decides; the last matches everything.

The input is a small record of abstracted facts, so that every combination can be tested (tests/watchdog/judgement/test_verdict.py)
and the whole table printed (docs/VERDICTS.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from watchdog.judgement.events import DaemonState
from watchdog.judgement.evidence import EvidenceKind


class Verdict(Enum):
    """What is the matter (DESIGN section 7)."""

    HEALTHY = "HEALTHY"
    PATH_DEGRADED = "PATH_DEGRADED"
    NO_STANDBY = "NO_STANDBY"
    MISCONFIGURED = "MISCONFIGURED"
    UNKNOWN = "UNKNOWN"
    UNFIT_OWNER = "UNFIT_OWNER"
    NO_OWNER = "NO_OWNER"
    ORPHAN_VIP = "ORPHAN_VIP"
    FOREIGN_OWNER = "FOREIGN_OWNER"
    ISOLATED = "ISOLATED"
    PEER_DEAD = "PEER_DEAD"
    PEER_HUNG = "PEER_HUNG"
    SPLIT_BRAIN = "SPLIT_BRAIN"


SEVERITY_ORDER = tuple(Verdict)
"""From harmless to worst: an open incident escalates only upwards."""

PAIR_SCOPE = "pair"

PAIR_PAGES = frozenset({Verdict.PATH_DEGRADED, Verdict.ISOLATED, Verdict.PEER_DEAD, Verdict.PEER_HUNG, Verdict.UNKNOWN})
"""Verdicts about the nodes: only the pair's scope opens an incident for them, or every group would page for one cause."""


def severity(verdict: Verdict) -> str:
    """How loud a verdict pages: "warning" or "critical"."""
    mild = (Verdict.HEALTHY, Verdict.PATH_DEGRADED, Verdict.NO_STANDBY, Verdict.MISCONFIGURED, Verdict.UNKNOWN)
    return "warning" if verdict in mild else "critical"


class Contact(Enum):
    """What we hear of the peer *node*.

    HEARD: on every path. DEGRADED: on some. WATCHER_SILENT: on none, but its VRRP daemon adverts, or its kernel answers for its own
    address and claims no VIP. KERNEL_ONLY: on none and no adverts, but its MAC answers for a VIP. SILENT: nothing at all, although its
    kernel answered us earlier. UNREACHED: nothing at all, and we cannot tell (never heard, or nothing of it ever answered a probe).
    """

    HEARD = "heard"
    DEGRADED = "degraded"
    WATCHER_SILENT = "watcher_silent"
    KERNEL_ONLY = "kernel_only"
    SILENT = "silent"
    UNREACHED = "unreached"


class Isolation(Enum):
    """Promise 4. UNKNOWN: no reference is configured, or none was probed long enough."""

    NO = "no"
    YES = "yes"
    UNKNOWN = "unknown"


class Fitness(Enum):
    """Whether the right node serves a group, while the peer is heard (Promise 4). UNFIT: the owner's interface is worse than the other
    node's. ALONE: the other node could not take over."""

    GOOD = "good"
    UNFIT = "unfit"
    ALONE = "alone"


ON_A_PATH = (Contact.HEARD, Contact.DEGRADED)


@dataclass(frozen=True, slots=True)
class PairFacts:
    """What the pair's verdict depends on, and nothing else. ``peer_left``: its watcher said that it stops in order."""

    settled: bool
    contact: Contact
    isolation: Isolation
    peer_left: bool = False


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """What a group's verdict depends on, and nothing else.

    ``own``: K1, our kernel holds a VIP. ``peer_claims``: fresh kinds that name the peer as owner. ``other_claims``: a third MAC or router
    claims it. ``absent``: the peer denies it by an authenticated report, or a whole census found nobody else. ``daemon``: the local VRRP
    daemon, None = not looked at yet. ``planned``: inside the grace of a planned change. ``misconfigured``: adverts are heard that a VRRP
    daemon drops. ``fitness``: compared by both nodes' frames.
    """

    settled: bool
    own: bool
    peer_claims: frozenset[EvidenceKind]
    other_claims: bool
    absent: bool
    daemon: DaemonState | None
    planned: bool
    misconfigured: bool
    contact: Contact
    isolation: Isolation
    fitness: Fitness = Fitness.GOOD


FactsT = TypeVar("FactsT", PairFacts, GroupFacts)


@dataclass(frozen=True, slots=True)
class Rule(Generic[FactsT]):
    """One line of a table. ``when`` is the condition in words, ``matches`` the same as code."""

    verdict: Verdict
    when: str
    reason: str
    matches: Callable[[FactsT], bool]


PAIR_TABLE: tuple[Rule[PairFacts], ...] = (
    Rule(
        Verdict.UNKNOWN,
        "settling after start or after an own stall",
        "listening: nothing is judged yet",
        lambda f: not f.settled,
    ),
    Rule(
        Verdict.ISOLATED,
        "own carrier down, or no path, no census answer and every reference silent",
        "this node is cut off",
        lambda f: f.isolation is Isolation.YES,
    ),
    Rule(Verdict.HEALTHY, "the peer is heard on every path", "the peer is heard on every path", lambda f: f.contact is Contact.HEARD),
    Rule(Verdict.PATH_DEGRADED, "the peer is heard on some paths", "a heartbeat path is silent", lambda f: f.contact is Contact.DEGRADED),
    Rule(
        Verdict.PATH_DEGRADED,
        "no path, and the peer's watcher had said that it stops",
        "the peer's watcher stopped in order",
        lambda f: f.peer_left,
    ),
    Rule(
        Verdict.PATH_DEGRADED,
        "no path, but its VRRP daemon adverts or its kernel answers and claims no VIP",
        "the peer's watcher is silent, its node lives",
        lambda f: f.contact is Contact.WATCHER_SILENT,
    ),
    Rule(
        Verdict.PEER_HUNG,
        "no path and no adverts, but its kernel still answers for a VIP",
        "the peer's processes are silent, its kernel still claims a VIP",
        lambda f: f.contact is Contact.KERNEL_ONLY,
    ),
    Rule(
        Verdict.PEER_DEAD,
        "nothing of the peer is heard, it answered before, and a reference answers us",
        "the peer is dead or cut off: no path, no advert, no census answer, while our references answer",
        lambda f: f.contact is Contact.SILENT and f.isolation is Isolation.NO,
    ),
    Rule(
        Verdict.UNKNOWN,
        "nothing of the peer is heard, and no reference tells whether we are cut off",
        "the peer is silent and no reference tells whether it or we are cut off",
        lambda f: f.contact is Contact.SILENT,
    ),
    Rule(
        Verdict.UNKNOWN,
        "anything else: the peer was never heard or never answered a probe",
        "nothing was heard of the peer that could fall silent now",
        lambda f: True,
    ),
)

GROUP_TABLE: tuple[Rule[GroupFacts], ...] = (
    Rule(
        Verdict.UNKNOWN,
        "settling after start or after an own stall",
        "listening: nothing is judged yet",
        lambda f: not f.settled,
    ),
    Rule(
        Verdict.HEALTHY,
        "two owners inside the grace of a planned change",
        "a planned handover is under way",
        lambda f: f.own and bool(f.peer_claims) and f.planned,  # Promise 6: planned changes
    ),
    Rule(
        Verdict.SPLIT_BRAIN,
        "K1 and at least one of K2, K3, K4, K5 name two owners",
        "both nodes own the group",
        lambda f: f.own and bool(f.peer_claims),  # Promise 1: two kinds
    ),
    Rule(
        Verdict.ISOLATED,
        "own carrier down, or no path, no census answer and every reference silent",
        "this node is cut off",
        lambda f: f.isolation is Isolation.YES,
    ),
    Rule(
        Verdict.ORPHAN_VIP,
        "our kernel holds a VIP and the local VRRP daemon is dead",
        "the local VRRP daemon is dead and left an address behind",
        lambda f: f.own and f.daemon is DaemonState.STOPPED,
    ),
    Rule(
        Verdict.ORPHAN_VIP,
        "our kernel holds a VIP and the local VRRP daemon is stopped in its tracks",
        "the local VRRP daemon hangs and still holds an address",
        lambda f: f.own and f.daemon is DaemonState.HUNG,
    ),
    Rule(
        Verdict.FOREIGN_OWNER,
        "a MAC or router of neither node claims a VIP",
        "a third host claims the address",
        lambda f: f.other_claims,
    ),
    Rule(
        Verdict.PEER_HUNG,
        "no path and no adverts, but the peer's kernel still answers for a VIP",
        "the peer's processes are silent, its kernel still claims a VIP",
        lambda f: f.contact is Contact.KERNEL_ONLY,
    ),
    Rule(
        Verdict.PEER_DEAD,
        "nothing of the peer is heard, a reference answers us, and we own the group",
        "the peer is dead or cut off: we own the group, and two owners are possible until the peer is proved off",
        lambda f: f.contact is Contact.SILENT and f.isolation is Isolation.NO and f.own,
    ),
    Rule(
        Verdict.PEER_DEAD,
        "nothing of the peer is heard, a reference answers us, and we do not own the group",
        "the peer is dead or cut off: it may still own the group where we cannot see it",
        lambda f: f.contact is Contact.SILENT and f.isolation is Isolation.NO,
    ),
    Rule(
        Verdict.UNKNOWN,
        "nothing of the peer is heard and nothing tells who is cut off",
        "the peer is not heard and nothing tells whether it or we are cut off",
        lambda f: f.contact in (Contact.SILENT, Contact.UNREACHED),
    ),
    Rule(
        Verdict.UNFIT_OWNER,
        "the owner's interface is worse than the other node's, as both say in their frames",
        "the node that owns the group does not reach its segment, the other one does",
        lambda f: f.fitness is Fitness.UNFIT and f.own != bool(f.peer_claims),
    ),
    Rule(
        Verdict.MISCONFIGURED,
        "adverts are heard that a VRRP daemon drops",
        "adverts are heard that a VRRP daemon drops",
        lambda f: f.misconfigured,
    ),
    Rule(
        Verdict.NO_STANDBY,
        "one node owns it, and the other one could not take over",
        "there is no standby",
        lambda f: f.fitness is Fitness.ALONE and f.own != bool(f.peer_claims),
    ),
    Rule(Verdict.HEALTHY, "only our kernel holds the VIPs", "this node owns the group", lambda f: f.own),
    Rule(Verdict.HEALTHY, "only the peer claims the VIPs", "the peer owns the group", lambda f: bool(f.peer_claims)),
    Rule(
        Verdict.NO_OWNER,
        "neither node holds it: the peer denies it, or a census found nobody",
        "nobody owns the group",
        lambda f: f.absent,
    ),
    Rule(Verdict.UNKNOWN, "anything else", "nobody is known to own the group", lambda f: True),
)


def judge_pair(facts: PairFacts) -> Rule[PairFacts]:
    """The rule that decides for the pair."""
    return next(rule for rule in PAIR_TABLE if rule.matches(facts))


def judge_group(facts: GroupFacts) -> Rule[GroupFacts]:
    """The rule that decides for a group."""
    return next(rule for rule in GROUP_TABLE if rule.matches(facts))
