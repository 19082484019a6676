"""Kinds of interfaces that this machine's kernel lacks, ipvlan and VRF, on the lab's kernel (tests/guest.py) beside keepalived 2.2.7."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from tests.lab import Daemon, Lab, ip
from tests.vrrp.interop.test_vmac import adverts, held, links
from tests.vrrp.interop.test_without_an_interface import text
from tests.vrrp.interop.vrrp_conf import VIP, conf, priority_of
from tests.vrrp.interop.vrrpd_status import is_in

OWN = "10.77.0.9"


@pytest.fixture(scope="module", autouse=True)
def modules() -> None:
    for name in ("ipvlan", "vrf"):
        subprocess.run(["modprobe", name], check=True, timeout=60)


def with_an_ipvlan(start: Callable[[Lab, str, str], Daemon]) -> dict[str, object]:
    """What a daemon makes of ``use_ipvlan``: the link, the places of the addresses, the source of its adverts."""
    with Lab("a") as lab:
        node, capture = lab.nodes["a"], lab.capture()
        daemon = start(lab, "a", conf(150, instance_extra=f"use_ipvlan ipv0 {OWN}/24 private"))
        lab.until(lambda: any(f"{VIP}/24" in addresses for addresses in held(node).values()))
        capture.read()
        lab.until(lambda: capture.read() and adverts(capture.frames, node.port))
        link = links(node)["ipv0"]
        found = {
            "link": (link["linkinfo"], link["operstate"]),
            "addresses": {name: sorted(a for a in addresses if "." in a) for name, addresses in held(node).items()},
            "adverts from": {str(ip_address(frame[26:30])) for frame in adverts(capture.frames, node.port)},
        }
        assert daemon.stop() == 0
        assert "ipv0" not in links(node)
        return found


@pytest.mark.shows("vrrp_instance/use_ipvlan")
def test_an_ipvlan_is_keepalived_s() -> None:
    ours = with_an_ipvlan(Lab.vrrpd)
    assert ours == with_an_ipvlan(Lab.keepalived)
    assert ours["adverts from"] == {OWN}


@pytest.mark.shows("vrrp_instance/vrf")
def test_a_router_in_a_vrf() -> None:
    """No interface in the file: adverts go out and come in by the tables of a VRF alone; the main table leads nowhere."""
    with Lab("a", "b") as lab:
        node, peer = lab.nodes["a"], lab.nodes["b"]
        ip("-n", node.namespace, "link", "add", "red", "type", "vrf", "table", "10")
        for words in (("red", "up"), ("eth0", "master", "red")):
            ip("-n", node.namespace, "link", "set", *words)
        node.run("ip", "route", "replace", "table", "10", "10.77.0.0/24", "dev", "eth0")
        capture = lab.capture()
        ours = lab.vrrpd("a", text(lab, "a", "b", 150, extra="vrf red"))
        lab.until(lambda: is_in(ours, "MASTER") and node.holds(VIP))
        theirs = lab.keepalived("b", text(lab, "b", "a", 200, interface="interface eth0"))
        lab.until(lambda: is_in(ours, "BACKUP") and peer.holds(VIP), what="it hears the higher one by the VRF")
        capture.read()
        assert {priority_of(frame) for frame in adverts(capture.frames, node.port)} == {150}
        theirs.stop()
        lab.until(lambda: is_in(ours, "MASTER") and node.holds(VIP))
        node.run("ip", "link", "del", "red")
        lab.until(lambda: is_in(ours, "FAULT"), what="a VRF that is gone is a fault")
