"""systemd's watchdog (WatchdogSec=): fed while parent and vrrp process both live, not only the one that feeds it."""

from __future__ import annotations

from collections.abc import Callable

from base.clock import now_ns
from base.systemd import ServiceManager
from vrrp.system.timers import Timers

BEATS = 4
"""So often within systemd's limit the vrrp process is asked; one answer late is no reason to end the daemon."""


class Heartbeat:
    """Asks the vrrp process (``ping``) and feeds the watchdog with each answer. A process that hangs gives none; then systemd ends
    the daemon, the guardian removes its addresses, and systemd starts it again."""

    def __init__(self, timers: Timers, service: ServiceManager, ping: Callable[[], object]) -> None:
        self._timers = timers
        self._service = service
        self._ping = ping
        self._started = False

    def start(self) -> None:
        """Once the vrrp process runs; a second time changes nothing."""
        if not self._started and self._service.watchdog_ns:
            self._started = True
            self._beat()

    def answered(self) -> None:
        """The vrrp process lives."""
        self._service.alive()

    def _beat(self) -> None:
        self._timers.call_at(now_ns() + self._service.watchdog_ns // BEATS, self._beat)
        self._ping()
