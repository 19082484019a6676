"""Plays faults against both daemons, shows both figures, keeps them in docs/measured/faults.json for docs/COMPATIBILITY.md."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.faults.catalogue import BY_NAME, FAULTS
from bench.faults.fault import FULL, Fault

DAEMONS = ("keepalived", "vrrpd")
RESULT = Path(__file__).resolve().parents[2] / "docs" / "measured" / "faults.json"
ATTEMPTS = 2
"""A play that broke down (a pair that did not settle on a busy machine) is tried again; one that ended counts."""

Row = dict[str, Any]


def chosen(words: Sequence[str]) -> list[Fault]:
    """The faults that ``--only faults`` or ``--only faults:NAME`` ask for. Raises KeyError for an unknown name."""
    names = [word.partition(":")[2] for word in words if word.split(":")[0] == "faults"]
    return list(FAULTS) if "" in names else [BY_NAME[name] for name in names]


def measure(fault: Fault) -> Row:
    """One row: figures and words for both daemons, and whether ours held."""
    row: Row = {"name": fault.name, "finding": fault.finding, "title": fault.title, "goal": fault.goal}
    for daemon in DAEMONS:
        figures = _played(fault, daemon)
        row[daemon] = {
            "figures": {key: round(value, 3) for key, value in figures.items()},
            "says": fault.says(figures),
            "holds": fault.holds(figures),
        }
    return row


def _played(fault: Fault, daemon: str) -> dict[str, float]:
    for attempt in range(1, ATTEMPTS + 1):
        print(f"\r\033[K{fault.name}: {daemon}", end="", file=sys.stderr, flush=True)
        try:
            return fault.play(daemon, FULL)
        except RuntimeError as error:
            if attempt == ATTEMPTS:
                raise
            print(f"\r\033[K{fault.name}: {daemon}: {error}; once more", file=sys.stderr)
    raise AssertionError("unreachable")


def run(faults: Sequence[Fault]) -> list[Row]:
    """All of them, one after the other."""
    rows = [measure(fault) for fault in faults]
    print("\r\033[K", end="", file=sys.stderr)
    return rows


def show(rows: Sequence[Row]) -> None:
    """The table, in colour where the terminal has any."""
    table = Table(title="where keepalived 2.2.7 was measured to fail", show_lines=True)
    for heading in ("finding", "fault", "keepalived", "vrrpd", "goal"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        cells = [f"[{'green' if row[d]['holds'] else 'red'}]{row[d]['says']}[/]" for d in DAEMONS]
        table.add_row(f"{row['finding']} {row['name']}", row["title"], *cells, row["goal"])
    console = Console()
    Console(width=max(console.width, 110)).print(table)


def keep(rows: Sequence[Row]) -> None:
    """Write the result file; rows of faults that were not played this time stay as they are."""
    known = {row["name"]: row for row in (json.loads(RESULT.read_text())["faults"] if RESULT.exists() else ())}
    known.update({row["name"]: {**row, "date": datetime.date.today().isoformat()} for row in rows})
    version = subprocess.run(["keepalived", "--version"], capture_output=True, text=True, check=False).stderr.partition("\n")[0]
    content = {
        "command": "make bench ARGS='--only faults --write'",
        "machine": f"Linux {platform.release()}, {os.cpu_count()} cores, veth and one bridge, load {os.getloadavg()[0]:.1f}",
        "keepalived": version,
        "faults": [known[fault.name] for fault in FAULTS if fault.name in known],
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
