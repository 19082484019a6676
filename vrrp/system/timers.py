"""Callbacks at a time, for processes whose work is not a core (the parent)."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class Timers:
    """A heap of callbacks on a pump: pass ``next_deadline`` and ``on_deadline`` to it."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._cancelled: set[int] = set()
        self._numbers = itertools.count()

    def call_at(self, at_ns: int, callback: Callable[[], None]) -> int:
        """Call once at ``at_ns``; returns a token for ``cancel``."""
        token = next(self._numbers)
        heapq.heappush(self._heap, (at_ns, token, callback))
        return token

    def cancel(self, token: int) -> None:
        """Do not call. Only for a token whose callback did not run yet."""
        self._cancelled.add(token)

    def next_deadline(self) -> int | None:
        """The earliest instant."""
        while self._heap and self._heap[0][1] in self._cancelled:
            self._cancelled.discard(heapq.heappop(self._heap)[1])
        return self._heap[0][0] if self._heap else None

    def on_deadline(self, at_ns: int) -> None:
        """Call everything due."""
        while (due := self.next_deadline()) is not None and due <= at_ns:
            heapq.heappop(self._heap)[2]()
