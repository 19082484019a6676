"""The native SNMP devices: power strips of net-snmp's agent with a real table behind it (v1, v2c, v3), and a real switch port by veth."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from base.clock import now_ns
from base.core import NS_PER_MS
from fencing.devices.build import build_device
from fencing.devices.device import DeviceConfigError, DeviceResult
from fencing.devices.parameters import validate_device
from fencing.devices.snmp import OUTLETS
from fencing.plan.events import DeviceOutcome, PowerState
from fencing.plan.settings import FenceDevice
from tests.fencing.conftest import free_port, stop, wait_for

Secret = Callable[[str, str], str]
AUTH, PRIVACY = "authpassphrase", "privpassphrase"

STRIP = """#!/usr/bin/env python3
# net-snmp "pass" protocol (snmpd.conf(5)): one outlet table in files, one file per variable; "lies" makes a write be accepted and ignored.
import os, sys
root = {root!r}
mode, oid = sys.argv[1], sys.argv[2].lstrip(".")
path = os.path.join(root, oid)
if mode == "-s":
    control, status, meaning = open(os.path.join(root, "map")).read().split()
    if not os.path.exists(path):
        print("not-writable")
    elif not os.path.exists(os.path.join(root, "lies")):
        value = sys.argv[4]
        wanted = dict(pair.split("=") for pair in meaning.split(","))
        open(path, "w").write("integer " + value)
        which = wanted.get(oid.rsplit(".", 1)[0] + ":" + value)
        if which:
            open(os.path.join(root, status + "." + oid.rsplit(".", 1)[1]), "w").write("integer " + which)
    sys.exit(0)
if mode == "-n":
    def key(name):
        return [int(p) for p in name.split(".")]
    later = sorted((n for n in os.listdir(root) if n[0].isdigit() and key(n) > key(oid)), key=key)
    if not later:
        sys.exit(0)
    oid, path = later[0], os.path.join(root, later[0])
if os.path.exists(path):
    kind, value = open(path).read().split(" ", 1)
    print("." + oid); print(kind); print(value)
"""


@dataclass
class Strip:
    """A power strip with outlet 4 of the node and no outlet 9."""

    port: int
    make: str
    root: Path
    process: subprocess.Popen[bytes]

    def device(self, secret_file: Secret, version: str = "3", **changes: str) -> FenceDevice:
        parameters = {"host": "127.0.0.1", "port": str(self.port), "make": self.make, "outlet": "4", "version": version}
        if version == "3":
            parameters |= {
                "user": "fencer",
                "auth_password_secret": secret_file(AUTH, "a"),
                "privacy_password_secret": secret_file(PRIVACY, "p"),
            }
        else:
            parameters["community_secret"] = secret_file("c0mmunity", "c")
        return FenceDevice("pdu-b", "snmp_pdu", "b", tuple((k, v) for k, v in {**parameters, **changes}.items() if v))

    @property
    def on(self) -> bool:
        table = OUTLETS[self.make]
        return (self.root / f"{table.status}.4").read_text() == f"integer {table.reads_on}"


@pytest.fixture
def strip(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Strip]:
    make = getattr(request, "param", "apc")
    table = OUTLETS[make]
    root = tmp_path / "mib"
    root.mkdir()
    on_oid = "1.3.6.1.4.1.534.6.6.7.6.6.1.4.0" if make == "eaton" else table.control
    meaning = f"{table.control}:{table.off_value}={table.reads_off},{on_oid}:{table.on_value}={table.reads_on}"
    (root / "map").write_text(f"{table.control} {table.status} {meaning}")
    (root / f"{table.status}.4").write_text(f"integer {table.reads_on}")
    for oid in {table.control, on_oid} - {table.status}:
        (root / f"{oid}.4").write_text("integer 99")
    (root / table.serial).write_text("string SN-77")
    script = tmp_path / "strip.py"
    script.write_text(STRIP.format(root=str(root)))
    script.chmod(0o755)
    port = free_port(socket.SOCK_DGRAM)
    base = ".".join(table.control.split(".")[:7])
    config = tmp_path / "snmpd.conf"
    config.write_text(
        f"agentaddress udp:127.0.0.1:{port}\nrwcommunity c0mmunity 127.0.0.1\npersistentDir {tmp_path}/persist\n"
        f"createUser fencer SHA {AUTH} AES {PRIVACY}\nrwuser fencer priv\npass .{base} {sys.executable} {script}\n"
    )
    argv = ["snmpd", "-f", "-C", "-c", str(config), "-p", str(tmp_path / "pid"), "-Lo"]
    env = {**os.environ, "MIBS": "", "SNMP_PERSISTENT_DIR": str(tmp_path / "persist")}
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    try:
        probe = ["snmpget", "-v2c", "-c", "c0mmunity", f"127.0.0.1:{port}", f".{table.status}.4"]
        assert wait_for(lambda: b"INTEGER" in subprocess.run(probe, capture_output=True, check=False, env=env).stdout)
        yield Strip(port, make, root, process)
    finally:
        stop(process)


def perform(settings: FenceDevice, action: str, ms: int = 10_000) -> DeviceResult:
    assert validate_device(settings) == []
    return build_device(settings).perform(action, now_ns() + ms * NS_PER_MS)


@pytest.mark.parametrize("strip", sorted(OUTLETS), indirect=True)
def test_every_make_reads_acts_and_tells_whose_outlet_it_is(strip: Strip, secret_file: Secret):
    settings = strip.device(secret_file)
    before = perform(settings, "status")
    assert (before.outcome, before.power, before.identity) == (DeviceOutcome.SUCCESS, PowerState.ON, "serial SN-77 outlet 4")
    assert perform(settings, "off").outcome is DeviceOutcome.SUCCESS
    assert not strip.on
    assert perform(settings, "status").power is PowerState.OFF
    assert perform(settings, "on").outcome is DeviceOutcome.SUCCESS
    assert strip.on


@pytest.mark.parametrize("version", ["1", "2c", "3"])
def test_an_outlet_that_does_not_exist_is_unknown_in_every_version(strip: Strip, secret_file: Secret, version: str):
    """The fence agents say "Already OFF" here, over v2c and v3."""
    settings = strip.device(secret_file, version, outlet="9")
    for action in ("status", "off"):
        result = perform(settings, action)
        assert (result.outcome, result.power) == (DeviceOutcome.UNKNOWN_TARGET, PowerState.UNKNOWN), action
    assert strip.on


def test_login_and_way_are_told_apart(strip: Strip, secret_file: Secret):
    assert perform(strip.device(secret_file, user="nobody"), "off").outcome is DeviceOutcome.DENIED
    wrong = strip.device(secret_file, auth_password_secret=secret_file("wrong-passphrase", "w"))
    assert perform(wrong, "off").outcome is DeviceOutcome.DENIED
    started = time.monotonic()
    assert perform(strip.device(secret_file, port=str(free_port(socket.SOCK_DGRAM))), "off", 20_000).outcome is DeviceOutcome.UNREACHABLE
    assert time.monotonic() - started < 8
    assert strip.on


def test_a_strip_that_lies_reads_on(strip: Strip, secret_file: Secret):
    (strip.root / "lies").write_text("")
    settings = strip.device(secret_file)
    started = time.monotonic()
    assert perform(settings, "off").outcome is DeviceOutcome.SUCCESS
    assert perform(settings, "status").power is PowerState.ON
    assert time.monotonic() - started < 5


def test_a_frozen_strip_ends_at_the_deadline(strip: Strip, secret_file: Secret):
    settings = strip.device(secret_file)
    device = build_device(settings)
    os.kill(strip.process.pid, 19)
    started = time.monotonic()
    assert device.perform("status", now_ns() + 1_200 * NS_PER_MS).outcome is DeviceOutcome.UNREACHABLE
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    "changes",
    [{"make": "acme"}, {"outlet": "x"}, {"version": "4"}, {"auth": "ROT13"}, {"user": ""}, {"host": "no.such.host.invalid"}],
)
def test_what_cannot_be_armed_is_refused(strip: Strip, secret_file: Secret, changes: dict[str, str]):
    with pytest.raises(DeviceConfigError):
        build_device(strip.device(secret_file, **changes))


# --- a switch port ---

_IN_NAMESPACE = """
import json, sys
from base.clock import now_ns
from fencing.devices.build import build_device
from fencing.plan.settings import FenceDevice
parameters = json.loads(sys.argv[1])
device = build_device(FenceDevice("port", "snmp_port", "b", tuple(parameters.items())))
r = device.perform(sys.argv[2], now_ns() + 10_000_000_000)
print(json.dumps([r.outcome.value, r.power.value, r.identity, r.detail]))
"""


@pytest.mark.system
def test_a_real_switch_port_with_the_nodes_address_behind_it(tmp_path: Path, secret_file: Secret):
    """A bridge in a namespace: the port is taken down for real; its identity is the node's address in the forwarding table."""
    name = f"fnp{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for command in (
            "link set lo up",
            "link add br0 type bridge",
            "link set br0 up",
            "link add portA type veth peer name nodeA",
            "link set portA master br0",
            "link set portA up",
            "link set nodeA up",
        ):
            subprocess.run(["ip", "-n", name, *command.split()], check=True)
        config = tmp_path / "snmpd.conf"
        config.write_text("agentaddress udp:127.0.0.1:10161\nrwcommunity c0mmunity 127.0.0.1\n")
        argv = ["ip", "netns", "exec", name, "env", "MIBS=", "snmpd", "-f", "-C", "-c", str(config), "-p", str(tmp_path / "pid"), "-Lo"]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            parameters = {
                "host": "127.0.0.1",
                "port": "10161",
                "version": "2c",
                "community_secret": secret_file("c0mmunity", "c"),
                "switch_port": "portA",
            }

            def ask(action: str, **changes: str) -> list[str]:
                done = subprocess.run(
                    ["ip", "netns", "exec", name, sys.executable, "-c", _IN_NAMESPACE, json.dumps({**parameters, **changes}), action],
                    cwd=Path(__file__).resolve().parents[2],
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=60,
                )
                assert done.returncode == 0, done.stderr
                answer: list[str] = json.loads(done.stdout)
                return answer

            assert wait_for(lambda: ask("status")[0] == "success")
            assert ask("status")[1:3] == ["on", "port portA"]
            assert ask("status", switch_port="portZ")[0] == "unknown_target"
            assert ask("off", switch_port="portZ")[0] == "unknown_target"
            assert ask("status", mac="02:00:00:00:00:99")[2] == "", "a node that is not behind the port is no identity"
            assert ask("off")[0] == "success"
            link = subprocess.run(["ip", "-n", name, "-j", "link", "show", "portA"], capture_output=True, text=True, check=True).stdout
            assert "UP" not in json.loads(link)[0]["flags"]
            assert ask("status")[1] == "off"
            assert ask("on")[0] == "success"
        finally:
            stop(process)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
