"""From a Row's fields to a table's columns, and the stamps that every row carries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from base.core import JsonValue
from watchdog.judgement.commands import RowKind
from watchdog.record.schema import JSON_COLUMNS, TABLES, TableSpec

_INT64 = 1 << 63
MAX_TEXT = 256 * 1024
"""A longer text is cut: one row must not fill the disk."""


class BadRow(Exception):
    """A row that cannot be recorded as what it claims to be."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who wrote a row, in which boot and run, and when."""

    node: str
    boot: str
    incarnation: int
    wall_ns: int
    boottime_ns: int

    def columns(self) -> dict[str, JsonValue]:
        """The stamp as columns."""
        return {
            "node": self.node,
            "boot": self.boot,
            "incarnation": self.incarnation,
            "wall_ns": self.wall_ns,
            "boottime_ns": self.boottime_ns,
        }


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row ready to be inserted; ``bulk`` ones are given up first when memory runs out."""

    table: str
    columns: dict[str, Any]

    @property
    def bulk(self) -> bool:
        """True for rows that explain but decide nothing."""
        return self.table in ("evidence", "packets", "journals")


def table_row(kind: str, fields: Mapping[str, JsonValue], stamp: Stamp) -> TableRow:
    """The table row of one Row. ``kind`` is a RowKind value; raises BadRow."""
    try:
        spec = TABLES[RowKind(kind)]
    except ValueError:
        raise BadRow(f"{kind!r} is no kind of row") from None
    return spec_row(spec, fields, stamp)


def spec_row(spec: TableSpec, fields: Mapping[str, JsonValue], stamp: Stamp) -> TableRow:
    """The row of any table that has an ``extra`` column."""
    columns: dict[str, Any] = stamp.columns()
    rest = dict(fields)
    for name, column, is_int in spec.columns:
        value = rest.pop(name, 0 if is_int else "")
        if is_int:
            if isinstance(value, bool) or not isinstance(value, int) or not -_INT64 <= value < _INT64:
                raise BadRow(f"{spec.table}.{name} must be a 64-bit integer, not {str(value)[:40]!r}")
            columns[column] = value
        else:
            columns[column] = _text(value, always_json=(spec.table, column) in JSON_COLUMNS)
    columns["extra"] = _text(rest, always_json=True) if rest else ""
    return TableRow(spec.table, columns)


def _text(value: JsonValue, *, always_json: bool) -> str:
    if isinstance(value, str) and not always_json:
        text = value
    else:
        text = json.dumps(value, separators=(",", ":"))
    # Lone surrogates come from undecodable bytes in names; SQLite takes only UTF-8.
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…(cut)"


def field_pairs(fields: JsonValue) -> dict[str, JsonValue]:
    """The fields of a Row as they travel: a list of pairs, or an object. Raises BadRow."""
    if isinstance(fields, dict):
        return fields
    if isinstance(fields, Sequence) and not isinstance(fields, str):
        result: dict[str, JsonValue] = {}
        for pair in fields:
            if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
                raise BadRow("fields must be pairs of a name and a value")
            result[pair[0]] = pair[1]
        return result
    raise BadRow("fields must be an object or a list of pairs")
