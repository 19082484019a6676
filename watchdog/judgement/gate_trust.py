"""PURE: whether the local VRRP daemon obeys its gate. A hold that does not hold is worse than none: the peer believes that we yielded.

Two kinds of evidence. *Beforehand*: the shell looks whether the daemon reads the gate at all (GateChecked). *By the deed*: a group that is
held and whose addresses stay, or come back a second time after they were gone, is not held, whatever the files say.
"""

from __future__ import annotations

from base.core import NS_PER_MS
from watchdog.judgement.commands import GateState
from watchdog.judgement.events import DaemonState, GateChecked, GateObedience
from watchdog.judgement.group_view import GroupView
from watchdog.judgement.incidents import Trouble
from watchdog.judgement.state import WatcherState
from watchdog.judgement.troubles import Troubles

LET_GO_MS = 3_000
"""A living daemon lets go within this after it was held (keepalived 2.2.7: some ms after the file was written)."""
RELAPSES = 2
"""So often an address may come back under a hold before the hold counts as failed: the first time may be a start or a reload under way."""
CALM_MS = 60_000
"""A hold that failed is believed again after so long without an address of the group."""
NOT_OBEYED = (GateObedience.NOT_CONFIGURED, GateObedience.NOT_READ, GateObedience.NOT_WRITABLE, GateObedience.NOT_CONNECTED)


class GateTrust:
    """For the groups of one watcher; the memory is in ``GroupView.obedience``."""

    def __init__(self, state: WatcherState, troubles: Troubles) -> None:
        self._state = state
        self._troubles = troubles

    def checked(self, now_ns: int, event: GateChecked) -> None:
        """The shell looked."""
        view = self._state.groups.get(event.key)
        if view is None:
            return
        trust = view.trust
        if trust.obedience is event.obedience:
            return
        self._state.record_action(view.scope, "gate_checked", view.scope, event.detail or event.obedience.value, "observed")
        trust.obedience, trust.detail = event.obedience, event.detail
        self._state.touch(view.scope)

    def step(self, now_ns: int, view: GroupView) -> None:
        """Judge the hold of one group, and tell a person when it is none."""
        trust = view.trust
        before = trust.fails
        self._watch(now_ns, view)
        if trust.fails and not before:
            self._state.record_action(view.scope, "hold", view.scope, "the VRRP daemon takes it again under the hold", "failed")
            self._state.beat_wanted = True
        node, addresses = self._state.settings.self_name, ", ".join([a.address for a in view.held] or view.settings.vips)
        fails = f"{node} cannot hold the VRRP daemon: {view.settings.name} ({addresses}) is owned here although it is held"
        self._troubles.report(now_ns, view.scope, Trouble.HOLD_FAILS, fails if trust.fails else "", trust.detail)
        runs = self._state.surroundings.daemon is DaemonState.RUNNING  # a daemon that is not there reads nothing
        unheeded = self._state.resolves and runs and trust.obedience in NOT_OBEYED
        silent = f"{node} could not hold the VRRP daemon: {trust.detail or trust.obedience.value} ({view.settings.name})"
        self._troubles.report(now_ns, view.scope, Trouble.GATE_NOT_OBEYED, silent if unheeded else "", "brainctl check tells what to do")

    def _watch(self, now_ns: int, view: GroupView) -> None:
        gate, trust = view.gate, view.trust
        if gate.state is not GateState.HELD:
            trust.begin_anew()
            return
        if not view.own:
            trust.owned_since_ns = None
            trust.let_go = True
            if trust.fails and now_ns - trust.owned_ns >= CALM_MS * NS_PER_MS:
                trust.begin_anew()
            elif trust.fails:
                view.wake_at(trust.owned_ns + CALM_MS * NS_PER_MS)
            return
        trust.owned_ns = now_ns
        if self._state.surroundings.daemon is not DaemonState.RUNNING:
            return  # a hung or dead daemon takes nothing; what it left behind is removed (removal.py)
        if trust.owned_since_ns is None:
            trust.owned_since_ns = now_ns
            trust.relapses += trust.let_go
        overdue_ns = max(trust.owned_since_ns, gate.since_ns) + LET_GO_MS * NS_PER_MS
        if trust.relapses >= RELAPSES or now_ns >= overdue_ns:
            trust.fails = True
        else:
            view.wake_at(overdue_ns)
