"""The last possible owner never gives up, and the loss of the last owner is paged: cases J2, J2b, J3, J5b, T4, N7 (lab.py)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.watchdog.judgement.lab import VIP, Lab, Node
from watchdog.config.model import BrainSettings, GroupKey, LinkAddress, Mode, PathKind, PathSettings
from watchdog.judgement import events as e
from watchdog.judgement.commands import RowKind
from watchdog.judgement.durable_facts import DurableFacts, durable_facts

ACTING = [Mode.RESOLVE, Mode.STRICT]


def a(lab: Lab) -> Node:
    return lab.nodes["a"]


def b(lab: Lab) -> Node:
    return lab.nodes["b"]


def settled(mode: Mode, **options: object) -> Lab:
    lab = Lab(mode, **options)  # type: ignore[arg-type]
    lab.run(10)
    return lab


def critical(node: Node) -> list[str]:
    return [str(p["summary"]) for p in node.alerts() if p["severity"] == "critical"]


def lost(node: Node) -> list[str]:
    return [text for text in critical(node) if "nobody is known to serve" in text]


@pytest.mark.parametrize("mode", ACTING)
def test_who_knows_the_peer_to_be_off_keeps_its_address_when_the_gateway_reboots(mode: Mode) -> None:
    """Case J3."""
    lab = settled(mode)
    lab.power_off(b(lab))
    lab.run_until(lambda: bool(a(lab).core.state.peer_proved_off), 60)
    lab.run(10)
    a(lab).reference = False
    lab.run(30)
    assert lab.owner_names() == "a"
    a(lab).reference = True
    lab.run(10)
    assert lab.owner_names() == "a"


@pytest.mark.parametrize("mode", ACTING)
@pytest.mark.parametrize("daemon_first", [True, False])
def test_who_saw_the_peer_stop_in_order_keeps_its_address(mode: Mode, daemon_first: bool) -> None:
    """Case T4: the last frame says that the watcher stops; its daemon had ended before, or its kernel falls silent while ours works."""
    lab = settled(mode)
    if daemon_first:
        lab.release(b(lab))
        lab.run(0.5)
    lab.tell(b(lab), e.Stopping())
    lab.run(0.5)
    lab.power_off(b(lab))
    lab.run(15)
    a(lab).reference = False
    lab.run(30)
    assert lab.owner_names() == "a"
    assert not a(lab).offs()


def test_an_isolated_owner_that_does_not_know_the_peer_still_gives_up() -> None:
    lab = settled(Mode.RESOLVE)
    lab.cut_everything()
    lab.cut("management")
    a(lab).reference = False
    lab.run(30)
    assert lab.owner_names() == "b"


@pytest.mark.parametrize("mode", ACTING)
def test_who_gives_up_beside_a_peer_that_was_never_proved_off_says_so(mode: Mode) -> None:
    """Case J3, devices that prove nothing: PEER_DEAD is open and worse than ISOLATED, and must not hide that nobody serves now."""
    lab = settled(mode, fence=False)
    lab.power_off(b(lab))
    lab.run(20)
    a(lab).reference = False
    lab.run(30)
    assert lab.owner_names() == ""
    (page,) = lost(a(lab))
    assert "gave it up" in page


@pytest.mark.parametrize("held", [False, True])
def test_strict_takes_what_a_peer_released_before_it_stopped(held: bool) -> None:
    """Case J2: the VRRP daemon ends, then its watcher, then the power; ``held``: the watcher had held the group before."""
    lab = settled(Mode.STRICT, fence=False)
    if held:
        lab.tell(a(lab), e.OperatorActed(e.OperatorAction.HANDOVER, "root", subject="51/4"))
        lab.run(0.05)
    lab.release(a(lab))
    lab.run(0.3)
    lab.tell(a(lab), e.Stopping())
    lab.run(0.2)
    lab.power_off(a(lab))
    lab.run(15)
    assert lab.owner_names() == "b"
    assert not any(len(owners) > 1 for _, owners in lab.owners)


def test_strict_takes_what_a_machine_released_that_shuts_down() -> None:
    """Case J2: systemd stops the watcher first; it knows that the machine goes down, and lets go itself."""
    lab = settled(Mode.STRICT, fence=False)
    lab.tell(a(lab), e.Stopping(shutdown=True))
    lab.run(0.3)
    a(lab).braind = False
    lab.release(a(lab))
    lab.run(0.2)
    lab.power_off(a(lab))
    lab.run_until(lambda: lab.owner_names() == "b", 12)
    assert not any(len(owners) > 1 for _, owners in lab.owners)


def test_strict_pages_when_the_owner_goes_without_a_release() -> None:
    """Case J2: the watcher stops first, so nobody can say that the daemon has let go."""
    lab = settled(Mode.STRICT, fence=False)
    lab.tell(a(lab), e.Stopping())
    lab.run(0.2)
    a(lab).braind = False
    lab.release(a(lab))
    lab.run(0.2)
    lab.power_off(a(lab))
    lab.run(25)
    assert lab.owner_names() in ("", "b")
    assert lab.owner_names() == "b" or lost(b(lab))


@pytest.mark.parametrize("mode", ACTING)
def test_maintenance_excuses_work_and_not_the_loss_of_the_last_owner(mode: Mode) -> None:
    """Case J2b: the owner dies in its own maintenance window, and no device can say that it is off."""
    lab = settled(mode, fence=False)
    lab.tell(a(lab), e.OperatorActed(e.OperatorAction.MAINTENANCE_ON, "root", until_ms=20_000))
    lab.run(1)
    lab.power_off(a(lab))
    lab.run(25)
    if mode is Mode.STRICT:
        (page,) = lost(b(lab))
        assert "fence off a" in page and "fence ack a" in page
        lab.tell(b(lab), e.OperatorActed(e.OperatorAction.CONFIRM_OFF, "root", subject="a"))
        lab.run(10)
        assert len(b(lab).alerts("resolve")) >= 1
    else:
        assert not lost(b(lab))
    assert lab.owner_names() == "b"


def test_only_one_node_boots_after_a_power_cut() -> None:
    """Case J5b."""
    lab = Lab(Mode.STRICT, held_at_start=False, fence=False)
    lab.power_off(a(lab))
    lab.run(40)
    (page,) = lost(b(lab))
    assert "fence off a" in page and "fence ack a" in page and VIP in page
    assert lab.owner_names() == ""


@pytest.mark.parametrize("mode", ACTING)
def test_a_fence_that_brings_the_owner_back_is_no_loss(mode: Mode) -> None:
    lab = settled(mode)
    lab.power_off(a(lab))
    lab.run(40)
    assert lab.owner_names() == "b"
    assert not lost(b(lab))


def test_a_split_that_nothing_ends_is_paged_once_more() -> None:
    lab = settled(Mode.RESOLVE, fence=False)
    lab.cut_everything()
    lab.heal("arp")
    lab.run(60)
    assert lab.owner_names() == "ab"
    assert len([text for text in critical(a(lab)) if "nothing has ended it" in text]) == 1


def test_a_yield_that_does_not_stick_is_a_failed_yield() -> None:
    """Case T6: b's daemon does not obey its gate and puts the address back whenever braind has removed it."""
    lab = settled(Mode.RESOLVE)
    lab.cut_adverts()
    gate = lab.set_gate
    lab.set_gate = lambda node, state: None if node.name == "b" else gate(node, state)  # type: ignore[method-assign]

    def again() -> None:
        if b(lab).kernel and b(lab).vrrp.state == "master":
            lab.hold(b(lab), True)
        lab.later(800, again)

    again()
    lab.run(25)
    assert any("cannot hold the VRRP daemon" in text for text in critical(b(lab)))
    assert a(lab).offs() and not b(lab).offs()
    assert lab.owner_names() == "a"


# --- no standby (N7) ---


def warnings(node: Node) -> list[str]:
    return [str(p["summary"]) for p in node.alerts() if p["severity"] == "warning"]


@pytest.mark.parametrize("mode", list(Mode))
def test_a_daemon_that_is_gone_on_the_standby_is_told(mode: Mode) -> None:
    lab = settled(mode)
    lab.daemon(b(lab), e.DaemonState.STOPPED)
    lab.run(18)
    assert not warnings(a(lab)), "it may be an upgrade"
    lab.run(5)
    for node in lab.nodes.values():
        (page,) = warnings(node)
        assert "no standby for VI_1" in page and "VRRP daemon" in page
    lab.daemon(b(lab), e.DaemonState.RUNNING)
    lab.run(10)
    assert len(a(lab).alerts("resolve")) == 1


def test_adverts_that_do_not_reach_the_standby_are_told() -> None:
    """Protocol 112 is still dropped after a yield."""
    lab = settled(Mode.RESOLVE)
    lab.cut_adverts()
    lab.run(90)
    assert lab.owner_names() == "a"
    assert any("no standby for VI_1" in text or "NO_STANDBY" in text for text in [*warnings(a(lab)), str(a(lab).core.snapshot()["groups"])])  # type: ignore[index,call-overload]
    assert a(lab).core.snapshot()["groups"][0]["verdict"] == "NO_STANDBY"  # type: ignore[index,call-overload]


def three_paths(settings: BrainSettings) -> BrainSettings:
    return replace(settings, paths=(*settings.paths, PathSettings("eth2", PathKind.ETHERNET, "third-net")))


def test_the_incident_follows_a_second_path_that_is_lost() -> None:
    lab = settled(Mode.RESOLVE, tweak=three_paths)
    lab.cut("path eth1")
    lab.run(10)
    assert len(warnings(a(lab))) == 1
    lab.cut("path tty")
    lab.run(10)
    first, second = warnings(a(lab))
    assert "tty" in second and "tty" not in first
    lab.heal()
    lab.run(15)
    assert len(a(lab).alerts("resolve")) == 1


def test_one_cause_behind_one_port_is_one_page() -> None:
    lab = settled(Mode.OBSERVE)
    second = LinkAddress("eth0", "10.0.0.101")
    for node in lab.nodes.values():
        other = replace(node.group, key=GroupKey(52, 4), name="VI_2", addresses=(second,))
        lab.tell(node, e.GroupsChanged((node.group, other)))
    lab.tell(a(lab), e.AddressChanged(second.interface, second.address, True))
    lab.run(3)
    lab.daemon(b(lab), e.DaemonState.STOPPED)
    lab.run(50)
    verdicts = [group["verdict"] for group in a(lab).core.snapshot()["groups"]]  # type: ignore[index,call-overload]
    assert verdicts == ["NO_STANDBY", "NO_STANDBY"]
    assert len(warnings(a(lab))) == 1


def durable(node: Node) -> DurableFacts:
    """What the node's record would give to its next run."""
    rows = [dict(row.fields) for _, row in node.rows if row.kind is RowKind.NODE]
    return durable_facts({str(row["key"]): row["value"] for row in rows})


@pytest.mark.parametrize("mode", ACTING)
def test_the_last_owner_knows_over_a_restart_of_its_watcher_that_the_peer_stopped_in_order(mode: Mode) -> None:
    """An upgrade of braind while the peer is under repair; then the gateway reboots."""
    lab = settled(mode, fence=False)
    lab.release(b(lab))
    lab.tell(b(lab), e.Stopping())
    lab.run(0.5)
    lab.power_off(b(lab))
    lab.run(15)
    lab.restart_braind(a(lab), durable=durable(a(lab)))
    lab.run(15)
    a(lab).reference = False
    lab.run(30)
    assert lab.owner_names() == "a"


def test_what_the_run_before_knew_of_the_peer_ends_when_it_is_heard_and_with_the_boot() -> None:
    lab = settled(Mode.RESOLVE, fence=False)
    gone = replace(durable(b(lab)), peer_gone=True, ended_in_order=True)
    lab.restart_braind(b(lab), durable=gone)
    assert b(lab).core.state.peer_is_gone
    lab.run(10)
    assert not b(lab).core.state.peer_is_gone and not durable(b(lab)).peer_gone
    lab.cut_everything()
    lab.restart_braind(b(lab), durable=gone, same_boot=False)
    assert not b(lab).core.state.peer_is_gone


@pytest.mark.parametrize("mode", ACTING)
@pytest.mark.parametrize("how", ["a person", "the devices"])
def test_a_suspect_node_takes_over_when_the_peer_is_proved_off(mode: Mode, how: str) -> None:
    """The whole site lost its power and only b comes back: docs/FENCING.md and the page itself name `brainctl fence ack a`."""
    lab = settled(mode, fence=how == "the devices")
    lab.power_off(a(lab))
    a(lab).powered = how == "a person"
    crashed = replace(durable(b(lab)), ended_in_order=False)
    b(lab).held.clear()
    b(lab).vrrp.state = "backup"
    lab.restart_braind(b(lab), same_boot=False, durable=crashed)
    assert b(lab).core.state.suspect
    if how == "a person":
        lab.run(30)
        assert b(lab).core.state.suspect and lost(b(lab)) and not b(lab).held
        lab.tell(b(lab), e.OperatorActed(e.OperatorAction.CONFIRM_OFF, "root", subject="a"))
    lab.run(20)
    assert not b(lab).core.state.suspect and lab.owner_names() == "b"


def test_a_port_that_dies_together_with_the_peers_last_word_is_not_the_peers_end() -> None:
    """braind of b is upgraded, and in the same second a's port dies: b's daemon takes over, so a must let go."""
    lab = settled(Mode.RESOLVE, fence=False)
    lab.tell(b(lab), e.Stopping())
    b(lab).braind = False
    lab.run(1)
    lab.cut("adverts a>b", "adverts b>a", "arp")
    a(lab).reference = False
    lab.run(15)
    assert not a(lab).core.state.peer_is_gone
    assert lab.owner_names() == "b"


def test_a_standby_in_maintenance_serves_in_strict_when_the_owner_cannot() -> None:
    """Its window excuses it from work that the other one could do; plain VRRP would serve here."""
    lab = settled(Mode.STRICT)
    lab.tell(b(lab), e.OperatorActed(e.OperatorAction.MAINTENANCE_ON, "root", until_ms=600_000))
    lab.run(1)
    lab.tell(a(lab), e.CarrierChanged("eth0", False))
    lab.to_backup(a(lab))
    a(lab).vrrp.state = "fault"
    lab.run(15)
    assert lab.owner_names() == "b"


@pytest.mark.parametrize("mode", ACTING)
def test_a_handover_ends_when_the_port_of_the_new_owner_dies(mode: Mode) -> None:
    """Held until the new owner lets go, and that one would let go only to a peer that is not held: nobody served, for ever."""
    lab = settled(mode)
    lab.tell(a(lab), e.OperatorActed(e.OperatorAction.HANDOVER, "root", subject="51/4"))
    lab.run(30)
    assert lab.owner_names() == "b"
    lab.cut("adverts a>b", "adverts b>a", "arp")
    b(lab).reference = False
    lab.run(15)
    assert lab.owner_names() == "a"


def test_maintenance_ends_where_it_was_ordered() -> None:
    """A plain "done" on the other node would be a lie: the window goes on."""
    lab = settled(Mode.RESOLVE)
    lab.tell(b(lab), e.OperatorActed(e.OperatorAction.MAINTENANCE_ON, "root", until_ms=600_000))
    lab.run(1)
    off = e.OperatorActed(e.OperatorAction.MAINTENANCE_OFF, "root")
    lab.tell(a(lab), off)
    answer = a(lab).core.last_answer
    assert answer is not None and not answer.taken and "ordered on b" in answer.outcome
    lab.tell(b(lab), off)
    assert b(lab).core.state.maintenance_until_ns is None
