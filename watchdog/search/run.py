"""A search on several processes: units are dealt out, outcomes are gathered, coverage is counted."""

from __future__ import annotations

import json
import os
import random
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from base.core import NS_PER_MS, JsonValue
from watchdog.judgement.watcher import WatcherCore
from watchdog.search.alphabet import LETTERS
from watchdog.search.explore import Explorer, Limits, Outcome, Step, expires_at, work
from watchdog.search.seen import SeenStates
from watchdog.search.settings import CONFIGURATIONS, Configuration

MOMENTS_MS = 500


@dataclass(slots=True)
class Finding:
    """A schedule that breaks a promise."""

    configuration: str
    schedule: tuple[tuple[int, str], ...]
    violations: tuple[str, ...]

    def repeat(self) -> str:
        """The one command that repeats it."""
        steps = " ".join(f"--step {letter}@{at_ns / NS_PER_MS:g}" for at_ns, letter in self.schedule)
        return f"brainctl search --pair {self.configuration} {steps}"

    def to_json(self) -> dict[str, JsonValue]:
        """For ``--json``."""
        return {
            "pair": self.configuration,
            "schedule": [{"at_ms": at_ns / NS_PER_MS, "letter": letter, "fault": LETTERS[letter]} for at_ns, letter in self.schedule],
            "violations": list(self.violations),
            "repeat": self.repeat(),
        }


@dataclass(slots=True)
class Coverage:
    """What a search looked at."""

    start: int
    depth: int
    units: int = 0
    units_done: int = 0
    schedules: int = 0
    by_depth: dict[int, int] = field(default_factory=dict)
    by_pair: dict[str, int] = field(default_factory=dict)
    letters: dict[str, int] = field(default_factory=dict)
    states: int = 0
    took_s: float = 0.0
    cpu_s: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Was every schedule of this depth played?"""
        return self.units_done == self.units

    def to_json(self) -> dict[str, JsonValue]:
        """For ``--json`` and docs/RELIABILITY.md."""
        return {
            "start": self.start,
            "depth": self.depth,
            "complete": self.complete,
            "first_letters": self.units,
            "first_letters_explored": self.units_done,
            "schedules": self.schedules,
            "schedules_by_depth": {str(depth): count for depth, count in sorted(self.by_depth.items())},
            "schedules_by_pair": dict(sorted(self.by_pair.items())),
            "letters": len(self.letters),
            "states": self.states,
            "took_s": round(self.took_s, 1),
            "cpu_s": round(self.cpu_s, 1),
            "findings": [finding.to_json() for finding in self.findings],
        }


Unit = tuple[Configuration, Step]


def dealt(pairs: Sequence[Configuration], limits: Limits, start: int, core: type[WatcherCore]) -> list[Unit]:
    """Every unit, in an order that ``start`` rotates: a search that ends early looks at something else each time."""
    units = [(pair, step) for pair in pairs for step in Explorer(pair, limits, lambda _: None, core=core).units()]
    random.Random(f"{start}/order").shuffle(units)  # noqa: S311 - reproducible on purpose
    return units


def search(
    depth: int,
    *,
    start: int = 0,
    budget_s: float = 0,
    workers: int = 0,
    pairs: Sequence[Configuration] = CONFIGURATIONS,
    core: type[WatcherCore] = WatcherCore,
    progress: Callable[[Coverage], None] = lambda _: None,
    stop_at_first: bool = False,
) -> Coverage:
    """Play every schedule of up to ``depth`` letters, or what ``budget_s`` of time allows (0: no end). ``start`` shifts the grid and the
    order. From three letters on, a state that was met before is not explored again."""
    began = time.monotonic()
    phase_ns = random.Random(f"{start}/phase").randrange(MOMENTS_MS) * NS_PER_MS if start else 0  # noqa: S311
    limits = Limits(depth=depth, phase_ns=phase_ns, edges=depth != 2)
    expired = expires_at(began + budget_s) if budget_s else lambda: False
    workers = workers or os.cpu_count() or 1
    coverage = Coverage(start, depth)
    units = dealt(pairs, limits, start, core)
    coverage.units = len(units)
    seen = SeenStates() if depth > 2 else None
    reader, writer = os.pipe()
    children = [_worker(units, number, workers, limits, writer, expired, core, seen) for number in range(workers)]
    os.close(writer)
    _gather(reader, coverage, began, progress, children if stop_at_first else [])
    for child in children:
        _, _, usage = os.wait4(child, 0)
        coverage.cpu_s += usage.ru_utime + usage.ru_stime
    coverage.took_s = time.monotonic() - began
    coverage.states = seen.count() if seen else 0
    return coverage


def _worker(
    units: list[Unit],
    number: int,
    workers: int,
    limits: Limits,
    writer: int,
    expired: Callable[[], bool],
    core: type[WatcherCore],
    seen: SeenStates | None,
) -> int:
    """A process that takes every ``workers``-th unit, pair by pair; returns its id."""
    child = os.fork()
    if child:
        return child
    mine = units[number::workers]
    while mine and not expired():
        pair = mine[0][0]
        batch = [step for other, step in mine[:BATCH] if other == pair]
        mine = [unit for unit in mine[:BATCH] if unit[0] != pair] + mine[BATCH:]

        def report(outcome: Outcome, pair: Configuration = pair) -> None:
            _write(writer, {"pair": str(pair), "schedule": outcome.schedule, "violations": [v[:300] for v in outcome.violations[:3]]})

        run_in_child(Explorer(pair, limits, report, expired, core, seen), batch, lambda: _write(writer, {"done": 1}))
    os._exit(0)


BATCH = 64


def run_in_child(explorer: Explorer, steps: list[Step], done: Callable[[], None]) -> None:
    """Settle a pair and play units, in a process whose memory is given back afterwards; ``done`` is called after each whole unit."""
    child = os.fork()
    if child == 0:
        work(explorer, steps, done)
        os._exit(0)
    os.waitpid(child, 0)


def _write(writer: int, line: dict[str, object]) -> None:
    """One line, in one write: lines of several processes do not mix below PIPE_BUF."""
    os.write(writer, (json.dumps(line) + "\n").encode()[:4096])


def _gather(reader: int, coverage: Coverage, began: float, progress: Callable[[Coverage], None], stoppable: list[int]) -> None:
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        rest = b""
        while True:
            ready, _, _ = select.select([pipe], [], [], 1.0)
            if ready:
                data = pipe.read(65536)
                if not data:
                    return
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    _count(coverage, json.loads(line))
            coverage.took_s = time.monotonic() - began
            progress(coverage)
            if coverage.findings and stoppable:
                for child in stoppable:
                    os.kill(child, 9)
                return


def _count(coverage: Coverage, line: dict[str, object]) -> None:
    if "done" in line:
        coverage.units_done += 1
        return
    schedule = tuple((int(at_ns), str(letter)) for at_ns, letter in line["schedule"])  # type: ignore[attr-defined]
    coverage.schedules += 1
    coverage.by_depth[len(schedule)] = coverage.by_depth.get(len(schedule), 0) + 1
    pair = str(line["pair"])
    coverage.by_pair[pair] = coverage.by_pair.get(pair, 0) + 1
    for _, letter in schedule:
        coverage.letters[letter] = coverage.letters.get(letter, 0) + 1
    violations = tuple(str(v) for v in line["violations"])  # type: ignore[attr-defined]
    if violations:
        coverage.findings.append(Finding(pair, schedule, violations))
