"""Two real brainds in two namespaces of the guest, and its kernel's softdog: the named one arms it, feeds it, starves it in a cut.

softdog says "reboot ignored" instead of resetting (soft_noboot), so that the other node's count can be watched after it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from base.control import ControlClient, RequestError
from bench.daemons import Program
from bench.lab import Lab
from bench.watcher import watcher

AFTER_MS, TIMEOUT_S = 6_000, 4
CONF = """vrrp_instance VI_1 {
 state BACKUP
 interface eth0
 virtual_router_id 51
 priority 100
 virtual_ipaddress {
  10.66.0.100/24
 }
}
"""
pytestmark = pytest.mark.timeout(230)


def status(directory: Path) -> dict[str, Any]:
    try:
        with ControlClient(str(directory / "run/braind.sock")) as client:
            document: dict[str, Any] = client.call("status")["status"]
            return document if document.get("started") else {}
    except (OSError, RequestError):
        return {}


def until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.2)
    return condition()


def softdog() -> str:
    before = set(os.listdir("/dev"))
    subprocess.run(["modprobe", "softdog", "soft_noboot=1", "nowayout=0"], check=True)
    new = sorted(name for name in set(os.listdir("/dev")) - before if name.startswith("watchdog") and name != "watchdog")
    return f"/dev/{new[0]}" if new else "/dev/watchdog"


def bites() -> int:
    text = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
    return sum("reboot ignored" in line.lower() or "initiating system reboot" in line.lower() for line in text.splitlines())


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Lab, dict[str, Path], dict[str, Program]]]:
    device = softdog()
    with Lab() as lab:
        homes = {role: tmp_path / role for role in "ab"}
        programs: dict[str, Program] = {}
        try:
            for role, home in homes.items():
                home.mkdir()
                (home / "keepalived.conf").write_text(CONF)
                programs[role] = watcher(lab, role, home, "keepalived", mode="strict")
                text = (home / "brain.toml").read_text()
                text += f'[self_fence]\nnode = "b"\ndevice = "{device}"\nafter_ms = {AFTER_MS}\ntimeout_s = {TIMEOUT_S}\n'
                (home / "brain.toml").write_text(text)
                programs[role].start()
            yield lab, homes, programs
        finally:
            for program in programs.values():
                program.kill()


@pytest.mark.parametrize("fault", ["cut", "hung"])
def test_the_named_node_starves_and_the_other_counts_it_only_afterwards(pair: tuple[Lab, dict[str, Path], dict[str, Program]], fault: str):
    lab, homes, programs = pair

    def fed() -> bool:
        return bool((status(homes["a"]).get("self_fence") or {}).get("armed"))

    assert until(fed, 120), json.dumps({role: status(home).get("self_fence") for role, home in homes.items()})
    armed_s = time.monotonic()
    time.sleep(2 * TIMEOUT_S)
    assert bites() == 0, "a healthy pair is fed"
    assert time.monotonic() - armed_s >= 2 * TIMEOUT_S
    cut_s = time.monotonic()
    if fault == "hung":
        assert programs["b"].process is not None
        os.kill(programs["b"].process.pid, signal.SIGSTOP)
    for interface in ("pa0", "pa1") if fault == "cut" else ():
        subprocess.run(["ip", "-n", lab.namespace("s"), "link", "set", interface, "down"], check=True)
    bitten_s = counted_s = 0.0
    while time.monotonic() - cut_s < 60 and not (bitten_s and counted_s):
        if not bitten_s and bites():
            bitten_s = time.monotonic() - cut_s
        if not counted_s and "reset itself" in status(homes["a"]).get("peer", {}).get("proved_off", ""):
            counted_s = time.monotonic() - cut_s
        time.sleep(0.1)
    assert bitten_s, "the machine of the named node was never reset"
    assert counted_s, "the other node never counted it"
    assert (AFTER_MS / 1000 - 1 if fault == "cut" else 0) <= bitten_s <= AFTER_MS / 1000 + TIMEOUT_S + 3
    assert bitten_s <= counted_s, "counted gone before it was"
