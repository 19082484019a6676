"""What one run of a scenario came to, measured by the observers, the pager, the power switches, and read from the nodes' records."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class AddressOutcome:
    """What became of one more watched address; fields as in `Outcome`."""

    owners_after: list[str] = field(default_factory=list)
    split_ms: float | None = None
    resolve_ms: float | None = None
    client_outage_ms: float = 0.0


@dataclass(slots=True)
class Outcome:
    """Times in ms. ``split_ms``: two owners, in all; ``detect_ms``: second owner's first claim → verdict in a record;
    ``resolve_ms``: second owner's first claim → one owner for good; None where there was no split, no detection, no resolution.

    ``verdicts``: recorded after settling, "SPLIT_BRAIN" and "SPLIT_BRAIN/confirmed" alike. ``in_vain``: what the scenario waited for and
    did not come. ``broken``: why it could not be played at all. ``watched``: braind ran. ``also``: further watched addresses by name.
    ``not_owned_once``: addresses of the groups that not exactly one powered node's kernel holds at the end, with their holders.
    ``held``: the nodes whose braind held a group. ``beat_gap_ms``: the longest silence of a powered node on the heartbeat network.
    ``pages``: what the pager was sent, as text.
    """

    watched: bool = True
    owners_after: list[str] = field(default_factory=list)
    split_ms: float | None = None
    detect_ms: float | None = None
    resolve_ms: float | None = None
    verdicts: set[str] = field(default_factory=set)
    fence_states: list[str] = field(default_factory=list)
    cut_power: int = 0
    alerts: int = 0
    client_outage_ms: float = 0.0
    in_vain: list[str] = field(default_factory=list)
    also: dict[str, AddressOutcome] = field(default_factory=dict)
    not_owned_once: dict[str, list[str]] = field(default_factory=dict)
    beat_gap_ms: float = 0.0
    pages: list[str] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    broken: str = ""
