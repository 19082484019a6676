"""PURE: everything the watcher can ask its shell to do. The order of a returned list is a contract.

``Persist(barrier=n)`` comes before ``RunFence``: the shell sends the rows to the recorder, and the core orders the
fence only after ``Persisted(n)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from base.core import JsonValue
from watchdog.config.model import GroupKey
from watchdog.judgement.self_fence import WatchdogOrder


@dataclass(frozen=True, slots=True)
class SendFrame:
    """Send these bytes on a path, now or never (a serial line that is still busy drops it)."""

    path: str
    data: bytes


@dataclass(frozen=True, slots=True)
class ProbeOwners:
    """Ask the segment who owns an address (sender IP 0), listen the whole window, report OwnerClaimed and at last ProbeFinished."""

    probe_id: int
    interface: str
    address: str
    requests: int
    window_ms: int


@dataclass(frozen=True, slots=True)
class ProbeReference:
    """Ask a reference target (ARP/NS); an answer is reported as ReferenceAnswered."""

    name: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Send gratuitous ARP / unsolicited NA for an address that this node holds."""

    interface: str
    address: str
    count: int = 3


@dataclass(frozen=True, slots=True)
class RemoveAddress:
    """Delete an address from this kernel."""

    interface: str
    address: str
    reason: str


class GateState(Enum):
    """What the local VRRP daemon may do with a group: OPEN = as it likes; HELD = must not be MASTER (yield); GRANTED =
    may (strict)."""

    OPEN = "open"
    HELD = "held"
    GRANTED = "granted"


@dataclass(frozen=True, slots=True)
class SetGate:
    """Set the gate of a group. For a stock keepalived the shell writes the gate files (one for all groups), for vrrpd
    it uses the socket.

    ``epoch`` identifies the grant; ``expires_ms`` bounds a grant or hold at vrrpd (0 = until changed).
    """

    key: GroupKey
    state: GateState
    epoch: int
    reason: str
    expires_ms: int = 0


@dataclass(frozen=True, slots=True)
class BridgeAdvert:
    """Tell the local vrrpd that the peer really sent this advert (heard over another path). Never sent for a stock keepalived."""

    key: GroupKey
    priority: int
    source: str
    age_ms: int
    valid_ms: int


class RowKind(Enum):
    """Tables of the record."""

    EVIDENCE = "evidence"
    VERDICT = "verdict"
    INCIDENT = "incident"
    ACTION = "action"
    FENCE = "fence"
    ALERT = "alert"
    NODE = "node"


@dataclass(frozen=True, slots=True)
class Row:
    """One row for the record; ``fields`` is ordered. What each kind holds is written in watchdog/record/schema.py.

    EVIDENCE: id, kind (K1…K5), subject, detail, at_ns. VERDICT: id, scope ("pair" or group), verdict, stage
    ("suspected"|"confirmed"|""), reason, evidence (ids), incident.
    INCIDENT: id, state ("open"|"updated"|"closed"), scope, verdict, summary. ACTION: id, incident, action, subject,
    detail, outcome.
    FENCE: order_id, incident, target, level, state (requested|claimed|proved|refuted|unknown|not_done), detail;
    level 0 = the whole fence. ALERT:
    dedup_key, incident, severity, action
    ("trigger"|"resolve"), summary, details, dedup. NODE: quarantine, latch, seen_peer and other durable facts about this node (key, value).
    """

    kind: RowKind
    fields: tuple[tuple[str, JsonValue], ...]


@dataclass(frozen=True, slots=True)
class Persist:
    """Write rows in one transaction; an alert's outbox row is in the same transaction as its incident. With ``barrier``
    the recorder answers Persisted."""

    rows: tuple[Row, ...]
    barrier: int | None = None


@dataclass(frozen=True, slots=True)
class RunFence:
    """Order one action of one device. The runner refuses it (STALE_ORDER) when it is older than ``valid_ms`` at the
    moment of the device command.

    ``action``: "off", "on", "status". ``order_id`` + ``level`` + ``device`` + ``action`` + ``attempt`` identify it; the
    runner never repeats one by itself.
    """

    order_id: str
    target: str
    level: int
    device: str
    action: str
    attempt: int
    issued_ns: int
    valid_ms: int


@dataclass(frozen=True, slots=True)
class RequestLease:
    """Ask the witness for the turn to fence, or renew it when ``request`` holds it already. Answered by LeaseGranted or LeaseRefused;
    nothing is renewed without being asked, so that a watcher that hangs does not keep the turn. ``lease_ms``: how long it shall last."""

    request: int
    lease_ms: int


@dataclass(frozen=True, slots=True)
class ReleaseLease:
    """Give the turn back: no act of ours can still take effect. Not answered."""

    request: int


@dataclass(frozen=True, slots=True)
class OperateWatchdog:
    """Arm (open), feed or disarm this node's hardware watchdog. ARM is answered by WatchdogChanged."""

    order: WatchdogOrder
    device: str
    timeout_s: int


@dataclass(frozen=True, slots=True)
class AcknowledgeAlerts:
    """A person has taken the incident, here or at the peer: receivers that would be told later are not told."""

    incident: str
    who: str


@dataclass(frozen=True, slots=True)
class PublishStatus:
    """The status document changed; the shell answers ``brainctl status`` with the newest snapshot and pushes this to
    subscribers."""

    summary: str


WatcherCommand: TypeAlias = (
    SendFrame
    | ProbeOwners
    | ProbeReference
    | Announce
    | RemoveAddress
    | SetGate
    | BridgeAdvert
    | Persist
    | RunFence
    | RequestLease
    | ReleaseLease
    | OperateWatchdog
    | AcknowledgeAlerts
    | PublishStatus
)
