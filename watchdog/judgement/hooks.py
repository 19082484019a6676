"""PURE: the decision points of the watcher, each a small overridable method of WatcherCore.

The simulator's planted bugs and the demo's negative controls subclass the core and override exactly one of them; nothing in the
product switches any of them off.
"""

from __future__ import annotations

from typing import Protocol

from fencing.plan.commands import FenceState
from fencing.plan.interlocks import Interlock
from watchdog.judgement.group_view import GroupView
from watchdog.judgement.turns import TurnRefusal
from watchdog.judgement.witnessing import WitnessRefusal

UNSURE_ISOLATION = "it is not certain that this node is not isolated"
NO_REFERENCE_LATELY = "no reference answered lately"
UNGROUNDED = "all that speaks of a second owner is what a stranger on the segment could have sent"
PASSING_LOOKS = frozenset({UNSURE_ISOLATION, NO_REFERENCE_LATELY})
"""What a second look may say on a busy machine and not a moment later: it is repeated for as long as the session waits for it."""


class Hooks(Protocol):
    """What the acting parts ask the core."""

    def census_needed(self, now_ns: int, view: GroupView) -> bool:
        """Whether the segment must be asked about this group now rather than at the slow tick."""
        ...

    def should_ask(self, now_ns: int, view: GroupView) -> bool:
        """Whether we, the keeper, ask the peer to yield a group that both own."""
        ...

    def should_yield(self, now_ns: int, view: GroupView) -> bool:
        """Whether we, asked by the peer, give the group up."""
        ...

    def should_give_up(self, now_ns: int, view: GroupView) -> bool:
        """Whether an isolated node gives its addresses up."""
        ...

    def may_fence(self, now_ns: int) -> tuple[Interlock, ...]:
        """What forbids an automatic fence now; empty = nothing."""
        ...

    def budget_left(self, now_ns: int) -> int:
        """How many fences may still start within this hour."""
        ...

    def second_look(self, now_ns: int, refuted: bool) -> str:
        """Right before the device command: "" if the fence is still right on fresh evidence, else why not."""
        ...

    def intent_needs_barrier(self) -> bool:
        """Promise 2: whether a fence waits until its intent is durable."""
        ...

    def trusts_claim(self, state: FenceState) -> bool:
        """Whether this end of a fence counts as proof that the peer is off."""
        ...

    def turn_refusal(self, now_ns: int, act_ms: int) -> TurnRefusal | WitnessRefusal | None:
        """Promise 5: why an act that is over within ``act_ms`` may not begin now; None if it may."""
        ...

    def detection_spread_ms(self) -> int:
        """Δ of Promise 5 for this configuration."""
        ...

    def distrust_ns(self, stalled_ns: int) -> int:
        """Promise 8: how long nothing that rests on silence is judged after a stall; 0 = the stall was too short to matter."""
        ...

    def remembers_open_fences(self) -> bool:
        """Whether a fence whose result a crash swallowed is verified after the restart."""
        ...
