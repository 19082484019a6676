"""FILE_CHECK: the number in a tracked file adds to the weight of a server.

Files are read, not watched: one look a second at a few files costs nothing and misses no rename.
"""

from __future__ import annotations

from dataclasses import dataclass

from vrrp.lvs.model.settings import FileProbe
from vrrp.system.files import read_number

LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """``up`` False: the file says that the server is down. ``amount``: what is added to the weight."""

    up: bool
    amount: int
    value: int


def look(settings: FileProbe) -> FileVerdict:
    """Read the file (missing or unreadable counts as 0) and judge it."""
    return judge(settings, read_number(settings.path))


def judge(settings: FileProbe, value: int) -> FileVerdict:
    """With a weight: value times weight is added. Without: a value other than 0 means down (``reverse``: 0 does)."""
    if settings.weight == 0:
        return FileVerdict((value == 0) is not settings.reverse, 0, value)
    return FileVerdict(True, value * settings.weight * (-1 if settings.reverse else 1), value)
