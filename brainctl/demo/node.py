"""A laboratory node: a machine made of its own network, mount, pid, UTS and IPC namespace, that can be booted, frozen and powered off."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from brainctl.demo.kernel import namespace_pids, run
from brainctl.demo.program import Event, Program, python_program

_BOOT_TIMEOUT_S = 15.0


class LabError(Exception):
    """The laboratory itself failed: a scenario cannot be judged."""


@dataclass(slots=True)
class Job:
    """A program running on a node. ``pid`` is a host pid, 0 when it could not be started."""

    name: str
    argv: tuple[str, ...]
    pid: int
    node_pid: int
    env: dict[str, str] = field(default_factory=dict)


class Node:
    """``disk`` survives a power cycle; memory (/run, /tmp, kernel addresses, processes) does not."""

    def __init__(self, name: str, disk: Path, tty: str) -> None:
        self.name, self.disk, self._tty = name, disk, tty
        for part in ("var-lib", "etc-brainctl", "etc-keepalived", "log"):
            (disk / part).mkdir(parents=True, exist_ok=True)
        self._init: Program | None = None
        self.pid = 0
        self._namespace = 0
        self._orders = 0
        self.jobs: dict[str, Job] = {}
        self.boots = 0

    # ---- power -----------------------------------------------------------------------------------------------------------------------
    def boot(self, keep: Iterable[Path]) -> None:
        """Start the machine without any cable. ``keep``: paths that its programs need, which its own /run, /tmp or /var/lib would hide."""
        assert self._init is None
        self.boots += 1
        flags = ("--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc")
        imported = (Path(entry) for entry in sys.path if entry and Path(entry).is_dir())  # a .pth file may point anywhere
        kept = [str(path) for path in (*keep, Path(sys.prefix), Path(sys.base_prefix), *imported, self.disk)]
        argv = ["unshare", *flags, *python_program("node_init", self.name, str(self.disk), self._tty, *dict.fromkeys(kept))]
        self._init = Program(argv, log=self.disk / "log" / "init.jsonl")
        if self._init.wait_for(lambda event: event["event"] == "ready", _BOOT_TIMEOUT_S) is None:
            raise LabError(f"node {self.name} did not boot; see {self._init.log.with_suffix('.err')}")
        self.pid = _only_child(self._init.process.pid)
        self._namespace = os.stat(f"/proc/{self.pid}/ns/pid").st_ino

    @property
    def on(self) -> bool:
        """Whether it has power."""
        return self._init is not None

    @property
    def network(self) -> str:
        """The path of its network namespace."""
        return f"/proc/{self.pid}/ns/net"

    @property
    def root(self) -> Path:
        """Its file tree as seen from outside."""
        return Path(f"/proc/{self.pid}/root")

    def power_off(self) -> None:
        """Every process dies at once, memory is lost."""
        if self._init is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._init.close()
        self._init, self.pid = None, 0
        self.jobs.clear()

    # ---- programs --------------------------------------------------------------------------------------------------------------------
    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Job:
        """Start a program; its output goes to log/NAME.log."""
        if self._init is None:
            raise LabError(f"node {self.name} has no power")
        self._orders += 1
        number = self._orders
        order = {"op": "spawn", "id": number, "argv": list(argv), "env": dict(env or {}), "log": str(self.disk / "log" / f"{name}.log")}
        self._init.tell(json.dumps(order))
        answer = self._init.wait_for(lambda event: event["event"] == "spawned" and event["id"] == number, 10.0)
        if answer is None:
            raise LabError(f"node {self.name} does not start {name}: its process 1 does not answer")
        if not answer["pid"]:
            raise LabError(f"node {self.name}: {argv[0]} could not be started; see {order['log']}")
        job = Job(name, tuple(argv), self._host_pid(answer["pid"]), answer["pid"], dict(env or {}))
        self.jobs[name] = job
        return job

    def exit_status(self, job: Job) -> int | None:
        """The exit status of a job of this boot (negative: killed by that signal), or None while it runs."""
        if self._init is None:
            return -signal.SIGKILL
        ended: list[Event] = [e for e in self._init.events if e["event"] == "exited" and e["pid"] == job.node_pid]
        return ended[-1]["status"] if ended else None

    def running(self, name: str) -> bool:
        """Whether a job was started and has not ended."""
        job = self.jobs.get(name)
        return job is not None and self.exit_status(job) is None

    def tree(self, *names: str) -> list[int]:
        """Host pids of jobs and all their descendants, parents first."""
        parents = {pid: _parent(pid) for pid in namespace_pids(self._namespace)}
        found = [self.jobs[name].pid for name in names if name in self.jobs and self.jobs[name].pid in parents]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid and child not in found]
        return found

    def freeze(self, *names: str) -> None:
        """SIGSTOP jobs and their descendants; without names everything on the node, process 1 last."""
        for pid in self.tree(*names) if names else sorted(namespace_pids(self._namespace), reverse=True):
            _signal(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT everything on the node."""
        for pid in namespace_pids(self._namespace):
            _signal(pid, signal.SIGCONT)

    def kill(self, *names: str) -> None:
        """SIGKILL jobs and their descendants, none of which gets to see the death of another; without names all but process 1.

        With "vrrp" vrrpd's guardian dies too, which is nobody's child: these stories are about what braind does.
        """
        everything = [pid for pid in namespace_pids(self._namespace) if pid != self.pid]
        pids = self.tree(*names) + [pid for pid in everything if "vrrp" in names and _is_guardian(pid)] if names else everything
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        for pid in reversed(pids):
            _signal(pid, signal.SIGKILL)

    def kill_by_pid_file(self, *paths: str) -> None:
        """SIGKILL the process that the first of these files on the node names."""
        file = next((self.root / path.lstrip("/") for path in paths if (self.root / path.lstrip("/")).exists()), None)
        if file is None:
            raise LabError(f"node {self.name} has none of {', '.join(paths)}")
        _signal(self._host_pid(int(file.read_text())), signal.SIGKILL)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a job's first process."""
        _signal(self.jobs[name].pid, number)

    def run(self, *argv: str) -> str:
        """Run a tool on the node to its end; what it printed."""
        return run(["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "-u", "-i", *argv])

    def run_unchecked(self, *argv: str) -> str:
        """The same for a tool whose exit status says what it thinks of the node."""
        inside = ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "-u", "-i", *argv]
        return subprocess.run(inside, capture_output=True, text=True, timeout=30, check=False).stdout

    def no_more_files(self, name: str) -> None:
        """From now on a job's first process may have no more files open than it has."""
        pid = self.jobs[name].pid
        used = max(int(fd) for fd in os.listdir(f"/proc/{pid}/fd")) + 1
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, used))

    @contextlib.contextmanager
    def idle_clients(self, path: str, count: int) -> Iterator[None]:
        """So many clients connect to a socket of the node and say nothing."""
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                client.setblocking(False)
                with contextlib.suppress(OSError):  # full, or refused
                    client.connect(str(self.root / path))
            yield

    def wait_exit(self, name: str, timeout_s: float) -> bool:
        """Wait until a job has ended."""
        until = time.monotonic() + timeout_s
        while self.running(name):
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    def _host_pid(self, node_pid: int) -> int:
        for pid in namespace_pids(self._namespace):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
                numbers = next((line.split()[1:] for line in status if line.startswith("NSpid:")), [])
                if numbers and int(numbers[-1]) == node_pid:
                    return pid
        return 0  # it has ended already; exit_status tells


def _is_guardian(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as command:
            return b"vrrp.guardian" in command.read()
    except OSError:
        return False


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return int(stat.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _only_child(pid: int) -> int:
    for entry in os.listdir("/proc"):
        if entry.isdigit() and _parent(int(entry)) == pid:
            return int(entry)
    raise LabError(f"process {pid} has no child")
