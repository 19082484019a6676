"""PURE: d, how long rank 2 waits, so that both nodes never fence each other and rank 1 has the time to act first (DESIGN promise 5).

Safety does not rest on d being long enough: an act of rank 1 must be over within d of its last acknowledged frame, or it does not begin
(watchdog/judgement/turns.py). d that is too short only means that rank 1 never gets to act. So ``check`` demands
d ≥ Δ + F + margin: Δ is how long it may take from the last acknowledged frame until rank 1 knows that it must act, F what *bounds* one act,
which is the devices' own deadlines and not what was once measured, the devices of a level one after the other, and the time that a
reading of
the identity may take before.
"""

from __future__ import annotations

from collections.abc import Sequence

from fencing.plan.settings import FenceDevice, FenceLevel, FenceSettings

MIN_MARGIN_MS = 500
MIN_READING_MS = 3_000
DRIFT_PERMILLE = 2
"""Two clocks, each wrong by at most 0.1 %."""
ORDER_VALID_MS = 1_500
"""How long after the decision a device may still get its command (FenceTimes.order_valid_ms at its default)."""


def detection_spread_ms(
    silent_after_ms: int,
    interval_ms: int,
    *,
    confirm_ms: int,
    census_window_ms: int,
    stall_ms: int,
    yield_deadline_ms: int = 0,
    acknowledged_every: int = 1,
) -> int:
    """Δ on one path: the longest time from the last acknowledged frame until the danger is confirmed and rank 1 may look for its turn.

    The frame was sent up to one interval before the cut and acknowledged in every ``acknowledged_every``th frame (a serial line
    rotates). Then: silence, one confirmation and two censuses, one undetected stall; and, where a path still lives one way, the time for
    which the peer is
    asked in vain.
    """
    acknowledged_ms = interval_ms * (1 + acknowledged_every)
    return silent_after_ms + acknowledged_ms + confirm_ms + 2 * census_window_ms + stall_ms + yield_deadline_ms


def act_ms(devices: Sequence[FenceDevice], order_valid_ms: int = ORDER_VALID_MS) -> int:
    """What bounds the act of these devices, told one after the other, from the decision to the last effect or certain failure."""
    return sum(device.deadline_ms + order_valid_ms for device in devices)


def reading_ms(device: FenceDevice) -> int:
    """How much time d leaves for the reading of a device's identity before the act: a quarter of its deadline, at least MIN_READING_MS.
    A reading may take longer, up to the whole deadline; then rank 1 may find its turn over and rank 2 acts (``check`` warns of a slow
    one)."""
    return min(device.deadline_ms, max(MIN_READING_MS, device.deadline_ms // 4))


def level_ms(level: FenceLevel) -> int:
    """F of one level: all its devices are read at once, then told one after the other."""
    return max((reading_ms(device) for device in level.devices), default=0) + act_ms(level.devices)


def bounded_ms(settings: FenceSettings) -> int:
    """F: the slowest level of either node."""
    return max((level_ms(level) for _, levels in settings.levels for level in levels), default=0)


def margin_ms(needed_ms: int) -> int:
    """What is added to Δ + F: the clocks, and half a second."""
    return MIN_MARGIN_MS + needed_ms * DRIFT_PERMILLE // 1_000


def needed_delay_ms(spread_ms: int, bound_ms: int) -> int:
    """d: the smallest delay with which rank 1 can still act in its turn."""
    return spread_ms + bound_ms + margin_ms(spread_ms + bound_ms)


def check_delay(settings: FenceSettings, spread_ms: int, *, witness: bool = False) -> list[str]:
    """Why automatic fencing must be refused for these settings; empty if it may be allowed. A witness replaces the delay."""
    if not settings.enabled or witness:
        return []
    if settings.measured_ms <= 0:
        return ["fence.measured_ms is not set: nobody measured how long a fence takes; run `brainctl fence check` and write what it prints"]
    bound = bounded_ms(settings)
    if settings.measured_ms > bound:
        return [
            f"fence.measured_ms is {settings.measured_ms}, but the deadlines of the devices give a fence only {bound}: raise deadline_ms"
        ]
    needed = needed_delay_ms(spread_ms, bound)
    if settings.delay_ms >= needed:
        return []
    return [
        f"fence.delay_ms is {settings.delay_ms}: with less than {needed} the node of rank 1 gets no time to act "
        f"(detection {spread_ms} + what the devices' deadlines allow, readings included, {bound} + margin {margin_ms(spread_ms + bound)}); "
        f"set delay_ms = {needed}, or lower deadline_ms of the devices"
    ]
