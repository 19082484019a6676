"""The tables of the record, what each row means, and how a database is opened for writing.

Every row carries ``id``, ``node``, ``boot`` (boot id of the machine), ``incarnation`` (run of braind),
``wall_ns`` (for people) and ``boottime_ns`` (CLOCK_BOOTTIME, comparable only within one boot). The fields of
a ``Row`` (watchdog/judgement/commands.py) become columns; a field that has no column is kept as JSON in
``extra``, a missing one is "" or 0: a newer core never loses a row to an older record.

Fields → columns, by kind and table:

- EVIDENCE → evidence: id → evidence_id (unique within a run), kind (K1…K5 or a word), subject, detail, at_ns (CLOCK_BOOTTIME)
- VERDICT → verdicts: id → verdict_id, scope ("pair" or a group), verdict, stage ("suspected", "confirmed" or ""), reason,
  evidence (JSON list of evidence ids), incident
- INCIDENT → incidents: id → incident, state (open/updated/closed), scope, verdict, summary. One incident is all rows with its id;
  the newest is its state
- ACTION → actions: id → action_id, incident, action, subject, detail, outcome
- FENCE → fences: order_id, incident, target, level (0 = the whole fence),
  state (requested/claimed/proved/refuted/unknown/not_done), detail
- ALERT → alerts: the outbox, see alerts/outbox.py
- NODE → node_facts: key, value (JSON); the newest row of a key holds. Keys: quarantine, latch, seen_peer, run, clean_stop, …

Beside them: ``packets`` (captured evidence bytes for ``explain --pcap``), ``journals`` (dumps of a core's
journal), ``maintenance`` (what the recorder itself did: pruned, set aside, lost).

Rows are append-only: triggers refuse UPDATE and DELETE (REPLACE too, because recursive_triggers is on for our
connections and the primary key is guarded by a BEFORE INSERT trigger for everybody else's). Only
``deliveries`` and the recorder's own ``progress`` may change. A root user can drop triggers; that is not what they guard against.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlite_utils import Database, Migrations

from alerts.outbox import BUSY_TIMEOUT_MS, OUTBOX_APPEND_ONLY, OUTBOX_DDL, STAMP_COLUMNS
from base.core import JsonValue
from watchdog.judgement.commands import RowKind

APPLICATION_ID = 0x62726E31
"""``PRAGMA application_id`` of a record ("brn1")."""

WAL_BYTES = 8 << 20
"""The write-ahead log is cut back to this after a checkpoint."""


@dataclass(frozen=True, slots=True)
class TableSpec:
    """Where the rows of one kind go: field name → (column, is it an integer)."""

    table: str
    columns: tuple[tuple[str, str, bool], ...]


def _spec(table: str, *columns: str) -> TableSpec:
    parsed = []
    for column in columns:
        name, _, kind = column.partition(":")
        field_name, _, column_name = name.partition(">")
        parsed.append((field_name, column_name or field_name, kind == "int"))
    return TableSpec(table, tuple(parsed))


TABLES: dict[RowKind, TableSpec] = {
    RowKind.EVIDENCE: _spec("evidence", "id>evidence_id", "kind", "subject", "detail", "at_ns:int"),
    RowKind.VERDICT: _spec("verdicts", "id>verdict_id", "scope", "verdict", "stage", "reason", "evidence", "incident"),
    RowKind.INCIDENT: _spec("incidents", "id>incident", "state", "scope", "verdict", "summary"),
    RowKind.ACTION: _spec("actions", "id>action_id", "incident", "action", "subject", "detail", "outcome"),
    RowKind.FENCE: _spec("fences", "order_id", "incident", "target", "level:int", "state", "detail"),
    RowKind.ALERT: _spec("alerts", "dedup_key", "incident", "severity", "action", "summary", "details", "dedup"),
    RowKind.NODE: _spec("node_facts", "key", "value"),
}
JSON_COLUMNS = {("node_facts", "value"), ("alerts", "details"), ("verdicts", "evidence")}
"""Columns that always hold JSON, also when the value is a plain string."""

PACKETS = TableSpec("packets", (("incident", "incident", False), ("interface", "interface", False), ("direction", "direction", False),
                                ("link_type", "link_type", True), ("at_ns", "at_ns", True)))  # fmt: skip
JOURNALS = _spec("journals", "incident", "core", "part:int", "lines")
MAINTENANCE = _spec("maintenance", "what", "detail")

RECORD_APPEND_ONLY = (
    *(spec.table for spec in TABLES.values() if spec.table not in OUTBOX_APPEND_ONLY),
    "packets",
    "journals",
    "maintenance",
    *OUTBOX_APPEND_ONLY,
)

STAMPED = tuple(t for t in RECORD_APPEND_ONLY if t not in ("delivery_attempts", "acknowledgements"))
"""Tables whose rows carry all the stamps."""


class NewerSchema(Exception):
    """The database was written by a newer brainctl."""


def _create(spec: TableSpec, extra: str = "extra TEXT NOT NULL") -> str:
    columns = ", ".join(f"{column} {'INTEGER' if is_int else 'TEXT'} NOT NULL" for _, column, is_int in spec.columns)
    return f"CREATE TABLE {spec.table} ({STAMP_COLUMNS}, {columns}, {extra})"


def delete_trigger(table: str) -> str:
    """DDL of the trigger that refuses DELETE; maintenance drops and restores it inside its own transaction."""
    return f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} BEGIN SELECT raise(ABORT, 'the record is append-only: {table}'); END"


def _guards(table: str) -> Sequence[str]:
    return (
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} BEGIN SELECT raise(ABORT, 'the record is append-only: {table}'); END",
        delete_trigger(table),
        # INSERT OR REPLACE deletes without the delete trigger on a connection that has recursive_triggers off.
        f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN NEW.id IN "  # noqa: S608
        f"(SELECT id FROM {table}) BEGIN SELECT raise(ABORT, 'the record is append-only: {table}'); END",
    )


def _first(db: Database) -> None:
    statements: list[str] = []
    for kind, spec in TABLES.items():
        if kind is not RowKind.ALERT:
            statements.append(_create(spec))
    statements += [_create(PACKETS, "data BLOB NOT NULL"), _create(JOURNALS), _create(MAINTENANCE), *OUTBOX_DDL]
    statements += [
        "CREATE INDEX evidence_ref ON evidence(evidence_id)",
        "CREATE INDEX verdicts_incident ON verdicts(incident)",
        "CREATE INDEX incidents_ref ON incidents(incident)",
        "CREATE INDEX actions_incident ON actions(incident)",
        "CREATE INDEX fences_order ON fences(order_id)",
        "CREATE INDEX fences_incident ON fences(incident)",
        "CREATE INDEX node_facts_key ON node_facts(key)",
        "CREATE INDEX packets_incident ON packets(incident)",
        "CREATE INDEX journals_incident ON journals(incident)",
    ]
    for table in RECORD_APPEND_ONLY:
        statements += _guards(table)
    for statement in statements:
        db.execute(statement)


def _progress(db: Database) -> None:
    # The one row says how far the watcher's messages are on the disk; it changes in the same transaction as the rows.
    db.execute("CREATE TABLE progress (id INTEGER PRIMARY KEY CHECK (id = 1), session TEXT NOT NULL, seq INTEGER NOT NULL)")


STEPS: tuple[Callable[[Database], None], ...] = (_first, _progress)
"""Migrations, oldest first; the schema version is how many were applied. Never change one that was released: add another."""

SCHEMA_VERSION = len(STEPS)


def _migrations() -> Migrations:
    migrations = Migrations("record")
    for version, step in enumerate(STEPS, 1):

        def apply(db: Database, step: Callable[[Database], None] = step, version: int = version) -> None:
            step(db)
            db.execute(f"PRAGMA user_version={version}")

        migrations(name=f"{version:04d}")(apply)
    return migrations


def schema_version(db: Database) -> int:
    """The version of an open database."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def connect_writer(path: str) -> Database:
    """Open or create the record for writing: WAL, synchronous=FULL, migrated.

    Raises NewerSchema, and sqlite3.Error as SQLite reports it. A new database is private to its owner and the
    group (0640).
    """
    if not os.path.exists(path):
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o640))
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1000)
    try:
        db = Database(connection, execute_plugins=False)
        version = schema_version(db)
        if version > SCHEMA_VERSION:
            raise NewerSchema(
                f"{path} has schema version {version}, this brainctl knows up to {SCHEMA_VERSION}; "
                "install the newer brainctl again, or move the file away to start a new record"
            )
        if not version:
            db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        mode = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise sqlite3.OperationalError(f"the file system of {path} cannot hold a write-ahead log (journal mode {mode})")
        db.execute("PRAGMA synchronous=FULL")
        db.execute(f"PRAGMA journal_size_limit={WAL_BYTES}")
        _migrations().apply(db)
    except BaseException:
        connection.close()
        raise
    return db


def column_default(is_int: bool) -> JsonValue:
    """What a missing field is."""
    return 0 if is_int else ""
