"""PURE: how long the lower-ranked node must wait so that both nodes never fence each other (DESIGN promise 5).

Both detect the same cut at times that differ by at most Δ. The higher-ranked node's act takes at most F from start to effect or definite
failure. If the lower-ranked node waits d ≥ Δ + F + margin after its own detection, it is dead before it would act.
"""

from __future__ import annotations

from collections.abc import Iterable

from fencing.plan.settings import FenceSettings

MIN_MARGIN_MS = 500
MARGIN_PERCENT = 20


def detection_spread_ms(
    silent_after_ms: Iterable[int], intervals_ms: Iterable[int], *, confirm_ms: int, census_window_ms: int, stall_ms: int
) -> int:
    """Δ: the largest difference between the two nodes' detection times.

    One node may have heard the last frame a whole interval later than the other on its slowest path; each may be late by one undetected
    stall, one confirmation period and one census.
    """
    slowest_ms = max(silent_after_ms, default=0)
    return slowest_ms + max(intervals_ms, default=0) + confirm_ms + census_window_ms + stall_ms


def margin_ms(measured_ms: int) -> int:
    """What is added to Δ + F: a fifth of F for the device's bad days, at least half a second."""
    return max(MIN_MARGIN_MS, measured_ms * MARGIN_PERCENT // 100)


def needed_delay_ms(spread_ms: int, measured_ms: int) -> int:
    """d: the smallest safe delay."""
    return spread_ms + measured_ms + margin_ms(measured_ms)


def check_delay(settings: FenceSettings, spread_ms: int, *, witness: bool = False) -> list[str]:
    """Why automatic fencing must be refused for these settings; empty if it may be allowed. A witness replaces the delay."""
    if not settings.enabled or witness:
        return []
    if settings.measured_ms <= 0:
        return ["fence.measured_ms is not set: nobody measured how long a fence takes; run `brainctl fence check` and write what it prints"]
    needed = needed_delay_ms(spread_ms, settings.measured_ms)
    if settings.delay_ms >= needed:
        return []
    return [
        f"fence.delay_ms is {settings.delay_ms}, but both nodes could fence each other below {needed} "
        f"(detection spread {spread_ms} + measured fence {settings.measured_ms} + margin {margin_ms(settings.measured_ms)}); "
        f"set delay_ms = {needed}"
    ]
