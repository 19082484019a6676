"""What braind tells systemd: ready, reloading, stopping, and that its loop still turns (``Type=notify``, ``WatchdogSec=``)."""

from __future__ import annotations

import os
import subprocess

from base.systemd import ServiceManager

BEATS = 4
"""So often within systemd's limit the loop says that it turns."""

SYSTEMD_RUNS = "/run/systemd/system"
ASK_S = 1.0


def machine_goes_down() -> bool:
    """Whether systemd stops us because the whole machine is shut down. Asked once, at our own end, when waiting costs nothing any more."""
    if not os.path.isdir(SYSTEMD_RUNS):
        return False
    try:
        asked = subprocess.run(["systemctl", "is-system-running"], capture_output=True, text=True, timeout=ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.stdout.strip() == "stopping"


class Service:
    """A part of the daemon that only has deadlines. A watcher that hangs misses them: systemd ends it and starts it again."""

    def __init__(self, manager: ServiceManager) -> None:
        self._manager = manager
        self._due_ns: int | None = None

    def started(self, at_ns: int) -> None:
        """The watcher watches; from now on the loop must turn."""
        self._manager.ready()
        if self._manager.watchdog_ns:
            self._due_ns = at_ns

    def reloading(self) -> None:
        """The program is about to be put in place anew; ``started`` ends it."""
        self._manager.reloading()

    def stopping(self, what_stays: str = "") -> None:
        """An orderly end begins; ``what_stays`` is shown by ``systemctl status``."""
        self._manager.stopping(what_stays)

    def next_deadline(self) -> int | None:
        """When systemd must hear of us; None without its watchdog."""
        return self._due_ns

    def on_deadline(self, at_ns: int) -> None:
        """Feed systemd's watchdog if it is time."""
        if self._due_ns is not None and at_ns >= self._due_ns:
            self._manager.alive()
            self._due_ns = at_ns + self._manager.watchdog_ns // BEATS
