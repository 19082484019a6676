"""Run seeds: one, or many on all processors, and what they came to."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from base.core import JsonValue
from watchdog.judgement.watcher import WatcherCore
from watchdog.simulator.checkers import all_checkers
from watchdog.simulator.faults import Fault
from watchdog.simulator.options import Options, with_setting
from watchdog.simulator.plants import PLANTS
from watchdog.simulator.stories import draw_options
from watchdog.simulator.world import World

SIGHTS = (
    "split",
    "yield",
    "isolation",
    "fence_intended",
    "fence_proved",
    "fence_refuted",
    "fence_unknown",
    "stall",
    "restart",
    "could_fence",
)
"""What enough seeds must meet, or the simulator looks away from it."""


@dataclass(slots=True)
class Result:
    """What one seed came to."""

    seed: int
    story: str
    mode: str
    daemon: str
    trace_hash: str
    events: int
    virtual_s: float
    took_s: float
    violations: list[str]
    seen: dict[str, int] = field(default_factory=dict)
    plant: str = ""
    faults: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    quick: bool = False

    def repeat(self) -> str:
        """The one command that repeats this run."""
        words = ["brainctl simulate", f"--seed {self.seed}"]
        words += [f"--fault '{fault}'" for fault in self.faults]
        words += [f"--set {setting}" for setting in self.settings]
        words += ["--quick"] if self.quick else []
        words += [f"--plant '{self.plant}'"] if self.plant else []
        return " ".join(words)

    def to_json(self) -> dict[str, JsonValue]:
        """One line of ``--json``."""
        return {
            "seed": self.seed,
            "story": self.story,
            "mode": self.mode,
            "daemon": self.daemon,
            "trace_hash": self.trace_hash,
            "events": self.events,
            "virtual_s": self.virtual_s,
            "violations": list(self.violations),
            "seen": dict(sorted(self.seen.items())),
            "repeat": self.repeat(),
        }


def build(options: Options, plant: str = "", *, keep_trace: bool = False, quick: bool = False) -> World:
    """The world of one run, ready to go; ``quick`` leaves out the time in which nothing goes on."""
    core = PLANTS[plant].core if plant else WatcherCore
    return World(options, core, all_checkers(), keep_trace=keep_trace, quick=quick)


def options_of(seed: int, faults: tuple[Fault, ...] | None = None, settings: Sequence[str] = ()) -> Options:
    """The options of ``seed``, some faults and settings replaced. Raises SettingError."""
    options = draw_options(seed, faults)
    for setting in settings:
        options = with_setting(options, setting)
    return options


def run_seed(
    seed: int, plant: str = "", faults: tuple[Fault, ...] | None = None, settings: tuple[str, ...] = (), *, quick: bool = False
) -> Result:
    """Run one seed. An exception out of a core is a violation, too: a crash is never right."""
    began = time.perf_counter()
    world = build(options_of(seed, faults, settings), plant, quick=quick)
    return finish(world, began, plant, () if faults is None else tuple(str(fault) for fault in faults), settings)


def finish(world: World, began: float, plant: str = "", told_faults: tuple[str, ...] = (), settings: tuple[str, ...] = ()) -> Result:
    """Let ``world`` run to its end and sum it up."""
    options = world.options
    violations = []
    try:
        world.run()
    except Exception as error:  # noqa: BLE001 - a core that raises is a finding to report, with its seed
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{os.path.basename(where.filename)}:{where.lineno}"
        violations.append(f"crash at {world.scheduler.now_ns / 1e9:.3f} s: {type(error).__name__}: {error} ({place})")
    violations += [str(violation) for violation in world.violations]
    return Result(
        seed=options.seed,
        story=options.story,
        mode=options.mode.value,
        daemon=options.daemon,
        trace_hash=world.trace.digest(),
        events=world.trace.count,
        virtual_s=(options.safety_ns + options.healing_ns) / 1e9,
        took_s=time.perf_counter() - began,
        violations=violations,
        seen=world.seen,
        plant=plant,
        faults=told_faults,
        settings=settings,
        quick=world.quick,
    )


@dataclass(slots=True)
class _Job:
    plant: str
    faults: tuple[Fault, ...] | None
    settings: tuple[str, ...]
    quick: bool

    def __call__(self, seed: int) -> Result:
        return run_seed(seed, self.plant, self.faults, self.settings, quick=self.quick)


def run_seeds(
    seeds: Sequence[int],
    plant: str = "",
    faults: tuple[Fault, ...] | None = None,
    workers: int = 0,
    settings: tuple[str, ...] = (),
    *,
    quick: bool = False,
) -> Iterator[Result]:
    """Run many seeds on ``workers`` processes (0: one per processor), results in the order of the seeds."""
    workers = workers or min(os.cpu_count() or 1, len(seeds))
    job = _Job(plant, faults, settings, quick)
    if workers <= 1:
        yield from map(job, seeds)
        return
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        yield from pool.imap(job, seeds, chunksize=2)


def summary(results: Sequence[Result]) -> dict[str, JsonValue]:
    """The last line of ``--json``: hash over all runs, violations, and how many seeds saw what."""
    digest = random.Random("".join(result.trace_hash for result in results)).getrandbits(128)  # noqa: S311 - a digest of hashes
    struck: dict[str, JsonValue] = {}
    for verb in sorted({name for result in results for name in result.seen if name.startswith("fault_")}):
        struck[verb.removeprefix("fault_")] = sum(bool(result.seen.get(verb)) for result in results)
    saw: dict[str, JsonValue] = {sight: sum(bool(result.seen.get(sight)) for result in results) for sight in SIGHTS}
    return {
        "seeds": len(results),
        "trace_hash": results[0].trace_hash if len(results) == 1 else f"{digest:032x}",
        "violations": sum(len(result.violations) for result in results),
        "failing": [
            {"seed": result.seed, "violations": list(result.violations), "repeat": result.repeat()}
            for result in results
            if result.violations
        ],
        "seeds_that_saw": saw,
        "seeds_in_which": struck,
        "virtual_s": round(sum(result.virtual_s for result in results), 1),
        "events": sum(result.events for result in results),
    }
