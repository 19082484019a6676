"""PURE: incidents with ids that both nodes share, and the alerts they cause.

*Episodes.* Every incident belongs to a numbered episode. The number of the newest episode travels in every heartbeat. Whoever confirms
something within ``EPISODE_NS`` of the newest episode joins it; else a new one begins. An incident's id is a hash of cluster, scope,
episode and both nodes' epochs, so both nodes page the same id when they hear each other, and also when a cut makes both count on from
the last number that both knew.

One page per incident; a second one only when the verdict grows worse; a resolve when it has been clear for a while.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from base.core import NS_PER_MS, NS_PER_S, JsonValue
from watchdog.judgement.commands import Row, RowKind
from watchdog.judgement.events import OpenIncident
from watchdog.judgement.stages import is_worse
from watchdog.judgement.verdict import Verdict, severity

EPISODE_NS = 15 * NS_PER_S
EPISODE_LIMIT = 1 << 16
MAX_OPEN = 512


class Trouble(Enum):
    """What this node cannot do, whatever the verdict is (troubles.py)."""

    LAST_OWNER_LOST = "last_owner_lost"
    """Nobody serves a group, as far as this node can see."""
    SPLIT_LASTS = "split_lasts"
    """Two owners, longer than it takes to end any split."""
    HOLD_FAILS = "hold_fails"
    """The VRRP daemon owns a group although it is held: every yield is undone."""
    GATE_NOT_OBEYED = "gate_not_obeyed"
    """The VRRP daemon does not look at its gate: it could not be held."""
    RECORD_SICK = "record_sick"
    """Nothing can be written down: nothing will be fenced."""
    DISK_LOW = "disk_low"
    """The disk of the state directory is nearly full."""
    FENCE_DEVICE_LOST = "fence_device_lost"
    """A fence device of the peer does not answer, refuses us, or is another outlet than the enrolled one."""
    FENCE_LEVELS_GONE = "fence_levels_gone"
    """No level of fence devices is left: the peer could not be fenced from here."""
    MISCONFIGURED = "misconfigured"
    """The nodes have different settings: neither fences the other."""
    SELF_FENCE_UNARMED = "self_fence_unarmed"
    """This node should reset itself when it is cut off, and its hardware watchdog cannot be armed."""
    WITNESS_OUT = "witness_out"
    """The witness cannot be reached: turns to fence go by the rules without it, once both nodes have told each other."""


@dataclass(slots=True)
class Incident:
    """An open incident. ``clear_since_ns``: since when its scope has been clear, None = it is not. ``trouble`` and ``level``: it is about
    no verdict but about a trouble, of this severity."""

    id: str
    scope: str
    verdict: Verdict
    summary: str
    opened_ns: int
    dedup_key: str
    paged: bool = False
    pages: int = 0
    acknowledged: bool = False
    clear_since_ns: int | None = None
    trouble: Trouble | None = None
    level: str = ""
    parts: frozenset[str] = frozenset()

    @property
    def word(self) -> str:
        """What the incident is about, as record and status show it."""
        return self.verdict.value if self.trouble is None else self.trouble.name

    @property
    def severity(self) -> str:
        """As alerts know them."""
        return self.level or severity(self.verdict)

    def to_json(self, now_ns: int) -> dict[str, JsonValue]:
        """For status."""
        return {
            "id": self.id,
            "scope": self.scope,
            "verdict": self.word,
            "severity": self.severity,
            "summary": self.summary,
            "age_ms": (now_ns - self.opened_ns) // NS_PER_MS,
            "paged": self.paged,
            "acknowledged": self.acknowledged,
            "dedup_key": self.dedup_key,
        }


class Episodes:
    """The shared counter."""

    def __init__(self) -> None:
        self.number = 0
        self._begun_ns: int | None = None

    def heard(self, now_ns: int, number: int) -> None:
        """The peer knows this number; newer in the sense of serial numbers (RFC 1982), for it wraps."""
        if number != self.number and (number - self.number) % EPISODE_LIMIT < EPISODE_LIMIT // 2:
            self.number = number
            self._begun_ns = now_ns

    def join(self, now_ns: int) -> tuple[int, bool]:
        """The episode for an incident that opens now, and whether it is a new one."""
        if self._begun_ns is not None and now_ns - self._begun_ns <= EPISODE_NS:
            return self.number, False
        return self.begin(now_ns), True

    def begin(self, now_ns: int) -> int:
        """A new episode in any case."""
        self.number = (self.number + 1) % EPISODE_LIMIT
        self._begun_ns = now_ns
        return self.number


class IncidentBook:
    """The open incidents, one per scope, and the rows that tell the record and the delivery process."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self.episodes = Episodes()
        self.open: dict[str, Incident] = {}
        self._used: dict[str, None] = {}

    def of(self, scope: str) -> Incident | None:
        """The open incident of a scope."""
        return self.open.get(scope)

    def id_of(self, scope: str) -> str:
        """The id of the scope's open incident, or ""."""
        incident = self.open.get(scope)
        return incident.id if incident else ""

    def raise_(
        self,
        now_ns: int,
        scope: str,
        verdict: Verdict,
        summary: str,
        details: str,
        epochs: tuple[int, int],
        page: bool,
        parts: frozenset[str] = frozenset(),
    ) -> list[Row]:
        """A verdict was confirmed: open an incident, or escalate the open one; page unless told not to.

        ``parts``: what the verdict is about (the silent paths). An open incident follows what joins them, with another page.
        """
        incident = self.open.get(scope)
        rows: list[Row] = []
        if incident is None:
            incident_id = self._new_id(now_ns, scope, epochs)
            key = f"{self._cluster}/{scope}/{incident_id}"
            incident = Incident(incident_id, scope, verdict, summary, now_ns, key)
            if len(self.open) >= MAX_OPEN:
                return []
            self.open[scope] = incident
            rows.append(_incident_row(incident, "open"))
        else:
            incident.clear_since_ns = None
            worse = is_worse(verdict, incident.verdict) or (verdict is incident.verdict and not parts <= incident.parts)
            if not worse and (incident.paged or not page):
                return []
            if worse:
                incident.verdict = verdict
                incident.summary = summary
            rows.append(_incident_row(incident, "updated"))
        incident.parts |= parts
        if page:
            incident.paged = True
            incident.pages += 1
            rows.append(_alert_row(incident, "trigger", details))
        return rows

    def raise_trouble(
        self, now_ns: int, scope: str, trouble: Trouble, level: str, summary: str, details: str, epochs: tuple[int, int], page: bool
    ) -> list[Row]:
        """A trouble stands: open its incident, or go on with the one that is open; page unless told not to or told before."""
        incident = self.open.get(scope)
        rows: list[Row] = []
        if incident is None:
            if len(self.open) >= MAX_OPEN:
                return []
            incident_id = self._new_id(now_ns, scope, epochs)
            key = f"{self._cluster}/{scope}/{incident_id}"
            incident = Incident(incident_id, scope, Verdict.UNKNOWN, summary, now_ns, key, trouble=trouble, level=level)
            self.open[scope] = incident
            rows.append(_incident_row(incident, "open"))
        incident.clear_since_ns = None
        if page and not incident.paged:
            incident.paged = True
            incident.pages += 1
            rows.append(_alert_row(incident, "trigger", details))
        return rows

    def restore(self, now_ns: int, left: tuple[OpenIncident, ...], scopes: Collection[str]) -> list[Row]:
        """Take up what an earlier run left open: whoever was paged for it learns when it is over, and nobody is paged twice.

        Of several of one scope the newest goes on; the others, and those of a scope that is not watched any more, are closed.
        """
        rows: list[Row] = []
        for found in left:
            key = f"{self._cluster}/{found.scope}/{found.id}"
            incident = Incident(found.id, found.scope, _verdict(found.verdict), found.summary, now_ns, key, found.paged, int(found.paged))
            incident.trouble = next((t for t in Trouble if t.name == found.verdict), None)
            self._used[found.id] = None
            older = self.open.pop(found.scope, None)
            if older is not None:
                rows += _closing_rows(older)
            if found.scope.partition("#")[0] in scopes:
                self.open[found.scope] = incident
            else:
                rows += _closing_rows(incident)
        return rows

    def clear(self, now_ns: int, scope: str, after_ns: int) -> list[Row]:
        """The scope is clear now; close its incident once it has been for ``after_ns``."""
        incident = self.open.get(scope)
        if incident is None:
            return []
        if incident.clear_since_ns is None:
            incident.clear_since_ns = now_ns
        if now_ns - incident.clear_since_ns < after_ns:
            return []
        del self.open[scope]
        return _closing_rows(incident)

    def not_clear(self, scope: str) -> None:
        """The scope is in doubt again: the time of being clear starts anew."""
        incident = self.open.get(scope)
        if incident is not None:
            incident.clear_since_ns = None

    def page_again(self, scope: str, level: str, summary: str, details: str) -> list[Row]:
        """Something a person must do about an open incident (a fence that failed, a latch)."""
        incident = self.open.get(scope)
        if incident is None:
            return []
        incident.paged = True
        incident.pages += 1
        return [_alert_row(incident, "trigger", details, summary, level)]

    def scope_of(self, incident_id: str) -> str:
        """The scope of an open incident, "" if there is none of that id."""
        return next((scope for scope, incident in self.open.items() if incident.id == incident_id), "")

    def of_episode(self, number: int) -> list[Incident]:
        """The open incidents of an episode: they have the same ids on both nodes."""
        return [incident for incident in self.open.values() if incident.id.startswith(f"I{number}-")]

    def taken(self) -> bool:
        """Whether a person has taken every open incident of the newest episode."""
        newest = self.of_episode(self.episodes.number)
        return bool(newest) and all(incident.acknowledged for incident in newest)

    def acknowledge(self, incident_id: str) -> bool:
        """A person has seen it; False if no such incident is open."""
        for incident in self.open.values():
            if incident.id == incident_id:
                incident.acknowledged = True
                return True
        return False

    def _new_id(self, now_ns: int, scope: str, epochs: tuple[int, int]) -> str:
        number, _ = self.episodes.join(now_ns)
        incident_id = self._hash(scope, number, epochs)
        while incident_id in self._used:
            number = self.episodes.begin(now_ns)
            incident_id = self._hash(scope, number, epochs)
        self._used[incident_id] = None
        if len(self._used) > 4 * MAX_OPEN:
            del self._used[next(iter(self._used))]
        return incident_id

    def _hash(self, scope: str, number: int, epochs: tuple[int, int]) -> str:
        text = f"{self._cluster}\0{scope}\0{number}\0{epochs[0]}\0{epochs[1]}"
        return f"I{number}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def _incident_row(incident: Incident, state: str) -> Row:
    return Row(
        RowKind.INCIDENT,
        (
            ("id", incident.id),
            ("state", state),
            ("scope", incident.scope),
            ("verdict", incident.word),
            ("summary", incident.summary),
        ),
    )


def _verdict(word: str) -> Verdict:
    """A word of another version, too, must not keep the watcher from starting."""
    return next((verdict for verdict in Verdict if verdict.value == word), Verdict.UNKNOWN)


def _closing_rows(incident: Incident) -> list[Row]:
    rows = [_incident_row(incident, "closed")]
    if incident.paged:
        rows.append(_alert_row(incident, "resolve", ""))
    return rows


def _alert_row(incident: Incident, action: str, details: str, summary: str = "", level: str = "") -> Row:
    return Row(
        RowKind.ALERT,
        (
            ("dedup_key", incident.dedup_key),
            ("incident", incident.id),
            ("severity", level or incident.severity),
            ("action", action),
            ("summary", summary or incident.summary),
            ("details", details),
            ("dedup", ""),
        ),
    )
