"""The status of a third host (``braind --watch-only``): each pair as it looks from outside."""

from __future__ import annotations

from typing import Any

from brainctl.output import age, paint, table

_GRADE = {"HEALTHY": 0, "PATH_DEGRADED": 1, "UNKNOWN": 1}
_WORDS = {0: ("OK", "green"), 1: ("WARNING", "yellow"), 2: ("CRITICAL", "red"), 3: ("UNKNOWN", "magenta")}
Document = dict[str, Any]


def grade(status: Document) -> tuple[int, list[str]]:
    """The exit status as Nagios expects it, and every reason for it, worst first."""
    found: list[tuple[int, str]] = []
    for pair in status["pairs"]:
        for scope in (pair["pair"], *pair["groups"]):
            level = _GRADE.get(scope["verdict"], 2)
            if level == 2 and scope["stage"] == "suspected":
                level = 1
            if level and not pair["settled"]:
                level = 3
            if level:
                name = scope.get("name", "pair")
                found.append(
                    (level, f"{pair['cluster']} {name}: {scope['verdict']} {scope['stage']}: {scope['reason']}".replace(" : ", ": "))
                )
    found.sort(key=lambda item: -item[0] if item[0] != 3 else -1.5)
    return (found[0][0] if found else 0), [text for _, text in found]


def render(status: Document, code: int, problems: list[str]) -> str:
    """The whole page as text."""
    word, colour = _WORDS[code]
    parts = [f"{paint(word, colour)} {status['name']} (third host): {problems[0] if problems else 'one owner for every address'}"]
    for pair in status["pairs"]:
        nodes = ", ".join(f"{n['name']} {'heard' if n['lives'] else paint('not heard', 'yellow')}" for n in pair["nodes"])
        rows = [
            [
                f"{g['name']} {g['group']}",
                ", ".join(g["vips"]) or "–",
                paint(" + ".join(g["owners"]) or "nobody", "green" if len(g["owners"]) == 1 else "red"),
                f"{paint(g['verdict'], _WORDS[_GRADE.get(g['verdict'], 2)][1])} {g['stage']}".rstrip(),
                f"{age(g['since_ms'])}  {g['reason']}",
            ]
            for g in pair["groups"]
        ]
        parts.append(
            f"{paint(pair['cluster'], 'bold')}: {nodes}\n" + table(rows, ("group", "addresses", "owner", "verdict", "since"), "  ")
        )
    return "\n\n".join(parts) + "".join(f"\n  {paint('•', 'yellow')} {text}" for text in problems[1:])
