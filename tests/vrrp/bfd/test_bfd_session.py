"""The session core alone and two of them over a link that loses packets, in virtual time."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base.core import NS_PER_MS, NS_PER_S, NS_PER_US
from vrrp.bfd.packet import ControlPacket, Diagnostic, SessionState
from vrrp.bfd.session import (
    AdministrativelyDisabled,
    AdministrativelyEnabled,
    BfdSession,
    PacketReceived,
    ReportState,
    SendPacket,
    SessionCommand,
    SessionEvent,
    SessionSettings,
    SettingsChanged,
    Started,
)

ADMIN_DOWN, DOWN, INIT, UP = SessionState
FAST = SessionSettings("fast", 10 * NS_PER_MS, 10 * NS_PER_MS, NS_PER_S, 3)
SLOW = SessionSettings("slow", 300 * NS_PER_MS, 200 * NS_PER_MS, 2 * NS_PER_S, 5)


def session(settings: SessionSettings = FAST, *, started: bool = True, seed: int = 1) -> BfdSession:
    made = BfdSession(settings, 100 + seed, random.Random(seed).random)
    if started:
        made.handle(0, Started())
    return made


def heard(state: SessionState, **fields: object) -> PacketReceived:
    basis = ControlPacket(state, 77, 101, 10_000, 10_000, detect_multiplier=3)
    return PacketReceived(replace(basis, **fields))  # type: ignore[arg-type]


def reported(commands: list[SessionCommand]) -> list[tuple[SessionState, Diagnostic]]:
    return [(c.state, c.diagnostic) for c in commands if isinstance(c, ReportState)]


def sent(commands: list[SessionCommand]) -> list[ControlPacket]:
    return [c.packet for c in commands if isinstance(c, SendPacket)]


def in_state(state: SessionState) -> BfdSession:
    made = session()
    if state is ADMIN_DOWN:
        made.handle(0, AdministrativelyDisabled())
    if state in (INIT, UP):
        made.handle(0, heard(DOWN, your_discriminator=0))
    if state is UP:
        made.handle(0, heard(INIT))
    assert made.state is state
    return made


# RFC 5880 section 6.2 and 6.8.6, every pair: (ours, received) → (ours then, diagnostic)
TABLE = {
    (ADMIN_DOWN, ADMIN_DOWN): (ADMIN_DOWN, Diagnostic.ADMINISTRATIVELY_DOWN),
    (ADMIN_DOWN, DOWN): (ADMIN_DOWN, Diagnostic.ADMINISTRATIVELY_DOWN),
    (ADMIN_DOWN, INIT): (ADMIN_DOWN, Diagnostic.ADMINISTRATIVELY_DOWN),
    (ADMIN_DOWN, UP): (ADMIN_DOWN, Diagnostic.ADMINISTRATIVELY_DOWN),
    (DOWN, ADMIN_DOWN): (DOWN, Diagnostic.NONE),
    (DOWN, DOWN): (INIT, Diagnostic.NONE),
    (DOWN, INIT): (UP, Diagnostic.NONE),
    (DOWN, UP): (DOWN, Diagnostic.NONE),
    (INIT, ADMIN_DOWN): (DOWN, Diagnostic.NEIGHBOR_SIGNALED_DOWN),
    (INIT, DOWN): (INIT, Diagnostic.NONE),
    (INIT, INIT): (UP, Diagnostic.NONE),
    (INIT, UP): (UP, Diagnostic.NONE),
    (UP, ADMIN_DOWN): (DOWN, Diagnostic.NEIGHBOR_SIGNALED_DOWN),
    (UP, DOWN): (DOWN, Diagnostic.NEIGHBOR_SIGNALED_DOWN),
    (UP, INIT): (UP, Diagnostic.NONE),
    (UP, UP): (UP, Diagnostic.NONE),
}


@pytest.mark.parametrize(("before", "received"), TABLE)
def test_every_state_and_every_received_state(before: SessionState, received: SessionState) -> None:
    made = in_state(before)
    commands = made.handle(1, heard(received))
    assert (made.state, made.diagnostic) == TABLE[before, received]
    assert bool(reported(commands)) == (made.state is not before)
    if made.state is not before:
        assert [packet.state for packet in sent(commands)] == [made.state], "said at once"


class TestTimers:
    def test_while_not_up_one_packet_a_second_at_most(self) -> None:
        made = session(replace(FAST, idle_tx_ns=NS_PER_MS))
        times = []
        while len(times) < 20:
            due_ns = made.next_deadline()
            assert due_ns is not None
            if sent(made.on_deadline(due_ns)):
                times.append(due_ns)
        gaps = [b - a for a, b in itertools.pairwise(times)]
        assert min(gaps) >= 750 * NS_PER_MS and max(gaps) <= NS_PER_S and len(set(gaps)) > 10

    @pytest.mark.parametrize(("multiplier", "most"), [(1, 0.9), (3, 1.0)])
    def test_jitter(self, multiplier: int, most: float) -> None:
        made = session(replace(FAST, multiplier=multiplier))
        made.handle(0, heard(DOWN, your_discriminator=0, detect_multiplier=255))
        made.handle(0, heard(INIT, required_min_rx_us=40_000, desired_min_tx_us=1_000_000, detect_multiplier=255))
        times = []
        while len(times) < 200:
            due_ns = made.next_deadline()
            assert due_ns is not None
            times += [due_ns] * len(sent(made.on_deadline(due_ns)))
        gaps = [(b - a) / (40 * NS_PER_MS) for a, b in itertools.pairwise(times)]
        assert 0.75 <= min(gaps) < 0.77 and most - 0.02 < max(gaps) <= most

    def test_detection_time_is_the_neighbors_multiplier_times_the_slower_interval(self) -> None:
        made = in_state(UP)
        made.handle(0, heard(UP, desired_min_tx_us=4_000, detect_multiplier=7))
        assert made.detection_time_ns == 7 * 10 * NS_PER_MS
        made.handle(0, heard(UP, desired_min_tx_us=50_000, detect_multiplier=2))
        assert made.detection_time_ns == 2 * 50 * NS_PER_MS

    def test_silence_is_down_exactly_at_the_end_of_the_detection_time(self) -> None:
        made = in_state(UP)
        made.handle(0, heard(UP, required_min_rx_us=0))  # wants no packets: only the detection time is left
        assert made.next_deadline() == 30 * NS_PER_MS
        assert made.on_deadline(30 * NS_PER_MS - 1) == []
        commands = made.on_deadline(30 * NS_PER_MS)
        assert reported(commands) == [(DOWN, Diagnostic.DETECTION_TIME_EXPIRED)]
        assert made.remote_discriminator == 0

    def test_a_neighbor_that_wants_no_packets_gets_none_but_finals(self) -> None:
        made = in_state(UP)
        made.handle(0, heard(UP, required_min_rx_us=0, desired_min_tx_us=10_000_000))
        assert sent(made.on_deadline(5 * NS_PER_S)) == []
        (final,) = sent(made.handle(5 * NS_PER_S, heard(UP, required_min_rx_us=0, poll=True)))
        assert final.final and not final.poll

    def test_demand_mode_of_the_neighbor_is_obeyed(self) -> None:
        made = in_state(UP)
        made.handle(0, heard(UP, final=True, demand=True, desired_min_tx_us=1_000_000))
        assert sent(made.on_deadline(NS_PER_S)) == []


class TestPolls:
    def test_going_up_polls_with_the_fast_interval_until_the_final(self) -> None:
        made = in_state(INIT)
        (first,) = sent(made.handle(0, heard(INIT)))
        assert first.poll and first.desired_min_tx_us == 10_000
        (again,) = sent(made.on_deadline(10 * NS_PER_MS))
        assert again.poll
        made.handle(11 * NS_PER_MS, heard(UP, final=True))
        (later,) = sent(made.on_deadline(20 * NS_PER_MS))
        assert not later.poll

    def test_a_poll_is_answered_at_once_with_a_final_and_never_with_both(self) -> None:
        made = in_state(UP)
        (answer,) = sent(made.handle(5, heard(UP, poll=True)))
        assert answer.final and not answer.poll

    def test_a_slower_interval_holds_only_after_the_neighbor_agreed(self) -> None:
        made = in_state(UP)
        made.handle(0, heard(UP, final=True))
        (poll,) = sent(made.handle(1, SettingsChanged(replace(FAST, min_tx_ns=100 * NS_PER_MS))))
        assert poll.poll and poll.desired_min_tx_us == 100_000
        assert made.transmit_interval_ns == 10 * NS_PER_MS
        made.handle(2, heard(UP, final=True))
        assert made.transmit_interval_ns == 100 * NS_PER_MS

    def test_a_faster_reception_shortens_the_detection_time_only_after_the_neighbor_agreed(self) -> None:
        made = in_state(UP)
        made.handle(0, heard(UP, final=True))
        made.handle(0, SettingsChanged(replace(FAST, min_rx_ns=100 * NS_PER_MS)))
        made.handle(0, heard(UP, final=True))
        assert made.detection_time_ns == 300 * NS_PER_MS
        made.handle(0, SettingsChanged(replace(FAST, min_rx_ns=20 * NS_PER_MS)))
        made.handle(0, heard(UP))
        assert made.detection_time_ns == 300 * NS_PER_MS
        made.handle(0, heard(UP, final=True))
        assert made.detection_time_ns == 60 * NS_PER_MS


class TestRoles:
    @pytest.mark.shows("bfd_instance/passive")
    def test_a_passive_side_is_silent_until_spoken_to(self) -> None:
        made = session(replace(FAST, passive=True))
        assert made.next_deadline() is None
        (answer,) = sent(made.handle(1, heard(DOWN, your_discriminator=0)))
        assert (answer.state, answer.your_discriminator) == (INIT, 77)
        assert made.next_deadline() is not None

    def test_admin_down_is_said_kept_and_ended(self) -> None:
        made = in_state(UP)
        commands = made.handle(1, AdministrativelyDisabled())
        assert reported(commands) == [(ADMIN_DOWN, Diagnostic.ADMINISTRATIVELY_DOWN)]
        assert [p.state for p in sent(commands)] == [ADMIN_DOWN]
        assert made.on_deadline(60 * NS_PER_S) and made.state is ADMIN_DOWN
        assert reported(made.handle(61 * NS_PER_S, AdministrativelyEnabled())) == [(DOWN, Diagnostic.NONE)]


@dataclass
class World:
    """Two sessions and what is on the wire between them."""

    a: BfdSession
    b: BfdSession
    now_ns: int = 0
    delay_ns: int = NS_PER_MS // 2
    cut: set[str] = field(default_factory=set)
    flying: list[tuple[int, str, ControlPacket]] = field(default_factory=list)
    reports: list[tuple[int, str, SessionState]] = field(default_factory=list)
    loss: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(5))

    def do(self, who: str, commands: list[SessionCommand]) -> None:
        for command in commands:
            if isinstance(command, ReportState):
                self.reports.append((self.now_ns, who, command.state))
            elif who not in self.cut and self.chance.random() >= self.loss:
                self.flying.append((self.now_ns + self.delay_ns, "b" if who == "a" else "a", command.packet))

    def tell(self, who: str, event: SessionEvent) -> None:
        self.do(who, getattr(self, who).handle(self.now_ns, event))

    def run(self, for_ns: int) -> None:
        end_ns = self.now_ns + for_ns
        for _ in range(200_000):
            due = [d for d in (self.a.next_deadline(), self.b.next_deadline(), *(f[0] for f in self.flying)) if d is not None]
            at_ns = min(due, default=end_ns + 1)
            if at_ns > end_ns:
                break
            self.now_ns = max(self.now_ns, at_ns)
            arrived = [f for f in self.flying if f[0] <= self.now_ns]
            self.flying = [f for f in self.flying if f[0] > self.now_ns]
            for _at, who, packet in arrived:
                self.tell(who, PacketReceived(packet))
            for who in ("a", "b"):
                self.do(who, getattr(self, who).on_deadline(self.now_ns))
        else:
            raise AssertionError("a storm")
        self.now_ns = end_ns


def world(a: SessionSettings = FAST, b: SessionSettings = FAST) -> World:
    made = World(session(a, seed=1, started=False), session(b, seed=2, started=False))
    made.tell("a", Started())
    made.tell("b", Started())
    return made


@pytest.mark.parametrize(("a", "b"), [(FAST, FAST), (FAST, SLOW), (SLOW, FAST), (replace(FAST, passive=True), SLOW)])
def test_two_sessions_come_up_agree_on_timers_and_notice_a_cut(a: SessionSettings, b: SessionSettings) -> None:
    pair = world(a, b)
    pair.run(8 * NS_PER_S)
    assert (pair.a.state, pair.b.state) == (UP, UP)
    assert pair.a.transmit_interval_ns == max(a.min_tx_ns, b.min_rx_ns)
    assert pair.b.detection_time_ns == a.multiplier * max(a.min_tx_ns, b.min_rx_ns)
    since_ns = pair.now_ns
    pair.cut = {"a"}  # one way only
    pair.run(5 * NS_PER_S)
    (b_down,) = [at for at, who, state in pair.reports if at > since_ns and who == "b" and state is DOWN][:1]
    (a_down,) = [at for at, who, state in pair.reports if at > since_ns and who == "a" and state is DOWN][:1]
    interval_ns = max(a.min_tx_ns, b.min_rx_ns)
    assert (a.multiplier - 1) * interval_ns <= b_down - since_ns <= a.multiplier * interval_ns + NS_PER_MS
    assert a_down - b_down <= NS_PER_MS, "the side that still hears is told at once"
    pair.cut = set()
    pair.run(8 * NS_PER_S)
    assert (pair.a.state, pair.b.state) == (UP, UP)


def test_two_passive_sides_never_speak() -> None:
    pair = world(replace(FAST, passive=True), replace(FAST, passive=True))
    pair.run(5 * NS_PER_S)
    assert pair.reports == [] and pair.flying == []


def test_both_stay_up_without_loss_for_a_long_time_whatever_the_jitter() -> None:
    pair = world(replace(FAST, multiplier=1), replace(SLOW, multiplier=1))
    pair.run(60 * NS_PER_S)
    assert (pair.a.state, pair.b.state) == (UP, UP)
    assert all(state is not DOWN for _at, _who, state in pair.reports)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["cut a", "cut b", "heal", "off", "on", "loss", "fast", "slow"]), st.integers(1, 2000)),
        max_size=12,
    ),
    st.integers(0, 2**32),
)
def test_after_any_troubles_a_healed_link_is_up_with_agreed_timers(troubles: list[tuple[str, int]], seed: int) -> None:
    pair = world(FAST, SLOW)
    pair.chance = random.Random(seed)
    for what, ms in troubles:
        match what:
            case "cut a" | "cut b":
                pair.cut.add(what[-1])
            case "heal":
                pair.cut.clear()
            case "off":
                pair.tell("a", AdministrativelyDisabled())
            case "on":
                pair.tell("a", AdministrativelyEnabled())
            case "loss":
                pair.loss = 0.4
            case "fast" | "slow":
                pair.tell("a", SettingsChanged(FAST if what == "fast" else replace(SLOW, idle_tx_ns=NS_PER_S)))
        pair.run(ms * NS_PER_MS)
    pair.cut.clear()
    pair.loss = 0.0
    pair.tell("a", AdministrativelyEnabled())
    pair.run(20 * NS_PER_S)
    assert (pair.a.state, pair.b.state) == (UP, UP)
    assert pair.a.transmit_interval_ns == max(pair.a.settings.min_tx_ns, pair.b.settings.min_rx_ns)
    assert pair.a.detection_time_ns == 5 * max(pair.b.settings.min_tx_ns, pair.a.settings.min_rx_ns)
    assert pair.a.snapshot()["polling"] is False  # type: ignore[index, call-overload]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(SessionState), st.booleans(), st.booleans(), st.integers(0, 60_000_000)), max_size=30))
def test_no_packet_of_a_forger_makes_it_break_the_rules(script: list[tuple[SessionState, bool, bool, int]]) -> None:
    made, now_ns = session(), 0
    for state, poll, final, step_us in script:
        now_ns += step_us * NS_PER_US
        commands = made.on_deadline(now_ns)
        commands += made.handle(now_ns, heard(state, poll=poll, final=final, required_min_rx_us=step_us % 3))
        for packet in sent(commands):
            assert not (packet.poll and packet.final)
            assert packet.state is not UP or packet.your_discriminator
            assert packet.state is UP or packet.desired_min_tx_us >= 1_000_000
        due_ns = made.next_deadline()
        assert due_ns is None or due_ns >= now_ns
