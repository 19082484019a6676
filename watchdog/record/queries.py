"""Read-only questions to the record, for the operator's command: they work while the daemon writes and when it is dead.

Nothing here can change the record (``mode=ro``). Every read is one consistent snapshot of what was committed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlite_utils import Database

from base.core import JsonValue
from watchdog.record.restore import node_facts
from watchdog.record.schema import RECORD_APPEND_ONLY, SCHEMA_VERSION

UNDELIVERED_STATES = ("pending", "sending", "refused")
MAX_LOG_LINES = 100_000
BIND_LIMIT = 500
RowT = TypeVar("RowT")


class RecordUnavailable(Exception):
    """The record cannot be read; the message says why and ``remedy`` what to do."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(why)
        self.remedy = remedy


class RecordClosed(RecordUnavailable):
    """It is there and not for this user: nothing is wrong with it."""


@dataclass(frozen=True, slots=True)
class Stamped:
    """Who wrote a row and when. ``row_id`` is unique within its table."""

    row_id: int
    node: str
    boot: str
    incarnation: int
    wall_ns: int
    boottime_ns: int


@dataclass(frozen=True, slots=True)
class EvidenceRow(Stamped):
    """One piece of evidence."""

    evidence_id: str
    kind: str
    subject: str
    detail: str
    at_ns: int
    extra: str


@dataclass(frozen=True, slots=True)
class VerdictRow(Stamped):
    """One verdict with the ids of its evidence."""

    verdict_id: str
    scope: str
    verdict: str
    stage: str
    reason: str
    evidence: tuple[str, ...]
    incident: str
    extra: str


@dataclass(frozen=True, slots=True)
class ActionRow(Stamped):
    """One action or operator's order."""

    action_id: str
    incident: str
    action: str
    subject: str
    detail: str
    outcome: str
    extra: str


@dataclass(frozen=True, slots=True)
class FenceRow(Stamped):
    """One state change of a fence; level 0 is the whole fence."""

    order_id: str
    incident: str
    target: str
    level: int
    state: str
    detail: str
    extra: str


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """What became of an alert at one receiver."""

    receiver: str
    state: str
    attempts: int
    detail: str
    changed_wall_ns: int


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One attempt to deliver an alert."""

    receiver: str
    attempt: int
    outcome: str
    detail: str
    took_ms: int
    wall_ns: int


@dataclass(frozen=True, slots=True)
class AlertRow(Stamped):
    """An alert with its deliveries. No deliveries yet: nobody has looked at it."""

    dedup_key: str
    incident: str
    severity: str
    action: str
    summary: str
    details: JsonValue
    dedup: str
    deliveries: tuple[DeliveryRow, ...] = ()
    attempts: tuple[AttemptRow, ...] = ()

    @property
    def undelivered(self) -> bool:
        """True while a receiver that should have it has not."""
        if self.dedup:
            return False
        return not self.deliveries or any(d.state in UNDELIVERED_STATES for d in self.deliveries)


@dataclass(frozen=True, slots=True)
class PacketRow(Stamped):
    """One captured packet; ``link_type`` as in pcap (1 = ethernet)."""

    incident: str
    interface: str
    direction: str
    link_type: int
    at_ns: int
    data: bytes


@dataclass(frozen=True, slots=True)
class IncidentSummary:
    """An incident in its newest state."""

    incident: str
    state: str
    scope: str
    verdict: str
    summary: str
    node: str
    opened_wall_ns: int
    changed_wall_ns: int
    acknowledged_by: str = ""


@dataclass(frozen=True, slots=True)
class IncidentReport:
    """Everything the record knows of one incident, each list in the order of writing."""

    incident: IncidentSummary
    history: tuple[IncidentSummary, ...]
    verdicts: tuple[VerdictRow, ...]
    evidence: tuple[EvidenceRow, ...]
    actions: tuple[ActionRow, ...]
    fences: tuple[FenceRow, ...]
    alerts: tuple[AlertRow, ...]
    packets: int
    journals: int

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One row of any table as a line: ``kind`` is a RowKind value, ``subject`` what it is about, ``text`` a sentence."""

    kind: str
    row_id: int
    node: str
    wall_ns: int
    incident: str
    subject: str
    text: str
    fields: dict[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Undelivered:
    """An alert that a receiver should have and has not."""

    alert: AlertRow
    receiver: str
    state: str
    attempts: int
    detail: str


@dataclass(frozen=True, slots=True)
class RecordHealth:
    """How the record is. ``problem`` is "" or what is wrong with it."""

    path: str
    bytes: int
    wal_bytes: int
    schema_version: int
    last_write_wall_ns: int
    rows: dict[str, int]
    undelivered: int
    open_incidents: int
    problem: str
    set_aside: tuple[str, ...]


_LOG_SOURCES: dict[str, tuple[str, str, str, str]] = {
    # kind: (table, incident expression, subject expression, text expression)
    "evidence": ("evidence", "''", "kind || ' ' || subject", "detail"),
    "verdict": ("verdicts", "incident", "scope", "verdict || CASE stage WHEN '' THEN '' ELSE ' (' || stage || ')' END || ': ' || reason"),
    "incident": ("incidents", "incident", "scope", "state || ' ' || verdict || ': ' || summary"),
    "action": ("actions", "incident", "subject", "action || CASE outcome WHEN '' THEN '' ELSE ' → ' || outcome END || ' ' || detail"),
    "fence": ("fences", "incident", "target", "state || CASE level WHEN 0 THEN '' ELSE ' level ' || level END || ' ' || detail"),
    "alert": ("alerts", "incident", "dedup_key", "action || ' ' || severity || ': ' || summary"),
    "node": ("node_facts", "''", "key", "value"),
    "maintenance": ("maintenance", "''", "what", "detail"),
}
LOG_KINDS = tuple(_LOG_SOURCES)


class Record:
    """An open record; use ``open_record``."""

    def __init__(self, path: str, db: Database) -> None:
        self.path = path
        self._db = db

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- incidents ------------------------------------------------------------------------------------------------------------

    def incidents(self, *, limit: int = 50, open_only: bool = False) -> list[IncidentSummary]:
        """The newest incidents, newest first."""
        newest = "SELECT max(id) FROM incidents GROUP BY incident"
        where = f"id IN ({newest})" + (" AND state <> 'closed'" if open_only else "")
        with self._reading():
            rows = self._rows("incidents", where, [], order_by="id desc", limit=limit)
            return [self._summary(row) for row in rows]

    def incident(self, incident: str) -> IncidentReport | None:
        """One incident, by its id or a part of it that only one has: its beginning, or its end after a "/". None if there is none."""
        with self._reading():
            name = self._find(incident)
            if name is None:
                return None
            history = self._rows("incidents", "incident = ?", [name])
            verdicts = [self._verdict(row) for row in (*self._verdicts_before(history[0]), *self._rows("verdicts", "incident = ?", [name]))]
            return IncidentReport(
                incident=self._summary(history[-1]),
                history=tuple(self._summary(row) for row in history),
                verdicts=tuple(verdicts),
                evidence=tuple(self._evidence_of(verdicts)),
                actions=tuple(_stamped(ActionRow, row) for row in self._rows("actions", "incident = ?", [name])),
                fences=tuple(_stamped(FenceRow, row) for row in self._rows("fences", "incident = ?", [name])),
                alerts=tuple(self._alerts(self._rows("alerts", "incident = ?", [name]))),
                packets=self._db.table("packets").count_where("incident = ?", [name]),
                journals=self._db.table("journals").count_where("incident = ?", [name]),
            )

    def _verdicts_before(self, opening: dict[str, Any]) -> list[dict[str, Any]]:
        """The verdicts that led to an incident: those of its scope and run since the scope was last HEALTHY, up to the opening.

        They were written before the incident had an id.
        """
        same = "scope = ? AND incarnation = ? AND node = ? AND incident = ''"
        key = [opening["scope"], opening["incarnation"], opening["node"]]
        before = self._rows("verdicts", f"{same} AND boottime_ns <= ?", [*key, opening["boottime_ns"]])
        healthy = [number for number, row in enumerate(before) if row["verdict"] == "HEALTHY"]
        return before[healthy[-1] + 1 :] if healthy else before

    def packets(self, incident: str) -> list[PacketRow]:
        """The captured packets of an incident, in the order of their time."""
        with self._reading():
            name = self._find(incident) or incident
            return [_stamped(PacketRow, row) for row in self._rows("packets", "incident = ?", [name], order_by="at_ns, id")]

    def journal(self, incident: str) -> Iterator[str]:
        """The lines of the journal dumps of an incident."""
        with self._reading():
            rows = self._rows("journals", "incident = ?", [self._find(incident) or incident])
        for row in rows:
            yield from row["lines"].splitlines()

    def evidence(self, ids: Sequence[str], *, incarnation: int | None = None) -> list[EvidenceRow]:
        """Evidence rows by their ids, of one run (ids are unique only within a run; default: the newest)."""
        with self._reading():
            if incarnation is None:
                incarnation = self._db.execute("SELECT coalesce(max(incarnation), 0) FROM evidence").fetchone()[0]
            return self._evidence(ids, incarnation)

    # ---- lists ----------------------------------------------------------------------------------------------------------------

    def log(
        self,
        *,
        kinds: Sequence[str] = (),
        since_wall_ns: int | None = None,
        until_wall_ns: int | None = None,
        incident: str = "",
        subject: str = "",
        after: dict[str, int] | None = None,
        limit: int = 200,
    ) -> list[LogLine]:
        """The newest ``limit`` lines that pass the filters, oldest first.

        ``kinds``: of LOG_KINDS, () = all but evidence. ``subject``: text contained in the subject (a group, a node). ``after``: row ids by
        kind, for following: only newer rows (see ``position``). Raises ValueError for an unknown kind.
        """
        unknown = [k for k in kinds if k not in _LOG_SOURCES]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no kind; known: {', '.join(LOG_KINDS)}")
        limit = max(0, min(limit, MAX_LOG_LINES))
        lines: list[LogLine] = []
        with self._reading():
            name = (self._find(incident) or incident) if incident else ""
            for kind in kinds or [k for k in LOG_KINDS if k != "evidence"]:
                lines += self._log_of(kind, since_wall_ns, until_wall_ns, name, subject, (after or {}).get(kind, 0), limit)
        lines.sort(key=lambda line: (line.wall_ns, LOG_KINDS.index(line.kind), line.row_id))
        return lines[-limit:] if limit else []

    def position(self) -> dict[str, int]:
        """The newest row id of each kind: give it to ``log(after=…)`` to get only what comes later."""
        with self._reading():
            return {k: self._db.execute(f"SELECT coalesce(max(id), 0) FROM {s[0]}").fetchone()[0] for k, s in _LOG_SOURCES.items()}  # noqa: S608

    def undelivered(self, *, limit: int = 1_000) -> list[Undelivered]:
        """Alerts that a receiver should have and has not, oldest first. Receiver "" = nobody has looked at the alert yet."""
        states = ",".join(f"'{s}'" for s in UNDELIVERED_STATES)
        where = (
            f"EXISTS (SELECT 1 FROM deliveries d WHERE d.alert_id = alerts.id AND d.state IN ({states}))"  # noqa: S608
            " OR dedup = '' AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.alert_id = alerts.id)"
        )
        with self._reading():
            found = []
            for alert in self._alerts(self._rows("alerts", where, [], limit=limit)):
                if not alert.deliveries:
                    found.append(Undelivered(alert, "", "pending", 0, "not yet seen by the delivery process"))
                for d in alert.deliveries:
                    if d.state in UNDELIVERED_STATES:
                        found.append(Undelivered(alert, d.receiver, d.state, d.attempts, d.detail))
            return found

    def fences(self, *, limit: int = 200) -> list[FenceRow]:
        """The newest state changes of fences, oldest first."""
        with self._reading():
            return [_stamped(FenceRow, row) for row in reversed(self._rows("fences", "1", [], order_by="id desc", limit=limit))]

    def last_verdicts(self) -> list[VerdictRow]:
        """The newest verdict of each scope: what the dead daemon believed last."""
        with self._reading():
            return [self._verdict(r) for r in self._rows("verdicts", "id IN (SELECT max(id) FROM verdicts GROUP BY scope)", [])]

    def node_facts(self) -> dict[str, Any]:
        """The newest value of every durable fact about this node."""
        with self._reading():
            return node_facts(self._db)

    def health(self, *, check: bool = True) -> RecordHealth:
        """Size, version, last write, and with ``check`` whether the file is sound (reads all of it)."""
        with self._reading():
            problem = ""
            if check:
                result = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
                problem = "" if result == "ok" else str(result)
            last = max(
                self._db.execute(f"SELECT coalesce(wall_ns, 0) FROM {t} ORDER BY id DESC LIMIT 1").fetchone() or (0,)  # noqa: S608
                for t in RECORD_APPEND_ONLY
            )[0]
            return RecordHealth(
                path=self.path,
                bytes=_size(self.path),
                wal_bytes=_size(f"{self.path}-wal"),
                schema_version=int(self._db.execute("PRAGMA user_version").fetchone()[0]),
                last_write_wall_ns=last,
                rows={t: self._db.table(t).count for t in RECORD_APPEND_ONLY},
                undelivered=len(self.undelivered()),
                open_incidents=len(self.incidents(limit=1_000, open_only=True)),
                problem=problem,
                set_aside=_set_aside(self.path),
            )

    # ---- reading --------------------------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """One consistent snapshot; every SQLite error becomes RecordUnavailable."""
        began = False
        try:
            if not self._db.conn.in_transaction:
                self._db.conn.execute("BEGIN")
                began = True
            yield
        except sqlite3.Error as error:
            raise _unavailable(self.path, error) from error
        finally:
            if began and self._db.conn.in_transaction:
                self._db.conn.rollback()

    def _rows(
        self, table: str, where: str, arguments: Sequence[Any], *, order_by: str = "id", limit: int | None = None
    ) -> list[dict[str, Any]]:
        return list(self._db.table(table).rows_where(where, list(arguments), order_by=order_by, limit=limit))

    def _find(self, incident: str) -> str | None:
        if self._db.table("incidents").count_where("incident = ?", [incident]):
            return incident
        if not incident:
            return None
        found = self._db.execute(
            "SELECT DISTINCT incident FROM incidents WHERE substr(incident, -length(?1)) = ?1 OR substr(incident, 1, length(?2)) = ?2",
            [f"/{incident}", incident],
        ).fetchall()
        return str(found[0][0]) if len(found) == 1 else None

    def _summary(self, row: dict[str, Any]) -> IncidentSummary:
        opened = self._db.execute("SELECT min(wall_ns) FROM incidents WHERE incident = ?", [row["incident"]]).fetchone()[0]
        who = self._db.execute("SELECT who FROM acknowledgements WHERE incident = ? ORDER BY id LIMIT 1", [row["incident"]]).fetchone()
        return IncidentSummary(
            row["incident"],
            row["state"],
            row["scope"],
            row["verdict"],
            row["summary"],
            row["node"],
            opened,
            row["wall_ns"],
            who[0] if who else "",
        )

    def _verdict(self, row: dict[str, Any]) -> VerdictRow:
        ids = _json(row["evidence"])
        texts = tuple(str(i) for i in ids) if isinstance(ids, list) else ((str(ids),) if ids else ())
        return _stamped(VerdictRow, {**row, "evidence": texts})

    def _evidence_of(self, verdicts: Sequence[VerdictRow]) -> Iterator[EvidenceRow]:
        seen: set[int] = set()
        wanted: dict[int, list[str]] = {}
        for verdict in verdicts:
            wanted.setdefault(verdict.incarnation, []).extend(verdict.evidence)
        for incarnation, ids in wanted.items():
            for row in self._evidence(ids, incarnation):
                if row.row_id not in seen:
                    seen.add(row.row_id)
                    yield row

    def _evidence(self, ids: Sequence[str], incarnation: int) -> list[EvidenceRow]:
        unique = list(dict.fromkeys(ids))
        rows: list[EvidenceRow] = []
        for start in range(0, len(unique), BIND_LIMIT):
            part = unique[start : start + BIND_LIMIT]
            marks = ",".join("?" * len(part))
            found = self._rows("evidence", f"evidence_id IN ({marks}) AND incarnation = ?", [*part, incarnation])
            rows += [_stamped(EvidenceRow, row) for row in found]
        return sorted(rows, key=lambda r: r.row_id)

    def _alerts(self, rows: Sequence[dict[str, Any]]) -> list[AlertRow]:
        alerts = []
        for row in rows:
            deliveries = [
                DeliveryRow(d["receiver"], d["state"], d["attempts"], d["detail"], d["changed_wall_ns"])
                for d in self._rows("deliveries", "alert_id = ?", [row["id"]], order_by="receiver")
            ]
            attempts = [
                AttemptRow(a["receiver"], a["attempt"], a["outcome"], a["detail"], a["took_ms"], a["wall_ns"])
                for a in self._rows("delivery_attempts", "alert_id = ?", [row["id"]])
            ]
            fields = {**row, "details": _json(row["details"]), "deliveries": tuple(deliveries), "attempts": tuple(attempts)}
            fields.pop("extra")
            alerts.append(_stamped(AlertRow, fields))
        return alerts

    def _log_of(
        self, kind: str, since_ns: int | None, until_ns: int | None, incident: str, subject: str, after_id: int, limit: int
    ) -> list[LogLine]:
        table, incident_sql, subject_sql, text_sql = _LOG_SOURCES[kind]
        where, arguments = ["id > ?"], [after_id]  # type: list[str], list[Any]
        for condition, value in (("wall_ns >= ?", since_ns), ("wall_ns < ?", until_ns)):
            if value is not None:
                where.append(condition)
                arguments.append(value)
        if incident:
            where.append(f"{incident_sql} = ?")
            arguments.append(incident)
        if subject:
            where.append(f"instr({subject_sql}, ?) > 0")
            arguments.append(subject)
        select = f"*, {incident_sql} AS log_incident, {subject_sql} AS log_subject, {text_sql} AS log_text"
        rows = self._db.table(table).rows_where(" AND ".join(where), arguments, order_by="id desc", select=select, limit=limit)
        return [_log_line(kind, row) for row in rows]


def _log_line(kind: str, row: dict[str, Any]) -> LogLine:
    incident, subject, text = row.pop("log_incident"), row.pop("log_subject"), row.pop("log_text")
    row_id, node, wall_ns = row.pop("id"), row.pop("node"), row.pop("wall_ns")
    return LogLine(kind, row_id, node, wall_ns, incident, subject, text.rstrip(), row)


def _stamped(cls: type[RowT], row: dict[str, Any]) -> RowT:
    """A row's dataclass from its columns."""
    return cls(**{("row_id" if k == "id" else k): v for k, v in row.items()})


def _json(text: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(text) if text else ""
    except (ValueError, RecursionError):
        value = text
    return value


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _set_aside(path: str) -> tuple[str, ...]:
    directory, name = os.path.split(path)
    try:
        names = os.listdir(directory or ".")
    except OSError:
        return ()
    return tuple(sorted(n for n in names if n.startswith(f"{name}.damaged-") and not n.endswith(("-wal", "-shm"))))


def _unavailable(path: str, error: sqlite3.Error) -> RecordUnavailable:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return RecordUnavailable(f"{path} is damaged: {error}", "start braind: it sets the file aside, saves what it can and goes on")
    if code == sqlite3.SQLITE_BUSY:
        return RecordUnavailable(f"{path} is busy: {error}", "try again; close sqlite3 shells that hold it")
    return RecordUnavailable(f"{path}: {error}", "check the state directory, and that you are root or in group brainctl")


def open_record(path: str) -> Record:
    """Open the record for reading; raises RecordUnavailable (no file, damaged, newer schema, no permission)."""
    try:
        os.stat(path)
    except PermissionError:
        raise RecordClosed(
            f"{path} may not be read by this user", "run it as root: the record holds what an attacker would like to know"
        ) from None
    except OSError:
        raise RecordUnavailable(f"there is no record at {path}", "braind has not run here yet, or --state-dir is another") from None
    try:
        db = _open_readonly(path)
    except sqlite3.Error as error:
        raise _unavailable(path, error) from error
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        db.close()
        raise RecordUnavailable(
            f"{path} has schema version {version}, this brainctl knows up to {SCHEMA_VERSION}", "use the newer brainctl"
        )
    if version < 1:
        db.close()
        raise RecordUnavailable(f"{path} is empty", "braind has not written to it yet")
    return Record(path, db)


def _open_readonly(path: str) -> Database:
    """``mode=ro``; for a reader who may not create the shared memory beside a cleanly closed file, ``immutable``."""
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    error: sqlite3.Error | None = None
    for flags in ("mode=ro", "mode=ro&immutable=1"):
        if flags.endswith("1") and _size(f"{path}-wal"):
            break  # committed rows may be in the log: reading without it would show an old state
        connection = sqlite3.connect(f"file:{quoted}?{flags}", uri=True, timeout=5.0)
        try:
            db = Database(connection, execute_plugins=False)
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return db
        except sqlite3.OperationalError as failure:
            connection.close()
            error = failure
        except sqlite3.Error:
            connection.close()
            raise
    assert error is not None
    raise error
