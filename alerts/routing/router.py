"""PURE: which receiver gets which alert, when, and what to do when it does not get through.

Rules, in the order they are asked, for each alert and receiver:

1. an alert recorded with a ``dedup`` reason is sent to nobody;
2. a trigger milder than the receiver's ``least_severity`` is skipped; a resolve goes exactly to those who get, or got, its trigger;
3. a repetition (same dedup_key, severity and summary, not resolved in between) is skipped; a changed one is sent as an update;
4. a receiver with ``escalate_after_ms`` is told only when the incident is then neither resolved nor acknowledged.

What is to be sent is sent in the order of the outbox, one at a time to each receiver, and repeated until it is accepted
or refused for good. Each decision is recorded (MarkDelivery, FinishDelivery) before it is acted on: the order of the
returned commands is a contract.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from alerts.routing.events import (
    UNFINISHED,
    AcknowledgementReceived,
    Alert,
    AlertRecorded,
    Deliver,
    DeliveryFinished,
    DeliveryState,
    FinishDelivery,
    MarkDelivery,
    OutboxRead,
    ReceiversChanged,
    RouterCommand,
    RouterEvent,
)
from alerts.routing.lane import Lane
from alerts.routing.settings import SEVERITIES, Receiver
from base.core import NS_PER_MS, NS_PER_S, JsonValue

NOBODY = ""
"""Stands for the receiver of an alert that was recorded while none was configured."""

TOO_OLD_NS = 24 * 3_600 * NS_PER_S
"""An alert that waited for its first receiver longer than this is history, not news."""

MAX_KEPT_KEYS = 10_000


@dataclass(slots=True)
class _Delivery:
    state: DeliveryState
    attempts: int = 0
    occurrence: int = 0
    escalate_at_ns: int | None = None


@dataclass(slots=True)
class _Entry:
    alert: Alert
    recorded_ns: int
    deliveries: dict[str, _Delivery] = field(default_factory=dict)


@dataclass(slots=True)
class _Key:
    """All alerts of one dedup_key. ``since`` is the position after the last resolve: repetitions are looked for from there."""

    alert_ids: list[int] = field(default_factory=list)
    since: int = 0
    resolved: bool = False


class Router:
    """A Core; see the module. ``random`` gives floats in [0, 1) for the jitter of the back-off."""

    def __init__(self, receivers: Sequence[Receiver], random: Callable[[], float]) -> None:
        self._random = random
        self._receivers = {r.name: r for r in receivers}
        self._lanes = {r.name: Lane(random) for r in receivers}
        self._entries: dict[int, _Entry] = {}
        self._keys: dict[str, _Key] = {}
        self._dedup_keys: dict[int, str] = {}
        self._acknowledged: set[str] = set()
        self._started = False

    # ---- Core -----------------------------------------------------------------------------------------------------------------

    def handle(self, now_ns: int, event: RouterEvent) -> list[RouterCommand]:
        """Take one event; see the module for the rules."""
        commands: list[RouterCommand] = []
        if isinstance(event, AlertRecorded):
            self._recorded(now_ns, event, commands)
        elif isinstance(event, DeliveryFinished):
            self._finished(now_ns, event, commands)
        elif isinstance(event, AcknowledgementReceived):
            self._acknowledge(event.incident, commands)
        elif isinstance(event, ReceiversChanged):
            self._reconfigure(now_ns, event.receivers, commands)
        else:
            self._started = isinstance(event, OutboxRead)
        self._send_due(now_ns, commands)
        return commands

    def on_deadline(self, now_ns: int) -> list[RouterCommand]:
        """Escalate and repeat what is due."""
        commands: list[RouterCommand] = []
        for entry in self._entries.values():
            for name, delivery in entry.deliveries.items():
                if delivery.escalate_at_ns is not None and delivery.escalate_at_ns <= now_ns:
                    delivery.escalate_at_ns = None
                    self._enqueue(entry.alert.alert_id, name)
        self._send_due(now_ns, commands)
        return commands

    def next_deadline(self) -> int | None:
        """The next escalation or repetition."""
        if not self._started:
            return None
        due = [at_ns for lane in self._lanes.values() if (at_ns := lane.next_deadline()) is not None]
        due += [d.escalate_at_ns for e in self._entries.values() for d in e.deliveries.values() if d.escalate_at_ns is not None]
        return min(due, default=None)

    def snapshot(self) -> JsonValue:
        """Receivers with their queues, and how many alerts are kept in mind."""
        receivers: dict[str, JsonValue] = {}
        for name, lane in self._lanes.items():
            counts = {state.value: 0 for state in DeliveryState}
            for entry in self._entries.values():
                if (delivery := entry.deliveries.get(name)) is not None:
                    counts[delivery.state.value] += 1
            receivers[name] = {**lane.snapshot(), "states": dict(counts)}
        return {"receivers": receivers, "alerts": len(self._entries)}

    def alert(self, alert_id: int) -> Alert | None:
        """An alert that is kept in mind."""
        entry = self._entries.get(alert_id)
        return entry.alert if entry is not None else None

    # ---- a new alert ----------------------------------------------------------------------------------------------------------

    def _recorded(self, now_ns: int, event: AlertRecorded, commands: list[RouterCommand]) -> None:
        alert = event.alert
        if alert.alert_id in self._entries:
            return
        entry = self._entries[alert.alert_id] = _Entry(alert, event.recorded_ns)
        self._dedup_keys[alert.alert_id] = alert.dedup_key
        key = self._keys.setdefault(alert.dedup_key, _Key())
        known = {name: (state, attempts) for name, state, attempts in event.known}
        if known and known.get(NOBODY, (None, 0))[0] is not DeliveryState.REFUSED:
            self._resume(entry, key, known, commands)
        elif known and now_ns - event.recorded_ns > TOO_OLD_NS:
            self._mark(entry, NOBODY, DeliveryState.SKIPPED, "no receiver was configured in time", commands)
        else:
            self._plan(now_ns, entry, key, commands)
        key.alert_ids.append(alert.alert_id)
        if alert.action == "resolve":
            self._resolved(key, commands)
        else:
            key.resolved = False
        self._forget_old()

    def _plan(self, now_ns: int, entry: _Entry, key: _Key, commands: list[RouterCommand]) -> None:
        alert = entry.alert
        if not self._receivers:
            self._mark(entry, NOBODY, DeliveryState.REFUSED, "no receiver is configured: nobody was told", commands)
            return
        if NOBODY in entry.deliveries:
            self._mark(entry, NOBODY, DeliveryState.SKIPPED, "receivers are configured now", commands)
        for name, receiver in self._receivers.items():
            why_not = self._why_not(receiver, alert, key)
            delivery = entry.deliveries[name] = _Delivery(DeliveryState.PENDING, occurrence=self._occurrence(key, name, alert.action))
            if why_not:
                self._mark(entry, name, DeliveryState.SKIPPED, why_not, commands)
            elif receiver.escalate_after_ms and alert.action == "trigger":
                delivery.escalate_at_ns = max(now_ns, entry.recorded_ns + receiver.escalate_after_ms * NS_PER_MS)
                self._mark(entry, name, DeliveryState.PENDING, "waits: told only if still open and unacknowledged", commands)
            else:
                self._mark(entry, name, DeliveryState.PENDING, "", commands)
                self._enqueue(alert.alert_id, name)

    def _why_not(self, receiver: Receiver, alert: Alert, key: _Key) -> str:
        if alert.dedup:
            return alert.dedup
        if alert.action == "resolve":
            if key.resolved:
                return "resolved already"
            return "" if self._told(key, receiver.name) else "was not told of the trigger"
        if _rank(alert.severity) < _rank(receiver.least_severity):
            return f"{alert.severity} is below least_severity {receiver.least_severity}"
        for earlier_id in key.alert_ids[key.since :]:
            earlier = self._entries[earlier_id]
            delivery = earlier.deliveries.get(receiver.name)
            same = (earlier.alert.severity, earlier.alert.summary) == (alert.severity, alert.summary)
            if same and delivery is not None and delivery.state is not DeliveryState.SKIPPED:
                return f"same as alert {earlier_id}"
        if receiver.escalate_after_ms and alert.incident in self._acknowledged:
            return "acknowledged before the escalation"
        return ""

    def _told(self, key: _Key, name: str) -> bool:
        """Whether the receiver gets, or got, a trigger since the last resolve. One that only waits for its escalation is not told."""
        for alert_id in key.alert_ids[key.since :]:
            delivery = self._entries[alert_id].deliveries.get(name)
            if delivery is not None and delivery.state is not DeliveryState.SKIPPED and delivery.escalate_at_ns is None:
                return True
        return False

    def _occurrence(self, key: _Key, name: str, action: str) -> int:
        count = 0
        for alert_id in key.alert_ids:
            entry = self._entries[alert_id]
            delivery = entry.deliveries.get(name)
            if entry.alert.action == action and delivery is not None and delivery.state is not DeliveryState.SKIPPED:
                count += 1
        return count

    def _resume(self, entry: _Entry, key: _Key, known: dict[str, tuple[DeliveryState, int]], commands: list[RouterCommand]) -> None:
        """Go on where an earlier process stopped. The plan is recorded in one transaction, so a receiver that is missing came later."""
        alert = entry.alert
        for name, (state, attempts) in known.items():
            delivery = entry.deliveries[name] = _Delivery(state, attempts, self._occurrence(key, name, alert.action))
            if state not in UNFINISHED:
                continue
            receiver = self._receivers.get(name)
            if receiver is None:
                self._mark(entry, name, DeliveryState.SKIPPED, "the receiver was removed from the configuration", commands)
                continue
            if state is DeliveryState.SENDING:
                detail = "ended before the outcome was known; repeated with the same id"
                delivery.state = DeliveryState.PENDING
                commands.append(FinishDelivery(alert.alert_id, name, DeliveryState.PENDING, attempts, "interrupted", detail))
            if receiver.escalate_after_ms and alert.action == "trigger" and not attempts:
                delivery.escalate_at_ns = entry.recorded_ns + receiver.escalate_after_ms * NS_PER_MS
                if alert.incident in self._acknowledged:
                    self._cancel(entry, name, "acknowledged before the escalation", commands)
            else:
                delivery.state = DeliveryState.PENDING
                self._enqueue(alert.alert_id, name)
        for name in self._receivers:
            if name not in known and NOBODY not in known:
                self._mark(entry, name, DeliveryState.SKIPPED, "the receiver was added later", commands)

    def _resolved(self, key: _Key, commands: list[RouterCommand]) -> None:
        """A resolve was recorded: nobody is escalated to any more, and a refused trigger is not tried again."""
        for alert_id in key.alert_ids[key.since : -1]:
            entry = self._entries[alert_id]
            for name, delivery in entry.deliveries.items():
                if delivery.escalate_at_ns is not None:
                    self._cancel(entry, name, "resolved before the escalation", commands)
        resolve = self._entries[key.alert_ids[-1]]
        for name, delivery in resolve.deliveries.items():
            if delivery.state is DeliveryState.DELIVERED:
                self._settle(resolve.alert, name, commands)
        key.since = len(key.alert_ids)
        key.resolved = True

    def _settle(self, resolve: Alert, name: str, commands: list[RouterCommand]) -> None:
        """The receiver has the resolve: an earlier trigger that it refused must not open the incident again."""
        for alert_id in self._keys[resolve.dedup_key].alert_ids:
            earlier = self._entries[alert_id].deliveries.get(name)
            if alert_id == resolve.alert_id:
                return
            if earlier is not None and earlier.state in UNFINISHED:
                self._cancel(self._entries[alert_id], name, "its resolve was delivered", commands)

    # ---- what happens to it ---------------------------------------------------------------------------------------------------

    def _finished(self, now_ns: int, event: DeliveryFinished, commands: list[RouterCommand]) -> None:
        entry = self._entries.get(event.alert_id)
        lane = self._lanes.get(event.receiver)
        delivery = entry.deliveries.get(event.receiver) if entry is not None else None
        if entry is None or delivery is None or delivery.state is not DeliveryState.SENDING:
            return
        detail = event.detail
        if event.ok:
            delivery.state, outcome = DeliveryState.DELIVERED, "delivered"
            if lane is not None:
                lane.succeeded()
        elif not event.retryable:
            delivery.state, outcome = DeliveryState.REFUSED, "refused"
            if lane is not None:
                lane.refused(detail)
        elif lane is None or lane.failed(now_ns, detail):
            delivery.state, outcome = DeliveryState.PENDING, "failed"
        else:
            delivery.state, outcome = DeliveryState.REFUSED, "refused"
            detail = f"not accepted again and again while others are: {detail}"
        commands.append(FinishDelivery(event.alert_id, event.receiver, delivery.state, delivery.attempts, outcome, detail))
        if event.ok and entry.alert.action == "resolve":
            self._settle(entry.alert, event.receiver, commands)
        if lane is None and delivery.state is DeliveryState.PENDING:
            self._mark(entry, event.receiver, DeliveryState.SKIPPED, "the receiver was removed from the configuration", commands)

    def _acknowledge(self, incident: str, commands: list[RouterCommand]) -> None:
        self._acknowledged.add(incident)
        for entry in self._entries.values():
            if entry.alert.incident == incident:
                for name, delivery in entry.deliveries.items():
                    if delivery.escalate_at_ns is not None:
                        self._cancel(entry, name, "acknowledged before the escalation", commands)

    def _reconfigure(self, now_ns: int, receivers: Sequence[Receiver], commands: list[RouterCommand]) -> None:
        self._receivers = {r.name: r for r in receivers}
        old, self._lanes = self._lanes, {}
        for name in self._receivers:
            lane = self._lanes[name] = Lane(self._random)
            # What is on its way stays on its way; everything else may go at once under the new settings.
            lane.in_flight = old[name].in_flight if name in old else None
        for entry in self._entries.values():
            key = self._keys[entry.alert.dedup_key]
            if set(entry.deliveries) == {NOBODY} and entry.deliveries[NOBODY].state is DeliveryState.REFUSED:
                if receivers and now_ns - entry.recorded_ns <= TOO_OLD_NS:
                    self._plan(now_ns, entry, key, commands)
                continue
            for name, delivery in entry.deliveries.items():
                if delivery.state not in UNFINISHED or (delivery.escalate_at_ns is not None and name in self._receivers):
                    continue
                if name in self._receivers:
                    self._requeue(entry, name, delivery)
                elif delivery.state is not DeliveryState.SENDING:
                    self._cancel(entry, name, "the receiver was removed from the configuration", commands)

    def _requeue(self, entry: _Entry, name: str, delivery: _Delivery) -> None:
        if delivery.state is DeliveryState.REFUSED:
            delivery.state = DeliveryState.PENDING
        if delivery.state is DeliveryState.SENDING and self._lanes[name].in_flight is None:
            self._lanes[name].in_flight = entry.alert.alert_id
        self._enqueue(entry.alert.alert_id, name)

    def _send_due(self, now_ns: int, commands: list[RouterCommand]) -> None:
        if not self._started:
            return
        for name, lane in self._lanes.items():
            alert_id = lane.next_alert(now_ns, self._dedup_keys)
            if alert_id is None:
                continue
            entry = self._entries[alert_id]
            delivery = entry.deliveries[name]
            delivery.state = DeliveryState.SENDING
            delivery.attempts += 1
            commands.append(MarkDelivery(alert_id, name, DeliveryState.SENDING, delivery.attempts, ""))
            commands.append(Deliver(entry.alert, name, delivery.occurrence, delivery.attempts))

    # ---- helpers --------------------------------------------------------------------------------------------------------------

    def _enqueue(self, alert_id: int, name: str) -> None:
        queue = self._lanes[name].queue
        queue.append(alert_id)
        queue.sort(key=lambda i: (i > 0, abs(i)))

    def _mark(self, entry: _Entry, name: str, state: DeliveryState, detail: str, commands: list[RouterCommand]) -> None:
        delivery = entry.deliveries.setdefault(name, _Delivery(state))
        delivery.state = state
        commands.append(MarkDelivery(entry.alert.alert_id, name, state, delivery.attempts, detail))

    def _cancel(self, entry: _Entry, name: str, detail: str, commands: list[RouterCommand]) -> None:
        lane = self._lanes.get(name)
        delivery = entry.deliveries[name]
        if delivery.state is DeliveryState.SENDING and lane is not None and lane.in_flight == entry.alert.alert_id:
            return
        delivery.escalate_at_ns = None
        if lane is not None:
            lane.remove(entry.alert.alert_id)
        self._mark(entry, name, DeliveryState.SKIPPED, detail, commands)

    def _forget_old(self) -> None:
        """Keys that are resolved and delivered leave the memory, oldest first, when there are too many."""
        if len(self._keys) <= MAX_KEPT_KEYS:
            return
        for name, key in list(self._keys.items()):
            finished = all(d.state not in UNFINISHED for i in key.alert_ids for d in self._entries[i].deliveries.values())
            if key.resolved and finished:
                for alert_id in key.alert_ids:
                    del self._entries[alert_id], self._dedup_keys[alert_id]
                del self._keys[name]
            if len(self._keys) <= MAX_KEPT_KEYS * 9 // 10:
                return


def _rank(severity: str) -> int:
    """Position in SEVERITIES; an unknown word is taken as the worst."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)
