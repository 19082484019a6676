"""Scripts' rise and fall, weights, faults, clamping."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrrp.protocol.trackers import (
    ScriptParameters,
    ScriptTracker,
    TrackKind,
    TrackReference,
    effective_priority,
    is_fault,
    is_pending,
    weight_of,
)


def run(tracker: ScriptTracker, results: str) -> str:
    """Feed '+' and '-'; the states after each as U (up), D (down), ? (unknown)."""
    states = ""
    for result in results:
        tracker.finished(result == "+")
        states += "?" if tracker.up is None else "UD"[not tracker.up]
    return states


@pytest.mark.parametrize(
    ("rise", "fall", "init_fail", "results", "states"),
    [
        (1, 1, False, "+-+-", "UDUD"),
        (3, 2, False, "+", "U"),  # the very first result decides
        (3, 2, False, "-", "D"),
        (3, 2, False, "+--", "UUD"),
        (3, 2, False, "+-+-+--", "UUUUUUD"),
        (3, 2, False, "-++-+++", "DDDDDDU"),
        (3, 2, True, "+", "U"),  # keepalived: one success ends init_fail, whatever rise says
        (3, 2, True, "-+++", "DDDU"),
        (1, 3, False, "+---+", "UUUDU"),
    ],
)
@pytest.mark.shows("vrrp_script/rise", "vrrp_script/fall", "vrrp_script/init_fail")
def test_rise_and_fall(rise: int, fall: int, init_fail: bool, results: str, states: str) -> None:
    assert run(ScriptTracker(ScriptParameters("s", rise, fall, init_fail)), results) == states


@given(st.integers(1, 5), st.integers(1, 5), st.lists(st.booleans(), min_size=1, max_size=40))
def test_counter_needs_that_many_in_a_row(rise: int, fall: int, results: list[bool]) -> None:
    tracker = ScriptTracker(ScriptParameters("s", rise, fall))
    tracker.finished(results[0])
    assert tracker.up is results[0]
    for at, result in enumerate(results[1:], 1):
        before = tracker.up
        changed = tracker.finished(result)
        assert changed == (tracker.up is not before)
        if changed:
            need = rise if result else fall
            assert all(r is result for r in results[max(1, at - need + 1) : at + 1])


def track(weight: int = 0, *, reverse: bool = False, kind: TrackKind = TrackKind.SCRIPT) -> TrackReference:
    return TrackReference(kind, "x", weight, reverse)


@pytest.mark.parametrize(
    ("weight", "reverse", "up", "down", "unknown"),
    [(20, False, 20, 0, 0), (-20, False, 0, -20, 0), (20, True, 0, 20, 0), (-20, True, -20, 0, 0), (0, False, 0, 0, 0)],
)
def test_weights(weight: int, reverse: bool, up: int, down: int, unknown: int) -> None:
    line = track(weight, reverse=reverse)
    assert [weight_of(line, value) for value in (1, 0, None)] == [up, down, unknown]
    assert not any(is_fault(line, value) for value in (1, 0, None)) or weight == 0


def test_weight_zero_is_a_fault_while_down_and_reversed_while_up() -> None:
    assert [is_fault(track(), value) for value in (1, 0, None)] == [False, True, False]
    assert [is_fault(track(reverse=True), value) for value in (1, 0, None)] == [True, False, False]


def test_only_an_unweighted_script_without_result_delays_the_start() -> None:
    assert is_pending(track(), None)
    assert not is_pending(track(), 0)
    assert not is_pending(track(5), None)
    assert not is_pending(track(kind=TrackKind.INTERFACE), None)


def test_files() -> None:
    line = track(2, kind=TrackKind.FILE)
    assert [weight_of(line, value) for value in (None, 0, 3, -4)] == [0, 0, 6, -8]
    assert weight_of(track(2, kind=TrackKind.FILE, reverse=True), 3) == -6
    assert [is_fault(line, value) for value in (0, -126, -127, -500)] == [False, False, True, True]
    hold = track(0, kind=TrackKind.FILE)
    assert [is_fault(hold, value) for value in (None, 0, 1)] == [False, False, True]
    grant = track(0, kind=TrackKind.FILE, reverse=True)
    assert [is_fault(grant, value) for value in (None, 0, 1)] == [True, True, False]


def test_clamping() -> None:
    assert effective_priority(100, [200]) == 254
    assert effective_priority(100, [-200]) == 1
    assert effective_priority(255, [-200]) == 255
