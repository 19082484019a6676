"""Every planted bug is found, within 300 seeds, by a checker that is there for it."""

from __future__ import annotations

import pytest

from watchdog.simulator.faults import parse_fault
from watchdog.simulator.plants import PLANTS
from watchdog.simulator.run import run_seed, run_seeds
from watchdog.simulator.stories import STORIES, draw_options
from watchdog.simulator.wider import WIDER_FROM, WIDER_STORIES

SEEDS = (*range(300), *range(WIDER_FROM, WIDER_FROM + 300))
BY_CASE = {"no-stall-distrust": (13, ("crash B at 10s for 40s", "pause braind of A at 10200ms for 5s"))}
"""Other guards stand before these, so that drawn stories seldom meet them: (seed, the fault lines in which they show)."""
BY_SEEDS = [name for name in PLANTS if name != "pages-nobody" and name not in BY_CASE]
"""The loss of service that nobody is told of takes longer than most stories: test_wider.py plays it as a case."""


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", BY_SEEDS)
def test_a_planted_bug_is_found(name: str) -> None:
    plant = PLANTS[name]
    assert set(plant.stories) <= set(STORIES | WIDER_STORIES)
    # Only seeds whose story can show this bug: the others would cost time and find nothing.
    seeds = [seed for seed in SEEDS if draw_options(seed).story in plant.stories]
    for result in run_seeds(seeds, name):
        if any(violation.split(" at ")[0] in plant.caught_by for violation in result.violations):
            assert f"--plant '{name}'" in result.repeat()
            return
    pytest.fail(f"{name} went unnoticed: {plant.about}")


@pytest.mark.parametrize("name", sorted(BY_CASE))
def test_a_planted_bug_is_found_where_it_shows(name: str) -> None:
    seed, lines = BY_CASE[name]
    faults = tuple(parse_fault(line) for line in lines)
    found = run_seed(seed, name, faults=faults).violations
    assert any(violation.split(" at ")[0] in PLANTS[name].caught_by for violation in found), PLANTS[name].about
    assert run_seed(seed, faults=faults).violations == [], "without the bug the same faults break no promise"
