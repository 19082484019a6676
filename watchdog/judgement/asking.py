"""PURE: asking the peer to give a group up: the loser of a split (rung 3), or strict's release before a takeover.

A request is a number in our group report; the peer answers ACCEPTED, then DONE when its kernel holds nothing any more, or REFUSED.
A refusal only means that the two nodes do not see the same figures yet: we ask again until the deadline, and only then has asking
failed. A node that yields withdraws its own request, so at most one of two askers can win.
"""

from __future__ import annotations

from base.core import NS_PER_MS
from watchdog.config.model import Mode
from watchdog.frames.heartbeat import GroupReport, GroupState, NodeFlags, YieldAnswer
from watchdog.judgement.commands import GateState
from watchdog.judgement.events import DaemonState
from watchdog.judgement.fitness import peer_is_fitter, peer_is_less_fit
from watchdog.judgement.group_view import Asking, GateReason, GroupView, Purpose
from watchdog.judgement.hooks import Hooks
from watchdog.judgement.state import WatcherState
from watchdog.judgement.verdict import Isolation, Verdict

REFUSED_AGAIN_MS = 200
FAILED_AGAIN_MS = 2_000
TAKEOVER_WAIT_MS = 1_000
UNFIT_WAIT_MS = 10_000
"""A node whose port is dead leaves the group to a peer that can take it, and asks only when that one has not come for it."""
RELAPSES = 2
RELAPSE_MS = 30_000
"""A yield that does not stick, so often within this time, is a failed yield (case T6)."""
STALLED_ELECTION_INTERVALS = 8
"""A peer that may take over but does not within this many advert intervals is not going to (a FAULT that cannot be seen from outside)."""


class Asker:
    """Asks for the groups of one watcher; the memory is in the views."""

    def __init__(self, state: WatcherState, hooks: Hooks) -> None:
        self._state = state
        self._hooks = hooks

    def step(self, now_ns: int, view: GroupView, may_ask: bool) -> None:
        """Begin, repeat or end what is asked for this group. ``may_ask``: the ladder allows to ask the loser of a split."""
        if may_ask and self._hooks.should_ask(now_ns, view):
            self._ask_loser(now_ns, view)
        elif view.asking.purpose is Purpose.SPLIT:
            self._end_split(now_ns, view)
        if self._state.mode is Mode.STRICT:
            self._ask_for_takeover(now_ns, view)

    def answered(self, now_ns: int, view: GroupView, answer: YieldAnswer) -> bool:
        """The peer's answer to the present request. True: strict may take the group over now."""
        asking = view.asking
        if answer is asking.answer:
            return False
        asking.answer = answer
        if answer is YieldAnswer.REFUSED:
            asking.request = 0
            asking.again_ns = now_ns + (REFUSED_AGAIN_MS if asking.purpose is Purpose.SPLIT else FAILED_AGAIN_MS) * NS_PER_MS
            self._state.beat_wanted = True
        if answer is not YieldAnswer.DONE:
            return False
        if asking.purpose is Purpose.TAKEOVER:
            self.withdraw(view)
            return view.gate.state is GateState.HELD
        self._record(view, "the peer yielded", "done")
        view.yielded_ns = [*view.yielded_ns[1 - RELAPSES :], now_ns]
        if view.own:
            view.start_announcing(now_ns)
        return False

    def withdraw(self, view: GroupView) -> None:
        """Ask for nothing any more; a late answer to the old request counts for nothing."""
        if view.asking.request:
            self._state.beat_wanted = True
        view.asking = Asking()

    # --- the loser of a split ---

    def _ask_loser(self, now_ns: int, view: GroupView) -> None:
        asking = view.asking
        if asking.purpose is not Purpose.SPLIT:
            asking = view.asking = Asking(Purpose.SPLIT, deadline_ns=self._deadline(now_ns))
            self._record(view, "yield", "ordered")
            lately = [at_ns for at_ns in view.yielded_ns if now_ns - at_ns < RELAPSE_MS * NS_PER_MS]
            if len(lately) >= RELAPSES:
                asking.failed = True  # it says that it yields, and its daemon takes the group again: the next rung is open
                self._record(view, f"the peer has yielded {RELAPSES} times and owns it again", "failed")
        if not asking.failed and now_ns >= asking.deadline_ns:
            asking.failed = True
            self._record(view, f"last answer: {asking.answer.name.lower()}", "failed")
        if asking.failed and asking.request and now_ns >= asking.again_ns:
            asking.request = 0  # the peer may have been unable to act on the old one: a new number is a new question
        if not asking.request and now_ns >= asking.again_ns:
            self._send(now_ns, view)
        view.wake_at(max(asking.again_ns, now_ns + 1) if asking.failed else asking.deadline_ns)
        if not asking.request:
            view.wake_at(asking.again_ns)

    def _end_split(self, now_ns: int, view: GroupView) -> None:
        if view.track.verdict is not Verdict.SPLIT_BRAIN:
            self._record(view, "the split is over", "done")
            self.withdraw(view)
        elif self._state.keeps(now_ns, view) is False:
            self.withdraw(view)  # the comparison has turned: now it is the peer's to ask

    # --- strict: a release before every takeover ---

    def _ask_for_takeover(self, now_ns: int, view: GroupView) -> None:
        """strict: promise of one owner; only the peer's release (answer DONE), a proof or a person opens the gate."""
        wait_ms = self._takeover_wait_ms(now_ns, view)
        if wait_ms is None:
            view.free_since_ns = None
            if view.asking.purpose is Purpose.TAKEOVER:
                self.withdraw(view)
            return
        if view.free_since_ns is None:
            view.free_since_ns = now_ns
        asking = view.asking
        if asking.purpose is None:
            asking = view.asking = Asking(Purpose.TAKEOVER)
        due_ns = max(asking.again_ns, view.free_since_ns + wait_ms * NS_PER_MS)
        if asking.request and now_ns >= asking.deadline_ns:
            asking.request = 0
            due_ns = asking.again_ns = now_ns + FAILED_AGAIN_MS * NS_PER_MS
        if not asking.request and now_ns >= due_ns:
            # A serial line alone needs a second each way; nothing is lost by waiting for the answer.
            asking.deadline_ns = max(self._deadline(now_ns), now_ns + 2 * self._state.contact.slowest_silent_ns)
            self._send(now_ns, view)
        view.wake_at(asking.deadline_ns if asking.request else due_ns)

    def _takeover_wait_ms(self, now_ns: int, view: GroupView) -> int | None:
        """How long the group must have been free before we ask for it; None: it is not free, or we do not want it."""
        state = self._state
        report = view.fresh_report(now_ns)
        if report is None or not self._fit_to_take(now_ns, view):
            return None
        if state.in_maintenance(now_ns) and (report.can_take or report.held):
            return None  # who is being worked on wants nothing, but serves when nobody else can, as plain VRRP would have it
        if view.gate.why is GateReason.HANDOVER and now_ns < (view.gate.trial_due_ns or 0):
            return None
        # The better node asks first; the other one only when that does not want it (a handover, a dead daemon).
        wait_ms = TAKEOVER_WAIT_MS if state.keeps(now_ns, view) else 3 * TAKEOVER_WAIT_MS
        if report.can_take and peer_is_fitter(state, now_ns, view):
            wait_ms = UNFIT_WAIT_MS
        if report.held:
            view.peer_owned = True
            return wait_ms if self._peer_hangs(now_ns, view, report) else None
        if (report.state is GroupState.HELD or not report.can_take) and peer_is_less_fit(state, now_ns, view):
            return 0  # it let go because we are fitter, or it cannot be elected: what a keepalived without carrier is in cannot be seen
        if report.state is GroupState.HELD and not report.can_take and view.peer_owned:
            return 0  # it let go, by order or in need, and does not want it back: there is no better node to wait for
        if report.state in (GroupState.ABSENT, GroupState.FAULT, GroupState.HELD):
            return wait_ms
        return wait_ms + STALLED_ELECTION_INTERVALS * view.settings.advert_interval_ms

    def _fit_to_take(self, now_ns: int, view: GroupView) -> bool:
        state = self._state
        if view.gate.state is not GateState.HELD or view.own or state.quarantined or state.stopping:
            return False
        if not (state.settled(now_ns) and state.trusted(now_ns)) or state.surroundings.daemon is not DaemonState.RUNNING:
            return False
        return state.isolation(now_ns) is not Isolation.YES

    def _peer_hangs(self, now_ns: int, view: GroupView, report: GroupReport) -> bool:
        """Its daemon hangs and its adverts have ceased: VRRP would take over now; we ask instead."""
        hung = bool(self._state.contact.flags() & NodeFlags.VRRP_HUNG)
        return hung and report.held and not view.heard_fresh(now_ns) and self._state.keeps(now_ns, view) is True

    # --- both ---

    def _deadline(self, now_ns: int) -> int:
        return now_ns + self._state.settings.policy.yield_deadline_ms * NS_PER_MS

    def _send(self, now_ns: int, view: GroupView) -> None:
        state = self._state
        state.rows += 1
        view.asking.request = ((state.started.incarnation & 0xFFFF) << 16 | state.rows & 0xFFFF) or 1
        view.asking.answer = YieldAnswer.NONE
        view.asking.again_ns = now_ns + FAILED_AGAIN_MS * NS_PER_MS
        state.beat_wanted = True

    def _record(self, view: GroupView, detail: str, outcome: str) -> None:
        self._state.record_action(view.scope, "ask_peer", self._state.settings.peer.name, detail, outcome)
