"""BFD_CHECK: follows the state of a bfd_instance that another process runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from vrrp.lvs.model.settings import BfdProbe


@dataclass(slots=True)
class BfdFollowers:
    """Who wants to hear of which session. ``report(up, reason)`` is called only when the state changes."""

    states: dict[str, bool] = field(default_factory=dict)
    _reports: dict[str, list[Callable[[bool, str], None]]] = field(default_factory=dict)

    def follow(self, settings: BfdProbe, report: Callable[[bool, str], None]) -> None:
        """Register a checker; it hears the state at once if it is known."""
        self._reports.setdefault(settings.name, []).append(report)
        if settings.name in self.states:
            report(self.states[settings.name], f"BFD {settings.name}")

    def session_changed(self, name: str, up: bool, reason: str = "") -> None:
        """A session went up or down."""
        if self.states.get(name) is up:
            return
        self.states[name] = up
        for report in self._reports.get(name, ()):
            report(up, reason or f"BFD {name} is {'up' if up else 'down'}")

    def forget(self, keep: Iterable[str] = ()) -> None:
        """Drop all followers (before a reload registers the new ones) and the states of sessions not in ``keep``."""
        self._reports.clear()
        wanted = frozenset(keep)
        self.states = {name: up for name, up in self.states.items() if name in wanted}
