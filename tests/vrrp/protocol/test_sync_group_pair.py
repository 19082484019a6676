"""Two nodes with a sync group through random losses, faults, restarts and reloads: when all is well again, exactly one owns everything.

Pure cores on two segments of a virtual network; nothing here runs in real time. keepalived can end with both nodes BACKUP (#2190).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vrrp.protocol.commands import SendAdvert
from vrrp.protocol.events import AdvertReceived, FaultCleared, FaultRaised
from vrrp.protocol.node import (
    InstanceEventHappened,
    NodeCommand,
    NodeEvent,
    NodeParameters,
    NodeReconfigured,
    NodeStalled,
    NodeStarted,
    NodeStopped,
    VrrpNode,
)
from vrrp.protocol.packet import Advert
from vrrp.protocol.parameters import InstanceParameters
from vrrp.protocol.states import State
from vrrp.protocol.sync_group import GroupParameters

S = 1_000_000_000
LATENCY_NS = 200_000
MEMBERS = ("east", "west", "north")
SETTLE_S = 60


def local(node: int, member: int, swapped: int) -> IPv4Address:
    """Node 1 has the higher address, except on the segments in ``swapped`` (a bit each)."""
    high = bool(node) != bool(swapped >> member & 1)
    return IPv4Address(f"10.{member}.0.{2 if high else 1}")


@dataclass
class World:
    """Two cores and what is under way between them."""

    priorities: tuple[tuple[int, ...], tuple[int, ...]]
    swapped: int = 0
    preempt: bool = True
    version: int = 3
    now_ns: int = 0
    cut: set[tuple[int, int]] = field(default_factory=set)
    """(sending node, member) whose adverts are lost."""
    nodes: list[VrrpNode] = field(default_factory=list)
    wire: list[tuple[int, int, int, str, IPv4Address, Advert]] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        self.nodes = [self._fresh(node) for node in (0, 1)]

    def parameters(self, node: int) -> NodeParameters:
        instances = tuple(
            InstanceParameters(
                name,
                vrid=10 + at,
                priority=self.priorities[node][at],
                version=self.version,
                preempt=self.preempt,
                addresses=(IPv4Address(f"10.{at}.0.100"),),
                in_sync_group=True,
            )
            for at, name in enumerate(MEMBERS[: len(self.priorities[0])])
        )
        return NodeParameters(instances, (GroupParameters("g", tuple(i.name for i in instances)),))

    def sources(self, node: int) -> dict[str, IPv4Address | None]:
        return {name: local(node, at, self.swapped) for at, name in enumerate(MEMBERS)}

    def _fresh(self, node: int) -> VrrpNode:
        return VrrpNode(self.parameters(node), local_addresses=dict(self.sources(node)))

    def restart(self, node: int) -> None:
        """kill -9 and start again."""
        self.nodes[node] = self._fresh(node)
        self.tell(node, NodeStarted())

    def tell(self, node: int, event: NodeEvent) -> None:
        self._execute(node, self.nodes[node].handle(self.now_ns, event))

    def _execute(self, node: int, commands: list[NodeCommand]) -> None:
        for command in commands:
            if isinstance(command, SendAdvert):
                member = MEMBERS.index(command.instance)
                if (node, member) not in self.cut:
                    self.count += 1
                    item = (
                        self.now_ns + LATENCY_NS,
                        self.count,
                        1 - node,
                        command.instance,
                        local(node, member, self.swapped),
                        command.advert,
                    )
                    heapq.heappush(self.wire, item)

    def run(self, for_ns: int) -> None:
        """Let time pass; a node reads what has arrived before its deadlines fire."""
        end_ns = self.now_ns + for_ns
        while True:
            due = [(node.next_deadline(), at) for at, node in enumerate(self.nodes)]
            timers = [(ns, at) for ns, at in due if ns is not None]
            arrival_ns = self.wire[0][0] if self.wire else 1 << 62
            timer_ns, at = min(timers, default=(1 << 62, 0))
            if min(arrival_ns, timer_ns) > end_ns:
                self.now_ns = end_ns
                return
            if arrival_ns <= timer_ns:
                self.now_ns, _, to, name, source, advert = heapq.heappop(self.wire)
                self.tell(to, InstanceEventHappened(name, AdvertReceived(source, advert)))
            else:
                self.now_ns = max(self.now_ns, timer_ns)
                self._execute(at, self.nodes[at].on_deadline(self.now_ns))

    def owners(self) -> list[list[bool]]:
        return [[i.state is State.MASTER for i in node.instances.values()] for node in self.nodes]

    def settled(self) -> bool:
        """One node owns everything, the other nothing."""
        return sorted((all(o), any(o)) for o in self.owners()) == [(False, False), (True, True)]


def converges(world: World) -> None:
    """All is well for a minute: then one owner, and he stays."""
    world.cut.clear()
    for node in (0, 1):
        for name, instance in world.nodes[node].instances.items():
            for cause in [c for c in instance.faults if c.startswith("link")]:
                world.tell(node, InstanceEventHappened(name, FaultCleared(cause)))
    world.run(SETTLE_S * S)
    assert world.settled(), [n.snapshot() for n in world.nodes]
    before = world.owners()
    for _ in range(40):
        world.run(S // 2)
        assert world.owners() == before, "the owner stays"


priorities = st.integers(2, 3).flatmap(
    lambda members: st.tuples(*[st.tuples(*[st.sampled_from([50, 100, 100, 101, 150, 254]) for _ in range(members)]) for _ in (0, 1)])
)
steps = st.lists(
    st.tuples(
        st.sampled_from(["cut", "mend", "fault", "clear", "restart", "stall", "reload", "stop", "wait"]),
        st.integers(0, 1),
        st.integers(0, 2),
        st.integers(0, 6_000),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(priorities, st.integers(0, 7), st.booleans(), st.sampled_from([2, 3]), st.integers(0, 1000), steps)
def test_in_the_end_one_node_owns_everything(
    given_priorities: tuple[tuple[int, ...], tuple[int, ...]],
    swapped: int,
    preempt: bool,
    version: int,
    offset_ms: int,
    happened: list[tuple[str, int, int, int]],
) -> None:
    world = World(given_priorities, swapped, preempt, version)
    world.tell(0, NodeStarted())
    world.run(offset_ms * 1_000_000)
    world.tell(1, NodeStarted())
    for what, node, member, wait_ms in happened:
        member %= len(given_priorities[0])
        name = MEMBERS[member]
        match what:
            case "cut":
                world.cut.add((node, member))
            case "mend":
                world.cut.discard((node, member))
            case "fault":
                world.tell(node, InstanceEventHappened(name, FaultRaised("link down")))
            case "clear":
                world.tell(node, InstanceEventHappened(name, FaultCleared("link down")))
            case "restart":
                world.restart(node)
            case "stall":
                world.tell(node, NodeStalled(wait_ms * 1_000_000))
            case "stop":
                world.tell(node, NodeStopped())
                world.restart(node)
            case "reload":
                other = tuple(replace(p, priority=max(1, 255 - p.priority)) for p in world.parameters(node).instances)
                world.tell(node, NodeReconfigured(replace(world.parameters(node), instances=other), {}, dict(world.sources(node))))
                world.tell(node, NodeReconfigured(world.parameters(node), {}, dict(world.sources(node))))
        world.run(wait_ms * 1_000_000)
        for one in world.nodes:
            states = {i.state for i in one.instances.values()}
            assert not {State.MASTER, State.FAULT} <= states and not (State.MASTER in states and len(states) > 1), "all members or none"
    converges(world)


def test_members_with_crossed_priorities_that_start_at_the_same_instant() -> None:
    """Each node wins on one segment: both become MASTER, each loses one member and goes back, both at the same time, again and again."""
    for swapped in range(4):
        world = World(((150, 100), (100, 150)), swapped)
        world.tell(0, NodeStarted())
        world.tell(1, NodeStarted())
        converges(world)
