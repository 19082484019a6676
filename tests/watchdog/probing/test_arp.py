"""The ARP table of the reference (one owner, two, proxies, virtual MACs) with real kernels, and what an attacker can add to it."""

from __future__ import annotations

import os
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import ARP, Ether

from base.arp import REQUEST, ArpPacket, decode_arp, encode_arp
from base.clock import now_ns
from tests.watchdog.network import Network
from tests.watchdog.probing.node import ProbingNode
from watchdog.config.model import LinkAddress
from watchdog.judgement.commands import ProbeOwners
from watchdog.judgement.events import OwnerClaimed, ProbeFinished, ReferenceAnswered
from watchdog.probing.arp import ArpProber
from watchdog.probing.probe_book import MAX_CLAIMS_PER_INTERVAL, Limiter, ProbeBook
from watchdog.probing.segment import BROADCAST

pytestmark = pytest.mark.system

VIP = "10.77.0.100"
VMAC = "00:00:5e:00:01:33"
WINDOW_MS = 300


@pytest.fixture
def net() -> Iterator[Network]:
    network = Network("w", "a", "b", "p")
    yield network
    network.close()


@pytest.fixture
def watcher(net: Network) -> Iterator[ProbingNode]:
    node = ProbingNode(net, "w", ArpProber)
    node.call(node.part.watch, [LinkAddress("eth0", VIP)])
    yield node
    node.close()


class Census:
    """One finished probe."""

    def __init__(self, node: ProbingNode, address: str = VIP, requests: int = 3, window_ms: int = WINDOW_MS) -> None:
        probe_id = random.randrange(1 << 30)
        node.call(node.part.probe, ProbeOwners(probe_id, "eth0", address, requests, window_ms))
        node.until(lambda: any(end.probe_id == probe_id for end in node.of(ProbeFinished)))
        self.end = next(end for end in node.of(ProbeFinished) if end.probe_id == probe_id)
        self.answers = node.claims(probe_id)

    def per_request(self) -> dict[tuple[str, int], int]:
        return dict(Counter((claim.mac, claim.request_index) for claim in self.answers))

    @property
    def macs(self) -> set[str]:
        return {claim.mac for claim in self.answers}


def add_vip(net: Network, *nodes: str) -> None:
    for node in nodes:
        net.ip(node, f"addr add {VIP}/24 dev eth0")


def add_vmac_vip(net: Network, node: str) -> None:
    """As keepalived's use_vmac does it."""
    net.ip(node, f"link add link eth0 name vrrp.51 address {VMAC} type macvlan mode private")
    net.sysctl(node, "net/ipv4/conf/eth0/arp_ignore", "1")
    net.sysctl(node, "net/ipv4/conf/vrrp.51/arp_ignore", "1")
    for interface in ("all", "eth0", "vrrp.51"):
        net.sysctl(node, f"net/ipv4/conf/{interface}/rp_filter", "0")
    net.sysctl(node, "net/ipv4/conf/vrrp.51/accept_local", "1")
    net.ip(node, f"link set vrrp.51 up\naddr add {VIP}/32 dev vrrp.51")


def make_proxy(net: Network) -> None:
    net.ip("p", f"link add out0 type veth peer name out1\nlink set out0 up\nlink set out1 up\nroute add {VIP}/32 dev out0")
    net.sysctl("p", "net/ipv4/conf/eth0/proxy_arp", "1")
    net.sysctl("p", "net/ipv4/ip_forward", "1")
    net.sysctl("p", "net/ipv4/neigh/eth0/proxy_delay", "0")


def test_nobody(watcher: ProbingNode) -> None:
    started = now_ns()
    census = Census(watcher)
    assert not census.answers and census.end == ProbeFinished(census.end.probe_id, "eth0", VIP, 3)
    assert now_ns() - started >= WINDOW_MS * 1_000_000, "the whole window is listened to"


def test_one_owner(net: Network, watcher: ProbingNode) -> None:
    add_vip(net, "a")
    census = Census(watcher)
    mac = net.mac("a")
    assert census.per_request() == {(mac, 0): 1, (mac, 1): 1, (mac, 2): 1}
    assert {claim.sender_mac for claim in census.answers} == {mac} and not any(claim.gratuitous for claim in census.answers)


def test_two_owners(net: Network, watcher: ProbingNode) -> None:
    add_vip(net, "a", "b")
    census = Census(watcher)
    assert census.per_request() == {(net.mac(n), i): 1 for n in ("a", "b") for i in range(3)}


def test_proxy_arp_is_no_owner(net: Network, watcher: ProbingNode) -> None:
    make_proxy(net)
    with net.inside("w"):
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        probe.sendto(b"x", (VIP, 9))  # a normal request is answered by the proxy: it works, and it is no claim to be believed
        probe.close()
    assert not Census(watcher).answers, "proxy only"
    add_vip(net, "a")
    assert Census(watcher).macs == {net.mac("a")}, "proxy and owner"


def test_two_owners_behind_one_virtual_mac(net: Network, watcher: ProbingNode) -> None:
    add_vmac_vip(net, "a")
    assert Census(watcher).per_request() == {(VMAC, 0): 1, (VMAC, 1): 1, (VMAC, 2): 1}
    add_vmac_vip(net, "b")
    census = Census(watcher)
    assert census.macs == {VMAC} and max(census.per_request().values()) == 2
    assert len(census.answers) == 6


def test_an_owner_sees_only_the_others(net: Network) -> None:
    add_vip(net, "a")
    owner = ProbingNode(net, "a", ArpProber)
    try:
        assert not Census(owner).answers
        add_vip(net, "b")
        assert Census(owner).macs == {net.mac("b")}
    finally:
        owner.close()


def test_an_owner_with_a_virtual_mac_sees_its_twin(net: Network) -> None:
    add_vmac_vip(net, "a")
    owner = ProbingNode(net, "a", ArpProber)
    try:
        owner.call(owner.part.watch, [LinkAddress("eth0", VIP)])
        assert not Census(owner).answers and not owner.claims(None)
        add_vmac_vip(net, "b")
        assert Census(owner).macs == {VMAC}
    finally:
        owner.close()


def attacker(net: Network, node: str = "b") -> socket.socket:
    with net.inside(node):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
        raw.bind(("eth0", 0x0806))
    return raw


def test_an_answer_at_nine_tenths_of_the_window_counts(net: Network, watcher: ProbingNode) -> None:
    add_vip(net, "a")
    raw = attacker(net)
    raw.setblocking(False)
    window_ms = 1_000
    watcher.call(watcher.part.probe, ProbeOwners(7, "eth0", VIP, 1, window_ms))
    asked_ns, mac = now_ns(), net.mac("w")
    reply = Ether(dst=mac, src="02:00:00:00:00:99") / ARP(op=2, hwsrc="02:00:00:00:00:99", psrc=VIP, hwdst=mac, pdst="0.0.0.0")
    frame = bytes(reply)
    watcher.until(lambda: now_ns() - asked_ns >= 0.9 * window_ms * 1_000_000)
    raw.send(frame)
    watcher.until(lambda: watcher.of(ProbeFinished))
    assert {claim.mac for claim in watcher.claims(7)} == {net.mac("a"), "02:00:00:00:00:99"}
    raw.close()


def test_claims_are_heard_passively(net: Network, watcher: ProbingNode) -> None:
    raw = attacker(net)
    mac = "02:00:00:00:00:0b"
    for packet, gratuitous in (
        (Ether(dst="ff:ff:ff:ff:ff:ff", src=mac) / ARP(op=1, hwsrc=mac, psrc=VIP, pdst=VIP), True),
        (Ether(dst="ff:ff:ff:ff:ff:ff", src=mac) / ARP(op=2, hwsrc="02:00:00:00:00:0c", psrc=VIP, pdst=VIP), True),
        (Ether(dst="ff:ff:ff:ff:ff:ff", src=mac) / ARP(op=1, hwsrc="02:00:00:00:00:0d", psrc=VIP, pdst="10.77.0.1"), False),
    ):
        count = len(watcher.events)
        raw.send(bytes(packet))
        watcher.until(lambda count=count: len(watcher.events) > count)
        expected = OwnerClaimed("eth0", VIP, packet[ARP].hwsrc, mac, None, 0, gratuitous)
        assert watcher.events[count:] == [expected]
    raw.send(bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=mac) / ARP(op=1, hwsrc=mac, psrc="0.0.0.0", pdst=VIP)))
    raw.send(bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=mac) / ARP(op=1, hwsrc=mac, psrc="10.77.0.50", pdst="10.77.0.50")))
    Census(watcher, requests=1)
    assert len(watcher.claims(None)) == 3, "somebody's probe and foreign addresses claim nothing"
    raw.close()


def test_own_macs_are_never_reported(net: Network, watcher: ProbingNode) -> None:
    raw = attacker(net)
    mac = net.mac("w")
    raw.send(bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=mac) / ARP(op=1, hwsrc=mac, psrc=VIP, pdst=VIP)))
    Census(watcher, requests=1)
    assert not watcher.claims(None)
    raw.close()


def test_a_garp_storm_is_bounded_and_hides_nobody(net: Network, watcher: ProbingNode) -> None:
    raw = attacker(net)
    started = time.monotonic()
    for number in range(20_000):
        mac = b"\x02\xaa" + (number % 7_000).to_bytes(4, "big")
        raw.send(encode_arp(ArpPacket(BROADCAST, mac, REQUEST, mac, VIP, VIP)))
        if number % 200 == 0:
            watcher.turn(0)
    storm_s = time.monotonic() - started
    bound = MAX_CLAIMS_PER_INTERVAL * (storm_s / 0.1 + 2)
    assert 0 < len(watcher.claims(None)) <= bound
    counters = watcher.part.snapshot()["eth0"]
    assert counters["suppressed"] > 0
    add_vip(net, "a")
    assert Census(watcher, window_ms=1_000).macs == {net.mac("a")}
    raw.close()


def test_garbage_is_counted_and_changes_nothing(net: Network, watcher: ProbingNode) -> None:
    raw = attacker(net)
    rng = random.Random(os.environ.get("SEED", "arp"))
    good = bytearray(
        bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src="02:00:00:00:00:0b") / ARP(op=2, psrc=VIP, pdst=VIP, hwsrc="02:00:00:00:00:0b"))
    )
    for _ in range(2_000):
        frame = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            frame[rng.choice([*range(14, 22), *range(38, 42)])] = rng.randrange(256)
        frame = frame[: rng.randint(30, 42)]
        raw.send(bytes(frame))
        watcher.turn(0)
    Census(watcher, requests=1)
    assert watcher.part.snapshot()["eth0"]["malformed"] > 0
    assert {event.address for event in watcher.claims(None)} <= {VIP}
    raw.close()


@given(st.binary(max_size=80))
def test_decoding_is_total(frame: bytes) -> None:
    packet = decode_arp(frame)
    assert packet is None or len(frame) >= 42


def test_encoding_agrees_with_scapy() -> None:
    ours = encode_arp(ArpPacket(BROADCAST, b"\2\0\0\0\0\1", REQUEST, b"\2\0\0\0\0\1", "0.0.0.0", VIP))
    theirs = Ether(dst="ff:ff:ff:ff:ff:ff", src="02:00:00:00:00:01") / ARP(hwsrc="02:00:00:00:00:01", psrc="0.0.0.0", pdst=VIP)
    assert ours == bytes(theirs)


def test_a_probe_says_when_it_could_not_be_sent(net: Network, watcher: ProbingNode) -> None:
    net.ip("w", "link set eth0 down")
    assert "down" in Census(watcher).end.error
    net.ip("w", "link set eth0 up")
    add_vip(net, "a")
    net.ip("switch", "link set pw down")
    assert "no carrier" in Census(watcher).end.error
    net.ip("switch", "link set pw up")
    watcher.until(lambda: Census(watcher).macs == {net.mac("a")})
    net.ip("w", "link del eth0")
    end = Census(watcher).end
    assert end.requests_sent == 0 and "not exist" in end.error
    net.ip("switch", f"link add pw type veth peer name eth0 netns {net.namespace('w')}\nlink set pw master br0 up")
    net.ip("w", "link set eth0 up")
    watcher.until(lambda: Census(watcher).macs == {net.mac("a")})


def test_references_answer_to_us_only(net: Network, watcher: ProbingNode) -> None:
    gateway = net.address("p")
    watcher.call(watcher.part.probe_reference, "gateway", "eth0", gateway)
    watcher.until(lambda: watcher.of(ReferenceAnswered))
    assert watcher.events == [ReferenceAnswered("gateway", net.mac("p"))]
    with net.inside("a"):
        bystander = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bystander.sendto(b"x", (gateway, 9))
        bystander.close()
    watcher.call(watcher.part.probe_reference, "nobody", "eth0", "10.77.0.77")
    Census(watcher, requests=1)
    assert len(watcher.of(ReferenceAnswered)) == 1
    net.ip("p", "link set eth0 down")
    watcher.call(watcher.part.probe_reference, "gateway", "eth0", gateway)
    Census(watcher, requests=1)
    assert len(watcher.of(ReferenceAnswered)) == 1


def test_a_vip_is_never_the_sender_of_a_reference_probe(net: Network, watcher: ProbingNode) -> None:
    net.ip("w", f"addr flush dev eth0\naddr add {VIP}/24 dev eth0")
    watcher.until(lambda: VIP in watcher.kernel.addresses_of("eth0") and net.address("w") not in watcher.kernel.addresses_of("eth0"))
    raw = attacker(net, "a")
    raw.settimeout(5)
    watcher.call(watcher.part.probe_reference, "gateway", "eth0", net.address("p"))
    while True:
        packet = decode_arp(raw.recv(2048))
        if packet and packet.target_ip == net.address("p"):
            break
    assert packet.sender_ip == "0.0.0.0"
    watcher.until(lambda: watcher.of(ReferenceAnswered))
    raw.close()


@pytest.mark.parametrize("count", [1, 200, 1_000])
def test_many_watched_addresses(net: Network, watcher: ProbingNode, count: int) -> None:
    others = [LinkAddress("eth0", f"10.78.{n >> 8}.{n & 255}") for n in range(count - 1)]
    watcher.call(watcher.part.watch, [*others, LinkAddress("eth0", VIP)])
    raw = attacker(net)
    mac = b"\2\0\0\0\0\x0b"
    for address in ("10.99.0.1", VIP, "10.99.0.2"):
        raw.send(encode_arp(ArpPacket(BROADCAST, mac, REQUEST, mac, address, address)))
    watcher.until(lambda: watcher.events)
    add_vip(net, "a")
    assert Census(watcher).macs == {net.mac("a")}
    assert {claim.address for claim in watcher.claims(None)} == {VIP} and not watcher.part.snapshot()["eth0"]["problem"]
    raw.close()


def test_a_slow_single_owner_never_looks_like_two() -> None:
    book = ProbeBook()
    assert book.start(0, ProbeOwners(1, "eth0", VIP, 3, 300)) is None
    for at_ns in (0, 50_000_000, 100_000_000):
        assert book.due_requests(at_ns)
        book.sent(at_ns, 1)
    assert not book.due_requests(150_000_000)
    assert [book.answered(LinkAddress("eth0", VIP), VMAC)[0].request_index for _ in range(4)] == [0, 1, 2, 2]
    assert not book.finish(299_999_999) and book.finish(300_000_000) == [ProbeFinished(1, "eth0", VIP, 3)]


def test_the_book_is_bounded() -> None:
    book = ProbeBook()
    ends = [book.start(0, ProbeOwners(n, "eth0", VIP, 1, 100)) for n in range(2_000)]
    assert sum(end is not None for end in ends) == 976 and all(end.error for end in ends if end)
    for order in book.due_requests(0):
        book.sent(0, order.probe_id)
    assert len([a for n in range(500) for a in book.answered(LinkAddress("eth0", VIP), str(n)) if a.probe_id == 3]) == 64


def test_a_flood_of_answers_leaves_the_known_their_room() -> None:
    """Case A4: strangers with random MACs answer every probe before the peer does."""
    book, at = ProbeBook(), LinkAddress("eth0", VIP)
    heard = []
    for probe in range(1, 40):
        assert book.start(probe * 10**9, ProbeOwners(probe, "eth0", VIP, 3, 300)) is None
        book.sent(probe * 10**9, probe)
        flood = 0 if probe < 4 else 500
        for n in range(flood):
            book.answered(at, f"06:00:{probe:02x}:{n >> 8:02x}:{n & 255:02x}:00")
        heard.append(bool(book.answered(at, "peer")))
        book.finish(probe * 10**9 + 10**9)
    assert all(heard)


def test_a_storm_of_new_claims_does_not_keep_the_known_out() -> None:
    limiter = Limiter(100, 64)
    assert limiter.admits(0, "peer")
    for at in range(100, 100_000, 100):
        admitted = sum(limiter.admits(at, f"stranger {at} {n}") for n in range(200))
        assert admitted <= 16
        assert limiter.admits(at, "peer")
