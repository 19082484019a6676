"""What goes out: one alert as a mail, a JSON object or a PagerDuty event, and how an attempt ended."""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from email.utils import formatdate

from alerts.routing.events import Alert
from base.core import NS_PER_S, JsonValue
from base.secrets import Secret

MAX_SUMMARY = 1_000
"""PagerDuty takes at most 1024 characters in a summary."""


@dataclass(frozen=True, slots=True)
class SendResult:
    """How an attempt ended. ``retryable`` matters only if not ``ok``. ``detail`` is for people and holds no secret."""

    ok: bool
    retryable: bool = True
    detail: str = ""


@dataclass(frozen=True, slots=True)
class OutgoingAlert:
    """An alert on its way to one receiver. ``occurrence`` as in routing.events.Deliver."""

    alert: Alert
    cluster: str
    occurrence: int = 0
    attempt: int = 1

    @property
    def message_id(self) -> str:
        """Equal for the same dedup_key, action and occurrence: on both nodes, and when it has to be repeated."""
        return self._id(self.alert.action, self.occurrence)

    @property
    def thread_id(self) -> str:
        """The message_id of the first trigger of this incident."""
        return self._id("trigger", 0)

    def _id(self, action: str, occurrence: int) -> str:
        seed = f"{self.alert.dedup_key}\n{action}\n{occurrence}".encode("utf-8", "backslashreplace")
        domain = re.sub(r"[^A-Za-z0-9.-]+", "-", self.cluster).strip(".-") or "cluster"
        return f"<{hashlib.sha256(seed).hexdigest()[:32]}@{domain}.brainctl>"

    @property
    def summary(self) -> str:
        """One line, bounded."""
        line = " ".join(clean(self.alert.summary).split()) or " ".join(clean(self.alert.dedup_key).split()) or "alert"
        return line if len(line) <= MAX_SUMMARY else line[: MAX_SUMMARY - 1] + "…"

    @property
    def subject(self) -> str:
        """``[cluster] CRITICAL summary`` or ``[cluster] RESOLVED summary``."""
        word = "RESOLVED" if self.alert.action == "resolve" else self.alert.severity.upper()
        return f"[{clean(self.cluster)}] {word} {self.summary}"

    @property
    def happened(self) -> str:
        """When the alert was written, UTC."""
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.alert.wall_ns // NS_PER_S))

    def body(self) -> str:
        """The text of a mail: what, where, when, and what to type next."""
        alert = self.alert
        pairs = [("cluster", self.cluster), ("node", alert.node), ("time", self.happened), ("severity", alert.severity)]
        pairs += [("incident", alert.incident), ("dedup key", alert.dedup_key), *alert.details]
        width = max(len(clean(k)) for k, _ in pairs)
        lines = [f"{clean(k).ljust(width)}  {clean(v)}" for k, v in pairs]
        hint = f"More: brainctl explain {clean(alert.incident)}" if alert.incident else "More: brainctl status"
        return "\n".join([self.summary, "", *lines, "", hint, ""])

    def to_json(self) -> dict[str, JsonValue]:
        """The fields that every machine-readable message carries."""
        alert = self.alert
        return {
            "dedup_key": clean(alert.dedup_key),
            "incident": clean(alert.incident),
            "action": alert.action,
            "severity": alert.severity,
            "cluster": clean(self.cluster),
            "node": clean(alert.node),
            "time": self.happened,
            "message_id": self.message_id,
            "attempt": self.attempt,
            "details": {clean(k): clean(v) for k, v in alert.details},
        }


def mail_headers(message: OutgoingAlert) -> dict[str, str]:
    """The headers of a mail that are the same on every attempt: its ids, its date, its weight."""
    alert = message.alert
    headers = {"Date": formatdate(alert.wall_ns / NS_PER_S, usegmt=True), "Message-ID": message.message_id}
    if message.message_id != message.thread_id:
        headers |= {"In-Reply-To": message.thread_id, "References": message.thread_id}
    return headers | {
        "Auto-Submitted": "auto-generated",
        "X-Priority": "1" if alert.severity == "critical" and alert.action == "trigger" else "3",
        "X-Brainctl-Dedup-Key": " ".join(clean(alert.dedup_key).split()),
        "X-Brainctl-Action": alert.action,
    }


def clean(text: str) -> str:
    """Text that every encoder takes: lone surrogates escaped, control characters (but not newline and tab) removed."""
    safe = text.encode("utf-8", "backslashreplace").decode()
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", safe)


def scrub(text: str, *secrets: Secret | None) -> str:
    """``text`` without the values of secrets, bounded."""
    for secret in secrets:
        if secret is not None and secret.reveal():
            text = text.replace(secret.reveal(), "***")
    return clean(text)[:500]
