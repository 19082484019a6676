"""Children of a daemon: started from an argument list with one socket to talk over, watched by pidfd, restarted with back-off.

A child is a fresh interpreter (no fork of a process that has sockets and timers), gets PR_SET_PDEATHSIG so that it does not outlive its
parent, and talks JSON lines over an inherited socketpair.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from base.channel import Channel, JsonObject
from base.clock import now_ns
from base.core import NS_PER_S
from base.pump import Pump

CHILD_FD_ENV = "BRAINCTL_CHILD_FD"
_PR_SET_PDEATHSIG = 1
_BACKOFF_S = (0, 1, 2, 4, 8, 16, 32, 60)
_STABLE_NS = 60 * NS_PER_S
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent_pid: int, signum: int = signal.SIGTERM) -> None:
    """Ask the kernel to send us ``signum`` when the parent dies. Exits at once if it has died already."""
    _libc.prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(0)


def leave(status: int) -> NoReturn:
    """End this process now. The interpreter's own way out takes a tenth of a second or more, and whoever waits for us waits for that."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def child_socket() -> socket.socket:
    """In a child: the socket to the parent."""
    return socket.socket(fileno=int(os.environ.pop(CHILD_FD_ENV)))


@dataclass(slots=True)
class Child:
    """One supervised child process.

    ``on_message(object)`` for each line it sends, ``on_up()`` when it was (re)started, ``on_down(reason)`` when it is gone.
    """

    pump: Pump
    name: str
    argv: Sequence[str]
    on_message: Callable[[JsonObject], None]
    on_up: Callable[[], None] = lambda: None
    on_down: Callable[[str], None] = lambda _reason: None
    env: dict[str, str] | None = None
    stderr: int | None = None
    channel: Channel | None = None
    restarts: int = 0
    restart_due_ns: int | None = None
    _process: subprocess.Popen[bytes] | None = None
    _pidfd: int = -1
    _started_ns: int = 0
    _failures: int = field(default=0)
    _stopping: bool = False

    def start(self) -> None:
        """Start the process; ``on_up`` is called when it runs."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        env = {**os.environ, **(self.env or {}), CHILD_FD_ENV: str(theirs.fileno())}
        try:
            self._process = subprocess.Popen(
                list(self.argv), env=env, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, stderr=self.stderr, start_new_session=True
            )
        except OSError as error:
            ours.close()
            theirs.close()
            self._schedule(f"could not start: {error}")
            return
        theirs.close()
        self.restart_due_ns = None
        self._started_ns = now_ns()
        self._pidfd = os.pidfd_open(self._process.pid)
        self.pump.add_reader(self._pidfd, self._exited)
        self.channel = Channel(self.pump, ours, self.on_message, lambda _why: None)
        self.on_up()

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process else None

    def send(self, message: JsonObject) -> bool:
        """Send one object; False if the child is down or does not read."""
        return self.channel is not None and self.channel.send(message)

    def next_deadline(self) -> int | None:
        """When a restart is due."""
        return self.restart_due_ns

    def on_deadline(self, at_ns: int) -> None:
        """Restart if due."""
        if self.restart_due_ns is not None and at_ns >= self.restart_due_ns and not self._stopping:
            self.restarts += 1
            self.start()

    def _exited(self) -> None:
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            return
        self.pump.remove_reader(self._pidfd)
        os.close(self._pidfd)
        if self.channel is not None:
            self.channel.close("child exited")
        self.channel = None
        self._process = None
        if self._stopping:
            return
        self._schedule(f"exited with {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}")

    def _schedule(self, reason: str) -> None:
        if now_ns() - self._started_ns > _STABLE_NS:
            self._failures = 0
        delay_s = _BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)]
        self._failures += 1
        self.restart_due_ns = now_ns() + delay_s * NS_PER_S
        self.on_down(reason)

    def stop(self, timeout_s: float = 2.0) -> None:
        """TERM, wait, KILL; blocks at most ``timeout_s``. For the end of the daemon."""
        self._stopping = True
        process = self._process
        if process is None:
            return
        process.terminate()
        over = select.poll()
        over.register(self._pidfd, select.POLLIN)
        if not over.poll(timeout_s * 1000):
            process.kill()
        process.wait()
        self._exited()
