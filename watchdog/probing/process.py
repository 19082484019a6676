"""The local VRRP daemon as the operating system sees it: gone (told at once by pidfd), stopped, or running.

keepalived and vrrpd both are a parent and a VRRP child, each with a pid file. The child is what holds the addresses: its state is the
daemon's state. Where there is no child's pid file the parent stands for both.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from base.clock import now_ns
from base.core import NS_PER_MS
from base.pump import Pump
from watchdog.judgement.events import DaemonState, LocalDaemonChanged, WatcherEvent

POLL_NS = 200 * NS_PER_MS
HUNG_AFTER_NS = 600 * NS_PER_MS
UNINTERRUPTIBLE_HUNG_AFTER_NS = 3_000 * NS_PER_MS
_STOPPED_STATES = "tT"
_DEAD_STATES = "ZXx"


def process_state(pid: int) -> str:
    """The one-letter state of /proc/PID/stat, "" if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            stat = f.read(1024)
    except OSError:
        return ""
    # the name in parentheses may hold anything, spaces and parentheses too
    return stat[stat.rfind(b")") + 2 :][:1].decode("ascii", "replace")


def read_pid(path: str) -> int:
    """The pid in a pid file, 0 if there is none."""
    try:
        with open(path, "rb") as f:
            text = f.read(32).strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() and len(text) < 10 else 0


def _command_line(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read(4096)
    except OSError:
        return b""


class _Tracked:
    """One pid file and the process that it names, held by a pidfd."""

    def __init__(self, pump: Pump, path: str, word: bytes, on_exit: Callable[[], None]) -> None:
        self.pid = 0
        self._pump = pump
        self._path = path
        self._word = word
        self._on_exit = on_exit
        self._pidfd = -1

    def look(self) -> None:
        """Follow the pid file: a new pid in it replaces the process, if it really is the daemon (pids are used again)."""
        pid = read_pid(self._path)
        if pid in (0, self.pid) or self._word not in _command_line(pid):
            return
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return
        self.forget()
        self.pid, self._pidfd = pid, pidfd
        self._pump.add_reader(pidfd, self._exited)

    def _exited(self) -> None:
        self.forget()
        self._on_exit()

    def forget(self) -> None:
        """Let go of the process."""
        if self._pidfd >= 0:
            self._pump.remove_reader(self._pidfd)
            os.close(self._pidfd)
        self.pid, self._pidfd = 0, -1


class DaemonMonitor:
    """Reports LocalDaemonChanged, the first time at ``report``; a part with ``next_deadline`` and ``on_deadline``.

    ``daemon`` is "keepalived" or "vrrpd".
    """

    def __init__(self, pump: Pump, daemon: str, pid_file: str, vrrp_pid_file: str, emit: Callable[[WatcherEvent], None]) -> None:
        word = b"keepalived" if daemon == "keepalived" else b"vrrp"
        self._daemon = daemon
        self._emit = emit
        self._parent = _Tracked(pump, pid_file, word, self._exited)
        self._child = _Tracked(pump, vrrp_pid_file, word, self._exited)
        self._child_seen = False
        self._stopped_since_ns: int | None = None
        self._waiting_since_ns: int | None = None
        self._reported: DaemonState | None = None
        self._reporting = False
        self._due_ns = now_ns()

    @property
    def state(self) -> DaemonState | None:
        """What was reported last."""
        return self._reported

    def report(self) -> None:
        """Report the present state, and every change from now on."""
        self._reporting = True
        self._look(now_ns())

    def next_deadline(self) -> int | None:
        """The next poll."""
        return self._due_ns if self._reporting else None

    def on_deadline(self, at_ns: int) -> None:
        """Poll if it is due."""
        if self._reporting and at_ns >= self._due_ns:
            self._look(at_ns)

    def close(self) -> None:
        """Let go of the processes."""
        self._parent.forget()
        self._child.forget()

    def _exited(self) -> None:
        if not self._reporting:
            return
        if not (self._child.pid if self._child_seen else self._parent.pid):
            # Told even if a supervisor has started the next one already: what the old one held may have been left behind.
            self._report(DaemonState.STOPPED, self._absence())
        self._look(now_ns())

    def _look(self, at_ns: int) -> None:
        self._due_ns = at_ns + POLL_NS
        self._parent.look()
        self._child.look()
        self._child_seen = self._child_seen or self._child.pid != 0
        pid = self._child.pid if self._child_seen else self._parent.pid
        letter = process_state(pid) if pid else ""
        self._stopped_since_ns = self._since(self._stopped_since_ns, letter in tuple(_STOPPED_STATES), at_ns)
        self._waiting_since_ns = self._since(self._waiting_since_ns, letter == "D", at_ns)
        if not letter or letter in _DEAD_STATES:
            self._report(DaemonState.STOPPED, self._absence())
        elif self._stopped_since_ns is not None and at_ns - self._stopped_since_ns >= HUNG_AFTER_NS:
            self._report(DaemonState.HUNG, f"{self._daemon} (pid {pid}) is stopped by a signal or a debugger")
        elif self._waiting_since_ns is not None and at_ns - self._waiting_since_ns >= UNINTERRUPTIBLE_HUNG_AFTER_NS:
            self._report(DaemonState.HUNG, f"{self._daemon} (pid {pid}) hangs in the kernel (state D)")
        elif letter not in _STOPPED_STATES and letter != "D":
            self._report(DaemonState.RUNNING, f"pid {pid}")

    @staticmethod
    def _since(before_ns: int | None, holds: bool, at_ns: int) -> int | None:
        if not holds:
            return None
        return at_ns if before_ns is None else before_ns

    def _absence(self) -> str:
        if self._parent.pid:
            return f"the VRRP process of {self._daemon} is gone; its parent (pid {self._parent.pid}) lives"
        return f"{self._daemon} is not running"

    def _report(self, state: DaemonState, detail: str) -> None:
        if state is not self._reported:
            self._reported = state
            self._emit(LocalDaemonChanged(state, detail))
