"""PURE: the bounds of a session, and how long each kind of device may take to show its effect."""

from __future__ import annotations

from dataclasses import dataclass

from fencing.plan.settings import FenceDevice

DEFAULT_SETTLE_MS = {"ssh": 3_000, "agent": 200, "exec": 500}
"""How long after a device's claim the target may still be heard: frames in flight, a kernel that is switching off."""


@dataclass(frozen=True, slots=True)
class FenceTimes:
    """Bounds of a session, all in ms.

    ``order_valid_ms``: an order older than this at the device command is refused. ``barrier_ms``: a slower durable
    write means that we are sick. ``status_interval_ms``: pause between readings. ``report_slack_ms``: how much later
    than a device's own deadline its report may come.
    """

    proof_silence_ms: int = 2_000
    order_valid_ms: int = 1_500
    barrier_ms: int = 2_000
    second_look_ms: int = 1_000
    status_interval_ms: int = 500
    probe_interval_ms: int = 250
    report_slack_ms: int = 2_000


def settle_ms(device: FenceDevice) -> int:
    """How long after its claim this device's target may still be heard without refuting it (parameter ``settle_ms``)."""
    value = dict(device.parameters).get("settle_ms", "")
    return int(value) if value.isdigit() else DEFAULT_SETTLE_MS.get(device.type, 500)


DEFAULT_EFFECT_MS = {"ipmi": 1_500, "libvirt": 1_000, "snmp_port": 2_000, "snmp_pdu": 5_000, "redfish": 15_000}
"""How long after the act a device that obeys may still read ON, where its protocol switches at once; the others get the whole window."""


def effect_ms(device: FenceDevice) -> int | None:
    """From when on a reading of ON after the act is a lie (parameter ``effect_ms``); None = only at the end of the verification."""
    value = dict(device.parameters).get("effect_ms", "")
    return int(value) if value.isdigit() else DEFAULT_EFFECT_MS.get(device.type)
