"""PURE: Δ and d of a configuration (fencing/plan/delay.py), and the times that they lead to. ``brainctl check`` prints them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fencing.plan.delay import act_ms, bounded_ms, detection_spread_ms, level_ms, needed_delay_ms
from fencing.plan.settings import FenceSettings
from watchdog.config.model import BrainSettings, Mode, PathKind, PathSettings, PolicySettings
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


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the configuration promises, in ms; None where it cannot promise anything.

    ``detect_ms`` (D): second owner's first claim → confirmed verdict. ``resolve_ms`` (R): confirmed verdict → one owner, when a path lives.
    ``fence_ms``: confirmed verdict → proved fence, when the device answers within its deadline (None: not enabled).
    """

    detect_ms: int
    resolve_ms: int | None
    fence_ms: int | None
    why: str
    serial_ms: tuple[int, int] | None = None
    turns: FenceTimetable | None = None


def bounds_of(brain: BrainSettings, groups: int = 1, priorities: int = 1) -> Bounds:
    """The bounds of DESIGN section 1, from the configured times. ``priorities``: how many different ones the ``groups`` have."""
    policy = brain.policy
    slowest_beat = max((p.interval_ms for p in brain.paths), default=0)
    first_look = max(policy.census_interval_ms + policy.census_window_ms, slowest_beat)
    detect = first_look + policy.confirm_ms + policy.census_window_ms
    resolve = None if policy.mode is Mode.OBSERVE else policy.yield_deadline_ms + 2 * slowest_beat
    fence = None
    levels = brain.fence.levels_for(brain.peer.name)
    if policy.mode is not Mode.OBSERVE and brain.fence.enabled and levels:
        silence = max((p.silent_after_ms for p in brain.paths), default=0)
        acts = sum(level_ms(level) + 2 * max((d.deadline_ms for d in level.devices), default=0) for level in levels)
        delay = 0 if brain.me.rank == 1 else brain.fence.delay_ms
        fence = silence + policy.confirm_ms + delay + policy.barrier_ms + acts + brain.fence.proof_silence_ms
    why = (
        f"claim → seen within census ({policy.census_interval_ms}+{policy.census_window_ms} ms) or beat ({slowest_beat} ms), "
        f"then confirm_ms {policy.confirm_ms} and one more census; a total cut is seen by neither side"
    )
    serial = _serial_bounds(brain, groups, priorities, resolve)
    return Bounds(detect, resolve, fence, why, serial, timetable(brain) if fence is not None else None)


def _serial_bounds(brain: BrainSettings, groups: int, priorities: int, resolve: int | None) -> tuple[int, int] | None:
    """D and R when nothing but the slowest serial line lives: what is new of every group must get through it."""
    lines = [path for path in brain.paths if path.kind is PathKind.SERIAL]
    if not lines or resolve is None:
        return None
    line = min(lines, key=lambda path: path.baud)
    round_ms = serial_round_ms(line.baud, groups, 2 * priorities)
    told_twice = 2 * round_ms + line.interval_ms
    return brain.policy.confirm_ms + brain.policy.census_window_ms + told_twice, resolve + 2 * round_ms


def split_bound_ms(bounds: Bounds) -> int:
    """D + R: how long a split may last before that itself is paged; over the slowest line, where there is one."""
    over_paths = bounds.detect_ms + (bounds.resolve_ms or 0)
    return max(over_paths, sum(bounds.serial_ms or (0, 0)))
