"""Who may send unicast adverts, and with which TTL: on our link, over a router, strangers; keepalived in the same place."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vrrp import VRRPv3

from tests.lab import Daemon, Lab
from tests.vrrp.interop.vrrp_conf import VIP, VIP6, VRID, conf
from tests.vrrp.interop.vrrpd_status import instance, is_in

pytestmark = pytest.mark.system


def forged(lab: Lab, *, source: str, ttl: int, victim: str = "a") -> Callable[[], None]:
    """Sends, from host x, a unicast advert with priority 250 to ``victim`` in the name of ``source``."""
    node = lab.nodes[victim]
    mac = node.run("cat", "/sys/class/net/eth0/address").strip()
    six = ":" in source
    body = VRRPv3(vrid=VRID, priority=250, adv=10, addrlist=[VIP6 if six else VIP])
    carrier = IPv6(src=source, dst=node.address6, hlim=ttl, nh=112) if six else IP(src=source, dst=node.address, ttl=ttl, proto=112)
    frame = bytes(Ether(dst=mac, src="02:00:00:00:00:99") / carrier / body)
    sender = lab.nodes["x"].socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sender.bind(("eth0", 0))
    return lambda: (sender.send(frame), None)[1]


def unicast(lab: Lab, priority: int = 150, *, peer: str = "", **more: str) -> str:
    return conf(priority, source=lab.nodes["a"].address, peer=peer or lab.nodes["b"].address, **more)


def refused(lab: Lab, ours: Daemon, send: Callable[[], None], reason: str) -> None:
    """The advert is sent ten times and changes nothing but a counter."""
    for _ in range(10):
        send()
    lab.until(lambda: instance(ours)["rejected"].get(reason, 0) >= 10, what=f"{reason} is counted")
    assert is_in(ours, "MASTER")


def believed(lab: Lab, send: Callable[[], None], holds: Callable[[], bool]) -> None:
    """The advert makes a MASTER give up."""

    def gone() -> bool:
        send()
        return not holds()

    lab.until(gone, what="the MASTER gives way")


def test_after_a_fault_the_link_hears_where_our_own_address_lives() -> None:
    """keepalived's #1283: the switch lost its table with the link, and the peers send to an address."""
    with Lab("a", "b") as lab:
        node, mark = lab.nodes["a"], lab.directory / "mark"
        mark.write_text("0")
        tracked = f"track_file mark {{\nfile {mark}\nweight 0\n}}"
        ours = lab.vrrpd("a", unicast(lab, blocks=tracked, instance_extra="track_file {\nmark\n}"))
        lab.until(lambda: is_in(ours, "MASTER"))
        capture, own = lab.capture(), socket.inet_aton(node.address)

        def announced() -> bool:
            frames = [frame for port, frame in (capture.read(), capture.frames)[1] if port == node.port and frame[12:14] == b"\x08\x06"]
            return any(frame[28:32] == frame[38:42] == own for frame in frames)

        mark.write_text("1")
        lab.until(lambda: is_in(ours, "FAULT"))
        assert not announced()
        mark.write_text("0")
        lab.until(announced)


class TestOnLink:
    def test_a_wrong_ttl_or_a_stranger_is_refused_and_keepalived_gives_way(self) -> None:
        with Lab("a", "b", "x") as lab:
            ours = lab.vrrpd("a", unicast(lab))
            lab.until(lambda: is_in(ours, "MASTER"))
            refused(lab, ours, forged(lab, source=lab.nodes["b"].address, ttl=64), "peer_ttl")
            refused(lab, ours, forged(lab, source="10.77.0.9", ttl=255), "unknown_peer")
            refused(lab, ours, forged(lab, source="192.0.2.9", ttl=60), "unknown_peer")
            ours.stop()
            lab.keepalived("a", unicast(lab))
            lab.until(lambda: lab.nodes["a"].holds(VIP))
            believed(lab, forged(lab, source="192.0.2.9", ttl=60), lambda: lab.nodes["a"].holds(VIP))

    @pytest.mark.shows("vrrp_instance/check_unicast_src")
    def test_keepalived_s_way_by_option(self) -> None:
        with Lab("a", "b", "x") as lab:
            ours = lab.vrrpd("a", unicast(lab, instance_extra="check_unicast_src off"))
            lab.until(lambda: is_in(ours, "MASTER"))
            believed(lab, forged(lab, source="192.0.2.9", ttl=60), lambda: is_in(ours, "MASTER"))
            ours.stop()
            ours = lab.vrrpd("a", unicast(lab, peer=f"{lab.nodes['b'].address} min_ttl 1"))
            lab.until(lambda: is_in(ours, "MASTER"))
            believed(lab, forged(lab, source=lab.nodes["b"].address, ttl=2), lambda: is_in(ours, "MASTER"))

    @pytest.mark.parametrize("theirs", ["unicast_ttl 30", ""])
    def test_the_same_file_on_a_keepalived_is_understood(self, theirs: str) -> None:
        with Lab("a", "b", "x") as lab:
            ours = lab.vrrpd("a", unicast(lab, 150, instance_extra=theirs))
            lab.until(lambda: is_in(ours, "MASTER"))
            lab.keepalived("b", conf(200, source=lab.nodes["b"].address, peer=lab.nodes["a"].address, instance_extra=theirs))
            lab.until(lambda: is_in(ours, "BACKUP"))
            lab.always(lambda: is_in(ours, "BACKUP"), 1)

    def test_ipv6_hop_limits(self) -> None:
        """A keepalived without unicast_ttl sends the kernel's 64 over IPv6; with unicast_ttl 255 on both, 64 is refused."""
        with Lab("a", "b", "x") as lab:
            a, b = lab.nodes["a"].address6, lab.nodes["b"].address6
            ours = lab.vrrpd("a", conf(150, source=a, peer=b, ipv6=True))
            lab.until(lambda: is_in(ours, "MASTER"))
            refused(lab, ours, forged(lab, source=b, ttl=63), "peer_ttl")
            theirs = lab.keepalived("b", conf(200, source=b, peer=a, ipv6=True))
            lab.until(lambda: is_in(ours, "BACKUP"))
            theirs.stop()
            ours.stop()
            ours = lab.vrrpd("a", conf(150, source=a, peer=b, ipv6=True, instance_extra="unicast_ttl 255"))
            lab.until(lambda: is_in(ours, "MASTER"))
            refused(lab, ours, forged(lab, source=b, ttl=64), "peer_ttl")


def test_peers_on_both_sides_of_a_router() -> None:
    """Their adverts arrive with TTL 254; elections work as on one link, and a link-local claim of that name is as good as the route."""
    with Lab("a", "r", "b") as lab:
        ours, router, theirs = (lab.nodes[name] for name in "arb")
        router.run(
            "sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.eth0.send_redirects=0"
        )
        for node, net in ((ours, 1), (theirs, 2)):
            node.run("ip", "addr", "flush", "dev", "eth0", "scope", "global")
            node.run("ip", "addr", "add", f"10.88.{net}.1/24", "dev", "eth0")
            node.run("ip", "route", "add", "default", "via", f"10.88.{net}.254")
            router.run("ip", "addr", "add", f"10.88.{net}.254/24", "dev", "eth0")
        text = [
            conf(p, source=s, peer=t, vip=f"{VIP}/32") for p, s, t in ((150, "10.88.1.1", "10.88.2.1"), (100, "10.88.2.1", "10.88.1.1"))
        ]
        a, b = lab.vrrpd("a", text[0]), lab.vrrpd("b", text[1])
        lab.until(lambda: is_in(a, "MASTER") and is_in(b, "BACKUP"))
        lab.until(lambda: instance(b)["counters"]["adverts_received"] > 5)
        assert instance(b)["rejected"] == {}
        lab.always(lambda: is_in(b, "BACKUP"), 0.5)
        a.stop()
        lab.until(lambda: is_in(b, "MASTER"))
