"""What arrived in a node's record, as programs/record_watch.py saw it from outside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

Event = dict[str, Any]


def in_words(event: Event) -> str:
    """A line for people about a row that arrived, "" for rows that only repeat others."""
    row = event["row"]
    match event["table"]:
        case "verdicts" if row["stage"] == "confirmed" or (row["verdict"] == "SPLIT_BRAIN" and row["stage"]):
            return f"{row['verdict']} {row['stage']}"
        case "fences" if row["level"] or row["state"] == "unknown":
            return f"fence of {row['target']} {row['state']}: {row['detail']}"
        case "actions":
            return " ".join(str(row[key]) for key in ("action", "subject", "detail", "outcome") if row[key])
    return ""


class Record:
    """The rows of one node. ``events`` is the growing list of the watching program."""

    def __init__(self, node: str, events: Sequence[Event]) -> None:
        self._node, self._events = node, events

    def _rows(self, table: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for event in list(self._events):
            if event["table"] == table and event["node"] == self._node:
                yield event["t"], event["row"]

    def last_verdict(self, scope: str = "pair") -> str:
        """The newest verdict about a scope, "" if there is none."""
        verdicts = [str(row["verdict"]) for _, row in self._rows("verdicts") if row["scope"] == scope]
        return verdicts[-1] if verdicts else ""

    def verdicts(self, since_ns: int) -> set[str]:
        """Every verdict that arrived since an instant, plain and with its stage."""
        found = set()
        for t, row in self._rows("verdicts"):
            if t >= since_ns:
                found |= {str(row["verdict"]), f"{row['verdict']}/{row['stage']}"} if row["stage"] else {str(row["verdict"])}
        return found

    def split_arrivals(self, since_ns: int) -> list[int]:
        """When SPLIT_BRAIN verdicts arrived."""
        return [t for t, row in self._rows("verdicts") if row["verdict"] == "SPLIT_BRAIN" and t >= since_ns]

    def actions(self, since_ns: int) -> set[str]:
        """The names of the actions since an instant."""
        return {str(row["action"]) for t, row in self._rows("actions") if t >= since_ns}

    def proved_off(self, name: str) -> bool:
        """Whether a node is proved off: by a fence, or because its power device read off twice, which needs no act."""
        fenced = any(row["target"] == name and row["state"] == "proved" for _, row in self._rows("fences"))
        read = ("power_reading", name, "proved")
        return fenced or any((row["action"], row["subject"], row["outcome"]) == read for _, row in self._rows("actions"))

    def fence_states(self) -> list[str]:
        """The states that fences went through, oldest first."""
        return [str(row["state"]) for _, row in self._rows("fences")]
