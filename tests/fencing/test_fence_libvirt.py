"""libvirt's own test driver behind a real libvirtd, by virsh; and Wake-on-LAN heard on a veth."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from base.clock import now_ns
from base.core import NS_PER_MS
from fencing.devices.build import build_device
from fencing.devices.device import DeviceConfigError, DeviceResult
from fencing.devices.parameters import validate_device
from fencing.plan.events import DeviceOutcome, PowerState
from fencing.plan.settings import FenceDevice
from tests.fencing.conftest import stop, wait_for


@pytest.fixture
def hypervisor(tmp_path: Path) -> Iterator[str]:
    """URI of a libvirtd of our own; its test driver keeps its machines from one connection to the next."""
    sockets = tmp_path / "s"
    sockets.mkdir()
    config = tmp_path / "libvirtd.conf"
    config.write_text(f'unix_sock_dir = "{sockets}"\nauth_unix_rw = "none"\nlisten_tls = 0\nlog_outputs = "4:stderr"\n')
    (tmp_path / "no-drivers").mkdir()
    # Only the test driver, which is part of the library: none that would look at this machine.
    env = {
        **os.environ,
        "LIBVIRT_DRIVER_DIR": str(tmp_path / "no-drivers"),
        "XDG_RUNTIME_DIR": str(tmp_path),
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    argv = ["libvirtd", "-f", str(config), "-p", str(tmp_path / "pid")]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
    uri = f"test+unix:///default?socket={sockets}/libvirt-sock"
    try:
        keeper = None
        assert wait_for(lambda: virsh(uri, "list", "--all").returncode == 0, 30), (tmp_path / "log").read_text() + virsh(uri, "list").stderr
        # The driver's world lives as long as somebody is connected.
        keeper = subprocess.Popen(
            ["virsh", "-q", "-c", uri, "event", "--loop", "--all"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        yield uri
    finally:
        if keeper is not None:
            stop(keeper)
        stop(process)


def virsh(uri: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["virsh", "-q", "-c", uri, *words], capture_output=True, text=True, check=False, timeout=20)


def perform(settings: FenceDevice, action: str) -> DeviceResult:
    assert validate_device(settings) == []
    return build_device(settings).perform(action, now_ns() + 15_000 * NS_PER_MS)


def machine(uri: str, domain: str) -> FenceDevice:
    return FenceDevice("vm-b", "libvirt", "b", (("uri", uri), ("domain", domain)))


def test_a_machine_is_destroyed_read_and_started(hypervisor: str):
    domain = virsh(hypervisor, "domuuid", "test").stdout.strip()
    settings = machine(hypervisor, domain)
    before = perform(settings, "status")
    assert (before.outcome, before.power, before.identity) == (DeviceOutcome.SUCCESS, PowerState.ON, f"domain {domain}")
    assert perform(settings, "off").outcome is DeviceOutcome.SUCCESS
    assert perform(settings, "status").power is PowerState.OFF
    assert perform(settings, "off").outcome is DeviceOutcome.SUCCESS, "it is off already"
    assert perform(settings, "on").outcome is DeviceOutcome.SUCCESS
    assert virsh(hypervisor, "domstate", domain).stdout.strip() == "running"


def test_machine_and_way_are_told_apart(hypervisor: str):
    unknown = "00000000-0000-4000-8000-000000000000"
    assert perform(machine(hypervisor, unknown), "off").outcome is DeviceOutcome.UNKNOWN_TARGET
    away = hypervisor.replace("libvirt-sock", "no-socket")
    assert perform(machine(away, unknown), "off").outcome is DeviceOutcome.UNREACHABLE


@pytest.mark.parametrize("parameters", [(("uri", "test:///default"), ("domain", "test")), (("uri", ""), ("domain", "x"))])
def test_a_machine_is_named_by_uuid(parameters: tuple[tuple[str, str], ...]):
    with pytest.raises(DeviceConfigError):
        build_device(FenceDevice("vm", "libvirt", "b", parameters))


_WAKE = """
import sys
from base.clock import now_ns
from fencing.devices.build import build_device
from fencing.plan.settings import FenceDevice
device = build_device(FenceDevice("wol", "wake_on_lan", "b", (("mac", "52-54-00-12-34-56"), ("interface", "wakeA"))))
print(*(device.perform(action, now_ns() + 5_000_000_000).outcome.value for action in ("off", "status", "on")))
"""


@pytest.mark.system
def test_wake_on_lan_sends_the_magic_packet_and_refuses_everything_else(tmp_path: Path):
    name = f"fwol{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for command in (
            "link add wakeA type veth peer name wakeB",
            "addr add 192.0.2.1/24 dev wakeA",
            "link set wakeA up",
            "link set wakeB up",
        ):
            subprocess.run(["ip", "-n", name, *command.split()], check=True)
        capture = tmp_path / "wake.pcap"
        inside = ["ip", "netns", "exec", name]
        tcpdump = subprocess.Popen(
            [*inside, "tcpdump", "-i", "wakeB", "-U", "-w", str(capture), "udp port 9"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            assert tcpdump.stderr is not None
            assert wait_for(capture.exists)
            done = subprocess.run(
                [*inside, sys.executable, "-c", _WAKE], cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True, check=False
            )
            assert done.stdout.split() == ["refused", "refused", "success"], done.stderr
            magic = b"\xff" * 6 + bytes.fromhex("525400123456") * 16
            assert wait_for(lambda: magic in capture.read_bytes())
        finally:
            stop(tcpdump)
            tcpdump.stderr.close()
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def test_a_card_without_interface_or_with_a_wrong_address_is_refused():
    for parameters in ((("mac", "52:54:00:12:34"), ("interface", "x")), (("mac", "52:54:00:12:34:56"), ("interface", ""))):
        with pytest.raises(DeviceConfigError):
            build_device(FenceDevice("wol", "wake_on_lan", "b", parameters))
