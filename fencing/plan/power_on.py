"""PURE: switching a target on again, by every device that may have switched it off (case D6).

A session like that of a fence: the intent is durable first; every device of every level is read; one that reads ON needs nothing, one
that names another node (or is enrolled and cannot say) is not touched; the others get ``on``, and are read until they say ON or their
time is over. PROVED: every device that can cut the target reads ON with its enrolled identity, or, where it cannot be read, the target
itself is heard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from base.core import NS_PER_MS, JsonValue
from fencing.plan.commands import FenceFinished, FenceState, PersistIntent, RecordState, RunDevice
from fencing.plan.events import NOT_CARRIED_OUT, DeviceOutcome, DeviceReported, PowerState
from fencing.plan.settings import FenceDevice, FenceLevel
from fencing.plan.times import FenceTimes
from fencing.plan.worth import Worth

PowerOnCommand: TypeAlias = PersistIntent | RecordState | RunDevice | FenceFinished


class Step(Enum):
    """Where one device stands."""

    WAITING = "waiting"
    READING = "reading"
    TOLD = "told"
    CHECKING = "checking"
    OVER = "over"


@dataclass(slots=True)
class _Device:
    device: FenceDevice
    level: int
    step: Step = Step.WAITING
    state: FenceState = FenceState.REQUESTED
    detail: str = ""
    attempt: int = 0
    report_by_ns: int | None = None
    due_ns: int | None = None
    give_up_ns: int = 0


_WORST_FIRST = (FenceState.REFUTED, FenceState.UNKNOWN, FenceState.NOT_DONE, FenceState.CLAIMED, FenceState.PROVED)


class PowerOnSession:
    """Levels are counted from 1. ``begin`` first, then events; ``finished`` after FenceFinished was returned."""

    def __init__(self, order_id: str, target: str, levels: Sequence[FenceLevel], times: FenceTimes | None = None) -> None:
        self.order_id = order_id
        self.target = target
        self.state = FenceState.REQUESTED
        self.detail = ""
        self.finished = False
        self._times = times or FenceTimes()
        self._devices = {(number, d.name): _Device(d, number) for number, level in enumerate(levels, 1) for d in level.devices}
        self._barrier_ns: int | None = None
        self._attempt = 0
        self._heard = False

    def begin(self, now_ns: int) -> list[PowerOnCommand]:
        """The intent; nothing is asked of a device before it is durable."""
        if not self._devices:
            return self._finish(FenceState.NOT_DONE, "no fence device is configured for this node")
        self._barrier_ns = now_ns + self._times.barrier_ms * NS_PER_MS
        names = ", ".join(name for _, name in self._devices)
        return [PersistIntent(self.order_id, self.target, 1, f"power on by {names}")]

    def intent_durable(self, now_ns: int) -> list[PowerOnCommand]:
        """Read every device."""
        if self._barrier_ns is None or self.finished:
            return []
        self._barrier_ns = None
        return [self._run(now_ns, entry, "status", Step.READING) for entry in self._devices.values()]

    def reported(self, now_ns: int, event: DeviceReported) -> list[PowerOnCommand]:
        """A device answered, or could not."""
        entry = self._devices.get((event.level, event.device))
        if self.finished or entry is None or entry.report_by_ns is None or event.attempt != entry.attempt:
            return []
        entry.report_by_ns = None
        match entry.step:
            case Step.READING:
                return self._was_read(now_ns, entry, event)
            case Step.TOLD:
                return self._was_told(now_ns, entry, event)
            case Step.CHECKING:
                return self._was_checked(now_ns, entry, event)
        return []

    def target_heard(self) -> None:
        """An authentic frame of the target, after the devices were told: as good as a reading, where a device has none. An outlet that
        reads off, or could not be told, is said all the same: the target may live by its other one."""
        told = self._barrier_ns is None and not any(e.step in (Step.WAITING, Step.READING, Step.TOLD) for e in self._devices.values())
        self._heard = self._heard or told

    def stop(self, reason: str) -> list[PowerOnCommand]:
        """A fence begins, or the runner is gone: what was told stays told, and nobody looks any more."""
        if self.finished:
            return []
        told = any(e.step in (Step.TOLD, Step.CHECKING, Step.OVER) and e.state is not FenceState.NOT_DONE for e in self._devices.values())
        return self._finish(FenceState.UNKNOWN if told else FenceState.NOT_DONE, reason)

    def on_deadline(self, now_ns: int) -> list[PowerOnCommand]:
        """The intent that did not become durable; reports that never came; readings that are due."""
        if self._barrier_ns is not None and now_ns >= self._barrier_ns:
            return self._finish(FenceState.NOT_DONE, f"the intent was not durable within {self._times.barrier_ms} ms: we are sick")
        commands: list[PowerOnCommand] = []
        for (level, name), entry in self._devices.items():
            if entry.report_by_ns is not None and now_ns >= entry.report_by_ns:
                lost = DeviceReported(level, name, "status", entry.attempt, DeviceOutcome.CRASHED, detail="no report in time")
                commands += self.reported(now_ns, lost)
            elif entry.due_ns is not None and now_ns >= entry.due_ns:
                entry.due_ns = None
                commands.append(self._run(now_ns, entry, "status", Step.CHECKING))
        return commands

    def next_deadline(self) -> int | None:
        """When to call ``on_deadline``."""
        if self.finished:
            return None
        times = [self._barrier_ns, *(t for e in self._devices.values() for t in (e.report_by_ns, e.due_ns))]
        return min((t for t in times if t is not None), default=None)

    def snapshot(self) -> dict[str, JsonValue]:
        """The keys of a fence's, for whoever follows either."""
        return {
            "order_id": self.order_id,
            "target": self.target,
            "level": 0,
            "phase": "finished" if self.finished else "powering on",
            "state": self.state.value,
            "detail": self.detail or self._words(),
        }

    # --- one device ---

    def _was_read(self, now_ns: int, entry: _Device, event: DeviceReported) -> list[PowerOnCommand]:
        enrolled = entry.device.identity
        if enrolled and event.outcome is not DeviceOutcome.SUCCESS:
            return self._over(entry, FenceState.NOT_DONE, f"{event.outcome.value} before the act: {event.detail}")
        if enrolled and event.identity != enrolled:
            return self._over(
                entry, FenceState.NOT_DONE, f"enrolled as {enrolled} but says {event.identity or 'nothing'}: another node's outlet?"
            )
        if event.outcome is DeviceOutcome.SUCCESS and event.power is PowerState.ON:
            return self._over(entry, FenceState.PROVED if enrolled else FenceState.CLAIMED, "reads on already")
        return [self._run(now_ns, entry, "on", Step.TOLD)]

    def _was_told(self, now_ns: int, entry: _Device, event: DeviceReported) -> list[PowerOnCommand]:
        if event.outcome in NOT_CARRIED_OUT:
            return self._over(entry, FenceState.NOT_DONE, f"{event.outcome.value}: {event.detail}")
        entry.state = FenceState.CLAIMED if event.outcome is DeviceOutcome.SUCCESS else FenceState.UNKNOWN
        entry.detail = "told on" if event.outcome is DeviceOutcome.SUCCESS else f"{event.outcome.value}: {event.detail}"
        entry.step, entry.due_ns = Step.CHECKING, now_ns + self._times.status_interval_ms * NS_PER_MS
        entry.give_up_ns = now_ns + max(entry.device.deadline_ms, 4 * self._times.proof_silence_ms) * NS_PER_MS
        return [RecordState(self.order_id, self.target, entry.level, entry.state, f"{entry.device.name}: {entry.detail}")]

    def _was_checked(self, now_ns: int, entry: _Device, event: DeviceReported) -> list[PowerOnCommand]:
        enrolled = entry.device.identity
        ours = event.outcome is DeviceOutcome.SUCCESS and (not enrolled or event.identity == enrolled)
        if ours and event.power is PowerState.ON:
            return self._over(entry, FenceState.PROVED if enrolled else FenceState.CLAIMED, "reads on")
        if now_ns < entry.give_up_ns:
            entry.due_ns = now_ns + self._times.status_interval_ms * NS_PER_MS
            return []
        if ours and event.power is PowerState.OFF:
            return self._over(entry, FenceState.REFUTED, "still off")
        return self._over(entry, entry.state, f"{entry.detail}; it cannot be read: {event.outcome.value}")

    def _run(self, now_ns: int, entry: _Device, action: str, step: Step) -> RunDevice:
        self._attempt += 1
        entry.step, entry.attempt = step, self._attempt
        wait_ms = entry.device.deadline_ms + self._times.order_valid_ms + self._times.report_slack_ms
        entry.report_by_ns = now_ns + wait_ms * NS_PER_MS
        return RunDevice(self.order_id, self.target, entry.level, entry.device.name, action, self._attempt, self._times.order_valid_ms)

    def _over(self, entry: _Device, state: FenceState, detail: str) -> list[PowerOnCommand]:
        entry.step, entry.state, entry.detail = Step.OVER, state, detail
        commands: list[PowerOnCommand] = [
            RecordState(self.order_id, self.target, entry.level, state, f"{entry.device.name}: {detail}"),
        ]
        if all(e.step is Step.OVER for e in self._devices.values()):
            commands += self._finish(self._whole(), self._words())
        return commands

    # --- the whole ---

    def _whole(self) -> FenceState:
        """The worst of the devices; one that only leaves messages, and could not, keeps no node off."""
        by_ear = {FenceState.CLAIMED, FenceState.UNKNOWN} if self._heard else set()
        states = {
            FenceState.PROVED if e.state in by_ear else e.state
            for e in self._devices.values()
            if e.state is not FenceState.NOT_DONE or e.device.worth is not Worth.BOOKKEEPING
        } or {FenceState.NOT_DONE}
        return next(state for state in _WORST_FIRST if state in states)

    def _words(self) -> str:
        return "; ".join(f"{e.device.name}: {e.detail}" for e in self._devices.values() if e.detail)

    def _finish(self, state: FenceState, detail: str) -> list[PowerOnCommand]:
        self.finished, self.state, self.detail = True, state, detail
        self._barrier_ns = None
        return [
            RecordState(self.order_id, self.target, 0, state, detail),
            FenceFinished(self.order_id, self.target, 0, state, detail),
        ]
