"""PURE: Δ and d of a configuration (fencing/plan/delay.py), and the times that they lead to. ``brainctl check`` prints them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fencing.plan.delay import act_ms, bounded_ms, detection_spread_ms, needed_delay_ms
from fencing.plan.settings import FenceSettings
from watchdog.config.model import BrainSettings, PathKind, PathSettings, PolicySettings
from watchdog.frames.serial_codec import TERMS_EVERY


def spread_ms(paths: Iterable[PathSettings], policy: PolicySettings) -> int:
    """Δ: the longest time from the last acknowledged frame until rank 1 has confirmed the danger."""
    every = {kind: TERMS_EVERY if kind is PathKind.SERIAL else 1 for kind in PathKind}
    return max(
        (
            detection_spread_ms(
                path.silent_after_ms,
                path.interval_ms,
                confirm_ms=policy.confirm_ms,
                census_window_ms=policy.census_window_ms,
                stall_ms=policy.stall_ms,
                yield_deadline_ms=policy.yield_deadline_ms,
                acknowledged_every=every[path.kind],
            )
            for path in paths
        ),
        default=0,
    )


def least_delay_ms(paths: Iterable[PathSettings], policy: PolicySettings, fence: FenceSettings) -> int:
    """The smallest d that ``brainctl check`` accepts."""
    return needed_delay_ms(spread_ms(paths, policy), bounded_ms(fence))


GROUPS_IN_A_MAP = 72
"""Groups of one description that one serial frame names, with a request to yield them all (watchdog/frames/group_map.py)."""
GROUP_FRAMES_PERCENT = 60
"""Of the frames of a serial line, so many at least are about groups while something is urgent."""


def serial_round_ms(baud: int, groups: int, descriptions: int) -> int:
    """How long a serial line takes to tell something new of every group. ``descriptions``: how many different ones there are among them
    (groups
    of one state, priority and health share one)."""
    frame_ms = 1 + 64 * 10 * 1_000 // max(1, baud)
    maps = descriptions * -(-groups // GROUPS_IN_A_MAP)
    pages = -(-groups // 2)
    return frame_ms * (-(-min(maps, pages) * 100 // GROUP_FRAMES_PERCENT) + 1)


@dataclass(frozen=True, slots=True)
class FenceTimetable:
    """What d leads to, in ms after the last frame that the peer acknowledged (rank 1) or that was heard of rank 1 (rank 2).

    ``confirmed_ms``: the danger is confirmed at the latest. ``first_until_ms``: rank 1 begins no act later; ``second_from_ms``: rank 2
    begins none earlier; ``second_done_ms``: its act is over, at the latest, when nothing hinders it.
    """

    confirmed_ms: int
    first_until_ms: int
    second_from_ms: int
    second_done_ms: int


def timetable(brain: BrainSettings) -> FenceTimetable:
    """For the slowest first level of either node."""
    fence = brain.fence
    slowest_act_ms = max((act_ms(levels[0].devices) for _, levels in fence.levels if levels), default=0)
    drift_ms = fence.delay_ms // 500
    return FenceTimetable(
        spread_ms(brain.paths, brain.policy),
        fence.delay_ms - drift_ms - slowest_act_ms,
        fence.delay_ms,
        fence.delay_ms + bounded_ms(fence) + brain.policy.barrier_ms,
    )
