"""Whether the disk of the state directory has room: a full disk is noticed before it is needed."""

from __future__ import annotations

import os

LEAST_BYTES = 64 << 20
"""Less than this is nearly full. The record itself is bounded (``--max-mib``); it is others who fill a disk."""
LEAST_INODES = 64
ENOUGH_PERCENT = 150
"""There is room again when half more than the least is free: no page opens and closes at every file that comes and goes."""


class SpaceWatch:
    """Looks at one directory's file system. A small one (less than four times the least in all) is nearly full at a quarter."""

    def __init__(self, directory: str, least_bytes: int = LEAST_BYTES) -> None:
        self._directory = directory
        self._least_bytes = least_bytes
        self.low = False
        self.free_bytes = 0

    def look(self) -> bool:
        """True if ``low`` has changed. A directory that cannot be asked changes nothing: the record itself will say so."""
        try:
            info = os.statvfs(self._directory)
        except OSError:
            return False
        self.free_bytes = info.f_bavail * info.f_frsize
        least = min(self._least_bytes, info.f_blocks * info.f_frsize // 4)
        percent = ENOUGH_PERCENT if self.low else 100
        short = self.free_bytes * 100 < least * percent
        no_inodes = info.f_files > 0 and info.f_favail * 100 < min(LEAST_INODES, info.f_files // 4) * percent
        before, self.low = self.low, short or no_inodes
        return self.low is not before
