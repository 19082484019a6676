"""The local VRRP daemon as the operating system sees it: gone (told at once by pidfd), stopped, or running.

keepalived and vrrpd both are a parent and a VRRP child, each with a pid file. The child is what holds the addresses: its state is the
daemon's state. Where there is no child's pid file the parent stands for both.
"""

from __future__ import annotations

import contextlib
import errno
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


_GONE = (errno.ENOENT, errno.ESRCH)
"""Only these mean that a process or a pid file is not there; whatever else a read ends with (no descriptors, no memory) says nothing."""


def read_pid(path: str) -> int:
    """The pid in a pid file, 0 if there is none. Raises OSError when the file cannot be read for another reason."""
    try:
        with open(path, "rb") as f:
            text = f.read(32).strip()
    except OSError as error:
        if error.errno in _GONE:
            return 0
        raise
    return int(text) if text.isdigit() and len(text) < 10 else 0


def daemon_named_in(path: str, word: bytes) -> int:
    """The pid in a pid file if that process really is the daemon (pids are used again), else 0. Raises OSError as read_pid."""
    pid = read_pid(path)
    if not pid:
        return 0
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return pid if word in f.read(4096) else 0
    except OSError as error:
        if error.errno in _GONE:
            return 0
        raise


class _Tracked:
    """One pid file and the process that it names: held by a pidfd, its state read from a file that stays open."""

    def __init__(self, pump: Pump, path: str, word: bytes, on_exit: Callable[[], None]) -> None:
        self.pid = 0
        self._pump = pump
        self._path = path
        self._word = word
        self._on_exit = on_exit
        self._pidfd = self._stat = -1
        self._looking = False
        self.known = False
        """Whether the pid file could be looked at once: before that nobody is known to be gone."""

    def look_now(self) -> None:
        """Follow the pid file, waiting for it: only before the loop runs."""
        with contextlib.suppress(OSError):  # unknown is not gone: the next look will tell
            self._follow(daemon_named_in(self._path, self._word))

    def look(self) -> None:
        """Follow the pid file, beside the loop: a new pid in it replaces the process."""
        if self._looking:
            return
        path, word = self._path, self._word
        self._looking = self._pump.aside.run(lambda: daemon_named_in(path, word), self._looked, self._unknown)

    def _looked(self, pid: int) -> None:
        self._looking = False
        with contextlib.suppress(OSError):
            self._follow(pid)

    def _unknown(self, _error: OSError) -> None:
        self._looking = False

    def _follow(self, pid: int) -> None:
        if pid in (0, self.pid):
            self.known = True
            return
        pidfd = os.pidfd_open(pid)
        try:
            stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(pidfd)
            raise
        self.forget()
        self.pid, self._pidfd, self._stat, self.known = pid, pidfd, stat, True
        self._pump.add_reader(pidfd, self._exited)

    def state(self) -> str:
        """The one-letter state of the process, "" if there is none. Raises OSError when it cannot be known."""
        if self._stat < 0:
            return ""
        try:
            stat = os.pread(self._stat, 1024, 0)
        except OSError as error:
            if error.errno in _GONE:
                return ""
            raise
        # the name in parentheses may hold anything, spaces and parentheses too
        return stat[stat.rfind(b")") + 2 :][:1].decode("ascii", "replace")

    def _exited(self) -> None:
        self.forget()
        self._on_exit()

    def forget(self) -> None:
        """Let go of the process."""
        if self._pidfd >= 0:
            self._pump.remove_reader(self._pidfd)
            os.close(self._pidfd)
            os.close(self._stat)
        self.pid, self._pidfd, self._stat = 0, -1, -1


class DaemonMonitor:
    """Reports LocalDaemonChanged, the first time at ``report``; a part with ``next_deadline`` and ``on_deadline``.

    ``daemon`` is "keepalived" or "vrrpd".
    """

    def __init__(self, pump: Pump, daemon: str, pid_file: str, vrrp_pid_file: str, emit: Callable[[WatcherEvent], None]) -> None:
        word = b"keepalived" if daemon == "keepalived" else b"vrrp"
        _ = pump.aside  # made now: later there may be no descriptor for it
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
        for tracked in (self._parent, self._child):
            tracked.look_now()
        self._judge(now_ns())

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
        self._judge(at_ns)

    def _judge(self, at_ns: int) -> None:
        self._child_seen = self._child_seen or self._child.pid != 0
        tracked = self._child if self._child_seen else self._parent
        pid = tracked.pid
        if not tracked.known:
            return
        try:
            letter = tracked.state()
        except OSError:
            return  # Promise 8: what cannot be known is not judged; what was said last stands
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
