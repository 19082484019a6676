"""All instances of a daemon together: trackers, sync groups, the heap of deadlines, reload."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from base.journal import Journal
from vrrp.protocol import events as ev
from vrrp.protocol.commands import InstanceCommand, RemoveAddresses, RunNotify, SendAdvert
from vrrp.protocol.node import (
    InstanceEventHappened,
    NodeParameters,
    NodeReconfigured,
    NodeStarted,
    NodeStopped,
    RunGroupNotify,
    ScriptFinished,
    TrackChanged,
    VrrpNode,
)
from vrrp.protocol.packet import Advert, Family
from vrrp.protocol.parameters import InstanceParameters
from vrrp.protocol.states import State
from vrrp.protocol.sync_group import GroupParameters
from vrrp.protocol.trackers import ScriptParameters, TrackKind, TrackReference

S = 1_000_000_000
OURS, PEER = IPv4Address("10.0.0.5"), IPv4Address("10.0.0.6")


def instance(name: str, vrid: int, **changes: Any) -> InstanceParameters:
    return replace(InstanceParameters(name, vrid, addresses=(IPv4Address(f"10.0.1.{vrid}"),)), **changes)


def group_of_two(**changes: Any) -> NodeParameters:
    members = (instance("A", 1, in_sync_group=True, **changes), instance("B", 2, in_sync_group=True, **changes))
    return NodeParameters(members, (GroupParameters("G", ("A", "B")),))


def node_of(parameters: NodeParameters, *, at: int = 0) -> VrrpNode:
    node = VrrpNode(parameters, local_addresses={p.name: OURS for p in parameters.instances})
    node.handle(at, NodeStarted())
    return node


def run_until(node: VrrpNode, until: int) -> list[Any]:
    commands: list[Any] = []
    while (due := node.next_deadline()) is not None and due <= until:
        commands += node.on_deadline(due)
    return commands


def states(node: VrrpNode) -> dict[str, State]:
    return {name: i.state for name, i in node.instances.items()}


def heard(name: str, priority: int) -> InstanceEventHappened:
    advert = Advert(2, Family.IPV4, 1, priority, (IPv4Address("10.0.1.1"), IPv4Address("10.0.1.2")), 100)
    return InstanceEventHappened(name, ev.AdvertReceived(PEER, advert))


def group_notifies(commands: list[Any]) -> list[str]:
    return [c.state for c in commands if isinstance(c, RunGroupNotify)]


class TestHeap:
    def test_a_deadline_that_moved_later_without_notice_does_not_fire_early(self) -> None:
        node = node_of(NodeParameters((instance("A", 1),)))
        node.handle(0, heard("A", 150))
        for second in range(1, 30):
            assert node.instances["A"].repeat_accepted(second * S)
            assert node.on_deadline(second * S) == []
        assert run_until(node, 29 * S + 3_609_375_000 - 1) == []
        assert states(node)["A"] is State.BACKUP
        run_until(node, 29 * S + 3_609_375_000)
        assert states(node)["A"] is State.MASTER

    def test_next_takeover_is_exact(self) -> None:
        node = node_of(NodeParameters((instance("A", 1), instance("B", 2))))
        node.handle(0, heard("A", 150))
        assert node.instances["A"].repeat_accepted(2 * S)
        assert node.next_takeover() == 3_609_375_000  # B
        run_until(node, 4 * S)
        assert node.next_takeover() is None, "the next deadline is an advert of the MASTER B"

    @given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 50, 150]), st.integers(0, S)), max_size=60))
    @settings(max_examples=100, deadline=None)
    def test_the_heap_never_forgets_an_instance(self, steps: list[tuple[int, int, int]]) -> None:
        node = node_of(NodeParameters(tuple(instance(n, v) for v, n in enumerate("ABCD", 1))))
        now = 0
        for which, priority, wait in steps:
            now += wait
            run_until(node, now)
            name = "ABCD"[which]
            if not (priority == 150 and node.instances[name].repeat_accepted(now)):
                node.handle(now, heard(name, priority))
            earliest = min(i.deadline_ns for i in node.instances.values() if i.deadline_ns is not None)
            due = node.next_deadline()
            assert due is not None and due <= earliest


class TestTracking:
    PARAMETERS = NodeParameters(
        (instance("A", 1),),
        scripts=(ScriptParameters("s"),),
        tracks={"A": (TrackReference(TrackKind.SCRIPT, "s"), TrackReference(TrackKind.INTERFACE, "eth1", -30))},
    )

    def test_the_start_waits_for_an_unweighted_script(self) -> None:
        node = node_of(self.PARAMETERS)
        assert states(node) == {"A": State.INIT}
        node.handle(S, ScriptFinished("s", True))
        assert states(node) == {"A": State.BACKUP}

    def test_a_failed_script_starts_in_fault(self) -> None:
        node = node_of(self.PARAMETERS)
        node.handle(S, ScriptFinished("s", False))
        assert states(node) == {"A": State.FAULT}
        assert list(node.instances["A"].faults) == ["script s"]
        node.handle(2 * S, ScriptFinished("s", True))
        assert states(node) == {"A": State.BACKUP}

    def test_weight_of_an_interface(self) -> None:
        node = node_of(self.PARAMETERS)
        node.handle(S, ScriptFinished("s", True))
        node.handle(S, TrackChanged(TrackKind.INTERFACE, "eth1", 0))
        assert node.instances["A"].priority == 70
        node.handle(S, TrackChanged(TrackKind.INTERFACE, "eth1", 1))
        assert node.instances["A"].priority == 100

    def test_a_reload_keeps_what_was_learned(self) -> None:
        node = node_of(self.PARAMETERS)
        node.handle(S, ScriptFinished("s", True))
        node.handle(S, TrackChanged(TrackKind.INTERFACE, "eth1", 0))
        node.handle(2 * S, NodeReconfigured(replace(self.PARAMETERS, instances=(instance("A", 1, priority=200),))))
        assert (states(node), node.instances["A"].priority) == ({"A": State.BACKUP}, 170)


class TestSyncGroup:
    def test_waits_until_every_member_wants_to_be_master(self) -> None:
        node = node_of(group_of_two())
        node.handle(3 * S, heard("B", 150))
        run_until(node, 6 * S)
        assert states(node) == {"A": State.BACKUP, "B": State.BACKUP}
        commands = run_until(node, 12 * S)
        assert states(node) == {"A": State.MASTER, "B": State.MASTER}
        assert group_notifies(commands) == ["MASTER"]

    def test_one_that_loses_takes_the_others_along_without_priority_zero(self) -> None:
        node = node_of(group_of_two())
        run_until(node, 5 * S)
        zeroes = node.instances["B"].counters.priority_zero_sent
        commands = node.handle(6 * S, heard("A", 150))
        assert states(node) == {"A": State.BACKUP, "B": State.BACKUP}
        assert node.instances["B"].counters.priority_zero_sent == zeroes
        assert group_notifies(commands) == ["BACKUP"]

    def test_fault_of_one_is_a_fault_of_all_until_all_are_clean(self) -> None:
        node = node_of(group_of_two())
        run_until(node, 5 * S)
        for name in ("A", "B"):
            node.handle(6 * S, InstanceEventHappened(name, ev.FaultRaised("x")))
        assert set(states(node).values()) == {State.FAULT}
        node.handle(7 * S, InstanceEventHappened("A", ev.FaultCleared("x")))
        assert set(states(node).values()) == {State.FAULT}
        node.handle(8 * S, InstanceEventHappened("B", ev.FaultCleared("x")))
        assert set(states(node).values()) == {State.BACKUP}

    def test_both_nodes_do_not_wait_for_each_other(self) -> None:
        """keepalived #2190: two groups, each hearing one member of the other, both stuck in BACKUP."""
        node = node_of(group_of_two())
        for second in range(1, 4):
            node.handle(second * S, heard("A", 150))
        run_until(node, 20 * S)
        assert set(states(node).values()) == {State.MASTER}

    def test_stop_says_priority_zero_for_each(self) -> None:
        node = node_of(group_of_two())
        run_until(node, 5 * S)
        commands = node.handle(6 * S, NodeStopped())
        assert [c.state for c in commands if isinstance(c, RunNotify)] == ["STOP", "STOP"]
        assert group_notifies(commands) == ["STOP"]
        assert [i.counters.priority_zero_sent for i in node.instances.values()] == [1, 1]
        assert run_until(node, 60 * S) == []

    @given(st.lists(st.tuples(st.integers(0, 2 * S), st.sampled_from("AB"), st.integers(0, 5)), max_size=60))
    @settings(max_examples=150, deadline=None)
    def test_members_are_never_apart(self, steps: list[tuple[int, str, int]]) -> None:
        node = node_of(group_of_two())
        now = 0
        happenings: list[ev.InstanceEvent] = [
            ev.FaultRaised("x"),
            ev.FaultCleared("x"),
            ev.YieldRequested(now + 5 * S),
            ev.PriorityChanged(90),
        ]
        for wait, name, what in steps:
            until = now + wait
            run_until(node, until)
            now = until
            if what < len(happenings):
                node.handle(now, InstanceEventHappened(name, happenings[what]))
            else:
                node.handle(now, heard(name, 0 if what == 4 else 150))
            masters = [n for n, s in states(node).items() if s is State.MASTER]
            assert len(masters) in (0, 2)


class TestReload:
    def test_a_new_instance_starts_and_a_removed_one_stops(self) -> None:
        node = node_of(NodeParameters((instance("A", 1),), stop_words={"A": "DELETED"}))
        run_until(node, 5 * S)
        after = NodeParameters((instance("B", 2),))
        commands: list[InstanceCommand | RunGroupNotify] = list(node.handle(6 * S, NodeReconfigured(after, {}, {"B": OURS})))
        assert [c.state for c in commands if isinstance(c, RunNotify)] == ["DELETED", "BACKUP"]
        assert states(node) == {"B": State.BACKUP}
        run_until(node, 12 * S)
        assert states(node) == {"B": State.MASTER}

    def test_a_renamed_instance_stays_what_it_is(self) -> None:
        node = node_of(NodeParameters((instance("A", 1),)))
        run_until(node, 5 * S)
        commands = node.handle(6 * S, NodeReconfigured(NodeParameters((instance("Z", 1),)), {"A": "Z"}))
        assert not [c for c in commands if isinstance(c, RunNotify)]
        assert states(node) == {"Z": State.MASTER}
        assert {c.instance for c in run_until(node, 7 * S)} == {"Z"}


@given(st.lists(st.tuples(st.integers(0, 2 * S), st.sampled_from("AB"), st.sampled_from([0, 50, 100, 150])), max_size=40))
@settings(max_examples=100, deadline=None)
def test_a_journal_replays_to_the_same_commands(steps: list[tuple[int, str, int]]) -> None:
    journal, recorded, inputs = Journal(), node_of(group_of_two(garp_refresh_ns=S)), []
    now = 0
    for wait, name, priority in steps:
        until = now + wait
        while (due := recorded.next_deadline()) is not None and due <= until:
            inputs.append((due, None))
            journal.note(due, None, recorded.on_deadline(due))
        now = until
        event = heard(name, priority)
        inputs.append((now, event))
        journal.note(now, event, recorded.handle(now, event))
    replayed, fresh = Journal(), node_of(group_of_two(garp_refresh_ns=S))
    for at, event_or_none in inputs:
        again = fresh.on_deadline(at) if event_or_none is None else fresh.handle(at, event_or_none)
        replayed.note(at, event_or_none, again)
    assert replayed.lines() == journal.lines()
    assert fresh.snapshot() == recorded.snapshot()


def group_of(*members: str, outside: tuple[str, ...] = ()) -> NodeParameters:
    names = sorted({*members, *outside})
    made = tuple(instance(name, 1 + "abc".index(name), in_sync_group=name in members) for name in names)
    return NodeParameters(made, (GroupParameters("g", members),))


class TestMembersOfAGroupByReload:
    """keepalived #2715: a member that joins or leaves moves nobody."""

    def test_a_newcomer_joins_the_masters_when_nobody_is_master_of_it(self) -> None:
        node = node_of(group_of("a", "b"))
        run_until(node, 10 * S)
        assert states(node) == {"a": State.MASTER, "b": State.MASTER}
        commands = node.handle(10 * S, NodeReconfigured(group_of("a", "b", "c")))
        assert not [c for c in commands if isinstance(c, RemoveAddresses) and c.instance != "c"]
        done = run_until(node, 20 * S)
        assert states(node) == dict.fromkeys("abc", State.MASTER)
        assert not [c for c in done if isinstance(c, RemoveAddresses)]

    def test_the_group_follows_a_newcomer_that_has_a_master_elsewhere(self) -> None:
        node = node_of(group_of("a", "b"))
        run_until(node, 10 * S)
        node.handle(10 * S, NodeReconfigured(group_of("a", "b", "c")))
        stronger = Advert(2, Family.IPV4, 3, 200, (IPv4Address("10.0.1.3"),), 100)
        node.handle(11 * S, InstanceEventHappened("c", ev.AdvertReceived(IPv4Address("10.0.0.9"), stronger)))
        assert states(node) == dict.fromkeys("abc", State.BACKUP)

    def test_one_that_leaves_moves_nobody_and_is_free_of_the_others_faults(self) -> None:
        node = node_of(group_of("a", "b", "c"))
        run_until(node, 10 * S)
        node.handle(10 * S, NodeReconfigured(group_of("a", "b", outside=("c",))))
        assert states(node) == dict.fromkeys("abc", State.MASTER)
        node.handle(11 * S, NodeReconfigured(group_of("a", "b", "c")))
        node.handle(12 * S, InstanceEventHappened("a", ev.FaultRaised("no interface eth0")))
        assert states(node) == dict.fromkeys("abc", State.FAULT)
        node.handle(13 * S, NodeReconfigured(group_of("a", "b", outside=("c",))))
        assert states(node) == {"a": State.FAULT, "b": State.FAULT, "c": State.BACKUP}


class TestNamesThatChangePlaces:
    def test_both_keep_their_state(self) -> None:
        one, two = instance("a", 1), instance("b", 2)
        node = node_of(NodeParameters((one, two)))
        run_until(node, 10 * S)
        node.handle(10 * S, InstanceEventHappened("b", ev.FaultRaised("no interface eth0")))
        swapped = NodeParameters((replace(two, name="a"), replace(one, name="b")))
        commands = node.handle(11 * S, NodeReconfigured(swapped, {"a": "b", "b": "a"}))
        assert states(node) == {"a": State.FAULT, "b": State.MASTER}
        assert not [c for c in commands if isinstance(c, SendAdvert | RemoveAddresses)]
        sent = [c for c in run_until(node, 13 * S) if isinstance(c, SendAdvert)]
        assert {(c.instance, c.advert.vrid) for c in sent} == {("b", 1)}
