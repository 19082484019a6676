"""PURE: who is told, how, and about what."""

from __future__ import annotations

from dataclasses import dataclass

RECEIVER_TYPES = ("email", "webhook", "pagerduty", "apprise")
SEVERITIES = ("info", "warning", "critical")


@dataclass(frozen=True, slots=True)
class Receiver:
    """One ``[[alert]]`` of brain.toml.

    ``parameters`` are the receiver's own keys (email: to, from, smtp_host, smtp_port, tls, username …; webhook:
    url_secret …; pagerduty: routing_key_secret, url …); keys ending in ``_secret`` hold secret references.
    ``least_severity`` drops milder alerts. ``escalate_after_ms`` > 0: only told when the incident is still open and
    unacknowledged after that time.
    """

    name: str
    type: str
    parameters: tuple[tuple[str, str], ...]
    least_severity: str = "warning"
    escalate_after_ms: int = 0
