"""What a check of a fence device found: findings with their grade, and the report that enrolment rests on."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from base.core import JsonValue
from fencing.plan.events import PowerState
from fencing.plan.worth import Worth


class Grade(Enum):
    """How bad a finding is: with an ERROR the check has not passed."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a check found out."""

    grade: Grade
    code: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.grade.value}: {self.message}" + (f"; {self.remedy}" if self.remedy else "")


@dataclass(slots=True)
class CheckReport:
    """Everything a check of one device found. Times in ms; 0 = not measured.

    ``effect_ms`` (only with ``really``): from the off order until the device reads OFF. ``bound_ms``: what it takes at
    most, by its deadline. ``fell_silent``, ``spoke_on``: the paths on which the target was heard
    before the off, and what became of them.
    """

    device: str
    target: str
    worth: Worth = Worth.BOOKKEEPING
    identity: str = ""
    power: PowerState = PowerState.UNKNOWN
    status_ms: int = 0
    effect_ms: int = 0
    on_ms: int = 0
    bound_ms: int = 0
    fell_silent: tuple[str, ...] = ()
    spoke_on: tuple[str, ...] = ()
    findings: list[Finding] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """No error: the device may be used."""
        return not any(finding.grade is Grade.ERROR for finding in self.findings)

    @property
    def can_prove(self) -> bool:
        """Whether its readings can prove a fence: a power device that tells whose outlet it is."""
        return bool(self.identity) and self.worth is Worth.POWER

    def to_json(self) -> dict[str, JsonValue]:
        """For ``--json``."""
        return {
            "device": self.device,
            "target": self.target,
            "passed": self.passed,
            "worth": self.worth.value,
            "can_prove": self.can_prove,
            "identity": self.identity,
            "power": self.power.value,
            "status_ms": self.status_ms,
            "effect_ms": self.effect_ms,
            "on_ms": self.on_ms,
            "bound_ms": self.bound_ms,
            "fell_silent": list(self.fell_silent),
            "spoke_on": list(self.spoke_on),
            "findings": [{"grade": f.grade.value, "code": f.code, "message": f.message, "remedy": f.remedy} for f in self.findings],
        }

    def add(self, grade: Grade, code: str, message: str, remedy: str = "") -> None:
        """Note a finding."""
        self.findings.append(Finding(grade, code, message, remedy))
