"""PURE: one fence of one target, through its levels, until it is proved or a person is needed.

For each level, in order:

1. *prepare*: the intent becomes durable while every enrolled device that was not asked ahead is asked who its outlet belongs to. A
   device that names another node, or cannot answer, is not used: nothing is done at this level and the next one is tried.
2. *second look*: the owner judges again. Not ok: the session ends, nothing (more) is done.
3. *act*: ``off``, one device after the other, so that a level that fails at its first device has done nothing.
4. *verify*: proved by (a) two OFF readings of every device of the level over fresh sessions with the enrolled identity,
   or (b) a channel that fell silent (fencing/plan/proof.py). Refuted when the target is heard, or still reads ON at the
   end of the window.

PROVED ends the session. REFUTED, UNKNOWN, and CLAIMED without proof go on to the next level. A partial success of a
multi-device level goes on to nothing: it is verified, reported and left to a person. A session built from an open
intent (``recover_level``) never acts: it only reads status. Every wait has an end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from base.core import NS_PER_MS, JsonValue
from fencing.plan.commands import (
    FenceCommand,
    FenceFinished,
    FenceState,
    PersistIntent,
    ProbeTarget,
    RecordState,
    RunDevice,
    SecondLookNeeded,
)
from fencing.plan.events import (
    NOT_CARRIED_OUT,
    ChannelAsked,
    ChannelHeard,
    ControlHeard,
    DeviceOutcome,
    DeviceReported,
    FenceEvent,
    FenceRequested,
    FenceWithdrawn,
    IntentDurable,
    PowerState,
    RunnerLost,
    SecondLook,
    SilenceVoided,
    Trust,
)
from fencing.plan.proof import ChannelLedger
from fencing.plan.settings import FenceDevice, FenceLevel
from fencing.plan.times import FenceTimes, effect_ms, settle_ms
from fencing.plan.worth import Worth


class Phase(Enum):
    """Where a session stands."""

    IDLE = "idle"
    PREPARING = "preparing"
    LOOKING = "looking"
    ACTING = "acting"
    VERIFYING = "verifying"
    FINISHED = "finished"


_MAX_STALE_ORDERS = 2
_MAX_STATUS_FAILURES = 3
_OFF_READINGS = 2


def _tells(device: FenceDevice) -> bool:
    """Whether a reading can prove or refute anything: without an enrolled identity it may be another node's outlet, and bookkeeping reads
    back its own message."""
    return bool(device.identity) and device.worth is not Worth.BOOKKEEPING


@dataclass(slots=True)
class _Reading:
    """What one device says in the present phase."""

    off_in_row: int = 0
    failures: int = 0
    power: PowerState = PowerState.UNKNOWN
    waiting_attempt: int = 0
    due_ns: int | None = None
    deadline_ns: int | None = None
    checked: bool = False


@dataclass(slots=True)
class _Level:
    """The level being worked on."""

    number: int
    intent_durable: bool = False
    next_device: int = 0
    acted: list[str] = field(default_factory=list)
    act_end_ns: int | None = None
    stale_orders: int = 0
    off_attempt: int = 0
    partial: bool = False
    readings: dict[str, _Reading] = field(default_factory=dict)


class FenceSession:
    """A core (base.core): see the module docstring. Levels are counted from 1."""

    def __init__(
        self, order_id: str, target: str, levels: Sequence[FenceLevel], times: FenceTimes | None = None, *, recover_level: int | None = None
    ) -> None:
        self.order_id = order_id
        self.target = target
        self.phase = Phase.IDLE
        self.state = FenceState.REQUESTED
        self.detail = ""
        self._levels = tuple(levels)
        self._times = times or FenceTimes()
        self._recovering = recover_level is not None
        self._recover_level = recover_level or 0
        self._level_states: dict[int, FenceState] = {}
        self._level = _Level(0)
        self._ledger = ChannelLedger(self._times.proof_silence_ms)
        self._deadline_ns: int | None = None
        self._probe_due_ns: int | None = None
        self._attempt = 0
        self._stop_reason = ""
        self._contradiction = ""
        """Where something in the target's name was heard after the act that a stranger may have sent."""

    # --- the Core protocol ---

    @property
    def finished(self) -> bool:
        """Whether FenceFinished was returned."""
        return self.phase is Phase.FINISHED

    @property
    def acting(self) -> bool:
        """Whether a device has been told off and has not reported yet."""
        return self.phase is Phase.ACTING

    def handle(self, now_ns: int, event: FenceEvent) -> list[FenceCommand]:
        """Take one event in."""
        if self.finished:
            return []
        match event:
            case FenceRequested():
                return self._requested(now_ns, event.read_ahead)
            case FenceWithdrawn():
                return self._withdrawn(now_ns, event.reason)
            case IntentDurable():
                return self._intent_durable(now_ns, event.level)
            case SecondLook():
                return self._second_look(now_ns, event)
            case DeviceReported():
                return self._reported(now_ns, event)
            case RunnerLost():
                return self._runner_lost(now_ns, event.reason)
            case ChannelHeard():
                if event.trust is not Trust.OPEN:
                    self._ledger.heard(event)
                return self._target_heard(now_ns, event)
            case ChannelAsked():
                self._ledger.asked(event)
            case ControlHeard():
                self._ledger.control(event)
            case SilenceVoided():
                self._ledger.void(event.until_ns)
        return self._conclude(now_ns)

    def on_deadline(self, now_ns: int) -> list[FenceCommand]:
        """Fire what is due: the phase's own deadline first, then missing reports, then readings, then probes."""
        commands: list[FenceCommand] = []
        if self._deadline_ns is not None and now_ns >= self._deadline_ns and not self.finished:
            self._deadline_ns = None
            commands += self._phase_over(now_ns)
        commands += self._late_reports(now_ns)
        commands += self._due_readings(now_ns)
        if self._probe_due_ns is not None and now_ns >= self._probe_due_ns and not self.finished:
            self._probe_due_ns = now_ns + self._times.probe_interval_ms * NS_PER_MS
            commands.append(ProbeTarget(self.order_id, self.target))
        return commands

    def next_deadline(self) -> int | None:
        """The earliest of the phase's deadline, the readings and the probes."""
        if self.finished:
            return None
        candidates = [self._deadline_ns, self._probe_due_ns]
        for reading in self._level.readings.values():
            candidates += [reading.due_ns, reading.deadline_ns]
        return min((c for c in candidates if c is not None), default=None)

    def snapshot(self) -> JsonValue:
        """Everything a person wants to know about a running fence."""
        return {
            "order_id": self.order_id,
            "target": self.target,
            "phase": self.phase.value,
            "state": self.state.value,
            "detail": self.detail,
            "level": self._level.number,
            "levels": {str(n): s.value for n, s in sorted(self._level_states.items())},
            "acted": list(self._level.acted),
            "recovering": self._recovering,
            "readings": {
                name: {"power": r.power.value, "off_in_row": r.off_in_row, "failures": r.failures}
                for name, r in sorted(self._level.readings.items())
            },
        }

    # --- begin and end ---

    def _requested(self, now_ns: int, read_ahead: frozenset[str]) -> list[FenceCommand]:
        if self.phase is not Phase.IDLE:
            return []
        if self._recovering:
            return self._recover(now_ns)
        if not any(level.devices for level in self._levels):
            return self._finish("no fence device is configured for this node")
        return self._prepare(now_ns, 1, read_ahead)

    def _withdrawn(self, now_ns: int, reason: str) -> list[FenceCommand]:
        if self._recovering:
            return []
        self._stop_reason = reason
        if self.phase in (Phase.IDLE, Phase.PREPARING, Phase.LOOKING):
            return self._stop_before_act(now_ns, reason)
        return []

    def _stop_before_act(self, now_ns: int, reason: str) -> list[FenceCommand]:
        """The present level does nothing (more); after a partial act the rest is verified."""
        if self._level.acted:
            return self._partial(now_ns, reason)
        commands = self._set_level(FenceState.NOT_DONE, reason) if self._level.number else []
        return commands + self._finish(reason)

    def _finish(self, detail: str, number: int = 0) -> list[FenceCommand]:
        self.phase = Phase.FINISHED
        self.state = self._whole_state()
        self.detail = detail
        self._deadline_ns = self._probe_due_ns = None
        self._level.readings.clear()
        number = number or self._level.number
        return [
            RecordState(self.order_id, self.target, 0, self.state, detail),
            FenceFinished(self.order_id, self.target, number, self.state, detail, self._level.partial),
        ]

    def _whole_state(self) -> FenceState:
        """The last level that may have acted decides; a level of unknown outcome does not undo an earlier claim."""
        whole = FenceState.NOT_DONE
        for _, state in sorted(self._level_states.items()):
            if state is FenceState.NOT_DONE or (state is FenceState.UNKNOWN and whole is FenceState.CLAIMED):
                continue
            whole = state
        return whole

    def _set_level(self, state: FenceState, detail: str, number: int = 0) -> list[FenceCommand]:
        number = number or self._level.number
        self._level_states[number] = state
        return [RecordState(self.order_id, self.target, number, state, detail)]

    def _next_level(self, now_ns: int, why: str) -> list[FenceCommand]:
        if self._level.partial:
            return self._finish(f"stopped after a partial success: {why}")
        if self._stop_reason:
            return self._finish(f"{why}; no further level: {self._stop_reason}")
        if self._level.number >= len(self._levels):
            return self._finish(f"{why}; no further level")
        return self._prepare(now_ns, self._level.number + 1)

    # --- prepare ---

    def _devices(self) -> tuple[FenceDevice, ...]:
        return self._levels[self._level.number - 1].devices

    def _prepare(self, now_ns: int, number: int, read_ahead: frozenset[str] = frozenset()) -> list[FenceCommand]:
        while number <= len(self._levels) and not self._levels[number - 1].devices:
            number += 1
        if number > len(self._levels):
            return self._finish("no further level has a device")
        self.phase = Phase.PREPARING
        self._level = _Level(number)
        self._level_states[number] = FenceState.REQUESTED
        self._deadline_ns = now_ns + self._times.barrier_ms * NS_PER_MS
        self._probe_due_ns = now_ns + self._times.probe_interval_ms * NS_PER_MS
        names = ", ".join(device.name for device in self._devices())
        commands: list[FenceCommand] = [
            PersistIntent(self.order_id, self.target, number, f"level {number} ({self._levels[number - 1].name}): {names}"),
            ProbeTarget(self.order_id, self.target),
        ]
        for device in self._devices():
            known = not device.identity or device.name in read_ahead
            reading = self._level.readings[device.name] = _Reading(checked=known)
            if not known:
                commands += self._read_status(now_ns, device, reading)
        return commands

    def _intent_durable(self, now_ns: int, level: int) -> list[FenceCommand]:
        if self.phase is not Phase.PREPARING or level != self._level.number or self._level.intent_durable:
            return []
        self._level.intent_durable = True
        self._deadline_ns = None
        return self._look_if_prepared(now_ns)

    def _look_if_prepared(self, now_ns: int) -> list[FenceCommand]:
        if not self._level.intent_durable or not all(reading.checked for reading in self._level.readings.values()):
            return []
        return self._look(now_ns)

    def _look(self, now_ns: int) -> list[FenceCommand]:
        self.phase = Phase.LOOKING
        self._deadline_ns = now_ns + self._times.second_look_ms * NS_PER_MS
        refuted = FenceState.REFUTED in self._level_states.values()
        return [SecondLookNeeded(self.order_id, self.target, self._level.number, refuted)]

    def _identity_reported(self, now_ns: int, device: FenceDevice, reading: _Reading, event: DeviceReported) -> list[FenceCommand]:
        if event.outcome is not DeviceOutcome.SUCCESS:
            return self._unfit(now_ns, f"{device.name}: {event.outcome.value} before the act: {event.detail}")
        if event.identity != device.identity:
            found = event.identity or "nothing"
            return self._unfit(
                now_ns, f"{device.name} is enrolled as {device.identity} but says {found}: this may be another node's outlet"
            )
        reading.checked = True
        return self._look_if_prepared(now_ns)

    def _unfit(self, now_ns: int, why: str) -> list[FenceCommand]:
        return [*self._set_level(FenceState.NOT_DONE, why), *self._next_level(now_ns, why)]

    # --- act ---

    def _second_look(self, now_ns: int, event: SecondLook) -> list[FenceCommand]:
        if self.phase is not Phase.LOOKING or event.level != self._level.number:
            return []
        if not event.ok:
            return self._stop_before_act(now_ns, f"second look: {event.reason}")
        return self._act(now_ns)

    def _act(self, now_ns: int) -> list[FenceCommand]:
        device = self._devices()[self._level.next_device]
        self.phase = Phase.ACTING
        self._level.off_attempt = self._next_attempt()
        self._deadline_ns = now_ns + (device.deadline_ms + self._times.order_valid_ms + self._times.report_slack_ms) * NS_PER_MS
        if not self._level.acted:
            self._ledger.act_begins(now_ns)
        return [self._run(device, "off", self._level.off_attempt)]

    def _off_reported(self, now_ns: int, device: FenceDevice, outcome: DeviceOutcome, detail: str) -> list[FenceCommand]:
        self._deadline_ns = None
        if outcome is DeviceOutcome.SUCCESS:
            self._level.acted.append(device.name)
            self._level.next_device += 1
            if self._level.next_device < len(self._devices()):
                return self._act(now_ns)
            claim = self._set_level(FenceState.CLAIMED, f"{', '.join(self._level.acted)}: done")
            return claim + self._verify(now_ns)
        if outcome is DeviceOutcome.STALE_ORDER and self._level.stale_orders < _MAX_STALE_ORDERS and not self._stop_reason:
            self._level.stale_orders += 1
            return self._look(now_ns)
        why = f"{device.name}: {outcome.value}: {detail}"
        if self._level.acted:
            return self._partial(now_ns, why)
        if outcome in NOT_CARRIED_OUT:
            return self._unfit(now_ns, why)
        self._ledger.act_ended(self._act_end(now_ns))
        unknown = self._set_level(FenceState.UNKNOWN, why)
        if len(self._devices()) > 1:
            self._level.acted.append(device.name)
            return unknown + self._partial(now_ns, why)
        if self._level.number < len(self._levels) and not self._stop_reason:
            return unknown + self._next_level(now_ns, why)
        return unknown + self._verify(now_ns)

    def _partial(self, now_ns: int, why: str) -> list[FenceCommand]:
        """Some devices of the level acted, others not: verify what there is, try nothing else."""
        self._level.partial = True
        acted = ", ".join(self._level.acted)
        return self._set_level(FenceState.UNKNOWN, f"only {acted} may have acted; {why}") + self._verify(now_ns)

    def _act_end(self, now_ns: int) -> int:
        end_ns = now_ns + max(settle_ms(device) for device in self._devices()) * NS_PER_MS
        self._level.act_end_ns = end_ns
        return end_ns

    # --- verify ---

    def _verify(self, now_ns: int) -> list[FenceCommand]:
        end_ns = self._act_end(now_ns)
        self._ledger.act_ended(end_ns)
        self.phase = Phase.VERIFYING
        self._set_verify_window(end_ns)
        for device in self._devices():
            self._level.readings[device.name] = _Reading(due_ns=end_ns if _tells(device) else None)
        self._probe_due_ns = now_ns + self._times.probe_interval_ms * NS_PER_MS
        return [ProbeTarget(self.order_id, self.target)]

    def _set_verify_window(self, end_ns: int) -> None:
        longest_ms = max(device.deadline_ms for device in self._devices())
        hopeful = self._ledger.any_alive_at_act or self._readable()
        window_ms = max(4 * self._times.proof_silence_ms, longest_ms) if hopeful else 2 * self._times.proof_silence_ms
        self._deadline_ns = end_ns + window_ms * NS_PER_MS

    def _readable(self) -> bool:
        """Whether two OFF readings that count, of every device, are still possible."""
        return all(device.identity and device.worth is Worth.POWER for device in self._devices()) and not any(
            reading.failures >= _MAX_STATUS_FAILURES for reading in self._level.readings.values()
        )

    def _recover(self, now_ns: int) -> list[FenceCommand]:
        """We died between intent and result. Whether the device acted is unknown; reading is harmless, acting is not."""
        number = self._recover_level
        self._level = _Level(number)
        self.state = FenceState.UNKNOWN
        commands = self._set_level(
            FenceState.UNKNOWN, "this daemon died between intent and result; reading the device, not repeating the act"
        )
        if not 1 <= number <= len(self._levels) or not self._levels[number - 1].devices:
            return commands + self._finish(f"level {number} is not configured any more; nothing can be read")
        self.phase = Phase.VERIFYING
        self._level.act_end_ns = now_ns
        for device in self._devices():
            self._level.readings[device.name] = _Reading(due_ns=now_ns if _tells(device) else None)
        self._set_verify_window(now_ns)
        return commands + self._due_readings(now_ns)

    def _status_reported(self, now_ns: int, device: FenceDevice, reading: _Reading, event: DeviceReported) -> list[FenceCommand]:
        ours = event.outcome is DeviceOutcome.SUCCESS and event.identity == device.identity
        reading.power = event.power if ours else PowerState.UNKNOWN
        if ours and event.power is not PowerState.UNKNOWN:
            reading.off_in_row = reading.off_in_row + 1 if event.power is PowerState.OFF else 0
            reading.failures = 0
        else:
            reading.off_in_row = 0
            reading.failures += 1
        if reading.power is PowerState.ON and self._is_lie(now_ns, device):
            return self._refuted(
                now_ns, f"{device.name}: still on {(now_ns - (self._level.act_end_ns or 0)) // NS_PER_MS} ms after the act"
            )
        if reading.off_in_row < _OFF_READINGS and reading.failures < _MAX_STATUS_FAILURES:
            reading.due_ns = now_ns + self._times.status_interval_ms * NS_PER_MS
        if not self._ledger.any_alive_at_act and not self._readable() and self._deadline_ns is not None:
            # Nothing can prove it any more; leave the target a moment to refute it.
            quiet_end_ns = (self._level.act_end_ns or 0) + 2 * self._times.proof_silence_ms * NS_PER_MS
            self._deadline_ns = min(self._deadline_ns, max(now_ns, quiet_end_ns))
        return self._conclude(now_ns)

    def _is_lie(self, now_ns: int, device: FenceDevice) -> bool:
        limit_ms, act_end_ns = effect_ms(device), self._level.act_end_ns
        return not self._recovering and limit_ms is not None and act_end_ns is not None and now_ns >= act_end_ns + limit_ms * NS_PER_MS

    def _target_heard(self, now_ns: int, event: ChannelHeard) -> list[FenceCommand]:
        act_end_ns = self._level.act_end_ns
        if self._is_only_a_contradiction(event):
            if act_end_ns is not None and event.at_ns > act_end_ns:
                self._contradiction = event.channel
            return self._conclude(now_ns)
        if self.phase is Phase.VERIFYING and act_end_ns is not None and event.at_ns > act_end_ns:
            return self._refuted(now_ns, f"heard on {event.channel} {(event.at_ns - act_end_ns) // NS_PER_MS} ms after the act")
        if self._ledger.contradicts(event):
            return self._earlier_level_heard(event)
        return []

    def _is_only_a_contradiction(self, event: ChannelHeard) -> bool:
        """Promise 3: what a stranger may have sent refutes no reading of an enrolled power device: it is told to a person."""
        return event.trust is Trust.OPEN or (event.trust is Trust.ANSWERED and self.phase is Phase.VERIFYING and self._readable())

    def _earlier_level_heard(self, event: ChannelHeard) -> list[FenceCommand]:
        """The target speaks while the next level is prepared or acts: what the earlier ones claimed is wrong."""
        self._ledger.act_refuted()
        commands: list[FenceCommand] = []
        for number, state in sorted(self._level_states.items()):
            if number < self._level.number and state in (FenceState.CLAIMED, FenceState.UNKNOWN):
                commands += self._set_level(FenceState.REFUTED, f"heard on {event.channel} after the act", number)
        return commands

    def _refuted(self, now_ns: int, why: str) -> list[FenceCommand]:
        self._ledger.act_refuted()
        refuted = self._set_level(FenceState.REFUTED, why)
        if self._recovering:
            return refuted + self._finish(why)
        return refuted + self._next_level(now_ns, why)

    def _conclude(self, now_ns: int) -> list[FenceCommand]:
        """Is it proved now? Also while a further level is only being prepared: an act that is not needed is not done."""
        if self.phase not in (Phase.VERIFYING, Phase.PREPARING, Phase.LOOKING):
            return []
        why = self._proof_by_readings(now_ns) or self._proof_by_silence()
        if not why:
            return []
        if self.phase is not Phase.VERIFYING:
            commands = self._set_level(FenceState.NOT_DONE, "not needed any more")
            acted = max(n for n, s in self._level_states.items() if s in (FenceState.CLAIMED, FenceState.UNKNOWN))
            return commands + self._set_level(FenceState.PROVED, why, acted) + self._finish(why, acted)
        return self._set_level(FenceState.PROVED, why) + self._finish(why)

    def _proof_by_readings(self, now_ns: int) -> str:
        if self.phase is not Phase.VERIFYING or not self._readable() or not self._level.readings:
            return ""
        if any(reading.off_in_row < _OFF_READINGS for reading in self._level.readings.values()):
            return ""
        # A channel that was alive gets the chance to contradict the device.
        if self._ledger.any_alive_at_act and now_ns < self._quiet_end_ns():
            return ""
        doubt = f"; but {self._contradiction} answers in its name on the open network: look who" if self._contradiction else ""
        return f"{', '.join(self._level.readings)}: off, read twice, identity as enrolled{doubt}"

    def _quiet_end_ns(self) -> int:
        return max(self._level.act_end_ns or 0, self._ledger.void_until_ns) + self._times.proof_silence_ms * NS_PER_MS

    def _proof_by_silence(self) -> str:
        if any(reading.power is PowerState.ON for reading in self._level.readings.values()):
            return ""
        return self._ledger.proof() if self._cut_something() else ""

    def _cut_something(self) -> bool:
        """Whether a level that may have acted has a device that cuts power or a path. What only leaves a message can but claim: whatever
        fell silent then, fell silent of something else."""
        acted = (number for number, state in self._level_states.items() if state in (FenceState.CLAIMED, FenceState.UNKNOWN))
        return any(device.worth is not Worth.BOOKKEEPING for number in acted for device in self._levels[number - 1].devices)

    def _verify_over(self, now_ns: int) -> list[FenceCommand]:
        still_on = [name for name, reading in self._level.readings.items() if reading.power is PowerState.ON]
        if still_on:
            return self._refuted(now_ns, f"{', '.join(still_on)}: still on")
        state = self._level_states[self._level.number]
        why = f"{state.value}, but nothing proves it: neither two readings of an enrolled device nor a channel that fell silent"
        self.detail = why
        return self._finish(why) if self._recovering else self._next_level(now_ns, why)

    # --- devices and deadlines ---

    def _next_attempt(self) -> int:
        self._attempt += 1
        return self._attempt

    def _run(self, device: FenceDevice, action: str, attempt: int) -> RunDevice:
        return RunDevice(self.order_id, self.target, self._level.number, device.name, action, attempt, self._times.order_valid_ms)

    def _read_status(self, now_ns: int, device: FenceDevice, reading: _Reading) -> list[FenceCommand]:
        reading.due_ns = None
        reading.waiting_attempt = self._next_attempt()
        wait_ms = device.deadline_ms + self._times.order_valid_ms + self._times.report_slack_ms
        reading.deadline_ns = now_ns + wait_ms * NS_PER_MS
        return [self._run(device, "status", reading.waiting_attempt)]

    def _due_readings(self, now_ns: int) -> list[FenceCommand]:
        commands: list[FenceCommand] = []
        if self.phase is Phase.VERIFYING:
            for device in self._devices():
                reading = self._level.readings[device.name]
                if reading.due_ns is not None and now_ns >= reading.due_ns:
                    commands += self._read_status(now_ns, device, reading)
            # Proof by readings may have waited for the channels' chance to contradict.
            commands += self._conclude(now_ns)
        return commands

    def _reported(self, now_ns: int, event: DeviceReported) -> list[FenceCommand]:
        if event.level != self._level.number:
            return []
        device = next((d for d in self._devices() if d.name == event.device), None)
        if device is None:
            return []
        if event.action == "off":
            if self.phase is not Phase.ACTING or event.attempt != self._level.off_attempt:
                return []
            return self._off_reported(now_ns, device, event.outcome, event.detail)
        reading = self._level.readings.get(event.device)
        if reading is None or not reading.waiting_attempt or event.attempt != reading.waiting_attempt:
            return []
        reading.waiting_attempt = 0
        reading.deadline_ns = None
        if self.phase is Phase.PREPARING:
            return self._identity_reported(now_ns, device, reading, event)
        return self._status_reported(now_ns, device, reading, event) if self.phase is Phase.VERIFYING else []

    def _runner_lost(self, now_ns: int, reason: str) -> list[FenceCommand]:
        commands: list[FenceCommand] = []
        if self.phase is Phase.ACTING:
            device = self._devices()[self._level.next_device]
            commands += self._off_reported(now_ns, device, DeviceOutcome.CRASHED, reason)
        return commands + self._fail_readings(now_ns, lambda _reading: True, reason)

    def _late_reports(self, now_ns: int) -> list[FenceCommand]:
        return self._fail_readings(
            now_ns, lambda reading: reading.deadline_ns is not None and now_ns >= reading.deadline_ns, "no report in time"
        )

    def _fail_readings(self, now_ns: int, which: Callable[[_Reading], bool], why: str) -> list[FenceCommand]:
        """Readings that will never be reported count as failed."""
        commands: list[FenceCommand] = []
        level = self._level
        waiting = [(name, r.waiting_attempt) for name, r in level.readings.items() if r.waiting_attempt and which(r)]
        for name, attempt in waiting:
            if self._level is level:
                failed = DeviceReported(level.number, name, "status", attempt, DeviceOutcome.CRASHED, detail=why)
                commands += self._reported(now_ns, failed)
        return commands

    def _phase_over(self, now_ns: int) -> list[FenceCommand]:
        match self.phase:
            case Phase.PREPARING:
                return self._stop_before_act(now_ns, f"the intent was not durable within {self._times.barrier_ms} ms: we are sick")
            case Phase.LOOKING:
                return self._stop_before_act(now_ns, f"no second look within {self._times.second_look_ms} ms")
            case Phase.ACTING:
                device = self._devices()[self._level.next_device]
                return self._off_reported(now_ns, device, DeviceOutcome.TIMEOUT, "no report in time")
            case Phase.VERIFYING:
                return self._verify_over(now_ns)
        return []
