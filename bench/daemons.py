"""The daemons under measurement: how each is started, and what its processes cost."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from bench.lab import VIP, Lab

BIN = Path(sys.executable).parent
COMMANDS = {
    "keepalived": "keepalived -P -D -n -l -G -f {conf} -p {dir}/pid -r {dir}/vrrp.pid -c {dir}/checkers.pid",
    "vrrpd": f"{BIN}/vrrpd -P -D -n -l -f {{conf}} -p {{dir}}/pid -r {{dir}}/vrrp.pid --run-dir {{dir}}",
}


def keepalived_conf(priority: int, version: int, interval_s: float, rt_priority: int = 0, extra: str = "") -> str:
    """One instance with one VIP. ``rt_priority``: SCHED_RR for the vrrp process, so that a busy machine does not blur the figures.

    ``extra``: more lines for the instance.
    """
    scheduling = f"    vrrp_rt_priority {rt_priority}\n" if rt_priority else ""
    return (
        f"global_defs {{\n    router_id bench\n    vrrp_version {version}\n{scheduling}}}\n"
        f"vrrp_instance V {{\n    state BACKUP\n    interface eth0\n"
        f"    virtual_router_id 51\n    priority {priority}\n    advert_int {interval_s:g}\n"
        f"    virtual_ipaddress {{\n        {VIP}/24\n    }}\n{extra}}}\n"
    )


def descendants(roots: list[int]) -> list[int]:
    """All live processes below and including ``roots``."""
    children: dict[int, list[int]] = {}
    alive = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                rest = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if rest[0] != "Z":
                alive.add(int(entry))
                children.setdefault(int(rest[1]), []).append(int(entry))
    found, todo = [], [r for r in roots if r in alive]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


@dataclass
class Program:
    """Processes started in one node's namespace."""

    lab: Lab
    role: str
    argv: list[str]
    directory: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        """Start it; output goes to ``log`` in its directory."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen([*self.lab.inside(self.role), *self.argv], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def pids(self) -> list[int]:
        """Its processes."""
        return descendants([self.process.pid]) if self.process else []

    def listening(self) -> bool:
        """Whether its namespace has joined the VRRP group: the daemon has come as far as hearing adverts."""
        return self.process is not None and "120000E0" in Path(f"/proc/{self.process.pid}/net/igmp").read_text()

    def kill(self) -> None:
        """SIGKILL to all of them at once."""
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self.process is not None:
            self.process.wait(10)
            self.process = None

    def cpu_s(self) -> float:
        """Scheduler run time of all threads so far."""
        total = 0
        for pid in self.pids():
            try:
                for thread in os.listdir(f"/proc/{pid}/task"):
                    total += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
            except OSError:
                continue
        return total / 1e9

    def pss_kib(self) -> int:
        """Proportional set size of all processes."""
        total = 0
        for pid in self.pids():
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total


def vrrp_daemon(
    lab: Lab, role: str, name: str, directory: Path, *, priority: int, version: int, interval_s: float, rt_priority: int = 0
) -> Program:
    """A VRRP daemon of one node, configured but not started."""
    directory.mkdir(parents=True, exist_ok=True)
    conf = directory / "keepalived.conf"
    conf.write_text(keepalived_conf(priority, version, interval_s, rt_priority))
    return Program(lab, role, shlex.split(COMMANDS[name].format(conf=conf, dir=directory)), directory)
