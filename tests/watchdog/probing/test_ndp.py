"""The IPv6 census with real kernels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import Ether

from base.ndp import decode_advertisement, solicitation, unsolicited_advertisement
from tests.watchdog.network import Network
from tests.watchdog.probing.node import ProbingNode
from tests.watchdog.probing.test_arp import Census, attacker
from watchdog.config.model import LinkAddress
from watchdog.judgement.events import OwnerClaimed, ReferenceAnswered
from watchdog.probing.ndp import NdpProber

pytestmark = pytest.mark.system

VIP = "fd00:77::100"


@pytest.fixture
def net() -> Iterator[Network]:
    network = Network("w", "a", "b", "p")
    yield network
    network.close()


@pytest.fixture
def watcher(net: Network) -> Iterator[ProbingNode]:
    node = ProbingNode(net, "w", NdpProber)
    node.call(node.part.watch, [LinkAddress("eth0", VIP), LinkAddress("eth0", "10.77.0.100")])
    node.until(lambda: any(a.startswith("fe80:") for a in node.kernel.addresses_of("eth0")))
    yield node
    node.close()


def add_vip(net: Network, *nodes: str) -> None:
    for node in nodes:
        net.ip(node, f"addr add {VIP}/64 dev eth0 nodad")


def test_none_one_and_two_owners(net: Network, watcher: ProbingNode) -> None:
    assert not Census(watcher, VIP).answers
    for owners in (("a",), ("a", "b")):
        add_vip(net, owners[-1])
        macs = {net.mac(name) for name in owners}
        # even with nodad the address is tentative for a moment, and silent
        watcher.until(lambda macs=macs: Census(watcher, VIP, requests=1, window_ms=100).macs == macs)
        census = Census(watcher, VIP)
        assert census.per_request() == {(mac, i): 1 for mac in macs for i in range(3)} and census.end.error == ""


def test_proxy_ndp_is_no_owner(net: Network, watcher: ProbingNode) -> None:
    net.sysctl("p", "net/ipv6/conf/all/forwarding", "1")
    net.sysctl("p", "net/ipv6/conf/eth0/proxy_ndp", "1")
    net.sysctl("p", "net/ipv6/neigh/eth0/proxy_delay", "0")
    net.ip("p", f"neigh add proxy {VIP} dev eth0")
    assert not Census(watcher, VIP).answers
    add_vip(net, "a")
    assert Census(watcher, VIP).macs == {net.mac("a")}


def test_a_probe_does_not_disturb_duplicate_address_detection(net: Network, watcher: ProbingNode) -> None:
    net.sysctl("a", "net/ipv6/conf/eth0/accept_dad", "1")
    net.sysctl("a", "net/ipv6/conf/eth0/dad_transmits", "3")
    net.ip("a", f"addr add {VIP}/64 dev eth0")
    for _ in range(3):
        Census(watcher, VIP, window_ms=200)
    watcher.until(lambda: Census(watcher, VIP, window_ms=200).macs == {net.mac("a")})


def test_announcements_are_heard(net: Network, watcher: ProbingNode) -> None:
    raw = attacker(net)
    mac = "02:00:00:00:00:0b"
    base = Ether(dst="33:33:00:00:00:01", src=mac) / IPv6(src=VIP, dst="ff02::1", hlim=255)
    raw.send(bytes(base / ICMPv6ND_NA(tgt=VIP, R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=mac)))
    watcher.until(lambda: watcher.events)
    assert watcher.events == [OwnerClaimed("eth0", VIP, mac, mac, None, 0, True)]
    raw.send(bytes(base / ICMPv6ND_NA(tgt=VIP, R=0, S=0, O=0) / ICMPv6NDOptDstLLAddr(lladdr=mac)))
    raw.send(bytes(base / ICMPv6ND_NA(tgt=VIP, R=0, S=0, O=1, cksum=1) / ICMPv6NDOptDstLLAddr(lladdr=mac)))
    routed = Ether(dst="33:33:00:00:00:01", src=mac) / IPv6(src=VIP, dst="ff02::1", hlim=254)
    raw.send(bytes(routed / ICMPv6ND_NA(tgt=VIP, R=0, S=0, O=1)))
    Census(watcher, VIP, requests=1)
    assert len(watcher.claims(None)) == 1
    assert watcher.part.snapshot()["eth0"]["malformed"] == 2
    raw.close()


def test_a_reference_answers(net: Network, watcher: ProbingNode) -> None:
    net.ip("p", "addr add fd00:77::1/64 dev eth0 nodad")

    def answered() -> bool:
        watcher.call(watcher.part.probe_reference, "gateway", "eth0", "fd00:77::1")
        watcher.turn(50)
        return bool(watcher.events)

    watcher.until(answered)
    assert set(watcher.events) == {ReferenceAnswered("gateway", net.mac("p"))}


def test_frames_agree_with_scapy() -> None:
    mac = "02:00:00:00:00:01"
    ours = solicitation(bytes.fromhex(mac.replace(":", "")), "fe80::1", VIP)
    theirs = Ether(dst="33:33:ff:00:01:00", src=mac) / IPv6(src="fe80::1", dst="ff02::1:ff00:100", hlim=255)
    assert ours == bytes(theirs / ICMPv6ND_NS(tgt=VIP) / ICMPv6NDOptSrcLLAddr(lladdr=mac))
    ours = unsolicited_advertisement(bytes.fromhex(mac.replace(":", "")), VIP, router=False)
    theirs = Ether(dst="33:33:00:00:00:01", src=mac) / IPv6(src=VIP, dst="ff02::1", hlim=255)
    assert ours == bytes(theirs / ICMPv6ND_NA(tgt=VIP, R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=mac))
    heard = decode_advertisement(ours)
    assert heard and heard.target == VIP


@given(st.binary(max_size=120), st.booleans())
def test_decoding_is_total(data: bytes, from_good: bool) -> None:
    good = unsolicited_advertisement(b"\2\0\0\0\0\1", VIP, router=False)
    frame = good[: len(data)] + data if from_good else data
    heard = decode_advertisement(frame)
    assert heard is None or heard.target
