"""PURE: an operator's handover of a group to the peer: release first, wait until the peer can take it, then yield.

A peer that is held (by an earlier handover the other way, or after a yield) could not take over at once: its daemon would first have to
leave FAULT and wait out a master down interval. So the owner *offers* the group in its reports (GroupState.OFFERING) and goes on serving;
the peer's hold ends; when the peer says that it could serve, the owner yields with priority 0. The gap is one skew, as with plain VRRP.

A handover outlives its watcher: the groups that were given away are durable, and a new run in the same boot goes on holding them.
"""

from __future__ import annotations

from base.core import NS_PER_MS
from watchdog.config.model import Mode
from watchdog.frames.heartbeat import GroupState, NodeFlags
from watchdog.judgement.gate_keeper import GateKeeper
from watchdog.judgement.group_view import GateReason, GroupView, Offer
from watchdog.judgement.state import WatcherState

OFFER_MS = 8_000
"""So long the peer has to become able to take over. Then the handover is given up and nothing has changed."""
READY_MS = 300
"""keepalived leaves FAULT some ms after its file says so; it is not seen from outside."""
RELEASED_BY_OFFER = (GateReason.HANDOVER, GateReason.YIELDED)


class Handovers:
    """For the groups of one watcher; the memory is in ``GroupView.offer`` and in the gate."""

    def __init__(self, state: WatcherState, keeper: GateKeeper) -> None:
        self._state = state
        self._keeper = keeper
        self._saved = state.started.durable.handovers

    def refusal(self, now_ns: int, view: GroupView) -> str:
        """Why the group cannot be given away now, or ""."""
        state, report = self._state, view.fresh_report(now_ns)
        peer = state.settings.peer.name
        if not state.contact.on_a_path(now_ns) or report is None or state.contact.last is None:
            return "the peer is not heard: nobody could take it"
        if view.offer is not None:
            left_s = max(0, view.offer.until_ns - now_ns) // (1_000 * NS_PER_MS) + 1
            return f"it is being handed over already; {peer} has another {left_s} s"
        if report.held:
            return f"{peer} owns it too: that is a split, not a handover"
        flags = state.contact.last.flags
        for flag, why in (
            (NodeFlags.QUARANTINED, "is in quarantine"),
            (NodeFlags.ISOLATED, "is isolated"),
            (NodeFlags.STOPPING, "is stopping"),
            (NodeFlags.VRRP_HUNG, "has a VRRP daemon that hangs"),
        ):
            if flag in flags:
                return f"{peer} {why}: it could not take it"
        if report.state in (GroupState.FAULT, GroupState.ABSENT) or NodeFlags.VRRP_RUNNING not in flags:
            return f"the VRRP daemon of {peer} is {report.state.name.lower()} for it: it could not take it"
        return ""

    def order(self, now_ns: int, view: GroupView, who: str) -> str:
        """Begin; the answer says what happens. ``refusal`` was asked before."""
        report = view.fresh_report(now_ns)
        held = report is not None and report.state is GroupState.HELD
        if not held or self._state.mode is Mode.STRICT:
            self._yield(now_ns, view, who)
            return f"handing over {view.scope}"
        view.offer = Offer(who, now_ns + OFFER_MS * NS_PER_MS)
        view.wake_at(view.offer.until_ns)
        self._state.record_action(view.scope, "offer", self._state.settings.peer.name, f"by {who}: the peer is held, its hold ends first")
        return f"handing over {view.scope} as soon as the hold of {self._state.settings.peer.name} has ended, at most {OFFER_MS // 1000} s"

    def step(self, now_ns: int, view: GroupView) -> None:
        """Go on with what was ordered here, or what the peer offers. Before the gate's own step."""
        self._resume(now_ns, view)
        self._take_offer(now_ns, view)
        offer = view.offer
        if offer is None:
            return
        report = view.fresh_report(now_ns)
        if report is not None and report.held:
            self._yield(now_ns, view, offer.who)  # its daemon preempts: it has taken the group already
            return
        if not view.own:
            view.offer = None  # its daemon preempts and ours has let go: VRRP has moved it
            self._state.record_action(view.scope, "offer", self._state.settings.peer.name, "it has taken the group", "done")
            return
        if now_ns >= offer.until_ns or not self._state.contact.on_a_path(now_ns):
            view.offer = None
            self._state.record_action(view.scope, "offer", self._state.settings.peer.name, "it did not become able to take over", "failed")
            self._state.publish(f"{view.scope}: handover given up: {self._state.settings.peer.name} did not become able to take over")
            return
        ready = report is not None and report.state is GroupState.BACKUP and report.can_take
        if not ready:
            offer.ready_ns = None
        elif offer.ready_ns is None:
            offer.ready_ns = now_ns
        if offer.ready_ns is not None and now_ns >= offer.ready_ns + READY_MS * NS_PER_MS:
            self._yield(now_ns, view, offer.who)
            return
        view.wake_at(offer.until_ns if offer.ready_ns is None else offer.ready_ns + READY_MS * NS_PER_MS)

    def conclude(self, now_ns: int) -> None:
        """Which groups are given away is durable."""
        given = tuple(view.scope for view in self._state.groups.values() if view.gate.why is GateReason.HANDOVER)
        if given != self._saved and self._state.settled(now_ns):
            self._saved = given
            self._state.record_node("handovers", list(given))

    def _yield(self, now_ns: int, view: GroupView, who: str) -> None:
        view.offer = None
        self._keeper.hand_over(now_ns, view, who)

    def _take_offer(self, now_ns: int, view: GroupView) -> None:
        report = view.fresh_report(now_ns)
        if report is None or report.state is not GroupState.OFFERING:
            return
        view.planned_until_ns = now_ns + self._state.settings.policy.planned_grace_ms * NS_PER_MS
        if self._state.mode is Mode.RESOLVE and view.gate.why in RELEASED_BY_OFFER and not view.own:
            self._keeper.end_hold(now_ns, view, "the peer hands the group over")

    def _resume(self, now_ns: int, view: GroupView) -> None:
        started = self._state.started
        if view.gate.state is not None or self._state.mode is not Mode.RESOLVE or not started.same_boot or view.own:
            return
        if view.scope in started.durable.handovers:
            self._keeper.hand_over(now_ns, view, "an operator, before this watcher started")
