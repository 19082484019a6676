"""Planted bugs: each overrides one or two decision points of the watcher core (watchdog/judgement/hooks.py), and each must be
caught by a checker. The product has no switch for any of them."""

from __future__ import annotations

from dataclasses import dataclass

from fencing.plan.commands import FenceState
from fencing.plan.interlocks import Interlock
from watchdog.judgement.arbitration import Defect
from watchdog.judgement.channels import PeerChannels
from watchdog.judgement.commands import GateState, Persist, RowKind, SetGate, WatcherCommand
from watchdog.judgement.events import AdvertHeard, Started, WatcherEvent
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


class _NoHealth(WatcherState):
    """A memory that never finds anything wrong with its own port."""

    __slots__ = ()

    def group_defects(self, now_ns: int, view: GroupView) -> Defect:
        """In the best of health."""
        return Defect.NONE


class NoHealth(WatcherCore):
    """Does not compare health per interface: a dead service port stays the owner's."""

    def _start(self, now_ns: int, event: Started) -> None:
        super()._start(now_ns, event)
        self.state.__class__ = _NoHealth


class PagesNobody(WatcherCore):
    """Writes everything down and tells nobody."""

    def _conclude(self, now_ns: int) -> list[WatcherCommand]:
        told: list[WatcherCommand] = []
        for command in super()._conclude(now_ns):
            if isinstance(command, Persist):
                command = Persist(tuple(row for row in command.rows if row.kind is not RowKind.ALERT), command.barrier)
            told.append(command)
        return told


class ObeysStrangers(WatcherCore):
    """Lets go of an address whenever an advert says goodbye, whoever sent it."""

    def handle(self, now_ns: int, event: WatcherEvent) -> list[WatcherCommand]:
        """A goodbye on the wire is taken for an order."""
        commands = super().handle(now_ns, event)
        if isinstance(event, AdvertHeard) and event.priority == 0 and not event.outgoing:
            commands.append(SetGate(event.key, GateState.HELD, 0, "somebody said goodbye"))
        return commands


class ShootsTheSilent(WatcherCore):
    """Takes a watcher that is away for a node that is dead."""

    def on_deadline(self, now_ns: int) -> list[WatcherCommand]:
        """No heartbeat: off with it."""
        contact = None if self._state is None else self._state.contact
        if contact is not None and contact.ever_heard and not contact.on_a_path(now_ns) and self.fence.session is None:
            self.fence.order_off(now_ns, "a planted bug")
        return super().on_deadline(now_ns)


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
    "no-health": Plant(NoHealth, ("service",), ("dead-port",)),
    "pages-nobody": Plant(PagesNobody, ("paging",), ("crash",)),
    "obeys-strangers": Plant(ObeysStrangers, ("strangers",), ("stranger",)),
    "shoots-the-silent": Plant(ShootsTheSilent, ("fit is shot",), ("watcher-dies",)),
    "forget-after-restart": Plant(ForgetAfterRestart, ("recovery",), ("killed-in-the-act",)),
}
