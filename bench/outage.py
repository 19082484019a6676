"""The client's outage with braind against the same pair without it, fault by fault, in the same run.

Every fault is a scenario of ``brainctl demo``, played on a bare pair and on a watched one, at the same phase of the owner's adverts. The
outage is read from the client's own log. The bound is the bare pair's outage and `GRACE_MS` in observe and resolve; in strict, and where
keepalived is released from a hold, it is that and what ``brainctl check --json`` of the very configuration says.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from brainctl.demo.runner import Result, play
from brainctl.demo.scenario import Scenario
from brainctl.demo.scenarios import SCENARIOS
from brainctl.demo.setup import DAEMONS, Setup
from brainctl.demo.stage import Happening, Stage

GRACE_MS = 100.0
PHASE_MS = 100
"""How long after an advert of the owner a fault falls: the wait for the next one is a part of every outage."""

USUAL = ("port-dead", "hang", "orphan")
PEACE = ("quiet", "reload", "planned", "local-node", "gate-late")
"""Scenarios without a fault."""

ATTEMPTS = 3
"""A pair of plays over its bound is played again; the median counts, for machines are shared."""

RESULT = Path(__file__).resolve().parents[1] / "docs/measured"
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
        for mode in (dict.fromkeys(("observe", *scenario.modes)) if every else scenario.modes[:1])
    ]


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


def measure(case: Case, directory: Path, seed: int) -> Row:
    """Both pairs, repeated while the bound is exceeded."""
    bare: list[float] = []
    watched: list[float] = []
    allowed = GRACE_MS
    for attempt in range(ATTEMPTS):
        for brain, found in ((False, bare), (True, watched)):
            setup = Setup(
                daemon=case.daemon, mode=case.mode, brain=brain, levels=case.scenario.levels, site=case.scenario.site, phase_ms=PHASE_MS
            )
            audience = Silent()
            where = directory / f"{case.scenario.name}-{case.daemon}-{case.mode}-{attempt}-{'braind' if brain else 'bare'}"
            result = play(case.scenario, setup, seed, where, audience)
            if result.outcome.broken:
                return {"name": case.name, "broken": result.outcome.broken, "holds": False}
            found.append(max(result.outcome.client_outage_ms, *(also.client_outage_ms for also in result.outcome.also.values()), 0.0))
            if brain:
                allowed = GRACE_MS + allowance(case, result, audience.bounds)
        if statistics.median(watched) <= statistics.median(bare) + allowed:
            break
    row: Row = {"name": case.name, "scenario": case.scenario.name, "daemon": case.daemon, "mode": case.mode, "allowed_ms": round(allowed)}
    row |= {"bare_ms": [round(value) for value in bare], "braind_ms": [round(value) for value in watched]}
    row["bare"], row["braind"] = statistics.median(bare), statistics.median(watched)
    row["holds"] = row["braind"] <= row["bare"] + allowed
    return row


def allowance(case: Case, result: Result, bounds: dict[str, Any]) -> float:
    """What ``brainctl check`` says that this configuration may cost beyond plain VRRP, ms.

    strict waits for a release or a proof. A keepalived that was held in FAULT comes back through BACKUP and waits a master down interval.
    """
    if case.mode == "strict":
        return float(bounds["detect_ms"]) + float((bounds["fence_ms"] if result.outcome.cut_power else bounds["resolve_ms"]) or 0)
    if case.mode == "resolve" and case.daemon == "keepalived" and result.outcome.held & set(result.outcome.owners_after):
        return result.setup.master_down_ms
    return 0.0


def run(cases: Sequence[Case], seed: int = 1) -> list[Row]:
    """All of them, one after the other, with progress on standard error."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-outage-") as directory:
        for number, case in enumerate(cases, 1):
            print(f"\r\033[Koutage {number}/{len(cases)}: {case.name}", end="", file=sys.stderr, flush=True)
            rows.append(measure(case, Path(directory), seed + number))
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
    """Write docs/measured/outage.json and OUTAGE.md; rows that were not played this time stay as they are."""
    file = RESULT / "outage.json"
    found = {row["name"]: row for row in (json.loads(file.read_text())["faults"] if file.exists() else ())}
    found |= {row["name"]: {**row, "date": datetime.date.today().isoformat()} for row in rows if "broken" not in row}
    content = {
        "command": "make bench ARGS='--only outage --write'",
        "machine": f"Linux {platform.release()}, {os.cpu_count()} cores, veth and bridges, load {os.getloadavg()[0]:.1f}",
        "faults": list(found.values()),
    }
    RESULT.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (RESULT / "OUTAGE.md").write_text(as_markdown(content), encoding="utf-8")


def as_markdown(content: dict[str, Any]) -> str:
    """The kept rows for a reader."""
    lines = [
        "# The client's outage beside plain VRRP",
        "",
        f"Generated by `{content['command']}` ({content['machine']}).",
        "The longest time in ms for which a client had no answer, medians; the bound is the outage of the same pair without braind and",
        f"{GRACE_MS:.0f} ms, and in mode strict (and where a keepalived is released from a hold) what `brainctl check` says.",
        "",
        "| fault | daemon | mode | without braind | with braind | bound | |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    for row in content["faults"]:
        mark = "held" if row["holds"] else "**over**"
        lines.append(
            f"| {row['scenario']} | {row['daemon']} | {row['mode']} | {row['bare']:.0f} | {row['braind']:.0f} | "
            f"{row['bare'] + row['allowed_ms']:.0f} | {mark} |"
        )
    return "\n".join([*lines, ""])
