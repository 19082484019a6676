"""Any events in any order: the core never raises, and the promises that one core can keep alone hold."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from base.core import NS_PER_MS
from base.journal import canonical_line
from tests.watchdog.judgement.lab import GROUP, IPS, KEY, MACS, VIP, make_settings
from watchdog.config.model import GroupKey, GroupSettings, LinkAddress, Mode
from watchdog.frames.heartbeat import GroupState
from watchdog.judgement import commands as c
from watchdog.judgement import events as e
from watchdog.judgement.watcher import WatcherCore

OTHER = GroupKey(52, 4)
GROUPS = (
    GroupSettings(GROUP, "VI_1", "eth0", (LinkAddress("eth0", VIP),), 150, 2, 1_000),
    GroupSettings(OTHER, "VI_2", "eth0", (LinkAddress("eth0", "10.0.0.101"), LinkAddress("eth0", "10.0.0.102")), 100, 3, 100),
)
ADDRESSES = [VIP, "10.0.0.101", "10.0.0.102", IPS["a"], IPS["b"], "10.0.0.254", "nonsense"]
KEYS = [GROUP, OTHER, GroupKey(99, 6)]
ALL_MACS = [*MACS.values(), "02:ff:ff:ff:ff:01", "00:00:5e:00:01:33", ""]
some = st.sampled_from
small = st.integers(0, 5)

EVENTS = st.one_of(
    st.builds(e.BytesReceived, some(["eth1", "tty", "?"]), st.binary(max_size=80)),
    st.builds(e.PathChanged, some(["eth1", "tty", "?"]), st.booleans()),
    st.builds(
        e.AdvertHeard,
        some(["eth0", "eth9"]),
        some(KEYS),
        some([0, 1, 100, 150, 255]),
        some([*IPS.values(), "10.0.0.77"]),
        some(ALL_MACS),
        st.booleans(),
        some([0, 10, 1_000, 40_950]),
        some([(), (VIP,)]),
        some(["", "wrong password"]),
    ),
    st.builds(e.AddressChanged, some(["eth0", "eth9"]), some(ADDRESSES), st.booleans()),
    st.builds(e.AddressesListed, some([(), (e.HeldAddress("eth0", VIP),), (e.HeldAddress("eth0", "10.0.0.101"),)])),
    st.builds(e.OwnerClaimed, some(["eth0"]), some(ADDRESSES), some(ALL_MACS), some(ALL_MACS), some([None, 1, 2, 3, 999])),
    st.builds(e.ProbeFinished, st.integers(0, 40), some(["eth0"]), some(ADDRESSES), small, some(["", "no carrier"])),
    st.builds(e.ReferenceAnswered, some(["gateway", "?"])),
    st.builds(e.CarrierChanged, some(["eth0", "eth1"]), st.booleans()),
    st.builds(e.LocalDaemonChanged, some(list(e.DaemonState))),
    st.builds(e.GroupStateReported, some(KEYS), some(list(GroupState)), some([0, 100, 255])),
    st.builds(e.LoopStalled, some([1, 400 * NS_PER_MS, 10_000 * NS_PER_MS])),
    st.builds(e.Persisted, small),
    st.builds(e.RecorderChanged, st.booleans()),
    st.builds(e.FenceRunnerChanged, st.booleans()),
    st.builds(
        e.FenceReported,
        some(["F-a-1-1", "F-a-1-2", "F-old"]),
        some([1, 2]),
        some(["pdu1-b", "pdu2-b"]),
        some(["off", "status", "on"]),
        some(list(e.DeviceOutcome)),
        some(list(e.PowerState)),
        some(["", "outlet-b"]),
        attempt=small,
    ),
    st.builds(e.CommandFailed, some(["SendFrame", "SetGate"]), some(["EPERM"])),
    st.builds(e.OperatorActed, some(list(e.OperatorAction)), some(["root"]), some(["", "a", "b", "51/4", "I1"]), some([0, 1_000])),
    st.builds(e.GroupsChanged, some([GROUPS, GROUPS[:1], ()])),
    st.just(e.Stopping()),
)
STEPS = st.lists(st.tuples(some([0, 1, 150, 900, 5_000]), EVENTS), max_size=60)


def started(**facts: object) -> e.Started:
    base = e.Started(10**18, b"b" * 8, b"n" * 8, 1, GROUPS, (e.HeldAddress("eth0", VIP),), macs=(MACS["a"],))
    return replace(base, **facts)  # type: ignore[arg-type]


class Player:
    """Feeds one core and keeps what it answered, firing its deadlines in between."""

    def __init__(self, mode: Mode, **facts: object) -> None:
        self.core = WatcherCore(make_settings("a", mode, levels=2), key=KEY)
        self.now = 10**9
        self.out: list[tuple[int, c.WatcherCommand]] = []
        self.lines: list[str] = []
        self.durable = 0
        self.feed(started(**facts))

    def feed(self, event: e.WatcherEvent) -> None:
        if isinstance(event, e.Persisted):
            self.durable = max(self.durable, event.barrier)
        self.take(self.core.handle(self.now, event))

    def take(self, commands: list[c.WatcherCommand]) -> None:
        self.out += [(self.now, command) for command in commands]
        self.lines += [f"{self.now} {canonical_line(command)}" for command in commands]
        for command in commands:
            self.check(command)

    def check(self, command: c.WatcherCommand) -> None:
        state = self.core.state
        if isinstance(command, c.RunFence) and command.action == "off":
            # Promise 2: an intent of this order and level was persisted behind a barrier, and that barrier came back.
            intents = [
                x.barrier
                for _, x in self.out
                if isinstance(x, c.Persist)
                and x.barrier is not None
                and any(dict(r.fields).get("order_id") == command.order_id and dict(r.fields).get("level") == command.level for r in x.rows)
            ]
            assert intents and min(b for b in intents if b is not None) <= self.durable
        if isinstance(command, c.RemoveAddress | c.RunFence | c.SetGate) and state.mode is Mode.OBSERVE:
            manual = isinstance(command, c.RunFence)
            assert manual or (isinstance(command, c.SetGate) and command.state is c.GateState.OPEN)
        if isinstance(command, c.RemoveAddress):
            assert command.address in (VIP, "10.0.0.101", "10.0.0.102"), "only VIPs are ever removed"
        if isinstance(command, c.SendFrame):
            assert len(command.data) <= (64 if command.path == "tty" else 1_400)
        if isinstance(command, c.ProbeOwners):
            assert command.requests > 0 and command.window_ms > 0

    def advance(self, ms: int) -> None:
        end = self.now + ms * NS_PER_MS
        for _ in range(5_000):
            due = self.core.next_deadline()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            self.take(self.core.on_deadline(self.now))
            after = self.core.next_deadline()
            assert after is None or after > due or after > self.now - NS_PER_MS, "a deadline that is due must be consumed"
        else:
            raise AssertionError("the core fires deadlines without end")
        self.now = end


def play(mode: Mode, steps: list[tuple[int, e.WatcherEvent]], **facts: object) -> Player:
    player = Player(mode, **facts)
    for ms, event in steps:
        player.advance(ms)
        player.feed(event)
    player.advance(8_000)
    json.dumps(player.core.snapshot())
    return player


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(some(list(Mode)), STEPS, st.booleans(), st.booleans())
def test_any_events_in_any_order(mode: Mode, steps: list[tuple[int, e.WatcherEvent]], quarantined: bool, open_fence: bool) -> None:
    fences = (e.OpenFence("F-old", "b", 1, 10**18),) if open_fence else ()
    play(mode, steps, quarantined=quarantined, open_fences=fences)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(some(list(Mode)), STEPS)
def test_the_same_events_give_the_same_commands(mode: Mode, steps: list[tuple[int, e.WatcherEvent]]) -> None:
    assert play(mode, steps).lines == play(mode, steps).lines


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_a_quarantined_node_never_fences_nor_opens_its_gate(steps: list[tuple[int, e.WatcherEvent]]) -> None:
    people = (e.OperatorAction.CLEAR_QUARANTINE, e.OperatorAction.FENCE_OFF, e.OperatorAction.FENCE_ON)
    machine_only = [(ms, ev) for ms, ev in steps if not (isinstance(ev, e.OperatorActed) and ev.action in people)]
    player = play(Mode.RESOLVE, machine_only, quarantined=True)
    assert not [x for _, x in player.out if isinstance(x, c.RunFence) and x.action == "off"]
    assert all(x.state is c.GateState.HELD for _, x in player.out if isinstance(x, c.SetGate))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_without_frames_of_the_peer_strict_grants_nothing(steps: list[tuple[int, e.WatcherEvent]]) -> None:
    """No authenticated release can be made up by adverts, claims or reports of devices that were not asked."""
    people = (e.OperatorAction.CONFIRM_OFF, e.OperatorAction.FENCE_OFF)
    machine_only = [(ms, ev) for ms, ev in steps if not (isinstance(ev, e.OperatorActed) and ev.action in people)]
    player = play(Mode.STRICT, machine_only, held=())
    assert all(x.state is c.GateState.HELD for _, x in player.out if isinstance(x, c.SetGate))


def test_before_started_nothing_happens() -> None:
    core = WatcherCore(make_settings("a"), key=KEY)
    assert core.handle(0, e.Stopping()) == []
    assert core.on_deadline(0) == []
    assert core.next_deadline() is None
    assert core.snapshot() == {"started": False, "self": {"name": "a"}, "cluster": "lab"}


def test_started_twice_is_ignored() -> None:
    player = Player(Mode.RESOLVE)
    assert player.core.handle(player.now + 1, started(incarnation=9)) == []
