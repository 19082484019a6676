"""What the outside processes react to. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


class Kind(Enum):
    """Whose state it is; the words of the control socket."""

    INSTANCE = "instance"
    GROUP = "group"


@dataclass(frozen=True, slots=True)
class StateChanged:
    """An instance or a sync group is now MASTER, BACKUP, FAULT, STOP or DELETED.

    ``first``: seen at our start or after the connection to the vrrp process was away, not as it happened.
    """

    kind: Kind
    name: str
    state: str
    priority: int = 0
    reason: str = ""
    first: bool = False


@dataclass(frozen=True, slots=True)
class AdvertRefused:
    """The first advert of an instance that was refused for this reason."""

    name: str
    reason: str
    detail: str = ""


OutsideEvent: TypeAlias = "StateChanged | AdvertRefused"


class StateTracker:
    """Turns status documents and events into changes: each change once, none lost, whatever the connection did."""

    def __init__(self) -> None:
        self._states: dict[tuple[Kind, str], str] = {}

    def compare(self, states: dict[tuple[Kind, str], tuple[str, int, str]]) -> list[StateChanged]:
        """A whole status document: (kind, name) → (state, priority, reason). Returns what it says that was not known."""
        changes = []
        for (kind, name), (state, priority, reason) in states.items():
            if state != "INIT" and self._states.get((kind, name)) != state:
                changes.append(StateChanged(kind, name, state, priority, reason, first=True))
            self._states[kind, name] = state
        for gone in self._states.keys() - states.keys():
            del self._states[gone]
        return changes

    def happened(self, change: StateChanged) -> StateChanged | None:
        """An event; None if a status document told it before."""
        key = (change.kind, change.name)
        if self._states.get(key) == change.state:
            return None
        self._states[key] = change.state
        return change
