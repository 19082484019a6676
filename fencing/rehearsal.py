"""Rehearsals: what each device really did when it was last tried on purpose (``brainctl fence check --really``), kept durably.

A device that was never tried, or not for a long time, is a hope. ``plan`` says which one is due.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from enum import Enum
from pathlib import Path

from base.core import NS_PER_S
from fencing.plan.settings import FenceDevice

DAY_NS = 86_400 * NS_PER_S
DEFAULT_EVERY_DAYS = 90


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """One trial of one device. Times in ms, 0 = not reached; ``fell_silent``: the paths on which the peer was heard before and fell silent;
    ``spoke_on``: those on which it went on (a wrong outlet, or a path that is not the peer's)."""

    device: str
    target: str
    wall_ns: int
    passed: bool
    effect_ms: int
    on_ms: int
    fell_silent: tuple[str, ...]
    spoke_on: tuple[str, ...]


class RehearsalError(Exception):
    """The file cannot be read or written; says what to do."""


def load_rehearsals(path: Path) -> dict[str, Rehearsal]:
    """The last rehearsal by device; none if there is no file yet. Raises RehearsalError for a damaged file."""
    try:
        document = json.loads(path.read_text("utf-8"))
        if not isinstance(document, dict) or document.get("version") != 1:
            raise ValueError("it is of another version")
        entries = [
            Rehearsal(**{**entry, "fell_silent": tuple(entry["fell_silent"]), "spoke_on": tuple(entry["spoke_on"])})
            for entry in document["devices"]
        ]
        for entry in entries:
            for field in fields(Rehearsal):
                if type(getattr(entry, field.name)).__name__ not in field.type:
                    raise ValueError(f"{field.name} of {entry.device} is of another type")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RehearsalError(f"{path} cannot be read ({error}); move it away and run brainctl fence check --really again") from None
    return {entry.device: entry for entry in entries}


def keep_rehearsal(rehearsal: Rehearsal, path: Path) -> None:
    """Replace the device's last one, durably. Raises RehearsalError."""
    entries = {**load_rehearsals(path), rehearsal.device: rehearsal}
    document = {"version": 1, "devices": [asdict(entries[name]) for name in sorted(entries)]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, encoding="utf-8", delete=False) as f:
            json.dump(document, f, indent=1)
            f.flush()
            os.fsync(f.fileno())
        os.replace(f.name, path)
    except OSError as error:
        raise RehearsalError(f"{path}: {error.strerror}") from None


class Due(Enum):
    """Whether a device has to be tried."""

    NEVER_TRIED = "never tried"
    FAILED = "failed when it was tried"
    OVERDUE = "overdue"
    FINE = "fine"


@dataclass(frozen=True, slots=True)
class Planned:
    """One device in the plan; ``next_wall_ns`` is when it should be tried next (0 = now)."""

    device: str
    target: str
    due: Due
    last: Rehearsal | None
    next_wall_ns: int


def plan(
    devices: Iterable[FenceDevice], rehearsals: Mapping[str, Rehearsal], now_wall_ns: int, every_days: int = DEFAULT_EVERY_DAYS
) -> list[Planned]:
    """What is to be tried when, the most urgent first. A rehearsal for another node does not count; one from the future counts as now."""
    planned = []
    for device in devices:
        last = rehearsals.get(device.name)
        if last is None or last.target != device.target:
            planned.append(Planned(device.name, device.target, Due.NEVER_TRIED, None, 0))
            continue
        next_ns = min(last.wall_ns, now_wall_ns) + every_days * DAY_NS
        due = Due.FAILED if not last.passed else Due.OVERDUE if now_wall_ns >= next_ns else Due.FINE
        planned.append(Planned(device.name, device.target, due, last, next_ns if due is Due.FINE else 0))
    order = list(Due)
    return sorted(planned, key=lambda p: (order.index(p.due), p.next_wall_ns, p.device))
