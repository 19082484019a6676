"""The fitter node serves: cases J1, T2, T3, T9, S3 and promise 4, with two real cores back to back (lab.py)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.watchdog.judgement.lab import Lab, Node
from watchdog.config.model import BrainSettings, Mode
from watchdog.judgement import commands as c
from watchdog.judgement import events as e

PLAIN_VRRP_S = 3.61
"""Master down interval of the backup, from the last advert that it heard."""
EXCHANGE_S = 0.4


def daemon(kind: str):  # type: ignore[no-untyped-def]
    def tweak(settings: BrainSettings) -> BrainSettings:
        return replace(settings, gate=replace(settings.gate, daemon=kind))

    return tweak


def settled(mode: Mode, kind: str = "keepalived", seconds: float = 10) -> Lab:
    lab = Lab(mode, tweak=daemon(kind))
    lab.run(seconds)
    return lab


def a(lab: Lab) -> Node:
    return lab.nodes["a"]


def b(lab: Lab) -> Node:
    return lab.nodes["b"]


def serving(lab: Lab, cut: str) -> str:
    """Who serves clients: owners whose port lives."""
    return "".join(name for name in lab.owner_names() if name != cut)


@pytest.mark.parametrize("offset_ms", [0, 300, 650, 990])
@pytest.mark.parametrize("kind", ["keepalived", "vrrpd"])
def test_a_dead_port_is_served_by_the_other_node_as_soon_as_by_plain_vrrp(kind: str, offset_ms: int) -> None:
    """Case J1: carrier up, heartbeats on eth1 and serial live; bridged adverts must not hold the standby back."""
    lab = settled(Mode.RESOLVE, kind, 10 + offset_ms / 1_000)
    lab.cut_port("a")
    took_s = lab.run_until(lambda: serving(lab, "a") == "b", 10)
    assert took_s <= PLAIN_VRRP_S + EXCHANGE_S
    lab.run(30)
    assert lab.owner_names() == "b", "and the sick node has let go"
    assert not a(lab).offs() and not b(lab).offs()


@pytest.mark.parametrize("offset_ms", [0, 300, 650, 990])
def test_strict_the_sicker_owner_releases(offset_ms: int) -> None:
    lab = settled(Mode.STRICT, seconds=10 + offset_ms / 1_000)
    start_ns = lab.now
    lab.cut_port("a")
    granted = lambda: any(at > start_ns and x.state is c.GateState.GRANTED for at, x in b(lab).sent if isinstance(x, c.SetGate))  # noqa: E731
    assert lab.run_until(granted, 10) <= PLAIN_VRRP_S + EXCHANGE_S
    lab.run(10)
    assert lab.owner_names() == "b"
    assert not any(len(owners) > 1 for _, owners in lab.owners)


@pytest.mark.parametrize("mode", list(Mode))
def test_a_page_names_the_dead_port(mode: Mode) -> None:
    lab = settled(mode)
    lab.cut_port("a")
    lab.run(10)
    for node in lab.nodes.values():
        pages = [str(p["summary"]) for p in node.alerts() if "UNFIT_OWNER" in str(p["summary"]) or "SPLIT_BRAIN" in str(p["summary"])]
        assert pages, node.name
        assert any("eth0" in page for page in pages)
    assert any("gateway" in str(p["summary"]) for p in a(lab).alerts())
    if mode is Mode.OBSERVE:
        assert not a(lab).commands(c.RemoveAddress)


@pytest.mark.parametrize("mode", [Mode.RESOLVE, Mode.STRICT])
def test_it_comes_back_when_the_port_is_mended(mode: Mode) -> None:
    lab = settled(mode)
    lab.cut_port("a")
    lab.run(20)
    lab.mend_port("a")
    lab.run(30)
    assert len(lab.owner_names()) == 1
    if mode is Mode.RESOLVE:
        assert a(lab).gate is c.GateState.OPEN
    for node in lab.nodes.values():
        assert node.core.snapshot()["groups"][0]["verdict"] == "HEALTHY"  # type: ignore[index,call-overload]
        assert len(node.alerts("resolve")) == len({p["dedup_key"] for p in node.alerts()})


@pytest.mark.parametrize("mode", [Mode.RESOLVE, Mode.STRICT])
def test_a_gateway_that_reboots_moves_nothing(mode: Mode) -> None:
    """Both nodes lose the reference, at times that differ by up to its interval."""
    for offset_ms in range(0, 1_000, 130):
        lab = settled(mode)
        a(lab).reference = False
        lab.run(offset_ms / 1_000)
        b(lab).reference = False
        lab.run(30)
        a(lab).reference = b(lab).reference = True
        lab.run(10)
        assert lab.owner_names() == "a"
        assert not a(lab).commands(c.RemoveAddress)
        assert [owners for _, owners in lab.owners] == [], "it never moved"


@pytest.mark.parametrize("mode", [Mode.RESOLVE, Mode.STRICT])
def test_a_standby_that_cannot_take_leaves_it_where_it_is_and_pages(mode: Mode) -> None:
    lab = settled(mode)
    lab.daemon(b(lab), e.DaemonState.STOPPED)
    lab.run(2)
    lab.cut_port("a")
    lab.run(20)
    assert lab.owner_names() == "a"
    assert any("UNFIT_OWNER" in str(p["summary"]) for p in a(lab).alerts())


def test_a_node_that_the_peer_does_not_hear_keeps_the_address() -> None:
    """The peer could not know that it may take it."""
    lab = settled(Mode.STRICT)
    lab.cut_port("a")
    lab.cut("path eth1 a>b", "path tty a>b")
    lab.run(8)
    assert lab.owner_names() == "a"


def test_open_evidence_never_moves_an_address_back_and_forth() -> None:
    """A stranger who can silence answers of references: away once, and not back within the hour."""
    lab = settled(Mode.STRICT)
    a(lab).reference = False
    lab.run(20)
    assert lab.owner_names() == "b"
    a(lab).reference, b(lab).reference = True, False
    lab.run(60)
    assert lab.owner_names() == "b"
    assert any("UNFIT_OWNER" in str(p["summary"]) for p in b(lab).alerts())


def test_moves_for_health_are_bounded() -> None:
    lab = settled(Mode.RESOLVE)
    for _ in range(6):
        a(lab).reference = False
        lab.run(30)
        a(lab).reference = True
        lab.run(60)
    moves = [owners for _, owners in lab.owners if owners == ("b",)]
    assert len(moves) == 3
    assert lab.owner_names() == "b", "it rests where it is fit"


@pytest.mark.parametrize("offset_ms", [0, 400, 800])
def test_the_newest_word_counts_over_a_bridge(offset_ms: int) -> None:
    """Case S3: the guardian says priority 0 for a killed daemon; an older advert from another path does not put the takeover off."""
    lab = settled(Mode.RESOLVE, "vrrpd", 10 + offset_ms / 1_000)
    lab.advert(a(lab), 0)
    lab.hold(a(lab), False)
    a(lab).vrrp.state = "dead"
    lab.daemon(a(lab), e.DaemonState.STOPPED)
    assert lab.run_until(lambda: lab.owner_names() == "b", 5) <= 0.65


def test_an_address_by_hand_on_the_standby_makes_nobody_deaf() -> None:
    """Case T11: the address was put there by hand, the daemon never took it; when the owner's daemon freezes, the standby takes over."""
    lab = settled(Mode.RESOLVE)
    lab.hold(b(lab), True)
    lab.run(10)
    assert lab.owner_names() == "a"
    assert b(lab).gate is c.GateState.OPEN
    lab.daemon(a(lab), e.DaemonState.HUNG)
    assert lab.run_until(lambda: "b" in lab.owner_names(), 10) < 5


def test_a_held_loser_is_let_go_when_the_keeper_is_less_fit() -> None:
    """Protocol 112 is dropped, so b was asked to yield; then a's port dies altogether."""
    lab = settled(Mode.RESOLVE)
    lab.cut_adverts()
    lab.run(20)
    assert (lab.owner_names(), b(lab).gate) == ("a", c.GateState.HELD)
    lab.cut_port("a")
    lab.run(12)
    assert lab.owner_names() == "b"


def test_groups_are_judged_by_their_own_interface() -> None:
    """Case T3: the reference on the other LAN answers; it says nothing about this one."""
    lab = settled(Mode.OBSERVE)
    state = a(lab).core.state
    view = next(iter(state.groups.values()))
    gateway = a(lab).settings.references[0]
    other = replace(gateway, name="outside", interface=replace(gateway.interface, values=(("a", "eth9"),)))
    state.surroundings.references["outside"] = type(state.surroundings.references["gateway"])(other, "eth9", lab.now)
    state.surroundings.answered(lab.now, "outside", "02:00:00:00:00:99", True)
    assert state.group_health(lab.now, view).score == 255
    lab.cut_port("a")
    for _ in range(30):
        lab.run(0.2)
        state.surroundings.answered(lab.now, "outside", "02:00:00:00:00:99", True)
    assert state.group_health(lab.now, view).score < 255


@pytest.mark.parametrize("mode", [Mode.RESOLVE])
def test_nopreempt_the_serving_node_keeps_it(mode: Mode) -> None:
    """Case T9: b owns it, the daemons do not preempt, adverts are cut: it stays at b."""

    lab = Lab(mode, held_at_start=False)
    for node in lab.nodes.values():
        node.group = replace(node.group, preempt=False)
        lab.tell(node, e.GroupsChanged((node.group,)))
    b(lab).vrrp.down_ns = lab.now
    lab.run(1)
    assert lab.owner_names() == "b"
    lab.run(12)
    assert lab.owner_names() == "b"
    lab.cut_adverts()
    lab.run(20)
    assert lab.owner_names() == "b"
    lab.heal()
    lab.run(20)
    assert lab.owner_names() == "b"


def test_a_hold_ends_when_the_peer_lets_go_of_the_group() -> None:
    """Case S4: after a handover the new owner's daemon is killed; its guardian says priority 0, and the old hold ends at once."""
    lab = settled(Mode.RESOLVE, "vrrpd")
    lab.tell(a(lab), e.OperatorActed(e.OperatorAction.HANDOVER, "root", subject="51/4"))
    lab.run(6)
    assert (lab.owner_names(), a(lab).gate) == ("b", c.GateState.HELD)
    lab.advert(b(lab), 0)
    lab.hold(b(lab), False)
    b(lab).vrrp.state = "dead"
    lab.daemon(b(lab), e.DaemonState.STOPPED)
    assert lab.run_until(lambda: a(lab).gate is c.GateState.OPEN, 5) < 0.5
    lab.run(5)
    assert lab.owner_names() == "a"
