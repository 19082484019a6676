"""PURE: everything the watcher knows about one VIP group; and the reports both nodes exchange about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from base.core import NS_PER_MS
from watchdog.config.model import GroupKey, GroupSettings, LinkAddress
from watchdog.frames.heartbeat import GroupReport, GroupState, YieldAnswer
from watchdog.judgement.commands import GateState
from watchdog.judgement.events import DaemonState, GateObedience
from watchdog.judgement.stages import Track

ADVERT_FRESH_PERCENT = 250
"""An advert counts as evidence of an owner for two and a half intervals: shorter than every master down interval (over 3), so that an
ordinary takeover after a crash never looks like two owners."""

IN_FLIGHT_MS = 100


@dataclass(slots=True)
class Advert:
    """The last advert of one direction. ``priority`` 0 = its sender released the group."""

    at_ns: int
    priority: int
    source_ip: str
    interval_ms: int

    def age_ms(self, now_ns: int) -> int:
        """How long ago."""
        return (now_ns - self.at_ns) // NS_PER_MS

    def is_fresh(self, now_ns: int) -> bool:
        """Whether its sender still counts as a living master."""
        return self.priority > 0 and now_ns - self.at_ns <= self.interval_ms * NS_PER_MS * ADVERT_FRESH_PERCENT // 100


class Purpose(Enum):
    """Why we ask the peer to give a group up: it is a second owner, or (strict) we want to take over."""

    SPLIT = "split"
    TAKEOVER = "takeover"


@dataclass(slots=True)
class Asking:
    """What we ask of the peer. ``request`` 0 = nothing now. ``again_ns``: not before this. ``failed``: the deadline has passed in vain
    (asking goes on, the next rung is open)."""

    purpose: Purpose | None = None
    request: int = 0
    deadline_ns: int = 0
    again_ns: int = 0
    answer: YieldAnswer = YieldAnswer.NONE
    failed: bool = False


@dataclass(slots=True)
class Yielding:
    """The peer asked us. ``request`` 0 = nothing to answer."""

    request: int = 0
    answer: YieldAnswer = YieldAnswer.NONE
    accepted_ns: int = 0


class GateReason(Enum):
    """The standing reason of a hold."""

    YIELDED = "yielded"
    """The peer keeps the group and asked for it."""
    HUNG = "hung"
    """As YIELDED, and our daemon hung."""
    ISOLATED = "isolated"
    UNFIT = "unfit"
    """The peer is fitter to serve the group and took it (moving.py)."""
    QUARANTINED = "quarantined"
    SUSPECT = "suspect"
    """This node ended without an orderly stop and has heard nobody since."""
    STRICT = "strict"
    """Nobody has granted it yet."""
    HANDOVER = "handover"
    """A person wants the peer to own it."""


@dataclass(slots=True)
class Gate:
    """What we told the local VRRP daemon; None = nothing yet, whatever the files say stays.

    ``why`` is the standing reason of a hold, None = there is none. ``deaf``: adverts
    of the peer were on our wire while our daemon still took the group, so hearing them again proves nothing.
    """

    state: GateState | None = None
    epoch: int = 0
    reason: str = ""
    why: GateReason | None = None
    since_ns: int = 0
    deaf: bool = False
    trial_due_ns: int | None = None
    trial_backoff_ms: int = 60_000
    on_trial: bool = False
    peer_took: bool = False
    """The peer was seen to own the group since the hold began."""


@dataclass(slots=True)
class GateTrustworthiness:
    """Whether the daemon obeys the gate (gate_trust.py). ``fails``: it took the group again and again under a hold. ``owned_since_ns``:
    since when an address of the group is here under the present hold; ``owned_ns``: when one was here last; ``let_go``: none was here since
    the hold began, at least once."""

    obedience: GateObedience = GateObedience.UNKNOWN
    detail: str = ""
    owned_since_ns: int | None = None
    owned_ns: int = 0
    let_go: bool = False
    relapses: int = 0
    fails: bool = False

    def begin_anew(self) -> None:
        """There is no hold, or a new one."""
        self.owned_since_ns, self.let_go, self.relapses, self.fails = None, False, 0, False


@dataclass(slots=True)
class Offer:
    """An operator gives the group to the peer, which is not able to take it yet. ``ready_ns``: since when it is."""

    who: str
    until_ns: int
    ready_ns: int | None = None


@dataclass(slots=True)
class GroupView:
    """One group as this node sees it. ``held`` are the VIPs in our kernel, each with the interface that really holds it; ``report`` the
    peer's last word about the group while it can be fresh, ``told_held`` what it said last in this session; ``denied_ns`` since when the
    peer denies to hold it; ``free_since_ns`` since when strict may ask for its release; ``peer_owned``: the peer has owned the group while
    we waited for it; ``crashed``: we removed what the dead local daemon left behind. ``senior``: with nopreempt, we owned it while the
    peer denied to. ``bridged_ns``: when the last advert was bridged. ``unfit_since_ns``: since when the peer is fitter than we, its owner;
    ``fit_since_ns``: since when it is not any more; ``moves_ns``: when we let it go for that; ``taken_unfit_ns``: when we came to own it
    because the peer was less fit; ``kept_unfit``: why we kept it all the same; ``ownerless_ns``: since when nobody is known to own it;
    ``yielded_ns``: when the peer said last that it had yielded."""

    settings: GroupSettings
    track: Track
    held: tuple[LinkAddress, ...] = ()
    sent: Advert | None = None
    heard: Advert | None = None
    problem: str = ""
    problem_ns: int = 0
    report: GroupReport | None = None
    report_ns: int = 0
    report_fresh_ns: int = 0
    told_held: bool = False
    local_state: GroupState | None = None
    local_priority: int | None = None
    planned_until_ns: int = 0
    denied_ns: int | None = None
    free_since_ns: int | None = None
    peer_owned: bool = False
    asking: Asking = field(default_factory=Asking)
    yielding: Yielding = field(default_factory=Yielding)
    gate: Gate = field(default_factory=Gate)
    trust: GateTrustworthiness = field(default_factory=GateTrustworthiness)
    offer: Offer | None = None
    announce_due_ns: int | None = None
    announced: int = 0
    other_claim_ns: int = 0
    removal_due_ns: int | None = None
    removals: int = 0
    gave_up: bool = False
    crashed: bool = False
    bridged_ns: int | None = None
    owning: bool = False
    owned_since_ns: int = 0
    senior: bool = False
    unfit_since_ns: int | None = None
    fit_since_ns: int | None = None
    moves_ns: list[int] = field(default_factory=list)
    taken_unfit_ns: int | None = None
    kept_unfit: str = ""
    ownerless_ns: int | None = None
    yielded_ns: list[int] = field(default_factory=list)
    wake_ns: int | None = None
    scope: str = field(init=False)

    def __post_init__(self) -> None:
        self.scope = str(self.settings.key)

    def wake_at(self, at_ns: int) -> None:
        """Look at the group again at ``at_ns`` at the latest."""
        self.wake_ns = at_ns if self.wake_ns is None else min(self.wake_ns, at_ns)

    def start_announcing(self, now_ns: int) -> None:
        """Win the neighbours' caches back, from now until a census shows one owner."""
        self.announce_due_ns = now_ns
        self.announced = 0

    @property
    def key(self) -> GroupKey:
        """The group's key."""
        return self.settings.key

    @property
    def own(self) -> bool:
        """K1: our kernel holds at least one VIP."""
        return bool(self.held)

    def priority(self) -> int:
        """The VRRP priority to compare: what the daemon last put on the wire or reported, else the configured one."""
        if self.local_priority is not None:
            return self.local_priority
        if self.sent is not None and self.sent.priority > 0:
            return self.sent.priority
        return self.settings.priority

    def fresh_report(self, now_ns: int) -> GroupReport | None:
        """The peer's report if it is young enough to be true."""
        if self.report is not None and now_ns - self.report_ns <= self.report_fresh_ns:
            return self.report
        return None

    def peer_denies(self, now_ns: int) -> bool:
        """The peer's authenticated report says that its kernel holds nothing of the group."""
        report = self.fresh_report(now_ns)
        return report is not None and not report.held

    def is_overtaken(self, now_ns: int) -> bool:
        """An advert or answer that is handled now was on its way before the peer's *no* of a moment ago: each socket is read in turn."""
        return self.denied_ns is not None and now_ns - self.denied_ns <= IN_FLIGHT_MS * NS_PER_MS and self.peer_denies(now_ns)

    def heard_fresh(self, now_ns: int) -> bool:
        """Whether the peer's adverts arrive here."""
        return self.heard is not None and self.heard.is_fresh(now_ns)

    def released_since(self, since_ns: int) -> bool:
        """Whether the peer's last advert since then was its priority 0."""
        return self.heard is not None and self.heard.priority == 0 and self.heard.at_ns >= since_ns

    def state(self, now_ns: int, daemon: DaemonState | None) -> GroupState:
        """What our local daemon does with the group, as far as can be seen."""
        if self.local_state is not None and daemon is not DaemonState.STOPPED:
            return self.local_state
        if daemon is DaemonState.STOPPED:
            return GroupState.ABSENT
        if self.gate.state is GateState.HELD:
            return GroupState.HELD
        if self.own and self.sent is not None and self.sent.is_fresh(now_ns):
            return GroupState.MASTER
        if daemon is DaemonState.RUNNING and not self.own:
            return GroupState.BACKUP
        return GroupState.UNKNOWN

    def make_report(self, now_ns: int, daemon: DaemonState | None, health: int, can_take: bool, stopping: bool = False) -> GroupReport:
        """Our word about the group for the next frame. ``stopping``: the last word, about the gate and not about the daemon."""
        state = self.state(now_ns, daemon)
        if self.gate.state is GateState.HELD and (state is not GroupState.ABSENT or stopping):
            state = GroupState.HELD
        elif self.offer is not None and self.own:
            state = GroupState.OFFERING
        return GroupReport(
            key=self.settings.key,
            state=state,
            held=self.own,
            priority=self.priority(),
            advert_sent_age_ms=self.sent.age_ms(now_ns) if self.sent and self.sent.priority else None,
            advert_heard_age_ms=self.heard.age_ms(now_ns) if self.heard else None,
            advert_heard_priority=self.heard.priority if self.heard else None,
            yield_request=self.asking.request,
            yield_answer_to=self.yielding.request,
            yield_answer=self.yielding.answer,
            health=health,
            can_take=can_take,
            senior=self.senior,
        )
