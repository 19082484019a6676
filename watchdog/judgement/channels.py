"""PURE: where the peer's own kernel answers our probes, and what its silence there is worth.

A silence counts only where an answer could be expected: at an address that the peer's kernel answered for shortly before the last word of
its watcher. An address that it gave away answers no more and proves nothing (cases J7 and N1), and an answer from a MAC that the peer never
told us is not the peer's (Promise 11).
"""

from __future__ import annotations

from dataclasses import dataclass

from base.core import NS_PER_S
from watchdog.config.model import LinkAddress

LATELY_NS = 30 * NS_PER_S
"""How old an answer may be when the peer's last frame arrives. The slow census asks for one address of the peer a second."""
MAX_CHANNELS = 64


@dataclass(slots=True)
class _Channel:
    answered_ns: int
    unanswered: int = 0


class PeerChannels:
    """The addresses that the peer's kernel answered for in this run of the daemon."""

    UNANSWERED = 2
    """Whole windows without an answer, one after the other, make a silence."""

    def __init__(self) -> None:
        self._channels: dict[LinkAddress, _Channel] = {}

    @property
    def last_ns(self) -> int | None:
        """When any of them answered last."""
        return max((channel.answered_ns for channel in self._channels.values()), default=None)

    def answered(self, now_ns: int, at: LinkAddress) -> None:
        """The peer's kernel answered a probe of ours for this address."""
        channel = self._channels.pop(at, None) or _Channel(now_ns)
        channel.answered_ns, channel.unanswered = now_ns, 0
        self._channels[at] = channel
        if len(self._channels) > MAX_CHANNELS:
            del self._channels[next(iter(self._channels))]

    def asked_in_vain(self, at: LinkAddress, sent_ns: int) -> None:
        """A whole window is over; True answers have been told before."""
        channel = self._channels.get(at)
        if channel is not None and channel.answered_ns < sent_ns:
            channel.unanswered += 1

    def fell_silent(self, at: LinkAddress, last_word_ns: int) -> bool:
        """Whether this address answered shortly before the peer's last frame, or since, and does not any more."""
        channel = self._channels.get(at)
        if channel is None or channel.unanswered < self.UNANSWERED:
            return False
        return channel.answered_ns >= last_word_ns - LATELY_NS

    def places(self) -> list[LinkAddress]:
        """Where it ever answered."""
        return list(self._channels)

    def void(self) -> None:
        """Promise 8: windows that we slept through were no questions."""
        for channel in self._channels.values():
            channel.unanswered = 0
