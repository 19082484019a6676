"""The watcher's three children: recorder, fence runner, delivery. Each is a process of its own, supervised, and never waited for.

The only wait is at start, bounded: the recorder must say what is durable before the core may judge anything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from base.channel import JsonObject
from base.clock import now_ns, wall_ns
from base.core import NS_PER_MS, JsonValue
from base.log import Log
from base.pump import Pump
from base.supervise import Child
from fencing.client import RunnerClient, all_devices
from fencing.orders import Order, Report
from fencing.plan.events import DeviceOutcome, PowerState
from fencing.plan.settings import FenceSettings
from watchdog.config.model import BrainSettings
from watchdog.judgement.commands import Persist, RowKind, RunFence
from watchdog.judgement.events import (
    CommandFailed,
    FenceReported,
    FenceRunnerChanged,
    Persisted,
    RecorderChanged,
    RecordSpaceChanged,
    WatcherEvent,
)
from watchdog.pager import Pager
from watchdog.record.link import RecorderLink
from watchdog.record.messages import Restored, persist_message

_PYTHONPATH = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
_START_WAIT_NS = 50 * NS_PER_MS
NOTHING_KNOWN = Restored(
    incarnation=0,
    same_boot=False,
    clean_stop=False,
    quarantined=False,
    latched=True,
    seen_peer=False,
    open_fences=(),
    recent_fence_wall_ns=(),
    last_incident=0,
    facts={},
    durable=False,
    problem="the recorder does not answer",
    record_lost="the recorder does not answer",
)
"""What holds when the recorder cannot be had: nothing is durable, and the fence budget is shut because nobody knows what was spent."""


class Children:
    """Starts, feeds and stops the children; turns what they say into events."""

    def __init__(
        self, pump: Pump, brain: BrainSettings, fence: FenceSettings, state_dir: str, feed: Callable[[WatcherEvent], None], log: Log
    ):
        self._pump = pump
        self._feed = feed
        self._log = log
        self._brain = brain
        self._state_dir = state_dir
        self._restored: Restored | None = None
        self._incarnation = 0
        self._orders_underway = 0
        self._then: Callable[[Restored], None] | None = None
        self._asked_at = 0
        self._recorder_ok = False
        self._recorder = Child(
            pump,
            "recorder",
            [sys.executable, "-m", "watchdog.record.recorder", "--state-dir", state_dir, "--node", brain.self_name],
            self._from_recorder,
            on_up=self._recorder_up,
            on_down=self._recorder_down,
            env=_PYTHONPATH,
        )
        self._link = RecorderLink(self._recorder.send, f"{os.getpid()}-{now_ns()}")
        self._runner = RunnerClient(pump, all_devices(fence), self._fence_reported, self._runner_armed, self._runner_down)
        self._has_devices = bool(all_devices(fence))
        self._pager = Pager(
            pump,
            brain,
            state_dir,
            log,
            environment=_PYTHONPATH,
            on_damaged=self._check_record,
            on_rejected=lambda why: self._feed(CommandFailed("send a page past the record", why)),
        )

    # ---- life ---------------------------------------------------------------------------------------------------------

    def start(self, incarnation: int, timeout_ns: int) -> Restored:
        """Start all; wait at most ``timeout_ns`` for what the recorder restores. Without an answer: NOTHING_KNOWN."""
        self._incarnation = incarnation
        self._recorder.start()
        if self._has_devices:
            self._runner.start()
        end_ns = now_ns() + timeout_ns
        while self._restored is None and now_ns() < end_ns:
            self._pump.turn(_START_WAIT_NS)
        self._pager.start()
        if self._restored is None:
            self._log.error("the recorder did not answer in time: nothing is durable, nothing will be fenced")
        return self._restored or NOTHING_KNOWN

    def report_state(self) -> None:
        """After Started: what the core must know of the children that are up already."""
        self._feed(RecorderChanged(self._recorder_ok, "" if self._recorder_ok else "not answering"))
        self._feed(FenceRunnerChanged(self._runner.armed, "" if self._runner.armed else "not armed yet"))

    def next_deadline(self) -> int | None:
        """When a restart is due."""
        parts: list[Child | RunnerClient | Pager] = [self._recorder, self._runner, self._pager]
        return min((d for part in parts if (d := part.next_deadline()) is not None), default=None)

    def on_deadline(self, at_ns: int) -> None:
        """Restart what is due."""
        self._recorder.on_deadline(at_ns)
        self._runner.on_deadline(at_ns)
        self._pager.on_deadline(at_ns)

    def stop(self) -> None:
        """End all; the recorder last, after it has written what it was given."""
        self._runner.stop()
        self._pager.stop()
        self._recorder.send({"op": "goodbye"})
        self._recorder.stop()

    def restore_again(self, incarnation: int, then: Callable[[Restored], None]) -> None:
        """For a reload: what is durable now, told once everything handed over so far is on the disk. ``then`` is called once."""
        self._incarnation = incarnation
        self._then = then
        self._asked_at = self._link.newest
        if not self._recorder.send({"op": "restore", "incarnation": incarnation}):
            self._then = None
            then(NOTHING_KNOWN)

    def reload(self, brain: BrainSettings, incarnation: int) -> None:
        """Take over another configuration: the recorder goes on, the other two are told."""
        self._brain = brain
        self._incarnation = incarnation
        devices = all_devices(brain.fence)
        self._has_devices = bool(devices)
        if devices and self._runner.child.pid is None:
            self._runner.start()
        self._runner.rearm(devices)
        self._pager.reload(brain)

    @property
    def fence_underway(self) -> bool:
        """Whether the runner works on an order."""
        return self._orders_underway > 0

    def snapshot(self) -> dict[str, JsonValue]:
        """Who runs, how often restarted."""
        children = [self._recorder, self._runner.child, *([self._pager.child] if self._pager.child else [])]
        state: dict[str, JsonValue] = {c.name: {"pid": c.pid, "restarts": c.restarts} for c in children}
        state["recorder_ok"] = self._recorder_ok
        state["runner_armed"] = self._runner.armed
        return state

    # ---- recorder -----------------------------------------------------------------------------------------------------

    def persist(self, command: Persist) -> None:
        """Keep rows until the recorder has them on the disk; if they cannot be kept, say so (an unanswered barrier means no fence)."""
        recorded = self._link.write(persist_message(command, wall_ns(), now_ns()))
        self._pager.alerts([dict(row.fields) for row in command.rows if row.kind is RowKind.ALERT], self._link.newest if recorded else 0)
        if not recorded:
            self._log.limited("persist", "rows were not recorded: the recorder has not written for long", rows=len(command.rows))
            self._feed(CommandFailed("Persist", "the recorder has not written for long, memory is full"))

    def record_packets(self, message: JsonObject) -> None:
        """Keep captured packets for an incident; best effort: they explain, nothing rests on them."""
        if message["packets"] and not self._link.write(message):
            self._log.limited("packets", "captured packets were not recorded")

    def _recorder_up(self) -> None:
        self._recorder.send({"op": "restore", "incarnation": self._incarnation})

    def _recorder_down(self, reason: str) -> None:
        self._record_is(False)
        self._link.down()
        self._log.error(f"the recorder is down: {reason}")
        self._feed(RecorderChanged(False, reason))

    def _from_recorder(self, message: JsonObject) -> None:
        if self._link.take(message):
            self._pager.written(self._link.written)
            return
        if isinstance(message.get("persisted"), int):
            self._feed(Persisted(message["persisted"]))
        elif "restored" in message:
            self._restore(Restored.from_message(message["restored"]))
        elif "trouble" in message:
            trouble = message["trouble"]
            self._record_is(False)
            self._log.error(f"the record cannot be written: {trouble.get('detail')}; {trouble.get('remedy')}")
            self._feed(RecorderChanged(False, str(trouble.get("detail"))))
        elif "recovered" in message:
            self._record_is(True)
            self._log.warning("the record can be written again", lost=message["recovered"].get("lost_rows"))
            self._feed(RecorderChanged(True))
        elif "set_aside" in message:
            aside = message["set_aside"]
            self._log.error(f"the record was damaged and set aside as {aside.get('path')}: {aside.get('why')}; a new one is in use")
        elif "rejected" in message:
            why = str(message["rejected"].get("why"))
            self._log.error(f"the recorder refused rows: {why}")
            self._pager.bypass()
            self._feed(CommandFailed("Persist", why))
        elif "space" in message:
            space = message["space"]
            self._log.warning("the disk of the state directory", low=space.get("low"), free_mib=int(space.get("free_bytes", 0)) >> 20)
            self._feed(RecordSpaceChanged(bool(space.get("low")), int(space.get("free_bytes", 0))))

    def _restore(self, restored: Restored) -> None:
        if (then := self._then) is not None:
            self._then = None
            if self._link.newest != self._asked_at:
                self.restore_again(self._incarnation, then)  # rows were handed over meanwhile: they belong to it
            else:
                then(restored)
            return
        first = self._restored is None
        self._restored = restored
        self._record_is(restored.durable)
        if restored.record_lost:
            self._log.error(f"earlier facts are missing ({restored.record_lost}): the fence latch is shut until a person clears it")
        if not first:
            self._feed(RecorderChanged(restored.durable, restored.problem))

    def _check_record(self) -> None:
        self._recorder.send({"op": "check"})

    def _record_is(self, ok: bool) -> None:
        self._recorder_ok = ok
        self._pager.record_is(ok)

    # ---- fence runner -------------------------------------------------------------------------------------------------

    def run_fence(self, command: RunFence) -> None:
        """Hand an order to the runner; if it is not there, nothing was done, and the core is told so."""
        order = Order(
            command.order_id,
            command.target,
            command.level,
            command.device,
            command.action,
            command.attempt,
            command.issued_ns,
            command.valid_ms,
        )
        if self._runner.run(order):
            self._orders_underway += 1
            return
        self._feed(
            FenceReported(
                command.order_id,
                command.level,
                command.device,
                command.action,
                DeviceOutcome.STALE_ORDER,
                detail="the fence runner is not armed; nothing was sent",
                attempt=command.attempt,
            )
        )

    def _fence_reported(self, report: Report) -> None:
        self._orders_underway = max(0, self._orders_underway - 1)
        self._feed(
            FenceReported(
                report.order_id,
                report.level,
                report.device,
                report.action,
                DeviceOutcome(report.outcome),
                PowerState(report.power),
                report.identity,
                report.took_ms,
                report.detail,
                report.attempt,
            )
        )

    def _runner_armed(self, errors: list[tuple[str, str]]) -> None:
        for device, problem in errors:
            self._log.error(f"fence device {device} cannot be used: {problem}")
        self._feed(FenceRunnerChanged(True, "; ".join(f"{d}: {p}" for d, p in errors)))

    def _runner_down(self, reason: str) -> None:
        self._orders_underway = 0
        self._log.error(f"the fence runner is down: {reason}")
        self._feed(FenceRunnerChanged(False, reason))

    def acknowledged(self, incident: str, who: str) -> None:
        """A person has taken the incident: no escalation."""
        self._pager.acknowledged(incident, who)
