"""PURE: a group moves to the fitter node (Promise 4).

The sicker owner lets go, never the fitter node takes: so nobody owns it twice in strict, and an owner that is frozen or cut off from
every path is no matter for this file. It lets go only to a peer that it hears, that hears it, and that says that it can take; else it
keeps the group, and the verdict UNFIT_OWNER pages.

Only what concerns the group's interfaces counts here (fitness.PORT). A difference must have stood for HEALTH_STANDS_MS: when the
gateway dies, the two nodes notice at times that differ by a second or so. Open evidence (answers of references, traffic) moves a group
away and never back within an hour; carrier is our own kernel's word.
"""

from __future__ import annotations

from base.core import NS_PER_MS
from watchdog.judgement.arbitration import Defect
from watchdog.judgement.fitness import describe, peer_is_fitter, peer_is_less_fit
from watchdog.judgement.gate_keeper import HOUR_NS, MOVES_AN_HOUR, GateKeeper
from watchdog.judgement.group_view import GateReason, GroupView
from watchdog.judgement.removal import Remover
from watchdog.judgement.state import WatcherState

CERTAIN = Defect.NO_CARRIER
HEALTH_STANDS_MS = 1_500


class Mover:
    """Lets groups of this node go for health; the memory is in the views."""

    def __init__(self, state: WatcherState, gate: GateKeeper, remover: Remover) -> None:
        self._state = state
        self._gate = gate
        self._remover = remover

    def step(self, now_ns: int, view: GroupView) -> None:
        """Let the group go when the peer has been fitter for long enough; remember how we came to it."""
        self._note_owning(now_ns, view)
        if not view.own or not self._may_begin(now_ns, view):
            view.unfit_since_ns = None
            return
        if view.unfit_since_ns is None:
            view.unfit_since_ns = now_ns
        due_ns = view.unfit_since_ns + HEALTH_STANDS_MS * NS_PER_MS
        if now_ns < due_ns:
            view.wake_at(due_ns)
        elif not (why := self._refusal(now_ns, view)):
            self._let_go(now_ns, view)
        elif why != view.kept_unfit:
            view.kept_unfit = why
            self._state.record_action(view.scope, "release", view.scope, why, "refused")

    def _note_owning(self, now_ns: int, view: GroupView) -> None:
        if not view.own or view.settings.preempt:
            view.senior = False
        elif view.peer_denies(now_ns):
            view.senior = True
        if not view.own:
            view.owning = False
        elif not view.owning:
            view.owning = True
            view.owned_since_ns = now_ns
            view.kept_unfit = ""
            view.taken_unfit_ns = now_ns if peer_is_less_fit(self._state, now_ns, view) else None

    def _may_begin(self, now_ns: int, view: GroupView) -> bool:
        state = self._state
        if not state.resolves or state.quarantined or state.in_maintenance(now_ns) or view.gate.why is not None:
            return False
        return state.settled(now_ns) and state.trusted(now_ns) and peer_is_fitter(state, now_ns, view)

    def _refusal(self, now_ns: int, view: GroupView) -> str:
        """Why the group is kept all the same, or ""."""
        report = view.fresh_report(now_ns)
        if report is None or not report.can_take:
            return "the peer is fitter, and says that it cannot take the group"
        if not self._state.contact.is_heard_by_peer():
            return "the peer is fitter, and does not hear this node: it cannot know that it may take the group"
        view.moves_ns = [at_ns for at_ns in view.moves_ns if now_ns - at_ns < HOUR_NS]
        if len(view.moves_ns) >= MOVES_AN_HOUR:
            return f"the peer is fitter, and the group was moved for health {MOVES_AN_HOUR} times within an hour"
        certain = self._state.group_defects(now_ns, view) & CERTAIN
        lately = view.taken_unfit_ns is not None and now_ns - view.taken_unfit_ns < HOUR_NS
        if lately and not certain:
            return "the peer is fitter, and had let the group go for its own health within the hour: open evidence alone moves nothing back"
        return ""

    def _let_go(self, now_ns: int, view: GroupView) -> None:
        state = self._state
        found = describe(state, now_ns, view)
        view.moves_ns.append(now_ns)
        view.unfit_since_ns = None
        state.record_action(view.scope, "release", view.scope, f"the peer is fitter: {found}")
        self._gate.hold(now_ns, view, GateReason.UNFIT, f"the peer is fitter to serve it: {found}")
        self._remover.want(view, now_ns + state.settings.policy.yield_deadline_ms // 2 * NS_PER_MS)
