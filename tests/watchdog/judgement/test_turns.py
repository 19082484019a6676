"""Promise 5 without a witness: two nodes, any order of frames, losses, cuts, restarts and acts; their acts never meet."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.core import NS_PER_MS
from tests.watchdog.judgement.lab import Lab
from watchdog.config.model import BrainSettings, Mode
from watchdog.frames.heartbeat import FrameId, NodeTerms
from watchdog.judgement import commands as c
from watchdog.judgement.durable_facts import DurableFacts, durable_facts
from watchdog.judgement.terms import differences, told_terms
from watchdog.judgement.turns import DRIFT_DIVISOR, OwnTerms, TurnRefusal, Turns

MS = NS_PER_MS
D = 10_000
ACT = 4_000
FIRST = OwnTerms(Mode.STRICT, 1, D, 7)
SECOND = replace(FIRST, rank=2)


def agreed(terms: OwnTerms, started_ns: int = 0) -> Turns:
    """A node that an earlier run left an agreement for."""
    turns = Turns(terms, started_ns, agreed=terms.fingerprint())
    turns.old_terms_forgotten()
    return turns


def answer(terms: OwnTerms, frame: FrameId | None) -> NodeTerms:
    return told_terms(terms, frame, 0)


def frame(number: int) -> FrameId:
    return FrameId(0, number)


def leased(sent_ms: int = 0) -> Turns:
    """Rank 1 with a frame of ``sent_ms`` acknowledged."""
    turns = agreed(FIRST)
    turns.sent(sent_ms * MS, frame(1))
    turns.heard(sent_ms * MS + 10, frame(1), 2, answer(SECOND, frame(1)))
    return turns


def test_rank_1_acts_only_if_it_is_done_before_d_of_its_last_acknowledged_frame_is_over() -> None:
    turns = leased()
    last_ns = D * MS - D * MS // DRIFT_DIVISOR - ACT * MS
    assert turns.may_begin(last_ns, ACT) is None
    assert turns.may_begin(last_ns + 1, ACT) is TurnRefusal.LEASE_OVER, "mutant: rank 1 is never too late"
    assert turns.may_begin(last_ns, ACT + 1) is TurnRefusal.LEASE_OVER, "one window, counted once (J14)"
    assert turns.next_turn_ns(last_ns + 1) is None


def test_the_send_time_counts_and_not_when_the_acknowledgement_came() -> None:
    turns = agreed(FIRST)
    turns.sent(0, frame(1))
    turns.sent(5_000 * MS, frame(2))
    turns.heard(6_000 * MS, frame(1), 2, answer(SECOND, frame(1)))
    assert turns.may_begin(6_001 * MS, ACT) is TurnRefusal.LEASE_OVER
    turns.heard(6_002 * MS, frame(2), 2, answer(SECOND, frame(2)))
    assert turns.may_begin(6_003 * MS, ACT) is None
    turns.heard(6_004 * MS, frame(3), 2, answer(SECOND, frame(1)))
    assert turns.may_begin(6_005 * MS, ACT) is None, "an old acknowledgement that a slow path brings takes nothing back"
    assert turns.acknowledged_ns == 5_000 * MS


@pytest.mark.parametrize("frame_id", [None, FrameId(0, 99), FrameId(1, 1)])
def test_an_acknowledgement_of_nothing_that_this_run_sent_gives_no_turn(frame_id: FrameId | None) -> None:
    turns = agreed(FIRST)
    turns.sent(0, frame(1))
    turns.heard(1, frame(1), 2, answer(SECOND, frame_id))
    assert turns.may_begin(2, ACT) is TurnRefusal.NO_LEASE


def test_a_new_session_of_the_peer_has_acknowledged_nothing() -> None:
    turns = leased()
    turns.peer_restarted()
    assert turns.may_begin(1, ACT) is TurnRefusal.NO_LEASE and turns.acknowledges(1) is None


def test_rank_2_waits_d_after_the_later_of_the_last_frame_and_its_own_start() -> None:
    turns = agreed(SECOND, started_ns=3_000 * MS)
    assert turns.may_begin((3_000 + D) * MS - 1, ACT) is TurnRefusal.NOT_YET
    assert turns.next_turn_ns(0) == (3_000 + D) * MS
    assert turns.may_begin((3_000 + D) * MS, ACT) is None
    turns.heard(9_000 * MS, frame(1), 2, answer(FIRST, None))
    assert turns.may_begin((9_000 + D) * MS - 1, ACT) is TurnRefusal.NOT_YET
    turns.sign_of_life(10_000 * MS)
    assert turns.next_turn_ns(0) == (10_000 + D) * MS, "J6: a frame that proves nothing still proves life"
    assert turns.may_begin((10_000 + D) * MS, ACT) is None
    assert turns.next_turn_ns((10_000 + D) * MS) is None


def test_nobody_acknowledges_while_its_own_act_may_take_effect() -> None:
    turns = agreed(SECOND)
    turns.heard(0, frame(4), 2, answer(FIRST, None))
    assert turns.acknowledges(1) == frame(4) and not turns.acting(1)
    turns.act_begins(10 * MS, ACT)
    assert turns.acting(11 * MS) and turns.acknowledges(11 * MS) is None
    end_ns = (10 + ACT) * MS + ACT * MS // DRIFT_DIVISOR
    assert turns.acting(end_ns - 1) and not turns.acting(end_ns)
    turns.act_ended(20 * MS)
    assert turns.acknowledges(20 * MS) == frame(4)


def test_an_act_of_an_earlier_run_may_still_take_effect() -> None:
    turns = Turns(SECOND, 0, agreed=SECOND.fingerprint(), acting_until_ns=5_000 * MS)
    turns.old_terms_forgotten()
    turns.heard(0, frame(1), 2, answer(FIRST, None))
    assert turns.acknowledges(4_999 * MS) is None and turns.acknowledges(5_000 * MS) == frame(1)


def test_who_hears_that_the_peer_acts_has_no_turn() -> None:
    turns = leased()
    turns.heard(20, frame(2), 2, answer(SECOND, None), acts=True)
    assert turns.may_begin(30, ACT) is TurnRefusal.PEER_ACTS
    turns.heard(40, frame(3), 2, answer(SECOND, None), acts=None)
    assert turns.may_begin(50, ACT) is TurnRefusal.PEER_ACTS, "a frame that was overtaken says nothing new"
    turns.heard(60, frame(4), 2, answer(SECOND, None), acts=False)
    assert turns.may_begin(70, ACT) is None
    waiting = agreed(SECOND)
    waiting.heard(0, frame(1), 2, answer(FIRST, None), acts=True)
    assert waiting.may_begin(D * MS - 1, ACT) is TurnRefusal.PEER_ACTS and waiting.may_begin(D * MS, ACT) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mode": Mode.OBSERVE}, "mode is strict on a and observe on b"),
        ({"delay_ms": D + 1}, "delay_ms is 10000 on a and 10001 on b"),
        ({"rank": 1}, "both nodes have rank 1"),
        ({"digest": 8}, "the digest 00000007, those of b 00000008"),
    ],
)
def test_a_difference_forbids_fencing_and_is_told_with_both_values(change: dict[str, object], words: str) -> None:
    """Case J8 and its kind."""
    theirs = answer(replace(SECOND, **change), frame(1))  # type: ignore[arg-type]
    turns = leased()
    turns.heard(20, frame(2), 2, theirs)
    assert turns.may_begin(30, ACT) is TurnRefusal.TERMS_DIFFER
    assert turns.agreed == "" and words in "; ".join(differences(FIRST, theirs, "a", "b"))
    turns.heard(40, frame(3), 2, answer(SECOND, None))
    assert turns.may_begin(50, ACT) is TurnRefusal.TERMS_UNKNOWN, "equal again, but not acknowledged yet"
    turns.heard(60, frame(4), 2, answer(SECOND, frame(1)))
    assert turns.may_begin(70, ACT) is None


def test_a_change_takes_effect_when_it_is_acknowledged() -> None:
    changed = replace(SECOND, delay_ms=1_000)
    turns = Turns(changed, 0, agreed=SECOND.fingerprint())
    assert turns.may_begin(99_000 * MS, ACT) is TurnRefusal.TERMS_UNKNOWN, "a shorter d in the middle of a cut is no turn"
    assert turns.agreed == "" and turns.next_turn_ns(0) is None
    turns.sent(0, frame(1))
    turns.heard(1, frame(1), 2, answer(replace(FIRST, delay_ms=1_000), frame(1)))
    assert turns.acknowledges(2) is None, "not before it is on disk that the old terms are void"
    turns.old_terms_forgotten()
    assert turns.acknowledges(2) == frame(1) and turns.agreed == changed.fingerprint()


def test_a_peer_that_is_too_old_is_watched_only() -> None:
    turns = leased()
    turns.heard(20, frame(2), 1, None)
    assert turns.may_begin(30, ACT) is TurnRefusal.PEER_TOO_OLD and turns.agreed == ""


def test_memory_is_bounded() -> None:
    turns = agreed(FIRST)
    for number in range(10_000):
        turns.sent(number, frame(number))
    turns.heard(10_000, frame(1), 2, answer(SECOND, frame(0)))
    assert turns.acknowledged_ns is None, "forgotten: worth no turn"
    turns.heard(10_001, frame(2), 2, answer(SECOND, frame(9_999)))
    assert turns.acknowledged_ns == 9_999


# --- both nodes, in every order ---


@dataclass
class Side:
    """One node: its clock runs ``rate`` times as fast as true time and began at ``offset_ns``."""

    terms: OwnTerms
    rate: float
    offset_ns: int
    turns: Turns
    sequence: int = 0
    disk: str = ""
    heard: list[tuple[int, int]] = field(default_factory=list)

    def clock(self, true_ns: int) -> int:
        return self.offset_ns + round(true_ns * self.rate)


class Pair:
    """Frames take a random time, may be lost one way or both; an act takes up to ACT of true time."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now = 0
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.count = 0
        self.cut = {1: False, 2: False}
        self.acts: list[tuple[int, int, int]] = []
        self.sides = {}
        for terms in (FIRST, SECOND):
            rate = 1 + random.choice((-0.001, 0, 0.001))
            offset = random.randint(1, 10**12)
            self.sides[terms.rank] = Side(terms, rate, offset, Turns(terms, offset))
            self.sides[terms.rank].turns.old_terms_forgotten()

    def later(self, delay_ns: int, action: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.queue, (self.now + delay_ns, self.count, action))

    def send(self, rank: int) -> None:
        side, other = self.sides[rank], self.sides[3 - rank]
        clock = side.clock(self.now)
        side.sequence += 1
        name = frame(side.sequence)
        side.turns.sent(clock, name)
        terms, acts, session = answer(side.terms, side.turns.acknowledges(clock)), side.turns.acting(clock), other.turns
        if not self.cut[rank]:

            def arrive() -> None:
                if other.turns is session:  # a frame for the run before proves nothing
                    other.turns.heard(other.clock(self.now), name, 2, terms, acts=acts)
                    other.disk = other.turns.agreed
                else:
                    other.turns.sign_of_life(other.clock(self.now))

            self.later(self.random.randint(0, 300) * MS, arrive)
        self.later(200 * MS, lambda: self.send(rank) if self.sides[rank].turns is side.turns else None)

    def restart(self, rank: int) -> None:
        side = self.sides[rank]
        acting = [end for begun, end, who in self.acts if who == rank and end > self.now]
        until = side.clock(self.now) + round((ACT * MS) * 1.002) if acting else 0
        side.turns = Turns(side.terms, side.clock(self.now), agreed=side.disk, acting_until_ns=until)
        side.turns.old_terms_forgotten()
        self.sides[3 - rank].turns.peer_restarted()

    def try_to_act(self, rank: int) -> None:
        side = self.sides[rank]
        clock = side.clock(self.now)
        if side.turns.acting(clock) or side.turns.may_begin(clock, ACT) is not None:
            return
        side.turns.act_begins(clock, ACT)
        self.acts.append((self.now, self.now + round(ACT * MS / side.rate), rank))

    def run(self, until_ns: int) -> None:
        while self.queue and self.queue[0][0] <= until_ns:
            self.now, _, action = heapq.heappop(self.queue)
            action()
        self.now = until_ns


@given(st.integers(0, 2**32))
def test_acts_of_both_nodes_never_meet(seed: int) -> None:
    """Cuts one way and both, links that heal for a moment, restarts, clocks that differ by 0.1 %, and both always try to act."""
    random = Random(seed)
    pair = Pair(random)
    pair.send(1)
    pair.send(2)
    for _ in range(random.randint(5, 60)):
        match random.randint(0, 9):
            case 0:
                pair.cut = {1: True, 2: True}
            case 1:
                pair.cut = {1: True, 2: False}
            case 2:
                pair.cut = {1: False, 2: True}
            case 3:
                pair.cut = {1: False, 2: False}
            case 4:
                rank = random.randint(1, 2)
                pair.restart(rank)
                pair.send(rank)
            case _:
                pair.run(pair.now + random.choice((5, 290, 1_000, 4_000, 9_990, 10_010, 12_000)) * MS)
        for rank in random.sample((1, 2), 2):
            pair.try_to_act(rank)
    for begun, end, rank in pair.acts:
        for other_begun, other_end, other in pair.acts:
            assert rank == other or end <= other_begun or other_end <= begun, f"{rank} acts at {begun}..{end}, {other} at {other_begun}"


def test_the_search_above_sees_acts_of_both_ranks() -> None:
    seen = set()
    for seed in range(60):
        random = Random(seed)
        pair = Pair(random)
        pair.send(1)
        pair.send(2)
        pair.run(3_000 * MS)
        pair.cut = {1: True, 2: True}
        pair.run(3_000 * MS + random.randint(0, 15_000) * MS)
        for rank in (1, 2):
            before = len(pair.acts)
            pair.try_to_act(rank)
            seen |= {rank} if len(pair.acts) > before else set()
    assert seen == {1, 2}


def test_settings_that_stay_different_are_a_warning_with_both_values_and_a_short_rollout_is_none() -> None:
    """Case J8: mode, d, rank and the rest of brain.toml; the other node is neither fenced nor fences."""

    def other_mode(settings: BrainSettings) -> BrainSettings:
        return settings if settings.self_name == "a" else replace(settings, policy=replace(settings.policy, mode=Mode.OBSERVE))

    lab = Lab(tweak=other_mode)
    lab.run(50)
    assert not any(node.alerts() for node in lab.nodes.values())
    lab.run(30)
    for node in lab.nodes.values():
        (page,) = node.alerts()
        assert "mode is" in str(page["summary"]) and page["severity"] == "warning"
    status = lab.nodes["a"].core.snapshot()
    assert status["differences"] == ["mode is resolve on a and observe on b"]  # type: ignore[index,call-overload]
    lab.cut_everything()
    lab.run(60)
    assert not any(node.offs() for node in lab.nodes.values())


def test_a_crashed_node_that_hears_nobody_is_suspect_until_it_does_and_over_restarts() -> None:
    """Case J17."""
    lab = Lab(held_at_start=False)
    lab.run(20)
    b = lab.nodes["b"]
    lab.cut_everything()
    lab.nodes["a"].reference = False
    crashed = DurableFacts(ended_in_order=False, turn_terms=b.core.state.contact.turns.agreed)
    lab.restart_braind(b, same_boot=False, durable=crashed)
    lab.run(60)
    assert b.core.state.suspect and b.gate is c.GateState.HELD and not b.held and not b.offs()
    assert ("suspect", True) in [(dict(row.fields)["key"], dict(row.fields)["value"]) for _, row in b.rows if row.kind is c.RowKind.NODE]
    lab.restart_braind(b, durable=replace(crashed, ended_in_order=True, suspect=True))
    lab.run(30)
    assert b.core.state.suspect, "an orderly restart of braind does not make it know more"
    lab.heal()
    lab.run(3)
    assert not b.core.state.suspect


@pytest.mark.parametrize("facts", [{"same_boot": True}, {"seen_peer_before": False}, {"durable": DurableFacts(ended_in_order=True)}])
def test_a_restart_in_the_same_boot_a_first_start_and_an_orderly_stop_are_not_suspect(facts: dict[str, object]) -> None:
    lab = Lab(held_at_start=False)
    lab.run(10)
    lab.cut_everything()
    base: dict[str, object] = {"same_boot": False, "durable": DurableFacts(ended_in_order=False)}
    lab.restart_braind(lab.nodes["b"], **(base | facts))
    assert not lab.nodes["b"].core.state.suspect


def test_the_budget_survives_a_step_of_the_clock_and_a_reboot() -> None:
    """Case J16."""
    lab = Lab()
    lab.run(10)
    lab.cut_everything()
    lab.run(30)
    a = lab.nodes["a"]
    starts = next(dict(row.fields)["value"] for _, row in reversed(a.rows) if dict(row.fields).get("key") == "fence_starts")
    durable = durable_facts({"fence_starts": starts})
    left = a.core.fence.budget.left(lab.now)
    for facts in ({"same_boot": True}, {"same_boot": False}):
        lab.restart_braind(a, durable=durable, recent_fence_wall_ns=(), **facts)
        assert a.core.fence.budget.left(lab.now) == left
    other_boot = durable_facts({"fence_starts": [["00", 5 * 10**18]]})
    lab.restart_braind(a, durable=other_boot)
    assert a.core.fence.budget.left(lab.now) == 2, "of another boot: it counts from this machine's start, not from never"


def test_one_reading_of_off_is_no_proof_and_two_are() -> None:
    lab = Lab(Mode.STRICT, held_at_start=True)
    lab.run(10)
    a, b = lab.nodes["a"], lab.nodes["b"]
    lab.power_off(a)
    lab.run_until(lambda: bool(b.core.state.peer_proved_off), 20)
    readings = [x for x in b.commands(c.RunFence) if isinstance(x, c.RunFence)]
    assert [x.action for x in readings] == ["status", "status"] and "read twice" in b.core.state.peer_proved_off
    lab.run(20)
    assert lab.owner_names() == "b" and not b.offs(), "nothing need be done to a node that is off (J5)"
