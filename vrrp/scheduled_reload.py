"""``reload_time_file``: a reload at a time that stands in a file, so that both nodes change over in the same second.

The file's first line is HH:MM:SS, YY-MM-DD HH:MM:SS or YYYY-MM-DD HH:MM:SS, with a Z for UTC; nothing before or behind it. As keepalived:
a date in the past is passed over, a time alone means its next occurrence; when the reload is due the file is removed, unless
``reload_repeat`` keeps one with a time alone for the next day. The wall clock decides, so a clock that is set moves the reload.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo

from base.clock import now_ns, wall_ns
from base.core import NS_PER_S
from base.log import Log
from vrrp.config.model.daemon import ReloadSettings
from vrrp.system.timers import Timers

LOOK_EVERY_NS = NS_PER_S
MAX_BYTES = 64
_FORM = re.compile(r"((?:\d\d)?\d\d-\d\d-\d\d )?(\d\d:\d\d:\d\d)(Z?)")


def due_at(text: str, now: datetime) -> datetime | None:
    """When the reload that ``text`` asks for is due; None if it is in the past. ``now``: aware, in the local time zone.

    Raises ValueError if it is no such time.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError("write HH:MM:SS or YYYY-MM-DD HH:MM:SS, with a Z at the end for UTC")
    date, time, utc = found.groups()
    zone: tzinfo | None = UTC if utc else None
    here = now.astimezone(UTC) if utc else now
    day = here.strftime("%Y-%m-%d ") if date is None else date if len(date) == 11 else f"20{date}"
    due = _aware(datetime.strptime(day + time, "%Y-%m-%d %H:%M:%S"), zone)
    if due > now:
        return due
    return None if date is not None else _aware(due.replace(tzinfo=None) + timedelta(days=1), zone)


def _aware(naive: datetime, zone: tzinfo | None) -> datetime:
    """In ``zone``, or in the local one with the offset that it has on that day."""
    return naive.replace(tzinfo=zone) if zone is not None else naive.astimezone()


class ScheduledReload:
    """Looks at the file once a second and calls ``reload`` when its time has come. In the parent, whose work may be late."""

    def __init__(self, timers: Timers, log: Log, reload: Callable[[], None]) -> None:
        self._timers = timers
        self._log = log
        self._reload = reload
        self._path = ""
        self._repeat = False
        self._text: str | None = None
        self._due: datetime | None = None
        self._token: int | None = None

    def configure(self, settings: ReloadSettings) -> None:
        """Watch this file from now on ("": none)."""
        if settings.time_file != self._path:
            self._path, self._text, self._due = settings.time_file, None, None
        self._repeat = settings.repeat
        if self._token is not None:
            self._timers.cancel(self._token)
            self._token = None
        if self._path:
            self._look()

    def _look(self) -> None:
        self._token = None
        now = datetime.fromtimestamp(wall_ns() / NS_PER_S, UTC).astimezone()
        text = _first_line(self._path)
        if text != self._text:
            self._text = text
            self._plan(text, now)
        wait_ns = LOOK_EVERY_NS
        if self._due is not None:
            left_s = (self._due - now).total_seconds()
            if left_s <= 0:
                self._fire(now)
                return
            wait_ns = min(wait_ns, int(left_s * NS_PER_S) + 1)
        self._token = self._timers.call_at(now_ns() + wait_ns, self._look)

    def _plan(self, text: str | None, now: datetime) -> None:
        before, self._due = self._due, None
        if text is None:
            if before is not None:
                self._log.info(f"the reload at {before} is cancelled")
            return
        try:
            self._due = due_at(text, now)
        except ValueError as error:
            self._log.error(f"{self._path}: '{text}' is no time of a reload: {error}")
            return
        self._log.info(f"a reload is due at {self._due}" if self._due else f"{self._path}: {text} is in the past")

    def _fire(self, now: datetime) -> None:
        assert self._text is not None
        dated = "-" in self._text
        if dated or not self._repeat:
            try:
                os.unlink(self._path)
            except OSError as error:
                self._log.error(f"{self._path} cannot be removed ({error.strerror}); a time alone in it would reload every day")
            self._text, self._due = None, None
        else:
            self._due = due_at(self._text, now)
        # First the next look, so that a reload that names another file can cancel it.
        self._token = self._timers.call_at(now_ns() + LOOK_EVERY_NS, self._look)
        self._reload()


def _first_line(path: str) -> str | None:
    """Without its line end; None if there is no such file or nothing in it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(descriptor, MAX_BYTES).decode("ascii", "replace")
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return text.split("\n", 1)[0] or None
