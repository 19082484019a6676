"""Liveness: after everything is repaired, one owner and HEALTHY within a stated time."""

from __future__ import annotations

from base.core import NS_PER_S
from watchdog.simulator.checker import Checker
from watchdog.simulator.checkers.observer import Observer
from watchdog.simulator.options import NODES

HEALED_WITHIN_NS = 35 * NS_PER_S
"""From the repair (boot, settling, a person's clearing and one takeover included) to one owner and HEALTHY on both nodes, lastingly."""


class Healed(Checker):
    """Measures when the pair was last not in order."""

    name = "healed"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._bad_ns = 0
        self._bad = ""

    def poll(self) -> None:
        """Every 100 ms of the healing phase."""
        if self.world.healing:
            self._bad = self._trouble() or self._bad
            if self._trouble():
                self._bad_ns = self._observer.now_ns

    def _trouble(self) -> str:
        for vip, owners in self.world.owners.items():
            if len(owners) != 1:
                return f"{vip} is owned by {', '.join(owners) or 'nobody'}"
        for node in NODES:
            for scope in ("pair", *(str(group.key) for group in self.world.groups[node])):
                verdict = self._observer.told[node].verdicts.get(scope, ("no verdict", "", 0))[0]
                if verdict != "HEALTHY":
                    return f"{node} says {verdict} of {scope}"
        return ""

    def finish(self) -> None:
        """Was it in time?"""
        healed_after_ns = self._bad_ns - self.world.repaired_ns
        if healed_after_ns > HEALED_WITHIN_NS:
            self.broken("", f"not in order {healed_after_ns // NS_PER_S} s after the repair: {self._bad}")
        self.world.seen["healed_after_ms"] = max(0, healed_after_ns // 1_000_000)
