"""Reads one TOML table with types, ranges and unknown-key detection, collecting every error with its position."""

from __future__ import annotations

import datetime
import difflib
import ipaddress
from collections.abc import Sequence
from typing import Any

from base.diagnostics import Diagnostics
from base.toml_positions import KeyPath, Positions
from watchdog.config.model import PerNode

MAX_STRING = 4_096
MAX_SHOWN = 60
MAX_LIST = 64


def show(value: Any) -> str:
    """A wrong value in an error: short, whatever it is. (``repr`` of a deep list or of a number of 5000 digits raises.)"""
    if isinstance(value, str):
        return repr(value if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]}…")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 64 else "a number of more than 64 bits"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "a table"
    return "a date or time" if isinstance(value, datetime.date | datetime.time) else type(value).__name__


def control_character(value: str) -> str:
    """The first character of a string that no name, path or argument may hold, or ""."""
    return next((c for c in value if c < " " or c == "\x7f"), "")


class TableReader:
    """Takes keys out of a table one by one; ``finish`` reports the keys that nobody took."""

    def __init__(self, data: Any, path: KeyPath, positions: Positions, diagnostics: Diagnostics) -> None:
        self.path = path
        self.positions = positions
        self.diagnostics = diagnostics
        self._known: list[str] = []
        self._data: dict[str, Any] = data if isinstance(data, dict) else {}
        if not isinstance(data, dict):
            self.error((), "this must be a table", f"write [{'.'.join(str(p) for p in path)}] and its keys below it")

    def error(self, below: KeyPath, message: str, remedy: str) -> None:
        """Report an error at a key of this table."""
        self.diagnostics.error(self.positions.of((*self.path, *below)), message, remedy)

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def take(self, key: str) -> Any:
        """The raw value or None; the key counts as known."""
        self._known.append(key)
        return self._data.get(key)

    def remaining(self) -> dict[str, Any]:
        """What was not taken yet; all of it counts as known afterwards."""
        rest = {k: v for k, v in self._data.items() if k not in self._known}
        self._known += rest
        return rest

    def string(self, key: str, default: str | None = None) -> str:
        """A non-empty string; required if there is no default."""
        value = self.take(key)
        if value is None:
            if default is None:
                self.error((), f"{key} is missing", f'add {key} = "…"')
            return default or ""
        if not isinstance(value, str) or not value:
            self.error((key,), f"{key} must be a non-empty string, not {show(value)}", f'write {key} = "…"')
            return default or ""
        return value if self.plain((key,), value) else default or ""

    def plain(self, below: KeyPath, value: str) -> bool:
        """Whether a string may be a name or a path; an error at ``below`` if not (system calls raise over a NUL)."""
        if bad := control_character(value):
            self.error(
                below, f"{show(value)} holds the control character {bad!r}", "write it on one line, without escapes such as \\n or \\u0000"
            )
        elif len(value) > MAX_STRING:
            self.error(below, f"{len(value)} characters are too long", f"at most {MAX_STRING}")
        else:
            return True
        return False

    def choice(self, key: str, choices: Sequence[str], default: str | None = None) -> str:
        """One of ``choices``."""
        value = self.string(key, default)
        if not value:
            return default or choices[0]  # string() has told the error
        if value not in choices:
            near = difflib.get_close_matches(value, choices, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            self.error((key,), f"{key} = {show(value)} is not known", f"{hint}one of {', '.join(choices)}")
            return default or choices[0]
        return value

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        """An integer within [low, high]."""
        value = self.take(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            self.error((key,), f"{key} must be a whole number, not {show(value)}", f"write {key} = {default}")
            return default
        if not low <= value <= high:
            self.error((key,), f"{key} = {show(value)} is out of range", f"between {low} and {high}")
            return default
        return value

    def boolean(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.error((key,), f"{key} must be true or false, not {show(value)}", f"write {key} = {str(default).lower()}")
            return default
        return value

    def ip_address(self, key: str, default: str | None = None) -> str:
        """An IPv4 or IPv6 address in canonical form."""
        value = self.string(key, default)
        return self.check_ip((key,), value) if value else value

    def check_ip(self, below: KeyPath, value: str) -> str:
        """The canonical form of an address, or an error at ``below``."""
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            self.error(below, f"{show(value)} is not an IP address", "write a plain address such as 10.0.0.1, without a prefix length")
            return value

    def strings(self, key: str) -> tuple[str, ...]:
        """A list of strings; empty if absent."""
        value = self.take(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            self.error((key,), f"{key} must be a list of strings", f'write {key} = ["…"]')
            return ()
        if len(value) > MAX_LIST:
            self.error((key,), f"{len(value)} values are too many", f"at most {MAX_LIST}")
            return ()
        return tuple(value)

    def per_node(self, key: str, nodes: Sequence[str], *, required: bool = False, address: bool = False) -> PerNode:
        """One string for both nodes, or a table ``{ A = "…", B = "…" }``."""
        value = self.take(key)
        if value is None:
            if required:
                self.error((), f"{key} is missing", f'add {key} = {{ {nodes[0]} = "…", {nodes[1]} = "…" }}')
            return PerNode(())
        if isinstance(value, str) and value and not address:
            return PerNode(tuple((n, value) for n in nodes)) if self.plain((key,), value) else PerNode(())
        if not isinstance(value, dict):
            self.error((key,), f"{key} needs a value for each node", f'write {key} = {{ {nodes[0]} = "…", {nodes[1]} = "…" }}')
            return PerNode(())
        for name in value:
            if name not in nodes:
                self.error((key, name), f"{show(name)} is not a node", f"nodes are {', '.join(nodes)}")
        found: list[tuple[str, str]] = []
        for name in nodes:
            item = value.get(name)
            if not isinstance(item, str) or not item:
                self.error((key,), f"{key} has no value for node {name}", f'add {name} = "…"')
            elif address:
                found.append((name, self.check_ip((key, name), item)))
            elif self.plain((key, name), item):
                found.append((name, item))
        return PerNode(tuple(found))

    def finish(self) -> None:
        """Report every key that was not taken, with the nearest known spelling."""
        for key in self._data:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, 1)
                remedy = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(set(self._known)))}"
                self.error((key,), f"unknown key {show(key)}", remedy)
