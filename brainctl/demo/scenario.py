"""What a scenario is: a story, the setup it needs, what happens in it, and what must be true afterwards for each mode."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from brainctl.demo.outcome import AddressOutcome, Outcome
from brainctl.demo.setup import DAEMONS, PLAIN, Site

if TYPE_CHECKING:
    from brainctl.demo.stage import Stage


@dataclass(frozen=True, slots=True)
class At:
    """What must be true of one more watched address; fields as in `Expectation`."""

    owners: tuple[str, ...] | None = None
    owner_count: int | None = None
    split: bool | None = None
    within_ms: float | None = None
    outage_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must be true afterwards; an empty field is not looked at.

    ``text``: for people. ``owners``: who answers for the VIP at the end. ``split``: two owners must have been (True) or must never be
    (False) on the wire for longer than ``handover_ms``. ``verdicts``: must be in the record of at least one node. ``never``: verdicts that
    must be in no record (after settling). ``fence``: the states a fence must have reached, () = no fence may have been intended.
    ``unproved``: no fence may be called proved.
    ``cut_power``: how often a power switch really took a node's power. ``alerts``: (least, most) at the pager.
    ``within_ms``: bound from the second owner's first claim to one owner. ``outage_ms``: bound of the client's longest outage.
    ``pages``: regular expressions, each of which must be found in a page. ``also``: further watched addresses by name.
    ``each_owned_once``: every address of every group is in exactly one kernel. ``beat_gap_ms``: bound of a powered node's silence on the
    heartbeat network.
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
    pages: tuple[str, ...] = ()
    also: Mapping[str, At] = field(default_factory=dict)
    each_owned_once: bool = False
    beat_gap_ms: float | None = None

    def failures(self, outcome: Outcome) -> Iterable[str]:
        """Every way in which the outcome differs, in words."""
        if outcome.broken:
            yield f"the scenario could not be played: {outcome.broken}"
            return
        yield from outcome.in_vain
        yield from self._address("", self, outcome)
        for name, wanted in self.also.items():
            yield from self._address(f"{name}: ", wanted, outcome.also[name])
        yield from self._nodes(outcome)
        yield from self._record(outcome)

    def _nodes(self, outcome: Outcome) -> Iterable[str]:
        if self.cut_power is not None and outcome.cut_power != self.cut_power:
            yield f"a power switch cut the power {outcome.cut_power} times, not {self.cut_power}"
        if self.each_owned_once:
            for address, holders in outcome.not_owned_once.items():
                yield f"{address} is in the kernel of {_names(holders)}, not of exactly one node"
        if self.beat_gap_ms is not None and outcome.beat_gap_ms > self.beat_gap_ms:
            yield f"a node sent nothing on the heartbeat network for {outcome.beat_gap_ms:.0f} ms, more than {self.beat_gap_ms:.0f}"

    def _address(self, where: str, wanted: Expectation | At, outcome: Outcome | AddressOutcome) -> Iterable[str]:
        if wanted.owners is not None and tuple(outcome.owners_after) != wanted.owners:
            yield f"{where}at the end {_names(outcome.owners_after)} answered for the VIP, expected {_names(wanted.owners)}"
        if wanted.owner_count is not None and len(outcome.owners_after) != wanted.owner_count:
            yield f"{where}at the end {_names(outcome.owners_after)} answered for the VIP, expected {wanted.owner_count} owner(s)"
        if wanted.split is True and outcome.split_ms is None:
            yield f"{where}there were never two owners: the fault had no effect"
        if wanted.split is False and outcome.split_ms is not None and outcome.split_ms > self.handover_ms:
            yield f"{where}there were two owners for {outcome.split_ms:.0f} ms"
        if wanted.within_ms is not None and outcome.split_ms is not None:
            if outcome.resolve_ms is None:
                yield f"{where}the split was not resolved"
            elif outcome.resolve_ms > wanted.within_ms:
                yield f"{where}the split was resolved after {outcome.resolve_ms:.0f} ms, bound {wanted.within_ms:.0f} ms"
        if wanted.outage_ms is not None and outcome.client_outage_ms > wanted.outage_ms:
            yield f"{where}the client was without answer for {outcome.client_outage_ms:.0f} ms, more than {wanted.outage_ms:.0f}"

    def _record(self, outcome: Outcome) -> Iterable[str]:
        if not outcome.watched:
            return
        if self.alerts is not None and not self.alerts[0] <= outcome.alerts <= self.alerts[1]:
            yield f"{outcome.alerts} alerts reached the pager, expected {self.alerts[0]} to {self.alerts[1]}"
        for wanted in self.pages:
            if not any(re.search(wanted, page, re.IGNORECASE) for page in outcome.pages):
                yield f"no page says {wanted!r}"
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

    ``beside``: played in a second laboratory while the others are played, to save time. ``daemons``: the daemons that it is about;
    ``site``: what the pair has beyond the plain one; ``usual``: played without ``--all``; ``case``: what it was first seen as.
    """

    name: str
    story: str
    modes: tuple[str, ...] = ("resolve",)
    levels: tuple[str, ...] = ("bmc",)
    beside: bool = False
    daemons: tuple[str, ...] = DAEMONS
    site: Site = PLAIN
    usual: bool = True
    case: str = ""

    @abstractmethod
    def play(self, stage: Stage) -> None:
        """Make it happen; the pair is healthy when this is called, and the observers run."""

    @abstractmethod
    def expect(self, mode: str, daemon: str) -> Expectation:
        """What must be true when ``play`` has returned."""
