"""PURE: every fence device is asked now and then, long before it is needed: does it answer, take our login, and is it the same outlet?

A core (base.core): ``on_deadline`` returns the readings that are due. Devices are asked one at a time, each about every ``interval_ms``
(spread by a jitter of its own, so that the two nodes of a pair do not meet at one BMC), never while ``paused``. A refused login is not
tried again before ``LOCKOUT_PAUSE_MS``: devices lock accounts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2s

from base.core import NS_PER_MS, JsonValue
from fencing.plan.commands import RunDevice
from fencing.plan.events import DeviceOutcome, DeviceReported, PowerState
from fencing.plan.settings import FenceDevice, FenceLevel

ORDER_PREFIX = "M-"
"""Orders of the monitor; those of fences begin otherwise."""
FIRST_MS = 20_000
"""The first reading: soon after the start, not at it."""
RETRY_MS = 15_000
"""After a first failure: was it a lost packet, or is the device gone?"""
FAILURES_UNTIL_BAD = 2
LOCKOUT_PAUSE_MS = 3_600_000
_JITTER_PERCENT = 20
_LATE_MS = 5_000


class DeviceState(Enum):
    """What is known of a device. ``UNKNOWN``: not asked yet, or the last answer is too old."""

    UNKNOWN = "unknown"
    GOOD = "good"
    UNREACHABLE = "unreachable"
    DENIED = "denied"
    UNTRUSTED = "untrusted"
    WRONG_OUTLET = "wrong_outlet"
    FAILING = "failing"
    OTHER_IDENTITY = "other_identity"
    UNEXPECTED_POWER = "unexpected_power"

    @property
    def bad(self) -> bool:
        """Whether a fence by this device is not to be counted on. A device that was not asked yet is given the benefit of the doubt."""
        return self not in (DeviceState.UNKNOWN, DeviceState.GOOD, DeviceState.UNEXPECTED_POWER)


_STATES = {
    DeviceOutcome.UNREACHABLE: DeviceState.UNREACHABLE,
    DeviceOutcome.TIMEOUT: DeviceState.UNREACHABLE,
    DeviceOutcome.DENIED: DeviceState.DENIED,
    DeviceOutcome.UNTRUSTED: DeviceState.UNTRUSTED,
    DeviceOutcome.UNKNOWN_TARGET: DeviceState.WRONG_OUTLET,
    DeviceOutcome.AMBIGUOUS: DeviceState.WRONG_OUTLET,
}


@dataclass(slots=True)
class _Watched:
    device: FenceDevice
    level: int
    due_ns: int
    state: DeviceState = DeviceState.UNKNOWN
    detail: str = ""
    failures: int = 0
    power: PowerState = PowerState.UNKNOWN
    asked_ns: int | None = None
    good_ns: int | None = None
    took_ms: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """A device that is bad, for a page."""

    device: str
    state: DeviceState
    detail: str


class DeviceMonitor:
    """The devices that fence one target. ``salt`` differs between the nodes of a pair (the node's name)."""

    def __init__(self, levels: Iterable[FenceLevel], *, target: str, interval_ms: int, salt: str, now_ns: int) -> None:
        self._target = target
        self._interval_ms = interval_ms
        self._salt = salt
        self._watched: dict[str, _Watched] = {}
        self._orders = 0
        self._asking: str = ""
        self._asking_until_ns = 0
        for number, level in enumerate(levels, 1):
            for device in level.devices:
                if interval_ms and device.name not in self._watched:
                    first_ns = now_ns + (FIRST_MS + self._jitter_ms(device.name)) * NS_PER_MS
                    self._watched[device.name] = _Watched(device, number, first_ns)

    def _jitter_ms(self, name: str) -> int:
        spread_ms = max(1, self._interval_ms * _JITTER_PERCENT // 100)
        return int.from_bytes(blake2s(f"{self._salt}/{name}/{self._orders}".encode(), digest_size=4).digest(), "big") % spread_ms

    # --- asking ---

    def on_deadline(self, now_ns: int, *, paused: bool) -> list[RunDevice]:
        """The reading that is due, at most one: devices are asked one after the other."""
        if self._asking and now_ns >= self._asking_until_ns:
            self._failed(now_ns, self._watched[self._asking], DeviceState.FAILING, "the fence runner did not report in time")
            self._asking = ""
        if paused or self._asking:
            return []
        due = min((w for w in self._watched.values() if now_ns >= w.due_ns), key=lambda w: w.due_ns, default=None)
        if due is None:
            return []
        self._orders += 1
        self._asking = due.device.name
        self._asking_until_ns = now_ns + (due.device.deadline_ms + _LATE_MS) * NS_PER_MS
        due.asked_ns = now_ns
        order_id = f"{ORDER_PREFIX}{self._salt}-{self._orders}"
        return [RunDevice(order_id, self._target, due.level, due.device.name, "status", self._orders, due.device.deadline_ms)]

    def next_deadline(self, *, paused: bool) -> int | None:
        """When a reading is due or overdue."""
        if self._asking:
            return self._asking_until_ns
        if paused:
            return None
        return min((w.due_ns for w in self._watched.values()), default=None)

    def runner_lost(self, now_ns: int) -> None:
        """What was asked will not be answered; it says nothing about the device."""
        if self._asking:
            self._watched[self._asking].due_ns = now_ns + RETRY_MS * NS_PER_MS
            self._asking = ""

    # --- answers ---

    def reported(self, now_ns: int, event: DeviceReported, *, heard: bool) -> bool:
        """A reading is over; ``heard``: the target is heard on a path, so it must read ON. True if the device's state changed."""
        watched = self._watched.get(event.device)
        if watched is None or event.device != self._asking:
            return False
        self._asking = ""
        before = watched.state
        watched.took_ms = event.took_ms
        enrolled = watched.device.identity
        if event.outcome is DeviceOutcome.BUSY:
            watched.due_ns = now_ns + RETRY_MS * NS_PER_MS  # it lives, and somebody else is logged in
        elif event.outcome is not DeviceOutcome.SUCCESS:
            self._failed(now_ns, watched, _STATES.get(event.outcome, DeviceState.FAILING), event.detail)
        elif enrolled and event.identity != enrolled:
            self._settled(now_ns, watched, DeviceState.OTHER_IDENTITY, f"enrolled as {enrolled}, but it says {event.identity or 'nothing'}")
        else:
            watched.power = event.power
            off_while_heard = heard and event.power is PowerState.OFF
            detail = f"it reads OFF while {self._target} is heard" if off_while_heard else ""
            self._settled(now_ns, watched, DeviceState.UNEXPECTED_POWER if off_while_heard else DeviceState.GOOD, detail)
            watched.good_ns = now_ns
        return watched.state is not before

    def _failed(self, now_ns: int, watched: _Watched, state: DeviceState, detail: str) -> None:
        watched.failures += 1
        watched.power = PowerState.UNKNOWN
        certain = state in (DeviceState.DENIED, DeviceState.WRONG_OUTLET, DeviceState.UNTRUSTED)
        if certain or watched.failures >= FAILURES_UNTIL_BAD:
            self._settled(now_ns, watched, state, detail, failures=watched.failures)
        else:
            watched.due_ns = now_ns + RETRY_MS * NS_PER_MS

    def _settled(self, now_ns: int, watched: _Watched, state: DeviceState, detail: str, *, failures: int = 0) -> None:
        watched.state, watched.detail, watched.failures = state, detail, failures
        pause_ms = LOCKOUT_PAUSE_MS if state is DeviceState.DENIED else self._interval_ms
        watched.due_ns = now_ns + (pause_ms + self._jitter_ms(watched.device.name)) * NS_PER_MS

    # --- what it means ---

    def findings(self) -> list[Finding]:
        """The devices that are bad now, in the order of the levels."""
        odd = (DeviceState.UNKNOWN, DeviceState.GOOD)
        return [Finding(w.device.name, w.state, w.detail) for w in self._watched.values() if w.state not in odd]

    def usable(self, level: FenceLevel) -> bool:
        """Whether every device of the level can be counted on."""
        return not any(self._watched[d.name].state.bad for d in level.devices if d.name in self._watched)

    def to_json(self, now_ns: int) -> list[JsonValue]:
        """One object a device: level, state, power, ages in ms."""

        def age_ms(at_ns: int | None) -> int | None:
            return None if at_ns is None else (now_ns - at_ns) // NS_PER_MS

        return [
            {
                "device": w.device.name,
                "level": w.level,
                "worth": w.device.worth.value,
                "state": w.state.value,
                "detail": w.detail,
                "power": w.power.value,
                "asked_ms": age_ms(w.asked_ns),
                "good_ms": age_ms(w.good_ns),
                "took_ms": w.took_ms,
            }
            for w in self._watched.values()
        ]
