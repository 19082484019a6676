"""The delivery process as the watcher sees it, and the bypass: a page must not wait for a disk.

Every alert is a row of the record; the delivery process reads it there. Until the recorder has said that the row is on the disk the alert
is kept here, and when that takes longer than ``PATIENCE_NS``, or the record is known to be in trouble, or the recorder refused the row, the
alert itself goes to the delivery process. Its recorded twin is later skipped there as a repetition.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

from base.channel import JsonObject
from base.clock import now_ns, wall_ns
from base.core import NS_PER_S, JsonValue
from base.log import Log
from base.pump import Pump
from base.supervise import Child
from watchdog.config.model import BrainSettings

PATIENCE_NS = NS_PER_S
"""A healthy commit takes some ms; a fence is given up when its barrier takes two seconds. A page does not wait that long."""
MAX_KEPT = 256

Fields = dict[str, JsonValue]


@dataclass(slots=True)
class _Kept:
    """One alert that is not known to be on the disk. ``seq`` numbers its message to the recorder, 0: the recorder never got it."""

    seq: int
    fields: Fields
    wall_ns: int
    due_ns: int
    sent: bool = False


class Pager:
    """Starts and feeds the delivery process; without a configured receiver there is none, and nothing is kept."""

    def __init__(
        self,
        pump: Pump,
        brain: BrainSettings,
        state_dir: str,
        log: Log,
        *,
        environment: dict[str, str],
        on_damaged: Callable[[], None],
        on_rejected: Callable[[str], None],
    ) -> None:
        self._brain = brain
        self._log = log
        self._on_damaged = on_damaged
        self._on_rejected = on_rejected
        self._record_ok = False
        self._kept: list[_Kept] = []
        self._pump, self._state_dir, self._environment = pump, state_dir, environment
        self.child = self._make_child() if brain.alerts else None

    def _make_child(self) -> Child:
        return Child(
            self._pump,
            "delivery",
            [sys.executable, "-m", "alerts.delivery", "--database", os.path.join(self._state_dir, "brain.db")],
            self._received,
            on_up=self._up,
            on_down=lambda reason: self._log.limited("delivery", f"delivery is down: {reason}"),
            env=self._environment,
        )

    # ---- what the watcher tells ---------------------------------------------------------------------------------------

    def alerts(self, alerts: list[Fields], seq: int) -> None:
        """These alerts were handed to the recorder as message ``seq`` (0: it could not take them)."""
        if self.child is None or not alerts:
            return
        at_ns = now_ns()
        due_ns = at_ns + PATIENCE_NS if seq and self._record_ok else at_ns
        self._kept += [_Kept(seq, fields, wall_ns(), due_ns) for fields in alerts]
        del self._kept[:-MAX_KEPT]
        self.child.send({"op": "wake"})
        self.on_deadline(at_ns)

    def written(self, seq: int) -> None:
        """The recorder has messages up to this one on the disk: the delivery process finds their alerts there."""
        self._kept = [kept for kept in self._kept if not kept.seq or kept.seq > seq]

    def record_is(self, ok: bool) -> None:
        """Whether the record can be written. What waits for it goes out at once when not."""
        self._record_ok = ok
        if not ok:
            self.bypass()

    def bypass(self) -> None:
        """The recorder refused something, or is in trouble: do not wait for what it was given."""
        for kept in self._kept:
            kept.due_ns = 0
        self.on_deadline(now_ns())

    def acknowledged(self, incident: str, who: str) -> None:
        """A person has taken the incident: no escalation."""
        if self.child is not None:
            self.child.send({"op": "acknowledged", "incident": incident, "who": who})

    def reload(self, brain: BrainSettings) -> None:
        """Other receivers: the process that runs is told; one that is needed only now, or no more, is started or ended."""
        had, self._brain = self.child is not None, brain
        if brain.alerts and not had:
            self.child = self._make_child()
            self.child.start()
        elif not brain.alerts and self.child is not None:
            self.child.stop()
            self.child = None
            self._kept.clear()
        elif self.child is not None:
            self.child.send(self._configuration())

    # ---- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the delivery process."""
        if self.child is not None:
            self.child.start()

    def stop(self) -> None:
        """End it."""
        if self.child is not None:
            self.child.stop()

    def next_deadline(self) -> int | None:
        """When the child is to be restarted, or an alert has waited long enough for the disk."""
        if self.child is None:
            return None
        times = [kept.due_ns for kept in self._kept if not kept.sent]
        if (restart_ns := self.child.next_deadline()) is not None:
            times.append(restart_ns)
        return min(times, default=None)

    def on_deadline(self, at_ns: int) -> None:
        """Restart the child; send by the bypass what has waited long enough."""
        if self.child is None:
            return
        self.child.on_deadline(at_ns)
        for kept in self._kept:
            if not kept.sent and at_ns >= kept.due_ns:
                self._send_now(kept, at_ns)
        self._kept = [kept for kept in self._kept if kept.seq or not kept.sent]

    # ---- the child ----------------------------------------------------------------------------------------------------

    def _send_now(self, kept: _Kept, at_ns: int) -> None:
        assert self.child is not None
        alert = {**kept.fields, "node": self._brain.self_name, "wall_ns": kept.wall_ns}
        kept.sent = self.child.send({"op": "send_now", "alert": alert})
        if kept.sent:
            self._log.warning("the record is not on the disk; the page goes out without it", key=str(kept.fields.get("dedup_key")))
        else:
            kept.due_ns = at_ns + PATIENCE_NS

    def _up(self) -> None:
        assert self.child is not None
        self.child.send(self._configuration())
        for kept in self._kept:  # a new process knows nothing of what an earlier one was told past the record
            kept.sent = False

    def _configuration(self) -> JsonObject:
        receivers = [
            {
                "name": r.name,
                "type": r.type,
                "parameters": dict(r.parameters),
                "least_severity": r.least_severity,
                "escalate_after_ms": r.escalate_after_ms,
            }
            for r in self._brain.alerts
        ]
        return {"op": "configure", "cluster": self._brain.cluster, "receivers": receivers}

    def _received(self, message: JsonObject) -> None:
        if "failing" in message:
            failing = message["failing"]
            self._log.limited("delivery", f"alert not delivered to {failing.get('receiver')}: {failing.get('detail')}")
        elif "damaged" in message:
            self._log.limited("delivery", f"alerts: the record is damaged: {message['damaged']}")
            self._on_damaged()
        elif "rejected" in message:
            why = f"{message['rejected'].get('op')}: {message['rejected'].get('why')}"
            self._log.error(f"the delivery process did not understand a message: {why}")
            self._on_rejected(why)
        elif "delivered" in message:
            done = message["delivered"]
            self._log.info("alert delivered", receiver=done.get("receiver"), key=done.get("dedup_key"), action=done.get("action"))
