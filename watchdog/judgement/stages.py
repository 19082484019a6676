"""PURE: suspected → confirmed → resolved for one scope (Promise 1: only a confirmed verdict pages, asks or fences)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from watchdog.judgement.verdict import SEVERITY_ORDER, Verdict


class Stage(Enum):
    """How far a bad verdict has come; CLEAR belongs to HEALTHY."""

    CLEAR = ""
    SUSPECTED = "suspected"
    CONFIRMED = "confirmed"


@dataclass(slots=True)
class Track:
    """The verdict of one scope over time. ``since_ns``: from when on ``verdict`` has been true without a break. ``parts``: what it is
    about, where that can grow (the silent paths)."""

    scope: str
    verdict: Verdict = Verdict.UNKNOWN
    stage: Stage = Stage.CLEAR
    reason: str = ""
    evidence: tuple[str, ...] = ()
    since_ns: int = 0
    settling: bool = True
    parts: frozenset[str] = frozenset()
    row: int = 0

    def is_confirmed(self, *verdicts: Verdict) -> bool:
        """Whether one of ``verdicts`` (any, if none is given) stands confirmed."""
        return self.stage is Stage.CONFIRMED and (not verdicts or self.verdict in verdicts)

    def judged(self, now_ns: int, verdict: Verdict, reason: str, evidence: tuple[str, ...], settling: bool) -> bool:
        """Take the table's answer. True when verdict or stage changed and a VERDICT row is due."""
        self.reason = reason
        self.evidence = evidence
        if verdict is self.verdict and settling == self.settling:
            return False
        self.verdict = verdict
        self.settling = settling
        self.since_ns = now_ns
        calm = verdict is Verdict.HEALTHY or settling
        self.stage = Stage.CLEAR if calm else Stage.SUSPECTED
        return True

    def confirm(self) -> None:
        """It was still true after its time and a census."""
        self.stage = Stage.CONFIRMED


def is_worse(verdict: Verdict, than: Verdict) -> bool:
    """Whether ``verdict`` outranks ``than`` (SEVERITY_ORDER)."""
    return SEVERITY_ORDER.index(verdict) > SEVERITY_ORDER.index(than)
