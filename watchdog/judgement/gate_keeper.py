"""PURE: what the local VRRP daemon may do with a group: why it is held, and when a hold ends."""

from __future__ import annotations

from base.core import NS_PER_MS
from watchdog.config.model import Mode
from watchdog.frames.heartbeat import GroupState
from watchdog.judgement.commands import GateState, SetGate
from watchdog.judgement.events import DaemonState
from watchdog.judgement.evidence import Owner
from watchdog.judgement.fitness import peer_is_fitter, peer_is_less_fit
from watchdog.judgement.group_view import GateReason, GroupView
from watchdog.judgement.removal import Remover
from watchdog.judgement.state import WatcherState
from watchdog.judgement.verdict import Isolation

TRIAL_BACKOFF_MAX_MS = 3_600_000
HANDOVER_HOLD_MS = 10_000
NOT_TAKEN_MS = 10_000
"""A fitter peer that has not taken a group after this time is not going to: better a sick owner than none."""
FIT_AGAIN_MS = 5_000
"""How long a node must be as fit as the peer again before its daemon may have the group back."""
PEER_UNFIT_MS = 2_000
"""So long the node that got a group by a handover must be the less fit one before the handover is void."""
HOUR_NS = 3_600_000 * NS_PER_MS
MOVES_AN_HOUR = 3
"""How often one group moves for health; after that it stays where it is until an hour has passed."""


def released_for_good(state: WatcherState, now_ns: int, view: GroupView) -> bool:
    """strict: the last authenticated word of a peer that stopped in order was that its own gate is shut: nothing there can become master
    again before a watcher lives there, and that one will speak. What its daemon still held is gone when a whole census finds nobody."""
    report = view.report
    if not state.peer_left or report is None or state.contact.on_a_path(now_ns) or report.state is not GroupState.HELD:
        return False
    if any(True for _ in state.ledger.fresh(now_ns, view.scope, Owner.PEER)) or state.surroundings.daemon is not DaemonState.RUNNING:
        return False
    return state.census.complete_since(view.scope, view.report_ns)


_UNTRUSTED = {
    GateReason.QUARANTINED: "this node was fenced and nobody has cleared it",
    GateReason.SUSPECT: "this node ended without an orderly stop and has heard nobody since",
}


class GateKeeper:
    """For the groups of one watcher; the memory is in the views."""

    def __init__(self, state: WatcherState, remover: Remover) -> None:
        self._state = state
        self._remover = remover

    def hold(self, now_ns: int, view: GroupView, why: GateReason, reason: str) -> None:
        """Our daemon must not own the group."""
        gate = view.gate
        gate.why = why
        gate.on_trial = False
        gate.peer_took = False
        view.fit_since_ns = None
        gate.trial_due_ns = now_ns + gate.trial_backoff_ms * NS_PER_MS
        self._order(now_ns, view, GateState.HELD, reason)

    def grant(self, now_ns: int, view: GroupView, reason: str) -> None:
        """strict: the group is ours to take."""
        view.gate.why = None
        view.gave_up = False
        view.gate.epoch += 1
        self._order(now_ns, view, GateState.GRANTED, reason)
        self._state.record_action(view.scope, "grant", view.scope, reason)

    def hand_over(self, now_ns: int, view: GroupView, who: str) -> None:
        """A person wants the peer to own the group (Promise 6: planned)."""
        view.planned_until_ns = now_ns + self._state.settings.policy.planned_grace_ms * NS_PER_MS
        self.hold(now_ns, view, GateReason.HANDOVER, f"handover ordered by {who}")
        view.gate.trial_due_ns = now_ns + HANDOVER_HOLD_MS * NS_PER_MS

    def end_hold(self, now_ns: int, view: GroupView, reason: str) -> None:
        """resolve: whatever the hold was for, it is over."""
        gate = view.gate
        gate.why = None
        gate.deaf = False
        view.gave_up = False
        gate.trial_due_ns = None
        self._order(now_ns, view, GateState.OPEN, reason)

    def _order(self, now_ns: int, view: GroupView, wanted: GateState, reason: str) -> None:
        gate = view.gate
        if gate.state is wanted:
            return
        gate.state = wanted
        gate.reason = reason
        gate.since_ns = now_ns
        self._state.out.append(SetGate(view.key, wanted, gate.epoch, reason))
        self._state.beat_wanted = True
        self._state.publish(f"{view.scope}: gate {wanted.value}: {reason}")

    def step(self, now_ns: int, view: GroupView) -> None:
        """What the gate should be now, by mode and by the standing reason of a hold."""
        state, gate = self._state, view.gate
        if not state.resolves:
            if gate.state is not GateState.OPEN:
                self._order(now_ns, view, GateState.OPEN, "observe mode holds nobody")
            return
        if state.quarantined or state.suspect:
            why = GateReason.QUARANTINED if state.quarantined else GateReason.SUSPECT
            if gate.why is not why:
                self.hold(now_ns, view, why, _UNTRUSTED[why])
            if view.own:
                self._remover.want(view, now_ns)
            return
        if state.mode is Mode.STRICT:
            self._strict_gate(now_ns, view)
        else:
            self._resolve_gate(now_ns, view)

    def _strict_gate(self, now_ns: int, view: GroupView) -> None:
        gate, state = view.gate, self._state
        if gate.state is None:
            continuing = view.own and state.started.same_boot
            wanted = GateState.GRANTED if continuing else GateState.HELD
            gate.why = None if continuing else GateReason.STRICT
            self._order(now_ns, view, wanted, "owned already when braind started" if continuing else "strict: no takeover without proof")
        if gate.state is not GateState.HELD:
            return
        if gate.why is not GateReason.STRICT and gate.why is not None and self._may_release(now_ns, view):
            gate.why = GateReason.STRICT  # what remains is that nobody has granted it yet
            view.gave_up = False
        if state.peer_proved_off:
            self.grant(now_ns, view, state.peer_proved_off)  # isolated or not: the last possible owner
        elif self._isolation_over(now_ns, view) and released_for_good(state, now_ns, view):
            self.grant(now_ns, view, "the peer had released it when it stopped in order")

    def _isolation_over(self, now_ns: int, view: GroupView) -> bool:
        return self._state.isolation(now_ns, view.settings.interfaces) is not Isolation.YES

    def _resolve_gate(self, now_ns: int, view: GroupView) -> None:
        gate = view.gate
        if gate.on_trial and view.own:
            self._end_trial(now_ns, view)
        if gate.why is not None and self._may_release(now_ns, view):
            gate.why = None
            gate.deaf = False
            view.gave_up = False
            gate.trial_due_ns = None
        if gate.why is None and (gate.state is not None or self._may_open_first(now_ns, view)):
            self._order(now_ns, view, GateState.OPEN, "nothing forbids it")

    def _may_open_first(self, now_ns: int, view: GroupView) -> bool:
        """After our own restart a hold of the run before stays until it is clear that it is not needed: the peer owns the group and
        its adverts do not arrive here is exactly when it was."""
        if not self._state.settled(now_ns):
            return False
        report = view.fresh_report(now_ns)
        return report is None or not report.held or view.own or view.heard_fresh(now_ns)

    def _may_release(self, now_ns: int, view: GroupView) -> bool:
        """Whether the standing reason of a hold is gone."""
        state, gate = self._state, view.gate
        if gate.why in _UNTRUSTED:
            return True
        if not (state.settled(now_ns) and state.trusted(now_ns)):
            return False
        if gate.why is GateReason.ISOLATED:
            if state.peer_is_gone:
                return True  # Promise 4: since it gave up it has become the last possible owner
            return self._isolation_over(now_ns, view) and state.isolation(now_ns) is Isolation.NO
        if gate.why is GateReason.HUNG and state.surroundings.daemon is not DaemonState.RUNNING:
            return False
        if view.own:
            return False
        report = view.fresh_report(now_ns)
        if gate.why is GateReason.UNFIT and report is not None and state.contact.on_a_path(now_ns):
            return self._unfit_over(now_ns, view, report.held)
        if report is None or not state.contact.on_a_path(now_ns):
            claims = any(True for _ in state.ledger.fresh(now_ns, view.scope, Owner.PEER))
            return state.pair.is_confirmed() and not state.contact.on_a_path(now_ns) and not claims
        gate.peer_took = gate.peer_took or report.held
        if not report.held or view.released_since(gate.since_ns):
            if gate.why is not GateReason.HANDOVER or gate.peer_took:
                return True
            if gate.trial_due_ns is not None and now_ns < gate.trial_due_ns:
                view.wake_at(gate.trial_due_ns)
                return False
            return True
        if gate.why is GateReason.HANDOVER:
            if self._cannot_serve_it(now_ns, view):
                return True
            return self._leaves_it(now_ns, view)  # a daemon that preempts would take it back at once: held until the peer lets go of it
        if view.heard_fresh(now_ns) and not gate.deaf:
            return True
        if gate.why is GateReason.YIELDED and peer_is_less_fit(state, now_ns, view):
            return True  # whoever asked us to yield is not fit to serve it any more
        return self._begin_trial(now_ns, view)

    def _cannot_serve_it(self, now_ns: int, view: GroupView) -> bool:
        """Whoever got the group by a handover has been the less fit one for some time: its hold must not outlast its use."""
        if not peer_is_less_fit(self._state, now_ns, view):
            view.fit_since_ns = None
            return False
        if view.fit_since_ns is None:
            view.fit_since_ns = now_ns
        due_ns = view.fit_since_ns + PEER_UNFIT_MS * NS_PER_MS
        if now_ns < due_ns:
            view.wake_at(due_ns)
        return now_ns >= due_ns

    def _leaves_it(self, now_ns: int, view: GroupView) -> bool:
        """Our daemon hears the peer and would not preempt it: it can be a standby again."""
        heard = view.heard
        if heard is None or not heard.is_fresh(now_ns) or view.gate.deaf:
            return False
        return not view.settings.preempt or view.settings.priority <= heard.priority

    def _unfit_over(self, now_ns: int, view: GroupView, peer_holds: bool) -> bool:
        """We let it go because the peer was fitter: until we are as fit again, or the peer does not take it."""
        gate = view.gate
        gate.peer_took = gate.peer_took or peer_holds
        if not peer_holds and (gate.peer_took or now_ns >= gate.since_ns + NOT_TAKEN_MS * NS_PER_MS):
            return True
        if peer_is_fitter(self._state, now_ns, view):
            view.fit_since_ns = None
            view.wake_at(
                gate.since_ns + NOT_TAKEN_MS * NS_PER_MS if now_ns < gate.since_ns + NOT_TAKEN_MS * NS_PER_MS else now_ns + HOUR_NS
            )
            return False
        if view.fit_since_ns is None:
            view.fit_since_ns = now_ns
        due_ns = view.fit_since_ns + FIT_AGAIN_MS * NS_PER_MS
        moves = [at_ns for at_ns in view.moves_ns if now_ns - at_ns < HOUR_NS]
        if len(moves) >= MOVES_AN_HOUR:
            due_ns = max(due_ns, moves[0] + HOUR_NS)
        view.wake_at(due_ns)
        return now_ns >= due_ns

    def _begin_trial(self, now_ns: int, view: GroupView) -> bool:
        """Adverts were on our wire all the time and our daemon did not hear them: only trying shows whether it does now."""
        gate = view.gate
        if gate.trial_due_ns is None or not view.heard_fresh(now_ns):
            return False
        if now_ns < gate.trial_due_ns:
            view.wake_at(gate.trial_due_ns)
            return False
        gate.on_trial = True
        self._state.record_action(view.scope, "gate_trial", view.scope, "does the local daemon hear the peer's adverts again?")
        return True

    def _end_trial(self, now_ns: int, view: GroupView) -> None:
        """Our daemon took the group although the peer owns it: it is still deaf. Let go at once, wait longer next time."""
        gate = view.gate
        gate.on_trial = False
        if view.peer_denies(now_ns) or not self._state.contact.on_a_path(now_ns):
            return
        gate.trial_backoff_ms = min(gate.trial_backoff_ms * 2, TRIAL_BACKOFF_MAX_MS)
        gate.deaf = True
        self.hold(now_ns, view, GateReason.YIELDED, "the local daemon still does not hear the peer's adverts")
        self._remover.want(view, now_ns)
