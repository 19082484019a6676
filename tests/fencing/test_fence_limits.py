"""Budget, delay and interlocks: everything that keeps a fence from happening."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fencing.plan.budget import HOUR_NS, FenceBudget
from fencing.plan.delay import (
    ORDER_VALID_MS,
    act_ms,
    bounded_ms,
    check_delay,
    detection_spread_ms,
    margin_ms,
    needed_delay_ms,
    reading_ms,
)
from fencing.plan.interlocks import Interlock, InterlockFacts, standing
from fencing.plan.settings import FenceDevice, FenceLevel, FenceSettings

# --- budget ---


def test_n_an_hour_then_a_latch_that_only_a_person_opens():
    budget = FenceBudget(2)
    assert [budget.take(t) for t in (0, 1, 2)] == [True, True, False]
    assert budget.latched
    assert not budget.take(3 * HOUR_NS)
    budget.clear()
    assert budget.take(3 * HOUR_NS + 1)


def test_an_hour_later_there_is_room_again_if_nobody_asked_in_between():
    budget = FenceBudget(1)
    assert budget.take(0)
    assert budget.left(HOUR_NS - 1) == 0
    assert budget.take(HOUR_NS)


def test_a_restart_remembers_the_hour_and_the_latch():
    assert FenceBudget(2, recent_ns=[5, 6]).left(10) == 0
    assert not FenceBudget(9, latched=True).take(0)


def test_a_start_in_the_future_counts_from_now_and_is_not_lost():
    budget = FenceBudget(1, recent_ns=[10 * HOUR_NS])
    assert budget.left(HOUR_NS) == 0
    assert budget.left(2 * HOUR_NS) == 1


@given(st.integers(0, 5), st.lists(st.integers(0, HOUR_NS), max_size=50))
def test_never_more_than_n_in_any_hour(limit: int, gaps: list[int]):
    budget, now_ns, started = FenceBudget(limit), 0, []
    for gap in gaps:
        now_ns += gap
        if budget.take(now_ns):
            started.append(now_ns)
    for at_ns in started:
        assert sum(at_ns <= other < at_ns + HOUR_NS for other in started) <= limit


# --- delay ---


ONE = FenceDevice("x", "exec", "b", (), deadline_ms=2_000)
SLOW = FenceDevice("y", "exec", "b", (), deadline_ms=20_000)


def settings(*devices: FenceDevice, **changes: int) -> FenceSettings:
    return FenceSettings(enabled=True, levels=(("b", (FenceLevel("l", devices),)),), measured_ms=1_000, **changes)


def test_the_needed_delay_is_spread_and_fence_and_margin():
    assert needed_delay_ms(2_000, 10_000) == 2_000 + 10_000 + margin_ms(12_000) and margin_ms(12_000) == 524
    times = {"confirm_ms": 1_000, "census_window_ms": 200, "stall_ms": 500}
    assert detection_spread_ms(1_000, 200, **times) == 1_000 + 2 * 200 + 1_000 + 2 * 200 + 500
    asked = detection_spread_ms(1_000, 200, **times, yield_deadline_ms=5_000, acknowledged_every=4)
    assert asked == 1_000 + 5 * 200 + 1_000 + 2 * 200 + 500 + 5_000, "case J12: where a path lives one way, the peer is asked first"


def test_what_bounds_an_act_are_its_deadlines_and_not_what_was_measured():
    """Cases J13 and D2: an act of 14 s with F measured 2.6 s; a reading of 2 s that left no time."""
    assert reading_ms(ONE) == 2_000 and reading_ms(SLOW) == 5_000
    assert act_ms([ONE, SLOW]) == 2_000 + 20_000 + 2 * ORDER_VALID_MS
    assert bounded_ms(settings(ONE)) == 2_000 + 2_000 + ORDER_VALID_MS
    assert bounded_ms(settings(ONE, SLOW)) == 5_000 + act_ms([ONE, SLOW])
    assert check_delay(settings(SLOW, delay_ms=20_000), 2_000), "measured 1 s, but it may take 20"
    assert check_delay(replace(settings(ONE), measured_ms=6_000, delay_ms=90_000), 2_000), "it took longer than its deadline allows"


@pytest.mark.parametrize(
    ("settings", "witness", "refused"),
    [
        (FenceSettings(enabled=False), False, False),
        (FenceSettings(enabled=True), False, True),
        (settings(ONE), False, True),
        (settings(ONE, delay_ms=2_000 + 5_500 + 515 - 1), False, True),
        (settings(ONE, delay_ms=2_000 + 5_500 + 515), False, False),
        (FenceSettings(enabled=True), True, False),
    ],
)
def test_a_delay_that_is_too_short_is_refused_unless_there_is_a_witness(settings: FenceSettings, witness: bool, refused: bool):
    assert bool(check_delay(settings, 2_000, witness=witness)) == refused


# --- interlocks ---

OPEN = InterlockFacts(
    enabled=True,
    levels=(FenceLevel("one", (FenceDevice("x", "exec", "b", ()),)),),
    measured_ms=1_000,
    delay_safe=True,
    quarantined=False,
    maintenance=False,
    settled=True,
    isolated=False,
    reference_configured=True,
    stalled=False,
    peer_seen=True,
    recorder_up=True,
    runner_up=True,
    open_fence=False,
    budget_left=1,
    suspect=False,
)
SHUT = {
    "enabled": (False, Interlock.DISABLED),
    "levels": ((FenceLevel("empty", ()),), Interlock.NO_LEVEL),
    "measured_ms": (0, Interlock.NOT_MEASURED),
    "delay_safe": (False, Interlock.DELAY_TOO_SHORT),
    "quarantined": (True, Interlock.QUARANTINED),
    "maintenance": (True, Interlock.MAINTENANCE),
    "suspect": (True, Interlock.SUSPECT),
    "settled": (False, Interlock.SETTLING),
    "isolated": (True, Interlock.ISOLATED),
    "reference_configured": (False, Interlock.NO_REFERENCE),
    "stalled": (True, Interlock.STALLED),
    "peer_seen": (False, Interlock.PEER_NEVER_SEEN),
    "recorder_up": (False, Interlock.RECORDER_DOWN),
    "runner_up": (False, Interlock.RUNNER_DOWN),
    "open_fence": (True, Interlock.OPEN_FENCE),
    "budget_left": (0, Interlock.BUDGET),
}


def test_a_fence_may_start_only_when_every_lock_is_open():
    assert standing(OPEN) == ()
    assert set(SHUT) == {field.name for field in fields(InterlockFacts)}
    assert {lock for _, lock in SHUT.values()} == set(Interlock)
    for name, (value, lock) in SHUT.items():
        assert standing(replace(OPEN, **{name: value})) == (lock,)


@given(st.sets(st.sampled_from(sorted(SHUT))))
def test_every_lock_that_stands_is_named(names: set[str]):
    facts = replace(OPEN, **{name: SHUT[name][0] for name in names})
    assert set(standing(facts)) == {SHUT[name][1] for name in names}
