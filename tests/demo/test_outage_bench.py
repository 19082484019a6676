"""The outage bench: what it repeats, what it allows, and that the page in docs is what was measured."""

from __future__ import annotations

import json

from bench import outage
from bench.outage import ATTEMPTS, GRACE_MS, PAGE, RESULT, Bench, Case, Played, as_markdown
from brainctl.demo.scenarios import SCENARIOS, find_scenario


def case(name: str = "hang", mode: str = "resolve") -> Case:
    scenario = find_scenario(name)
    assert scenario is not None
    return Case(scenario, "vrrpd", mode)


class Plays:
    """Pairs with outages as told; counts what was played."""

    def __init__(self, bare: list[float], watched: list[float], broken: str = "") -> None:
        self.left = {False: bare, True: watched}
        self.broken = broken
        self.played = {False: 0, True: 0}

    def __call__(self, _case: Case, brain: bool) -> Played:
        self.played[brain] += 1
        return Played(self.left[brain].pop(0), GRACE_MS, (), self.broken if brain else "")


def test_a_pair_within_its_bound_is_played_once() -> None:
    plays = Plays([20.0], [119.0])
    assert Bench(plays).measure(case())["holds"]
    assert plays.played == {False: 1, True: 1}


def test_a_pair_over_its_bound_is_played_again_and_the_median_counts() -> None:
    lucky, unlucky = Plays([20.0, 20.0, 20.0], [500.0, 30.0, 40.0]), Plays([20.0, 20.0, 20.0], [500.0, 30.0, 400.0])
    assert Bench(lucky).measure(case())["braind"] == 40.0
    row = Bench(unlucky).measure(case())
    assert not row["holds"] and row["braind"] == 400.0 and unlucky.played[True] == ATTEMPTS


def test_a_bare_pair_is_played_once_for_all_modes() -> None:
    plays = Plays([20.0], [30.0, 40.0, 50.0])
    bench = Bench(plays)
    assert [bench.measure(case(mode=mode))["bare"] for mode in ("observe", "resolve", "strict")] == [20.0] * 3
    assert plays.played == {False: 1, True: 3}


def test_what_cannot_be_played_has_not_held() -> None:
    row = Bench(Plays([20.0], [0.0], broken="no lab")).measure(case())
    assert not row["holds"] and row["broken"] == "no lab"


def test_every_name_exists_and_every_fault_is_asked_for() -> None:
    names = {scenario.name for scenario in SCENARIOS}
    assert names >= outage.PEACE and names >= set(outage.USUAL)
    assert {one.scenario.name for one in outage.chosen(["outage:all"])} == names - outage.PEACE


def test_the_page_says_what_was_measured() -> None:
    content = json.loads(RESULT.read_text(encoding="utf-8"))
    assert PAGE.read_text(encoding="utf-8") == as_markdown(content)
    assert not [row["name"] for row in content["faults"] if row["scenario"] not in {scenario.name for scenario in SCENARIOS}]
