"""Where each key of a TOML file stands: tomllib gives values without positions, and an error without a line is half an error.

``locate`` scans the text and maps key paths such as ``("path", 1, "interface")`` to (line, column). It only has to be right for files that
tomllib accepts; for anything it cannot place, ``Positions.of`` falls back to the nearest enclosing table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from base.diagnostics import Position

KeyPath = tuple[str | int, ...]

_HEADER = re.compile(r"^\s*(\[\[|\[)([^\]]+)\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=(.*)$""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")
_INLINE_KEY = re.compile(r"""(?<![A-Za-z0-9_-])([A-Za-z0-9_-]+|"[^"]*")\s*=""")
MAX_LOOKED_AT = 10_000
"""Of a longer line only its key is placed: looking for keys and brackets inside takes time that grows faster than the line."""


@dataclass(slots=True)
class Positions:
    """Key path → position, with a fallback to what encloses it."""

    file: str
    places: dict[KeyPath, tuple[int, int]] = field(default_factory=dict)

    def of(self, path: KeyPath) -> Position:
        """The position of a key, or of the nearest enclosing table, or of the file."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                line, column = self.places[path[:end]]
                return Position(self.file, line, column)
        return Position(self.file)


def _parts(dotted: str) -> list[str]:
    return [p.strip("\"'") for p in _PART.findall(dotted)]


def locate(file: str, text: str) -> Positions:
    """Scan TOML text; never raises."""
    positions = Positions(file)
    counters: dict[KeyPath, int] = {}
    table: KeyPath = ()
    closing: str | None = None  # the delimiter of an open multi-line string
    depth = 0  # open brackets of a multi-line array
    for number, line in enumerate(text.splitlines(), 1):
        if closing is not None:
            if closing in line:
                closing = None
            continue
        if depth > 0:
            depth += _bracket_balance(line)
            continue
        if header := _HEADER.match(line):
            table = _enter(_parts(header.group(2)), header.group(1) == "[[", counters)
            positions.places.setdefault(table, (number, line.index("[") + 1))
            continue
        if key := _KEY.match(line):
            path = (*table, *_parts(key.group(1)))
            positions.places.setdefault(path, (number, len(line) - len(line.lstrip()) + 1))
            value = key.group(2) if len(line) <= MAX_LOOKED_AT else ""
            if value.lstrip().startswith("{"):
                for inner in _INLINE_KEY.finditer(value):
                    positions.places.setdefault((*path, inner.group(1).strip('"')), (number, key.start(2) + inner.start() + 1))
            for quotes in ('"""', "'''"):
                if value.count(quotes) % 2:
                    closing = quotes
            if closing is None:
                depth = max(0, _bracket_balance(value))
    return positions


def _bracket_balance(text: str) -> int:
    if len(text) > MAX_LOOKED_AT:
        return 0
    bare = re.sub(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|#.*$', "", text)
    return bare.count("[") - bare.count("]")


def _enter(parts: list[str], is_array: bool, counters: dict[KeyPath, int]) -> KeyPath:
    path: KeyPath = ()
    for i, part in enumerate(parts):
        path = (*path, part)
        last = i == len(parts) - 1
        if last and is_array:
            counters[path] = counters.get(path, -1) + 1
        if path in counters:
            path = (*path, counters[path])
    return path
