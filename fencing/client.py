"""The owner's end of the fence runner: start it, keep it armed, hand it orders."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from base.channel import JsonObject
from base.pump import Pump
from base.supervise import Child
from fencing.orders import Order, OrderError, Report, arm_message
from fencing.plan.settings import FenceDevice, FenceSettings

_PYTHONPATH = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}


def all_devices(settings: FenceSettings) -> list[FenceDevice]:
    """Every device of every level of both targets, each name once."""
    devices = {device.name: device for _, levels in settings.levels for level in levels for device in level.devices}
    return list(devices.values())


class RunnerClient:
    """Supervises one runner process on a pump.

    ``on_report(Report)`` for every finished order. ``on_armed(errors)`` when all devices were built: pairs of device
    name and problem, empty = all good. ``on_down(reason)`` when it died: what it was doing is unknown. It is started
    again by itself (call ``on_deadline`` when ``next_deadline`` has passed, as for every child).
    """

    def __init__(
        self,
        pump: Pump,
        devices: Sequence[FenceDevice],
        on_report: Callable[[Report], None],
        on_armed: Callable[[list[tuple[str, str]]], None] = lambda _errors: None,
        on_down: Callable[[str], None] = lambda _reason: None,
        *,
        argv: Sequence[str] = (sys.executable, "-m", "fencing.runner"),
        env: dict[str, str] | None = None,
    ) -> None:
        self._devices = list(devices)
        self._on_report = on_report
        self._on_armed = on_armed
        self.armed = False
        self.child = Child(
            pump, "fence-runner", argv, self._received, self._up, self._make_down(on_down), env={**_PYTHONPATH, **(env or {})}
        )

    def start(self) -> None:
        """Start the process; it arms itself."""
        self.child.start()

    def rearm(self, devices: Sequence[FenceDevice]) -> None:
        """After a reload or an enrolment: build the devices anew."""
        self._devices = list(devices)
        self.armed = False
        self.child.send(arm_message(self._devices))

    def run(self, order: Order) -> bool:
        """Hand an order over; False if the runner is not there (then nothing was done)."""
        return self.armed and self.child.send(order.to_json())

    def next_deadline(self) -> int | None:
        """When a restart is due."""
        return self.child.next_deadline()

    def on_deadline(self, now_ns: int) -> None:
        """Restart if due."""
        self.child.on_deadline(now_ns)

    def stop(self) -> None:
        """End the process."""
        self.armed = False
        self.child.stop()

    def _up(self) -> None:
        self.child.send(arm_message(self._devices))

    def _make_down(self, on_down: Callable[[str], None]) -> Callable[[str], None]:
        def down(reason: str) -> None:
            self.armed = False
            on_down(reason)

        return down

    def _received(self, message: JsonObject) -> None:
        match message.get("op"):
            case "armed":
                self.armed = True
                self._on_armed([(entry["name"], entry["error"]) for entry in message["devices"] if entry["error"]])
            case "reported":
                try:
                    report = Report.from_json(message)
                except OrderError:
                    return
                self._on_report(report)
