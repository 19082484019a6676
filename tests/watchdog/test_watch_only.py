"""braind --watch-only on a third host beside a real keepalived pair, both families: a split, its end, no owner, a stranger, a dead node."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.lab import ROOT, Lab

pytestmark = pytest.mark.system
VIP, VIP6 = "10.77.0.100", "fd77::100"
CONF = """\
vrrp_instance VI_4 {{
    interface eth0
    virtual_router_id 51
    priority {priority}
    advert_int 1
    virtual_ipaddress {{ {vip}/24 }}
}}
vrrp_instance VI_6 {{
    interface eth0
    virtual_router_id 61
    version 3
    priority {priority}
    advert_int 1
    virtual_ipaddress {{ fe80::6:61 {vip6}/64 }}
}}
"""
D_MS = 1_000 + 200 + 1_000 + 200
"""A whole round of the census until both are seen, confirm_ms, and one more look."""
SLACK_S = 1.3


def conf(priority: int) -> str:
    text = CONF.format(priority=priority, vip=VIP, vip6=VIP6)
    return text.replace("{ fe80::6:61 fd77::100/64 }", "{\n        fe80::6:61\n        fd77::100/64\n    }")


class Host:
    """The third host."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab, self.name = lab, name
        self.home = lab.home(name)
        (self.home / "copy.conf").write_text(conf(150))
        nodes = "".join(f'[watch.node.{n}]\naddresses = ["{lab.nodes[n].address}", "{lab.nodes[n].address6}"]\n' for n in "ab")
        (self.home / "watch.toml").write_text(
            'version = 1\nname = "observer"\n[policy]\nsettle_ms = 1500\n'
            f'[[watch]]\ncluster = "web"\nconfig = "{self.home}/copy.conf"\n{nodes}'
            f'[[alert]]\ntype = "email"\nserver = "127.0.0.1"\nto = ["ops@example.com"]\nfrom = "o@example.com"\n'
        )
        argv = [sys.executable, "-m", "watchdog.daemon", "--watch-only", "--config", f"{self.home}/watch.toml"]
        argv += ["--run-dir", f"{self.home}/run", "--state-dir", f"{self.home}/state"]
        self.daemon = lab.start(name, ["env", f"PYTHONPATH={ROOT}", *argv], self.home)

    def status(self) -> dict[str, Any]:
        argv = ["ip", "netns", "exec", self.lab.nodes[self.name].namespace, sys.executable, "-m", "brainctl.command", "status", "--json"]
        argv += ["--run-dir", f"{self.home}/run", "--state-dir", f"{self.home}/state"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, cwd=ROOT, check=False)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def pair(self) -> dict[str, Any]:
        found: dict[str, Any] = self.status().get("status", {"pairs": [{}]})["pairs"][0]
        return found

    def first(self) -> tuple[str, str]:
        """Verdict and stage of the IPv4 group."""
        group = self.pair()["groups"][0]
        return group["verdict"], group["stage"]

    def says(self, verdict: str, stage: str = "") -> bool:
        """Of both groups."""
        return {(g["verdict"], g["stage"]) for g in self.pair().get("groups", [{"verdict": "", "stage": ""}])} == {(verdict, stage)}


def test_a_pair_is_judged_from_outside() -> None:
    with Lab("a", "b", "w", "x") as lab:
        a, b, x = lab.nodes["a"], lab.nodes["b"], lab.nodes["x"]
        daemons = {n: lab.keepalived(n, conf(p)) for n, p in (("a", 150), ("b", 100))}
        host = Host(lab, "w")
        lab.until(lambda: host.says("HEALTHY"), 20, "healthy")
        assert [g["owners"] for g in host.pair()["groups"]] == [["a"], ["a"]]
        assert host.status()["exit"] == 0

        # It answers the pair's own probes: one reference more.
        assert "1 response" in lab.nodes["a"].run("arping", "-c", "1", "-w", "3", "-I", "eth0", lab.nodes["w"].address)

        for node in (a, b):
            node.nft("add table inet t\nadd chain inet t i { type filter hook input priority 0; }\nadd rule inet t i meta l4proto 112 drop")
        lab.until(lambda: b.holds(VIP) and b.holds(VIP6), 10, "the backup takes over too")
        split = time.monotonic()
        lab.until(lambda: host.says("SPLIT_BRAIN", "confirmed"), D_MS / 1000 + SLACK_S, "the split is found within D")
        assert time.monotonic() - split < D_MS / 1000 + SLACK_S
        assert all(sorted(g["owners"]) == ["a", "b"] for g in host.pair()["groups"])
        assert host.status()["exit"] == 2

        for node in (a, b):
            node.nft("delete table inet t")
        lab.until(lambda: host.says("HEALTHY"), 15, "healed")

        for daemon in daemons.values():
            daemon.process.terminate()
        lab.until(lambda: host.says("NO_OWNER", "confirmed"), 15, "nobody owns it")
        lab.keepalived("a", conf(150))
        lab.until(lambda: host.says("HEALTHY"), 15, "owned again")

        x.run("ip", "addr", "add", f"{VIP}/24", "dev", "eth0")
        lab.until(lambda: host.first() == ("FOREIGN_OWNER", "confirmed"), 10, "a stranger claims it")
        x.run("ip", "addr", "del", f"{VIP}/24", "dev", "eth0")
        lab.until(lambda: host.says("HEALTHY"), 15, "the stranger is gone")

        lab.cut("b")
        lab.until(lambda: (host.pair()["pair"]["verdict"], host.pair()["pair"]["stage"]) == ("PATH_DEGRADED", "confirmed"), 15, "b is gone")
        assert host.says("HEALTHY")
        assert [n["lives"] for n in host.pair()["nodes"]] == [True, False]
        pages = recorded_pages(host.home)
        triggers = [words for words, action in pages if action == "trigger"]
        for verdict in ("SPLIT_BRAIN", "NO_OWNER", "FOREIGN_OWNER", "PATH_DEGRADED"):
            assert any(verdict in words for words in triggers), (verdict, pages)
        assert sum(action == "resolve" for _, action in pages) >= 3


def recorded_pages(home: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(f"file:{home}/state/brain.db?mode=ro", uri=True) as record:
        return [(str(s), str(a)) for s, a in record.execute("select summary, action from alerts")]


def test_what_is_wrong_in_watch_toml_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "copy.conf").write_text(conf(150))
    good = (
        f'version = 1\nname = "observer"\n[[watch]]\ncluster = "web"\nconfig = "{tmp_path}/copy.conf"\n'
        '[watch.node.a]\naddresses = ["10.77.0.1"]\n[watch.node.b]\naddresses = ["10.77.0.2"]\nmacs = ["02:00:00:00:00:0b"]\n'
    )
    for before, after, line, words in (
        ("", "", 0, "valid"),
        ('cluster = "web"', 'clustr = "web"', 4, "did you mean"),
        ("copy.conf", "nothing.conf", 5, "nothing.conf"),
        ("10.77.0.2", "10.77.0.2/24", 9, "is not an IP address"),
        ("02:00:00:00:00:0b", "02-00", 10, "is no link-layer address"),
        ('[watch.node.b]\naddresses = ["10.77.0.2"]\nmacs = ["02:00:00:00:00:0b"]\n', "", 3, "a pair has two"),
        ("[[watch]]", "[watch]", 3, "[[watch]]"),
        ("[[watch]]", "[[", 3, "not TOML"),
    ):
        (tmp_path / "watch.toml").write_text(good.replace(before, after, 1) if before else good)
        argv = [sys.executable, "-m", "watchdog.daemon", "--watch-only", "--test", "--config", str(tmp_path / "watch.toml")]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False, env={**os.environ})
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said
        assert words in said, (after, said)
        assert done.returncode == (2 if line else 0)
        if line:
            assert f"watch.toml:{line}" in said, (after, said)
