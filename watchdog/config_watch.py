"""Notices that keepalived.conf (or a file it includes) changed, by looking at its stat once a second."""

from __future__ import annotations

import os
from collections.abc import Callable

from base.core import NS_PER_S
from base.diagnostics import ConfigError, Diagnostic
from watchdog.groups import LoadedGroups, read_groups

LOOK_NS = NS_PER_S
Stamp = tuple[tuple[str, int, int, int], ...]


def stamp_of(files: tuple[str, ...]) -> Stamp:
    """Identity, size and time of every file; a missing one counts as zeros."""
    stamps = []
    for file in files:
        try:
            info = os.stat(file)
            stamps.append((file, info.st_ino, info.st_size, info.st_mtime_ns))
        except OSError:
            stamps.append((file, 0, 0, 0))
    return tuple(stamps)


class ConfigWatch:
    """Calls ``on_change(groups)`` after a valid change and ``on_refused(diagnostics)`` after an invalid one; the old groups stay then.

    A file with errors is refused here even beside a stock keepalived: somebody is in the middle of editing it.
    """

    def __init__(
        self,
        path: str,
        loaded: LoadedGroups,
        on_change: Callable[[LoadedGroups], None],
        on_refused: Callable[[tuple[Diagnostic, ...]], None],
    ) -> None:
        self._path = path
        self._on_change = on_change
        self._on_refused = on_refused
        self._files = loaded.files or (path,)
        self._stamp = stamp_of(self._files)
        self._due_ns = 0

    def next_deadline(self) -> int | None:
        """When to look again."""
        return self._due_ns

    def on_deadline(self, at_ns: int) -> None:
        """Look, if due."""
        if at_ns < self._due_ns:
            return
        self._due_ns = at_ns + LOOK_NS
        stamp = stamp_of(self._files)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            loaded = read_groups(self._path)
        except ConfigError as error:
            self._on_refused(error.diagnostics)
            return
        self._files = loaded.files or (self._path,)
        self._stamp = stamp_of(self._files)
        self._on_change(loaded)
