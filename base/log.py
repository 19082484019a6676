"""Log lines for people and for machines, through a pipe that never blocks the caller.

A daemon's timing process writes to stderr or a pipe set non-blocking; what does not fit is dropped and counted, and the next line that fits
says how many were lost. Repeated messages are rate-limited by key.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import syslog
import time
from dataclasses import dataclass, field
from typing import Any

from base.clock import now_ns, wall_ns

RATE_WINDOW_NS = 10_000_000_000


@dataclass(slots=True)
class _Window:
    start_ns: int
    passed: int = 0
    suppressed: int = 0


class SyslogSocket:
    """syslog(3) that never waits: libc's blocks its caller for as long as the syslog daemon does not read. What does not fit is counted."""

    def __init__(self, ident: str, facility: int, path: str = "/dev/log") -> None:
        self.dropped = 0
        self._ident = ident
        self._facility = facility
        self._path = path
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def write(self, priority: int, message: str) -> None:
        """One line. ``priority``: LOG_INFO, LOG_WARNING, …"""
        stamp = time.strftime("%b %e %H:%M:%S")
        lost = f" lines_lost_before={self.dropped}" if self.dropped else ""
        text = f"<{self._facility | priority}>{stamp} {self._ident}[{os.getpid()}]: {message}{lost}"
        try:
            self._sock.sendto(text.encode("utf-8", "replace"), self._path)
        except OSError:
            self.dropped += 1
        else:
            self.dropped = 0


@dataclass(slots=True)
class Log:
    """Writes ``time name[pid] level: message key=value…`` (or one JSON object a line) to a descriptor and, if asked, to syslog. Wall-clock
    time is for display only."""

    name: str
    fd: int = 2
    json_lines: bool = False
    syslog: SyslogSocket | None = None
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
        if self.syslog is not None:
            for line in lines.decode("utf-8", "replace").splitlines():
                self.syslog.write(syslog.LOG_INFO, line)
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
        if self.syslog is not None:
            priority = {"info": syslog.LOG_INFO, "warning": syslog.LOG_WARNING}.get(level, syslog.LOG_ERR)
            self.syslog.write(priority, message)
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
