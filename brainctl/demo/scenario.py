"""What a scenario is: a story, the setup it needs, what happens in it, and what must be true afterwards for each mode."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from brainctl.demo.outcome import Outcome

if TYPE_CHECKING:
    from brainctl.demo.stage import Stage


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must be true afterwards; an empty field is not looked at.

    ``text``: for people. ``owners``: who answers for the VIP at the end. ``split``: two owners must have been (True) or must never be
    (False) on the wire for longer than ``handover_ms``. ``verdicts``: must be in the record of at least one node. ``never``: verdicts that
    must be in no record (after settling). ``fence``: the states a fence must have reached, () = no fence may have been intended.
    ``unproved``: no fence may be called proved.
    ``cut_power``: how often a power switch really took a node's power. ``alerts``: (least, most) at the pager.
    ``within_ms``: bound from the second owner's first claim to one owner. ``outage_ms``: bound of the client's longest outage.
    """

    text: str
    owners: tuple[str, ...] | None = None
    owner_count: int | None = None
    split: bool | None = None
    handover_ms: float = 300.0
    verdicts: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    fence: tuple[str, ...] | None = None
    unproved: bool = False
    cut_power: int | None = None
    alerts: tuple[int, int] | None = None
    within_ms: float | None = None
    outage_ms: float | None = None

    def failures(self, outcome: Outcome) -> Iterable[str]:
        """Every way in which the outcome differs, in words."""
        if outcome.broken:
            yield f"the scenario could not be played: {outcome.broken}"
            return
        yield from outcome.in_vain
        yield from self._owners(outcome)
        yield from self._record(outcome)
        if self.cut_power is not None and outcome.cut_power != self.cut_power:
            yield f"a power switch cut the power {outcome.cut_power} times, not {self.cut_power}"
        if self.alerts is not None and not self.alerts[0] <= outcome.alerts <= self.alerts[1]:
            yield f"{outcome.alerts} alerts reached the pager, expected {self.alerts[0]} to {self.alerts[1]}"
        if self.outage_ms is not None and outcome.client_outage_ms > self.outage_ms:
            yield f"the client was without answer for {outcome.client_outage_ms:.0f} ms, more than {self.outage_ms:.0f}"

    def _owners(self, outcome: Outcome) -> Iterable[str]:
        if self.owners is not None and tuple(outcome.owners_after) != self.owners:
            yield f"at the end {_names(outcome.owners_after)} answered for the VIP, expected {_names(self.owners)}"
        if self.owner_count is not None and len(outcome.owners_after) != self.owner_count:
            yield f"at the end {_names(outcome.owners_after)} answered for the VIP, expected {self.owner_count} owner(s)"
        if self.split is True and outcome.split_ms is None:
            yield "there were never two owners: the fault had no effect"
        if self.split is False and outcome.split_ms is not None and outcome.split_ms > self.handover_ms:
            yield f"there were two owners for {outcome.split_ms:.0f} ms"
        if self.within_ms is not None and outcome.split_ms is not None:
            if outcome.resolve_ms is None:
                yield "the split was not resolved"
            elif outcome.resolve_ms > self.within_ms:
                yield f"the split was resolved after {outcome.resolve_ms:.0f} ms, bound {self.within_ms:.0f} ms"

    def _record(self, outcome: Outcome) -> Iterable[str]:
        if not outcome.watched:
            return
        for verdict in self.verdicts:
            if verdict not in outcome.verdicts:
                yield f"no node recorded {verdict} (recorded: {', '.join(sorted(outcome.verdicts)) or 'nothing'})"
        for verdict in self.never:
            if verdict in outcome.verdicts:
                yield f"a node recorded {verdict}"
        if self.unproved and "proved" in outcome.fence_states:
            yield "a fence was called proved although nothing could be proved"
        if self.fence == () and outcome.fence_states:
            yield f"a fence was started: {', '.join(outcome.fence_states)}"
        for state in self.fence or ():
            if state not in outcome.fence_states:
                yield f"no fence became {state} (states: {', '.join(outcome.fence_states) or 'no fence'})"


def _names(owners: Iterable[str]) -> str:
    return " and ".join(owners) or "nobody"


class Scenario(ABC):
    """One file of ``scenarios/`` holds one or a few of these. ``modes``: those played when none is asked for; ``levels``: fence levels.

    ``beside``: played in a second laboratory while the others are played, to save time.
    """

    name: str
    story: str
    modes: tuple[str, ...] = ("resolve",)
    levels: tuple[str, ...] = ("bmc",)
    beside: bool = False

    @abstractmethod
    def play(self, stage: Stage) -> None:
        """Make it happen; the pair is healthy when this is called, and the observers run."""

    @abstractmethod
    def expect(self, mode: str, daemon: str) -> Expectation:
        """What must be true when ``play`` has returned."""
