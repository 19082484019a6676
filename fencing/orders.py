"""What the owner and the runner say to each other, as JSON lines.

Owner → runner: ``arm`` (once, again after a reload) and ``run``. Runner → owner: ``armed`` and ``reported``. No secret
is ever in one of them: devices carry references, the runner reads the secrets itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fencing.devices.device import DeviceResult
from fencing.plan.events import DeviceOutcome, PowerState
from fencing.plan.settings import FenceDevice

JsonObject = dict[str, Any]


class OrderError(Exception):
    """A message that is not what it says; names the field."""


@dataclass(frozen=True, slots=True)
class Order:
    """One action of one device, see watchdog.judgement.commands.RunFence. Times are CLOCK_BOOTTIME ns."""

    order_id: str
    target: str
    level: int
    device: str
    action: str
    attempt: int
    issued_ns: int
    valid_ms: int

    @property
    def valid_until_ns(self) -> int:
        """The last instant at which the device may get the command."""
        return self.issued_ns + self.valid_ms * 1_000_000

    def to_json(self) -> JsonObject:
        """The ``run`` message."""
        return {"op": "run", **asdict(self)}

    @classmethod
    def from_json(cls, message: Mapping[str, Any]) -> Order:
        """Raises OrderError."""
        return cls(**_fields(cls.__annotations__, message))


@dataclass(frozen=True, slots=True)
class Report:
    """What one order came to; the same fields as watchdog.judgement.events.FenceReported."""

    order_id: str
    level: int
    device: str
    action: str
    attempt: int
    outcome: str
    power: str
    identity: str
    took_ms: int
    detail: str

    @classmethod
    def of(cls, order: Order, result: DeviceResult) -> Report:
        """The report of ``order``."""
        return cls(
            order.order_id,
            order.level,
            order.device,
            order.action,
            order.attempt,
            result.outcome.value,
            result.power.value,
            result.identity,
            result.took_ms,
            result.detail,
        )

    def to_json(self) -> JsonObject:
        """The ``reported`` message."""
        return {"op": "reported", **asdict(self)}

    @classmethod
    def from_json(cls, message: Mapping[str, Any]) -> Report:
        """Raises OrderError, also for an outcome or power that does not exist."""
        report = cls(**_fields(cls.__annotations__, message))
        try:
            DeviceOutcome(report.outcome)
            PowerState(report.power)
        except ValueError as error:
            raise OrderError(str(error)) from None
        return report


def _fields(annotations: Mapping[str, Any], message: Mapping[str, Any]) -> JsonObject:
    """The fields of a dataclass out of a message; every one must be there with its type."""
    fields: JsonObject = {}
    for name, kind in annotations.items():
        value = message.get(name)
        if type(value).__name__ != kind:
            raise OrderError(f"{name!r} must be {kind}, not {type(value).__name__}")
        fields[name] = value
    return fields


def arm_message(devices: Iterable[FenceDevice]) -> JsonObject:
    """The ``arm`` message for these devices."""
    return {"op": "arm", "devices": [{**asdict(device), "parameters": [list(pair) for pair in device.parameters]} for device in devices]}


def devices_from_message(message: Mapping[str, Any]) -> list[FenceDevice]:
    """The devices of an ``arm`` message. Raises OrderError."""
    devices = []
    try:
        for entry in message["devices"]:
            parameters = tuple((str(key), str(value)) for key, value in entry["parameters"])
            fields = {name: entry[name] for name in ("name", "type", "target", "deadline_ms", "identity")}
            devices.append(FenceDevice(parameters=parameters, **fields))
    except (KeyError, TypeError, ValueError) as error:
        raise OrderError(f"arm: {type(error).__name__}: {error}") from None
    return devices
