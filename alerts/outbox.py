"""The outbox: alerts waiting in the record, and what became of each at each receiver.

The alert itself is written by the recorder, in the same transaction as its incident, and never changes
(triggers refuse it). What changes is the *delivery*: one row per alert and receiver. Only the delivery
process writes deliveries, attempts and acknowledgements.

Columns beside id and stamps:

- alerts: dedup_key, incident, severity (info/warning/critical), action (trigger/resolve), summary, details (JSON),
  dedup ("" or why it must not be sent)
- deliveries (*the only rows of the record that change*): alert_id, receiver, state (DeliveryState), attempts, detail, changed_wall_ns
- delivery_attempts: alert_id, receiver, attempt, outcome (delivered/failed/refused/interrupted), detail, took_ms, wall_ns
- acknowledgements: incident, who, wall_ns
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from alerts.routing.events import Alert, DeliveryState, FinishDelivery, MarkDelivery
from base.clock import wall_ns
from base.core import NS_PER_S, JsonValue

BUSY_TIMEOUT_MS = 5_000
"""How long the recorder waits for the database's lock."""

MARK_TIMEOUT_MS = 1_000
"""How long a mark waits for it: a page must not wait longer for its own bookkeeping."""

REPLAY_NS = 30 * 86_400 * NS_PER_S

STAMP_COLUMNS = (
    "id INTEGER PRIMARY KEY, node TEXT NOT NULL, boot TEXT NOT NULL, incarnation INTEGER NOT NULL, "
    "wall_ns INTEGER NOT NULL, boottime_ns INTEGER NOT NULL"
)
"""Every row of the record says which node wrote it, in which boot and run, and when by both clocks."""

OUTBOX_DDL = (
    f"CREATE TABLE alerts ({STAMP_COLUMNS}, dedup_key TEXT NOT NULL, incident TEXT NOT NULL, severity TEXT NOT NULL, "
    "action TEXT NOT NULL, summary TEXT NOT NULL, details TEXT NOT NULL, dedup TEXT NOT NULL, extra TEXT NOT NULL)",
    "CREATE INDEX alerts_incident ON alerts(incident)",
    "CREATE INDEX alerts_key ON alerts(dedup_key)",
    "CREATE TABLE deliveries (alert_id INTEGER NOT NULL, receiver TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL, "
    "detail TEXT NOT NULL, changed_wall_ns INTEGER NOT NULL, PRIMARY KEY (alert_id, receiver)) WITHOUT ROWID",
    "CREATE INDEX deliveries_state ON deliveries(state)",
    "CREATE TABLE delivery_attempts (id INTEGER PRIMARY KEY, alert_id INTEGER NOT NULL, receiver TEXT NOT NULL, attempt INTEGER NOT NULL, "
    "outcome TEXT NOT NULL, detail TEXT NOT NULL, took_ms INTEGER NOT NULL, wall_ns INTEGER NOT NULL)",
    "CREATE INDEX delivery_attempts_alert ON delivery_attempts(alert_id)",
    "CREATE TABLE acknowledgements (id INTEGER PRIMARY KEY, incident TEXT NOT NULL, who TEXT NOT NULL, wall_ns INTEGER NOT NULL)",
)
OUTBOX_APPEND_ONLY = ("alerts", "delivery_attempts", "acknowledgements")


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """An alert as recorded, with what is known about its deliveries: receiver → (state, attempts)."""

    alert: Alert
    node: str
    boot: str
    wall_ns: int
    boottime_ns: int
    deliveries: dict[str, tuple[DeliveryState, int]]


@contextmanager
def write_transaction(db: Database) -> Iterator[None]:
    """One transaction that takes the write lock at its beginning.

    Recorder and delivery process both write. A transaction that begins by reading (sqlite-utils looks at the schema) and writes later is
    refused at once, without waiting, when the other has committed in between.
    """
    db.conn.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.conn.execute("COMMIT")
    except BaseException:
        # A no-op if the error has ended the transaction already.
        db.conn.rollback()
        raise


class OutboxReplaced(Exception):
    """The database file is no longer the one that was opened (set aside, removed): open it again."""


class Outbox:
    """The delivery process's own connection to the record. Raises sqlite3.Error; the caller waits and opens it anew."""

    def __init__(self, path: str) -> None:
        connection = sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=MARK_TIMEOUT_MS / 1000)
        self._db = Database(connection, execute_plugins=False)
        self._path = path
        try:
            self._db.execute("PRAGMA synchronous=FULL")
            self._inode = os.stat(path).st_ino
            self._db.execute("SELECT 1 FROM deliveries LIMIT 1").fetchone()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def check_same_file(self) -> None:
        """Raise OutboxReplaced when the path holds another file than the one opened."""
        try:
            inode = os.stat(self._path).st_ino
        except OSError as error:
            raise OutboxReplaced(str(error)) from None
        if inode != self._inode:
            raise OutboxReplaced("another file is at the path now")

    def data_version(self) -> int:
        """Changes whenever another connection has committed something."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def entries(self, after_id: int, limit: int = 500) -> list[OutboxEntry]:
        """Alerts with an id over ``after_id``, oldest first."""
        found: list[dict[str, Any]] = list(self._db.table("alerts").rows_where("id > ?", [after_id], order_by="id", limit=limit))
        if not found:
            return []
        deliveries: dict[int, dict[str, tuple[DeliveryState, int]]] = {}
        for row in self._db.table("deliveries").rows_where("alert_id between ? and ?", [found[0]["id"], found[-1]["id"]]):
            deliveries.setdefault(row["alert_id"], {})[row["receiver"]] = (DeliveryState(row["state"]), row["attempts"])
        return [_entry(row, deliveries.get(row["id"], {})) for row in found]

    def first_needed_id(self) -> int:
        """The id before the first alert that may still matter.

        That is one undelivered somewhere, or of the last 30 days and not resolved.
        """
        row = self._db.execute(
            "SELECT min(id) FROM alerts a WHERE"
            " EXISTS (SELECT 1 FROM deliveries d WHERE d.alert_id = a.id AND d.state IN ('pending','sending','refused'))"
            " OR NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.alert_id = a.id)"
            " OR NOT EXISTS (SELECT 1 FROM alerts r WHERE r.dedup_key = a.dedup_key AND r.action = 'resolve' AND r.id > a.id)"
            " AND a.action <> 'resolve' AND a.wall_ns > (SELECT max(wall_ns) FROM alerts) - ?",
            [REPLAY_NS],
        ).fetchone()
        if row[0] is None:
            newest = self._db.execute("SELECT coalesce(max(id), 0) FROM alerts").fetchone()[0]
            return int(newest)
        # A resolve needs its trigger: start at the first alert of the oldest key that matters.
        first = self._db.execute(
            "SELECT min(id) FROM alerts WHERE dedup_key IN (SELECT dedup_key FROM alerts WHERE id >= ?)", [row[0]]
        ).fetchone()[0]
        return int(first) - 1

    def acknowledged(self) -> list[str]:
        """Incidents that a person has acknowledged."""
        return [row[0] for row in self._db.execute("SELECT DISTINCT incident FROM acknowledgements").fetchall()]

    def acknowledge(self, incident: str, who: str) -> None:
        """Record an acknowledgement durably."""
        self.check_same_file()
        with write_transaction(self._db):
            self._db.table("acknowledgements").insert({"incident": incident, "who": who, "wall_ns": wall_ns()})

    def mark(self, marks: Sequence[MarkDelivery]) -> None:
        """Set the states of deliveries durably, in one transaction."""
        self.check_same_file()
        with write_transaction(self._db):
            for mark in marks:
                self._mark(mark.alert_id, mark.receiver, mark.state, mark.attempts, mark.detail)

    def finish_attempt(self, finish: FinishDelivery, took_ms: int) -> None:
        """Record how an attempt ended and the delivery's new state, in one transaction."""
        self.check_same_file()
        with write_transaction(self._db):
            self._db.table("delivery_attempts").insert(
                {
                    "alert_id": finish.alert_id,
                    "receiver": finish.receiver,
                    "attempt": finish.attempt,
                    "outcome": finish.outcome,
                    "detail": finish.detail,
                    "took_ms": took_ms,
                    "wall_ns": wall_ns(),
                }
            )
            self._mark(finish.alert_id, finish.receiver, finish.state, finish.attempt, finish.detail)

    def _mark(self, alert_id: int, receiver: str, state: DeliveryState, attempts: int, detail: str) -> None:
        self._db.table("deliveries").upsert(
            {
                "alert_id": alert_id,
                "receiver": receiver,
                "state": state.value,
                "attempts": attempts,
                "detail": detail,
                "changed_wall_ns": wall_ns(),
            },
            pk=("alert_id", "receiver"),
        )


def _entry(row: dict[str, Any], deliveries: dict[str, tuple[DeliveryState, int]]) -> OutboxEntry:
    alert = Alert(
        alert_id=row["id"],
        dedup_key=row["dedup_key"],
        incident=row["incident"],
        severity=row["severity"],
        action=row["action"],
        summary=row["summary"],
        details=_details(row["details"]),
        dedup=row["dedup"],
        node=row["node"],
        wall_ns=row["wall_ns"],
    )
    return OutboxEntry(alert, row["node"], row["boot"], row["wall_ns"], row["boottime_ns"], deliveries)


def _details(text: str) -> tuple[tuple[str, str], ...]:
    """The details of an alert as recorded."""
    try:
        value: JsonValue = json.loads(text) if text else ""
    except (ValueError, RecursionError):
        value = text
    return details_of(value)


def details_of(value: JsonValue) -> tuple[tuple[str, str], ...]:
    """The details of an alert as pairs of text, whatever JSON value the watcher's row holds: from the outbox and past it alike."""
    if isinstance(value, dict):
        return tuple((str(k), v if isinstance(v, str) else json.dumps(v)) for k, v in value.items())
    if isinstance(value, list):
        pairs = [v for v in value if isinstance(v, list) and len(v) == 2]
        if len(pairs) == len(value):
            return tuple((str(p[0]), p[1] if isinstance(p[1], str) else json.dumps(p[1])) for p in pairs)
    if value in ("", None):
        return ()
    return (("details", value if isinstance(value, str) else json.dumps(value)),)
