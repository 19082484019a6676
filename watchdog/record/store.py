"""The recorder's database: opened, written in transactions, set aside when damaged.

Errors are of two kinds. *Damaged* (not a database, malformed, failed check): the files are renamed with a
time stamp, what can still be read of the small important tables is carried over, and a new database goes on.
*Unavailable* (disk full, read-only, no permission, newer schema): nothing is changed; the caller keeps its
rows and tries again.
"""

from __future__ import annotations

import glob
import os
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlite_utils import Database

from alerts.outbox import write_transaction
from watchdog.record.rows import Stamp, TableRow, spec_row
from watchdog.record.schema import MAINTENANCE, NewerSchema, connect_writer

SALVAGED_TABLES = ("node_facts", "fences", "incidents", "alerts", "deliveries", "acknowledgements")
KEPT_ASIDE = 5
"""So many damaged databases are kept; a failing disk must not fill itself with them."""

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_CODES = {
    sqlite3.SQLITE_FULL: ("disk_full", "free space on the file system of the record"),
    sqlite3.SQLITE_READONLY: ("read_only", "make the state directory writable for braind"),
    sqlite3.SQLITE_CANTOPEN: ("cannot_open", "check that the state directory exists and belongs to braind"),
    sqlite3.SQLITE_PERM: ("no_permission", "check the owner and mode of the state directory"),
    sqlite3.SQLITE_BUSY: ("busy", "another program holds the database; close sqlite3 shells on it"),
    sqlite3.SQLITE_IOERR: ("io_error", "check the disk (dmesg)"),
}


class StoreUnavailable(Exception):
    """Nothing can be written now. ``code`` is for programs, the text and ``remedy`` for people."""

    def __init__(self, code: str, detail: str, remedy: str) -> None:
        super().__init__(detail)
        self.code = code
        self.remedy = remedy


class StoreDamaged(Exception):
    """The database is damaged and must be set aside."""


@dataclass(slots=True)
class SetAside:
    """A damaged database that was renamed: where it is, why, and how many rows of which table were carried over."""

    path: str
    why: str
    salvaged: dict[str, int] = field(default_factory=dict)
    complete: bool = True
    """False if a table could not be read to its end: facts about fences may be missing."""


def _translate(error: Exception, path: str) -> StoreUnavailable | StoreDamaged:
    if isinstance(error, NewerSchema):
        return StoreUnavailable("newer_schema", str(error), "install the newer brainctl again")
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _DAMAGED:
            return StoreDamaged(f"{path}: {error}")
        name, remedy = _CODES.get(code, ("sqlite_error", "see the message"))
        return StoreUnavailable(name, f"{path}: {error}", remedy)
    if isinstance(error, OSError):
        return StoreUnavailable("os_error", f"{path}: {error.strerror or error}", "check the state directory and its disk")
    return StoreUnavailable("internal", f"{path}: {type(error).__name__}: {error}", "report this")


class Store:
    """One database file, open or not."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.db: Database | None = None
        self._inode = 0

    @property
    def is_open(self) -> bool:
        """True while a connection is there."""
        return self.db is not None

    def open(self, *, full_check: bool = True) -> bool:
        """Open, check and migrate; True if the file had to be created. Raises StoreDamaged, StoreUnavailable."""
        self.close()
        created = not os.path.exists(self.path) or not os.path.getsize(self.path)
        try:
            self.db = connect_writer(self.path)
            if full_check and not created:
                result = self.db.execute("PRAGMA quick_check(1)").fetchone()[0]
                if result != "ok":
                    raise StoreDamaged(f"{self.path}: quick_check: {result}")
            self._inode = os.stat(self.path).st_ino
        except StoreDamaged:
            self.close()
            raise
        except (sqlite3.Error, OSError, NewerSchema) as error:
            self.close()
            raise _translate(error, self.path) from error
        return created

    def close(self) -> None:
        """Close the connection; never raises."""
        db, self.db = self.db, None
        if db is not None:
            try:
                db.close()
            except sqlite3.Error:
                pass

    def file_is_ours(self) -> bool:
        """Whether the path still holds the file that is open: rows written to a removed file would be nowhere."""
        try:
            return os.stat(self.path).st_ino == self._inode
        except OSError:
            return False

    def damage_on_disk(self) -> str:
        """ "" or what a fresh connection finds wrong with the file."""
        try:
            fresh = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        except sqlite3.Error:
            return ""
        try:
            result = fresh.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.Error as error:
            return str(error) if isinstance(_translate(error, self.path), StoreDamaged) else ""
        finally:
            fresh.close()
        return "" if result == "ok" else str(result)

    def rescue_removed(self) -> bool:
        """The open database's file was removed under us: write its content to the path again. True if that worked."""
        if self.db is None or os.path.exists(self.path):
            return False
        try:
            target = sqlite3.connect(f"{self.path}.rescue")
            try:
                self.db.conn.backup(target)
            finally:
                target.close()
            os.replace(f"{self.path}.rescue", self.path)
        except (sqlite3.Error, OSError):
            return False
        return True

    def progress(self) -> tuple[str, int]:
        """The watcher's session and the number of its last message on the disk; ("", 0) if there is none. Raises like ``write``."""
        if self.db is None:
            return "", 0
        try:
            row = self.db.execute("SELECT session, seq FROM progress").fetchone()
        except sqlite3.Error as error:
            raise _translate(error, self.path) from error
        return (str(row[0]), int(row[1])) if row else ("", 0)

    def write(self, rows: Sequence[TableRow], progress: tuple[str, int] | None = None) -> None:
        """Insert rows in one transaction; when it returns they are on the disk.

        Raises StoreDamaged or StoreUnavailable; nothing was written then.
        """
        if self.db is None:
            raise StoreUnavailable("closed", f"{self.path} is not open", "")
        try:
            with write_transaction(self.db):
                for table, columns in _grouped(rows):
                    self.db.table(table).insert_all(columns)
                if progress is not None:
                    self.db.table("progress").upsert({"id": 1, "session": progress[0], "seq": progress[1]}, pk="id")
        except (sqlite3.Error, OSError) as error:
            raise _translate(error, self.path) from error

    def set_aside(self, why: str, stamp: Stamp) -> SetAside:
        """Rename a damaged database, make a new one and carry over what can be read. Raises StoreUnavailable, StoreDamaged."""
        self.close()
        aside = f"{self.path}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(stamp.wall_ns // 1_000_000_000))}"
        number = 0
        while os.path.exists(aside if not number else f"{aside}.{number}"):
            number += 1
        aside = aside if not number else f"{aside}.{number}"
        try:
            for suffix in ("-wal", "-shm", ""):
                if os.path.exists(self.path + suffix):
                    os.replace(self.path + suffix, aside + suffix)
        except OSError as error:
            raise _translate(error, self.path) from error
        self.open()
        assert self.db is not None
        done = SetAside(aside, why)
        _salvage(aside, self.db, done)
        detail = {"path": aside, "why": why, "salvaged": done.salvaged, "complete": done.complete}
        self.write([spec_row(MAINTENANCE, {"what": "set_aside", "detail": detail}, stamp)])  # type: ignore[dict-item]
        self._forget_old_ones()
        return done

    def _forget_old_ones(self) -> None:
        found = sorted(p for p in glob.glob(f"{glob.escape(self.path)}.damaged-*") if not p.endswith(("-wal", "-shm")))
        for path in found[:-KEPT_ASIDE]:
            for suffix in ("", "-wal", "-shm"):
                try:
                    os.unlink(path + suffix)
                except OSError:
                    pass


def _grouped(rows: Sequence[TableRow]) -> list[tuple[str, list[dict[str, object]]]]:
    """Neighbouring rows of one table together, order kept within each table."""
    groups: list[tuple[str, list[dict[str, object]]]] = []
    for row in rows:
        if not groups or groups[-1][0] != row.table:
            groups.append((row.table, []))
        groups[-1][1].append(row.columns)
    return groups


def _salvage(aside: str, target: Database, done: SetAside) -> None:
    """Copy the small tables that safety and paging need, row by row as far as they can be read."""
    try:
        source = sqlite3.connect(aside, timeout=1.0)
    except sqlite3.Error:
        done.complete = False
        return
    source.row_factory = sqlite3.Row
    try:
        for table in SALVAGED_TABLES:
            try:
                known = {c.name for c in target.table(table).columns}
                cursor = source.execute(f"SELECT * FROM {table}")  # noqa: S608  a constant of ours
                with write_transaction(target):
                    done.salvaged[table] = _copy(cursor, target, table, known, done)
            except sqlite3.Error:
                done.complete = False
    finally:
        try:
            source.close()
        except sqlite3.Error:
            pass


def _copy(cursor: sqlite3.Cursor, target: Database, table: str, known: set[str], done: SetAside) -> int:
    copied = 0
    while True:
        try:
            row = cursor.fetchone()
        except sqlite3.Error:
            done.complete = False
            return copied
        if row is None:
            return copied
        try:
            target.table(table).insert({k: row[k] for k in row.keys() if k in known})  # noqa: SIM118  a sqlite3.Row iterates over values
            copied += 1
        except (sqlite3.Error, ValueError):
            done.complete = False
