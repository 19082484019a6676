"""PURE: proof (b), a positive change: a channel of the target that was alive at the act fell silent while its medium still works.

Silence alone proves nothing: it may have begun before the act, the medium may be broken, or we may have been deaf. So silence
counts only on a channel heard right before the act (twice its own interval), only from the end of the act on, and only as far as a
control target on the same medium answered without a gap. The residual coincidence (the channel dies by itself in those last two
intervals *and* the device lies) is in docs/FENCING.md.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from base.core import NS_PER_MS
from fencing.plan.events import ChannelAsked, ChannelHeard, ControlHeard

_ALIVE_INTERVALS = 2
_SILENT_INTERVALS = 4
_MIN_QUESTIONS = 2
_MAX_QUESTIONS = 64
_CONTROL_GAP_PERCENT = 75


@dataclass(slots=True)
class _Channel:
    medium: str
    heard_ns: int
    interval_ns: int
    solicited: bool
    asked_ns: deque[int] = field(default_factory=lambda: deque(maxlen=_MAX_QUESTIONS))


@dataclass(slots=True)
class _ControlRun:
    """Answers of the controls of one medium without a gap."""

    first_ns: int
    last_ns: int


class ChannelLedger:
    """What was heard of one target, on which channel, and what its silence is worth."""

    def __init__(self, silence_ms: int) -> None:
        self._silence_ns = silence_ms * NS_PER_MS
        self._max_gap_ns = self._silence_ns * _CONTROL_GAP_PERCENT // 100
        self._channels: dict[str, _Channel] = {}
        self._controls: dict[str, _ControlRun] = {}
        self.void_until_ns = 0
        self._candidates: frozenset[str] = frozenset()
        self._alive_at_act: frozenset[str] = frozenset()
        self._act_end_ns: int | None = None

    def heard(self, event: ChannelHeard) -> None:
        """The target spoke."""
        channel = self._channels.get(event.channel)
        if channel is None:
            channel = self._channels[event.channel] = _Channel(event.medium, event.at_ns, event.interval_ms * NS_PER_MS, event.solicited)
        channel.medium = event.medium
        channel.interval_ns = event.interval_ms * NS_PER_MS
        channel.solicited = event.solicited
        channel.heard_ns = max(channel.heard_ns, event.at_ns)

    def asked(self, event: ChannelAsked) -> None:
        """A solicited channel was asked; the window for the answer is over."""
        channel = self._channels.get(event.channel)
        if channel is not None:
            channel.asked_ns.append(event.at_ns)

    def control(self, event: ControlHeard) -> None:
        """A control target answered."""
        run = self._controls.get(event.medium)
        if run is None or event.at_ns - run.last_ns > self._max_gap_ns:
            self._controls[event.medium] = _ControlRun(event.at_ns, event.at_ns)
        else:
            run.last_ns = max(run.last_ns, event.at_ns)

    def void(self, until_ns: int) -> None:
        """We were deaf until ``until_ns``."""
        self.void_until_ns = max(self.void_until_ns, until_ns)

    def act_begins(self, now_ns: int) -> None:
        """The off order leaves now: which channels are alive at this moment? Nothing follows from it unless ``act_ended`` is called."""
        self._candidates = frozenset(
            name
            for name, channel in self._channels.items()
            if 0 <= now_ns - channel.heard_ns <= _ALIVE_INTERVALS * channel.interval_ns and self.void_until_ns <= channel.heard_ns
        )

    def act_ended(self, end_ns: int) -> None:
        """The device may have acted; silence counts from ``end_ns``. A second act does not move the start of an unbroken silence."""
        if self._act_end_ns is None:
            self._act_end_ns = end_ns
            self._alive_at_act = self._candidates
        self._candidates = frozenset()

    def contradicts(self, event: ChannelHeard) -> bool:
        """Whether the target was heard after an act that may have been done."""
        return self._act_end_ns is not None and event.at_ns > self._act_end_ns

    def act_refuted(self) -> None:
        """The target was heard after the act: later silence is not this act's doing."""
        self._act_end_ns = None
        self._alive_at_act = frozenset()

    @property
    def any_alive_at_act(self) -> bool:
        """Whether some channel was alive at the act: then its silence must be waited for, whatever a device says."""
        return bool(self._alive_at_act)

    def proof(self) -> str:
        """The sentence that proves the silence, or "" while nothing does: *every* channel that was alive at the act is silent, and at least
        one of them while its medium still works. (A node whose switch port was cut goes on speaking on its serial line.)"""
        end_ns = self._act_end_ns
        if end_ns is None or any(self._channels[name].heard_ns > end_ns for name in self._alive_at_act):
            return ""
        for name in sorted(self._alive_at_act):
            channel = self._channels[name]
            run = self._controls.get(channel.medium)
            if run is None or not self._all_silent_long_enough(run.last_ns):
                continue
            since_ns = max(end_ns, run.first_ns, self.void_until_ns)
            needed_ns = max(self._silence_ns, _SILENT_INTERVALS * channel.interval_ns)
            if run.last_ns - since_ns < needed_ns:
                continue
            if channel.solicited and sum(asked_ns >= since_ns for asked_ns in channel.asked_ns) < _MIN_QUESTIONS:
                continue
            silent_ms = (run.last_ns - end_ns) // NS_PER_MS
            return f"{name} answered until the act and is silent for {silent_ms} ms while a control on {channel.medium} answers"
        return ""

    def _all_silent_long_enough(self, now_ns: int) -> bool:
        """Whether each channel that was alive at the act has had the time in which it would have spoken again."""
        since_ns = max(self._act_end_ns or 0, self.void_until_ns)
        return all(
            now_ns - since_ns >= max(self._silence_ns, _SILENT_INTERVALS * self._channels[name].interval_ns) for name in self._alive_at_act
        )
