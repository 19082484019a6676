"""org.keepalived.Vrrp1 on a bus of our own: the interface is keepalived's, and so is what it says."""

from __future__ import annotations

import os
import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.lab import Daemon, Lab
from tests.vrrp.outside.outside_lab import INSTANCES, private_bus

pytestmark = [pytest.mark.system, pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")]

CONF = "global_defs {\n router_id orc\n enable_dbus\n}\n" + INSTANCES
ROOT = "/org/keepalived/Vrrp1"
VI_1 = f"{ROOT}/Instance/eth0/51/IPv4"
INTERFACE_FILES = Path("/usr/share/dbus-1/interfaces")


class Bus:
    """A client of the bus, by GLib's gdbus: it shares no code with ours."""

    def __init__(self, address: str) -> None:
        self.address = address

    def call(self, path: str, method: str, *words: str, check: bool = True) -> str:
        argv = ["gdbus", "call", "--address", self.address, "-d", "org.keepalived.Vrrp1", "-o", path, "-m", method, *words]
        return subprocess.run(argv, check=check, capture_output=True, text=True, timeout=20).stdout

    def state(self, path: str) -> str:
        return self.call(path, "org.freedesktop.DBus.Properties.Get", "org.keepalived.Vrrp1.Instance", "State", check=False)

    def tree(self) -> tuple[set[str], dict[str, set[str]]]:
        """Every path below ROOT, and the parts of each interface of keepalived's."""
        paths, queue, parts = set(), [ROOT], {}
        while queue:
            path = queue.pop()
            paths.add(path)
            text = self.call(path, "org.freedesktop.DBus.Introspectable.Introspect")
            xml = re.search(r"<node.*</node>|<node\s*/>", text.replace("\\n", "\n"), re.DOTALL)
            assert xml is not None
            node = ET.fromstring(xml.group(0))
            queue += [f"{path}/{child.get('name')}" for child in node.findall("node")]
            for interface in node.findall("interface"):
                if str(interface.get("name")).startswith("org.keepalived"):
                    parts[str(interface.get("name"))] = members(interface)
        return paths, parts

    def monitor(self, lab: Lab) -> Path:
        """Signals as lines, from now on."""
        home = lab.home("m")
        lab.start("a", ["gdbus", "monitor", "--address", self.address, "-d", "org.keepalived.Vrrp1"], home)
        lab.until(lambda: "The name" in (home / "log").read_text())
        return home / "log"


def members(interface: ET.Element) -> set[str]:
    """Methods, signals and properties with their types and access."""
    found = set()
    for member in interface:
        if member.tag in ("method", "signal", "property"):
            arguments = ",".join(str(argument.get("type")) for argument in member.findall("arg"))
            found.add(f"{member.tag} {member.get('name')}({arguments}) {member.get('type', '')} {member.get('access', '')}")
    return found


def start(lab: Lab, node: str, address: str, *, ours: bool) -> Daemon:
    home = lab.home(node)
    (home / "conf").write_text(CONF)
    bus = f"DBUS_SYSTEM_BUS_ADDRESS={address}"
    if not ours:
        return lab.start(
            node, ["env", bus, "keepalived", "-P", "-n", "-l", "-f", f"{home}/conf", "-p", f"{home}/pid", "-r", f"{home}/v"], home
        )
    os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = address
    try:
        return lab.vrrpd(node, CONF, home=home)
    finally:
        del os.environ["DBUS_SYSTEM_BUS_ADDRESS"]


def signals(log: Path) -> list[str]:
    found = re.findall(r"^(/\S+: \S+ \(.*\))$", log.read_text(), re.MULTILINE)
    return [line for line in found if "PropertiesChanged" not in line]


@pytest.mark.shows("global_defs/enable_dbus")
def test_objects_interfaces_and_signals_are_those_of_keepalived() -> None:
    seen = []
    with Lab("a", "b") as lab:
        for node, ours in (("b", False), ("a", True)):
            with private_bus(lab.home(node)) as address:
                bus = Bus(address)
                daemon = start(lab, node, address, ours=ours)
                lab.until(lambda bus=bus: "Master" in bus.state(VI_1), 30, what="MASTER on the bus")
                tree = bus.tree()
                log = bus.monitor(lab)
                lab.cut(node)
                lab.until(lambda log=log: len(signals(log)) >= 2, what="FAULT signals")
                assert daemon.stop() == 0
                lab.until(lambda log=log: "VrrpStopped" in log.read_text(), what="VrrpStopped")
                seen.append((tree, sorted(signals(log))))
                lab.heal(node)
    (their_tree, their_signals), (our_tree, our_signals) = seen
    assert our_tree == their_tree
    assert our_signals == their_signals
    for name in ("Vrrp", "Instance"):
        xml = re.sub(r"<!--.*?-->|<!DOCTYPE.*?>", "", (INTERFACE_FILES / f"org.keepalived.Vrrp1.{name}.xml").read_text(), flags=re.DOTALL)
        interface = ET.fromstring(xml).find("interface")
        assert interface is not None
        assert our_tree[1][f"org.keepalived.Vrrp1.{name}"] == members(interface)


def test_methods_act_and_the_bus_may_come_back(tmp_path: Path) -> None:
    with Lab("a") as lab:
        home = lab.home("a")
        os.environ["TMPDIR"] = str(tmp_path)
        try:
            with private_bus(home) as address:
                bus = Bus(address)
                daemon = start(lab, "a", address, ours=True)
                lab.until(lambda: "Master" in bus.state(VI_1), 30)
                assert bus.call(VI_1, "org.freedesktop.DBus.Properties.Get", "org.keepalived.Vrrp1.Instance", "Name") == "(<'VI_1'>,)\n"
                assert bus.state(VI_1) == "(<(uint32 2, 'Master')>,)\n"
                capture = lab.capture()
                bus.call(VI_1, "org.keepalived.Vrrp1.Instance.SendGarp")
                lab.until(
                    lambda: any(
                        data[12:14] == b"\x08\x06" and data[28:32] == bytes((10, 77, 0, 100))
                        for _, data in [*capture.frames, *capture.read()]
                    )
                )
                bus.call(f"{ROOT}/Vrrp", "org.keepalived.Vrrp1.Vrrp.PrintData")
                bus.call(f"{ROOT}/Vrrp", "org.keepalived.Vrrp1.Vrrp.PrintStats")
                lab.until(lambda: (tmp_path / "keepalived.data").exists() and (tmp_path / "keepalived.stats").exists(), what="dumps")
                log = bus.monitor(lab)
                conf = daemon.directory / "conf"
                conf.write_text(conf.read_text().replace("virtual_router_id 52", "virtual_router_id 53"))
                bus.call(f"{ROOT}/Vrrp", "org.keepalived.Vrrp1.Vrrp.ReloadConfig")
                lab.until(lambda: "VrrpReloaded" in log.read_text(), what="VrrpReloaded")
                lab.until(lambda: "Master" in bus.state(f"{ROOT}/Instance/eth0/53/IPv4"), what="the new object")
                assert bus.state(f"{ROOT}/Instance/eth0/52/IPv4") == ""
                assert "Master" in bus.state(VI_1)
            with private_bus(home):
                lab.until(lambda: "Master" in bus.state(VI_1), 30, what="back on a bus that was started again")
        finally:
            del os.environ["TMPDIR"]
