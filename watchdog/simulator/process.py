"""One process: a core, its inbox and its timer. It can hang, die and start again; what arrives while it hangs waits for it.

The order of a turn is the pump's (base/pump.py): measure lateness, drain, and only then deadlines.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any

from base.pump import DEFAULT_STALL_NS, MAX_SILENCE_NS

if TYPE_CHECKING:
    from watchdog.simulator.machine import Kernel
    from watchdog.simulator.world import World

IPC_NS = 150_000
"""From one process to another on the same machine."""

INBOX_LIMIT = 250
"""About what a default socket buffer holds; the rest of a long hang is lost."""


class Life(Enum):
    """What the scheduler of the machine does with a process."""

    DEAD = "dead"
    RUNNING = "running"
    PAUSED = "paused"


class Process(ABC):
    """A process of one machine. Subclasses own the core(s) and execute their commands."""

    def __init__(self, world: World, kernel: Kernel, name: str) -> None:
        self.world = world
        self.kernel = kernel
        self.name = name
        self.life = Life.DEAD
        self.stall_ns = DEFAULT_STALL_NS
        self.starts = 0
        """Lives of this process, a return to a snapshot included: what was sent to an earlier one is not for this one."""
        self.births = 0
        self.paused_since_ns = 0
        self._label = f"{kernel.name}.{name}"
        self._inbox: deque[Any] = deque()
        self._generation = 0
        self._armed_ns: int | None = None
        self._last_turn_ns = 0
        self._pauses = 0
        self._rng = world.streams.of(f"{kernel.name}/{name}/scheduling")

    # ---- what subclasses do -----------------------------------------------------------------------------------------

    @abstractmethod
    def began(self, now_ns: int) -> None:
        """Build the core(s) and feed the first event."""

    @abstractmethod
    def ended(self, *, graceful: bool) -> None:
        """The process is gone (or about to go, when ``graceful``)."""

    @abstractmethod
    def take(self, now_ns: int, event: Any) -> None:
        """Feed one event and execute the commands."""

    @abstractmethod
    def deadline(self) -> int | None:
        """Earliest deadline of the core(s), local ns."""

    @abstractmethod
    def fire(self, now_ns: int) -> None:
        """Fire deadlines and execute the commands."""

    @abstractmethod
    def stalled(self, now_ns: int, stalled_ns: int) -> None:
        """The pump found itself late."""

    def woke(self) -> None:  # noqa: B027 - most processes have nothing to do here
        """The process runs again after a hang: note changes that nobody queued."""

    # ---- life -----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start (again) if dead and the machine has power."""
        if self.life is not Life.DEAD or not self.kernel.powered:
            return
        self.life = Life.RUNNING
        self.starts += 1
        self.births += 1
        self._inbox.clear()
        self._pauses = 0
        self._generation += 1
        self._armed_ns = None
        self._last_turn_ns = self.kernel.now_ns()
        self.world.note(self._label, "started")
        self.began(self.kernel.now_ns())
        self._rearm(self.deadline())
        self.world.life_changed(self.kernel.name, self.name)

    def stop(self, *, graceful: bool = False) -> None:
        """SIGKILL, or SIGTERM when ``graceful``."""
        if self.life is Life.DEAD:
            return
        self.world.note(self._label, "stopped" if graceful else "killed")
        graceful = graceful and self.life is Life.RUNNING
        self.ended(graceful=graceful)
        self.life = Life.DEAD
        self._generation += 1
        self._armed_ns = None
        self._inbox.clear()
        self.world.life_changed(self.kernel.name, self.name)

    def reverted(self) -> None:
        """The machine went back to a snapshot: what was under way belongs to another past; the subclass has put its cores back."""
        self.starts += 1
        self._generation += 1
        self._armed_ns = None
        self._inbox.clear()
        self._pauses = 0
        self.life = Life.RUNNING
        self._last_turn_ns = self.kernel.now_ns()
        self._rearm(self.deadline())
        self.world.life_changed(self.kernel.name, self.name)

    def pause(self) -> None:
        """SIGSTOP. Pauses nest: two faults may hold the same process."""
        if self.life is Life.DEAD:
            return
        self._pauses += 1
        if self.life is Life.RUNNING:
            self.life = Life.PAUSED
            self.paused_since_ns = self.world.scheduler.now_ns
            self._last_turn_ns = self.kernel.now_ns()
            self.world.note(self._label, "paused")
            self.world.life_changed(self.kernel.name, self.name)

    def resume(self) -> None:
        """SIGCONT."""
        if self.life is not Life.PAUSED:
            return
        self._pauses -= 1
        if self._pauses > 0:
            return
        self._pauses = 0
        self.life = Life.RUNNING
        self.world.note(self._label, "resumed")
        self.world.life_changed(self.kernel.name, self.name)
        now_ns = self.kernel.now_ns()
        expected_ns = self._last_turn_ns + MAX_SILENCE_NS
        deadline_ns = self.deadline()
        if deadline_ns is not None:
            expected_ns = max(self._last_turn_ns, min(expected_ns, deadline_ns))
        if now_ns - expected_ns > self.stall_ns:
            self.stalled(now_ns, now_ns - expected_ns)
        self.woke()
        while self._inbox and self.life is Life.RUNNING:
            self.take(now_ns, self._inbox.popleft())
        self._turned(now_ns)

    def deliver(self, event: Any) -> None:
        """Something became readable."""
        if self.life is Life.RUNNING:
            now_ns = self.kernel.now_ns()
            self.take(now_ns, event)
            self._turned(now_ns)
        elif self.life is Life.PAUSED and len(self._inbox) < INBOX_LIMIT:
            self._inbox.append(event)

    def post(self, event: Any, delay_ns: int = IPC_NS) -> None:
        """Deliver ``event`` a little later: what another process or the kernel tells us never runs inside a turn of ours."""
        if self.life is not Life.DEAD:
            self.world.scheduler.after(delay_ns, self._posted, event, self.starts)

    def _posted(self, event: Any, starts: int) -> None:
        if starts == self.starts:
            self.deliver(event)

    # ---- timer ----------------------------------------------------------------------------------------------------------

    def _turned(self, now_ns: int) -> None:
        self._last_turn_ns = now_ns
        if self.life is not Life.RUNNING:
            return
        deadline_ns = self.deadline()
        if deadline_ns is not None and deadline_ns <= now_ns:
            self.fire(now_ns)
            deadline_ns = self.deadline()
        self._rearm(deadline_ns)

    def _rearm(self, deadline_ns: int | None) -> None:
        if self.life is not Life.RUNNING or deadline_ns is None or (self._armed_ns is not None and self._armed_ns <= deadline_ns):
            return
        self._arm(deadline_ns)

    def _arm(self, deadline_ns: int) -> None:
        self._generation += 1
        self._armed_ns = deadline_ns
        late_ns = 20_000 + int(self._rng.random() * 200_000)
        self.world.scheduler.at(deadline_ns + late_ns + self.kernel.boot_at_ns, self._timer, self._generation)

    def _timer(self, generation: int) -> None:
        if generation != self._generation:
            return
        self._armed_ns = None
        if self.life is Life.RUNNING:
            self._turned(self.kernel.now_ns())
