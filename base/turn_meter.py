"""How long a loop's turns take, and which handler took the time (Promise 8: a loop that must be on time never waits)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from base.clock import now_ns
from base.core import NS_PER_MS, JsonValue

SLOW_NS = 20 * NS_PER_MS


class TurnMeter:
    """``on_slow(handler, ns)`` is called after every turn that took over SLOW_NS. A turn is what happens between two waits."""

    def __init__(self, on_slow: Callable[[str, int], None]) -> None:
        self._on_slow = on_slow
        self._began_ns: int | None = None
        self._handler, self._handler_ns = "", 0
        self.longest_ns, self.longest_handler = 0, ""
        self.slow_turns = 0

    def begin(self, at_ns: int) -> None:
        """The loop woke up."""
        self._began_ns, self._handler, self._handler_ns = at_ns, "", 0

    def call(self, handler: Callable[..., object], *arguments: Any) -> None:
        """Call a handler and remember it if it takes longest. Of one inside another the inner is named if it took most."""
        began_ns = now_ns()
        handler(*arguments)
        took_ns = now_ns() - began_ns
        if took_ns > 2 * self._handler_ns or not self._handler:
            self._handler, self._handler_ns = getattr(handler, "__qualname__", type(handler).__name__), took_ns

    def end(self, at_ns: int) -> None:
        """The loop is about to wait again."""
        if self._began_ns is None:
            return
        took_ns, self._began_ns = at_ns - self._began_ns, None
        if took_ns > self.longest_ns:
            self.longest_ns, self.longest_handler = took_ns, self._handler
        if took_ns > SLOW_NS:
            self.slow_turns += 1
            self._on_slow(self._handler, took_ns)

    def snapshot(self) -> dict[str, JsonValue]:
        """For status."""
        return {
            "longest_turn_us": self.longest_ns // 1_000,
            "longest_handler": self.longest_handler,
            "slow_turns": self.slow_turns,
            "slow_ms": SLOW_NS // NS_PER_MS,
        }
