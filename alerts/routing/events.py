"""PURE: what the alert router is told and what it asks for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from alerts.routing.settings import Receiver


class DeliveryState(Enum):
    """What became of one alert at one receiver.

    PENDING: not yet tried, or failed and to be tried again. SENDING: an attempt is under way (after a crash:
    its outcome is unknown and it is repeated with the same Message-ID or dedup_key). DELIVERED: accepted by
    the receiver. SKIPPED: this receiver is not to get it; the detail says why. REFUSED: the receiver will not
    take it as it is; tried again only after a restart or a change of the receiver's settings.
    """

    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    SKIPPED = "skipped"
    REFUSED = "refused"


UNFINISHED = (DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.REFUSED)


@dataclass(frozen=True, slots=True)
class Alert:
    """One row of the outbox. ``action`` is "trigger" or "resolve"; ``dedup`` is "" or why it must not be sent at all.

    ``details`` are pairs of text for people; ``node`` is who wrote it, ``wall_ns`` when.
    """

    alert_id: int
    dedup_key: str
    incident: str
    severity: str
    action: str
    summary: str
    details: tuple[tuple[str, str], ...] = ()
    dedup: str = ""
    node: str = ""
    wall_ns: int = 0


@dataclass(frozen=True, slots=True)
class AlertRecorded:
    """An alert is in the outbox. ``recorded_ns`` is when (CLOCK_BOOTTIME of this boot, may be negative for an earlier one).

    ``known`` is what is already recorded about its deliveries: (receiver, state, attempts so far).
    """

    alert: Alert
    recorded_ns: int
    known: tuple[tuple[str, DeliveryState, int], ...] = ()


@dataclass(frozen=True, slots=True)
class DeliveryFinished:
    """An attempt ended. ``retryable`` matters only if not ``ok``: False means that the same message would be refused again."""

    alert_id: int
    receiver: str
    ok: bool
    retryable: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class AcknowledgementReceived:
    """A person has taken the incident: nobody else needs to be woken for it."""

    incident: str


@dataclass(frozen=True, slots=True)
class ReceiversChanged:
    """The receivers of a new configuration. Refused deliveries are tried again."""

    receivers: tuple[Receiver, ...]


@dataclass(frozen=True, slots=True)
class OutboxOpened:
    """The outbox is being read from its beginning: nothing new is sent until OutboxRead, because a later row may settle an earlier one."""


@dataclass(frozen=True, slots=True)
class OutboxRead:
    """Everything that is in the outbox now was told (or it cannot be read, and there is no use in waiting)."""


RouterEvent: TypeAlias = AlertRecorded | DeliveryFinished | AcknowledgementReceived | ReceiversChanged | OutboxOpened | OutboxRead


@dataclass(frozen=True, slots=True)
class Deliver:
    """Send this alert to this receiver now.

    ``occurrence`` counts the alerts of the same dedup_key and action that this receiver gets, from 0: it
    makes the Message-ID of a repeat equal and that of an update different. ``attempt`` counts from 1.
    """

    alert: Alert
    receiver: str
    occurrence: int
    attempt: int


@dataclass(frozen=True, slots=True)
class MarkDelivery:
    """Record the state of a delivery that needs no sending now (skipped, waiting, refused), with the reason."""

    alert_id: int
    receiver: str
    state: DeliveryState
    attempts: int
    detail: str


@dataclass(frozen=True, slots=True)
class FinishDelivery:
    """Record how an attempt ended and the delivery's new state."""

    alert_id: int
    receiver: str
    state: DeliveryState
    attempt: int
    outcome: str
    detail: str


RouterCommand: TypeAlias = Deliver | MarkDelivery | FinishDelivery
