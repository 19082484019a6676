"""Tells the outside about changes of state: scripts in order, and the notify FIFO.

keepalived starts notify scripts in parallel, so that a slow MASTER script can end after the BACKUP script that follows it (#584, #996,
#1055). Here the scripts of one instance or group run one change after the other; those of one change run together.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from base.clock import now_ns
from base.core import NS_PER_S
from base.log import Log
from vrrp.config.model.common import NotifyCommands, ScriptCommand
from vrrp.config.model.daemon import NotifyFifo
from vrrp.system.scripts import CannotRun, Outcome, ScriptRunner, account
from vrrp.system.timers import Timers

PATIENCE_NS = 60 * NS_PER_S
"""A script that runs so long no longer holds back the next change of its instance."""
MAX_QUEUED = 1000


@dataclass(frozen=True, slots=True)
class Change:
    """One change of state. ``kind``: INSTANCE or GROUP."""

    kind: str
    name: str
    state: str
    priority: int


def scripts_for(commands: NotifyCommands, change: Change) -> list[tuple[ScriptCommand, tuple[str, ...]]]:
    """The scripts of one change with their extra arguments, as keepalived passes them."""
    specific = {
        "MASTER": commands.master,
        "BACKUP": commands.backup,
        "FAULT": commands.fault,
        "STOP": commands.stop,
        "DELETED": commands.deleted or commands.fault,
        "MASTER_RX_LOWER_PRI": commands.master_rx_lower_priority,
    }.get(change.state)
    scripts: list[tuple[ScriptCommand, tuple[str, ...]]] = []
    if specific is not None:
        scripts.append((specific, ()))
    if commands.any_state is not None and change.state != "MASTER_RX_LOWER_PRI":
        scripts.append((commands.any_state, (change.kind, change.name, change.state, str(change.priority))))
    return scripts


@dataclass(slots=True)
class _Queue:
    waiting: deque[list[tuple[ScriptCommand, tuple[str, ...]]]] = field(default_factory=deque)
    running: int = 0
    generation: int = 0


class Notifier:
    """Runs notify scripts, in order per instance or group."""

    def __init__(self, runner: ScriptRunner, timers: Timers, log: Log) -> None:
        self._runner = runner
        self._timers = timers
        self._log = log
        self._queues: dict[tuple[str, str], _Queue] = {}
        self.dropped = 0

    def changed(self, commands: NotifyCommands, change: Change) -> None:
        """Queue the scripts of one change."""
        scripts = scripts_for(commands, change)
        if scripts:
            self.run(change.kind, change.name, scripts)

    def run(self, kind: str, name: str, scripts: list[tuple[ScriptCommand, tuple[str, ...]]]) -> None:
        """Queue the scripts of one change of (kind, name), each with its extra arguments."""
        queue = self._queues.setdefault((kind, name), _Queue())
        if len(queue.waiting) >= MAX_QUEUED:
            self.dropped += 1
            self._log.limited("notify queue", f"too many notify scripts wait for {name}; one is dropped")
            return
        queue.waiting.append(scripts)
        if not queue.running:
            self._next(queue)

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return not any(queue.running or queue.waiting for queue in self._queues.values())

    def _next(self, queue: _Queue) -> None:
        while queue.waiting and not queue.running:
            scripts = queue.waiting.popleft()
            queue.generation += 1
            queue.running = len(scripts)
            generation = queue.generation
            self._timers.call_at(now_ns() + PATIENCE_NS, lambda g=generation: self._give_up(queue, g))  # type: ignore[misc]
            for command, extra in scripts:
                self._runner.run(command, extra, self._ender(queue, generation, command))

    def _ender(self, queue: _Queue, generation: int, command: ScriptCommand) -> Callable[[Outcome], None]:
        def ended(outcome: Outcome) -> None:
            if not outcome.success:
                self._log.limited(f"notify {command.path}", f"notify script {command.path} {outcome.detail}")
            if generation == queue.generation:
                queue.running -= 1
                self._next(queue)

        return ended

    def _give_up(self, queue: _Queue, generation: int) -> None:
        if generation == queue.generation and queue.running:
            self._log.warning("a notify script still runs after 60 s; the next ones no longer wait for it")
            queue.generation += 1
            queue.running = 0
            self._next(queue)


class Fifo:
    """A notify FIFO: one line per event, written whole or not at all; what does not fit is counted."""

    def __init__(self, settings: NotifyFifo, log: Log) -> None:
        self.path = settings.path
        self._log = log
        self._fd = -1
        self.dropped = 0
        try:
            if not os.path.exists(self.path):
                os.mkfifo(self.path, 0o644)
                self._give_away(settings)
            if not stat.S_ISFIFO(os.stat(self.path).st_mode):
                raise FileExistsError(17, "is not a FIFO; move it away")
            self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            log.error(f"notify FIFO {self.path}: {error.strerror}")

    def _give_away(self, settings: NotifyFifo) -> None:
        """To the user and group of the file; as keepalived, only a FIFO that we have made. Without a group it is the user's."""
        if not settings.user or os.geteuid() != 0:
            return
        try:
            identity = account(ScriptCommand((self.path,), settings.user, settings.group))
        except CannotRun as error:
            self._log.error(f"notify FIFO {self.path}: {error}")
            return
        if identity is not None:
            os.chown(self.path, *identity)

    def changed(self, change: Change) -> None:
        """Write one event: ``INSTANCE "VI_1" MASTER 100``."""
        self.write(f'{change.kind} "{change.name}" {change.state} {change.priority}\n'.encode())

    def write(self, line: bytes) -> None:
        """Write one line, whole or not at all."""
        if self._fd < 0:
            return
        try:
            os.write(self._fd, line)
        except OSError:
            self.dropped += 1
            self._log.limited(f"fifo {self.path}", f"nobody reads the notify FIFO {self.path}; events are lost")

    def close(self) -> None:
        """Close it; the file stays, as with keepalived."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
