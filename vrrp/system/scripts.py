"""Programs that the operator configured: started without a shell, in a process group of their own, bounded in time.

Fail closed, unlike keepalived (#2126): a program that is missing, may not be executed, is killed, or runs too long has *failed*. With
``fail_open`` a vrrp_script that cannot be started counts as good.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from base.clock import now_ns
from base.core import NS_PER_S
from base.log import JSON_ENV, Log
from base.pump import Pump
from vrrp.config.model.common import ScriptCommand
from vrrp.config.model.tracking import VrrpScript
from vrrp.system.timers import Timers

DEFAULT_USER = "keepalived_script"
KILL_AFTER_NS = 2 * NS_PER_S
CLEANED_VARIABLES = (
    "IFS",
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "CREDENTIALS_DIRECTORY",
    JSON_ENV,
)
SHELL = "/bin/bash"


class CannotRun(Exception):
    """The program cannot be started; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended: ``code`` is its exit status, or None if it could not be started, was killed or ran too long."""

    code: int | None
    detail: str
    started: bool = True

    @property
    def success(self) -> bool:
        """Exit status 0."""
        return self.code == 0


def argument_list(command: ScriptCommand, extra: Sequence[str] = ()) -> list[str]:
    """argv for ``command``; only the form ``</dev/tcp/HOST/PORT`` needs a shell (bash). Raises CannotRun."""
    arguments = [*command.arguments, *extra]
    if arguments[0].startswith("<"):
        return [SHELL, "-c", " ".join(arguments)]
    program = shutil.which(arguments[0])
    if program is None:
        raise CannotRun(f"{arguments[0]} does not exist or is not executable; install it or correct the path")
    return [os.path.realpath(program) if command.real_path else program, *arguments[1:]]


def account(command: ScriptCommand) -> tuple[int, int] | None:
    """(uid, gid) to run as: the configured user, else keepalived_script if it exists, else ours. Raises CannotRun."""
    name = command.user
    if not name:
        try:
            entry = pwd.getpwnam(DEFAULT_USER)
        except KeyError:
            return None
        return entry.pw_uid, entry.pw_gid
    try:
        entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except KeyError:
        raise CannotRun(f"there is no user {name} for {command.path}; create it or set script_user") from None
    gid = entry.pw_gid
    if command.group:
        import grp

        try:
            gid = int(command.group) if command.group.isdigit() else grp.getgrnam(command.group).gr_gid
        except KeyError:
            raise CannotRun(f"there is no group {command.group} for {command.path}") from None
    return entry.pw_uid, gid


def identity_of(command: ScriptCommand) -> dict[str, Any]:
    """What subprocess.Popen needs to run ``command`` as its user; nothing if we are not root. Raises CannotRun.

    Without supplementary groups, as keepalived; with set_supplementary_groups those of the user.
    """
    identity = account(command) if os.geteuid() == 0 else None
    if identity is None:
        return {}
    uid, gid = identity
    groups: list[int] = []
    if command.all_groups:
        try:
            groups = os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
        except KeyError:  # a number without an account has no groups
            groups = []
    return {"user": uid, "group": gid, "extra_groups": groups}


def start_program(command: ScriptCommand, extra: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """In a process group of its own, with a clean environment. Raises CannotRun, OSError."""
    return subprocess.Popen(
        argument_list(command, extra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name not in CLEANED_VARIABLES},
        process_group=0,
        **identity_of(command),
    )


def _ended(code: int, *, too_long: bool) -> Outcome:
    if too_long:
        return Outcome(None, "ran too long")
    return Outcome(None, f"killed by {signal.Signals(-code).name}") if code < 0 else Outcome(code, f"exited with {code}")


@dataclass(slots=True)
class Running:
    """One started program."""

    process: subprocess.Popen[bytes]
    pidfd: int
    on_done: Callable[[Outcome], None]
    timer: int | None = None
    too_long: bool = False


class ScriptRunner:
    """Starts programs and reports how they ended, on a pump."""

    def __init__(self, pump: Pump, timers: Timers, log: Log) -> None:
        self._pump = pump
        self._timers = timers
        self._log = log
        self._running: dict[int, Running] = {}

    @property
    def busy(self) -> int:
        """How many programs run."""
        return len(self._running)

    def run(
        self, command: ScriptCommand, extra: Sequence[str], on_done: Callable[[Outcome], None], *, timeout_ns: int | None = None
    ) -> None:
        """Start ``command`` with ``extra`` appended; ``on_done`` is called exactly once, perhaps at once."""
        try:
            running = self._start(command, extra, on_done)
        except (CannotRun, OSError) as error:
            text = str(error) if isinstance(error, CannotRun) else f"{command.path}: {error.strerror}"
            self._log.limited(f"script {command.path}", f"cannot run a script: {text}")
            on_done(Outcome(None, text, started=False))
            return
        if timeout_ns is not None:
            running.timer = self._timers.call_at(now_ns() + timeout_ns, lambda: self._terminate(running))

    def _start(self, command: ScriptCommand, extra: Sequence[str], on_done: Callable[[Outcome], None]) -> Running:
        process = start_program(command, extra)
        running = Running(process, os.pidfd_open(process.pid), on_done)
        self._running[process.pid] = running
        self._pump.add_reader(running.pidfd, lambda: self._exited(running))
        return running

    def _terminate(self, running: Running) -> None:
        running.too_long = True
        _signal_group(running.process.pid, signal.SIGTERM)
        running.timer = self._timers.call_at(now_ns() + KILL_AFTER_NS, lambda: self._kill(running))

    def _kill(self, running: Running) -> None:
        running.timer = None
        _signal_group(running.process.pid, signal.SIGKILL)

    def _exited(self, running: Running) -> None:
        code = running.process.poll()
        if code is None:
            return
        self._pump.remove_reader(running.pidfd)
        os.close(running.pidfd)
        if running.timer is not None:
            self._timers.cancel(running.timer)
        del self._running[running.process.pid]
        running.on_done(_ended(code, too_long=running.too_long))

    def kill_all(self, signum: int) -> None:
        """Signal every running program's group (at the end of the daemon)."""
        for running in list(self._running.values()):
            _signal_group(running.process.pid, signum)


def run_to_end(command: ScriptCommand, timeout_ns: int) -> Outcome:
    """Run ``command`` and wait for it, at most ``timeout_ns`` and KILL_AFTER_NS: for the end of the daemon, when its loop is over."""
    try:
        process = start_program(command)
    except (CannotRun, OSError) as error:
        return Outcome(None, str(error) if isinstance(error, CannotRun) else f"cannot be run: {error.strerror}")
    for patience_ns, signum in ((timeout_ns, signal.SIGTERM), (KILL_AFTER_NS, signal.SIGKILL)):
        try:
            return _ended(process.wait(patience_ns / NS_PER_S), too_long=signum is signal.SIGKILL)
        except subprocess.TimeoutExpired:
            _signal_group(process.pid, signum)
    return _ended(process.wait(), too_long=True)


def _signal_group(pid: int, signum: int) -> None:
    try:
        os.killpg(pid, signum)
    except ProcessLookupError:
        pass


class TrackedScripts:
    """Runs every vrrp_script at its interval and tells ``report(name, success)``."""

    def __init__(self, runner: ScriptRunner, timers: Timers, log: Log, report: Callable[[str, bool], None]) -> None:
        self._runner = runner
        self._timers = timers
        self._log = log
        self._report = report
        self._scripts: dict[str, VrrpScript] = {}
        self._tokens: dict[str, int] = {}
        self._running: set[str] = set()
        self._last: dict[str, bool] = {}

    def configure(self, scripts: Sequence[VrrpScript]) -> None:
        """Start, stop and change scripts; an unchanged one keeps its rhythm."""
        wanted = {script.name: script for script in scripts}
        for name in [name for name in self._scripts if wanted.get(name) != self._scripts[name]]:
            self._timers.cancel(self._tokens.pop(name))
            del self._scripts[name]
        for name, script in wanted.items():
            if name not in self._scripts:
                self._scripts[name] = script
                self._tick(name, now_ns())

    def repeat_results(self) -> None:
        """Report the last results again (a new vrrp process knows none)."""
        for name, success in self._last.items():
            if name in self._scripts:
                self._report(name, success)

    def stop(self) -> None:
        """No more runs."""
        self.configure(())

    def _tick(self, name: str, due_ns: int) -> None:
        script = self._scripts[name]
        next_ns = max(due_ns + script.interval_ns, now_ns())
        self._tokens[name] = self._timers.call_at(next_ns, lambda: self._tick(name, next_ns))
        if name in self._running:
            self._log.limited(f"overrun {name}", f"script {name} still runs after its interval; this run is skipped")
            return
        self._running.add(name)
        self._runner.run(script.command, (), lambda outcome: self._done(name, outcome), timeout_ns=script.timeout_ns)

    def _done(self, name: str, outcome: Outcome) -> None:
        self._running.discard(name)
        if name not in self._scripts:
            return
        success = outcome.success or (self._scripts[name].fail_open and not outcome.started)
        if self._last.get(name) != success:
            self._log.info(f"Script `{name}` now {'succeeds' if success else 'fails'}: {outcome.detail}")
        self._last[name] = success
        self._report(name, success)
