"""Calls that may wait in the kernel, beside a loop that must not wait: one thread that makes them, one after the other.

Closing a packet socket waits for an RCU grace period (16 ms and more), an address is removed under the kernel's RTNL lock, a file may lie
on a disk that hangs. The thread only waits in the kernel (the interpreter is free meanwhile); it decides nothing, and what it found out
comes back into the loop. ``pump.aside`` is made when it is first used, and lives in the network namespace of whoever did.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar

MAX_WAITING = 1_000
T = TypeVar("T")
_Job = Callable[[], Callable[[], None] | None]


class Loop(Protocol):
    """What it needs of the pump."""

    def add_reader(self, source: int, drain: Callable[[], None]) -> None:
        """Call ``drain`` when ``source`` is readable."""
        ...

    def remove_reader(self, source: int) -> None:
        """Stop that."""
        ...


class Aside:
    """Give it calls with ``run``; ``done`` is called in the loop with what came of each, in the order of the calls."""

    def __init__(self, pump: Loop) -> None:
        self._pump = pump
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._results: deque[Callable[[], None]] = deque()
        self._waiting = 0
        self.refused = 0
        """Calls that were not taken because MAX_WAITING others were under way."""
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        pump.add_reader(self._wake_fd, self._drain)
        self._thread = threading.Thread(target=self._work, name="aside", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Calls whose ``done`` has not been called yet."""
        return self._waiting

    def run(self, call: Callable[[], T], done: Callable[[T], None] | None = None, failed: Callable[[OSError], None] | None = None) -> bool:
        """Make the call; then ``done(result)`` or, after an OSError, ``failed(error)``. False if too much is under way: nothing is done.

        ``call`` must not touch what the loop works on.
        """
        if self._waiting >= MAX_WAITING:
            self.refused += 1
            return False
        self._waiting += 1

        def job() -> Callable[[], None] | None:
            try:
                result = call()
            except OSError as error:
                failure = error
                return None if failed is None else lambda: failed(failure)
            return None if done is None else lambda: done(result)

        self._jobs.put(job)
        return True

    def close(self, grace_s: float = 1.0) -> None:
        """Make what is under way, for at most ``grace_s``; nothing is reported any more."""
        self._jobs.put(None)
        self._thread.join(grace_s)
        self._pump.remove_reader(self._wake_fd)
        if not self._thread.is_alive():
            os.close(self._wake_fd)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._results.append(job() or _nothing)
            os.eventfd_write(self._wake_fd, 1)

    def _drain(self) -> None:
        os.eventfd_read(self._wake_fd)
        for _ in range(len(self._results)):
            self._waiting -= 1
            self._results.popleft()()


def _nothing() -> None:
    """A call whose end interests nobody."""
