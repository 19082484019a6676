"""The table of docs/COMPATIBILITY.md with the faults that were played against keepalived and vrrpd in the same run.

The figures stand in docs/measured/faults.json, written by ``make bench ARGS='--only faults --write'``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parents[2] / "docs" / "measured" / "faults.json"
_HELD = {True: "", False: " (goal missed)"}


def faults_section() -> str:
    """A section of the page; empty in a place without the result file (an installed wheel)."""
    if not RESULT.exists():
        return ""
    content: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8"))
    rows = [
        "## Where keepalived was measured to fail\n",
        f"Both daemons in the same run, by `{content['command']}` ({content['keepalived']}; {content['machine']}).",
        "The numbers are those of the findings about keepalived; how each is played stands in `bench/faults`.\n",
        "| no. | what is done | keepalived | vrrpd | goal | measured |",
        "|---|---|---|---|---|---|",
    ]
    for row in content["faults"]:
        ours = row["vrrpd"]["says"] + _HELD[row["vrrpd"]["holds"]]
        rows.append(f"| {row['finding']} | {row['title']} | {row['keepalived']['says']} | {ours} | {row['goal']} | {row['date']} |")
    return "\n".join(rows) + "\n"
