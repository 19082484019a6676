"""The stage of a fault: two nodes with the same daemon, settled with a as the owner, a client, and observers that are nobody's friends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.daemons import Program, keepalived_conf, vrrp_daemon
from bench.faults.client import Client
from bench.lab import Lab
from bench.observer import Observer

PRIORITY = {"a": 150, "b": 100}
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ownership:
    """What the kernels of both nodes held during a period."""

    changes: int
    none_ms: float
    two_ms: float


class Scene:
    """A context manager. ``extra``: lines for the instance of a node; ``interval_s``: advert_int."""

    def __init__(self, daemon: str, *, version: int, interval_s: float, extra: dict[str, str] | None = None) -> None:
        self.daemon = daemon
        self.version = version
        self.interval_s = interval_s
        self._extra = extra or {}
        self._helpers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Scene:
        self._temporary = tempfile.TemporaryDirectory(prefix="bench-")
        self.directory = Path(self._temporary.name)
        self.lab = Lab().__enter__()
        self.observer = Observer(self.lab, probe_ms=20)
        self.client = Client(self.lab)
        self.nodes: dict[str, Program] = {}
        try:
            for role in "ab":
                self.nodes[role] = vrrp_daemon(
                    self.lab,
                    role,
                    self.daemon,
                    self.directory / role,
                    priority=PRIORITY[role],
                    version=self.version,
                    interval_s=self.interval_s,
                )
                conf = keepalived_conf(PRIORITY[role], self.version, self.interval_s, extra=self._extra.get(role, ""))
                (self.directory / role / "keepalived.conf").write_text(conf)
            self._settle()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _settle(self) -> None:
        self.started_ns = time.time_ns()
        self.nodes["a"].start()
        if not self.watch(30, lambda: self.observer.answering("a")):
            raise RuntimeError(f"{self.daemon}: a never became master: {self.log('a')[-800:]}")
        self.owned_ns = self.observer.address_added["a"][-1]
        self.nodes["b"].start()
        if not self.watch(30, lambda: b"Entering BACKUP STATE" in self.log("b")):
            raise RuntimeError(f"{self.daemon}: b never became backup: {self.log('b')[-800:]}")
        self.client.start()
        self.watch(max(1.0, 3 * self.interval_s))
        if self.observer.answering("b") or not self.observer.answering("a"):
            raise RuntimeError(f"{self.daemon}: the pair did not settle with a as the only owner")

    def __exit__(self, *_exc: object) -> None:
        for helper in self._helpers:
            if helper.poll() is None:
                helper.kill()
            helper.wait(10)
        for program in self.nodes.values():
            for pid in program.pids():
                os.kill(pid, signal.SIGCONT)
            program.kill()
        self.client.close()
        self.observer.close()
        self.lab.close()
        self._temporary.cleanup()

    # ---- what can be done -----------------------------------------------------------------------------------------

    def watch(self, seconds: float, until: object = None) -> bool:
        """Observe for so long, or until ``until()``; whether it came true."""
        return self.observer.run(seconds, until)  # type: ignore[arg-type]

    def signal_all(self, role: str, number: signal.Signals) -> None:
        """A signal to every process of the daemon, the parent first."""
        for pid in self.nodes[role].pids():
            os.kill(pid, number)

    def child(self, role: str) -> int:
        """The pid of the VRRP process, by the daemon's own pid file."""
        return int((self.directory / role / "vrrp.pid").read_text())

    def forge(self, *arguments: object, role: str = "g") -> subprocess.Popen[bytes]:
        """Start the forger on a third host."""
        argv = [*self.lab.inside(role), sys.executable, "-m", "bench.faults.forger", *map(str, arguments)]
        process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        self._helpers.append(process)
        return process

    # ---- what was seen --------------------------------------------------------------------------------------------

    def log(self, role: str) -> bytes:
        """The log so far."""
        path = self.directory / role / "log"
        return path.read_bytes() if path.exists() else b""

    def log_bytes(self) -> int:
        """The length of both logs."""
        return len(self.log("a")) + len(self.log("b"))

    def claims(self, role: str, start_ns: int) -> int:
        """Gratuitous ARPs of a node for the address since then."""
        return sum(t > start_ns for t in self.observer.claims[role])

    def adverts(self, role: str, start_ns: int, end_ns: int) -> int:
        """Adverts of a node on the wire in that period."""
        return sum(start_ns < t <= end_ns for t, _priority in self.observer.adverts[role])

    def holds(self, role: str, at_ns: int | None = None) -> bool:
        """Did the node's kernel have the address then (now)?"""
        limit = at_ns or time.time_ns()
        added = max((t for t in self.observer.address_added[role] if t <= limit), default=0)
        removed = max((t for t in self.observer.address_removed[role] if t <= limit), default=0)
        return added > removed

    def ownership(self, start_ns: int, end_ns: int) -> Ownership:
        """Changes of either node's kernel in that period, and how long nobody or both had the address."""
        seen = self.observer
        events = sorted(
            {t for times in (seen.address_added, seen.address_removed) for r in "ab" for t in times[r] if start_ns < t < end_ns}
        )
        none_ns = two_ns = changes = 0
        owners = [self.holds(r, start_ns) for r in "ab"]
        at_ns = start_ns
        for t in [*events, end_ns]:
            none_ns += (t - at_ns) * (not any(owners))
            two_ns += (t - at_ns) * all(owners)
            after = [self.holds(r, t) for r in "ab"]
            changes += sum(x != y for x, y in zip(owners, after, strict=True))
            owners, at_ns = after, t
        return Ownership(changes, none_ns / 1e6, two_ns / 1e6)
