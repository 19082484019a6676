"""A ring in memory of what a core was told and what it answered.

A field failure becomes a test by copying a file: ``replay`` feeds the inputs to a fresh core and compares the commands byte for byte.
Events and commands are frozen dataclasses; they are written as JSON lines with the class name and fields, in a canonical form.
"""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

DEFAULT_ENTRIES = 20_000


def canonical(value: Any) -> Any:
    """A JSON value that is the same for equal inputs under any PYTHONHASHSEED; bytes become hex, sets become sorted lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: canonical(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"_": type(value).__name__, **fields}
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, bytes | bytearray):
        return {"hex": bytes(value).hex()}
    if isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address | ipaddress.IPv4Interface | ipaddress.IPv6Interface):
        return str(value)
    if isinstance(value, dict):
        return {str(canonical(k)): canonical(v) for k, v in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((canonical(v) for v in value), key=lambda v: json.dumps(v, sort_keys=True))
    if isinstance(value, list | tuple):
        return [canonical(v) for v in value]
    return value


def canonical_line(value: Any) -> str:
    """``canonical`` as one line of JSON text."""
    return json.dumps(canonical(value), separators=(",", ":"), sort_keys=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One call into a core: ``event`` is None for ``on_deadline``."""

    at_ns: int
    event: Any | None
    commands: tuple[Any, ...]
    weight: int = 1


class Journal:
    """Keeps the last ``entries`` calls; objects are kept as they are and only written out on demand."""

    def __init__(self, entries: int = DEFAULT_ENTRIES) -> None:
        self._ring: deque[Entry] = deque()
        self._room = entries
        self.dropped = 0

    def note(self, at_ns: int, event: Any | None, commands: Sequence[Any], weight: int = 1) -> None:
        """Remember one call. ``weight``: so many others have to go for it; a whole configuration is no small entry."""
        self._ring.append(Entry(at_ns, event, tuple(commands), weight))
        self._room -= weight
        while self._room < 0 and len(self._ring) > 1:
            self._room += self._ring.popleft().weight
            self.dropped += 1

    def lines(self) -> list[str]:
        """The ring as JSON lines, oldest first; each ``{"at_ns","event","commands"}``."""
        return [
            json.dumps(
                {"at_ns": e.at_ns, "event": canonical(e.event), "commands": [canonical(c) for c in e.commands]},
                separators=(",", ":"),
                sort_keys=True,
            )
            for e in self._ring
        ]


def decode_dataclass(value: Any, classes: dict[str, type], convert: Callable[[type, dict[str, Any]], Any]) -> Any:
    """Rebuild an event from its canonical form; ``convert(cls, fields)`` makes the instance. Raises KeyError for an unknown class."""
    fields = {k: v for k, v in value.items() if k != "_"}
    return convert(classes[value["_"]], fields)


def first_difference(left: Iterable[str], right: Iterable[str]) -> tuple[int, str, str] | None:
    """The first position at which two journals differ, or None."""
    missing = "(nothing)"
    a, b = list(left), list(right)
    for i in range(max(len(a), len(b))):
        x, y = (a[i] if i < len(a) else missing), (b[i] if i < len(b) else missing)
        if x != y:
            return i, x, y
    return None
