"""PURE: readings that were taken before anybody knew whether a fence would be due. Asking whose outlet it is harms nobody; a fence that
finds it asked a moment ago acts at once. A reading that failed, or that named another node, takes the older good one away."""

from __future__ import annotations

from collections.abc import Iterable

from base.core import NS_PER_MS
from fencing.plan.events import DeviceOutcome, DeviceReported
from fencing.plan.reading import LONGEST_MS
from fencing.plan.settings import FenceDevice, FenceLevel

VALID_MS = LONGEST_MS + 10_000
"""A target that is missed is read again at the latest after LONGEST_MS (fencing/plan/reading.py): while its devices answer, the newest
reading is never older than this. Nobody moves a cable in that time without being seen by the next reading."""


class ReadAhead:
    """The newest answer of each device of these levels."""

    def __init__(self, levels: Iterable[FenceLevel]) -> None:
        self._devices: dict[str, FenceDevice] = {device.name: device for level in levels for device in level.devices}
        self._good_ns: dict[str, int] = {}

    def note(self, now_ns: int, event: DeviceReported) -> None:
        """A reading is over, whoever asked for it."""
        device = self._devices.get(event.device)
        if device is None or event.action != "status":
            return
        if event.outcome is DeviceOutcome.SUCCESS and device.identity and event.identity == device.identity:
            self._good_ns[device.name] = now_ns
        else:
            self._good_ns.pop(device.name, None)

    def known(self, now_ns: int) -> frozenset[str]:
        """The devices that told their enrolled identity a moment ago."""
        return frozenset(name for name, at_ns in self._good_ns.items() if now_ns - at_ns <= VALID_MS * NS_PER_MS)
