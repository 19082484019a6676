"""PURE: one receiver's queue: order, one attempt at a time, back-off, rate limit, and the way around a message that it will not take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from base.core import NS_PER_MS, JsonValue

BACKOFF_MS = (1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000)
"""Waits after the first, second, … failure in a row; the last one repeats for ever. ± 20 %, so that two nodes do not knock in step."""

BURST = 20
REFILL_MS = 3_000
"""So many messages at once, then one each so many ms: a storm must not get the receiver to block us."""

STEP_ASIDE_AFTER = 6
"""After so many failures in a row another incident's message is tried in turn: is it the receiver that is down, or this message?"""


@dataclass(slots=True)
class Lane:
    """``queue`` holds alert ids in the order of the outbox. ``keys`` tells the dedup_key of an alert id."""

    random: Callable[[], float]
    queue: list[int] = field(default_factory=list)
    in_flight: int | None = None
    failures: int = 0
    failing_since_ns: int | None = None
    last_detail: str = ""
    not_before_ns: int | None = None
    _tokens: int = BURST
    _refilled_ns: int | None = None
    _ask_other: bool = False
    _suspect: int | None = None
    _last_chance: int | None = None

    def next_alert(self, now_ns: int, keys: dict[int, str]) -> int | None:
        """The alert to send now, or None; it is then in flight and has used up a token."""
        if self.in_flight is not None or not self.queue:
            return None
        self._refill(now_ns)
        if not self._tokens or (self.not_before_ns is not None and now_ns < self.not_before_ns):
            return None
        if self._tokens == BURST:
            self._refilled_ns = now_ns
        self._tokens -= 1
        self.in_flight = self._other(keys) if self._ask_other else self.queue[0]
        self._suspect = self.queue[0] if self.in_flight != self.queue[0] else None
        return self.in_flight

    def next_deadline(self) -> int | None:
        """When ``next_alert`` may have something again, if nothing else happens."""
        if self.in_flight is not None or not self.queue:
            return None
        due = self.not_before_ns if self.not_before_ns is not None else 0
        if not self._tokens and self._refilled_ns is not None:
            due = max(due, self._refilled_ns + REFILL_MS * NS_PER_MS)
        return due

    def succeeded(self) -> None:
        """The attempt was accepted. If it was made in place of the first in the queue, that one gets its last chance now."""
        suspect = self._suspect
        if self.in_flight in self.queue:
            self.queue.remove(self.in_flight)
        self.in_flight = None
        self._clear()
        self._last_chance = suspect

    def refused(self, detail: str) -> None:
        """This message will not be taken; the receiver answers, so the next one may go."""
        if self.in_flight in self.queue:
            self.queue.remove(self.in_flight)
        self.in_flight = None
        self._clear()
        self.last_detail = detail

    def failed(self, now_ns: int, detail: str) -> bool:
        """The attempt failed: back off and repeat. False if it must be given up: others are accepted and this one is not."""
        if self.in_flight is not None and self.in_flight == self._last_chance:
            self.refused(detail)
            return False
        self.in_flight = None
        self.last_detail = detail
        wait_ms = BACKOFF_MS[min(self.failures, len(BACKOFF_MS) - 1)]
        self.not_before_ns = now_ns + int(wait_ms * NS_PER_MS * (0.8 + 0.4 * self.random()))
        self.failures += 1
        if self.failing_since_ns is None:
            self.failing_since_ns = now_ns
        self._ask_other = self.failures >= STEP_ASIDE_AFTER and not self._ask_other
        return True

    def remove(self, alert_id: int) -> None:
        """Take an alert out that is not to be sent any more (not while it is in flight)."""
        if alert_id != self.in_flight and alert_id in self.queue:
            self.queue.remove(alert_id)

    def _clear(self) -> None:
        self.failures = 0
        self.failing_since_ns = None
        self.not_before_ns = None
        self.last_detail = ""
        self._ask_other = False
        self._suspect = None
        self._last_chance = None

    def _other(self, keys: dict[int, str]) -> int:
        first = keys[self.queue[0]]
        return next((alert_id for alert_id in self.queue if keys[alert_id] != first), self.queue[0])

    def _refill(self, now_ns: int) -> None:
        if self._refilled_ns is None:
            self._refilled_ns = now_ns
        gained = max(0, now_ns - self._refilled_ns) // (REFILL_MS * NS_PER_MS)
        self._refilled_ns += gained * REFILL_MS * NS_PER_MS
        self._tokens = min(BURST, self._tokens + gained)

    def snapshot(self) -> dict[str, JsonValue]:
        """For status."""
        return {
            "waiting": list(self.queue),
            "in_flight": self.in_flight,
            "failures": self.failures,
            "failing_since_ns": self.failing_since_ns,
            "detail": self.last_detail,
            "next_ns": self.next_deadline(),
        }
