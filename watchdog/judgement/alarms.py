"""PURE: the two things about a group that are paged critically once, whatever other incident is open and whatever is excused (Promise
10): the loss of the last owner, and a split that nothing ends. As troubles (troubles.py) they are incidents of their own.

Maintenance and an orderly stop excuse work, not the loss of the last owner. (A hold that does not hold: gate_trust.py; a fence that is
due and refused: fence_control.py.)
"""

from __future__ import annotations

from base.core import NS_PER_MS
from watchdog.config.model import Mode
from watchdog.judgement.commands import GateState
from watchdog.judgement.delays import bounds_of, split_bound_ms
from watchdog.judgement.evidence import Owner
from watchdog.judgement.group_view import GateReason, GroupView
from watchdog.judgement.incidents import Trouble
from watchdog.judgement.stages import Stage
from watchdog.judgement.state import WatcherState
from watchdog.judgement.troubles import Troubles
from watchdog.judgement.verdict import PAIR_SCOPE, Isolation, Verdict


class Alarms:
    """For the groups of one watcher; the memory is in the views and the incidents."""

    def __init__(self, state: WatcherState, troubles: Troubles) -> None:
        self._state = state
        self._troubles = troubles

    def step(self, now_ns: int, view: GroupView, election_ns: int, fencing: bool) -> None:
        """Look at one group. ``election_ns``: longer than any ordinary election; ``fencing``: a fence of the peer runs, and its end will
        decide who owns the group."""
        if not self._state.settled(now_ns) or not self._state.trusted(now_ns):
            return
        self._last_owner(now_ns, view, election_ns, fencing)
        self._split(now_ns, view, fencing)

    # --- nobody owns it ---

    def _last_owner(self, now_ns: int, view: GroupView, election_ns: int, fencing: bool) -> None:
        if not self._is_ownerless(now_ns, view):
            view.ownerless_ns = None
            self._troubles.report(now_ns, view.scope, Trouble.LAST_OWNER_LOST)
            return
        if view.ownerless_ns is None:
            view.ownerless_ns = now_ns
        if fencing:
            view.ownerless_ns = now_ns  # its end decides
        opened_ns = view.gate.since_ns if view.gate.state in (GateState.OPEN, GateState.GRANTED) else 0
        due_ns = max(view.ownerless_ns, opened_ns) + election_ns
        if now_ns < due_ns:
            view.wake_at(due_ns)
        elif not self._told_by_verdict(view):
            vips = ", ".join(view.settings.vips)
            words = f"nobody is known to serve {view.settings.name} ({vips}): {self._ways_out(now_ns, view)}"
            self._troubles.report(now_ns, view.scope, Trouble.LAST_OWNER_LOST, words)

    def _is_ownerless(self, now_ns: int, view: GroupView) -> bool:
        """Neither we nor anybody who can be heard. A node that is cut off cannot know."""
        state = self._state
        if view.own or any(True for fact in state.ledger.fresh(now_ns, view.scope) if fact.owner is not Owner.SELF):
            return False
        if state.isolation(now_ns, view.settings.interfaces) is Isolation.YES:
            return state.peer_is_gone or (view.gave_up and not self._told_of_isolation())
        return view.peer_denies(now_ns) or not state.contact.on_a_path(now_ns)

    def _told_of_isolation(self) -> bool:
        """The page of the isolation says that this node gives up; but a worse incident of the pair may have been open already."""
        incident = self._state.incidents.of(PAIR_SCOPE)
        return incident is not None and incident.paged and incident.verdict is Verdict.ISOLATED

    def _told_by_verdict(self, view: GroupView) -> bool:
        incident = self._state.incidents.of(view.scope)
        return incident is not None and incident.paged and incident.verdict is Verdict.NO_OWNER

    def _ways_out(self, now_ns: int, view: GroupView) -> str:
        """Why nothing is taken over here, and what a person can do."""
        state = self._state
        peer, me, group = state.settings.peer.name, state.settings.self_name, view.settings.name
        if view.gave_up and state.isolation(now_ns, view.settings.interfaces) is Isolation.YES:
            return f"{me} is cut off and gave it up, and cannot see whether {peer} serves it: look at {peer}, and at the network of {me}"
        if state.quarantined:
            return f"{me} was fenced and waits in quarantine; when it is in order again: brainctl fence clear quarantine"
        if view.gate.why is GateReason.HANDOVER:
            return f"{me} is held by a handover and {peer} has not taken {group}: brainctl handover {group} on {peer} ends it"
        if view.gate.state is GateState.HELD and not state.contact.on_a_path(now_ns):
            ways = f"either fence it (brainctl fence off {peer}), or, when you have seen that it is off, say so (brainctl fence ack {peer})"
            strict = "strict takes nothing over without a proof that" if state.mode is Mode.STRICT else "it is not known that"
            return f"{strict} {peer} is off, and {peer} is not heard; {ways}"
        return f"neither {me} nor {peer} takes it: look at the VRRP daemons of both (brainctl doctor)"

    # --- a split that nothing ends ---

    def _split(self, now_ns: int, view: GroupView, fencing: bool) -> None:
        track = view.track
        if track.verdict is not Verdict.SPLIT_BRAIN or track.stage is not Stage.CONFIRMED or not self._state.resolves:
            self._troubles.report(now_ns, view.scope, Trouble.SPLIT_LASTS)
            return
        bound_ms = self._split_bound_ms(now_ns)
        due_ns = track.since_ns + bound_ms * NS_PER_MS
        if now_ns < due_ns:
            view.wake_at(due_ns)
        elif not fencing:  # a fence that runs is about to end it
            words = f"two owners of {view.settings.name} for more than {bound_ms // 1_000} s, and nothing has ended it: {track.reason}"
            self._troubles.report(now_ns, view.scope, Trouble.SPLIT_LASTS, words)

    def _split_bound_ms(self, now_ns: int) -> int:
        """D + R by this configuration; while no path lives a fence ends the split, if one may be expected."""
        state = self._state
        groups = [view.settings for view in state.groups.values()]
        bounds = bounds_of(state.settings, len(groups), len({group.priority for group in groups}))
        fences = not (state.contact.on_a_path(now_ns) or state.in_maintenance(now_ns) or state.peer_excused(now_ns) or state.quarantined)
        return max(split_bound_ms(bounds), bounds.detect_ms + bounds.fence_ms if fences and bounds.fence_ms is not None else 0)
