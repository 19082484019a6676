"""Which tracked processes run, how many, and since when: vrrp_track_process as a ``base.core.Core``.

Pure. The shell (vrrp.system.process_events) tells what it sees in /proc and hears from the kernel. keepalived's rules: up while
``quorum <= running <= quorum_max``; the first answer counts at once, later ones only when they lasted ``fork_delay`` (one more
by a fork or exec) or ``terminate_delay`` (a process ended, or is missed because it became another program).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from base.core import JsonValue

COMM_BYTES = 15
"""The kernel keeps so much of a process's name (TASK_COMM_LEN without its NUL)."""


class ParameterRule(Enum):
    """How the parameters of a process are compared; the words of ``param_match``."""

    NONE = "none"
    EXACT = "exact"
    PARTIAL = "partial"
    INITIAL = "initial"


@dataclass(frozen=True, slots=True)
class TrackedProcess:
    """One vrrp_track_process. ``process`` is compared with the process's name; with argv[0] if ``full_command``, if there are parameters to
    compare, or if it is a path. NONE with parameters means EXACT; another rule without parameters: there must be none."""

    name: str
    process: str
    parameters: tuple[str, ...] = ()
    rule: ParameterRule = ParameterRule.NONE
    full_command: bool = False
    quorum: int = 1
    quorum_max: int | None = None
    fork_delay_ns: int = 0
    terminate_delay_ns: int = 0

    @property
    def needs_command_line(self) -> bool:
        """Must the shell read /proc/PID/cmdline?"""
        return self.full_command or bool(self.parameters) or self.rule is not ParameterRule.NONE or "/" in self.process

    def matches(self, comm: str, command_line: tuple[str, ...]) -> bool:
        """Is it this process?"""
        if not self.needs_command_line:
            return comm == self.process[:COMM_BYTES]
        if not command_line or command_line[0] != self.process:
            return False
        return self._parameters_match(command_line[1:])

    def _parameters_match(self, given: tuple[str, ...]) -> bool:
        wanted = self.parameters
        if not wanted:
            return self.rule is ParameterRule.NONE or not given
        if self.rule is ParameterRule.PARTIAL:
            return given[: len(wanted)] == wanted
        if self.rule is ParameterRule.INITIAL:
            last = len(wanted) - 1
            return len(given) == len(wanted) and given[:last] == wanted[:last] and given[last].startswith(wanted[last])
        return given == wanted

    def fulfilled(self, running: int) -> bool:
        """Is the quorum there, and not too many?"""
        return self.quorum <= running and (self.quorum_max is None or running <= self.quorum_max)


@dataclass(frozen=True, slots=True)
class ProcessSeen:
    """A process began to run a program or changed its name. ``command_line``: argv, empty if nobody needs it or it has none."""

    pid: int
    comm: str
    command_line: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProcessForked:
    """``child`` is a copy of ``parent`` until it runs something else."""

    parent: int
    child: int


@dataclass(frozen=True, slots=True)
class ProcessEnded:
    """The process is gone."""

    pid: int


@dataclass(frozen=True, slots=True)
class ProcessesListed:
    """Everything that runs: the truth at the start, after lost events, and again and again where the kernel tells no events."""

    processes: tuple[ProcessSeen, ...]


@dataclass(frozen=True, slots=True)
class TrackedChanged:
    """A reload."""

    tracked: tuple[TrackedProcess, ...]


@dataclass(frozen=True, slots=True)
class ReportProcess:
    """The tracked process is up or not, ``running`` of them."""

    name: str
    up: bool
    running: int


ProcessEvent: TypeAlias = ProcessSeen | ProcessForked | ProcessEnded | ProcessesListed | TrackedChanged


class _Tracker:
    """One vrrp_track_process and the processes that match it."""

    def __init__(self, tracked: TrackedProcess) -> None:
        self.tracked = tracked
        self.pids: set[int] = set()
        self.up: bool | None = None
        self.due_ns: int | None = None

    def settle(self, now_ns: int, delay_ns: int) -> list[ReportProcess]:
        """Compare what is with what was said; say it now or after ``delay_ns`` of lasting."""
        fulfilled = self.tracked.fulfilled(len(self.pids))
        if fulfilled == self.up:
            self.due_ns = None
            return []
        if self.due_ns is not None:
            return []  # a delay runs already; the same finding again neither shortens nor prolongs it
        if self.up is None or not delay_ns:
            return self.decide()
        self.due_ns = now_ns + delay_ns
        return []

    def decide(self) -> list[ReportProcess]:
        """The delay is over, or there is none."""
        self.due_ns = None
        self.up = self.tracked.fulfilled(len(self.pids))
        return [ReportProcess(self.tracked.name, self.up, len(self.pids))]


class ProcessTracker:
    """``Core[ProcessEvent, ReportProcess]`` over every vrrp_track_process. Nothing is reported before the first ``ProcessesListed``."""

    def __init__(self, tracked: Iterable[TrackedProcess] = ()) -> None:
        self._trackers = [_Tracker(one) for one in tracked]
        self._listed = False

    @property
    def needs_command_line(self) -> bool:
        """Must the shell read the command lines of processes?"""
        return any(tracker.tracked.needs_command_line for tracker in self._trackers)

    def handle(self, now_ns: int, event: ProcessEvent) -> list[ReportProcess]:
        """Take one event in; see ``base.core.Core``."""
        match event:
            case ProcessSeen():
                return self._seen(now_ns, event)
            case ProcessForked(parent, child):
                return [r for t in self._trackers if parent in t.pids for r in self._add(now_ns, t, child)]
            case ProcessEnded(pid):
                return [r for t in self._trackers if pid in t.pids for r in self._drop(now_ns, t, pid)]
            case ProcessesListed(processes):
                return self._list(now_ns, processes)
            case TrackedChanged(tracked):
                return self._adopt(tracked)

    def on_deadline(self, now_ns: int) -> list[ReportProcess]:
        """What lasted long enough is reported."""
        return [r for t in self._trackers if t.due_ns is not None and t.due_ns <= now_ns for r in t.decide()]

    def next_deadline(self) -> int | None:
        """The end of the earliest delay."""
        return min((t.due_ns for t in self._trackers if t.due_ns is not None), default=None)

    def snapshot(self) -> JsonValue:
        """Every tracked process as JSON."""
        return [{"name": t.tracked.name, "up": t.up, "running": len(t.pids), "pids": [*sorted(t.pids)]} for t in self._trackers]

    def current(self) -> list[ReportProcess]:
        """What was reported last, for a listener that lost it."""
        return [ReportProcess(t.tracked.name, t.up, len(t.pids)) for t in self._trackers if t.up is not None]

    def _add(self, now_ns: int, tracker: _Tracker, pid: int) -> list[ReportProcess]:
        tracker.pids.add(pid)
        return tracker.settle(now_ns, tracker.tracked.fork_delay_ns) if self._listed else []

    def _drop(self, now_ns: int, tracker: _Tracker, pid: int) -> list[ReportProcess]:
        tracker.pids.discard(pid)
        return tracker.settle(now_ns, tracker.tracked.terminate_delay_ns) if self._listed else []

    def _seen(self, now_ns: int, seen: ProcessSeen) -> list[ReportProcess]:
        reports: list[ReportProcess] = []
        for tracker in self._trackers:
            if tracker.tracked.matches(seen.comm, seen.command_line):
                reports += self._add(now_ns, tracker, seen.pid)
            elif seen.pid in tracker.pids:
                tracker.pids.discard(seen.pid)
                # The end of a fork that was one too many, or the end of one that is missed.
                fulfilled = tracker.tracked.fulfilled(len(tracker.pids))
                delay_ns = tracker.tracked.fork_delay_ns if fulfilled else tracker.tracked.terminate_delay_ns
                reports += tracker.settle(now_ns, delay_ns) if self._listed else []
        return reports

    def _list(self, now_ns: int, processes: tuple[ProcessSeen, ...]) -> list[ReportProcess]:
        self._listed = True
        reports: list[ReportProcess] = []
        for tracker in self._trackers:
            before = len(tracker.pids)
            tracker.pids = {p.pid for p in processes if tracker.tracked.matches(p.comm, p.command_line)}
            fewer = len(tracker.pids) < before
            reports += tracker.settle(now_ns, tracker.tracked.terminate_delay_ns if fewer else tracker.tracked.fork_delay_ns)
        return reports

    def _adopt(self, tracked: tuple[TrackedProcess, ...]) -> list[ReportProcess]:
        """What is tracked in the same way keeps its state; the rest waits for the list that the shell sends next."""
        before = {tracker.tracked.name: tracker for tracker in self._trackers}
        self._trackers = []
        for one in tracked:
            old = before.get(one.name)
            self._trackers.append(old if old is not None and old.tracked == one else _Tracker(one))
        self._listed = False
        return []
