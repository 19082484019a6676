"""apprise's log, kept silent: its URLs and some of its messages hold tokens. Only the HTTP status of an attempt is read out of it."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_STATUS = re.compile(r"\berror=(\d{3})\b")


class StatusCatcher(logging.Handler):
    """Keeps the HTTP status of this thread's attempt and nothing else of what apprise says."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread = threading.get_ident()
        self.status: int | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Look for ``error=NNN``."""
        if record.thread == self._thread and (match := _STATUS.search(record.getMessage())):
            self.status = int(match.group(1))


@contextmanager
def silenced_apprise() -> Iterator[StatusCatcher]:
    """While this is open, what apprise logs goes nowhere but to the catcher."""
    log = logging.getLogger("apprise")
    log.propagate = False
    log.setLevel(logging.WARNING)
    catcher = StatusCatcher()
    log.addHandler(catcher)
    try:
        yield catcher
    finally:
        log.removeHandler(catcher)
