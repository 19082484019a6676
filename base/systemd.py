"""What a service tells systemd: sd_notify(3) without its library, and the service's watchdog."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from base.core import NS_PER_US

_ADDRESS, _WATCHDOG, _WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


class ServiceManager:
    """Says nothing where nobody listens (no NOTIFY_SOCKET). Never blocks, never raises: a service does not depend on it."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._address = environ.get(_ADDRESS, "")
        self._watchdog = environ.get(_WATCHDOG, "")
        self._watchdog_pid = environ.get(_WATCHDOG_PID, "")

    @property
    def watchdog_ns(self) -> int:
        """Within this time (ns) ``alive`` must be called again, or systemd ends the service; 0 = no watchdog."""
        if not self._watchdog.isdecimal() or self._watchdog_pid not in ("", str(os.getpid())):
            return 0
        return int(self._watchdog) * NS_PER_US

    def ready(self, status: str = "") -> None:
        """Started, or reloaded."""
        self._send(f"READY=1\nMAINPID={os.getpid()}" + (f"\nSTATUS={status}" if status else ""))

    def reloading(self) -> None:
        """A reload begins; ``ready`` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str = "") -> None:
        """The service ends by itself; ``status`` is one line for ``systemctl status``."""
        self._send("STOPPING=1" + (f"\nSTATUS={' '.join(status.split())}" if status else ""))

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address.startswith(("/", "@")):
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
                sock.sendto(text.encode(), address)
        except OSError:
            return
