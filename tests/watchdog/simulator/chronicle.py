"""What a test of one case looks at: who answered for each address when, what was paged, who was told off, who lost power."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from watchdog.judgement.commands import Persist, RowKind, RunFence, WatcherCommand
from watchdog.simulator.checker import Checker
from watchdog.simulator.faults import parse_fault
from watchdog.simulator.options import VIPS
from watchdog.simulator.power import PowerSwitch
from watchdog.simulator.run import build, options_of

S = 1_000_000_000


@dataclass(frozen=True)
class Page:
    at_s: float
    node: str
    severity: str
    text: str


class Chronicle(Checker):
    """Writes down; finds nothing wrong."""

    name = "chronicle"

    def __init__(self) -> None:
        self.owned: dict[str, list[tuple[float, tuple[str, ...]]]] = {}
        self.pages: list[Page] = []
        self.told_off: list[tuple[float, str, str]] = []
        self.lost_power: list[tuple[float, str, str]] = []
        self.rows: list[tuple[float, str, RowKind, dict[str, object]]] = []

    @property
    def now_s(self) -> float:
        return self.world.scheduler.now_ns / S

    def owners(self, vip: str, before: tuple[str, ...], now: tuple[str, ...]) -> None:
        self.owned.setdefault(vip, []).append((self.now_s, now))

    def command(self, node: str, command: WatcherCommand) -> None:
        if type(command) is Persist:
            for row in command.rows:
                fields = dict(row.fields)
                self.rows.append((self.now_s, node, row.kind, fields))
                if row.kind is RowKind.ALERT and fields.get("action") == "trigger":
                    self.pages.append(
                        Page(self.now_s, node, str(fields.get("severity")), f"{fields.get('summary')} {fields.get('details')}")
                    )

    def device(self, node: str, switch: PowerSwitch, command: RunFence) -> None:
        if command.action == "off":
            self.told_off.append((self.now_s, node, command.target))

    def power(self, node: str, on: bool, why: str) -> None:
        if not on:
            self.lost_power.append((self.now_s, node, why))

    # ---- questions ----------------------------------------------------------------------------------------------------------

    def owners_at(self, at_s: float, vip: str = VIPS[0]) -> tuple[str, ...]:
        """Who answered for an address at a moment."""
        return next((owners for since_s, owners in reversed(self.owned.get(vip, [])) if since_s <= at_s), ())

    def nobody_for_s(self, from_s: float, until_s: float, vip: str = VIPS[0]) -> float:
        """The longest time without any owner within a span."""
        edges = [from_s, *(at for at, _ in self.owned.get(vip, []) if from_s < at < until_s), until_s]
        longest, run = 0.0, 0.0
        for begin, end in pairwise(edges):
            run = 0.0 if self.owners_at(begin, vip) else run + end - begin
            longest = max(longest, run)
        return longest

    def two_for_s(self, from_s: float, until_s: float, vip: str = VIPS[0]) -> float:
        """The longest time with two owners within a span."""
        edges = [from_s, *(at for at, _ in self.owned.get(vip, []) if from_s < at < until_s), until_s]
        longest, run = 0.0, 0.0
        for begin, end in pairwise(edges):
            run = run + end - begin if len(self.owners_at(begin, vip)) > 1 else 0.0
            longest = max(longest, run)
        return longest

    def fenced(self, until_s: float = 1e9) -> list[str]:
        """The nodes that lost their power to a fence."""
        return [node for at_s, node, why in self.lost_power if why.startswith("fenced by") and at_s <= until_s]

    def critical_pages(self, from_s: float, until_s: float) -> list[Page]:
        return [page for page in self.pages if page.severity == "critical" and from_s <= page.at_s <= until_s]


def play(seed: int, settings: tuple[str, ...], faults: tuple[str, ...], safety_s: float = 0) -> Chronicle:
    """Run one case and return what happened; ``safety_s`` lengthens the safety phase."""
    options = options_of(seed, tuple(parse_fault(line) for line in faults), settings)
    if safety_s:
        options = options_of(seed, options.faults, (*settings, f"safety_ns={round(safety_s * S)}"))
    chronicle = Chronicle()
    world = build(options)
    world.watch(chronicle)
    world.run()
    return chronicle
