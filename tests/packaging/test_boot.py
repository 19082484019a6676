"""The units that `brainctl init` writes, started by a real systemd: process 1 of namespaces of its own, with an /etc and a /run of its own.

README, "Five minutes to a watched pair", followed on one node.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from brainctl.stanza import instance_lines, track_file_blocks
from watchdog.config.model import GateSettings, GroupKey, Mode

SYSTEMD = "/lib/systemd/systemd"
BIN = Path(sys.executable).parent
OWN_STATE = ("/run", "/tmp", "/etc/systemd", "/etc/brainctl", "/etc/keepalived", "/etc/tmpfiles.d", "/var/lib")
MEMORY_FIRST = "".join(f"mkdir -p {path}; mount -t tmpfs tmpfs {path}\n" for path in OWN_STATE if not str(BIN).startswith(path + "/"))
BOOT = f"""
set -e
mount --make-rprivate /
{MEMORY_FIRST}
mkdir -p /etc/systemd/system/service.d
printf '[Service]\\nStandardOutput=append:/run/units.log\\nStandardError=append:/run/units.log\\n' >/etc/systemd/system/service.d/log.conf
printf '[Unit]\\nDescription=test\\n' >/etc/systemd/system/default.target
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
for nic in eth0 eth1; do ip link add $nic type veth peer name far-$nic; ip link set $nic up; ip link set far-$nic up; done
ip address add 10.77.0.1/24 dev eth0
ip address add 10.78.0.1/24 dev eth1
ip route add default via 10.77.0.254
export container=brainctl
exec {SYSTEMD} --system --unit=default.target --show-status=no
"""
KEEPALIVED = """
global_defs {
    router_id db1
}
vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    priority 150
    advert_int 1
    virtual_ipaddress {
        10.77.0.100/24
    }
}
"""


class Machine:
    """A booted systemd. ``pid``: its process 1, seen from here."""

    def __init__(self, log: Path) -> None:
        flags = ("-m", "-p", "-n", "-u", "-i", "-C", "--fork", "--kill-child", "--mount-proc")
        self.log = log
        with log.open("wb") as out:
            self._unshare = subprocess.Popen(["unshare", *flags, "/bin/sh", "-c", BOOT], stdout=out, stderr=out)
        self.wait("systemd runs", lambda: bool(self.children()))
        self.pid = int(self.children()[0])
        self.wait("systemd answers", lambda: "running" in self.say("systemctl", "is-system-running"))

    def children(self) -> list[str]:
        pid = self._unshare.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        inside = ["nsenter", "-t", str(self.pid), "-m", "-p", "-n", "-u", "-i", "-C", *argv]
        return subprocess.run(inside, capture_output=True, text=True, timeout=60, check=False)

    def say(self, *argv: str) -> str:
        return self.run(*argv).stdout.strip()

    def do(self, *argv: str) -> str:
        done = self.run(*argv)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}{self.journal()}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        Path(f"/proc/{self.pid}/root{path}").write_text(text)

    def show(self, unit: str, name: str) -> str:
        return self.say("systemctl", "show", "--value", "-p", name, unit)

    def journal(self) -> str:
        said = Path(f"/proc/{self.pid}/root/run/units.log")
        return self.log.read_text()[-1000:] + (said.read_text()[-3000:] if said.exists() else "")

    def wait(self, what: str, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{what}: waited in vain; {self.journal()}"
            time.sleep(0.1)

    def close(self) -> None:
        self._unshare.send_signal(signal.SIGKILL)  # --kill-child: process 1 goes too, and with it everything
        self._unshare.wait(10)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    assert shutil.which("nsenter") and Path(SYSTEMD).exists(), "apt-get install systemd util-linux"
    booted = Machine(tmp_path / "boot.log")
    yield booted
    booted.close()


@pytest.mark.system
@pytest.mark.timeout(120)
@pytest.mark.parametrize("daemon", ["keepalived", "vrrpd"])
def test_the_units_start_what_init_wrote(machine: Machine, daemon: str) -> None:
    machine.do("hostname", "db1")
    machine.write("/etc/keepalived/keepalived.conf", KEEPALIVED)
    options = ["--node", "db1", "--peer", "db2", "--heartbeat", "eth1=10.78.0.1,10.78.0.2", "--peer-address", "10.77.0.2"]
    machine.do(str(BIN / "brainctl"), "init", *options, "--daemon", daemon, "--reference", "10.77.0.254")
    vrrp = daemon
    if daemon == "keepalived":
        key = GroupKey(51, 4)
        machine.do("cp", "/etc/brainctl/tmpfiles.conf", "/etc/tmpfiles.d/brainctl.conf")
        machine.do("systemd-tmpfiles", "--create", "brainctl.conf")
        blocks, lines = track_file_blocks([key], Mode.OBSERVE, GateSettings()), instance_lines(key)
        machine.write("/etc/keepalived/keepalived.conf", blocks + KEEPALIVED.replace("    advert_int", f"{lines}\n    advert_int"))
        machine.do("keepalived", "-t")
        machine.do("systemctl", "start", "keepalived")
        machine.do("cp", "/etc/brainctl/braind.service", "/etc/systemd/system/")
        machine.do("systemctl", "daemon-reload")
        machine.do("systemctl", "enable", "--now", "braind")
    else:
        machine.do("cp", "/etc/brainctl/braind.service", "/etc/brainctl/vrrpd.service", "/etc/systemd/system/")
        machine.do("systemctl", "daemon-reload")
        machine.do("systemctl", "enable", "--now", "braind", "vrrpd")
    for unit in ("braind", vrrp):
        assert machine.say("systemctl", "is-active", unit) == "active", machine.journal()
    machine.wait("the address is there", lambda: "10.77.0.100" in machine.say("ip", "address", "show", "eth0"), 30.0)

    def status() -> dict[str, Any]:
        said = machine.say(str(BIN / "brainctl"), "status", "--json")
        found: dict[str, Any] = json.loads(said).get("status", {}) if said else {}
        return found

    machine.wait("braind sees it", lambda: status().get("surroundings", {}).get("daemon") == "running", 30.0)
    machine.do("systemctl", "reload", "braind")
    epoch = status().get("self", {}).get("epoch", 0)
    machine.wait("braind runs anew", lambda: status().get("self", {}).get("epoch", 0) > 1, 20.0)
    assert machine.say("systemctl", "is-active", "braind") == "active"
    assert epoch <= status()["self"]["epoch"]

    first = machine.show("braind", "MainPID")
    machine.do("kill", "-9", first)
    machine.wait("systemd starts it again", lambda: machine.show("braind", "MainPID") not in ("0", first))
    machine.wait("it is active again", lambda: machine.say("systemctl", "is-active", "braind") == "active")
    assert "10.77.0.100" in machine.say("ip", "address", "show", "eth0"), "whoever dies, VRRP goes on"

    assert {"keepalived.service", "vrrpd.service"} <= set(machine.show("braind", "Before").split())
    for unit in (vrrp, "braind"):
        machine.do("systemctl", "stop", unit)
        assert machine.show(unit, "Result") == "success", f"{unit}: {machine.journal()}"
        assert machine.show(unit, "TasksCurrent") in ("0", "[not set]"), "nothing is left of it"
    assert "10.77.0.100" not in machine.say("ip", "address", "show", "eth0")
