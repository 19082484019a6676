"""Unicast without ``interface``: adverts go where the routes lead, of the main tables or of a VRF; with a keepalived on the other side.

keepalived 2.2.7 itself refuses such a file ("Unknown interface!", tried), against its manual; newer ones take it.
"""

from __future__ import annotations

import os
import signal
import socket

import pytest

from tests.lab import Lab, inside
from tests.vrrp.interop.vrrp_conf import SERVICE6, VIP, conf, priority_of
from tests.vrrp.interop.vrrpd_status import instance, is_in

pytestmark = pytest.mark.system


def text(lab: Lab, node: str, peer: str, priority: int, *, ipv6: bool = False, extra: str = "", interface: str = "") -> str:
    own, other = (getattr(lab.nodes[name], "address6" if ipv6 else "address") for name in (node, peer))
    vip = f"{SERVICE6}/64 dev eth0" if ipv6 else f"{VIP}/24 dev eth0"
    found = conf(priority, source=own, peer=other, vip=vip, instance_extra=extra)
    return found.replace("interface eth0", interface)


@pytest.mark.shows("vrrp_instance/interface", "vrrp_instance/unicast_src_ip", "vrrp_instance/unicast_peer")
@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_a_pair_without_interfaces(ipv6: bool) -> None:
    """ours above keepalived: election, its death (its parent speaks for it), return, a source address that vanishes and comes back."""
    with Lab("a", "b") as lab:
        vip = SERVICE6 if ipv6 else VIP
        a, b = lab.nodes["a"], lab.nodes["b"]
        lab.keepalived("b", text(lab, "b", "a", 100, ipv6=ipv6, interface="interface eth0"))
        lab.until(lambda: b.holds(vip))
        capture = lab.capture()
        ours = lab.vrrpd("a", text(lab, "a", "b", 150, ipv6=ipv6))
        lab.until(lambda: a.holds(vip) and not b.holds(vip))
        lab.always(lambda: is_in(ours, "MASTER") and not b.holds(vip), 1.0, "keepalived hears us")
        assert instance(ours)["rejected"] == {}
        child = int((ours.directory / "vrrp.pid").read_text())
        os.kill(child, signal.SIGKILL)
        lab.until(lambda: 0 in {priority_of(f) for port, f in (capture.read(), capture.frames)[1] if port == "p1"}, what="the will")
        lab.until(lambda: a.holds(vip) and not b.holds(vip), what="ours is back and preempts")
        own = a.address6 if ipv6 else a.address
        a.run("ip", "addr", "del", f"{own}/{64 if ipv6 else 24}", "dev", "eth0")
        lab.until(lambda: is_in(ours, "FAULT") and b.holds(vip))
        a.run("ip", "addr", "add", f"{own}/{64 if ipv6 else 24}", "dev", "eth0", *(["nodad"] if ipv6 else []))
        lab.until(lambda: is_in(ours, "MASTER") and not b.holds(vip))


def test_adverts_leave_by_the_vrf() -> None:
    """Linux sends by a VRF's routes what is bound to its device; another device serves as well. A real VRF: guest_links.py."""
    with Lab("a", "b") as lab:
        node = lab.nodes["a"]
        node.run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
        for name in ("v0", "v1"):
            node.run("ip", "link", "set", name, "up")
        node.run("ip", "route", "add", lab.nodes["b"].address, "dev", "v0", "metric", "9000")
        node.run("ip", "neigh", "add", lab.nodes["b"].address, "lladdr", "02:00:00:00:00:01", "dev", "v0")
        with inside(node.namespace):
            sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(0x0800))
            sniffer.bind(("v1", 0x0800))

        def seen() -> bool:
            while True:
                try:
                    frame = sniffer.recv(2048)
                except BlockingIOError:
                    return False
                if priority_of(frame) == 150:
                    return True

        capture = lab.capture()
        lab.vrrpd("a", text(lab, "a", "b", 150, extra="vrf v0"))
        lab.until(seen)
        capture.read()
        assert not [frame for _port, frame in capture.frames if priority_of(frame) is not None]
        sniffer.close()
