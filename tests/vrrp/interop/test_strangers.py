"""A stranger with our VRID, a higher priority and other addresses: who is served, beside keepalived (F9)."""

from __future__ import annotations

import socket
import time

import pytest
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether
from scapy.layers.vrrp import VRRP, VRRPv3

from tests.lab import Lab
from tests.vrrp.interop.vrrp_conf import VIP, VRID, conf
from tests.vrrp.interop.vrrpd_status import instance, is_in

pytestmark = pytest.mark.system
STRANGER, OTHER = "10.77.0.3", "10.77.0.222"


def frame(version: int, listed: str, interval_s: float) -> bytes:
    head = IP(src=STRANGER, dst="224.0.0.18", ttl=255, proto=112)
    if version == 2:
        body = VRRP(vrid=VRID, priority=200, adv=int(interval_s), addrlist=[listed], auth1=0, auth2=0)
    else:
        body = VRRPv3(vrid=VRID, priority=200, adv=int(interval_s * 100), addrlist=[listed])
    return bytes(Ether(dst="01:00:5e:00:00:12", src="02:00:00:00:00:99") / head / body)


def owners(lab: Lab, data: bytes, seconds: float) -> list[int]:
    """How many nodes hold the VIP, at each of the looks during an attack of two adverts a second."""
    sender = lab.nodes["x"].socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sender.bind(("eth0", 0))
    seen, end, next_s = [], time.monotonic() + seconds, 0.0
    while time.monotonic() < end:
        if time.monotonic() >= next_s:
            sender.send(data)
            next_s = time.monotonic() + 0.25
        seen.append(sum(lab.nodes[name].holds(VIP) for name in "ab"))
        time.sleep(0.02)
    sender.close()
    return seen


@pytest.mark.parametrize("version", [2, 3])
def test_it_is_not_obeyed(version: int) -> None:
    interval = 1 if version == 2 else 0.1
    with Lab("a", "b", "x") as lab:
        a = lab.vrrpd("a", conf(150, version=version, interval=str(interval)))
        b = lab.vrrpd("b", conf(100, version=version, interval=str(interval)))
        lab.until(lambda: is_in(a, "MASTER") and is_in(b, "BACKUP"))
        assert set(owners(lab, frame(version, OTHER, interval), 5 if version == 2 else 2)) == {1}
        assert is_in(a, "MASTER") and is_in(b, "BACKUP")
        assert instance(a)["counters"]["strangers_heard"] > 3
        assert owners(lab, frame(version, VIP, interval), 1)[-1] == 0, "who copies the list is believed, as by every router"


@pytest.mark.shows("vrrp_instance/differing_lists")
def test_keepalived_s_ways() -> None:
    """``all``: obeyed, as later versions. ``none``: a peer with a changed list is not heard either, as Debian's: two owners."""
    with Lab("a", "b", "x") as lab:
        a = lab.vrrpd("a", conf(150, instance_extra="differing_lists all"))
        lab.until(lambda: is_in(a, "MASTER"))
        assert owners(lab, frame(3, OTHER, 0.1), 1)[-1] == 0
    with Lab("a", "b") as lab:
        a = lab.vrrpd("a", conf(150, instance_extra="differing_lists none"))
        lab.until(lambda: is_in(a, "MASTER"))
        b = lab.vrrpd("b", conf(100, instance_extra="differing_lists none", vip=f"{VIP}/24\n10.77.0.99"))
        lab.until(lambda: is_in(b, "MASTER"))
        lab.always(lambda: is_in(a, "MASTER") and is_in(b, "MASTER"), 0.5)
        b.stop()
        theirs = lab.keepalived("b", conf(100, vip=f"{VIP}/24\n10.77.0.99"))
        lab.until(lambda: lab.nodes["b"].holds(VIP), what="keepalived 2.2.7 does not hear us either")
        lab.always(lambda: lab.nodes["a"].holds(VIP) and lab.nodes["b"].holds(VIP), 0.5)
        assert theirs.process.poll() is None
