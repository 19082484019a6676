"""The wider world: what is drawn is valid for fencing, every story is told, and every new checker can find something."""

from __future__ import annotations

import pytest

from watchdog.simulator.faults import parse_fault
from watchdog.simulator.plants import PLANTS
from watchdog.simulator.run import build, run_seed, summary
from watchdog.simulator.stories import draw_options
from watchdog.simulator.wider import WIDER_FROM, WIDER_STORIES
from watchdog.simulator.world import World

S = 1_000_000_000


def settled(seed: int) -> World:
    world = build(draw_options(seed, ()))
    world.run_until(11 * S)
    return world


@pytest.mark.parametrize("seed", [*range(12), *range(WIDER_FROM, WIDER_FROM + 12)])
def test_what_is_drawn_may_fence_if_it_is_meant_to(seed: int) -> None:
    """J21: a fifth of the runs could not fence at all, because d was too short for their own paths."""
    options = draw_options(seed, ())
    one_mode = options.mode_b is None
    meant = options.fence_enabled and options.reference and one_mode
    assert bool(settled(seed).seen.get("could_fence")) or not meant


def test_every_story_of_the_wider_world_is_told_and_the_first_thousand_seeds_tell_none() -> None:
    told = {draw_options(seed).story for seed in range(WIDER_FROM, WIDER_FROM + 500)}
    assert set(WIDER_STORIES) <= told
    assert not set(WIDER_STORIES) & {draw_options(seed).story for seed in range(WIDER_FROM)}


def test_the_summary_counts_the_seeds_that_could_fence_and_those_of_each_trouble() -> None:
    told = summary([run_seed(WIDER_FROM, quick=True), run_seed(WIDER_FROM + 1, quick=True)])
    assert "could_fence" in told["seeds_that_saw"]  # type: ignore[operator]
    assert told["seeds_in_which"]


@pytest.mark.parametrize(
    ("plant", "faults", "settings"),
    [
        ("no-health", ("cut eth0 of A at 10s for 35s",), ("mode=resolve", "daemon=vrrpd")),
        ("pages-nobody", ("crash A at 10s for 90s",), ("mode=strict", "fence_enabled=false", "safety_ns=60000000000")),
        ("obeys-strangers", ("forge goodbye of A at 10s for 15s",), ("mode=resolve", "daemon=keepalived")),
        ("shoots-the-silent", ("kill braind of B at 40s for 60s",), ("mode=resolve", "daemon=vrrpd", "safety_ns=90000000000")),
    ],
)
def test_each_new_checker_finds_its_plant(plant: str, faults: tuple[str, ...], settings: tuple[str, ...]) -> None:
    told = run_seed(13, plant, tuple(parse_fault(line) for line in faults), ("vrrp_version=3", "paths=ethernet,unicast,serial", *settings))
    assert any(violation.split(" at ")[0] in PLANTS[plant].caught_by for violation in told.violations), told.violations


@pytest.mark.parametrize("seed", [17, 1004])
def test_a_quick_run_is_shorter_and_a_slow_one_is_not_changed_by_it(seed: int) -> None:
    slow, quick = run_seed(seed), run_seed(seed, quick=True)
    assert quick.events < slow.events
    assert "--quick" in quick.repeat() and "--quick" not in slow.repeat()
    assert run_seed(seed).trace_hash == slow.trace_hash
