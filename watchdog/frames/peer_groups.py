"""PURE: the peer's groups, put together from the pages of its heartbeats on any path.

A whole heartbeat replaces everything; a ``partial`` one updates only the groups of its page. Ages in a report count from its
arrival: whoever uses one adds the time since ``received_ns``.
"""

from __future__ import annotations

from dataclasses import dataclass

from watchdog.config.model import GroupKey
from watchdog.frames.group_fields import state_digest
from watchdog.frames.heartbeat import GroupReport, Heartbeat


@dataclass(frozen=True, slots=True)
class ReceivedReport:
    """A report of the peer and when (ns) and on which path it arrived."""

    report: GroupReport
    received_ns: int
    path: str


class PeerGroups:
    """What the peer last said about each group in its current session."""

    def __init__(self) -> None:
        self.reports: dict[GroupKey, ReceivedReport] = {}
        self.complete = False
        """True if the reports together are what the peer's newest heartbeat summed up in its digest."""
        self.round_ns = 0
        """The longest time between the last two reports of any one group."""
        self._gaps_ns: dict[GroupKey, int] = {}
        self._nonce = b""

    def update(self, now_ns: int, heartbeat: Heartbeat, path: str) -> None:
        """Take an accepted heartbeat; one of a new session forgets what the old one said."""
        if heartbeat.nonce != self._nonce:
            self._nonce = heartbeat.nonce
            self._gaps_ns.clear()
            self.reports.clear()
        if not heartbeat.partial:
            self.reports.clear()
        for report in heartbeat.groups:
            before = self.reports.get(report.key)
            if before is not None:
                self._gaps_ns[report.key] = now_ns - before.received_ns
            self.reports[report.key] = ReceivedReport(report, now_ns, path)
        self.round_ns = max(self._gaps_ns.values(), default=0)
        self.complete = state_digest([held.report for held in self.reports.values()], heartbeat.version) == heartbeat.digest
