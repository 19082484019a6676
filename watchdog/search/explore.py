"""Plays every schedule of letters: the world is copied by fork(), so that what two schedules have in common is played once.

At each moment of a schedule the process forks one child per letter. The child lets the letter happen and explores the rest; its parent
goes on to the next moment. Moments are a grid, and 1 ms before and after every instant at which a core decided something on this very
path (a scout plays the path to its end first and reports these). Findings and counts come back through one pipe, a line each.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from base.core import NS_PER_MS, NS_PER_S
from watchdog.judgement.commands import BridgeAdvert, ProbeOwners, ProbeReference, PublishStatus, WatcherCommand
from watchdog.judgement.watcher import WatcherCore
from watchdog.search.alphabet import fault_at, letters
from watchdog.search.fingerprint import CLOCK_START_NS, fingerprint
from watchdog.search.seen import SeenStates
from watchdog.search.settings import Configuration
from watchdog.simulator.checker import Checker
from watchdog.simulator.checkers import all_checkers
from watchdog.simulator.world import StormError, World

READY_NS = 9 * NS_PER_S
"""By then a pair has settled and its first owner serves."""
TAIL_NS = 15 * NS_PER_S
"""How long a schedule goes on after its last letter, unless the pair is calm before."""
WITHIN_NS = 8 * NS_PER_S
"""How long after a letter the next one may come."""
SETTLED_NS = 4 * NS_PER_S
"""Longer than any wait of the searched pairs in which nobody decides anything, a fence that waits for its turn apart."""
PERIOD_NS = NS_PER_S
"""A healthy pair repeats itself after this: the first letter comes within one period."""
ROUTINE = (ProbeOwners, ProbeReference, BridgeAdvert, PublishStatus)


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a search goes. ``phase_ns`` shifts the grid; ``depth`` letters at most."""

    depth: int
    grid_ns: int = 500 * NS_PER_MS
    phase_ns: int = 0
    within_ns: int = WITHIN_NS
    tail_ns: int = TAIL_NS
    edges: bool = True
    """Whether 1 ms before and after every decision counts as a moment, too."""


@dataclass(slots=True)
class Step:
    """One letter of a schedule."""

    at_ns: int
    letter: str


@dataclass(slots=True)
class Outcome:
    """One schedule that was played to its end."""

    schedule: tuple[tuple[int, str], ...]
    violations: tuple[str, ...]
    decisions: tuple[int, ...] = ()


class DecisionLog(Checker):
    """When a core gave a command that a healthy pair does not give for ever."""

    name = "decisions"

    def __init__(self) -> None:
        self.at_ns: dict[int, None] = {}

    def command(self, node: str, command: WatcherCommand) -> None:
        """Anything but routine is a decision."""
        if type(command) not in ROUTINE:
            self.at_ns[self.world.scheduler.now_ns] = None


@dataclass(slots=True)
class Explorer:
    """Plays one pair. ``report`` takes every outcome; ``expired`` ends the search between two schedules."""

    configuration: Configuration
    limits: Limits
    report: Callable[[Outcome], None]
    expired: Callable[[], bool] = field(default=lambda: False)
    core: type[WatcherCore] = WatcherCore
    seen: SeenStates | None = None
    """States from which everything was explored already; None: nothing is taken for the same."""

    def prepare(self) -> tuple[World, DecisionLog]:
        """The pair, settled."""
        world = World(self.configuration.options(), self.core, all_checkers())
        for machine in world.machines.values():
            machine.kernel.clock_start_ns = CLOCK_START_NS
            machine.kernel.boot_at_ns = -CLOCK_START_NS
        log = DecisionLog()
        world.watch(log)
        world.run_until(READY_NS)
        return world, log

    def first_moments(self) -> list[int]:
        """When the first letter may come."""
        start_ns = READY_NS + self.limits.phase_ns
        return list(range(start_ns, start_ns + (PERIOD_NS if self.limits.depth == 1 else self.limits.grid_ns), self.limits.grid_ns))

    def units(self) -> list[Step]:
        """The first letters: each is a piece of work of its own."""
        return [Step(at_ns, letter) for at_ns in self.first_moments() for letter in self.letters()]

    def letters(self) -> tuple[str, ...]:
        """What may happen to this pair."""
        return letters(witness=self.configuration.witness, strict=self.configuration.mode.value == "strict", deep=self.limits.depth > 1)

    def explore(self, world: World, log: DecisionLog, step: Step, told: tuple[tuple[int, str], ...] = ()) -> None:
        """Let one letter happen, play that schedule to its end, and then every longer one that begins with it."""
        log.at_ns.clear()
        schedule = (*told, (step.at_ns, step.letter))
        strike(world, step)
        if len(schedule) >= self.limits.depth:  # nothing comes after it: this process need not stay where it is
            self.report(self._play_out(world, log, schedule))
            return
        outcome = in_a_copy(lambda: self._play_out(world, log, schedule))
        self.report(outcome)
        if outcome.violations:
            return
        for at_ns in self.moments(step.at_ns, outcome.decisions):
            world.run_until(at_ns)
            if self.expired() or (at_ns > step.at_ns + NS_PER_S and world.injector.active == 0 and world.calm.is_calm()):
                return  # calm again: what may follow is what may follow the beginning
            if self._known(world, "branch", self.limits.depth - len(schedule), (at_ns - step.at_ns) // NS_PER_S):
                continue
            for letter in self.letters():
                if self.expired():
                    return
                following = Step(at_ns, letter)
                in_a_child(lambda following=following: self.explore(world, log, following, schedule))  # type: ignore[misc]

    def _settled(self, world: World, log: DecisionLog) -> bool:
        """Each address has one owner, no fault is to end, and no core has decided anything for a while: nothing is to come."""
        quiet_ns = world.scheduler.now_ns - max(log.at_ns, default=0)
        for brain in world.brains.values():
            if brain.core is not None and brain.core.fence.next_deadline() is not None:
                return False
        passing = any(fault.for_ns for fault in world.injector.lasting)
        return quiet_ns > SETTLED_NS and not passing and all(len(owners) == 1 for owners in world.owners.values())

    def _known(self, world: World, *what: object) -> bool:
        """Was this state met before, with the same to come?"""
        if self.seen is None or world.violations:
            return False
        lasting = sorted(ending.text for ending in world.injector.lasting)
        return self.seen.met(fingerprint(world, str(self.configuration), lasting, *what))

    def moments(self, since_ns: int, decisions: tuple[int, ...]) -> list[int]:
        """The grid and the edges of every decision after the last letter."""
        limits = self.limits
        end_ns = since_ns + limits.within_ns
        first_ns = since_ns + limits.grid_ns
        times = set(range(first_ns, end_ns, limits.grid_ns))
        if limits.edges:
            for at_ns in decisions:
                times |= {at_ns - NS_PER_MS, at_ns + NS_PER_MS}
        return sorted(t for t in times if since_ns < t < end_ns)

    def _play_out(self, world: World, log: DecisionLog, schedule: tuple[tuple[int, str], ...]) -> Outcome:
        last_ns = schedule[-1][0]
        violations: list[str] = []
        try:
            for at_ns in range(last_ns + NS_PER_S, last_ns + self.limits.tail_ns + 1, NS_PER_S):
                world.run_until(at_ns)
                if world.violations or (at_ns > last_ns + 4 * NS_PER_S and self._settled(world, log)):
                    break
        except StormError as error:
            violations.append(f"storm: {error}")
        except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            violations.append(f"crash: {type(error).__name__}: {error}")
        violations += [str(violation) for violation in world.violations]
        return Outcome(schedule, tuple(violations), tuple(log.at_ns))


def strike(world: World, step: Step) -> None:
    """Let a letter happen at the world's present moment."""
    world.run_until(step.at_ns)
    world.injector.apply(fault_at(step.letter, step.at_ns))


def in_a_copy(play: Callable[[], Outcome]) -> Outcome:
    """Call ``play`` in a copy of this process and return what it came to; this process stays where it is."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        outcome = play()
        text = json.dumps([outcome.schedule, [v[:300] for v in outcome.violations[:5]], outcome.decisions[:200]])
        with os.fdopen(writer, "w") as pipe:
            pipe.write(text)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    schedule, violations, decisions = json.loads(text)
    return Outcome(tuple((at_ns, letter) for at_ns, letter in schedule), tuple(violations), tuple(decisions))


def in_a_child(work: Callable[[], None]) -> None:
    """Call ``work`` in a copy of this process and wait for it; its reports travel through the pipe that it inherited."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    os.waitpid(child, 0)


def play_schedule(configuration: Configuration, schedule: tuple[tuple[int, str], ...], core: type[WatcherCore] = WatcherCore) -> Outcome:
    """One schedule, from the beginning: how a finding is repeated and how it stays pinned."""
    outcomes: list[Outcome] = []
    explorer = Explorer(configuration, Limits(depth=len(schedule)), outcomes.append, core=core)
    world, log = explorer.prepare()
    for at_ns, letter in schedule:
        log.at_ns.clear()
        strike(world, Step(at_ns, letter))
    return explorer._play_out(world, log, schedule)


def work(explorer: Explorer, units: list[Step], done: Callable[[], None]) -> None:
    """Play units one after the other, each in a child of one settled pair; ``done`` after each that was not cut short."""
    world, log = explorer.prepare()
    gc.collect()
    gc.freeze()  # what is never freed is not copied when a child touches its reference count
    for step in units:
        if explorer.expired():
            return
        in_a_child(lambda step=step: explorer.explore(world, log, step))  # type: ignore[misc]
        if not explorer.expired():
            done()


def expires_at(end_s: float) -> Callable[[], bool]:
    """True from this moment of time.monotonic() on."""
    return lambda: time.monotonic() >= end_s
