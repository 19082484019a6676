"""braind in the bench's laboratory: how soon it suspects a second owner, and what it costs when nothing happens."""

from __future__ import annotations

import random
import secrets
import sqlite3
import tempfile
import time
from pathlib import Path

from bench.daemons import BIN, Program, vrrp_daemon
from bench.lab import HOST, Lab
from bench.observer import Observer

INTERVAL_S = 0.5
BEAT_MS = 200


def brain_toml(lab: Lab, directory: Path, daemon: str, mode: str, bridge: bool) -> str:
    """Four heartbeat paths at five beats a second, the gateway as reference.

    ``bridge``: the watchers carry adverts that the service network loses.
    """
    paths = [
        ("lan-frames", "ethernet", "eth0", ""),
        ("lan-multicast", "multicast", "eth0", ""),
        ("second-frames", "ethernet", "eth1", ""),
        ("second-unicast", "unicast", "eth1", f'address = {{ a = "10.67.0.{HOST["a"]}", b = "10.67.0.{HOST["b"]}" }}\nport = 6995\n'),
    ]
    text = f'version = 1\n[cluster]\nname = "bench"\nkey_file = "{directory}/../cluster.key"\n'
    for rank, role in enumerate("ab", 1):
        text += f'[node.{role}]\nrank = {rank}\naddresses = ["{lab.address(role)}"]\n'
    text += f'[policy]\nmode = "{mode}"\nsettle_ms = 2000\n'
    text += f'[gate]\ndaemon = "{daemon}"\nconfig = "{directory}/keepalived.conf"\n'
    text += f'pid_file = "{directory}/pid"\nvrrp_pid_file = "{directory}/vrrp.pid"\nvrrpd_socket = "{directory}/vrrpd.sock"\n'
    text += f'hold_file = "{directory}/hold"\ngrant_file = "{directory}/grant"\nbridge_adverts = {"true" if bridge else "false"}\n'
    for name, kind, interface, extra in paths:
        text += f'[[path]]\nname = "{name}"\ntype = "{kind}"\ninterface = "{interface}"\ninterval_ms = {BEAT_MS}\n{extra}'
    return text + f'[[reference]]\nname = "gateway"\naddress = "{lab.address("g")}"\ninterface = "eth0"\n'


def watcher(lab: Lab, role: str, directory: Path, daemon: str, mode: str = "observe", bridge: bool = False) -> Program:
    """A braind of one node, configured but not started."""
    (directory / "brain.toml").write_text(brain_toml(lab, directory, daemon, mode, bridge))
    key = directory.parent / "cluster.key"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_text(secrets.token_hex(32))
    argv = [
        f"{BIN}/braind",
        "--config",
        f"{directory}/brain.toml",
        "--node",
        role,
        "--run-dir",
        f"{directory}/run",
        "--state-dir",
        f"{directory}/state",
    ]
    return Program(lab, role, argv, directory / "braind")


def suspected_after(directory: Path, start_wall_ns: int) -> int | None:
    """Wall time of the first SPLIT_BRAIN row with stage suspected after ``start_wall_ns``, by the record of a node."""
    path = directory / "state/brain.db"
    if not path.exists():
        return None
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        row = db.execute(
            "SELECT min(wall_ns) FROM verdicts WHERE verdict = 'SPLIT_BRAIN' AND stage = 'suspected' AND wall_ns > ?", (start_wall_ns,)
        ).fetchone()
    return row[0] if row else None


class Pair:
    """Two nodes with a VRRP daemon and braind, settled with a as the owner; a context manager."""

    def __init__(self, daemon: str) -> None:
        self.daemon = daemon

    def __enter__(self) -> Pair:
        self.lab = Lab().__enter__()
        self._temporary = tempfile.TemporaryDirectory(prefix="bench-")
        self.directory = Path(self._temporary.name)
        self.observer = Observer(self.lab, probe_ms=20)
        self.vrrp = {
            role: vrrp_daemon(self.lab, role, self.daemon, self.directory / role, priority=priority, version=3, interval_s=INTERVAL_S)
            for role, priority in (("a", 150), ("b", 100))
        }
        self.brain = {role: watcher(self.lab, role, self.directory / role, self.daemon) for role in "ab"}
        self.vrrp["a"].start()
        if not self.observer.run(30, lambda: self.observer.answering("a")):
            raise RuntimeError(f"{self.daemon}: a never became master")
        self.vrrp["b"].start()
        for program in self.brain.values():
            program.start()
        self.observer.run(8)
        return self

    def __exit__(self, *_exc: object) -> None:
        for program in (*self.brain.values(), *self.vrrp.values()):
            program.kill()
        self.observer.close()
        self.lab.close()
        self._temporary.cleanup()


def measure_detection(daemon: str, rounds: int) -> list[float]:
    """ms from the second owner's first claim on the wire to the first ``suspected`` in either node's record, once per split."""
    found: list[float] = []
    with Pair(daemon) as pair:
        for _ in range(rounds):
            pair.observer.run(random.uniform(0, 0.5))
            start_ns = time.time_ns()
            pair.lab.block_adverts()
            claim = None
            if pair.observer.run(15, lambda start_ns=start_ns: any(t > start_ns for t in pair.observer.claims["b"])):  # type: ignore[misc]
                claim = next(t for t in pair.observer.claims["b"] if t > start_ns)
            pair.observer.run(2)
            times = [t for role in "ab" if (t := suspected_after(pair.directory / role, start_ns)) is not None]
            if claim is None or not times:
                raise RuntimeError("no split was seen, or no watcher suspected it")
            found.append((min(times) - claim) / 1e6)
            pair.lab.nft("flush chain bridge bb flt")
            pair.observer.run(10, lambda: not pair.observer.answering("b"))
            pair.observer.run(4)  # the incident closes
    return found


def measure_idle(daemon: str, seconds: float) -> dict[str, float]:
    """CPU (percent of a core) and memory (PSS, MiB) of node a's processes while nothing happens."""
    with Pair(daemon) as pair:
        pair.observer.run(5)
        programs = {"vrrp": pair.vrrp["a"], "braind": pair.brain["a"]}
        before = {name: p.cpu_s() for name, p in programs.items()}
        time.sleep(seconds)
        result: dict[str, float] = {}
        for name, program in programs.items():
            result[f"{name}_cpu_percent"] = 100 * (program.cpu_s() - before[name]) / seconds
            result[f"{name}_pss_mib"] = program.pss_kib() / 1024
        return result
