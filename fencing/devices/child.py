"""Run somebody else's program with a hard deadline: own process group, bounded output, nothing left behind.

The program may hang, write without end, die by a signal, or leave a child that keeps the pipe open. In every case ``run_child`` is back
shortly after the deadline and the whole process group is dead. A process that left the group (setsid) is found by the
mark in its environment; in a process that called ``become_reaper`` also one that emptied its environment.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from base.clock import now_ns

MAX_OUTPUT_BYTES = 64 * 1024
RUN_MARK = "BRAINCTL_RUN"
_SAFE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DRAIN_NS = 200_000_000
_SETPRIV = shutil.which("setpriv", path=_SAFE_PATH)


_PR_SET_CHILD_SUBREAPER = 36


class _Family:
    """The programs that run now. A process whose parent died becomes a child of its nearest subreaper: in one that starts nothing but
    these programs, every other child is what a program left behind."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: set[int] = set()
        self.reaps = False

    def ended(self, pid: int) -> None:
        """One program is over; when none runs any more, what is left over is nobody's."""
        with self.lock:
            self.running.discard(pid)
            if self.reaps and not self.running:
                self._kill_orphans()

    def _kill_orphans(self) -> None:
        for _ in range(8):  # an orphan may have children of its own, which become ours when it dies
            orphans = _children()
            if not orphans:
                return
            for pid in orphans:
                try:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                except OSError:
                    continue


_family = _Family()


def become_reaper() -> None:
    """Declare that this process starts nothing but ``run_child`` programs: whatever else becomes its child is killed and reaped."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _family.reaps = True


def _children() -> list[int]:
    pids: list[int] = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/children", "rb") as f:
                pids += [int(pid) for pid in f.read().split()]
        except OSError:
            continue
    return pids


@dataclass(frozen=True, slots=True)
class ChildResult:
    """How a program ended. ``exit_code`` is None when it did not exit by itself; ``killed_by`` is the signal that ended it (0 = none).

    ``stdout`` and ``stderr`` are cut at 64 KiB each. ``started`` is False when it could not be executed (``stderr`` says why).
    """

    started: bool
    exit_code: int | None
    killed_by: int
    timed_out: bool
    stdout: str
    stderr: str


class _Output:
    """One pipe: keeps the first 64 KiB, goes on reading so that the program is not blocked."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.data = bytearray()
        os.set_blocking(fd, False)

    def drain(self) -> bool:
        """Read what is there, bounded; False at the end of the file."""
        for _ in range(16):
            try:
                chunk = os.read(self.fd, 65536)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            self.data += chunk[: max(0, MAX_OUTPUT_BYTES - len(self.data))]
        return True

    def text(self) -> str:
        return self.data.decode("utf-8", "replace")


def run_child(argv: Sequence[str], stdin: bytes, deadline_ns: int, env: Mapping[str, str] | None = None) -> ChildResult:
    """Run ``argv`` with ``stdin`` until ``deadline_ns`` (CLOCK_BOOTTIME); see the module docstring.

    ``env`` is added to a minimal environment (PATH, LANG, HOME). The program dies with the calling thread's process.
    """
    mark = secrets.token_hex(8)
    full_env = {"PATH": _SAFE_PATH, "LANG": "C.UTF-8", "HOME": "/", "PYTHONWARNINGS": "ignore", **(env or {}), RUN_MARK: mark}
    full_argv = [_SETPRIV, "--pdeathsig", "KILL", "--", *argv] if _SETPRIV else list(argv)
    with _family.lock:  # no orphan is looked for between the start of a program and its entry
        try:
            process = subprocess.Popen(
                full_argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=full_env,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            return ChildResult(False, None, 0, False, "", f"{argv[0]}: {error.strerror}")
        _family.running.add(process.pid)
    try:
        with process:
            return _attend(process, stdin, deadline_ns, mark)
    finally:
        _family.ended(process.pid)


def _attend(process: subprocess.Popen[bytes], stdin: bytes, deadline_ns: int, mark: str) -> ChildResult:
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    pidfd = os.pidfd_open(process.pid)
    outputs = {name: _Output(pipe.fileno()) for name, pipe in (("out", process.stdout), ("err", process.stderr))}
    os.set_blocking(process.stdin.fileno(), False)
    to_write = memoryview(stdin)
    exited = timed_out = False
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(pidfd, selectors.EVENT_READ, "exit")
            selector.register(process.stdin, selectors.EVENT_WRITE, "in")
            for name, output in outputs.items():
                selector.register(output.fd, selectors.EVENT_READ, name)
            while not exited and not timed_out:
                for key, _ in selector.select(max(0.0, (deadline_ns - now_ns()) / 1e9)):
                    if key.data == "exit":
                        exited = True
                    elif key.data == "in":
                        to_write = _feed(process, selector, to_write)
                    elif not outputs[key.data].drain():
                        selector.unregister(key.fd)
                timed_out = not exited and now_ns() >= deadline_ns
            # The leader is not reaped yet, so its group id cannot belong to anybody else.
            held = exited and not _drain_to_end(outputs, min(deadline_ns, now_ns() + _DRAIN_NS))
        _kill_group(process.pid)
        process.wait()
        if timed_out or held:
            kill_marked(mark)
        for output in outputs.values():
            output.drain()
    finally:
        os.close(pidfd)
    code = process.returncode
    signum = -code if code < 0 and not timed_out else 0
    if code == 127 and outputs["err"].text().startswith("setpriv:"):
        return ChildResult(False, None, 0, False, "", outputs["err"].text().strip())
    return ChildResult(True, code if exited and code >= 0 else None, signum, timed_out, outputs["out"].text(), outputs["err"].text())


def _feed(process: subprocess.Popen[bytes], selector: selectors.BaseSelector, to_write: memoryview) -> memoryview:
    """Write what the pipe takes; close it when all is written or nobody reads."""
    assert process.stdin is not None
    try:
        to_write = to_write[os.write(process.stdin.fileno(), to_write[:65536]) :]
    except BlockingIOError:
        return to_write
    except BrokenPipeError:
        to_write = to_write[:0]
    if not to_write:
        selector.unregister(process.stdin)
        process.stdin.close()
    return to_write


def _drain_to_end(outputs: Mapping[str, _Output], until_ns: int) -> bool:
    """After the leader's exit: read the rest. False when somebody still holds a pipe open at ``until_ns``."""
    with selectors.DefaultSelector() as selector:
        for name, output in outputs.items():
            selector.register(output.fd, selectors.EVENT_READ, name)
        while selector.get_map() and now_ns() < until_ns:
            for key, _ in selector.select(max(0.0, (until_ns - now_ns()) / 1e9)):
                if not outputs[key.data].drain():
                    selector.unregister(key.fd)
        return not selector.get_map()


def _kill_group(pgid: int) -> None:
    try:
        os.killpg(pgid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def kill_marked(mark: str) -> int:
    """Kill every process whose environment carries ``mark``; returns how many. For what escaped from the process group."""
    wanted = f"{RUN_MARK}={mark}".encode()
    killed = 0
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as f:
                ours = wanted in f.read(1 << 20).split(b"\0")
            if ours:
                os.kill(int(entry), signal.SIGKILL)
                killed += 1
        except OSError:
            continue
    return killed
