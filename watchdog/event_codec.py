"""Watcher events from the canonical JSON of a journal (base/journal.py) back to the objects that a core takes.

The types come from the events' own annotations, so that a new field needs no change here. A value that does not fit raises EventError with
the class and field.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from functools import cache
from typing import Any

from watchdog.judgement.events import WatcherEvent


class EventError(Exception):
    """A journal line that is no event of this version."""


EVENT_CLASSES: dict[str, type] = {cls.__name__: cls for cls in typing.get_args(WatcherEvent)}


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def event_from_json(value: Any) -> WatcherEvent:
    """One event; raises EventError."""
    if not isinstance(value, dict) or value.get("_") not in EVENT_CLASSES:
        raise EventError(f"unknown event {str(value)[:80]}; was the journal written by another version?")
    event: WatcherEvent = _dataclass(EVENT_CLASSES[value["_"]], value)
    return event


def _dataclass(cls: type, value: Any) -> Any:
    if not isinstance(value, dict):
        raise EventError(f"{cls.__name__}: an object is needed, not {value!r}")
    hints = _hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}
    unknown = set(value) - known - {"_"}
    if unknown:
        raise EventError(f"{cls.__name__} has no field {', '.join(sorted(unknown))}; was the journal written by another version?")
    try:
        return cls(**{name: _value(hints[name], value[name], f"{cls.__name__}.{name}") for name in known if name in value})
    except TypeError as error:
        raise EventError(f"{cls.__name__}: {error}") from None


def _value(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin is types.UnionType or origin is typing.Union:
        if value is None and type(None) in typing.get_args(hint):
            return None
        choices = [a for a in typing.get_args(hint) if a is not type(None)]
        return _value(choices[0], value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise EventError(f"{where}: a list is needed, not {value!r}")
        (inner, *_) = typing.get_args(hint)
        return tuple(_value(inner, item, where) for item in value)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        try:
            return hint[value]
        except KeyError:
            raise EventError(f"{where}: {value!r} is no {hint.__name__}") from None
    if hint is bytes:
        try:
            return bytes.fromhex(value["hex"])
        except (TypeError, KeyError, ValueError):
            raise EventError(f"{where}: bytes in hex are needed") from None
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _dataclass(hint, value)
    if isinstance(hint, type) and not isinstance(value, hint):
        raise EventError(f"{where}: {hint.__name__} is needed, not {value!r}")
    return value
