"""PURE: reading a target's power without touching it. A level whose every device reads OFF twice, in two fresh sessions and with the
enrolled identity, proves that the target is off: nothing need be done any more (docs/FENCING.md). Reading harms nobody, so it needs no
turn, no budget and no intent, and goes on for as long as the target is missed. Every enrolled device is read, also one whose word proves
nothing: that it still fences whom it was enrolled for is known before the act (fencing/plan/ahead.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from base.core import NS_PER_MS
from fencing.plan.commands import RunDevice
from fencing.plan.events import DeviceOutcome, DeviceReported, PowerState
from fencing.plan.settings import FenceLevel
from fencing.plan.worth import Worth

PAUSE_MS = 500
"""Between the two readings that must agree."""
AGAIN_MS = 3_000
LONGEST_MS = 30_000
"""A device that reads ON, or does not answer, is asked again ever more rarely."""
_OFF_READINGS = 2
_REPORT_SLACK_MS = 2_000


@dataclass(slots=True)
class _Device:
    """One device: how often in a row it read OFF, and the reading on its way."""

    off_in_row: int = 0
    attempt: int = 0
    waiting: bool = False


class PowerReading:
    """Reads while ``wanted``; ``off`` is the sentence that proves it, "" while nothing does. Order ids are ``prefix`` and a number."""

    def __init__(self, prefix: str, target: str, levels: Sequence[FenceLevel], order_valid_ms: int) -> None:
        self._prefix = prefix
        self._target = target
        self._levels = {number: level for number, level in enumerate(levels, 1) if any(d.identity for d in level.devices)}
        self._proving = {
            number: level for number, level in self._levels.items() if all(d.identity and d.worth is Worth.POWER for d in level.devices)
        }
        self._valid_ms = order_valid_ms
        self._devices: dict[tuple[int, str], _Device] = {}
        self._due_ns: int | None = None
        self._deadline_ns: int | None = None
        self._pause_ms = AGAIN_MS
        self._rounds = 0
        self._attempts = 0
        self.off = ""

    @property
    def order_id(self) -> str:
        """Of the reading that is going on."""
        return f"{self._prefix}{self._rounds}"

    def under_way(self, level: int, device: str) -> bool:
        """Whether a reading of this device was ordered and has not been reported."""
        state = self._devices.get((level, device))
        return state is not None and state.waiting

    def want(self, now_ns: int) -> None:
        """The target is missed: read from now on."""
        if self._levels and self._due_ns is None and not self.off and not self._waiting():
            self._due_ns = now_ns

    def pause(self, now_ns: int) -> None:
        """No new reading for now; one that is on its way may still be reported."""
        self._due_ns = None
        self._give_up_late(now_ns)
        self._due_ns = None

    def disproved(self) -> None:
        """The target is heard: whatever was read off is no proof of anything; the reading may go on for the sake of the identities."""
        self.off = ""
        for state in self._devices.values():
            state.off_in_row = 0

    def stop(self) -> None:
        """It is not missed any more; what was read is no proof of anything now."""
        self._due_ns = self._deadline_ns = None
        self._pause_ms = AGAIN_MS
        self._devices.clear()
        self.off = ""

    def next_deadline(self) -> int | None:
        """When to call ``on_deadline``."""
        return min((t for t in (self._due_ns, self._deadline_ns) if t is not None), default=None)

    def on_deadline(self, now_ns: int) -> list[RunDevice]:
        """Begin the reading that is due; give up one that was never reported."""
        self._give_up_late(now_ns)
        if self._due_ns is None or now_ns < self._due_ns:
            return []
        self._due_ns = None
        self._rounds += 1
        longest_ms = 0
        commands = []
        for number, level in self._levels.items():
            for device in (d for d in level.devices if d.identity):
                self._attempts += 1
                state = self._devices.setdefault((number, device.name), _Device())
                state.attempt, state.waiting = self._attempts, True
                longest_ms = max(longest_ms, device.deadline_ms)
                commands.append(RunDevice(self.order_id, self._target, number, device.name, "status", self._attempts, self._valid_ms))
        self._deadline_ns = now_ns + (longest_ms + self._valid_ms + _REPORT_SLACK_MS) * NS_PER_MS
        return commands

    def reported(self, now_ns: int, event: DeviceReported) -> None:
        """A device answered, or could not."""
        state = self._devices.get((event.level, event.device))
        if state is None or not state.waiting or event.attempt != state.attempt:
            return
        device = next(d for d in self._levels[event.level].devices if d.name == event.device)
        ours = event.outcome is DeviceOutcome.SUCCESS and event.identity == device.identity
        state.waiting = False
        state.off_in_row = state.off_in_row + 1 if ours and event.power is PowerState.OFF else 0
        for number, level in self._proving.items():
            if all(self._devices[number, d.name].off_in_row >= _OFF_READINGS for d in level.devices):
                names = ", ".join(d.name for d in level.devices)
                self.off = f"{names}: off, read twice, identity as enrolled"
                self._due_ns = self._deadline_ns = None
                return
        if not self._waiting():
            self._deadline_ns = None
            self._over(now_ns, agreed=any(self._devices[n, d.name].off_in_row for n, lv in self._proving.items() for d in lv.devices))

    def lost(self, now_ns: int) -> None:
        """The runner is gone: nothing will be reported."""
        if self._waiting():
            self._deadline_ns = None
            self._over(now_ns, agreed=False)

    def _over(self, now_ns: int, *, agreed: bool) -> None:
        """One round is over: the second reading soon, another try later."""
        for state in self._devices.values():
            state.waiting = False
        if agreed:
            self._due_ns = now_ns + PAUSE_MS * NS_PER_MS
            return
        self._due_ns = now_ns + self._pause_ms * NS_PER_MS
        self._pause_ms = min(2 * self._pause_ms, LONGEST_MS)

    def _give_up_late(self, now_ns: int) -> None:
        if self._deadline_ns is not None and now_ns >= self._deadline_ns:
            self._deadline_ns = None
            self._over(now_ns, agreed=False)

    def _waiting(self) -> bool:
        return any(state.waiting for state in self._devices.values())
