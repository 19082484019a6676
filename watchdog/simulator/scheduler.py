"""The simulator's time: a heap of things to happen, in order, with no real clock behind it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Scheduler:
    """Virtual time in ns. Things due at the same instant happen in the order in which they were scheduled."""

    __slots__ = ("_fixed", "_heap", "_seq", "now_ns", "skipped_ns")

    def __init__(self) -> None:
        self.now_ns = 0
        self.skipped_ns = 0
        """How much quiet time was left out so far."""
        self._fixed: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._seq = 0

    def at(self, at_ns: int, action: Callable[..., None], *args: Any) -> None:
        """Call ``action(*args)`` at ``at_ns`` (never in the past)."""
        self._seq += 1
        heappush(self._heap, (max(at_ns, self.now_ns), self._seq, action, args))

    def after(self, delay_ns: int, action: Callable[..., None], *args: Any) -> None:
        """Call ``action(*args)`` in ``delay_ns``."""
        self._seq += 1
        heappush(self._heap, (self.now_ns + delay_ns, self._seq, action, args))

    def story(self, at_ns: int, action: Callable[..., None], *args: Any) -> None:
        """Call ``action(*args)`` when the story reaches ``at_ns``: time that is skipped counts as told."""
        self._seq += 1
        heappush(self._fixed, (at_ns, self._seq, action, args))

    @property
    def told_ns(self) -> int:
        """How far the story is: the time that passed and the quiet that was left out."""
        return self.now_ns + self.skipped_ns

    def skip_quiet(self, keep_ns: int, until_ns: int) -> None:
        """Leave out the time until ``keep_ns`` before the next turn of the story, or before ``until_ns`` of it."""
        next_ns = min(self._fixed[0][0], until_ns) if self._fixed else until_ns
        self.skipped_ns += max(0, next_ns - keep_ns - self.told_ns)

    def run_until(self, end_ns: int) -> None:
        """Let everything happen until the story is at ``end_ns``, which may come sooner when quiet is skipped meanwhile."""
        heap, fixed = self._heap, self._fixed
        while True:
            turn_ns = fixed[0][0] - self.skipped_ns if fixed else end_ns
            last_ns = min(turn_ns, end_ns - self.skipped_ns)
            if heap and (heap[0][0] < last_ns or (heap[0][0] == last_ns and (not fixed or turn_ns > last_ns or heap[0][1] < fixed[0][1]))):
                at_ns, _, action, args = heappop(heap)
                self.now_ns = at_ns
                action(*args)
            elif fixed and turn_ns <= end_ns - self.skipped_ns:
                _, _, action, args = heappop(fixed)
                self.now_ns = max(self.now_ns, turn_ns)
                action(*args)
            else:
                break
        self.now_ns = max(self.now_ns, end_ns - self.skipped_ns)


class Streams:
    """One random stream per purpose, so that removing one fault does not shift the draws of everything else."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._streams: dict[str, random.Random] = {}

    def of(self, name: str) -> random.Random:
        """The stream called ``name``, e.g. ``A/eth0/loss``."""
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = random.Random(f"{self._seed}/{name}")  # noqa: S311 - reproducible on purpose
        return stream


class Trace:
    """A rolling hash over everything that happened, and the last lines of it for a reader."""

    def __init__(self, keep: bool = False) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._keep = keep
        self.lines: list[str] = []
        self.count = 0

    def note(self, at_ns: int, who: str, what: str) -> None:
        """Add one line."""
        self.count += 1
        line = f"{at_ns} {who} {what}"
        self._hash.update(line.encode())
        if self._keep:
            self.lines.append(line)

    def data(self, at_ns: int, who: str, what: str, data: bytes) -> None:
        """Add bytes on a wire, without the price of printing them."""
        self.count += 1
        self._hash.update(f"{at_ns} {who} {what}".encode())
        self._hash.update(data)
        if self._keep:
            self.lines.append(f"{at_ns} {who} {what} {data.hex()}")

    def digest(self) -> str:
        """The hash so far, in hex."""
        return self._hash.hexdigest()
