"""The turn on a shared disk: every schedule of two nodes, writes that land late, stalled reads, a crash at any step and a restart.

The real DiskTurn on a disk of the real layout. A turn that was won is held until its time, also when its process is gone: what the process
ordered may still take effect. The invariant: never two at once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from base.core import NS_PER_MS
from watchdog.witness.lease.slots import Record, Stamp, slot_offset
from watchdog.witness.lease.taking import (
    LOOK_AGAIN_MS,
    MARGIN_MS,
    DiskTurn,
    ReadOther,
    Step,
    Wait,
    Watched,
    Won,
    WriteOwn,
    Yielded,
    others_end_ns,
    own_end_ns,
)

TICK_MS = 1_000
LEASE_MS = 1_500
"""Held for the tick in which it was won and the next one; gone for who watches it after two."""


@dataclass
class Side:
    """One machine: the process (None after a crash), the step under way and how far it is."""

    turn: DiskTurn | None
    step: Step | None = None
    landed: bool = False
    sample: Any = None
    held_until_ns: int = -1
    takes: int = 0
    incarnation: int = 1

    def copy(self) -> Side:
        new = copy.copy(self)
        if self.turn is not None:
            new.turn = copy.copy(self.turn)
            new.turn.other, new.turn.earlier = copy.copy(self.turn.other), copy.copy(self.turn.earlier)
        return new

    def signature(self) -> tuple[Any, ...]:
        turn = self.turn
        mind: tuple[Any, ...] = ()
        if turn is not None:
            times = (turn.counter, turn.until_ns, turn._phase, turn._start_ns, turn._contest_end_ns)
            mind = (*times, _watched(turn.other), _watched(turn.earlier))
        return mind, self.step, self.landed, self.sample, self.held_until_ns, self.takes, self.incarnation


def _watched(watched: Watched) -> tuple[Any, ...]:
    return watched.record, watched.mark, watched.since_ns


@dataclass
class World:
    now: int
    sides: tuple[Side, Side]
    disk: dict[int, Record] = field(default_factory=dict)
    late: tuple[Record, ...] = ()
    """Writes of dead processes that the storage has not carried out yet."""
    crashes: int = 0

    def copy(self) -> World:
        return World(self.now, (self.sides[0].copy(), self.sides[1].copy()), dict(self.disk), self.late, self.crashes)

    def newest(self, node: int) -> tuple[Record | None, bytes]:
        own = sorted((at, r) for at, r in self.disk.items() if r.node == node)
        newest = max((r for _, r in own), key=lambda r: r.stamp, default=None)
        return newest, b" ".join(b"%d.%d" % (r.stamp.incarnation, r.stamp.counter) for _, r in own)

    def signature(self) -> int:
        sides = tuple(side.signature() for side in self.sides)
        return hash((self.now, sides, tuple(sorted(self.disk.items())), self.late, self.crashes))


@dataclass(frozen=True)
class Limits:
    ticks: int
    takes: int
    crashes: int


def start(kind: type[DiskTurn]) -> World:
    sides = (Side(kind(0, True, 1)), Side(kind(1, False, 1)))
    world = World(0, sides)
    for side in sides:
        _see(world, side)
    return world


def _see(world: World, side: Side) -> None:
    turn = side.turn
    assert turn is not None
    turn.other.see(world.now, *world.newest(1 - turn.node))
    if not turn.counter:
        turn.earlier.see(world.now, *world.newest(turn.node))


def following(world: World, limits: Limits, kind: type[DiskTurn]) -> Iterator[tuple[str, World]]:
    if world.now < limits.ticks * TICK_MS * NS_PER_MS:
        new = world.copy()
        new.now += TICK_MS * NS_PER_MS
        yield "tick", new
    for i in range(len(world.late)):
        new = world.copy()
        record = new.late[i]
        new.late = new.late[:i] + new.late[i + 1 :]
        new.disk[slot_offset(record.node, record.stamp)] = record
        yield f"late write of {record.node} lands", new
    for me in (0, 1):
        side = world.sides[me]
        for name in actions(side, world, limits):
            new = world.copy()
            act(new, new.sides[me], me, name, kind)
            yield f"{name} {me}", new


def actions(side: Side, world: World, limits: Limits) -> list[str]:
    if side.turn is None:
        return ["restart"]
    names = []
    if side.step is None:
        if side.takes < limits.takes:
            names.append("take")
        if side.turn.until_ns is not None:
            names.append("give back")
        if side.turn.other.mark != world.newest(1 - side.turn.node)[1]:
            names.append("look")
    elif isinstance(side.step, ReadOther):
        names.append("read ends" if side.sample is not None else "read samples")
    elif isinstance(side.step, WriteOwn):
        names.append("write ends" if side.landed else "write lands")
    else:
        names.append("waited")
    if world.crashes < limits.crashes:
        names.append("crash")
    return names


def act(world: World, side: Side, me: int, name: str, kind: type[DiskTurn]) -> None:
    now, turn = world.now, side.turn
    if name == "crash":
        if isinstance(side.step, WriteOwn) and not side.landed:
            world.late = (*world.late, side.step.record)
        world.crashes += 1
        side.turn, side.step, side.landed, side.sample = None, None, False, None
        return
    if name == "restart":
        side.incarnation += 1
        side.turn = kind(me, me == 0, side.incarnation)
        _see(world, side)
        return
    assert turn is not None
    step: Step | None = None
    if name == "take":
        side.takes += 1
        step = turn.take(now, LEASE_MS)
    elif name == "give back":
        side.held_until_ns = -1
        step = turn.give_back(now)
    elif name == "look":
        _see(world, side)
        return
    elif name == "read samples":
        side.sample = (world.newest(1 - me), world.newest(me))
        return
    elif name == "read ends":
        other, own = side.sample
        side.sample = None
        turn.other.see(now, *other)
        if not turn.counter:
            turn.earlier.see(now, *own)
        step = turn.read(now)
    elif name == "write lands":
        assert isinstance(side.step, WriteOwn)
        world.disk[slot_offset(me, side.step.record.stamp)] = side.step.record
        side.landed = True
        return
    elif name == "write ends":
        side.landed = False
        step = turn.wrote(now)
    else:
        step = turn.waited(now)
    if isinstance(step, Won):
        side.held_until_ns = step.until_ns
    side.step = None if isinstance(step, Won | Yielded) else step


def both_hold(world: World) -> bool:
    return all(side.held_until_ns >= world.now for side in world.sides)


def search(limits: Limits, kind: type[DiskTurn] = DiskTurn, most: int = 400_000) -> tuple[int, int, list[str]]:
    """States seen, states in which somebody held the turn, and the first schedule that ends with two holders."""
    todo = [(start(kind), ())]
    seen: set[int] = set()
    held = 0
    while todo and len(seen) < most:
        world, path = todo.pop()
        for name, new in following(world, limits, kind):
            signature = new.signature()
            if signature in seen:
                continue
            seen.add(signature)
            held += any(side.held_until_ns >= new.now for side in new.sides)
            if both_hold(new):
                return len(seen), held, [*path, name]
            todo.append((new, (*path, name)))
    assert not todo, "the search was not finished: raise `most`"
    return len(seen), held, []


@pytest.mark.parametrize("limits", [Limits(3, 1, 0), Limits(2, 1, 1), Limits(1, 2, 0)], ids=str)
def test_never_two_hold_the_turn(limits: Limits) -> None:
    states, held, schedule = search(limits)
    assert schedule == []
    assert states > 1_000
    assert held > 100


class ReadsFirst(DiskTurn):
    """A bug: it looks, then claims, and does not look again."""

    def wrote(self, now_ns: int) -> Step:
        if self._phase == "leaving":
            return super().wrote(now_ns)
        self._phase, self.until_ns = "idle", own_end_ns(self._start_ns, self._lease_ms)
        return Won(self.until_ns)


class CountsFromTheEnd(DiskTurn):
    """A bug: its time begins when the write has ended, not before it was begun."""

    def wrote(self, now_ns: int) -> Step:
        self._start_ns = now_ns
        return super().wrote(now_ns)


class Impatient(DiskTurn):
    """A bug: a claim is old as soon as it was seen twice."""

    def read(self, now_ns: int) -> Step:
        if self.other.since_ns < now_ns:
            self.other.record = None
        return super().read(now_ns)


@pytest.mark.parametrize("kind", [ReadsFirst, CountsFromTheEnd, Impatient])
def test_the_search_finds_what_is_planted(kind: type[DiskTurn]) -> None:
    _, _, schedule = search(Limits(4, 1, 0), kind)
    assert schedule


# --- single steps ---


def fresh(first: bool, other: Record | None = None, since_ms: int = 0) -> DiskTurn:
    turn = DiskTurn(0, first, 1)
    turn.other.see(since_ms * NS_PER_MS, other, repr(other).encode())
    turn.earlier.see(0, None, b"")
    return turn


def claim(counter: int = 1, claims: bool = True) -> Record:
    return Record(1, Stamp(1, counter), claims, LEASE_MS)


def test_nobody_there_claim_look_won() -> None:
    turn = fresh(True)
    assert turn.take(0, LEASE_MS) == ReadOther()
    step = turn.read(5 * NS_PER_MS)
    assert step == WriteOwn(Record(0, Stamp(1, 1), True, LEASE_MS))
    assert turn.wrote(9 * NS_PER_MS) == ReadOther()
    assert turn.read(10 * NS_PER_MS) == Won(own_end_ns(5 * NS_PER_MS, LEASE_MS))


def test_a_claim_of_the_other_is_respected_until_it_has_stood_unchanged_for_its_time() -> None:
    turn = fresh(True, claim())
    turn.take(0, LEASE_MS)
    assert turn.read(others_end_ns(0, LEASE_MS)) == Yielded()
    turn.take(0, LEASE_MS)
    assert isinstance(turn.read(others_end_ns(0, LEASE_MS) + 1), WriteOwn)


@pytest.mark.parametrize("first", [True, False])
def test_when_both_claim_rank_2_takes_its_claim_back(first: bool) -> None:
    turn = fresh(first)
    turn.take(0, LEASE_MS)
    turn.read(0)
    turn.wrote(1)
    turn.other.see(2, claim(), b"claims")
    step = turn.read(2)
    if not first:
        assert step == WriteOwn(Record(0, Stamp(1, 2), False, LEASE_MS))
        return
    assert step == Wait(LOOK_AGAIN_MS)
    turn.waited(3)
    turn.other.see(4, claim(2, claims=False), b"took it back")
    assert isinstance(turn.read(4), Won)


def test_what_an_earlier_run_of_this_node_claimed_is_respected_too() -> None:
    turn = DiskTurn(0, True, 2)
    turn.other.see(0, None, b"")
    turn.earlier.see(0, Record(0, Stamp(1, 7), True, LEASE_MS), b"mine")
    turn.take(0, LEASE_MS)
    assert turn.read(1) == Yielded(own=True)


def test_nothing_read_yet_is_no_permission() -> None:
    assert Watched().claims(10**18)


def test_the_watcher_waits_longer_than_the_holder_counts_whatever_their_clocks_rates() -> None:
    for lease_ms in (2_000, 60_000, 600_000):
        holders_end = own_end_ns(0, lease_ms)
        watchers_end = others_end_ns(0, lease_ms)
        slowest, fastest = 0.999, 1.001  # a clock of 0.1 %
        assert holders_end / slowest <= watchers_end / fastest
        assert watchers_end - holders_end >= MARGIN_MS * NS_PER_MS
