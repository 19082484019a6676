"""The demo's scenarios with two real cores back to back (lab.py). Times are virtual, so bounds are tight and never flaky."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from base.core import NS_PER_MS
from tests.watchdog.judgement.lab import GROUP, MACS, VIP, Lab, Node, without_references
from watchdog.config.model import BrainSettings, LinkAddress, Mode
from watchdog.judgement import commands as c
from watchdog.judgement import events as e
from watchdog.judgement.group_view import GroupView
from watchdog.judgement.watcher import WatcherCore

MODES = list(Mode)
ACTING = [Mode.RESOLVE, Mode.STRICT]


def settled(mode: Mode = Mode.RESOLVE, **options: object) -> Lab:
    lab = Lab(mode, **options)  # type: ignore[arg-type]
    lab.run(10)
    return lab


def a(lab: Lab) -> Node:
    return lab.nodes["a"]


def b(lab: Lab) -> Node:
    return lab.nodes["b"]


def verdict_at(node: Node, verdict: str, stage: str, scope: str = "51/4") -> float:
    """ms of virtual time of the first such row."""
    return next(at for at, v, s in node.verdicts(scope) if (v, s) == (verdict, stage))


def overlap_ms(lab: Lab, since_ns: int) -> float:
    """How long both nodes' kernels held the VIP at once."""
    total, both_since = 0, None
    for at, owners in lab.owners:
        if at < since_ns:
            continue
        if both_since is not None:
            total += at - both_since
            both_since = None
        if len(owners) > 1:
            both_since = at
    if both_since is not None:
        total += lab.now - both_since
    return total / NS_PER_MS


def no_acts(lab: Lab) -> None:
    for node in lab.nodes.values():
        assert not node.offs()
        assert not node.commands(c.RemoveAddress)


# --- quiet and planned: nothing but HEALTHY, no page ---


@pytest.mark.parametrize("mode", MODES)
def test_quiet_pair_is_healthy_and_silent(mode: Mode) -> None:
    lab = Lab(mode)
    lab.run(240)
    for node in lab.nodes.values():
        assert [v for _, v, _ in node.verdicts()] == ["HEALTHY"]
        assert [v for _, v, _ in node.verdicts("pair")] == ["HEALTHY"]
        assert not node.alerts()
    no_acts(lab)
    assert lab.owner_names() == "a"


@pytest.mark.parametrize("mode", MODES)
def test_graceful_handover_pages_nobody(mode: Mode) -> None:
    lab = settled(mode)
    lab.release(a(lab))
    lab.run(20)
    assert lab.owner_names() == "b"
    for node in lab.nodes.values():
        assert not node.alerts()
        assert not any(stage == "confirmed" for _, _, stage in node.verdicts())
    no_acts(lab)


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.RESOLVE])
def test_preemption_after_a_restart_of_the_master_daemon_is_no_incident(mode: Mode) -> None:
    lab = settled(mode)
    lab.release(a(lab))
    lab.run(20)
    a(lab).vrrp.down_ns = lab.now + 10 * NS_PER_MS  # a higher-priority daemon that hears only lower adverts takes over
    lab.daemon(a(lab), e.DaemonState.RUNNING)
    lab.run(20)
    assert lab.owner_names() == "a"
    assert not a(lab).alerts()
    assert not b(lab).alerts()


def test_long_planned_overlap_is_a_split_after_all() -> None:
    """Promise 6 gives a grace, not an excuse: prio-0 adverts that repeat cannot hide two owners for ever."""
    lab = settled()
    lab.cut_adverts()

    def spam() -> None:
        lab.advert(b(lab), 0)
        lab.later(500, spam)

    lab.heal("adverts b>a")
    spam()
    lab.hold(b(lab), True)
    b(lab).vrrp.state = "stuck"
    lab.run(10)
    assert "SPLIT_BRAIN" in [v for _, v, s in a(lab).verdicts() if s == "confirmed"]


# --- two owners while a path lives ---


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.RESOLVE])
def test_cut_heartbeat_is_suspected_at_once_and_confirmed_after_a_census(mode: Mode) -> None:
    lab = settled(mode)
    start = lab.now
    lab.cut_adverts()
    lab.run_until(lambda: lab.owner_names() == "ab", 6)
    claimed_ms = lab.now / NS_PER_MS
    lab.run(10)
    for node in lab.nodes.values():
        suspected = verdict_at(node, "SPLIT_BRAIN", "suspected")
        confirmed = verdict_at(node, "SPLIT_BRAIN", "confirmed")
        assert suspected <= claimed_ms + 2
        assert 1_000 <= confirmed - suspected <= 1_400
        pages = node.alerts()
        assert len(pages) == 1
        assert "SPLIT_BRAIN" in str(pages[0]["summary"])
        assert not node.offs()
    assert a(lab).alerts()[0]["dedup_key"] == b(lab).alerts()[0]["dedup_key"]
    if mode is Mode.OBSERVE:
        no_acts(lab)
        assert lab.owner_names() == "ab"
        assert all(x.state is c.GateState.OPEN for x in b(lab).commands(c.SetGate))  # type: ignore[attr-defined]
        assert a(lab).commands(c.Announce), "the keeper re-announces even when it only observes"
        assert not b(lab).commands(c.Announce)
    else:
        assert lab.owner_names() == "a"
        assert overlap_ms(lab, start) < 1_500
        assert b(lab).gate is c.GateState.HELD
        assert a(lab).gate is c.GateState.OPEN
        assert not b(lab).commands(c.RemoveAddress), "the living daemon lets go by itself"


def test_after_the_heal_the_gate_opens_and_the_incident_is_resolved() -> None:
    lab = settled()
    lab.cut_adverts()
    lab.run(15)
    assert b(lab).gate is c.GateState.HELD
    lab.heal()
    lab.run(10)
    assert b(lab).gate is c.GateState.OPEN
    for node in lab.nodes.values():
        assert len(node.alerts("resolve")) == 1
        assert node.alerts("resolve")[0]["dedup_key"] == node.alerts()[0]["dedup_key"]
        assert node.core.snapshot()["incidents"] == []  # type: ignore[index,call-overload]
    assert lab.owner_names() == "a"


def test_a_loser_whose_daemon_is_deaf_is_not_opened_by_adverts_that_the_sniffer_hears() -> None:
    """A firewall behind the sniffer: the advert is on the wire, the daemon never gets it."""
    lab = settled()
    lab.cut("deaf b")
    lab.run(40)
    assert lab.owner_names() == "a"
    assert b(lab).gate is c.GateState.HELD
    claims = [at for at, owners in lab.owners if owners == ("a", "b")]
    assert len(claims) == 1, "no flapping while the daemon is deaf"
    lab.run(60)
    assert len([at for at, owners in lab.owners if owners == ("a", "b")]) == 2, "one trial after a minute"
    assert overlap_ms(lab, claims[-1] + 5_000 * NS_PER_MS) < 20, "and it is withdrawn at the daemon's first claim"
    lab.heal()
    lab.run(150)
    assert b(lab).gate is c.GateState.OPEN
    assert lab.owner_names() == "a"


def test_the_held_loser_takes_over_when_the_keeper_dies() -> None:
    lab = settled(fence=False)
    lab.cut_adverts()
    lab.run(15)
    lab.power_off(a(lab))
    lab.run(15)
    assert b(lab).gate is c.GateState.OPEN
    assert lab.owner_names() == "b"


def test_the_held_loser_stays_held_while_the_keepers_watcher_is_dead_but_its_kernel_answers() -> None:
    """Opening would make a split with nobody left to ask."""
    lab = settled(fence=False)
    lab.cut_adverts()
    lab.run(15)
    a(lab).braind = False
    lab.run(30)
    assert b(lab).gate is c.GateState.HELD
    assert lab.owner_names() == "a"


def test_one_way_loss_of_adverts() -> None:
    lab = settled()
    start = lab.now
    lab.cut("adverts a>b")
    lab.run(15)
    assert lab.owner_names() == "a"
    assert overlap_ms(lab, start) < 1_500
    assert not a(lab).offs()
    assert not b(lab).offs()


def test_ethernet_cut_serial_alive() -> None:
    lab = settled()
    start = lab.now
    lab.cut_adverts()
    lab.cut("path eth1", "arp")
    lab.run(20)
    assert lab.owner_names() == "a"
    assert overlap_ms(lab, start) < 1_500
    for node in lab.nodes.values():
        assert not node.offs()
        assert ("PATH_DEGRADED", "confirmed") in [(v, s) for _, v, s in node.verdicts("pair")]


def test_a_loser_that_never_lets_go_is_fenced_by_the_keeper() -> None:
    """The rung after asking in vain; here the loser's kernel refuses to give the address up."""

    class Stubborn(WatcherCore):
        def should_yield(self, now_ns: int, view: GroupView) -> bool:
            return False

    lab = settled(cores={"b": Stubborn})
    lab.cut_adverts()
    lab.run(20)
    assert a(lab).offs() and not b(lab).offs()
    assert a(lab).fences()[-1] == "proved"
    assert lab.owner_names() == "a"


def test_an_address_that_the_daemon_does_not_release_is_removed_by_the_watcher() -> None:
    lab = settled()
    lab.cut_adverts()
    original = lab.set_gate
    lab.set_gate = lambda node, state: None if node.name == "b" else original(node, state)  # type: ignore[method-assign]
    lab.run(20)
    assert lab.owner_names() == "a"
    removed = b(lab).commands(c.RemoveAddress)
    assert removed
    assert not a(lab).offs()


def test_a_fast_takeover_from_a_dead_master_is_no_split() -> None:
    """Adverts every 10 cs: the backup owns the VIP while the dead master's last report is still fresh."""

    def hasty(settings: BrainSettings) -> BrainSettings:
        return replace(settings, policy=replace(settings.policy, confirm_ms=100))

    lab = settled(tweak=hasty, fence=False)
    lab.power_off(a(lab))
    b(lab).vrrp.down_ns = lab.now + 100 * NS_PER_MS
    lab.run(20)
    assert "SPLIT_BRAIN" not in [v for _, v, stage in b(lab).verdicts() if stage == "confirmed"]
    assert lab.owner_names() == "b"


# --- nobody to ask ---


def test_total_cut_the_first_node_fences_and_the_other_never_acts() -> None:
    lab = settled()
    lab.cut_everything()
    lab.run(40)
    assert len(a(lab).offs()) == 1 and not b(lab).offs()
    assert a(lab).fences()[:2] == ["requested", "claimed"] and a(lab).fences()[-1] == "proved"
    assert lab.owner_names() == "a"
    assert not b(lab).kernel
    pages = [str(p["summary"]) for p in a(lab).alerts()]
    assert "PEER_DEAD" in pages[0] and "two owners are possible" in pages[0]
    assert "proved off" in pages[-1]


def test_after_a_fence_the_survivor_wins_the_neighbours_caches_back() -> None:
    """The fenced node had claimed the address on its side of the cut: without a new announcement clients send to a dead MAC."""
    lab = settled()
    lab.cut_everything()
    lab.run_until(lambda: "proved" in a(lab).fences(), 30)
    proved_ns = lab.now
    lab.run(3)
    acted_ns = min(at for at, command in a(lab).sent if isinstance(command, c.RunFence))
    announced = [at for at, command in a(lab).sent if isinstance(command, c.Announce)]
    assert [at for at in announced if acted_ns < at < proved_ns]
    assert [at for at in announced if at >= proved_ns]
    assert len(announced) <= 40


def test_total_cut_the_waiting_node_fences_a_peer_that_really_died() -> None:
    lab = settled()
    lab.crash(a(lab))
    lab.run(40)
    assert len(b(lab).offs()) == 1
    assert b(lab).fences()[-1] == "proved"
    waited_ms = next(at for at, x in b(lab).sent if isinstance(x, c.RunFence) and x.action == "off") / NS_PER_MS
    assert waited_ms - verdict_at(b(lab), "PEER_DEAD", "confirmed", "pair") >= 9_000


def test_strict_takes_over_only_after_the_proof() -> None:
    lab = settled(Mode.STRICT)
    lab.crash(a(lab))
    lab.run(30)
    proved_ns = next(at for at, row in b(lab).rows if row.kind is c.RowKind.FENCE and dict(row.fields)["state"] == "proved")
    granted_ns = next(at for at, x in b(lab).sent if isinstance(x, c.SetGate) and x.state is c.GateState.GRANTED)
    assert granted_ns >= proved_ns
    assert lab.owner_names() == "b"


@pytest.mark.parametrize("mode", ACTING)
def test_total_cut_without_management(mode: Mode) -> None:
    lab = settled(mode)
    lab.cut_everything()
    lab.cut("management")
    lab.run(200)
    for node in lab.nodes.values():
        assert not node.offs(), "the identity could not be read, so nothing was done"
        assert "proved" not in node.fences()
        assert any("a person must look" in str(p["summary"]) for p in node.alerts())
        assert node.alerts()[0]["dedup_key"] == a(lab).alerts()[0]["dedup_key"], "both nodes page one incident"
    if mode is Mode.STRICT:
        assert lab.owner_names() == "a"
        assert b(lab).gate is c.GateState.HELD
    else:
        assert lab.owner_names() == "ab"
        assert "two owners are possible" in str(b(lab).core.snapshot()["pair"]["reason"])  # type: ignore[index,call-overload]


@pytest.mark.parametrize("mode", ACTING)
@pytest.mark.parametrize("everything", [True, False], ids=["hang-all", "orphan-all"])
def test_node_whose_processes_are_gone_but_whose_kernel_answers_is_fenced(mode: Mode, everything: bool) -> None:
    lab = settled(mode)
    if everything:
        lab.freeze(a(lab), True)
    else:
        a(lab).vrrp.process = e.DaemonState.STOPPED
        a(lab).braind = False
    lab.run(40)
    assert len(b(lab).offs()) == 1
    assert b(lab).fences()[-1] == "proved"
    assert lab.owner_names() == "b"
    assert len({p["dedup_key"] for p in b(lab).alerts()}) == 1, "one incident that grows worse, not three"
    if mode is Mode.STRICT:
        assert not any(len(owners) > 1 for _, owners in lab.owners)


@pytest.mark.parametrize("mode", ACTING)
def test_lying_fence_is_refuted_and_the_second_level_proves(mode: Mode) -> None:
    lab = settled(mode, levels=2)
    lab.deaf_levels = {1}
    lab.freeze(a(lab), True)
    lab.run(60)
    fences = b(lab).fences()
    assert fences.index("refuted") < len(fences) - 1
    assert fences[-1] == "proved"
    assert not a(lab).kernel
    assert lab.owner_names() == "b"


def test_strict_never_grants_on_a_claim() -> None:
    """One level that was never enrolled and does nothing, while the hung node's kernel still answers: never proved."""
    lab = settled(Mode.STRICT, tweak=unenrolled)
    lab.deaf_levels = {1}
    lab.lying_status = True
    lab.freeze(a(lab), True)
    lab.run(120)
    assert "proved" not in b(lab).fences()
    assert b(lab).gate is c.GateState.HELD
    assert any("refuted" in str(p["summary"]) for p in b(lab).alerts())


def test_two_enrolled_readings_are_believed_and_whoever_contradicts_them_on_the_open_network_is_a_page() -> None:
    """Promise 3: anybody may answer for an address. A device that lies in action and status is the stated limit."""
    lab = settled(Mode.STRICT)
    lab.deaf_levels = {1}
    lab.lying_status = True
    lab.freeze(a(lab), True)
    lab.run(120)
    assert b(lab).gate is c.GateState.GRANTED
    assert any("in its name" in str(p["summary"]) for p in b(lab).alerts())


# --- one node's own trouble ---


def test_hang_the_loser_removes_what_its_hung_daemon_holds() -> None:
    lab = settled()
    start = lab.now
    lab.daemon(a(lab), e.DaemonState.HUNG)
    lab.run(20)
    assert lab.owner_names() == "b"
    assert overlap_ms(lab, start) < 1_500
    assert a(lab).commands(c.RemoveAddress)
    assert a(lab).gate is c.GateState.HELD
    assert not b(lab).offs()
    lab.daemon(a(lab), e.DaemonState.RUNNING)
    lab.run(10)
    assert a(lab).gate is c.GateState.OPEN
    assert len(lab.owner_names()) == 1


def test_strict_hang_is_an_orderly_takeover() -> None:
    lab = settled(Mode.STRICT)
    start = lab.now
    lab.daemon(a(lab), e.DaemonState.HUNG)
    lab.run(20)
    assert lab.owner_names() == "b"
    assert overlap_ms(lab, start) == 0
    assert not b(lab).offs()


@pytest.mark.parametrize("mode", MODES)
def test_orphan_is_removed_by_the_living_watcher(mode: Mode) -> None:
    lab = settled(mode)
    lab.daemon(a(lab), e.DaemonState.STOPPED)
    lab.run(20)
    assert any("ORPHAN_VIP" in str(p["summary"]) for p in a(lab).alerts())
    assert not a(lab).offs() and not b(lab).offs()
    if mode is Mode.OBSERVE:
        no_acts(lab)
    else:
        assert lab.owner_names() == "b"
        assert len(a(lab).commands(c.RemoveAddress)) == 1
        assert not a(lab).alerts("resolve"), "no standby: the incident stays open"
        lab.daemon(a(lab), e.DaemonState.RUNNING)
        lab.run(10)
        assert len(a(lab).alerts("resolve")) == 1


def test_a_supervisor_that_restarts_the_daemon_in_time_keeps_its_address() -> None:
    lab = settled()
    lab.daemon(a(lab), e.DaemonState.STOPPED)
    lab.later(300, lambda: lab.daemon(a(lab), e.DaemonState.RUNNING))
    lab.run(10)
    no_acts(lab)
    assert lab.owner_names() == "a"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("victim", ["a", "b"])
def test_dead_watcher_of_a_healthy_node_is_paged_and_not_fenced(mode: Mode, victim: str) -> None:
    lab = settled(mode)
    lab.nodes[victim].braind = False
    lab.run(30)
    alive = lab.nodes["b" if victim == "a" else "a"]
    assert [(p["severity"], "watcher is silent" in str(p["summary"])) for p in alive.alerts()] == [("warning", True)]
    no_acts(lab)
    assert lab.owner_names() == "a"
    lab.restart_braind(lab.nodes[victim])
    lab.run(15)
    assert len(alive.alerts("resolve")) == 1
    assert lab.owner_names() == "a"


@pytest.mark.parametrize("mode", MODES)
def test_stopped_watcher_distrusts_itself_afterwards(mode: Mode) -> None:
    """SIGSTOP for ten seconds, VRRP healthy: no fence, no verdict about the peer by the one that slept."""
    lab = settled(mode)
    node = a(lab)
    process = node.vrrp.process
    lab.freeze(node, True)
    node.vrrp.process = process  # only braind was stopped
    lab.run(10)
    lab.freeze(node, False)
    lab.run(15)
    no_acts(lab)
    assert not node.alerts(), "the sleeper pages nobody about its own sleep"
    assert lab.owner_names() == "a"


@pytest.mark.parametrize("mode", MODES)
def test_foreign_owner_is_paged_with_its_mac_and_never_answered_by_force(mode: Mode) -> None:
    lab = settled(mode)
    lab.foreign = "02:ff:ff:ff:ff:01"
    lab.run(20)
    for node in lab.nodes.values():
        assert len(node.alerts()) == 1
        assert "FOREIGN_OWNER" in str(node.alerts()[0]["summary"]) and "02:ff:ff:ff:ff:01" in str(node.alerts()[0]["summary"])
        assert not node.commands(c.SetGate)[1:], "no yield"
    no_acts(lab)
    assert a(lab).alerts()[0]["dedup_key"] == b(lab).alerts()[0]["dedup_key"]
    lab.foreign = None
    lab.run(15)
    assert len(a(lab).alerts("resolve")) == 1


VIRTUAL = "00:00:5e:00:01:33"


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.RESOLVE])
def test_two_nodes_behind_one_virtual_mac_are_a_split_like_any_other(mode: Mode) -> None:
    """With use_vmac both answer with the same MAC: K1 on each node, and K2 because a node does not hear its own macvlan."""
    lab = settled(mode)
    lab.virtual_mac = VIRTUAL
    lab.run(5)
    assert not any(node.alerts() for node in lab.nodes.values())
    lab.cut_adverts()
    lab.run_until(lambda: lab.owner_names() == "ab", 6)
    lab.run(10)
    for node in lab.nodes.values():
        assert 1_000 <= verdict_at(node, "SPLIT_BRAIN", "confirmed") - verdict_at(node, "SPLIT_BRAIN", "suspected") <= 1_400
        assert len(node.alerts()) == 1
    assert lab.owner_names() == ("ab" if mode is Mode.OBSERVE else "a")


@pytest.mark.parametrize("mode", MODES)
def test_a_third_host_behind_the_virtual_mac_is_found_by_its_second_answers(mode: Mode) -> None:
    lab = settled(mode)
    lab.virtual_mac = VIRTUAL
    lab.run(10)
    assert not any(node.alerts() for node in lab.nodes.values()), "one owner answers each request once"
    lab.twin = True
    lab.run(20)
    for node in lab.nodes.values():  # the backup by two answers to one request, the owner because its peer denies to be the one it hears
        (page,) = node.alerts()
        assert "FOREIGN_OWNER" in str(page["summary"]) and VIRTUAL in str(page["summary"])
        assert not [stage for _, verdict, stage in node.verdicts() if verdict == "SPLIT_BRAIN" and stage == "confirmed"]
    no_acts(lab)
    lab.twin = False
    lab.run(15)
    assert [len(node.alerts("resolve")) for node in lab.nodes.values()] == [1, 1]


# --- isolation ---


def isolate(lab: Lab, name: str) -> None:
    lab.cut_everything()
    lab.nodes[name].reference = False


def test_isolated_owner_gives_up_and_never_fences_in_resolve() -> None:
    lab = settled(fence=True)
    isolate(lab, "a")
    lab.cut("management")
    lab.run(30)
    assert lab.owner_names() == "b"
    assert not a(lab).offs()
    assert a(lab).gate is c.GateState.HELD
    assert "ISOLATED" in str(a(lab).alerts()[0]["summary"])
    lab.heal()
    a(lab).reference = True
    lab.run(30)
    assert len(lab.owner_names()) == 1


@pytest.mark.parametrize("mode", [Mode.OBSERVE])
def test_isolated_owner_keeps_its_address_when_it_only_observes(mode: Mode) -> None:
    lab = settled(mode)
    isolate(lab, "a")
    lab.run(30)
    assert VIP in a(lab).held
    no_acts(lab)


def test_without_references_nothing_is_judged_to_be_dead() -> None:
    lab = settled(tweak=without_references)
    lab.cut_everything()
    lab.run(60)
    for node in lab.nodes.values():
        assert ("UNKNOWN", "confirmed") in [(v, s) for _, v, s in node.verdicts("pair")]
        assert "PEER_DEAD" not in [v for _, v, _ in node.verdicts("pair")]
        assert node.alerts()
    no_acts(lab)


def test_both_lost_the_gateway_but_hear_each_other_one_keeps() -> None:
    lab = settled()
    a(lab).reference = b(lab).reference = False
    lab.run(15)
    assert lab.owner_names() == "a"
    no_acts(lab)


def test_carrier_loss_of_the_owner_while_serial_lives() -> None:
    lab = settled()
    lab.cut_everything()
    lab.heal("path tty")
    lab.tell(a(lab), e.CarrierChanged("eth0", False))
    lab.run(20)
    assert lab.owner_names() == "b"
    assert not a(lab).offs() and not b(lab).offs()


# --- restarts ---


def test_crash_between_intent_and_result_is_verified_and_not_repeated() -> None:
    lab = settled()
    lab.fence_ms = 3_000
    lab.cut_everything()
    lab.run_until(lambda: bool(a(lab).offs()), 20)
    order = a(lab).offs()[0]
    a(lab).braind = False
    lab.run(10)
    assert not b(lab).kernel, "the device acted although nobody heard its answer"
    open_fence = e.OpenFence(order.order_id, "b", 1, lab.now)
    before = len(a(lab).sent)
    lab.restart_braind(a(lab), open_fences=(open_fence,), recent_fence_wall_ns=(lab.now + 10**18,))
    lab.run(20)
    fresh = [x for _, x in a(lab).sent[before:] if isinstance(x, c.RunFence)]
    assert {x.action for x in fresh} == {"status"}
    states = [s for s in a(lab).fences() if s in ("unknown", "proved")]
    assert states[0] == "unknown" and states[-1] == "proved"


def test_crash_before_the_device_acted_ends_in_a_page_and_no_second_act() -> None:
    lab = settled()
    lab.cut("path eth1", "path tty")
    a(lab).braind = False
    lab.run(5)
    before = len(a(lab).sent)
    lab.restart_braind(a(lab), open_fences=(e.OpenFence("F-a-1-1", "b", 1, lab.now),))
    lab.run(60)
    fresh = [x for _, x in a(lab).sent[before:] if isinstance(x, c.RunFence)]
    assert {x.action for x in fresh} <= {"status"}
    assert any("a person must look" in str(p["summary"]) for p in a(lab).alerts())
    assert b(lab).kernel


def test_fenced_node_returns_quarantined_and_nobody_is_fenced_again() -> None:
    lab = settled()
    lab.cut_everything()
    lab.run(30)
    assert not b(lab).kernel
    lab.heal()
    b(lab).kernel = True
    b(lab).vrrp.process = e.DaemonState.RUNNING
    b(lab).vrrp.state = "backup"
    b(lab).gate = None
    offs = len(a(lab).offs())
    lab.restart_braind(b(lab), same_boot=False)
    lab.run(20)
    assert b(lab).core.snapshot()["quarantined"] is True  # type: ignore[index,call-overload]
    assert b(lab).gate is c.GateState.HELD
    lab.cut_everything()
    lab.run(60)
    assert not b(lab).offs(), "a quarantined node fences nobody"
    assert VIP not in b(lab).held
    assert len(a(lab).offs()) <= offs + 1


def test_one_frame_of_the_peer_is_enough_to_stop_a_fence() -> None:
    """A path that was silent counts as working only after several frames; the first one already proves life (Promise 5)."""
    lab = settled()
    lab.cut_everything()
    a(lab).recorder_delay_ms = 400  # the act waits for its intent
    lab.run_until(lambda: a(lab).core.fence.session is not None, 10)
    lab.heal("path eth1")
    lab.run(0.25)
    lab.cut("path eth1")
    assert a(lab).core.fence.session is None
    assert not a(lab).offs()


def test_a_stall_before_the_second_look_delays_the_fence_and_does_not_lose_it() -> None:
    """Promise 8: what was believed before the stall does not fence; what is heard after it does."""
    lab = settled()
    lab.crash(a(lab))
    b(lab).recorder_delay_ms = 400  # the act waits for its intent
    lab.run_until(lambda: b(lab).core.fence.session is not None, 40)
    lab.run(0.05)
    lab.freeze(b(lab), True)
    lab.run(0.7)
    lab.freeze(b(lab), False)
    thawed_ns = lab.now
    assert not b(lab).offs()
    lab.run(10)
    acted_ns = next(at for at, x in b(lab).sent if isinstance(x, c.RunFence) and x.action == "off")
    assert acted_ns - thawed_ns >= 1_250 * NS_PER_MS
    assert b(lab).fences()[-1] == "proved"


def unenrolled(settings: BrainSettings) -> BrainSettings:
    """No device was ever bound to its node."""
    levels = tuple(
        (target, tuple(replace(level, devices=tuple(replace(d, identity="") for d in level.devices)) for level in found))
        for target, found in settings.fence.levels
    )
    return replace(settings, fence=replace(settings.fence, levels=levels))


def test_quarantine_is_cleared_by_a_person_only() -> None:
    lab = Lab(held_at_start=False)
    lab.run(1)
    lab.restart_braind(b(lab), quarantined=True, same_boot=False)
    lab.run(30)
    assert b(lab).gate is c.GateState.HELD
    lab.tell(b(lab), e.OperatorActed(e.OperatorAction.CLEAR_QUARANTINE, "root"))
    lab.run(10)
    assert b(lab).gate is c.GateState.OPEN


def test_strict_cold_boot_ends_with_exactly_one_grant() -> None:
    lab = Lab(Mode.STRICT, held_at_start=False)
    lab.run(30)
    assert lab.owner_names() == "a"
    assert [n.gate for n in lab.nodes.values()] == [c.GateState.GRANTED, c.GateState.HELD]
    assert not any(len(owners) > 1 for _, owners in lab.owners)


def test_strict_takes_over_from_a_master_in_a_fault_that_cannot_be_seen() -> None:
    """A stock keepalived whose track script failed: it runs, it has a grant, and it will not be master."""
    lab = settled(Mode.STRICT)
    lab.advert(a(lab), 0)
    a(lab).vrrp.state = "broken"
    lab.hold(a(lab), False)
    lab.run(30)
    assert lab.owner_names() == "b"
    assert a(lab).gate is c.GateState.HELD


def test_a_loser_that_refuses_for_a_moment_is_asked_again_and_not_fenced() -> None:
    """Two nodes may see different figures for a moment; a refusal is not yet asking in vain."""

    class Reluctant(WatcherCore):
        refusals = 2

        def should_yield(self, now_ns: int, view: GroupView) -> bool:
            self.refusals -= 1
            return self.refusals < 0 and super().should_yield(now_ns, view)

    lab = settled(cores={"b": Reluctant})
    lab.cut_adverts()
    lab.run(20)
    assert lab.owner_names() == "a"
    assert not a(lab).offs()


def test_strict_restart_of_the_watcher_keeps_mastership() -> None:
    lab = settled(Mode.STRICT)
    a(lab).braind = False
    lab.run(3)
    lab.restart_braind(a(lab))
    lab.run(15)
    assert lab.owner_names() == "a"
    assert all(x.state is c.GateState.GRANTED for x in a(lab).commands(c.SetGate))  # type: ignore[attr-defined]


def test_a_loser_whose_watcher_restarts_stays_held() -> None:
    lab = settled()
    lab.cut_adverts()
    lab.run(15)
    b(lab).braind = False
    lab.run(3)
    lab.restart_braind(b(lab))
    lab.run(30)
    assert lab.owner_names() == "a"
    assert len([1 for _, owners in lab.owners if len(owners) > 1]) == 1, "only the split of the cut itself"


# --- budget, persons, maintenance ---


def test_a_used_up_budget_latches_and_pages() -> None:
    lab = settled()
    walls = tuple(lab.now + 10**18 for _ in range(3))
    a(lab).braind = False
    lab.run(1)
    lab.restart_braind(a(lab), recent_fence_wall_ns=walls)
    lab.run(10)
    lab.cut_everything()
    lab.run(5)
    assert not a(lab).offs()
    assert any("budget" in str(p["summary"]) for p in a(lab).alerts())
    assert a(lab).core.snapshot()["fence"]["budget"]["left"] == 0  # type: ignore[index,call-overload]


def test_maintenance_neither_pages_nor_fences() -> None:
    lab = settled()
    lab.tell(a(lab), e.OperatorActed(e.OperatorAction.MAINTENANCE_ON, "root", until_ms=60_000))
    lab.run(1)
    lab.power_off(b(lab))
    lab.run(30)
    assert not a(lab).alerts()
    assert not a(lab).offs()
    lab.run(40)
    assert a(lab).alerts(), "when it is over, what is wrong is paged"


def test_orderly_stop_of_the_peers_watcher_is_no_reason_to_fence() -> None:
    lab = settled()
    lab.tell(b(lab), e.Stopping())
    lab.run(0.5)
    lab.power_off(b(lab))
    lab.run(40)
    assert not a(lab).offs()


def test_a_peer_in_maintenance_may_vanish_without_a_page() -> None:
    lab = settled()
    lab.tell(b(lab), e.OperatorActed(e.OperatorAction.MAINTENANCE_ON, "root", until_ms=600_000))
    lab.run(1)
    lab.power_off(b(lab))
    lab.run(40)
    assert not a(lab).alerts()
    assert not a(lab).offs()
    assert a(lab).core.snapshot()["pair"]["verdict"] == "PEER_DEAD"  # type: ignore[index,call-overload]


def test_a_vip_that_is_configured_later_is_known_to_be_held_already() -> None:
    lab = settled()
    lab.tell(a(lab), e.AddressChanged("eth0", "10.0.0.200", True))
    group = replace(a(lab).group, addresses=(LinkAddress("eth0", VIP), LinkAddress("eth0", "10.0.0.200")))
    lab.tell(a(lab), e.GroupsChanged((group,)))
    assert a(lab).core.snapshot()["groups"][0]["held"] == [VIP, "10.0.0.200"]  # type: ignore[index,call-overload]


def test_urgent_beats_leave_a_serial_line_time_to_send_them() -> None:
    lab = settled()
    lab.cut_adverts()
    lab.run(10)
    for node in lab.nodes.values():
        sent = [at for at, x in node.sent if isinstance(x, c.SendFrame) and x.path == "tty"]
        assert min(later - at for at, later in itertools.pairwise(sent)) >= 66 * NS_PER_MS


def test_a_person_may_vouch_for_a_dead_peer_in_strict() -> None:
    lab = settled(Mode.STRICT, fence=False)
    lab.power_off(a(lab))
    lab.run(20)
    assert b(lab).gate is c.GateState.HELD and lab.owner_names() == ""
    lab.tell(b(lab), e.OperatorActed(e.OperatorAction.CONFIRM_OFF, "uid 0 (root)", subject="a"))
    lab.run(6)
    assert lab.owner_names() == "b"


def test_nobody_may_vouch_for_a_peer_that_is_heard() -> None:
    lab = settled(Mode.STRICT)
    lab.tell(b(lab), e.OperatorActed(e.OperatorAction.CONFIRM_OFF, "root", subject="a"))
    lab.run(6)
    assert b(lab).gate is c.GateState.HELD


@pytest.mark.parametrize("mode", ACTING)
def test_ordered_handover(mode: Mode) -> None:
    lab = settled(mode)
    lab.tell(a(lab), e.OperatorActed(e.OperatorAction.HANDOVER, "root", subject="51/4"))
    lab.run(9)
    assert lab.owner_names() == "b"
    assert not a(lab).alerts() and not b(lab).alerts()
    no_acts(lab)
    lab.run(60)
    assert lab.owner_names() == "b", "a preempting daemon does not take it back behind the operator"


def test_manual_fence_needs_no_verdict_but_a_durable_intent() -> None:
    lab = settled()
    lab.tell(a(lab), e.OperatorActed(e.OperatorAction.FENCE_OFF, "root", subject="b"))
    lab.run(10)
    assert len(a(lab).offs()) == 1
    assert a(lab).fences()[0] == "requested" and a(lab).fences()[-1] == "proved"


def test_slow_recorder_means_we_are_sick_and_nothing_is_fenced() -> None:
    lab = settled()
    a(lab).recorder_delay_ms = 3_000
    lab.cut_everything()
    lab.run(8)
    assert not a(lab).offs()
    assert any("durable" in str(p["summary"]) for p in a(lab).alerts())


# --- the wire ---


def with_vrrpd(settings: BrainSettings) -> BrainSettings:
    return replace(settings, gate=replace(settings.gate, daemon="vrrpd"))


def test_observe_holds_no_backup_by_bridged_adverts() -> None:
    lab = settled(Mode.OBSERVE, tweak=with_vrrpd)
    lab.cut_adverts()
    lab.run(3)
    assert not b(lab).commands(c.BridgeAdvert)


def test_adverts_bridged_to_vrrpd_rest_on_really_sent_ones() -> None:
    lab = settled(tweak=with_vrrpd)
    lab.cut_adverts()
    lab.run(2)
    bridged = [x for x in b(lab).commands(c.BridgeAdvert) if isinstance(x, c.BridgeAdvert)]
    assert bridged
    assert all(x.priority == 150 and x.age_ms <= 1_100 and x.valid_ms == 3_000 for x in bridged)
    assert not a(lab).commands(c.BridgeAdvert), "the master is told nothing"
    a(lab).vrrp.process = e.DaemonState.HUNG  # sends no more: what it sent grows old, and so says every report
    lab.run(5)
    count = len(b(lab).commands(c.BridgeAdvert))
    lab.run(3)
    assert len(b(lab).commands(c.BridgeAdvert)) == count


def test_stock_keepalived_is_never_told_of_adverts() -> None:
    lab = settled()
    lab.cut_adverts()
    lab.run(3)
    assert not b(lab).commands(c.BridgeAdvert)


def test_misconfigured_adverts_are_named() -> None:
    lab = settled(Mode.OBSERVE)
    lab.cut_adverts()
    event = e.AdvertHeard("eth0", GROUP, 150, "10.0.0.1", MACS["a"], False, 1_000, (VIP,), "wrong password")
    for step in range(60):
        lab.later(step * 1_000, lambda: lab.tell(b(lab), event))
    lab.run(2)
    assert ("MISCONFIGURED", "suspected") in [(v, s) for _, v, s in b(lab).verdicts()]
    lab.run(10)
    assert any("SPLIT_BRAIN" in str(p["summary"]) and "wrong password" in str(p["summary"]) for p in b(lab).alerts())


def test_garbage_on_every_path_is_counted_and_changes_nothing() -> None:
    lab = settled()
    before = b(lab).verdicts()
    for size in range(0, 200, 7):
        lab.tell(b(lab), e.BytesReceived("eth1", bytes(range(256))[:size]))
        lab.tell(b(lab), e.BytesReceived("tty", bytes(range(256))[:size]))
        lab.tell(b(lab), e.BytesReceived("no such path", b"x"))
    lab.run(5)
    assert b(lab).verdicts() == before
    paths = b(lab).core.snapshot()["paths"]  # type: ignore[index,call-overload]
    assert sum(sum(p["rejects"].values()) for p in paths) >= 50  # type: ignore[union-attr,index,misc,call-overload]


def test_frames_of_another_key_prove_nothing() -> None:
    lab = Lab(cores={"b": lambda settings, key: WatcherCore(settings, key=b"another key, 32 bytes of it.....")})
    lab.run(15)
    assert ("UNKNOWN", "confirmed") in [(v, s) for _, v, s in a(lab).verdicts("pair")] or (
        "PATH_DEGRADED",
        "confirmed",
    ) in [(v, s) for _, v, s in a(lab).verdicts("pair")]
    no_acts(lab)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seen_running", [True, False], ids=["lost", "never-found"])
def test_a_wrong_pid_file_never_costs_a_healthy_master_its_address(mode: Mode, seen_running: bool) -> None:
    """The operating system says "no such process", but this host goes on sending adverts: somebody tends the address."""
    lab = settled(mode)
    if not seen_running:
        lab.restart_braind(a(lab))
        lab.run(0.1)
    lab.tell(a(lab), e.LocalDaemonChanged(e.DaemonState.STOPPED, "no pid file"))
    if seen_running:  # the death of a process that was held by a pidfd is certain: only the grace of a supervisor protects it
        lab.tell(a(lab), e.LocalDaemonChanged(e.DaemonState.RUNNING))
        lab.tell(a(lab), e.LocalDaemonChanged(e.DaemonState.STOPPED, "no pid file"))
        lab.advert(a(lab), 150)
        lab.run(0.3)
        lab.advert(a(lab), 150)
    lab.run(20)
    assert not a(lab).commands(c.RemoveAddress)
    assert lab.owner_names() == "a"
    assert not [p for p in a(lab).alerts() if "ORPHAN" in str(p["summary"])]


# --- fence devices, long before they are needed ---


def test_a_fence_device_that_died_is_paged_before_the_fence_and_closed_when_it_is_back() -> None:
    """D7. The last level of the peer is gone: critical on both nodes; nothing is done about it; the page ends with its reason."""
    lab = Lab(Mode.RESOLVE)
    lab.run(60)
    lab.cut("management")
    lab.run(420)
    for node in lab.nodes.values():
        (alert,) = node.alerts()
        assert alert["severity"] == "critical"
        (device,) = node.core.snapshot()["fence"]["devices"]  # type: ignore[index, call-overload]
        assert device["state"] == "unreachable"  # type: ignore[index, call-overload]
    lab.heal()
    lab.run(420)
    for node in lab.nodes.values():
        assert len(node.alerts("resolve")) == 1
    no_acts(lab)
    assert lab.owner_names() == "a"


def test_one_level_of_two_that_reads_another_identity_is_a_warning() -> None:
    lab = Lab(Mode.RESOLVE, levels=2)
    lab.identities["pdu1-b"] = "somebody else's outlet"
    lab.run(240)
    (alert,) = lab.nodes["a"].alerts()
    assert alert["severity"] == "warning"
    assert not lab.nodes["b"].alerts()
