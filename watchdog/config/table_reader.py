"""Reads one TOML table with types, ranges and unknown-key detection, collecting every error with its position."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Sequence
from typing import Any

from base.diagnostics import Diagnostics
from base.toml_positions import KeyPath, Positions
from watchdog.config.model import PerNode


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
            self.error((key,), f"{key} must be a non-empty string, not {value!r}", f'write {key} = "…"')
            return default or ""
        return value

    def choice(self, key: str, choices: Sequence[str], default: str | None = None) -> str:
        """One of ``choices``."""
        value = self.string(key, default)
        if value and value not in choices:
            near = difflib.get_close_matches(value, choices, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            self.error((key,), f"{key} = {value!r} is not known", f"{hint}one of {', '.join(choices)}")
            return default or choices[0]
        return value

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        """An integer within [low, high]."""
        value = self.take(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            self.error((key,), f"{key} must be a whole number, not {value!r}", f"write {key} = {default}")
            return default
        if not low <= value <= high:
            self.error((key,), f"{key} = {value} is out of range", f"between {low} and {high}")
            return default
        return value

    def boolean(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.error((key,), f"{key} must be true or false, not {value!r}", f"write {key} = {str(default).lower()}")
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
            self.error(below, f"{value!r} is not an IP address", "write a plain address such as 10.0.0.1, without a prefix length")
            return value

    def strings(self, key: str) -> tuple[str, ...]:
        """A list of strings; empty if absent."""
        value = self.take(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            self.error((key,), f"{key} must be a list of strings", f'write {key} = ["…"]')
            return ()
        return tuple(value)

    def per_node(self, key: str, nodes: Sequence[str], *, required: bool = False, address: bool = False) -> PerNode:
        """One string for both nodes, or a table ``{ A = "…", B = "…" }``."""
        value = self.take(key)
        if value is None:
            if required:
                self.error((), f"{key} is missing", f'add {key} = {{ {nodes[0]} = "…", {nodes[1]} = "…" }}')
            return PerNode(())
        if isinstance(value, str) and not address:
            return PerNode(tuple((n, value) for n in nodes))
        if not isinstance(value, dict):
            self.error((key,), f"{key} needs a value for each node", f'write {key} = {{ {nodes[0]} = "…", {nodes[1]} = "…" }}')
            return PerNode(())
        for name in value:
            if name not in nodes:
                self.error((key, name), f"{name!r} is not a node", f"nodes are {', '.join(nodes)}")
        for name in nodes:
            if not isinstance(value.get(name), str):
                self.error((key,), f"{key} has no value for node {name}", f'add {name} = "…"')
            elif address:
                self.check_ip((key, name), value[name])
        return PerNode(tuple((n, str(value[n])) for n in nodes if isinstance(value.get(n), str)))

    def finish(self) -> None:
        """Report every key that was not taken, with the nearest known spelling."""
        for key in self._data:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, 1)
                remedy = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(set(self._known)))}"
                self.error((key,), f"unknown key {key!r}", remedy)
