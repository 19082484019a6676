"""``brainctl fence history``: every fence in the record, one block each: who, when, each level's way, and what proved or refuted it."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass

from brainctl.options import database
from brainctl.output import complain, paint
from watchdog.record.queries import FenceRow, RecordUnavailable, open_record

_COLOURS = {"proved": "green", "refuted": "red", "unknown": "red", "claimed": "yellow", "not_done": "grey"}
ROWS_A_FENCE = 40


@dataclass(frozen=True, slots=True)
class Fence:
    """One order with its state changes, oldest first; level 0 is the whole."""

    order_id: str
    target: str
    incident: str
    changes: tuple[FenceRow, ...]

    @property
    def state(self) -> str:
        """How it stands or ended."""
        whole = [row.state for row in self.changes if row.level == 0]
        return whole[-1] if whole else self.changes[-1].state

    @property
    def took_ms(self) -> int:
        """From the first row to the last."""
        return (self.changes[-1].wall_ns - self.changes[0].wall_ns) // 1_000_000


def fences_of(rows: list[FenceRow]) -> list[Fence]:
    """Rows, oldest first, gathered by order."""
    orders: dict[str, list[FenceRow]] = {}
    for row in rows:
        orders.setdefault(row.order_id, []).append(row)
    return [
        Fence(order_id, changes[0].target, next((row.incident for row in changes if row.incident), ""), tuple(changes))
        for order_id, changes in orders.items()
    ]


def run(args: argparse.Namespace) -> int:
    """Print; 0, or 3 when the record cannot be read."""
    try:
        with open_record(database(args)) as record:
            fences = fences_of(record.fences(limit=max(1, args.lines) * ROWS_A_FENCE))[-max(1, args.lines) :]
    except RecordUnavailable as error:
        complain(str(error), error.remedy, as_json=args.json)
        return 3
    if args.json:
        print(json.dumps({"fences": [_to_json(fence) for fence in fences]}))
        return 0
    if not fences:
        print("no fence in the record")
    for fence in fences:
        _print(fence)
    return 0


def _to_json(fence: Fence) -> dict[str, object]:
    changes = [{"wall_ns": row.wall_ns, "level": row.level, "state": row.state, "detail": row.detail} for row in fence.changes]
    return {
        "order_id": fence.order_id,
        "target": fence.target,
        "incident": fence.incident,
        "state": fence.state,
        "took_ms": fence.took_ms,
        "changes": changes,
    }


def _print(fence: Fence) -> None:
    first = fence.changes[0].wall_ns
    stamp = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(first // 1_000_000_000))
    incident = f"  {fence.incident}" if fence.incident else ""
    state = paint(fence.state, _COLOURS.get(fence.state, "yellow"))
    print(f"{stamp}  {fence.target}: {state} after {fence.took_ms / 1000:.1f} s  ({fence.order_id}){incident}")
    for row in fence.changes:
        where = f"level {row.level}" if row.level else "in all"
        text = f"  +{(row.wall_ns - first) / 1e9:7.2f} s  {where:8} {row.state}"
        print(f"{text}: {row.detail}" if row.detail else text)
