"""Every planted bug is found, within 300 seeds, by a checker that is there for it."""

from __future__ import annotations

import pytest

from watchdog.simulator.plants import PLANTS
from watchdog.simulator.run import run_seeds
from watchdog.simulator.stories import STORIES, draw_options

SEEDS = range(300)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_found(name: str) -> None:
    plant = PLANTS[name]
    assert set(plant.stories) <= set(STORIES)
    # Only seeds whose story can show this bug: the others would cost time and find nothing.
    seeds = [seed for seed in SEEDS if draw_options(seed).story in plant.stories]
    for result in run_seeds(seeds, name):
        if any(violation.split(" at ")[0] in plant.caught_by for violation in result.violations):
            assert f"--plant '{name}'" in result.repeat()
            return
    pytest.fail(f"{name} went unnoticed: {plant.about}")
