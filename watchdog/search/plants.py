"""Bugs that the search must find: those behind the cases J1, J6 and J10, as subclasses of the very core."""

from __future__ import annotations

from dataclasses import dataclass

from watchdog.judgement.arbitration import Defect
from watchdog.judgement.contact import PeerContact
from watchdog.judgement.events import Started
from watchdog.judgement.group_view import GroupView
from watchdog.judgement.state import WatcherState
from watchdog.judgement.turns import TurnRefusal
from watchdog.judgement.watcher import WatcherCore


class _BlindToThePort(WatcherState):
    """A memory that never finds anything wrong with its own port."""

    __slots__ = ()

    def group_defects(self, now_ns: int, view: GroupView) -> Defect:
        """In the best of health."""
        return Defect.NONE


class BlindToThePort(WatcherCore):
    """Does not compare health per interface: a dead service port stays the owner's (J1)."""

    def _start(self, now_ns: int, event: Started) -> None:
        super()._start(now_ns, event)
        self.state.__class__ = _BlindToThePort


class NoTurns(WatcherCore):
    """Takes no turns: both may act on the same cut (J10)."""

    def turn_refusal(self, now_ns: int, act_ms: int) -> TurnRefusal | None:
        """It is always our turn."""
        return None


class _DeafContact(PeerContact):
    """Takes nothing for a sign of life but what echoes our own session."""

    def lives(self, now_ns: int) -> bool:
        """Authentic frames that prove nothing do not count."""
        return False


class DeafToNewSessions(WatcherCore):
    """An authentic frame of the peer's new session, which cannot echo ours yet, does not stop a fence (J6)."""

    def _start(self, now_ns: int, event: Started) -> None:
        super()._start(now_ns, event)
        self.state.contact.__class__ = _DeafContact


@dataclass(frozen=True, slots=True)
class SearchPlant:
    """A bug and the checkers, any of which finds it."""

    core: type[WatcherCore]
    caught_by: tuple[str, ...]
    case: str


PLANTS: dict[str, SearchPlant] = {
    "blind-to-the-port": SearchPlant(BlindToThePort, ("service",), "J1"),
    "deaf-to-new-sessions": SearchPlant(DeafToNewSessions, ("second look", "fit is shot", "evidence"), "J6"),
    "no-turns": SearchPlant(NoTurns, ("mutual",), "J10"),
}
