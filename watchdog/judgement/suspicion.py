"""PURE: a node that was fenced, or that ended without an orderly stop, and hears nobody, knows too little: another node may own everything
(Promise 7). It takes nothing over and fences nobody until it hears the peer, a witness or a person. The suspicion outlives restarts."""

from __future__ import annotations

from watchdog.judgement.state import WatcherState
from watchdog.judgement.verdict import PAIR_SCOPE


def begin(state: WatcherState) -> None:
    """At the start of a run: is this node suspect? Also writes down that this run has not ended in order yet."""
    durable, started = state.started.durable, state.started
    crashed = durable.ended_in_order is False and not started.same_boot
    if state.resolves and started.seen_peer_before and (crashed or durable.suspect):
        state.suspect = True
        state.record_node("suspect", True)
        state.record_action(PAIR_SCOPE, "suspect", state.settings.self_name, "ended without an orderly stop; nobody heard yet", "begun")
    state.record_node("ended_in_order", False)


def end(state: WatcherState, why: str) -> None:
    """The peer, a witness or a person was heard."""
    if not state.suspect:
        return
    state.suspect = False
    state.record_node("suspect", False)
    state.record_action(PAIR_SCOPE, "suspect", state.settings.self_name, why, "ended")
    state.publish(f"no longer suspect: {why}")
    state.beat_wanted = True
    state.touch_all()
