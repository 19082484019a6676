"""A real switch port: net-snmp and veth pairs in a namespace of our own, fenced by fence_ifmib.

Over SNMP v2c this agent reports "OFF" for an outlet number that does not exist (fencing reference section 0): the lie we must not believe.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from base.clock import now_ns
from base.core import NS_PER_MS
from fencing.check import check_device
from fencing.check_report import Grade
from fencing.devices.agent import AgentDevice
from fencing.plan.events import DeviceOutcome, PowerState
from fencing.plan.settings import FenceDevice
from tests.fencing.conftest import stop, wait_for

pytestmark = pytest.mark.system


@dataclass
class Switch:
    """A namespace with two linked ports and an SNMP agent that really switches them."""

    namespace: str
    agent: str

    def device(self, plug: str, version: str, **parameters: str) -> FenceDevice:
        given = {
            "agent": self.agent,
            "ip": "127.0.0.1",
            "ipport": "10161",
            "community": "private",
            "snmp_version": version,
            "plug": plug,
            **parameters,
        }
        return FenceDevice("port", "agent", "b", tuple(given.items()), 30_000)

    def link_is_up(self, name: str) -> bool:
        text = subprocess.run(["ip", "-n", self.namespace, "link", "show", name], capture_output=True, text=True, check=True).stdout
        return "state UP" in text


@pytest.fixture
def switch(tmp_path: Path, executable: Callable[[str, str], str]) -> Iterator[Switch]:
    name = f"fsw{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for command in ("link set lo up", "link add portA type veth peer name portB", "link set portA up", "link set portB up"):
            subprocess.run(["ip", "-n", name, *command.split()], check=True)
        config = tmp_path / "snmpd.conf"
        config.write_text("agentaddress udp:127.0.0.1:10161\nrwcommunity private 127.0.0.1\n")
        argv = ["ip", "netns", "exec", name, "env", "MIBS=", "snmpd", "-f", "-C", "-c", str(config), "-p", str(tmp_path / "pid"), "-Lo"]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            agent = executable(f"#!/bin/sh\nexec ip netns exec {name} fence_ifmib\n", "fence_ifmib_in_netns")
            built = Switch(name, agent)
            probe = ["ip", "netns", "exec", name, "snmpget", "-v2c", "-c", "private", "127.0.0.1:10161", ".1.3.6.1.2.1.1.1.0"]
            assert wait_for(lambda: subprocess.run(probe, capture_output=True, check=False).returncode == 0)
            yield built
        finally:
            stop(process)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def perform(device: FenceDevice, action: str):
    return AgentDevice(device).perform(action, now_ns() + 30_000 * NS_PER_MS)


def test_a_port_that_does_not_exist_is_unknown_and_a_real_one_really_goes_down(switch: Switch):
    for version in ("1", "2c"):
        bogus = perform(switch.device("99", version), "status")
        assert (bogus.outcome, bogus.power) == (DeviceOutcome.UNKNOWN_TARGET, PowerState.UNKNOWN), version
    before = perform(switch.device("portA", "2c"), "status")
    assert (before.outcome, before.power, before.identity) == (DeviceOutcome.SUCCESS, PowerState.ON, "portA, at 127.0.0.1")
    assert perform(switch.device("portA", "2c"), "off").outcome is DeviceOutcome.SUCCESS
    assert not switch.link_is_up("portB")
    assert perform(switch.device("portA", "2c"), "status").power is PowerState.OFF
    assert perform(switch.device("portA", "2c"), "on").outcome is DeviceOutcome.SUCCESS
    assert wait_for(lambda: switch.link_is_up("portB"))


def test_the_lie_itself_is_caught_by_the_check_when_the_outlet_list_is_not_used(switch: Switch):
    believing = check_device(switch.device("portA", "2c", identity_from="none"))
    assert {f.code for f in believing.findings if f.grade is Grade.ERROR} == {"bogus-outlet"}
    careful = check_device(switch.device("portA", "2c"))
    assert careful.passed
    assert {"community", "snmp-clear", "not-enrolled"} <= {f.code for f in careful.findings if f.grade is Grade.WARNING}
