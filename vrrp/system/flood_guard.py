"""Bad adverts must not starve good ones: who was refused too often in a tenth of a second is not looked at for the rest of it.

A repetition of the advert accepted last never gets here, and accepted adverts never count. Senders that an advert was accepted from have a
budget each; all others fall into BUCKETS by a hash that nobody outside knows: a master that is still unknown here is heard beside a forger,
and a forger with a thousand addresses does not have a thousand budgets. The buckets are drawn anew for each window: who shares one with a
forger now does not share it for ever.
"""

from __future__ import annotations

WINDOW_NS = 100_000_000
REFUSALS_PER_WINDOW = 16
"""Of one trusted sender, or of one bucket."""
BUCKETS = 32
MOST_TRUSTED = 256


class FloodGuard:
    """One for each receive socket. Sources are packed addresses."""

    def __init__(self) -> None:
        self.skipped = 0
        self._ends_ns = 0
        self._windows = 0
        self._salt = b""
        self._refused: dict[bytes | int, int] = {}
        self._trusted: set[bytes] = set()

    def trust(self, source: bytes) -> None:
        """An advert of this sender was accepted, or it is a configured peer."""
        if len(self._trusted) < MOST_TRUSTED:
            self._trusted.add(source)

    def admits(self, now_ns: int, source: bytes) -> bool:
        """Shall a packet of this sender be looked at in full?"""
        if not self._refused:
            return True
        if now_ns >= self._ends_ns:
            self._refused.clear()
            return True
        if self._refused.get(self._key(source), 0) < REFUSALS_PER_WINDOW:
            return True
        self.skipped += 1
        return False

    def refuse(self, now_ns: int, source: bytes) -> None:
        """A packet of this sender was looked at in vain."""
        if not self._refused:
            self._ends_ns = now_ns + WINDOW_NS
            self._windows += 1
            self._salt = self._windows.to_bytes(8, "big")
        key = self._key(source)
        self._refused[key] = self._refused.get(key, 0) + 1

    def _key(self, source: bytes) -> bytes | int:
        return source if source in self._trusted else hash(self._salt + source) % BUCKETS
