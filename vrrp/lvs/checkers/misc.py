"""MISC_CHECK: a program decides. Exit status 0 is up; with misc_dynamic 2..255 is up with the weight status - 2.

The program runs in a process group of its own, which is ended as a whole (TERM, then KILL) after ``misc_timeout``. One that
cannot be started, is killed or runs too long has failed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess

from vrrp.lvs.checkers.connect import CheckFailed
from vrrp.lvs.model.checker import ProbePassed
from vrrp.lvs.model.settings import MiscProbe
from vrrp.system.scripts import CannotRun, start_program

KILL_AFTER_S = 2.0


async def probe(settings: MiscProbe) -> ProbePassed:
    """Run the program once. Raises CheckFailed, OSError."""
    process = _start(settings)
    try:
        return _verdict(settings, await _wait(process, settings.timeout_ns / 1e9))
    except asyncio.CancelledError:
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()
        raise


def _start(settings: MiscProbe) -> subprocess.Popen[bytes]:
    try:
        return start_program(settings.command)
    except CannotRun as error:
        raise CheckFailed(str(error)) from None


async def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> int | None:
    """The exit status, or None if it had to be ended. By pidfd: asyncio's own watcher would take a thread for each."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    descriptor = os.pidfd_open(process.pid)
    loop.add_reader(descriptor, ended.set)
    try:
        for limit_s, signum in ((timeout_s, signal.SIGTERM), (KILL_AFTER_S, signal.SIGKILL)):
            try:
                async with asyncio.timeout(limit_s):
                    await ended.wait()
            except TimeoutError:
                _signal_group(process.pid, signum)
            else:
                if signum is signal.SIGTERM:
                    return process.wait()
                break
        _signal_group(process.pid, signal.SIGKILL)  # its children may have outlived the TERM
        await ended.wait()
        process.wait()
        return None
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _verdict(settings: MiscProbe, status: int | None) -> ProbePassed:
    if status is None:
        raise CheckFailed(f"{settings.command.path} ran longer than {settings.timeout_ns / 1e9:g} s")
    if status < 0:
        raise CheckFailed(f"{settings.command.path} was killed by {signal.Signals(-status).name}")
    if status == 0:
        return ProbePassed(detail="exited with 0")
    if settings.dynamic and status >= 2:
        return ProbePassed(status - 2, f"exited with {status}")
    raise CheckFailed(f"{settings.command.path} exited with {status}")


def _signal_group(pid: int, signum: int) -> None:
    try:
        os.killpg(pid, signum)
    except ProcessLookupError:
        pass
