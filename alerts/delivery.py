"""The delivery process: ``python -m alerts.delivery --database PATH``, a child of braind.

It reads the outbox, asks the router what to send to whom, sends, and records how it ended. A delivery is
marked ``sending`` on the disk before the attempt and finished after it: killed in between, its outcome is
unknown and it is repeated with the same Message-ID or dedup_key.

From the parent, one JSON object a line:

- ``{"op":"configure","cluster","receivers":[{"name","type","parameters":{…},"least_severity","escalate_after_ms"}…]}``: first, and
  again after a reload; parameters as in brain.toml (secrets as references, never values)
- ``{"op":"wake"}``: an alert was recorded (without it the outbox is looked at twice a second)
- ``{"op":"acknowledged","incident","who"}``: a person has taken the incident
- ``{"op":"send_now","alert":{"dedup_key","incident","severity","action","summary","details","dedup","node",
  "wall_ns"}}``: the very fields of an ALERT row; for alerts that
  cannot be recorded (the record is in trouble): sent without a trace in the outbox; the recorded twin is later skipped as a repetition
- ``{"op":"status"}``

To the parent:

- ``{"delivered": {"alert_id","receiver","incident","dedup_key","action","attempt"}}``
- ``{"failing": {"receiver","alert_id","attempt","detail"}}``: an attempt failed or was refused
- ``{"damaged": detail}``: the database is damaged; ask the recorder to check it
- ``{"status": {"receivers": {name: {"waiting","failures","detail",…}},"database": "ok" or what is wrong with it,"unwritten"}}``
"""

from __future__ import annotations

import argparse
import os
import queue
import random
import signal
import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence

from alerts.outbox import Outbox, OutboxEntry, OutboxReplaced, details_of
from alerts.routing.events import (
    AcknowledgementReceived,
    Alert,
    AlertRecorded,
    Deliver,
    DeliveryFinished,
    FinishDelivery,
    MarkDelivery,
    OutboxOpened,
    OutboxRead,
    ReceiversChanged,
    RouterCommand,
    RouterEvent,
)
from alerts.routing.router import Router
from alerts.routing.settings import Receiver
from alerts.senders import dispatch
from alerts.senders.message import OutgoingAlert, SendResult
from base.channel import Channel, JsonObject
from base.clock import boot_id, now_ns, wall_ns
from base.core import NS_PER_MS, NS_PER_S
from base.log import Log, stderr_log
from base.pump import Pump
from base.supervise import child_socket, die_with_parent

POLL_NS = 500 * NS_PER_MS
EAGER_NS = 10 * NS_PER_MS
EAGER_FOR_NS = 2 * NS_PER_S
"""After a wake the outbox is looked at this often for this long: the parent wakes us before the alert is committed."""
RETRY_NS = NS_PER_S
GRACE_NS = 1_500 * NS_PER_MS
MAX_STUCK_SENDERS = 16
MAX_UNWRITTEN = 10_000
PAGE = 500


class Delivery:
    """The shell around the router: outbox, sender threads, parent."""

    def __init__(self, pump: Pump, database: str, log: Log, *, deadline_s: float, random_source: random.Random) -> None:
        self._pump = pump
        self._database = database
        self._log = log
        self._deadline_s = deadline_s
        self._random = random_source
        self._boot = boot_id()
        self.channel: Channel | None = None
        self._cluster = ""
        self._receivers: dict[str, Receiver] = {}
        self._router: Router | None = None
        self._outbox: Outbox | None = None
        self._problem = "not opened yet"
        self._last_id = 0
        self._version = -1
        self._direct: list[Alert] = []
        self._generation = 0
        self._unwritten: deque[MarkDelivery | tuple[FinishDelivery, int]] = deque()
        self._look_due_ns = now_ns()
        self._eager_until_ns = 0
        self._reading = False
        self._started_ns: dict[tuple[int, str], int] = {}
        self._results: queue.SimpleQueue[tuple[int, int, str, SendResult]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._end_due_ns: int | None = None
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        pump.add_reader(self._wake_fd, self._collect)

    # ---- pump -----------------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> int | None:
        """The next look at the outbox or the router's next deadline."""
        if self._router is None or self._end_due_ns is not None:
            return self._end_due_ns
        router = self._router.next_deadline()
        return self._look_due_ns if router is None else min(router, self._look_due_ns)

    def on_deadline(self, at_ns: int) -> None:
        """Look into the outbox; let the router escalate and repeat."""
        if self._end_due_ns is not None and at_ns >= self._end_due_ns:
            self._pump.stop()
        if self._router is None or self._end_due_ns is not None:
            return
        if at_ns >= self._look_due_ns:
            self._look()
        due = self._router.next_deadline()
        if due is not None and due <= at_ns:
            self._execute(self._router.on_deadline(at_ns))

    # ---- parent ---------------------------------------------------------------------------------------------------------------

    def on_message(self, message: JsonObject) -> None:
        """Take one message from the parent; one that is not understood changes nothing."""
        op = message.get("op")
        try:
            if op == "configure":
                self._configure(message)
            elif op == "wake":
                self._eager_until_ns = now_ns() + EAGER_FOR_NS
                self._look()
            elif op == "acknowledged":
                self._acknowledge(str(message["incident"]), str(message.get("who", "")))
            elif op == "send_now":
                self._send_now(message["alert"])
            elif op == "status":
                self._say({"status": self._status()})
            else:
                raise ValueError(f"{op!r} is no operation of the delivery process")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._log.limited("message", "a message was not understood", why=f"{type(error).__name__}: {error}", op=str(op)[:40])
            self._say({"rejected": {"op": str(op)[:40], "why": f"{type(error).__name__}: {error}"}})

    def closed(self, _reason: str) -> None:
        """The parent is gone."""
        self.terminate()

    def terminate(self) -> None:
        """End: start nothing new, and wait shortly for what is on its way, so that it need not be repeated."""
        if self._end_due_ns is None:
            self._end_due_ns = now_ns() + GRACE_NS
            os.eventfd_write(self._wake_fd, 1)

    def _configure(self, message: JsonObject) -> None:
        receivers = tuple(
            Receiver(
                name=str(r["name"]),
                type=str(r["type"]),
                parameters=tuple((str(k), str(v)) for k, v in dict(r.get("parameters", {})).items()),
                least_severity=str(r.get("least_severity", "warning")),
                escalate_after_ms=int(r.get("escalate_after_ms", 0)),
            )
            for r in message["receivers"]
        )
        self._cluster = str(message.get("cluster", ""))
        self._receivers = {r.name: r for r in receivers}
        if self._router is None:
            self._begin()
        else:
            self._tell(ReceiversChanged(receivers))

    def _acknowledge(self, incident: str, who: str) -> None:
        if self._outbox is not None:
            try:
                self._outbox.acknowledge(incident, who)
            except (sqlite3.Error, OutboxReplaced) as error:
                self._log.limited("ack", "an acknowledgement could not be recorded", detail=str(error))
        if self._router is not None:
            self._tell(AcknowledgementReceived(incident))

    def _send_now(self, fields: JsonObject) -> None:
        alert = Alert(
            alert_id=-len(self._direct) - 1,
            dedup_key=str(fields["dedup_key"]),
            incident=str(fields.get("incident", "")),
            severity=str(fields.get("severity", "critical")),
            action=str(fields.get("action", "trigger")),
            summary=str(fields["summary"]),
            details=details_of(fields.get("details", "")),
            dedup=str(fields.get("dedup", "")),
            node=str(fields.get("node", "")),
            wall_ns=int(fields.get("wall_ns", wall_ns())),
        )
        self._direct.append(alert)
        if self._router is not None:
            self._tell(AlertRecorded(alert, now_ns()))
            self._tell(OutboxRead())

    # ---- outbox ---------------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """A fresh router for the outbox as it is now; what is still being sent for an earlier one is no longer waited for."""
        self._generation += 1
        self._router = Router(tuple(self._receivers.values()), self._random.random)
        self._unwritten.clear()
        self._started_ns.clear()
        for alert in self._direct:
            self._tell(AlertRecorded(alert, now_ns()))
        if not self._look():
            # Without the outbox nothing recorded can be sent, but what cannot be recorded must still get out.
            self._tell(OutboxRead())

    def _look(self) -> bool:
        """Read what is new in the outbox; False if it cannot be read now."""
        self._look_due_ns = now_ns() + (EAGER_NS if now_ns() < self._eager_until_ns else POLL_NS)
        try:
            fresh = self._outbox is None
            outbox = self._outbox or self._open()
            outbox.check_same_file()
            version = outbox.data_version()
            if fresh or version != self._version:
                self._read(outbox, fresh)
                self._version = version
            self._write()
        except OutboxReplaced:
            self._log.warning("the database was replaced; reading the new one")
            self._close_outbox()
            self._pump.call_soon(self._begin)
            return False
        except (sqlite3.Error, OSError) as error:
            self._database_problem(error)
            return False
        if self._problem:
            self._log.info("the database can be read", path=self._database)
            self._problem = ""
        return True

    def _open(self) -> Outbox:
        self._outbox = Outbox(self._database)
        self._last_id = self._outbox.first_needed_id()
        return self._outbox

    def _read(self, outbox: Outbox, fresh: bool) -> None:
        if fresh:
            self._tell(OutboxOpened())
            for incident in outbox.acknowledged():
                self._tell(AcknowledgementReceived(incident))
        self._reading = True
        try:
            self._read_pages(outbox)
        finally:
            self._reading = False
        self._try_write()
        self._tell(OutboxRead())

    def _read_pages(self, outbox: Outbox) -> None:
        while True:
            entries = outbox.entries(self._last_id, PAGE)
            for entry in entries:
                self._last_id = entry.alert.alert_id
                known = tuple((name, state, attempts) for name, (state, attempts) in entry.deliveries.items())
                self._tell(AlertRecorded(entry.alert, self._boottime_of(entry), known))
                self._eager_until_ns = 0
            if len(entries) < PAGE:
                return

    def _boottime_of(self, entry: OutboxEntry) -> int:
        """When the alert was recorded on this boot's clock; across a reboot only the wall clock can tell its age."""
        if entry.boot == self._boot:
            return min(entry.boottime_ns, now_ns())
        return now_ns() - max(0, wall_ns() - entry.wall_ns)

    def _database_problem(self, error: Exception) -> None:
        damaged = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        self._close_outbox()
        self._look_due_ns = now_ns() + RETRY_NS
        if self._problem != str(error):
            self._problem = str(error)
            self._log.warning("the database cannot be read or written; trying again", detail=str(error))
            if damaged:
                self._say({"damaged": str(error)})

    def _close_outbox(self) -> None:
        if self._outbox is not None:
            self._outbox.close()
        self._outbox = None
        self._version = -1

    def _write(self) -> None:
        """Record what the router decided, in order; raises when that is not possible now (it is kept)."""
        if self._outbox is None:
            return
        while self._unwritten:
            first = self._unwritten[0]
            if isinstance(first, MarkDelivery):
                marks = []
                for item in self._unwritten:
                    if not isinstance(item, MarkDelivery):
                        break
                    marks.append(item)
                self._outbox.mark(marks)
                for _ in marks:
                    self._unwritten.popleft()
            else:
                self._outbox.finish_attempt(first[0], took_ms=first[1])
                self._unwritten.popleft()

    def _try_write(self) -> None:
        try:
            self._write()
        except OutboxReplaced:
            self._look_due_ns = now_ns()
        except sqlite3.Error as error:
            # Pages go on without a trace on the disk; the marks are written when that works again.
            self._log.limited("write", "a delivery could not be recorded", detail=str(error))
            self._look_due_ns = now_ns() + RETRY_NS

    # ---- router ---------------------------------------------------------------------------------------------------------------

    def _tell(self, event: RouterEvent) -> None:
        assert self._router is not None
        self._execute(self._router.handle(now_ns(), event))

    def _execute(self, commands: Sequence[RouterCommand]) -> None:
        sends: list[Deliver] = []
        for command in commands:
            if isinstance(command, Deliver):
                sends.append(command)
                continue
            took_ms = 0
            if isinstance(command, FinishDelivery):
                began_ns = self._started_ns.pop((command.alert_id, command.receiver), None)
                took_ms = (now_ns() - began_ns) // NS_PER_MS if began_ns is not None else 0
            if command.alert_id > 0 and len(self._unwritten) < MAX_UNWRITTEN:
                self._unwritten.append(command if isinstance(command, MarkDelivery) else (command, took_ms))
            self._report(command)
        if commands and (sends or not self._reading):
            self._try_write()
        for command in sends:
            if self._end_due_ns is None:
                self._send(command)

    def _send(self, command: Deliver) -> None:
        receiver = self._receivers[command.receiver]
        message = OutgoingAlert(command.alert, self._cluster, command.occurrence, command.attempt)
        generation, alert_id = self._generation, command.alert.alert_id
        self._started_ns[(alert_id, receiver.name)] = now_ns()
        self._threads = [t for t in self._threads if t.is_alive()]
        if len(self._threads) >= MAX_STUCK_SENDERS + len(self._receivers):
            self._log.error("too many senders are stuck; starting again", threads=len(self._threads))
            os._exit(1)

        def finished(result: SendResult) -> None:
            self._results.put((generation, alert_id, receiver.name, result))
            os.eventfd_write(self._wake_fd, 1)

        self._threads.append(dispatch.start(message, receiver, finished, self._deadline_s))

    def _collect(self) -> None:
        """Results of sender threads."""
        try:
            os.eventfd_read(self._wake_fd)
        except BlockingIOError:
            return
        while not self._results.empty():
            generation, alert_id, name, result = self._results.get_nowait()
            if generation == self._generation:
                self._tell(DeliveryFinished(alert_id, name, result.ok, result.retryable, result.detail))
        if self._end_due_ns is not None and not self._started_ns:
            self._pump.stop()

    # ---- reports --------------------------------------------------------------------------------------------------------------

    def _report(self, command: MarkDelivery | FinishDelivery) -> None:
        if not isinstance(command, FinishDelivery):
            return
        body: JsonObject
        if command.outcome == "delivered":
            self._log.info("delivered", alert=command.alert_id, receiver=command.receiver, attempt=command.attempt)
            body = {"alert_id": command.alert_id, "receiver": command.receiver, "attempt": command.attempt}
            self._say({"delivered": {**body, **self._about(command.alert_id)}})
        else:
            self._log.limited(
                f"failing {command.receiver}", "not delivered", receiver=command.receiver, outcome=command.outcome, detail=command.detail
            )
            body = {"receiver": command.receiver, "alert_id": command.alert_id, "attempt": command.attempt, "detail": command.detail}
            self._say({"failing": body})

    def _about(self, alert_id: int) -> JsonObject:
        alert = self._router.alert(alert_id) if self._router is not None else None
        return {} if alert is None else {"incident": alert.incident, "dedup_key": alert.dedup_key, "action": alert.action}

    def _status(self) -> JsonObject:
        receivers = self._router.snapshot() if self._router is not None else {}
        assert isinstance(receivers, dict)
        return {"receivers": receivers.get("receivers", {}), "database": self._problem or "ok", "unwritten": len(self._unwritten)}

    def _say(self, message: JsonObject) -> None:
        if self.channel is not None and not self.channel.closed:
            self.channel.send(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run on the inherited socket until the parent closes it."""
    parser = argparse.ArgumentParser(prog="brain-delivery")
    parser.add_argument("--database", required=True)
    parser.add_argument("--deadline-s", type=float, default=dispatch.DEADLINE_S, help="the longest that one attempt may take")
    args = parser.parse_args(argv)
    die_with_parent(os.getppid())
    log = stderr_log("delivery")
    delivery: Delivery
    pump = Pump(next_deadline=lambda: delivery.next_deadline(), on_deadline=lambda at_ns: delivery.on_deadline(at_ns))
    # Only the jitter of the back-off depends on it.
    source = random.Random(time.time_ns() ^ os.getpid())  # noqa: S311
    delivery = Delivery(pump, args.database, log, deadline_s=args.deadline_s, random_source=source)
    delivery.channel = Channel(pump, child_socket(), delivery.on_message, delivery.closed)
    signal.signal(signal.SIGTERM, lambda _signum, _frame: delivery.terminate())
    pump.run()
    # Sender threads are daemons: what they still do is repeated by the next process.
    return 0


if __name__ == "__main__":
    sys.exit(main())
