"""PURE: when one checker probes, and when its verdict changes.

keepalived's rules:
- Without alpha it starts up, and a failure of its very first probe brings it down without a retry.
- Later, while up: a failure is tried ``retry`` more times, ``delay_before_retry`` apart; then it is down.
- While down one success brings it up. With several urls the one that failed must succeed first, then all in order.
- One url per ``delay_loop``; with fast_recovery there is no pause between urls while down.

Unlike keepalived the period counts from the start of a probe, so a slow answer does not stretch it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from base.core import NS_PER_S, JsonValue
from vrrp.lvs.model.settings import CheckerSettings

FIRST_PROBE_NS = NS_PER_S
"""keepalived's fixed wait before the warm-up."""


@dataclass(frozen=True, slots=True)
class ProbePassed:
    """The probe that was asked for has succeeded. ``weight``: what the probe says the server should weigh, or None."""

    weight: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ProbeFailed:
    """The probe that was asked for has failed; ``reason`` is for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Suspended:
    """No probes from now on (ha_suspend): the address of the service is not on this node."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """Probe again, at once."""


CheckerEvent: TypeAlias = "ProbePassed | ProbeFailed | Suspended | Resumed"


@dataclass(frozen=True, slots=True)
class StartProbe:
    """Probe now; ``step`` is the number of the url. Exactly one ProbePassed or ProbeFailed answers it."""

    step: int


@dataclass(frozen=True, slots=True)
class ReportUp:
    """The verdict is up, it was down."""

    detail: str = ""


@dataclass(frozen=True, slots=True)
class ReportDown:
    """The verdict is down, it was up."""

    reason: str


@dataclass(frozen=True, slots=True)
class ReportWeight:
    """The probe asks for another weight than last time. None: the configured one."""

    weight: int | None


@dataclass(frozen=True, slots=True)
class ReportFailure:
    """A probe failed without a change of the verdict. ``tries_left`` while up, 0 while down."""

    reason: str
    tries_left: int


CheckerCommand: TypeAlias = "StartProbe | ReportUp | ReportDown | ReportWeight | ReportFailure"


class CheckerCore:
    """One active checker. ``first_probe_ns``: the instant of the first probe (the shell draws the warm-up)."""

    def __init__(self, settings: CheckerSettings, first_probe_ns: int) -> None:
        self.settings = settings
        self.is_up = not settings.timing.alpha
        self.has_run = False
        self.failures = 0
        self.weight: int | None = None
        self.step = 0
        self.last_reason = "not probed yet"
        self._recheck = False
        self._suspended = False
        self._in_flight = False
        self._due_ns: int | None = first_probe_ns
        self._started_ns = first_probe_ns

    def inherit(self, before: CheckerCore) -> None:
        """Take over what an equal checker knew before a reload; the rhythm goes on, too."""
        self.is_up, self.has_run, self.failures, self.weight = before.is_up, before.has_run, before.failures, before.weight
        self.last_reason = before.last_reason
        self._suspended = before._suspended
        if before.step < self.settings.steps:
            self.step, self._recheck = before.step, before._recheck
        if before.has_run and before._due_ns is not None:
            self._due_ns = before._due_ns
        if self._suspended:
            self._due_ns = None

    def handle(self, now_ns: int, event: CheckerEvent) -> list[CheckerCommand]:
        """Take in the end of a probe, or a suspension."""
        if isinstance(event, Suspended):
            self._suspended, self._due_ns = True, None
            return []
        if isinstance(event, Resumed):
            if self._suspended:
                self._suspended = False
                self._due_ns = None if self._in_flight else now_ns
            return []
        assert self._in_flight, "a result without a probe"
        self._in_flight = False
        if self._suspended:
            return []  # the address has left while we asked: the answer says nothing about the server
        commands = self._passed(now_ns, event) if isinstance(event, ProbePassed) else self._failed(now_ns, event)
        self.has_run = True
        assert self._due_ns is not None
        return commands

    def _next_period(self, now_ns: int) -> int:
        return max(now_ns, self._started_ns + self.settings.timing.delay_loop_ns)

    def _passed(self, now_ns: int, event: ProbePassed) -> list[CheckerCommand]:
        commands: list[CheckerCommand] = []
        self.failures = 0
        self.last_reason = event.detail or "passed"
        if event.weight != self.weight:
            self.weight = event.weight
            commands.append(ReportWeight(event.weight))
        if self._recheck and self.settings.steps > 1:
            self._recheck, self.step = False, 0
        else:
            self._recheck = False
            self.step = (self.step + 1) % self.settings.steps
            if self.step == 0 and not self.is_up:
                self.is_up = True
                commands.append(ReportUp(event.detail))
        hurry = self.settings.fast_recovery and not self.is_up
        self._due_ns = now_ns if hurry else self._next_period(now_ns)
        return commands

    def _failed(self, now_ns: int, event: ProbeFailed) -> list[CheckerCommand]:
        timing = self.settings.timing
        self.last_reason = event.reason
        if not self.is_up:
            self._recheck = True
            self._due_ns = self._next_period(now_ns)
            # With alpha nothing was known before: the first failure is the verdict (keepalived notifies then, too).
            return [ReportFailure(event.reason, 0) if self.has_run else ReportDown(event.reason)]
        if self.has_run and self.failures < timing.retry:
            self.failures += 1
            self._due_ns = now_ns + timing.delay_before_retry_ns
            return [ReportFailure(event.reason, timing.retry - self.failures + 1)]
        self.is_up, self.failures, self._recheck = False, 0, True
        self._due_ns = self._next_period(now_ns)
        return [ReportDown(event.reason)]

    def on_deadline(self, now_ns: int) -> list[CheckerCommand]:
        """Start the probe that is due."""
        if self._due_ns is None or now_ns < self._due_ns:
            return []
        self._due_ns, self._in_flight, self._started_ns = None, True, now_ns
        return [StartProbe(self.step)]

    def next_deadline(self) -> int | None:
        """When the next probe starts; None while one runs or the checker is suspended."""
        return self._due_ns

    def snapshot(self) -> JsonValue:
        """Verdict and reason."""
        return {
            "id": self.settings.id,
            "up": self.is_up,
            "reason": self.last_reason,
            "failures": self.failures,
            "weight": self.weight,
            "step": self.step,
            "suspended": self._suspended,
            "due_ns": self._due_ns,
        }
