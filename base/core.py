"""The one interface between decisions and the world.

Every decision in this product is a *core*: a plain object that is told what happened and answers with what to do.
A core owns no socket, clock, file, thread or random source. The daemons and the simulator drive the same objects.

Time is an ``int`` of CLOCK_BOOTTIME nanoseconds and always an argument. Events are named in the past tense
(``AdvertReceived``), commands in the imperative (``SendAdvert``); both are frozen slotted dataclasses. The order of the
returned commands is a contract: the shell executes them in that order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, TypeVar

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

EventT = TypeVar("EventT", contravariant=True)
CommandT = TypeVar("CommandT", covariant=True)


class Core(Protocol[EventT, CommandT]):
    """A pure decision maker; see the module docstring for the rules."""

    def handle(self, now_ns: int, event: EventT) -> Sequence[CommandT]:
        """Take one event in and return the commands it causes, in the order of execution."""
        ...

    def on_deadline(self, now_ns: int) -> Sequence[CommandT]:
        """Fire every internal timer that is due at ``now_ns``, in a declared order."""
        ...

    def next_deadline(self) -> int | None:
        """The earliest instant (ns) at which ``on_deadline`` has work, or None."""
        ...

    def snapshot(self) -> JsonValue:
        """The whole state as JSON, for status, goldens and crash dumps."""
        ...
