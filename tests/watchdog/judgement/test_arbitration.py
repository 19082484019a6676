"""Who keeps, who fences: every case is decided on both nodes' views, and they must agree (as Pekko's split brain resolver is tested)."""

from __future__ import annotations

import itertools

import pytest

from watchdog.config.model import NodeSettings
from watchdog.judgement.arbitration import HealthFacts, Standing, flags, health, keeps

A, B = NodeSettings("a", 1), NodeSettings("b", 2)


def both_sides(a: tuple[int, int], b: tuple[int, int]) -> str:
    """Runs the rule on A's view and on B's view and returns who keeps, according to both."""
    at_a, at_b = Standing(*a, rank=1), Standing(*b, rank=2)
    a_keeps, b_keeps = keeps(at_a, at_b), keeps(at_b, at_a)
    assert a_keeps != b_keeps, "exactly one keeps"
    return "a" if a_keeps else "b"


@pytest.mark.parametrize(
    ("picture", "a", "b", "keeper"),
    [
        ("{healthy 150} x {healthy 100} => {a}", (255, 150), (255, 100), "a"),
        ("{healthy 100} x {healthy 150} => {b}", (255, 100), (255, 150), "b"),
        ("{healthy 100} x {healthy 100} => {a by rank}", (255, 100), (255, 100), "a"),
        ("{sick 255} x {healthy 1} => {b}", (239, 255), (255, 1), "b"),
        ("{sick 100} x {sicker 200} => {a}", (239, 100), (127, 200), "a"),
    ],
)
def test_keeper(picture: str, a: tuple[int, int], b: tuple[int, int], keeper: str) -> None:
    assert both_sides(a, b) == keeper


def test_every_small_case_has_exactly_one_keeper() -> None:
    values = list(itertools.product((0, 127, 128, 255), (0, 1, 100, 254, 255)))
    for a, b in itertools.product(values, values):
        both_sides(a, b)


def all_health_facts() -> list[HealthFacts]:
    both = (False, True)
    return [HealthFacts(*v) for v in itertools.product(both, both, both, (None, False, True), both, both, both, both)]


def test_health_fits_on_the_wire_and_a_graver_defect_outweighs_all_milder_ones() -> None:
    well = HealthFacts(True, False, True, True, False, False, False, False)
    assert health(well) == 255
    for facts in all_health_facts():
        assert 0 <= health(facts) <= 255
    trifles = HealthFacts(False, True, True, False, True, False, True, True)
    no_carrier = HealthFacts(True, False, False, True, False, False, False, False)
    quarantined = HealthFacts(True, False, True, True, False, True, False, False)
    assert health(quarantined) < health(no_carrier) < health(trifles) < health(well)


def test_an_unconfigured_reference_costs_nothing() -> None:
    assert health(HealthFacts(True, False, True, None, False, False, False, False)) == 255


def test_flags_tell_the_same_facts() -> None:
    for facts in all_health_facts():
        value = flags(facts)
        assert ("QUARANTINED" in str(value.name)) == facts.quarantined if value else not facts.quarantined
