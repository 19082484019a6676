"""Log lines for people and for machines, through a pipe that never blocks the caller.

A daemon's timing process writes to stderr or a pipe set non-blocking; what does not fit is dropped and counted, and the next line that fits
says how many were lost. Repeated messages are rate-limited by key.
"""

from __future__ import annotations

import json
import os
import sys
import syslog
from dataclasses import dataclass, field
from typing import Any

from base.clock import now_ns, wall_ns

RATE_WINDOW_NS = 10_000_000_000


@dataclass(slots=True)
class _Window:
    start_ns: int
    passed: int = 0
    suppressed: int = 0


@dataclass(slots=True)
class Log:
    """Writes ``time name[pid] level: message key=value…`` (or one JSON object a line) to a descriptor and, if asked, to syslog."""

    name: str
    fd: int = 2
    json_lines: bool = False
    to_syslog: bool = False
    dropped: int = 0
    _windows: dict[str, _Window] = field(default_factory=dict)

    def info(self, message: str, **fields: Any) -> None:
        """Something worth knowing."""
        self._write("info", message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        """Something an operator should look at."""
        self._write("warning", message, fields)

    def error(self, message: str, **fields: Any) -> None:
        """Something that does not work."""
        self._write("error", message, fields)

    def limited(self, key: str, message: str, *, burst: int = 3, **fields: Any) -> None:
        """A warning of which at most ``burst`` with this key are written in ten seconds; the rest is counted and summed up."""
        now = now_ns()
        window = self._windows.get(key)
        if window is None or now - window.start_ns > RATE_WINDOW_NS:
            if window is not None and window.suppressed:
                self._write("warning", f"{window.suppressed} more like this in {(now - window.start_ns) / 1e9:.0f} s", {"key": key})
            if len(self._windows) > 1000:
                self._windows.clear()
            window = self._windows[key] = _Window(now)
        if window.passed < burst:
            window.passed += 1
            self._write("warning", message, fields)
        else:
            window.suppressed += 1

    def relay(self, lines: bytes) -> None:
        """Finished lines of a child process, to the same places; what does not fit is dropped and counted."""
        if self.to_syslog:
            for line in lines.decode("utf-8", "replace").splitlines():
                syslog.syslog(syslog.LOG_INFO, line)
        if self.fd < 0:
            return
        try:
            os.write(self.fd, lines)
        except OSError:
            self.dropped += max(1, lines.count(b"\n"))

    def _write(self, level: str, message: str, fields: dict[str, Any]) -> None:
        lost, self.dropped = self.dropped, 0
        if lost:
            fields = {**fields, "lines_lost_before": lost}
        line = self._format(level, message, fields)
        if self.to_syslog:
            priority = {"info": syslog.LOG_INFO, "warning": syslog.LOG_WARNING}.get(level, syslog.LOG_ERR)
            syslog.syslog(priority, message)
        if self.fd < 0:
            return
        try:
            os.write(self.fd, line.encode("utf-8", "replace"))
        except OSError:
            self.dropped = lost + 1

    def _format(self, level: str, message: str, fields: dict[str, Any]) -> str:
        seconds, nanoseconds = divmod(wall_ns(), 1_000_000_000)
        if self.json_lines:
            record = {"time_ns": seconds * 1_000_000_000 + nanoseconds, "name": self.name, "level": level, "message": message, **fields}
            return json.dumps(record, default=str) + "\n"
        import time  # localtime only for display

        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
        extra = "".join(f" {k}={v}" for k, v in fields.items())
        flat = message.replace("\n", "\\n")
        return f"{stamp}.{nanoseconds // 1_000_000:03d} {self.name}[{os.getpid()}] {level}: {flat}{extra}\n"


JSON_ENV = "BRAINCTL_LOG_JSON"
"""Set to 1 for child processes whose parent logs in JSON."""


def child_log(name: str) -> Log:
    """The log of a child process on its stderr, which its parent passes on; in JSON if the parent's is."""
    return Log(name, 2, os.environ.get(JSON_ENV) == "1")


def stderr_log(name: str, *, json_lines: bool = False) -> Log:
    """A log on stderr."""
    sys.stderr.flush()
    return Log(name, 2, json_lines)
