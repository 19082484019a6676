"""The client's outage with braind against the same pair without it, fault by fault, in the same run.

Every fault is a scenario of ``brainctl demo``, played on a bare pair and on a watched one, at the same phase of the owner's adverts. The
outage is read from the client's own log. The bound is the bare pair's outage and `GRACE_MS` in observe and resolve; in strict, and where
keepalived is released from a hold, it is that and what ``brainctl check --json`` of the very configuration says. A bare pair knows no
modes: it is played once for all of them.
"""

from __future__ import annotations

import datetime
import itertools
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from brainctl.demo.runner import Result, play
from brainctl.demo.scenario import Scenario
from brainctl.demo.scenarios import SCENARIOS
from brainctl.demo.setup import DAEMONS, MODES, Setup
from brainctl.demo.stage import Happening, Stage

GRACE_MS = 100.0
PHASE_MS = 100
"""How long after an advert of the owner a fault falls: the wait for the next one is a part of every outage."""

USUAL = ("port-dead", "hang", "orphan")
PEACE = frozenset(
    (
        *("quiet", "reload", "planned", "local-node", "gate-late", "handover", "upgrade", "key-change", "node-replaced"),
        *("watcher-crashes", "watcher-dies", "descriptors-run-out", "disk-full", "kill-between-intent-and-result"),
    )
)
"""Scenarios without a fault of the service, and those whose fault is braind's own: a pair without braind cannot have it."""

ATTEMPTS = 3
"""A pair of plays over its bound is played again; the median counts, for machines are shared."""

RESULT = Path(__file__).resolve().parents[1] / "docs/measured/outage.json"
PAGE = RESULT.parents[1] / "BENCHMARKS.md"
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison."""

    scenario: Scenario
    daemon: str
    mode: str

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.scenario.name}, {self.daemon}, {self.mode}"


def chosen(words: Iterable[str]) -> list[Case]:
    """What ``--only outage``, ``--only outage:NAME`` and ``--only outage:all`` ask for; `known` tells which names there are."""
    names = [word.partition(":")[2] for word in words if word.split(":")[0] == "outage"]
    every = "all" in names
    wanted = set(USUAL if "" in names else ()) | set(names)
    return [
        Case(scenario, daemon, mode)
        for scenario in SCENARIOS
        if scenario.name in wanted or (every and scenario.name not in PEACE)
        for daemon in DAEMONS
        if daemon in scenario.daemons
        for mode in (modes_of(scenario) if every else scenario.modes[:1])
    ]


def modes_of(scenario: Scenario) -> tuple[str, ...]:
    """Those in which it is measured: all, but what a witness or a hold does is no matter for observe, which neither fences nor holds."""
    return MODES if not scenario.site.witness and not scenario.site.unheld else MODES[1:]


def known() -> list[str]:
    """The names after ``outage:``."""
    return ["all", *(scenario.name for scenario in SCENARIOS if scenario.name not in PEACE)]


class Silent:
    """Looks on and keeps what ``brainctl check`` says of the configuration."""

    def __init__(self) -> None:
        self.bounds: dict[str, Any] = {}

    def begins(self, scenario: Scenario, setup: Setup) -> None:
        """Nothing to tell."""

    def tick(self, stage: Stage) -> None:
        """Ask once, when the pair is healthy."""
        if stage.settled_ns and stage.setup.brain and not self.bounds:
            self.bounds = stage.checked_bounds()

    def said(self, stage: Stage, happening: Happening) -> None:
        """Nothing to tell."""

    def ended(self, result: Result) -> None:
        """Nothing to tell."""


@dataclass(frozen=True, slots=True)
class Played:
    """One play of a pair. ``failures``: what the demo expects of it and did not come; "" or why it could not be played at all."""

    outage_ms: float
    allowed_ms: float
    failures: tuple[str, ...]
    broken: str


def played(case: Case, *, brain: bool, directory: Path, seed: int) -> Played:
    """Play it once."""
    scenario = case.scenario
    setup = Setup(daemon=case.daemon, mode=case.mode, brain=brain, levels=scenario.levels, site=scenario.site, phase_ms=PHASE_MS)
    audience = Silent()
    result = play(scenario, setup, seed, directory, audience)
    outcome = result.outcome
    outage_ms = max(outcome.client_outage_ms, *(also.client_outage_ms for also in outcome.also.values()), 0.0)
    allowed_ms = GRACE_MS + (allowance(case, result, audience.bounds) if brain and not outcome.broken else 0.0)
    return Played(outage_ms, allowed_ms, result.failures if brain else (), outcome.broken)


class Bench:
    """Plays cases; keeps what a bare pair came to. ``play_pair(case, brain)``: one play."""

    def __init__(self, play_pair: Callable[[Case, bool], Played]) -> None:
        self._play = play_pair
        self._bare: dict[tuple[str, str], list[Played]] = {}

    def measure(self, case: Case) -> Row:
        """Both pairs, repeated while the bound is exceeded."""
        bare = self._bare.setdefault((case.scenario.name, case.daemon), [])
        watched: list[Played] = []
        for attempt in range(ATTEMPTS):
            if len(bare) <= attempt:
                bare.append(self._play(case, False))
            watched.append(self._play(case, True))
            if broken := bare[-1].broken or watched[-1].broken:
                return {"name": case.name, "broken": broken, "holds": False}
            if holds(bare, watched):
                break
        return row(case, bare, watched)


def holds(bare: Sequence[Played], watched: Sequence[Played]) -> bool:
    """Whether the watched pair's median outage is within the bound."""
    return _median(watched) <= _median(bare) + watched[-1].allowed_ms


def row(case: Case, bare: Sequence[Played], watched: Sequence[Played]) -> Row:
    """One line of the result."""
    return {
        "name": case.name,
        "scenario": case.scenario.name,
        "daemon": case.daemon,
        "mode": case.mode,
        "allowed_ms": round(watched[-1].allowed_ms),
        "bare_ms": [round(one.outage_ms) for one in bare],
        "braind_ms": [round(one.outage_ms) for one in watched],
        "bare": _median(bare),
        "braind": _median(watched),
        "holds": holds(bare, watched),
        "demo": list(watched[-1].failures),
    }


def _median(plays: Sequence[Played]) -> float:
    return statistics.median(one.outage_ms for one in plays)


def allowance(case: Case, result: Result, bounds: dict[str, Any]) -> float:
    """What ``brainctl check`` says that this configuration may cost beyond plain VRRP, ms.

    strict waits for a release or a proof. A keepalived that was held in FAULT comes back through BACKUP and waits a master down interval.
    """
    if case.mode == "strict":
        return float(bounds["detect_ms"]) + float((bounds["fence_ms"] if result.outcome.fence_states else bounds["resolve_ms"]) or 0)
    if case.mode == "resolve" and case.daemon == "keepalived" and result.outcome.held & set(result.outcome.owners_after):
        return result.setup.master_down_ms
    return 0.0


def run(cases: Sequence[Case], seed: int = 1) -> list[Row]:
    """All of them, one after the other, with progress on standard error."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-outage-") as directory:
        numbers = itertools.count(seed)

        def play_pair(case: Case, brain: bool) -> Played:
            number = next(numbers)
            return played(case, brain=brain, directory=Path(directory) / f"{number}-{case.scenario.name}", seed=number)

        bench = Bench(play_pair)
        for number, case in enumerate(cases, 1):
            print(f"\r\033[Koutage {number}/{len(cases)}: {case.name}", end="", file=sys.stderr, flush=True)
            rows.append(bench.measure(case))
    print("\r\033[K", end="", file=sys.stderr)
    return rows


def show(rows: Sequence[Row]) -> None:
    """The table."""
    table = Table(title="the client's longest outage, ms: the pair without braind and with it")
    for heading in ("fault, daemon, mode", "without", "with braind", "bound", ""):
        table.add_column(heading, justify="left" if heading.startswith("fault") else "right")
    for row in rows:
        mark = "[green]ok[/]" if row["holds"] else "[red]OVER[/]"
        if "broken" in row:
            table.add_row(row["name"], "", "", "", f"[red]{row['broken']}[/]")
        else:
            table.add_row(row["name"], f"{row['bare']:.0f}", f"{row['braind']:.0f}", f"{row['bare'] + row['allowed_ms']:.0f}", mark)
    console = Console()
    Console(width=max(console.width, 100)).print(table)


def keep(rows: Sequence[Row]) -> None:
    """Write docs/measured/outage.json and docs/BENCHMARKS.md; rows that were not played this time stay as they are."""
    found = {row["name"]: row for row in (json.loads(RESULT.read_text())["faults"] if RESULT.exists() else ())}
    found |= {row["name"]: {**row, "date": datetime.date.today().isoformat()} for row in rows if "broken" not in row}
    names = [scenario.name for scenario in SCENARIOS]
    kept = [row for row in found.values() if row["scenario"] in names]
    kept.sort(key=lambda row: (names.index(row["scenario"]), row["daemon"], MODES.index(row["mode"])))
    content = {
        "command": "make bench ARGS='--only outage:all --write'",
        "machine": f"Linux {platform.release()}, {os.cpu_count()} cores, veth and bridges",
        "faults": kept,
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(as_markdown(content), encoding="utf-8")


def as_markdown(content: dict[str, Any]) -> str:
    """The kept rows for a reader."""
    over = sum(not row["holds"] for row in content["faults"])
    lines = [
        "# Measured",
        "",
        "## The client's outage beside plain VRRP",
        "",
        f"Generated from docs/measured/outage.json, which `{content['command']}` writes ({content['machine']}).",
        "The longest time in ms for which a client had no answer, medians. The bound is the outage of the same pair without braind and",
        f"{GRACE_MS:.0f} ms, and in mode strict (and where a keepalived is released from a hold) what `brainctl check` says besides.",
        "Adverts every 500 ms. Where a bare pair splits or is cut off for good, its figure is as long as it was looked at.",
        "The last column: what the demo expects of the scenario (owners, fences, pages) in the same play.",
        "",
        f"{len(content['faults'])} combinations, {over} over their bound.",
        "",
        "| fault | daemon | mode | without braind | with braind | bound | | demo |",
        "|---|---|---|---:|---:|---:|---|---|",
    ]
    for row in content["faults"]:
        mark = "held" if row["holds"] else "**over**"
        demo = "; ".join(row.get("demo", ())) or "as expected"
        lines.append(
            f"| {row['scenario']} | {row['daemon']} | {row['mode']} | {row['bare']:.0f} | {row['braind']:.0f} | "
            f"{row['bare'] + row['allowed_ms']:.0f} | {mark} | {demo} |"
        )
    return "\n".join([*lines, ""])
