"""What a fault is: how it is played, in which figures it shows, and what counts as holding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Figures = dict[str, float]


@dataclass(frozen=True)
class Pace:
    """How long to look. ``QUICK`` is for the tests: shorter intervals (which need version 3), one round; the goals are the same."""

    version: int
    interval_s: float
    rounds: int
    hold_s: float


FULL = Pace(version=2, interval_s=1.0, rounds=2, hold_s=20.0)
QUICK = Pace(version=3, interval_s=0.2, rounds=1, hold_s=3.0)


@dataclass(frozen=True)
class Fault:
    """``finding``: its number in the list of what keepalived 2.2.7 was measured to do wrong.

    ``play(daemon, pace)`` returns figures, ``says`` puts them into words, ``holds`` judges them.
    """

    name: str
    finding: int
    title: str
    goal: str
    play: Callable[[str, Pace], Figures]
    says: Callable[[Figures], str]
    holds: Callable[[Figures], bool]
