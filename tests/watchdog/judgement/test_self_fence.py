"""A pair without a device (Promise 3c): both sides played against each other, with loss, clocks that differ and loops that hang."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest

from base.core import NS_PER_MS
from fencing.plan.settings import FenceSettings
from tests.watchdog.judgement.lab import Lab
from watchdog.config.model import BrainSettings, Mode, SelfFenceSettings
from watchdog.judgement import commands as c
from watchdog.judgement import events as e
from watchdog.judgement.self_fence import MARGIN_MS, SelfFence, SelfFenceFacts, WatchdogOrder, bound_ms

SETTINGS = SelfFenceSettings("b", after_ms=4_000, timeout_s=5)
S_NS = 1_000 * NS_PER_MS
QUIET = SelfFenceFacts(None, None, agreed=True, peer_feeds=False, peer_out=False, may_act=True)


def test_nothing_is_armed_before_the_other_node_has_acknowledged_the_arrangement():
    named = SelfFence(SETTINGS, "b")
    assert named.orders(0, QUIET) == []
    assert named.orders(0, replace(QUIET, acknowledged_ns=0, agreed=False)) == []
    assert named.orders(0, replace(QUIET, acknowledged_ns=0, may_act=False)) == [], "observe acts on nobody, itself included"
    assert named.orders(0, replace(QUIET, peer_out=True)) == []
    assert named.orders(0, replace(QUIET, acknowledged_ns=0)) == [WatchdogOrder.ARM]


def test_only_the_named_node_feeds_and_only_the_other_counts():
    facts = replace(QUIET, acknowledged_ns=0, heard_ns=0, peer_feeds=True)
    assert SelfFence(SETTINGS, "a").orders(0, facts) == []
    assert SelfFence(SETTINGS, "b").expires_ns(facts) is None
    assert SelfFence(None, "a").expires_ns(facts) is None
    assert SelfFence(SETTINGS, "a").expires_ns(facts) == 9_000 * NS_PER_MS + 18 * NS_PER_MS + MARGIN_MS * NS_PER_MS
    assert bound_ms(SETTINGS) * NS_PER_MS >= SelfFence(SETTINGS, "a").expires_ns(facts)  # type: ignore[operator]


@pytest.mark.parametrize("change", [{"agreed": False}, {"peer_feeds": False}, {"heard_ns": None}, {"may_act": False}, {"peer_out": True}])
def test_a_node_that_did_not_say_that_it_feeds_is_never_counted(change: dict[str, object]):
    facts = replace(QUIET, heard_ns=0, peer_feeds=True)
    assert SelfFence(SETTINGS, "a").expires_ns(replace(facts, **change)) is None  # type: ignore[arg-type]


def test_a_feeder_that_is_heard_too_late_is_fed_again():
    named = SelfFence(SETTINGS, "b")
    assert named.orders(0, replace(QUIET, acknowledged_ns=0)) == [WatchdogOrder.ARM]
    assert named.orders(5 * S_NS, replace(QUIET, acknowledged_ns=0)) == []
    assert named.starving_ns == 5 * S_NS
    assert named.orders(6 * S_NS, replace(QUIET, acknowledged_ns=6 * S_NS)) == [WatchdogOrder.FEED]
    assert named.starving_ns is None


def test_an_orderly_stop_disarms_only_when_the_other_node_knows():
    named = SelfFence(SETTINGS, "b")
    named.orders(0, replace(QUIET, acknowledged_ns=0))
    stopping = replace(QUIET, acknowledged_ns=0, stopping_ns=S_NS)
    assert named.orders(S_NS, stopping) == []
    assert named.orders(S_NS, replace(stopping, acknowledged_ns=S_NS + 1)) == [WatchdogOrder.DISARM]
    assert named.orders(S_NS, replace(stopping, acknowledged_ns=S_NS + 1)) == []


def test_a_peer_that_stopped_in_order_or_is_proved_off_leaves_the_named_node_alive():
    named = SelfFence(SETTINGS, "b")
    named.orders(0, replace(QUIET, acknowledged_ns=0))
    alone = replace(QUIET, acknowledged_ns=0, peer_out=True)
    for second in range(1, 60):
        named.orders(second * S_NS, alone)
    assert named.starving_ns is None
    assert named.resets_ns(alone) is None


def test_a_reload_that_takes_the_arrangement_away_disarms_when_the_peer_knows():
    """The peer counts on the watchdog until it has acknowledged the new settings."""
    released = SelfFence(None, "b", armed=True)
    assert released.orders(0, QUIET) == []
    assert released.orders(S_NS, replace(QUIET, acknowledged_ns=S_NS)) == [WatchdogOrder.DISARM]
    assert released.orders(S_NS, replace(QUIET, acknowledged_ns=S_NS)) == []


def test_a_reload_that_keeps_it_feeds_on():
    kept = SelfFence(SETTINGS, "b", armed=True)
    assert kept.orders(S_NS, QUIET) == [], "not before the new session is acknowledged"
    assert kept.orders(2 * S_NS, replace(QUIET, acknowledged_ns=2 * S_NS)) == [WatchdogOrder.FEED]


# --- both, against a model of the world ---


@dataclass
class Machine:
    """The named node's machine: the watchdog resets it ``W`` after the last feed, whatever the loop does."""

    alive: bool = True
    armed: bool = False
    fed_ns: int = 0
    died_ns: int | None = None

    def obey(self, now_ns: int, orders: list[WatchdogOrder]) -> None:
        for order in orders:
            self.armed = order is not WatchdogOrder.DISARM
            self.fed_ns = now_ns

    def tick(self, now_ns: int) -> None:
        if self.alive and self.armed and now_ns - self.fed_ns > SETTINGS.timeout_s * S_NS:
            self.alive, self.died_ns = False, now_ns


@pytest.mark.parametrize("seed", range(400))
def test_the_named_node_is_gone_before_the_other_may_count_it(seed: int):
    """Any loss in either direction, any hang of the named loop, rates that differ by 0.2 %; the line is cut for good at some time."""
    random = Random(seed)
    rate = 1 + random.choice((-1, 0, 1)) / 500
    named, other, machine = SelfFence(SETTINGS, "b"), SelfFence(SETTINGS, "a"), Machine()
    cut = {direction: random.uniform(2, 30) * S_NS for direction in ("to a", "to b")}
    loss = random.choice((0.0, 0.2, 0.6))
    hang = (random.uniform(0, 30) * S_NS, random.choice((0, 0, 2, 20)) * S_NS)
    acknowledged_ns: int | None = None
    heard: tuple[int, int, bool] | None = None  # when (a's clock), which frame (b's clock), SELF_FENCING
    expired_ns: int | None = None
    for step in range(1, 4_000):
        now_ns = step * 20 * NS_PER_MS
        b_ns = int(now_ns * rate)
        machine.tick(now_ns)
        hung = hang[0] <= now_ns < hang[0] + hang[1]
        if machine.alive and not hung:
            machine.obey(now_ns, named.orders(b_ns, replace(QUIET, acknowledged_ns=acknowledged_ns)))
            if step % 10 == 0 and now_ns < cut["to a"] and random.random() >= loss:
                heard = (now_ns, b_ns, named.armed)
        if step % 10 == 5 and heard is not None and now_ns < cut["to b"] and random.random() >= loss and not hung:
            acknowledged_ns = max(acknowledged_ns or 0, heard[1])
        facts = replace(QUIET, heard_ns=heard[0] if heard else None, peer_feeds=bool(heard and heard[2]))
        expires_ns = other.expires_ns(facts)
        if expires_ns is not None and now_ns >= expires_ns:
            expired_ns = now_ns
            break
    if expired_ns is None:
        assert heard is None or not heard[2], "a node that fed and fell silent is counted in the end"
    else:
        assert not machine.alive, "counted gone while it lives"


def test_the_model_can_fail():
    """A margin that is too short by the whole watchdog timeout is found by the same play."""
    facts = replace(QUIET, heard_ns=0, peer_feeds=True)
    expires_ns = SelfFence(replace(SETTINGS, timeout_s=2), "a").expires_ns(facts)
    assert expires_ns is not None
    machine = Machine(armed=True, fed_ns=int(3.9 * S_NS))
    machine.tick(expires_ns)
    assert machine.alive, "with 2 s for 5 s it would still live when it is counted gone"


# --- two whole watchers ---


def pair(mode: Mode = Mode.STRICT) -> Lab:
    def tweak(settings: BrainSettings) -> BrainSettings:
        return replace(settings, self_fence=SelfFenceSettings("b", after_ms=4_000, timeout_s=5), fence=FenceSettings())

    lab = Lab(mode, tweak=tweak)
    lab.run(20)
    return lab


def make_b_the_owner(lab: Lab) -> None:
    lab.nodes["a"].vrrp.priority, lab.nodes["b"].vrrp.priority = 100, 200
    lab.tell(lab.nodes["a"], e.OperatorActed(e.OperatorAction.HANDOVER, "test", subject="51/4"))
    lab.run_until(lambda: lab.owner_names() == "b", 60)
    lab.run(60)
    assert lab.owner_names() == "b"


def status(lab: Lab, node: str, key: str) -> Any:
    document: Any = lab.nodes[node].core.snapshot()
    return document[key]


def test_a_quiet_pair_is_fed_for_ever_and_says_so():
    lab = pair()
    lab.run(120)
    assert lab.nodes["b"].bitten_ns is None
    assert status(lab, "a", "self_fence")["armed"] is True
    assert not lab.nodes["a"].commands(c.OperateWatchdog)
    assert lab.owner_names() == "a"


def test_a_total_cut_resets_the_named_standby_and_the_owner_serves_on():
    lab = pair()
    lab.cut_everything()
    lab.run(30)
    assert lab.nodes["b"].bitten_ns is not None
    assert lab.owner_names() == "a"
    assert "reset itself" in status(lab, "a", "peer")["proved_off"]


def test_a_total_cut_resets_the_named_owner_and_strict_hands_over_without_a_device():
    """Never two owners, and the other one serves within the bound."""
    lab = pair()
    make_b_the_owner(lab)
    lab.most_owners = 0
    lab.cut_everything()
    took_s = lab.run_until(lambda: lab.owner_names() == "a", 60)
    assert lab.nodes["b"].bitten_ns is not None
    assert lab.most_owners == 1
    assert took_s * 1_000 <= bound_ms(SETTINGS) + 8_000


def test_a_dead_peer_costs_the_named_node_its_service_as_check_says():
    lab = pair()
    make_b_the_owner(lab)
    lab.power_off(lab.nodes["a"])
    lab.run(30)
    assert lab.nodes["b"].bitten_ns is not None
    assert lab.owner_names() == ""


def test_an_orderly_stop_of_the_other_node_leaves_the_named_one_alone():
    lab = pair()
    make_b_the_owner(lab)
    lab.tell(lab.nodes["a"], e.Stopping())
    lab.run(1)
    lab.nodes["a"].braind = False
    lab.run(60)
    assert lab.nodes["b"].bitten_ns is None
    assert lab.owner_names() == "b"


def test_observe_arms_nothing():
    lab = pair(Mode.OBSERVE)
    lab.cut_everything()
    lab.run(60)
    assert lab.nodes["b"].bitten_ns is None
    assert not lab.nodes["b"].commands(c.OperateWatchdog)
