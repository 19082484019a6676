"""PURE: removing addresses that this node's own kernel must not hold any more: a loser's, an orphan's, a quarantined node's."""

from __future__ import annotations

from base.core import NS_PER_MS
from watchdog.config.model import Mode
from watchdog.frames.heartbeat import GroupState
from watchdog.judgement.commands import GateState, RemoveAddress
from watchdog.judgement.group_view import GroupView
from watchdog.judgement.state import WatcherState
from watchdog.judgement.verdict import Verdict

REMOVE_RETRY_MS = 200
MAX_REMOVALS = 10


TAKEOVER_ADVERTS = 4
"""Master_Down_Interval (RFC 5798 section 6.1) is below four advertisement intervals: within these a living backup takes over."""


def orphan_due_ns(state: WatcherState, now_ns: int, view: GroupView) -> int | None:
    """When what a dead daemon left behind is to be removed; None while the daemon is not known to be gone.

    Until the peer serves, the orphan does: clients are answered from it, and removing it sooner is an outage that plain VRRP would not have
    had (Promise 9). In strict the removal is the release that the peer waits for.
    """
    since_ns = state.surroundings.orphan_since_ns(view.settings.advert_interval_ms)
    if since_ns is None or state.mode is Mode.STRICT or _peer_serves(now_ns, view):
        return since_ns
    return since_ns + TAKEOVER_ADVERTS * view.settings.advert_interval_ms * NS_PER_MS


def is_stray(state: WatcherState, now_ns: int, view: GroupView) -> bool:
    """Strict: an address of a group that is held here, that the peer says under the key that it serves, and that our own daemon does not
    claim: put there by hand, or left by a program. It was never ours, so nothing is waited for or confirmed (promise "one owner")."""
    if state.mode is not Mode.STRICT or view.gate.state is not GateState.HELD or not view.own or state.in_maintenance(now_ns):
        return False
    claimed = view.local_state is GroupState.MASTER or (view.sent is not None and view.sent.is_fresh(now_ns))
    report = view.fresh_report(now_ns)
    return not claimed and report is not None and report.held and state.settled(now_ns) and state.trusted(now_ns)


def _peer_serves(now_ns: int, view: GroupView) -> bool:
    report = view.fresh_report(now_ns)
    return view.heard_fresh(now_ns) or (report is not None and report.held)


class Remover:
    """For the groups of one watcher; the memory is in the views."""

    def __init__(self, state: WatcherState) -> None:
        self._state = state

    def want(self, view: GroupView, due_ns: int) -> None:
        """Remove them from ``due_ns`` on, unless they are gone by then."""
        if view.removal_due_ns is None:
            view.removal_due_ns = due_ns
            view.removals = 0

    def step(self, now_ns: int, view: GroupView, orphan: bool) -> None:
        """Remove what is due. ``orphan``: the ladder allows to remove what a dead daemon left behind."""
        stray = is_stray(self._state, now_ns, view)
        if orphan or stray:
            self.want(view, now_ns)
        elif self._state.resolves and view.own:
            orphan_ns = orphan_due_ns(self._state, now_ns, view)
            if orphan_ns is not None:
                view.wake_at(max(orphan_ns, self._state.settled_from_ns))
        if not view.own:
            view.removal_due_ns = None
        if view.removal_due_ns is None:
            return
        if now_ns < view.removal_due_ns:
            view.wake_at(view.removal_due_ns)
            return
        if view.removals >= MAX_REMOVALS:
            return
        reason = view.gate.reason or view.track.reason
        if orphan or stray:
            reason = "orphan: no local daemon claims it" if orphan else "the peer serves it, and our VRRP daemon does not claim it"
        if not view.removals:
            if orphan:
                self._page_orphan(now_ns, view)
            self._state.record_action(view.scope, "remove_address", ", ".join(map(str, view.held)), reason)
        for at in view.held:
            self._state.out.append(RemoveAddress(at.interface, at.address, reason))
        view.removals += 1
        view.removal_due_ns = now_ns + REMOVE_RETRY_MS * NS_PER_MS
        view.wake_at(view.removal_due_ns)

    def _page_orphan(self, now_ns: int, view: GroupView) -> None:
        """Removing it ends the verdict before it could be confirmed: the act itself opens the incident, until the daemon runs again."""
        state = self._state
        view.crashed = True
        if state.in_maintenance(now_ns):
            return
        summary = f"{state.settings.cluster} {view.scope}: {Verdict.ORPHAN_VIP.value}: the VRRP daemon of {state.settings.self_name} died"
        summary += f" and left {', '.join(map(str, view.held))} behind; it is removed"
        rows = state.incidents.raise_(now_ns, view.scope, Verdict.ORPHAN_VIP, summary, view.track.reason, state.epochs(), True)
        state.persist(*rows)
