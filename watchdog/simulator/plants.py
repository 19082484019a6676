"""Planted bugs: each overrides one or two decision points of the watcher core (watchdog/judgement/hooks.py), and each must be
caught by a checker. The product has no switch for any of them."""

from __future__ import annotations

from dataclasses import dataclass

from fencing.plan.commands import FenceState
from fencing.plan.interlocks import Interlock
from watchdog.judgement.channels import PeerChannels
from watchdog.judgement.events import Started
from watchdog.judgement.group_view import GroupView
from watchdog.judgement.state import WatcherState
from watchdog.judgement.verdict import Isolation
from watchdog.judgement.watcher import WatcherCore


class NoSecondLook(WatcherCore):
    """Fences on what it believed when it began."""

    def second_look(self, now_ns: int, refuted: bool) -> str:
        """Never looks."""
        return ""


class FenceBeforePersist(WatcherCore):
    """Orders the act without waiting for the disk."""

    def intent_needs_barrier(self) -> bool:
        """Never waits."""
        return False


class _ImpatientChannels(PeerChannels):
    """Takes a question that is not answered yet for one that was asked in vain."""

    UNANSWERED = 0


class _NeverIsolated(WatcherState):
    """A memory that is blind to its own isolation."""

    __slots__ = ()

    def isolation(self, now_ns: int, interfaces: tuple[str, ...] | None = None) -> Isolation:
        """Always in the best of health."""
        return Isolation.NO


class FenceWhileIsolated(WatcherCore):
    """Takes its own deafness for the peer's death."""

    def _start(self, now_ns: int, event: Started) -> None:
        super()._start(now_ns, event)
        self.state.__class__ = _NeverIsolated
        self.state.channels = _ImpatientChannels()

    def may_fence(self, now_ns: int) -> tuple[Interlock, ...]:
        """No reference answers: so what?"""
        return tuple(lock for lock in super().may_fence(now_ns) if lock is not Interlock.NO_REFERENCE)

    def second_look(self, now_ns: int, refuted: bool) -> str:
        """No reference answers lately: so what?"""
        return ""


class TrustClaim(WatcherCore):
    """Believes a device's word."""

    def trusts_claim(self, state: FenceState) -> bool:
        """Takes claimed for proved."""
        return state in (FenceState.CLAIMED, FenceState.PROVED, FenceState.UNKNOWN)


class NoStallDistrust(WatcherCore):
    """Judges right after it stood still."""

    def _start(self, now_ns: int, event: Started) -> None:
        super()._start(now_ns, event)
        self.state.channels = _ImpatientChannels()

    def distrust_ns(self, stalled_ns: int) -> int:
        """Never distrusts itself."""
        return 0


class NoBudget(WatcherCore):
    """Fences as often as it likes."""

    def budget_left(self, now_ns: int) -> int:
        """Always one more."""
        return 99


class _Greedy(WatcherState):
    """Wins every comparison."""

    __slots__ = ()

    def keeps(self, now_ns: int, view: GroupView) -> bool | None:
        """Always."""
        return True


class YieldBoth(WatcherCore):
    """Both ask and both yield: nobody keeps the address."""

    def _start(self, now_ns: int, event: Started) -> None:
        super()._start(now_ns, event)
        self.state.__class__ = _Greedy

    def should_yield(self, now_ns: int, view: GroupView) -> bool:
        """Yields whenever asked."""
        return True


class ForgetAfterRestart(WatcherCore):
    """Starts as if nothing had been under way."""

    def remembers_open_fences(self) -> bool:
        """Forgets what a crash left open."""
        return False


@dataclass(frozen=True, slots=True)
class Plant:
    """A bug, the checkers that are there to find it (any of them), and the stories in which it matters."""

    core: type[WatcherCore]
    caught_by: tuple[str, ...]
    stories: tuple[str, ...]

    @property
    def about(self) -> str:
        """The bug in a sentence."""
        return (self.core.__doc__ or "").strip()


PLANTS: dict[str, Plant] = {
    "no-second-look": Plant(NoSecondLook, ("second look", "isolation"), ("late-trouble", "isolation")),
    "fence-before-persist": Plant(FenceBeforePersist, ("intent",), ("sick-disk", "cut-everything", "killed-in-the-act")),
    "fence-while-isolated": Plant(FenceWhileIsolated, ("isolation",), ("isolation", "gateway")),
    "trust-a-claim": Plant(TrustClaim, ("proof", "strict"), ("believed", "lying-fence")),
    "no-stall-distrust": Plant(NoStallDistrust, ("stalls",), ("stall", "hang-all", "watcher-dies")),
    "no-budget": Plant(NoBudget, ("budget",), ("again",)),
    "yield-both": Plant(YieldBoth, ("exactly one",), ("cut-heartbeat", "one-way")),
    "forget-after-restart": Plant(ForgetAfterRestart, ("recovery",), ("killed-in-the-act",)),
}
