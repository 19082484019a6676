"""Tracked files: the number in the first line of a file, watched by inotify and, once a second, by looking.

Missing, empty or unreadable as a number counts as 0, as in keepalived.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable, Sequence

from base.clock import now_ns
from base.core import NS_PER_S
from base.log import Log
from base.pump import Pump
from vrrp.config.model.tracking import TrackFile
from vrrp.system.timers import Timers

LOOK_EVERY_NS = NS_PER_S
MAX_BYTES = 128
_NUMBER = re.compile(rb"\s*([+-]?\d{1,10})\s")
_INT32 = 1 << 31
_IN_CLOSE_WRITE, _IN_MOVED_FROM, _IN_MOVED_TO, _IN_DELETE = 0x8, 0x40, 0x80, 0x200
_WATCHED = _IN_CLOSE_WRITE | _IN_MOVED_FROM | _IN_MOVED_TO | _IN_DELETE
_libc = ctypes.CDLL(None, use_errno=True)


def read_number(path: str) -> int:
    """The number in the first line; 0 if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        found = _NUMBER.match(os.read(descriptor, MAX_BYTES) + b"\n")
    except OSError:
        return 0
    finally:
        os.close(descriptor)
    value = int(found.group(1)) if found else 0
    return max(-_INT32, min(_INT32 - 1, value))


class TrackedFiles:
    """Tells ``report(name, value)`` at once, and then whenever a value changes."""

    def __init__(self, pump: Pump, timers: Timers, log: Log, report: Callable[[str, int], None]) -> None:
        self._timers = timers
        self._log = log
        self._report = report
        self._paths: dict[str, str] = {}
        self._values: dict[str, int] = {}
        self._watched: set[str] = set()
        self._inotify = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._inotify >= 0:
            pump.add_reader(self._inotify, self._on_inotify)
        self._token: int | None = None

    def configure(self, files: Sequence[TrackFile]) -> None:
        """Watch these files from now on; make those that the configuration wants to exist."""
        self._paths = {file.name: file.path for file in files}
        self._values = {name: value for name, value in self._values.items() if name in self._paths}
        for file in files:
            self._create(file)
        self._look()
        if self._paths and self._token is None:
            self._token = self._timers.call_at(now_ns() + LOOK_EVERY_NS, self._tick)

    def _create(self, file: TrackFile) -> None:
        if file.initial_value is None or (os.path.exists(file.path) and not file.overwrite):
            return
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            with os.fdopen(os.open(file.path, flags, 0o644), "w", encoding="ascii") as stream:
                stream.write(f"{file.initial_value}\n")
        except OSError as error:
            self._log.error(f"track_file {file.name}: cannot write {file.path}: {error.strerror}")

    def repeat(self) -> None:
        """Report every value again (a new vrrp process knows none)."""
        for name, value in self._values.items():
            self._report(name, value)

    def _tick(self) -> None:
        self._token = self._timers.call_at(now_ns() + LOOK_EVERY_NS, self._tick) if self._paths else None
        self._look()

    def _on_inotify(self) -> None:
        try:
            os.read(self._inotify, 65536)
        except BlockingIOError:
            return
        self._look()

    def _look(self) -> None:
        for name, path in self._paths.items():
            self._watch(os.path.dirname(path) or ".")
            value = read_number(path)
            if self._values.get(name) != value:
                self._values[name] = value
                self._report(name, value)

    def _watch(self, directory: str) -> None:
        if self._inotify < 0 or directory in self._watched:
            return
        if _libc.inotify_add_watch(self._inotify, os.fsencode(directory), _WATCHED) >= 0:
            self._watched.add(directory)
