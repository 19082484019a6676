"""What was done to services by hand, into braind's record: one note on its control socket, in a thread, and never waited for.

Without a braind on this node nothing is lost but the record's copy: log and status have it too.
"""

from __future__ import annotations

import os
import threading

from base.control import ControlClient, RequestError
from base.log import Log

TIMEOUT_S = 3.0
MAX_TEXT = 900


class Audit:
    """``run_dir``: where braind.sock lies."""

    def __init__(self, run_dir: str, log: Log) -> None:
        self._path = os.path.join(run_dir, "braind.sock")
        self._log = log

    def note(self, subject: str, text: str) -> None:
        """Ask braind to record it."""
        threading.Thread(target=self._tell, args=(subject[:MAX_TEXT], text[:MAX_TEXT]), name="audit", daemon=True).start()

    def _tell(self, subject: str, text: str) -> None:
        try:
            with ControlClient(self._path, TIMEOUT_S) as client:
                client.call("operate", action="note", subject=subject, note=text)
        except FileNotFoundError:
            pass
        except (OSError, RequestError) as error:
            self._log.limited("audit", f"not in braind's record: {subject}: {error}")
