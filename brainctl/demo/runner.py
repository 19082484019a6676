"""Plays one scenario from an empty laboratory to a result."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from brainctl.demo.addresses import draw_plan
from brainctl.demo.kernel import ToolError
from brainctl.demo.lab import Lab
from brainctl.demo.node import LabError
from brainctl.demo.outcome import Outcome
from brainctl.demo.scenario import Expectation, Scenario
from brainctl.demo.setup import Setup
from brainctl.demo.stage import Happening, Stage

JsonObject = dict[str, Any]


class Audience(Protocol):
    """Who looks on while a scenario is played."""

    def begins(self, scenario: Scenario, setup: Setup) -> None:
        """A scenario begins."""
        ...

    def tick(self, stage: Stage) -> None:
        """A few milliseconds have passed."""
        ...

    def said(self, stage: Stage, happening: Happening) -> None:
        """Something happened."""
        ...

    def ended(self, result: Result) -> None:
        """A scenario was judged."""
        ...


@dataclass(frozen=True, slots=True)
class Result:
    """A judged scenario. ``failures``: every way in which it differs from what was expected, in words."""

    scenario: str
    setup: Setup
    expected: Expectation
    outcome: Outcome
    failures: tuple[str, ...]
    seed: int
    directory: Path

    @property
    def ok(self) -> bool:
        """Whether every expectation held."""
        return not self.failures

    def to_json(self) -> JsonObject:
        """One element of ``scenarios`` in the last line of ``brainctl demo --json``."""
        outcome = self.outcome
        return {
            "scenario": self.scenario,
            "daemon": self.setup.daemon,
            "mode": self.setup.mode,
            "expected": self.expected.text,
            "ok": self.ok,
            "split_ms": _rounded(outcome.split_ms),
            "detect_ms": _rounded(outcome.detect_ms),
            "resolve_ms": _rounded(outcome.resolve_ms),
            "fence": outcome.fence_states[-1] if outcome.fence_states else None,
            "fence_states": outcome.fence_states,
            "owners_after": outcome.owners_after,
            "alerts": outcome.alerts,
            "client_outage_ms": _rounded(outcome.client_outage_ms),
            "capture": str(self.directory / "capture.pcap"),
            "client_log": str(self.directory / "client.jsonl"),
            "owner_log": str(self.directory / "observer.jsonl"),
            "power_cut": outcome.cut_power,
            "also": {name: asdict(one) for name, one in outcome.also.items()},
            "beat_gap_ms": _rounded(outcome.beat_gap_ms),
            "pages": outcome.pages,
            "verdicts": sorted(outcome.verdicts),
            "failures": list(self.failures),
            "seed": self.seed,
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def play(scenario: Scenario, setup: Setup, seed: int, directory: Path, audience: Audience) -> Result:
    """Build a laboratory, raise the pair, play, measure, judge, and take everything down again."""
    audience.begins(scenario, setup)
    expected = scenario.expect(setup.mode, setup.daemon)
    try:
        with Lab(draw_plan(seed), directory, devices=setup.levels, site=setup.site) as lab:
            stage = Stage(lab, setup, on_tick=audience.tick, on_say=audience.said)
            outcome = _play(scenario, stage)
    except (LabError, ToolError, OSError) as error:
        outcome = Outcome(broken=str(error))
    result = Result(scenario.name, setup, expected, outcome, tuple(expected.failures(outcome)), seed, directory)
    audience.ended(result)
    return result


def _play(scenario: Scenario, stage: Stage) -> Outcome:
    try:
        stage.raise_pair()
        scenario.play(stage)
        stage.tick()
        return stage.outcome()
    except (LabError, ToolError) as error:
        outcome = stage.outcome()
        outcome.broken = str(error)
        return outcome
