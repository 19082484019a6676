"""Watches both nodes' records from outside and says when a row has arrived in them.

Arguments: NAME=PATH of each database, which need not exist yet. Writes ``{"t": CLOCK_REALTIME ns of the arrival (±5 ms), "node",
"table", "row": {column: value}}`` for every new row of the tables verdicts, fences, actions and incidents. Uses nothing but sqlite3.
"""

from __future__ import annotations

import json
import os
import select
import sqlite3
import sys
import time

TABLES = ("verdicts", "fences", "actions", "incidents")
POLL_S = 0.005


class Database:
    """One record; opened when it is there, opened again when the file was replaced."""

    def __init__(self, node: str, path: str) -> None:
        self.node, self.path = node, path
        self.connection: sqlite3.Connection | None = None
        self.inode = 0
        self.version = -1
        self.seen: dict[str, int] = {}

    def open(self) -> bool:
        """Whether it is open now."""
        try:
            inode = os.stat(self.path).st_ino
        except OSError:
            self.close()
            return False
        if self.connection is not None and inode == self.inode:
            return True
        self.close()
        self.connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=0.1, isolation_level=None)
        self.connection.row_factory = sqlite3.Row
        if inode != self.inode:
            self.inode, self.seen = inode, dict.fromkeys(TABLES, 0)
        return True

    def close(self) -> None:
        """Let go of it."""
        if self.connection is not None:
            self.connection.close()
        self.connection, self.version = None, -1

    def look(self) -> None:
        """Say what is new."""
        try:
            if not self.open():
                return
            assert self.connection is not None
            version = self.connection.execute("PRAGMA data_version").fetchone()[0]
            if version == self.version:
                return
            for table in TABLES:
                for row in self.connection.execute(f"SELECT * FROM {table} WHERE id > ? ORDER BY id", (self.seen[table],)):  # noqa: S608
                    self.seen[table] = row["id"]
                    said = {"t": time.time_ns(), "node": self.node, "table": table, "row": dict(row)}
                    sys.stdout.write(json.dumps(said) + "\n")
            self.version = version
        except sqlite3.Error:  # being made, replaced or locked: look again
            self.close()


def main() -> int:
    """Until standard input ends."""
    databases = [Database(*argument.split("=", 1)) for argument in sys.argv[1:]]
    while not select.select([0], [], [], POLL_S)[0]:
        for database in databases:
            database.look()
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
