"""fence_brainctl at a real control socket with a scripted braind, driven by hand and by Pacemaker's own fencer."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from base.channel import JsonObject
from base.control import Client, ControlServer, RequestError
from base.pump import Pump

AGENT = [sys.executable, "-c", "from brainctl.launcher import fence_brainctl; raise SystemExit(fence_brainctl())"]
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Braind:
    """Answers ``status`` and ``operate``; the fence runs for ``steps`` askings and ends as ``ends``."""

    run_dir: Path
    ends: str = "proved"
    steps: int = 2
    heard: bool = True
    armed: bool = True
    refuses: str = ""
    proved_off: bool = False
    orders: list[str] = field(default_factory=list)
    left: int = 0

    def document(self) -> JsonObject:
        running = None
        if self.left > 0:
            running = {"order_id": "F-1", "level": 1, "phase": "acting", "state": "requested", "detail": ""}
        last = {"order_id": "F-1", "state": self.ends, "level": 1, "detail": "as told"} if self.orders and self.left <= 0 else None
        fence: Any = {"levels": [{"name": "bmc"}], "running": running, "last": last, "peer_proved_off": "F-1" if self.proved_off else ""}
        peer = {"name": "nodeB", "heard_on": ["eth1"] if self.heard else []}
        return {"started": True, "peer": peer, "fence": fence, "runner_up": self.armed, "recorder_up": True}

    def status(self, _client: Client, _request: JsonObject) -> JsonObject:
        self.left -= 1
        return {"status": self.document()}

    def operate(self, _client: Client, request: JsonObject) -> JsonObject:
        if self.refuses:
            raise RequestError("refused", "fence_off", self.refuses)
        assert request["subject"] == "nodeB"
        self.orders.append(request["action"])
        self.left = self.steps
        return {"order_id": "F-1", "status": self.document()}

    def run(self, action: str, *, plug: str = "nodeB", stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        text = f"action={action}\nplug={plug}\nrun_dir={self.run_dir}\n" if stdin is None else stdin
        return subprocess.run(AGENT, input=text, capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)


@pytest.fixture
def braind(tmp_path: Path) -> Iterator[Braind]:
    state = Braind(tmp_path)
    pump = Pump(next_deadline=lambda: None, on_deadline=lambda _now: None)
    server = ControlServer(pump, str(tmp_path / "braind.sock"), {"status": (state.status, False), "operate": (state.operate, True)})
    thread = threading.Thread(target=pump.run)
    thread.start()
    try:
        yield state
    finally:
        pump.call_soon(pump.stop)
        thread.join(20)
        server.close()


def test_metadata_is_what_pacemaker_reads_and_needs_no_daemon():
    done = subprocess.run([*AGENT, "-o", "metadata"], capture_output=True, text=True, cwd=ROOT, check=True)
    root = ET.fromstring(done.stdout)
    assert {"off", "on", "reboot", "monitor", "list", "status", "metadata", "validate-all"} <= {a.get("name") for a in root.iter("action")}
    assert {"action", "plug", "run_dir"} <= {p.get("name") for p in root.iter("parameter")}


@pytest.mark.parametrize(("ends", "code"), [("proved", 0), ("claimed", 1), ("refuted", 1), ("unknown", 1), ("not_done", 1)])
def test_off_is_done_only_when_it_is_proved(braind: Braind, ends: str, code: int):
    braind.ends = ends
    done = braind.run("off")
    assert done.returncode == code, done.stderr
    assert braind.orders == ["fence_off"]
    assert ends in done.stdout + done.stderr


def test_status_tells_on_off_and_that_nobody_knows(braind: Braind):
    assert braind.run("status").returncode == 0
    braind.heard = False
    assert braind.run("status").returncode == 1
    braind.proved_off = True
    assert braind.run("status").returncode == 2
    assert braind.run("off").returncode == 0
    assert braind.orders == [], "a node that is proved off is not fenced again"


@pytest.mark.parametrize(
    "stdin", ["", "\n", "plug=nodeB\n", "action=\nplug=nodeB\n", "action=dance\nplug=nodeB\n", "# action=off\nplug=nodeB\n"]
)
def test_without_an_action_nothing_is_done(braind: Braind, stdin: str):
    done = braind.run("", stdin=stdin + f"run_dir={braind.run_dir}\n" if stdin else "")
    assert done.returncode == 1
    assert braind.orders == []


def test_only_the_peer_can_be_fenced(braind: Braind):
    for plug in ("nodeA", "", "nodeBB"):
        assert braind.run("off", plug=plug).returncode == 1
    assert braind.orders == []


def test_what_braind_refuses_and_a_braind_that_is_not_there(braind: Braind, tmp_path: Path):
    braind.refuses = "the fence runner is not armed"
    done = braind.run("off")
    assert done.returncode == 1
    assert "not armed" in done.stderr
    gone = braind.run("off", stdin=f"action=off\nplug=nodeB\nrun_dir={tmp_path}/nowhere\n")
    assert gone.returncode == 1
    assert "Traceback" not in gone.stderr


def test_monitor_fails_when_an_order_could_not_be_carried_out(braind: Braind):
    assert braind.run("monitor").returncode == 0
    braind.armed = False
    assert braind.run("monitor").returncode == 1


@pytest.fixture
def fencer(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Pacemaker's fencer without a cluster, and the agent where it looks for agents, under a name of this test's own."""
    name = f"fence_brainctl_test{os.getpid()}"
    link = Path("/usr/sbin") / name
    code = "from brainctl.launcher import fence_brainctl as f; raise SystemExit(f())"
    link.write_text(f"#!/bin/sh\ncd {ROOT} && exec {sys.executable} -c '{code}' \"$@\"\n")
    link.chmod(0o755)
    inside = ["unshare", "--mount", "--ipc", "--fork", "--kill-child", "--pid", "--mount-proc", "--net", "sh", "-c"]
    script = "ip link set lo up; mount -t tmpfs none /dev/shm; mkdir -p /run/crm; exec /usr/lib/pacemaker/pacemaker-fenced -s -V"
    with open(tmp_path / "fencer.log", "wb") as log:
        process = subprocess.Popen([*inside, script], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield {"agent": name, "pid": str(process.pid)}
    finally:
        process.kill()
        process.wait()
        link.unlink()


def admin(fencer: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """stonith_admin in the fencer's namespaces (its IPC is abstract sockets and shared memory)."""
    children = Path(f"/proc/{fencer['pid']}/task/{fencer['pid']}/children").read_text().split()
    enter = ["nsenter", "-t", children[0], "-m", "-i", "-p", "-n", "--"] if children else ["false"]
    return subprocess.run([*enter, "stonith_admin", *words], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.system
def test_pacemakers_fencer_drives_it(braind: Braind, fencer: dict[str, str]):
    """Register, query, off that is proved, off that is only claimed, and one that does not end in time."""
    from tests.fencing.conftest import wait_for

    options = (f"run_dir={braind.run_dir}", "pcmk_host_list=nodeB", "pcmk_off_timeout=8s", "pcmk_host_argument=plug")
    register = ["-R", "pair", "-a", fencer["agent"], *(word for option in options for word in ("-o", option))]
    assert wait_for(lambda: admin(fencer, *register).returncode == 0, 30), admin(fencer, *register).stderr
    assert admin(fencer, "-Q", "pair").returncode == 0, "monitor"
    assert "pair" in admin(fencer, "-l", "nodeB").stdout
    off = admin(fencer, "-F", "nodeB", "-t", "20")
    assert off.returncode == 0, off.stderr
    assert braind.orders == ["fence_off"]
    braind.ends = "claimed"
    assert admin(fencer, "-F", "nodeB", "-t", "20").returncode != 0, "the fencer must not believe a claim"
    braind.ends, braind.steps = "proved", 10_000
    assert admin(fencer, "-F", "nodeB", "-t", "5").returncode != 0, "an off that does not end in time"
