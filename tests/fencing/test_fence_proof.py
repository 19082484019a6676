"""Proof by silence: what a silence must look like before it counts."""

from __future__ import annotations

import pytest

from base.core import NS_PER_MS
from fencing.plan.events import ChannelAsked, ChannelHeard, ControlHeard
from fencing.plan.proof import ChannelLedger

MS = NS_PER_MS


def ledger(
    *, heard_ms: int = 950, act_ms: int = 1_000, end_ms: int = 1_100, interval_ms: int = 100, solicited: bool = False
) -> ChannelLedger:
    """A channel heard last at ``heard_ms``, an act from ``act_ms`` to ``end_ms``; a proof needs 2 s of silence."""
    built = ChannelLedger(2_000)
    built.heard(ChannelHeard("path", "eth", heard_ms * MS, interval_ms, solicited))
    built.act_begins(act_ms * MS)
    built.act_ended(end_ms * MS)
    return built


def controls(built: ChannelLedger, first_ms: int, last_ms: int, every_ms: int = 500, medium: str = "eth") -> None:
    for at_ms in range(first_ms, last_ms + 1, every_ms):
        built.control(ControlHeard(medium, at_ms * MS))


def test_two_seconds_of_silence_with_a_control_is_a_proof_and_not_a_moment_earlier():
    built = ledger()
    controls(built, 1_100, 3_000, 100)
    assert built.proof() == ""
    controls(built, 3_100, 3_100)
    assert built.proof()


@pytest.mark.parametrize(("heard_ms", "alive"), [(1_000, True), (800, True), (799, False), (0, False)])
def test_the_channel_must_be_alive_at_the_act(heard_ms: int, alive: bool):
    built = ledger(heard_ms=heard_ms)
    controls(built, 1_100, 9_000)
    assert bool(built.proof()) == alive


def test_a_control_on_another_medium_says_nothing():
    built = ledger()
    controls(built, 1_100, 9_000, medium="serial")
    assert built.proof() == ""


def test_a_gap_in_the_control_starts_the_silence_again():
    built = ledger()
    controls(built, 1_100, 2_000, 100)
    controls(built, 3_600, 5_500, 100)
    assert built.proof() == ""
    controls(built, 5_600, 5_600)
    assert built.proof()


def test_a_slow_channel_must_be_silent_for_four_of_its_intervals():
    built = ledger(interval_ms=1_000)
    controls(built, 1_100, 5_000, 100)
    assert built.proof() == ""
    controls(built, 5_100, 5_100)
    assert built.proof()


def test_a_channel_heard_after_the_act_is_not_silent():
    built = ledger()
    built.heard(ChannelHeard("path", "eth", 1_200 * MS, 100))
    controls(built, 1_100, 9_000)
    assert built.proof() == ""


def test_silence_while_we_were_deaf_does_not_count():
    built = ledger()
    controls(built, 1_100, 2_000)
    built.void(2_500 * MS)
    controls(built, 2_500, 4_400, 100)
    assert built.proof() == ""
    controls(built, 4_500, 4_500)
    assert built.proof()


def test_a_channel_that_we_could_not_hear_at_the_act_was_not_alive():
    built = ChannelLedger(2_000)
    built.heard(ChannelHeard("path", "eth", 950 * MS, 100))
    built.void(980 * MS)
    built.act_begins(1_000 * MS)
    built.act_ended(1_100 * MS)
    controls(built, 1_100, 9_000)
    assert built.proof() == ""


def test_a_solicited_channel_must_be_asked_twice_in_the_silence():
    built = ledger(solicited=True)
    controls(built, 1_100, 9_000)
    assert built.proof() == ""
    built.asked(ChannelAsked("path", 1_050 * MS))
    built.asked(ChannelAsked("path", 1_500 * MS))
    assert built.proof() == ""
    built.asked(ChannelAsked("path", 2_500 * MS))
    assert built.proof()


def test_without_an_act_there_is_nothing_to_prove():
    built = ChannelLedger(2_000)
    built.heard(ChannelHeard("path", "eth", 950 * MS, 100))
    built.act_begins(1_000 * MS)
    controls(built, 1_100, 9_000)
    assert built.proof() == ""
