"""The table of docs/FENCING.md that says what every device is worth: ``python -m fencing.worth_table --write`` puts it there."""

from __future__ import annotations

import sys
from pathlib import Path

from fencing.plan.worth import AGENTS, NATIVE, Worth

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "FENCING.md"
BEGIN, END = "<!-- worth: begin (python -m fencing.worth_table --write) -->", "<!-- worth: end -->"


def worth_table() -> str:
    """Markdown: one row for each reason, the devices that share it, from power to bookkeeping."""
    rows: dict[tuple[Worth, str, str], list[str]] = {}
    for name, judgement in [*((f"type `{kind}`", j) for kind, j in NATIVE.items()), *AGENTS.items()]:
        rows.setdefault((judgement.worth, judgement.why, judgement.refused), []).append(name.removeprefix("fence_"))
    lines = ["| worth | devices (agents without `fence_`) | why |", "|---|---|---|"]
    order = list(Worth)
    for (worth, why, refused), names in sorted(rows.items(), key=lambda row: (order.index(row[0][0]), row[1])):
        lines.append(f"| {worth.value} | {', '.join(names)} | {why}{'; **refused**: ' + refused if refused else ''} |")
    return "\n".join(lines)


def with_table(text: str) -> str:
    """The document with a current table between its two marks. Raises ValueError if a mark is missing."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"docs/FENCING.md lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n{worth_table()}\n{END}{after}"


if __name__ == "__main__":
    current = with_table(DOCUMENT.read_text("utf-8"))
    if sys.argv[1:] == ["--write"]:
        DOCUMENT.write_text(current, "utf-8")
    else:
        print(worth_table())
