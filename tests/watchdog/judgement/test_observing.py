"""A pair seen from a third host: the core alone, in virtual time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from base.core import NS_PER_MS
from watchdog.config.model import GroupKey, GroupSettings, LinkAddress, PolicySettings
from watchdog.judgement import events as e
from watchdog.judgement.commands import Persist, ProbeOwners, RowKind
from watchdog.judgement.observing import NodeSeen, ObserverEvent, PairObserver, PairSeen

VIP = LinkAddress("eth0", "10.0.0.100")
GROUP = GroupSettings(GroupKey(51, 4), "VI_1", "eth0", (VIP,), 100, 2, 1_000)
IPS = {"a": "10.0.0.1", "b": "10.0.0.2"}
MACS = {"a": "02:00:00:00:00:0a", "b": "02:00:00:00:00:0b", "x": "02:00:00:00:00:99"}
POLICY = PolicySettings(settle_ms=1_000)


class World:
    """Who is alive, who answers for the address; ``run`` asks and answers as the segment would."""

    def __init__(self, macs: tuple[str, ...] = ()) -> None:
        nodes = (NodeSeen("a", (IPS["a"],), macs[:1]), NodeSeen("b", (IPS["b"],), macs[1:]))
        self.core = PairObserver(PairSeen("web", nodes, (GROUP,), (LinkAddress("eth0", "10.0.0.254"),)), POLICY, "observer", 0)
        self.now = 0
        self.alive = {"a", "b"}
        self.owners = {"a"}
        self.gateway = True
        self.adverts: set[str] = {"a"}
        self.queue: list[tuple[int, ObserverEvent]] = []
        self.pages: list[tuple[str, str]] = []
        self._advert_ns = 0

    def run(self, ms: int) -> None:
        end = self.now + ms * NS_PER_MS
        while self.now < end:
            self.now += 10 * NS_PER_MS
            if self.now >= self._advert_ns:
                self._advert_ns = self.now + 1_000 * NS_PER_MS
                for name in sorted(self.adverts):
                    self.tell(e.AdvertHeard("eth0", GROUP.key, 100, IPS.get(name, "10.0.0.66"), MACS[name], False, 1_000, (VIP.address,)))
            due = [event for at, event in self.queue if at <= self.now]
            self.queue = [(at, event) for at, event in self.queue if at > self.now]
            for event in due:
                self.tell(event)
            wake = self.core.next_deadline()
            if wake is not None and wake <= self.now:
                self.take(self.core.on_deadline(self.now))

    def tell(self, event: ObserverEvent) -> None:
        self.take(self.core.handle(self.now, event))

    def take(self, commands: list[object]) -> None:  # type: ignore[type-arg,unused-ignore]
        for command in commands:
            if isinstance(command, ProbeOwners):
                self.ask(command)
            elif isinstance(command, Persist):
                rows = [dict(row.fields) for row in command.rows if row.kind is RowKind.ALERT]
                self.pages += [(str(row["action"]), str(row["summary"])) for row in rows]

    def ask(self, probe: ProbeOwners) -> None:
        answering = [MACS[n] for n in sorted(self.alive) if IPS[n] == probe.address]
        if probe.address == VIP.address:
            answering = [MACS[n] for n in sorted(self.owners)]
        if probe.address == "10.0.0.254" and self.gateway:
            answering = ["02:00:00:00:00:fe"]
        for mac in answering:
            claim = e.OwnerClaimed("eth0", probe.address, mac, mac, probe.probe_id)
            self.queue.append((self.now + 10 * NS_PER_MS, claim))
        finished = e.ProbeFinished(probe.probe_id, "eth0", probe.address, probe.requests)
        self.queue.append((self.now + probe.window_ms * NS_PER_MS, finished))

    def verdict(self) -> tuple[str, str]:
        group = self.core.snapshot(self.now)["groups"]
        assert isinstance(group, list)
        assert isinstance(group[0], dict)
        return str(group[0]["verdict"]), str(group[0]["stage"])

    def pair(self) -> tuple[str, str]:
        pair = self.core.snapshot(self.now)["pair"]
        assert isinstance(pair, dict)
        return str(pair["verdict"]), str(pair["stage"])


def healthy(**options: tuple[str, ...]) -> World:
    world = World(**options)
    world.run(4_000)
    assert (world.verdict(), world.pair()) == (("HEALTHY", ""), ("HEALTHY", ""))
    assert world.pages == []
    return world


def test_a_split_is_confirmed_within_d_and_its_end_is_told() -> None:
    world = healthy()
    world.owners = world.adverts = {"a", "b"}
    world.run(2_400)
    assert world.verdict() == ("SPLIT_BRAIN", "confirmed")
    world.owners = world.adverts = {"b"}
    world.run(7_000)
    assert world.verdict() == ("HEALTHY", "")
    assert [action for action, _ in world.pages] == ["trigger", "resolve"]


def test_a_handover_is_no_split() -> None:
    world = healthy()
    world.owners, world.adverts = {"a", "b"}, {"b"}
    world.run(600)
    world.owners = {"b"}
    world.run(6_000)
    assert world.verdict() == ("HEALTHY", "")
    assert world.pages == []


@pytest.mark.parametrize(
    ("change", "scope", "wanted"),
    [
        (lambda w: (w.owners.clear(), w.adverts.clear()), "group", ("NO_OWNER", "confirmed")),
        (lambda w: w.owners.add("x"), "group", ("FOREIGN_OWNER", "confirmed")),
        (lambda w: w.alive.discard("b"), "pair", ("PATH_DEGRADED", "confirmed")),
        (lambda w: (w.alive.clear(), w.owners.clear(), w.adverts.clear()), "group", ("NO_OWNER", "confirmed")),
    ],
)
def test_what_else_can_be_wrong(change: Callable[[World], object], scope: str, wanted: tuple[str, str]) -> None:
    world = healthy()
    change(world)
    world.run(10_000)
    assert (world.verdict() if scope == "group" else world.pair()) == wanted
    assert [action for action, _ in world.pages].count("trigger") >= 1


def test_a_cable_of_our_own_is_not_the_pairs_death() -> None:
    world = healthy()
    world.alive, world.owners, world.adverts, world.gateway = set(), set(), set(), False
    world.run(10_000)
    assert world.verdict() == ("UNKNOWN", "confirmed")
    assert world.pair() == ("UNKNOWN", "confirmed")


def test_without_carrier_it_does_not_spin() -> None:
    world = healthy()
    world.tell(e.CarrierChanged("eth0", False))
    world.alive, world.owners, world.adverts, world.gateway = set(), set(), set(), False
    turns = 0
    for _ in range(3_000):
        wake = world.core.next_deadline()
        assert wake is not None
        if wake > world.now + 10_000 * NS_PER_MS:
            break
        world.now = max(world.now, wake)
        turns += 1
        world.take(world.core.on_deadline(world.now))
        if world.now > 20_000 * NS_PER_MS:
            break
    assert turns < 300


def test_nobody_owns_what_two_owned_a_moment_ago() -> None:
    world = healthy()
    world.owners = world.adverts = {"a", "b"}
    world.run(3_000)
    world.owners, world.adverts = set(), set()
    world.run(12_000)
    assert world.verdict() == ("NO_OWNER", "confirmed")
    assert [(action, words.split(": ")[1]) for action, words in world.pages] == [
        ("trigger", "SPLIT_BRAIN"),
        ("resolve", "SPLIT_BRAIN"),
        ("trigger", "NO_OWNER"),
    ]


def test_macs_given_by_hand_are_the_only_ones_believed() -> None:
    world = healthy(macs=(MACS["a"], MACS["b"]))
    world.tell(e.OwnerClaimed("eth0", IPS["b"], MACS["x"], MACS["x"], 10**6))
    world.owners = {"a", "x"}
    world.run(3_000)
    assert world.verdict() == ("FOREIGN_OWNER", "confirmed")


def test_after_a_stall_nothing_old_is_believed() -> None:
    world = healthy()
    world.now += 30_000 * NS_PER_MS
    world.queue.clear()
    world.tell(e.LoopStalled(30_000 * NS_PER_MS))
    assert world.verdict()[0] == "UNKNOWN"
    world.run(5_000)
    assert world.verdict() == ("HEALTHY", "")
    assert world.pages == []
