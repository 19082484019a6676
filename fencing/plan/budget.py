"""PURE: never more than N fences of one target in an hour; then a latch that only a person opens (DESIGN promise 7)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from base.core import NS_PER_S, JsonValue

HOUR_NS = 3_600 * NS_PER_S


class FenceBudget:
    """Counts the fences of one target.

    ``recent_ns``: when the fences of the last hour were started, on the same clock as ``now_ns`` everywhere here. After a restart the
    owner converts the record's wall times; a time in the future (the wall clock was set back) counts as now, so that it cannot be lost.
    """

    def __init__(self, per_hour: int, *, recent_ns: Iterable[int] = (), latched: bool = False) -> None:
        self._per_hour = per_hour
        self._starts_ns: deque[int] = deque(sorted(recent_ns))
        self.latched = latched

    def take(self, now_ns: int) -> bool:
        """Account for one fence that is about to start. False: it must not start, and the latch is shut from now on."""
        if self.latched or self.left(now_ns) <= 0:
            self.latched = True
            return False
        self._starts_ns.append(now_ns)
        return True

    def left(self, now_ns: int) -> int:
        """How many fences may still start within this hour; 0 while latched."""
        if self.latched:
            return 0
        self._starts_ns = deque(min(start_ns, now_ns) for start_ns in self._starts_ns)
        while self._starts_ns and now_ns - self._starts_ns[0] >= HOUR_NS:
            self._starts_ns.popleft()
        return max(0, self._per_hour - len(self._starts_ns))

    @property
    def starts_ns(self) -> tuple[int, ...]:
        """The fences that count now."""
        return tuple(self._starts_ns)

    def clear(self) -> None:
        """A person looked: open the latch and forget the past hour, so that the next fence is possible at once."""
        self.latched = False
        self._starts_ns.clear()

    def snapshot(self) -> JsonValue:
        """For status."""
        return {"per_hour": self._per_hour, "started": len(self._starts_ns), "latched": self.latched}
