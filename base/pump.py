"""The shell's loop: drain first, decide afterwards, arm one timer.

After every wake-up the pump (1) measures how late it is and reports a stall, (2) drains every readable descriptor, bounded, (3) only then
takes ``now``, fires deadlines, and (4) arms one timerfd. A process that was frozen therefore reads what it missed before it
believes in a silence. Why not asyncio: docs/adr/0001-epoll-pump.md.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Protocol

from base.aside import Aside
from base.clock import DeadlineTimer, now_ns
from base.turn_meter import TurnMeter

MAX_SILENCE_NS = 1_000_000_000
"""The pump wakes at least this often, so that a stall is seen even when nothing is due."""

DEFAULT_STALL_NS = 200_000_000


class HasFileno(Protocol):
    """Anything epoll can watch."""

    def fileno(self) -> int:
        """The descriptor."""
        ...


class Pump:
    """An epoll loop for one process.

    ``on_deadline(now_ns)`` is called when ``next_deadline()`` has passed, after the readable descriptors were drained.
    ``on_stall(now_ns, stalled_ns)`` is called before anything is drained when the loop woke later than it should have by more than
    ``stall_ns``.
    """

    def __init__(
        self,
        *,
        next_deadline: Callable[[], int | None],
        on_deadline: Callable[[int], None],
        on_stall: Callable[[int, int], None] | None = None,
        stall_ns: int = DEFAULT_STALL_NS,
    ) -> None:
        self._next_deadline = next_deadline
        self._on_deadline = on_deadline
        self._on_stall = on_stall
        self._stall_ns = stall_ns
        self._epoll = select.epoll()
        self._timer = DeadlineTimer()
        self._readers: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}
        self._epoll.register(self._timer.fileno(), select.EPOLLIN)
        self._expected_ns = now_ns() + MAX_SILENCE_NS
        self._seen_ns: int | None = None
        """When lateness was measured last: whatever passed since then, outside of the wait, is a stall too."""
        self._running = False
        self._after: list[Callable[[], None]] = []
        self._aside: Aside | None = None
        self.meter: TurnMeter | None = None
        """Measures every turn when it is set."""
        self._chores: list[Callable[[int], None]] = []
        self._chores_ns = 0

    @property
    def aside(self) -> Aside:
        """For calls that may wait in the kernel: this loop never makes one itself."""
        if self._aside is None:
            self._aside = Aside(self)
        return self._aside

    def add_reader(self, source: HasFileno | int, drain: Callable[[], None]) -> None:
        """Call ``drain`` whenever ``source`` is readable or hung up. ``drain`` must read a bounded amount and must not block."""
        fd = source if isinstance(source, int) else source.fileno()
        if fd in self._readers:
            raise ValueError(f"descriptor {fd} has a reader already")
        self._readers[fd] = drain
        self._update(fd)

    def remove_reader(self, source: HasFileno | int) -> None:
        """Stop watching ``source`` for reading. Must be called before the descriptor is closed."""
        fd = source if isinstance(source, int) else source.fileno()
        self._readers.pop(fd, None)
        self._update(fd)

    def add_writer(self, source: HasFileno | int, flush: Callable[[], None]) -> None:
        """Call ``flush`` once ``source`` is writable; remove it when nothing is left to write."""
        fd = source if isinstance(source, int) else source.fileno()
        self._writers[fd] = flush
        self._update(fd)

    def remove_writer(self, source: HasFileno | int) -> None:
        """Stop watching ``source`` for writing."""
        fd = source if isinstance(source, int) else source.fileno()
        self._writers.pop(fd, None)
        self._update(fd)

    def add_chore(self, chore: Callable[[int], None]) -> None:
        """Call ``chore(now_ns)`` about once a second, after everything that is due. It must be short."""
        self._chores.append(chore)

    def remove_chore(self, chore: Callable[[int], None]) -> None:
        """Call it no more."""
        self._chores.remove(chore)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` after the current drain, before deadlines."""
        self._after.append(callback)

    def fileno(self) -> int:
        """Readable whenever ``turn(0)`` has something to drain: so a pump can live inside another event loop."""
        return self._epoll.fileno()

    def _update(self, fd: int) -> None:
        mask = (select.EPOLLIN if fd in self._readers else 0) | (select.EPOLLOUT if fd in self._writers else 0)
        try:
            if not mask:
                self._epoll.unregister(fd)
            else:
                try:
                    self._epoll.modify(fd, mask)
                except FileNotFoundError:
                    self._epoll.register(fd, mask)
        except (FileNotFoundError, OSError):
            if mask:
                raise

    def set_stall_ns(self, stall_ns: int) -> None:
        """How late a wake-up must be to count as a stall, from now on."""
        self._stall_ns = stall_ns

    def stop(self) -> None:
        """Leave ``run`` after the current turn."""
        self._running = False

    def turn(self, max_wait_ns: int | None = None) -> None:
        """One wake-up: wait, measure lateness, drain, fire deadlines, arm."""
        deadline_ns = self._next_deadline()
        self._timer.arm(deadline_ns)
        before_ns = now_ns()
        # A stall can also fall between two waits: in a handler, or when the process was frozen just there.
        if self._seen_ns is not None and before_ns - self._seen_ns > self._stall_ns and self._on_stall is not None:
            self._on_stall(before_ns, before_ns - self._seen_ns)
        wait_ns = MAX_SILENCE_NS if max_wait_ns is None else min(max_wait_ns, MAX_SILENCE_NS)
        self._expected_ns = before_ns + wait_ns
        if deadline_ns is not None:
            self._expected_ns = max(before_ns, min(self._expected_ns, deadline_ns))
        if self._after:
            wait_ns = 0
        ready = self._epoll.poll(wait_ns / 1e9, 64)
        woke_ns = now_ns()
        if self.meter is not None:
            self.meter.begin(woke_ns)
        late_ns = woke_ns - self._expected_ns
        if late_ns > self._stall_ns and self._on_stall is not None:
            self._on_stall(woke_ns, late_ns)
        for fd, mask in ready:
            if fd == self._timer.fileno():
                self._timer.clear()
                continue
            if mask & ~select.EPOLLOUT and (drain := self._readers.get(fd)) is not None:
                self._call(drain)
            if mask & select.EPOLLOUT and (flush := self._writers.get(fd)) is not None:
                self._call(flush)
        callbacks, self._after = self._after, []
        for callback in callbacks:
            self._call(callback)
        deadline_ns = self._next_deadline()
        current_ns = now_ns()
        # A stall can also happen between the wake-up and here (a slow drain): say so before believing a silence.
        if current_ns - woke_ns > self._stall_ns and self._on_stall is not None:
            self._on_stall(current_ns, current_ns - woke_ns)
        self._seen_ns = current_ns
        if deadline_ns is not None and deadline_ns <= current_ns:
            self._call(self._on_deadline, current_ns)
        elif self._chores and current_ns - self._chores_ns >= MAX_SILENCE_NS:
            self._chores_ns = current_ns
            for chore in list(self._chores):
                self._call(chore, current_ns)
        if self.meter is not None:
            self.meter.end(now_ns())

    def _call(self, handler: Callable[..., object], *arguments: int) -> None:
        if self.meter is None:
            handler(*arguments)
        else:
            self.meter.call(handler, *arguments)

    def run(self) -> None:
        """Turn until ``stop`` is called."""
        self._running = True
        self._seen_ns = None  # what start-up took is no stall: nothing was believed before
        while self._running:
            self.turn()

    def close(self) -> None:
        """Release the timer and the epoll descriptor; readers are not closed."""
        if self._aside is not None:
            self._aside.close()
        self._timer.close()
        self._epoll.close()
