"""The one step that may delete from the record: bounded, in small transactions, and itself recorded.

Explanations (evidence, packets, journals, verdicts, actions) go first when they are old or the file is over
its bound; incidents, fences and delivered alerts stay ``KEEP_FACTOR`` times longer. Never deleted: open
fences' rows of the last day, undelivered alerts, the newest value of a fact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlite_utils import Database

from alerts.outbox import write_transaction
from base.core import NS_PER_S
from watchdog.record.rows import Stamp, spec_row
from watchdog.record.schema import MAINTENANCE, delete_trigger

DAY_NS = 86_400 * NS_PER_S
KEEP_FACTOR = 4
ROWS_A_STEP = 2_000
"""So many rows are deleted in one transaction: a barrier must not wait for long."""

_EXPLAINING = ("packets", "journals", "evidence", "verdicts", "actions")
_DECIDING = {
    "incidents": "1",
    "fences": "1",
    "alerts": "EXISTS (SELECT 1 FROM deliveries d WHERE d.alert_id = alerts.id)"
    " AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.alert_id = alerts.id AND d.state IN ('pending','sending','refused'))",
    "delivery_attempts": "NOT EXISTS (SELECT 1 FROM alerts a WHERE a.id = alert_id)",
    "node_facts": "id NOT IN (SELECT max(id) FROM node_facts GROUP BY key)",
    "acknowledgements": "1",
    "maintenance": "1",
}


@dataclass(frozen=True, slots=True)
class Retention:
    """How much is kept: explanations for ``days``, the file under ``max_bytes``."""

    days: int = 90
    max_bytes: int = 256 << 20


def used_bytes(db: Database) -> int:
    """Bytes of the database file in use (free pages not counted)."""
    pages, free, size = (int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count", "page_size"))
    return (pages - free) * size


def prune_step(db: Database, retention: Retention, stamp: Stamp) -> dict[str, int]:
    """Delete at most one small batch, in one transaction together with a ``maintenance`` row; {} when nothing had to go.

    Raises sqlite3.Error (nothing deleted then). Call again while it returns something.
    """
    wall_ns = stamp.wall_ns
    over = used_bytes(db) > retention.max_bytes
    candidates: list[tuple[str, str, Sequence[int]]] = []
    for table in _EXPLAINING:
        candidates.append((table, "wall_ns < ?", [wall_ns - retention.days * DAY_NS]))
    for table, where in _DECIDING.items():
        candidates.append((table, f"wall_ns < ? AND {where}", [wall_ns - retention.days * KEEP_FACTOR * DAY_NS]))
    if over:
        # Oldest explanations first; the last ten minutes stay even when the bound is too small.
        candidates += [(table, "wall_ns < ?", [wall_ns - 600 * NS_PER_S]) for table in _EXPLAINING]
        candidates += [(table, f"wall_ns < ? AND {where}", [wall_ns - DAY_NS]) for table, where in _DECIDING.items()]
    for table, where, arguments in candidates:
        # A wall clock that was set back and forth must not empty the record: rows go in the order of their ids.
        ids = [row[0] for row in db.execute(f"SELECT id FROM {table} WHERE {where} ORDER BY id LIMIT {ROWS_A_STEP}", arguments).fetchall()]  # noqa: S608
        if ids:
            return _delete(db, table, ids, over, stamp)
    return {}


def _delete(db: Database, table: str, ids: Sequence[int], over: bool, stamp: Stamp) -> dict[str, int]:
    detail = {"table": table, "rows": len(ids), "first_id": ids[0], "last_id": ids[-1], "because": "size" if over else "age"}
    marks = ",".join("?" * len(ids))
    with write_transaction(db):
        db.execute(f"DROP TRIGGER {table}_no_delete")
        db.execute(f"DELETE FROM {table} WHERE id IN ({marks})", list(ids))  # noqa: S608  names are ours, values are bound
        if table == "alerts":
            db.execute(f"DELETE FROM deliveries WHERE alert_id IN ({marks})", list(ids))  # noqa: S608
        db.execute(delete_trigger(table))
        row = spec_row(MAINTENANCE, {"what": "pruned", "detail": detail}, stamp)  # type: ignore[dict-item]
        db.table("maintenance").insert(row.columns)
    db.execute("PRAGMA incremental_vacuum(500)").fetchall()
    return {table: len(ids)}
