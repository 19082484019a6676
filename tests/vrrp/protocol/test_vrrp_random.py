"""Random events on two or three nodes of one virtual router, with their adverts as bytes over links that fail in either direction.

Always: a node holds the addresses exactly while it is MASTER, says no advert while it is not, and priority 0 only when it leaves MASTER.
After everything is healed: one owner, and it stays. Beside that: no packet, however random, does anything but become an advert or raise
DecodeError.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given, settings
from hypothesis import strategies as st

from vrrp.protocol import events as ev
from vrrp.protocol.authentication_header import IPPROTO_AH, Authenticator
from vrrp.protocol.commands import AddAddresses, RemoveAddresses, SendAdvert
from vrrp.protocol.instance import State
from vrrp.protocol.node import InstanceEventHappened, NodeCommand, NodeParameters, NodeStalled, NodeStarted, NodeStopped, VrrpNode
from vrrp.protocol.packet import (
    DEFAULT_GROUP_IPV4,
    DEFAULT_GROUP_IPV6,
    Advert,
    AuthType,
    Datagram,
    DecodeError,
    Expectations,
    Family,
    IPAddress,
    build_ipv4_header,
    build_ipv6_header,
    encode_advert,
    parse_packet,
    receive_advert,
)
from vrrp.protocol.parameters import InstanceParameters

S = 1_000_000_000
MS = S // 1000
NAMES = "abc"
ADDRESS = {
    4: {n: IPv4Address(f"10.0.0.{i}") for i, n in enumerate(NAMES, 1)},
    6: {n: IPv6Address(f"fe80::{i}") for i, n in enumerate(NAMES, 1)},
}
VIP: dict[int, IPAddress] = {4: IPv4Address("10.0.0.100"), 6: IPv6Address("fe80::100")}
GROUP: dict[int, IPAddress] = {4: DEFAULT_GROUP_IPV4, 6: DEFAULT_GROUP_IPV6}
CALM_NS = 40 * S
"""Longer than everything that may still be running: yields, faults of refused addresses, preempt delays, master down intervals."""


class World:
    """Nodes, links and a clock."""

    def __init__(self, routers: dict[str, InstanceParameters]) -> None:
        self.routers = routers
        self.nodes = {name: self._node(name) for name in routers}
        self.holds = dict.fromkeys(routers, False)
        self.cut: set[tuple[str, str]] = set()
        self.now = 0
        self._flying: list[tuple[int, int, str, bytes, IPAddress]] = []
        self._count = itertools.count()
        for name in routers:
            self.happen(name, NodeStarted())

    def _node(self, name: str) -> VrrpNode:
        parameters = self.routers[name]
        return VrrpNode(NodeParameters((parameters,)), local_addresses={"V": ADDRESS[parameters.family][name]})

    def state(self, name: str) -> State:
        return self.nodes[name].instances["V"].state

    def happen(self, name: str, event: NodeStarted | NodeStopped | NodeStalled | ev.InstanceEvent) -> None:
        before = self.state(name)
        of_node = isinstance(event, NodeStarted | NodeStopped | NodeStalled)
        self._carry_out(name, before, self.nodes[name].handle(self.now, event if of_node else InstanceEventHappened("V", event)))

    def _carry_out(self, name: str, before: State, commands: list[NodeCommand]) -> None:
        after = self.state(name)
        sent = [command.advert for command in commands if isinstance(command, SendAdvert)]
        assert not sent or State.MASTER in (before, after), "an advert of a node that is not MASTER"
        assert all(a.priority for a in sent) or (before is State.MASTER and after is not State.MASTER), "priority 0 of one that stays"
        for command in commands:
            if isinstance(command, AddAddresses | RemoveAddresses):
                self.holds[name] = isinstance(command, AddAddresses)
        assert self.holds[name] == (after is State.MASTER)
        for advert in sent:
            self._send(name, advert)

    def _send(self, name: str, advert: Advert) -> None:
        source = ADDRESS[advert.family][name]
        payload = encode_advert(advert, source, GROUP[advert.family])
        for other in self.nodes:
            if other != name and (name, other) not in self.cut:
                at = self.now + 100_000 * (1 + NAMES.index(name))
                heapq.heappush(self._flying, (at, next(self._count), other, payload, source))

    def _arrive(self, name: str, payload: bytes, source: IPAddress) -> None:
        p = self.routers[name]
        expected = Expectations(
            p.version, p.family, p.vrid, p.interval_ns // (10 * MS), local_address=ADDRESS[p.family][name], group=GROUP[p.family]
        )
        advert = receive_advert(Datagram(source, GROUP[p.family], 255, payload), expected)
        self.happen(name, ev.AdvertReceived(source, advert))

    def run(self, for_ns: int) -> None:
        """Deliver and fire in the order of time; what arrives comes before what is due."""
        end = self.now + for_ns
        while True:
            due = min((d for n in self.nodes.values() if (d := n.next_deadline()) is not None), default=end + 1)
            at = min(due, self._flying[0][0] if self._flying else end + 1)
            if at > end:
                break
            self.now = at
            if self._flying and self._flying[0][0] == at:
                _, _, name, payload, source = heapq.heappop(self._flying)
                self._arrive(name, payload, source)
                continue
            for name, node in self.nodes.items():
                before = self.state(name)
                self._carry_out(name, before, node.on_deadline(at))
        self.now = end

    def heal(self) -> None:
        """All links, no faults, nobody yields, everybody runs."""
        self.cut.clear()
        for name in self.nodes:
            for cause in "xy":
                self.happen(name, ev.FaultCleared(cause))
            self.happen(name, ev.YieldCancelled())
            if self.state(name) is State.INIT:
                self.happen(name, NodeStarted())


@dataclass(frozen=True)
class Step:
    """After ``wait_ns`` something happens to ``name`` (and, for links, ``other``)."""

    wait_ns: int
    what: str
    name: str
    other: str
    number: int


STEPS = st.builds(
    Step,
    st.integers(0, 3 * S),
    st.sampled_from(["cut", "join", "fault", "clear", "priority", "yield", "stop", "start", "stall", "lost", "refused", "announce"]),
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.integers(1, 254),
)


def apply(world: World, step: Step) -> None:
    name = step.name if step.name in world.nodes else "a"
    match step.what:
        case "cut":
            world.cut.add((name, step.other))
        case "join":
            world.cut.discard((name, step.other))
        case "fault":
            world.happen(name, ev.FaultRaised("xy"[step.number % 2]))
        case "clear":
            world.happen(name, ev.FaultCleared("xy"[step.number % 2]))
        case "priority":
            world.happen(name, ev.PriorityChanged(step.number))
        case "yield":
            world.happen(name, ev.YieldRequested(world.now + step.number * S // 20))
        case "stop":
            world.happen(name, NodeStopped())
        case "start":
            world.happen(name, NodeStarted())
        case "stall":
            world.happen(name, NodeStalled(step.number * S // 20))
        case "lost":
            world.happen(name, ev.AddressLost(VIP[world.routers[name].family]))
        case "refused":
            world.happen(name, ev.AddressFailed("ENOBUFS"))
        case "announce":
            world.happen(name, ev.AnnounceRequested())


@st.composite
def routers(draw: st.DrawFn) -> dict[str, InstanceParameters]:
    family = draw(st.sampled_from(Family))
    version = 3 if family is Family.IPV6 else draw(st.sampled_from([2, 3]))
    interval_ns = S if version == 2 else draw(st.sampled_from([50 * MS, 250 * MS, S]))
    base = InstanceParameters("V", 51, family=family, version=version, interval_ns=interval_ns, addresses=(VIP[family],))
    found = {}
    for name in NAMES[: draw(st.integers(2, 3))]:
        changes = {
            "preempt": draw(st.booleans()),
            "preempt_delay_ns": draw(st.sampled_from([0, 0, 3 * S])),
            "garp_refresh_ns": draw(st.sampled_from([0, 2 * S])),
            "lower_prio_no_advert": draw(st.booleans()),
            "higher_prio_send_advert": draw(st.booleans()),
        }
        found[name] = replace(base, priority=draw(st.integers(1, 254)), **changes)
    return found


@given(routers(), st.lists(STEPS, max_size=30))
@settings(max_examples=100, deadline=None)
def test_after_any_troubles_a_healed_segment_has_one_owner_and_keeps_it(
    parameters: dict[str, InstanceParameters], steps: list[Step]
) -> None:
    world = World(parameters)
    for step in steps:
        world.run(step.wait_ns)
        apply(world, step)
    world.heal()
    world.run(CALM_NS)
    owners = [name for name, holds in world.holds.items() if holds]
    assert len(owners) == 1, {name: world.nodes[name].snapshot() for name in world.nodes}
    assert {world.state(name) for name in world.nodes if name not in owners} <= {State.BACKUP}
    priorities = {name: node.instances["V"].priority for name, node in world.nodes.items()}
    if all(p.preempt for p in parameters.values()):
        assert priorities[owners[0]] == max(priorities.values())
    world.run(CALM_NS)
    assert [name for name, holds in world.holds.items() if holds] == owners


# ---- any bytes ------------------------------------------------------------------------------------------------------

EXPECTED = [
    Expectations(2, Family.IPV4, 51, 100),
    Expectations(2, Family.IPV4, 51, 100, auth_type=AuthType.PASS, auth_data=b"secret\0\0"),
    Expectations(2, Family.IPV4, 51, 100, auth_type=AuthType.AH, auth_data=bytes(8)),
    Expectations(3, Family.IPV4, 51, 100),
    Expectations(3, Family.IPV4, 51, 100, group=None, peers=frozenset([IPv4Address("10.0.0.1")])),
    Expectations(3, Family.IPV6, 51, 100, group=DEFAULT_GROUP_IPV6),
]


def good_packet(expected: Expectations) -> bytes:
    """One that ``expected`` takes."""
    family = expected.family
    source, destination = ADDRESS[family]["a"], expected.group or IPv4Address("10.0.0.2")
    advert = Advert(expected.version, family, 51, 150, (VIP[family],), 100, expected.auth_type, expected.auth_data)
    if expected.version == 2 and not expected.auth_data:
        advert = replace(advert, auth_data=bytes(8))
    payload = encode_advert(advert, source, destination)
    if isinstance(source, IPv6Address):
        assert isinstance(destination, IPv6Address)
        return build_ipv6_header(source, destination, len(payload), hop_limit=255) + payload
    assert isinstance(destination, IPv4Address)
    if expected.auth_type is AuthType.AH:
        header = bytearray(build_ipv4_header(source, destination, 24 + len(payload), identification=1, ttl=255))
        header[9] = IPPROTO_AH
        return Authenticator(b"secret", unicast=False).seal(header, payload, 7)
    return build_ipv4_header(source, destination, len(payload), identification=1, ttl=255) + payload


def received(data: bytes, expected: Expectations) -> Advert | None:
    """As the daemon does it; None for DecodeError."""
    try:
        if expected.auth_type is AuthType.AH and len(data) > 9 and data[9] == IPPROTO_AH:
            datagram = Authenticator(b"secret", unicast=False).open(data)
        else:
            datagram = parse_packet(data)
        return receive_advert(datagram, expected)
    except DecodeError as error:
        assert error.reason.remedy
        return None


@given(st.sampled_from(EXPECTED))
def test_the_good_packet_is_good(expected: Expectations) -> None:
    assert received(good_packet(expected), expected) is not None


@given(st.sampled_from(EXPECTED), st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes_are_refused(expected: Expectations, data: bytes) -> None:
    assert received(data, expected) is None


@given(
    st.sampled_from(EXPECTED),
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 255)), max_size=4),
    st.integers(0, 40),
    st.binary(max_size=60),
)
@settings(max_examples=500)
def test_a_damaged_packet_is_refused_or_says_the_same_about_the_router(
    expected: Expectations, changes: list[tuple[int, int]], cut: int, more: bytes
) -> None:
    good = good_packet(expected)
    data = bytearray(good)
    for at, value in changes:
        if at < len(data):
            data[at] = value
    del data[len(data) - cut :]
    advert = received(bytes(data) + more, expected)
    if advert is not None:
        assert (advert.version, advert.vrid, advert.family) == (expected.version, 51, expected.family)
        assert advert.interval_cs > 0
