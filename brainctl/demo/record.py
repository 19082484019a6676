"""Reads a node's record (brain.db) with nothing but sqlite3: the demo's view of what braind wrote down."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any


class Record:
    """The database may not exist yet, or no longer; then it holds nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _rows(self, query: str, *arguments: object) -> list[Any]:
        if not self.path.exists():
            return []
        try:
            with contextlib.closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=0.2)) as database:
                return database.execute(query, arguments).fetchall()
        except sqlite3.Error:
            return []

    def last_verdict(self) -> str:
        """The newest verdict about the pair."""
        rows = self._rows("SELECT verdict FROM verdicts WHERE scope = 'pair' ORDER BY id DESC LIMIT 1")
        return str(rows[0][0]) if rows else ""

    def verdicts(self, since_ns: int) -> set[str]:
        """Every verdict recorded since an instant, plain and with its stage."""
        found = set()
        for verdict, stage in self._rows("SELECT verdict, stage FROM verdicts WHERE wall_ns >= ?", since_ns):
            found.add(str(verdict))
            if stage:
                found.add(f"{verdict}/{stage}")
        return found

    def split_verdicts(self, since_ns: int) -> list[int]:
        """When SPLIT_BRAIN verdicts were recorded."""
        return [int(row[0]) for row in self._rows("SELECT wall_ns FROM verdicts WHERE verdict = 'SPLIT_BRAIN' AND wall_ns >= ?", since_ns)]

    def fence_states(self) -> list[str]:
        """The states that fences went through, oldest first."""
        return [str(row[0]) for row in self._rows("SELECT state FROM fences ORDER BY id")]
