"""PURE: what follows when the peer certainly cannot serve (Promise 4: proved off, acknowledged by a person, or stopped in order).

A suspect node knows enough then, whoever proved it: a person who vouches, an enrolled device that reads OFF, a fence. And the knowledge
outlives a restart of braind in the same boot: else an upgrade beside a peer that is under repair would make the last possible owner give up
when its gateway reboots. Nothing is granted because of it, it only keeps what this node has; any sign of the peer ends it (judging.py).
"""

from __future__ import annotations

from watchdog.judgement import suspicion
from watchdog.judgement.state import WatcherState


def begin(state: WatcherState) -> None:
    """At the start of a run: what the run before knew. Of another boot it says nothing: the peer had time to come back."""
    state.peer_gone_saved = state.started.durable.peer_gone
    if state.peer_gone_saved and state.started.same_boot:
        state.peer_stopped = True


def note(state: WatcherState) -> None:
    """Call it whenever something was judged."""
    if state.peer_proved_off:
        suspicion.end(state, state.peer_proved_off)
    if state.peer_is_gone is not state.peer_gone_saved:
        state.peer_gone_saved = state.peer_is_gone
        state.record_node("peer_gone", state.peer_gone_saved)
