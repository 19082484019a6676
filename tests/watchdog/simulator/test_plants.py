"""Every planted bug is found, within 300 seeds, by a checker that is there for it."""

from __future__ import annotations

import pytest

from watchdog.simulator.plants import PLANTS
from watchdog.simulator.run import run_seeds
from watchdog.simulator.stories import STORIES, draw_options
from watchdog.simulator.wider import WIDER_FROM, WIDER_STORIES

SEEDS = (*range(300), *range(WIDER_FROM, WIDER_FROM + 300))
BY_SEEDS = [name for name in PLANTS if name != "pages-nobody"]
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
