"""Each hook overridden the wrong way must break the scenario that guards it: a scenario that cannot fail would prove nothing.

The first half of every test is the product, the second the altered core."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from base.core import NS_PER_MS
from fencing.plan.commands import FenceState
from fencing.plan.interlocks import Interlock
from tests.watchdog.judgement.lab import Lab
from watchdog.config.model import BrainSettings, Mode
from watchdog.judgement import commands as c
from watchdog.judgement.events import OpenFence
from watchdog.judgement.group_view import GroupView
from watchdog.judgement.watcher import WatcherCore


class NoCensus(WatcherCore):
    def census_needed(self, now_ns: int, view: GroupView) -> bool:
        return False


class NoAsking(WatcherCore):
    def should_ask(self, now_ns: int, view: GroupView) -> bool:
        return False


class NoFence(WatcherCore):
    def may_fence(self, now_ns: int) -> tuple[Interlock, ...]:
        return (Interlock.DISABLED,)


class TrustsClaims(WatcherCore):
    def trusts_claim(self, state: FenceState) -> bool:
        return state in (FenceState.CLAIMED, FenceState.PROVED)


class NoSecondLook(WatcherCore):
    def second_look(self, now_ns: int, refuted: bool) -> str:
        return ""


class NoBarrier(WatcherCore):
    def intent_needs_barrier(self) -> bool:
        return False


class NeverYields(WatcherCore):
    def should_yield(self, now_ns: int, view: GroupView) -> bool:
        return False


class ForgetsFences(WatcherCore):
    def remembers_open_fences(self) -> bool:
        return False


class NoDelay(WatcherCore):
    def turn_refusal(self, now_ns: int, act_ms: int) -> None:
        return None


class KeepsWhenIsolated(WatcherCore):
    def should_give_up(self, now_ns: int, view: GroupView) -> bool:
        return False


def orphan_all_is_ended(core: type[WatcherCore]) -> bool:
    lab = Lab(core=core)
    lab.run(10)
    lab.freeze(lab.nodes["a"], True)
    lab.run(40)
    return lab.owner_names() == "b"


def split_is_ended(core: type[WatcherCore]) -> bool:
    lab = Lab(core=core, fence=False)
    lab.run(10)
    lab.cut_adverts()
    lab.run(15)
    return lab.owner_names() == "a"


def unproved_fence_leaves_one_owner(core: type[WatcherCore]) -> bool:
    """strict; the device was never enrolled and does nothing; the cut is total."""

    def unenrolled(settings: BrainSettings) -> BrainSettings:
        levels = tuple(
            (target, tuple(replace(level, devices=tuple(replace(d, identity="") for d in level.devices)) for level in found))
            for target, found in settings.fence.levels
        )
        return replace(settings, fence=replace(settings.fence, levels=levels))

    lab = Lab(Mode.STRICT, core=core, tweak=unenrolled)
    lab.run(10)
    lab.deaf_levels = {1}
    lab.cut_everything()
    lab.run(60)
    return not any(len(owners) > 1 for _, owners in lab.owners)


def late_isolation_stops_the_fence(core: type[WatcherCore]) -> bool:
    """The node that waits loses its reference while it waits."""
    lab = Lab(core=core)
    lab.run(10)
    lab.crash(lab.nodes["a"])
    turns = lab.nodes["b"].core.state.contact.turns
    lab.run(5)
    lab.run_until(lambda: (turns.next_turn_ns(lab.now) or 0) - lab.now < 2_000 * NS_PER_MS, 40)
    lab.nodes["b"].reference = False
    lab.run(20)
    return not lab.nodes["b"].offs()


def fence_waits_for_the_disk(core: type[WatcherCore]) -> bool:
    lab = Lab(core=core)
    lab.run(10)
    for node in lab.nodes.values():
        node.recorder_delay_ms = 10_000
    lab.cut_everything()
    lab.run(30)
    return not any(node.offs() for node in lab.nodes.values())


def nobody_is_fenced_twice_over(core: type[WatcherCore]) -> bool:
    """Both see the total cut at the same time; devices need a second."""
    lab = Lab(core=core)
    lab.run(10)
    lab.fence_ms = 1_000
    lab.cut_everything()
    lab.run(40)
    return not all(node.offs() for node in lab.nodes.values())


def isolated_owner_lets_go(core: type[WatcherCore]) -> bool:
    lab = Lab(core=core, fence=False)
    lab.run(10)
    lab.cut_everything()
    lab.nodes["a"].reference = False
    lab.run(30)
    return lab.owner_names() == "b"


def open_fence_is_verified(core: type[WatcherCore]) -> bool:
    lab = Lab()
    lab.fence_ms = 3_000
    lab.run(10)
    lab.cut_everything()
    node = lab.nodes["a"]
    lab.run_until(lambda: bool(node.offs()), 20)
    order = node.offs()[0]
    node.braind = False
    lab.run(5)
    lab.restart_braind(node, core, open_fences=(OpenFence(order.order_id, "b", 1, 0),))
    lab.run(20)
    return node.fences()[-1] == "proved"


@pytest.mark.parametrize(
    ("holds", "altered"),
    [
        (orphan_all_is_ended, NoCensus),
        (split_is_ended, NoAsking),
        (orphan_all_is_ended, NoFence),
        (unproved_fence_leaves_one_owner, TrustsClaims),
        (late_isolation_stops_the_fence, NoSecondLook),
        (fence_waits_for_the_disk, NoBarrier),
        (split_is_ended, NeverYields),
        (nobody_is_fenced_twice_over, NoDelay),
        (isolated_owner_lets_go, KeepsWhenIsolated),
        (open_fence_is_verified, ForgetsFences),
    ],
    ids=lambda x: x.__name__,
)
def test_altered_core_is_found_out(holds: Callable[[type[WatcherCore]], bool], altered: type[WatcherCore]) -> None:
    assert holds(WatcherCore), "the product keeps it"
    assert not holds(altered), "the altered core breaks it"


def test_orders_come_after_their_intent() -> None:
    """The order of commands is a contract: Persist(barrier) of a level before RunFence off of it."""
    lab = Lab()
    lab.run(10)
    lab.cut_everything()
    lab.run(30)
    sent = [x for _, x in lab.nodes["a"].sent if isinstance(x, c.Persist | c.RunFence)]
    intent = next(i for i, x in enumerate(sent) if isinstance(x, c.Persist) and x.barrier is not None)
    act = next(i for i, x in enumerate(sent) if isinstance(x, c.RunFence) and x.action == "off")
    assert intent < act
