"""What a pair will do from now on, in 64 bits: two worlds with one fingerprint count as the same state.

Every value that the cores remember is looked at. A time is taken relative to the node's own clock, in steps of ``STEP_MS``, no older
than ``OLD_MS`` and no further away than ``FAR_MS``; numbers that only count up (frames, probes, orders), nonces, texts and the rhythm
of probes and readings are left out. That is an abstraction: states that differ by less are not told apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from base.core import NS_PER_MS, NS_PER_S
from watchdog.simulator.options import NODES

if TYPE_CHECKING:
    from watchdog.simulator.world import World

STEP_MS = 400
OLD_MS = 8_000
FAR_MS = 16_000
TIMES_FROM_NS = 10**16
"""Clocks of searched worlds start so late that no other number is as large as their times."""
CLOCK_START_NS = 10**17
COUNTERS = frozenset(
    {
        "number",
        "sequence",
        "_sequence",
        "_next",
        "_next_id",
        "_next_probe",
        "probe_id",
        "epoch",
        "_epoch",
        "incarnation",
        "newest_order_id",
        "order_id",
        "id",
        "dedup_key",
        "count",
        "_count",
        "_used",
        "started",
        "settings",
        "_settings",
        "last",
        "text",
        "summary",
        "reason",
        "detail",
        "_rows",
        "rows",
        "out",
        "_keys",
        "_codecs",
        "_codec",
        "nonce",
        "_nonce",
        "_window",
        "window",
        "_barrier",
        "barrier",
        "frames",
        "_in_a_row",
        "advert_sent_age_ms",
        "advert_heard_age_ms",
        "_sequences",
        "_rotation",
        "_peer_sent_ns",
        "counters",
        "_gaps_ns",
        "_offsets_ns",
        "grant_epoch",
        "grant_expires_ns",
        "sent",
        "errors",
        "due_ns",
        "packets",
        "_echoes",
        "_sent",
        "_order",
        "acknowledged",
        "_newest",
        "good_ns",
        "_orders",
        "took_ms",
        "asked_ns",
        "_asking_until_ns",
        "trial_due_ns",
        "_last_announce_ns",
    }
)
"""Attributes that only count, name, tell or beat time."""


def fingerprint(world: World, *more: object) -> bytes:
    """Eight bytes for the state of both nodes, what lies between them, and ``more`` that the caller knows."""
    parts: list[object] = list(more)
    for node in NODES:
        kernel, brain, vrrp = world.machines[node].kernel, world.brains[node], world.vrrp[node]
        now_ns = kernel.now_ns()
        parts += [node, kernel.powered, kernel.frozen, sorted((h.interface, h.address) for h in kernel.addresses), brain.hung]
        parts += [brain.life.value, vrrp.life.value, brain.recorder.stalls, brain.recorder.full, world.management_cut[node]]
        parts += [brain.settings.policy.mode.value, brain.settings.me.rank, brain.settings.fence.delay_ms]
        if brain.core is not None:
            parts += _values(brain.core, now_ns, 0, set())
        for instance in vrrp.instances.values():
            parts += _values(instance, now_ns, 0, set())
    for segment in world.segments.values():
        parts += [(link.cut, link.drop_vrrp, tuple(link.drop.items())) for link in segment.links.values()]
        parts += [(port.blocked, port.carrier) for port in segment.ports.values()]
    parts += [link.cut for link in world.serial.links.values()]
    parts += [(switch.habit.value, switch.acts_in_ms) for switch in world.switches.values()]
    parts += [gateway.silent for gateway in world.gateways.values()]
    parts += [world.witness.holder, tuple(world.witness.lost.values()), world.witness.slow]
    parts += [_aged(world, owners_since) for owners_since in world.observer.owned_since.values()]
    parts += [bool(times) for times in world.observer.powered_off.values()]
    parts.append(sorted((switch.name, node) for _, node, switch, _ in world.observer.off_calls))
    return blake2b(repr(parts).encode(), digest_size=8).digest()


def _aged(world: World, since_ns: int) -> int:
    """How long something has been so, in s, to 15."""
    return min(15, (world.scheduler.now_ns - since_ns) // NS_PER_S)


def _values(thing: Any, now_ns: int, level: int, seen: set[int]) -> Iterator[object]:
    """Everything that ``thing`` remembers, in a fixed order."""
    if isinstance(thing, Enum):
        yield thing.name
    elif isinstance(thing, bool | None):
        yield thing
    elif isinstance(thing, int):
        yield min(FAR_MS, max(-OLD_MS, (thing - now_ns) // NS_PER_MS)) // STEP_MS if thing > TIMES_FROM_NS else thing
    elif isinstance(thing, str):
        yield thing if len(thing) < 20 else ""
    elif isinstance(thing, dict):
        for key, value in thing.items():
            yield from _values(key, now_ns, level + 1, seen)
            yield from _values(value, now_ns, level + 1, seen)
    elif isinstance(thing, list | tuple):
        for value in thing:
            yield from _values(value, now_ns, level + 1, seen)
    elif hasattr(thing, "__class__") and type(thing).__module__.startswith(("watchdog.judgement", "watchdog.frames", "fencing.", "vrrp.")):
        if id(thing) in seen or level > 9:
            return
        seen.add(id(thing))
        for name in _names(type(thing), thing):
            if name not in COUNTERS and hasattr(thing, name):
                yield name
                yield from _values(getattr(thing, name), now_ns, level + 1, seen)


_SLOTS: dict[type, tuple[str, ...]] = {}


def _names(cls: type, thing: object) -> tuple[str, ...]:
    if cls not in _SLOTS:
        slots = [name for base in cls.__mro__ for name in getattr(base, "__slots__", ())]
        _SLOTS[cls] = tuple(dict.fromkeys(slots))
    return (*_SLOTS[cls], *getattr(thing, "__dict__", ()))
