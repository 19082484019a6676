"""What is announced is what the kernel holds, with the MAC of where it lives."""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA
from scapy.layers.l2 import ARP, Ether

from base.pump import Pump
from tests.watchdog.network import Network, run
from tests.watchdog.probing.node import ProbingNode
from watchdog.config.model import LinkAddress
from watchdog.judgement.commands import Announce
from watchdog.judgement.events import CommandFailed, WatcherEvent
from watchdog.probing.announce import Announcer
from watchdog.probing.kernel import KernelMonitor

pytestmark = pytest.mark.system


def make(_pump: Pump, kernel: KernelMonitor, emit: Callable[[WatcherEvent], None]) -> Announcer:
    return Announcer(kernel, emit)


@pytest.fixture
def net() -> Iterator[Network]:
    network = Network("a", "c")
    yield network
    network.close()


@pytest.fixture
def node(net: Network) -> Iterator[ProbingNode]:
    it = ProbingNode(net, "a", make)
    yield it
    it.close()


def capture(net: Network, ethertype: int) -> socket.socket:
    with net.inside("c"):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ethertype))
        raw.bind(("eth0", ethertype))
    raw.setblocking(False)
    return raw


def frames(raw: socket.socket, wanted: Callable[[Any], bool]) -> list[Any]:
    found = []
    while True:
        try:
            packet = Ether(raw.recv(2048))
        except BlockingIOError:
            return found
        if wanted(packet):
            found.append(packet)


def test_gratuitous_arp_from_where_the_address_lives(net: Network, node: ProbingNode) -> None:
    vmac = "00:00:5e:00:01:33"
    net.ip("a", f"link add link eth0 name vrrp.51 address {vmac} type macvlan mode private\nlink set vrrp.51 up")
    net.ip("a", "addr add 10.77.0.100/24 dev eth0\naddr add 10.77.0.101/32 dev vrrp.51")
    node.until(lambda: {"10.77.0.100", "10.77.0.101"} <= {held.address for held in node.kernel.held()})
    raw = capture(net, 0x0806)
    for interface, address in (("eth0", "10.77.0.100"), ("vrrp.51", "10.77.0.101")):
        node.call(node.part.announce, Announce(interface, address, 3))
    seen: list[Any] = []

    def heard() -> bool:
        seen.extend(frames(raw, lambda p: ARP in p and p[ARP].psrc.startswith("10.77.0.10")))
        return len(seen) >= 6

    node.until(heard)
    assert {(p[ARP].psrc, p[ARP].pdst, p[ARP].hwsrc, p.src, p.dst, p[ARP].op) for p in seen} == {
        ("10.77.0.100", "10.77.0.100", net.mac("a"), net.mac("a"), "ff:ff:ff:ff:ff:ff", 1),
        ("10.77.0.101", "10.77.0.101", vmac, vmac, "ff:ff:ff:ff:ff:ff", 1),
    }
    node.until(lambda: node.part.next_deadline() is None)
    assert len(seen) == 6 and not node.events
    raw.close()


def test_the_neighbours_kernel_believes_it(net: Network, node: ProbingNode) -> None:
    net.ip("c", "neigh add 10.77.0.100 lladdr 02:00:00:00:00:99 dev eth0 nud stale")
    net.ip("a", "addr add 10.77.0.100/24 dev eth0")
    node.until(lambda: node.kernel.holds(LinkAddress("eth0", "10.77.0.100")))
    node.call(node.part.announce, Announce("eth0", "10.77.0.100"))

    def learnt() -> bool:
        return net.mac("a") in run("ip", "-n", net.namespace("c"), "neigh", "show", "10.77.0.100")

    node.until(learnt)


def test_unsolicited_advertisements(net: Network, node: ProbingNode) -> None:
    net.ip("a", "addr add fd00:77::100/64 dev eth0 nodad")
    node.until(lambda: node.kernel.holds(LinkAddress("eth0", "fd00:77::100")))
    raw = capture(net, 0x86DD)
    node.call(node.part.announce, Announce("eth0", "fd00:77::100", 2))
    seen: list[Any] = []

    def heard() -> bool:
        seen.extend(frames(raw, lambda p: ICMPv6ND_NA in p))
        return len(seen) >= 2

    node.until(heard)
    assert {(p[ICMPv6ND_NA].tgt, p[ICMPv6ND_NA].O, p.dst) for p in seen} == {("fd00:77::100", 1, "33:33:00:00:00:01")}
    raw.close()


def test_a_router_says_that_it_is_one(net: Network, node: ProbingNode) -> None:
    """Case H2: hosts drop their default route to a router that forgets the flag (RFC 4861 section 7.2.5)."""
    net.ip("a", "addr add fd00:77::100/64 dev eth0 nodad")
    at = LinkAddress("eth0", "fd00:77::100")
    node.until(lambda: node.kernel.holds(at))
    raw = capture(net, 0x86DD)
    for forwards in (True, False):
        net.sysctl("a", "net/ipv6/conf/eth0/forwarding", str(int(forwards)))
        node.until(lambda forwards=forwards: node.kernel.forwards_ipv6("eth0") is forwards)  # type: ignore[misc]
        node.call(node.part.announce, Announce("eth0", "fd00:77::100", 1))
        seen: list[Any] = []

        def heard(seen: list[Any] = seen) -> bool:
            seen.extend(frames(raw, lambda packet: ICMPv6ND_NA in packet and packet[ICMPv6ND_NA].tgt == "fd00:77::100"))
            return bool(seen)

        node.until(heard)
        assert [p[ICMPv6ND_NA].R for p in seen] == [int(forwards)]
    raw.close()


def test_forty_addresses_cost_the_loop_nothing(net: Network, node: ProbingNode) -> None:
    """Case T1: no socket is opened or closed for an announcement, so no turn waits for the kernel."""
    addresses = [f"10.77.0.{n}" for n in range(100, 140)]
    net.ip("a", "\n".join(f"addr add {address}/32 dev eth0" for address in addresses))
    node.until(lambda: all(node.kernel.holds(LinkAddress("eth0", address)) for address in addresses))
    for address in addresses:
        node.call(node.part.announce, Announce("eth0", address, 3))
    waited = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    for _ in range(1_000):
        if node.part.next_deadline() is None:
            break
        node.part.on_deadline(node.part.next_deadline())
    waited = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - waited
    assert not node.events and node.part.next_deadline() is None
    assert waited < 5, f"120 announcements waited {waited} times in the kernel"


def test_never_for_an_address_that_is_not_held(net: Network, node: ProbingNode) -> None:
    raw = capture(net, 0x0806)
    node.call(node.part.announce, Announce("eth0", "10.77.0.100"))
    node.until(lambda: [type(event) for event in node.events] == [CommandFailed])
    net.ip("a", "addr add 10.77.0.100/24 dev eth0")
    node.until(lambda: node.kernel.holds(LinkAddress("eth0", "10.77.0.100")))
    node.call(node.part.announce, Announce("eth0", "10.77.0.100", 20))
    net.ip("a", "addr del 10.77.0.100/24 dev eth0")
    node.until(lambda: len(node.events) == 2)
    assert node.part.next_deadline() is None, "given up as soon as it is gone"
    assert len(frames(raw, lambda p: ARP in p and p[ARP].psrc == "10.77.0.100")) < 20
    raw.close()
