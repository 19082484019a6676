"""Handover, maintenance and acknowledgements: no gap longer than a skew, and nothing that a person ordered is forgotten by a restart."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from base.core import NS_PER_MS, NS_PER_S
from tests.watchdog.judgement.lab import Lab, Node
from watchdog.config.model import Mode
from watchdog.judgement import commands as c
from watchdog.judgement import events as e
from watchdog.judgement.durable_facts import DurableFacts, durable_facts

SKEW_MS = 620
MASTER_DOWN_MS = 3_000 + SKEW_MS + 100
"""VRRPv2, interval 1 s, priority 100: (256 - 100) / 256 s; and what the frames and the lab's gate take."""


def facts(node: Node) -> DurableFacts:
    """What the node's record would give back."""
    rows = [dict(row.fields) for _, row in node.rows if row.kind is c.RowKind.NODE]
    return durable_facts({str(row["key"]): row["value"] for row in rows})


def order(lab: Lab, name: str, action: e.OperatorAction, subject: str = "", until_ms: int = 0) -> tuple[bool, str]:
    node = lab.nodes[name]
    lab.tell(node, e.OperatorActed(action, "root", subject=subject, until_ms=until_ms))
    answer = node.core.last_answer
    assert answer is not None
    return answer.taken, answer.outcome


def longest_gap_ms(lab: Lab, since_ns: int) -> float:
    """The longest time without any owner."""
    times = [(at, names) for at, names in lab.owners if at >= since_ns] + [(lab.now, ("end",))]
    return max([(after - at) / NS_PER_MS for (at, names), (after, _) in pairwise(times) if not names], default=0.0)


def overlap_ms(lab: Lab, since_ns: int) -> float:
    times = [(at, names) for at, names in lab.owners if at >= since_ns] + [(lab.now, ())]
    return sum((after - at) / NS_PER_MS for (at, names), (after, _) in pairwise(times) if len(names) > 1)


@pytest.mark.parametrize("pause_s", [0.5, 2, 7, 8, 30, 120])
def test_a_handover_and_back_leaves_no_gap_longer_than_a_skew(pause_s: float) -> None:
    lab = Lab(Mode.RESOLVE)
    lab.run(12)
    begin = lab.now
    assert order(lab, "a", e.OperatorAction.HANDOVER)[0]
    lab.run_until(lambda: lab.owner_names() == "b", 3)
    lab.run(pause_s)
    assert lab.owner_names() == "b", "a daemon that preempts must not take it back behind the operator's back"
    assert order(lab, "b", e.OperatorAction.HANDOVER)[0]
    lab.run_until(lambda: lab.owner_names() == "a", 10)
    lab.run(30)
    assert lab.owner_names() == "a"
    assert longest_gap_ms(lab, begin) <= SKEW_MS
    assert overlap_ms(lab, begin) <= 50
    assert not lab.nodes["a"].alerts() and not lab.nodes["b"].alerts()
    assert lab.nodes["b"].gate is c.GateState.OPEN, "a backup that would not preempt is a standby again, not held"


def test_a_second_order_says_how_long_the_first_may_take() -> None:
    lab = Lab(Mode.RESOLVE)
    lab.run(12)
    order(lab, "a", e.OperatorAction.HANDOVER)
    lab.run(3)
    lab.nodes["a"].vrrp.process = e.DaemonState.RUNNING
    lab.cut("path eth1 b>a", "path tty b>a")  # a does not hear the offer
    taken, words = order(lab, "b", e.OperatorAction.HANDOVER)
    assert taken and "8 s" in words
    lab.run(0.2)
    taken, words = order(lab, "b", e.OperatorAction.HANDOVER)
    assert not taken and " s" in words and "already" in words


def test_an_offer_that_nobody_takes_changes_nothing() -> None:
    lab = Lab(Mode.RESOLVE)
    lab.run(12)
    order(lab, "a", e.OperatorAction.HANDOVER)
    lab.run(3)
    lab.cut("path eth1 b>a", "path tty b>a")
    begin = lab.now
    assert order(lab, "b", e.OperatorAction.HANDOVER)[0]
    lab.run(0.9)
    assert longest_gap_ms(lab, begin) == 0 and lab.owner_names() == "b"


@pytest.mark.parametrize("state", [e.DaemonState.STOPPED, e.DaemonState.HUNG])
def test_a_peer_that_cannot_take_it_is_not_given_it(state: e.DaemonState) -> None:
    lab = Lab(Mode.RESOLVE)
    lab.run(12)
    lab.daemon(lab.nodes["b"], state)
    lab.run(1)
    taken, words = order(lab, "a", e.OperatorAction.HANDOVER)
    assert not taken and "could not take it" in words
    assert lab.owner_names() == "a"


@pytest.mark.parametrize("pause_s", [0.0, 5.0, 60.0])
def test_a_handover_outlives_its_watcher(pause_s: float) -> None:
    lab = Lab(Mode.RESOLVE)
    lab.run(12)
    order(lab, "a", e.OperatorAction.HANDOVER)
    lab.run(10)
    a = lab.nodes["a"]
    a.braind = False
    lab.run(pause_s)
    lab.restart_braind(a, durable=facts(a))
    lab.run(60)
    assert lab.owner_names() == "b"
    lab.power_off(lab.nodes["b"])
    lab.run_until(lambda: lab.owner_names() == "a", 30)  # and it is no prison
    assert facts(a).handovers == ()


def test_after_a_reboot_the_daemon_is_free_again() -> None:
    """What a handover holds is a hold of this boot: a machine that was rebooted comes back as its VRRP daemon wants."""
    lab = Lab(Mode.RESOLVE)
    lab.run(12)
    order(lab, "a", e.OperatorAction.HANDOVER)
    lab.run(10)
    a = lab.nodes["a"]
    lab.restart_braind(a, durable=facts(a), same_boot=False)
    lab.run(20)
    assert a.gate is c.GateState.OPEN


def test_maintenance_outlives_a_restart_and_ends_in_time() -> None:
    lab = Lab(Mode.RESOLVE)
    lab.run(12)
    order(lab, "a", e.OperatorAction.MAINTENANCE_ON, until_ms=60_000)
    lab.run(10)
    a, b = lab.nodes["a"], lab.nodes["b"]
    assert facts(b).peer_maintenance is not None
    lab.restart_braind(a, durable=facts(a))
    assert a.core.state.in_maintenance(lab.now)
    lab.run(49)
    assert a.core.state.in_maintenance(lab.now)
    lab.run(2)
    assert not a.core.state.in_maintenance(lab.now)
    assert facts(a).maintenance is None and facts(b).peer_maintenance is None


def test_a_peer_in_maintenance_is_excused_also_after_our_own_restart() -> None:
    lab = Lab(Mode.RESOLVE)
    lab.run(12)
    a, b = lab.nodes["a"], lab.nodes["b"]
    order(lab, "b", e.OperatorAction.MAINTENANCE_ON, until_ms=600_000)
    lab.run(2)
    lab.power_off(b)
    lab.restart_braind(a, durable=facts(a))
    lab.run(60)
    assert not a.fences() and a.core.state.peer_excused(lab.now)


@pytest.mark.parametrize("step_s", [-86_400, 0, 86_400])
def test_a_step_of_the_wall_clock_does_not_move_a_window_of_this_boot(step_s: int) -> None:
    lab = Lab(Mode.RESOLVE)
    lab.run(12)
    a = lab.nodes["a"]
    order(lab, "a", e.OperatorAction.MAINTENANCE_ON, until_ms=60_000)
    saved = facts(a).maintenance
    assert saved is not None
    wall_ns = lab.now + 10**18 + step_s * NS_PER_S
    boot = a.core.state.started.boot.hex()
    assert saved.until(lab.now + NS_PER_S, wall_ns, boot) == lab.now + 60 * NS_PER_S
    other = saved.until(lab.now, lab.now + 10**18, "another boot")
    assert other == lab.now + 60 * NS_PER_S
    assert replace(saved, until_wall_ns=1 << 62).until(lab.now, 0, "another boot") == lab.now + 24 * 3_600 * NS_PER_S


def test_an_acknowledged_incident_stays_so() -> None:
    lab = Lab(Mode.OBSERVE)
    lab.run(12)
    lab.cut_adverts()
    lab.run(6)
    a = lab.nodes["a"]
    (incident,) = [i for i in a.core.state.incidents.open.values() if i.scope == "51/4"]
    assert order(lab, "a", e.OperatorAction.ACKNOWLEDGE, incident.id) == (True, "done")
    assert facts(a).acknowledged == (incident.id,)
    left = (e.OpenIncident(incident.id, incident.scope, incident.verdict.value, incident.summary, True),)
    lab.restart_braind(a, durable=facts(a), open_incidents=left)
    assert a.core.state.incidents.open["51/4"].acknowledged


def test_an_acknowledgement_reaches_the_peer_and_its_later_receivers() -> None:
    """Whoever would be woken by the other node's receivers is not: both nodes page the same incident (N4)."""
    lab = Lab(Mode.OBSERVE)
    lab.run(12)
    lab.cut_adverts()
    lab.run(6)
    a, b = lab.nodes["a"], lab.nodes["b"]
    incident = a.core.state.incidents.open["51/4"]
    assert b.core.state.incidents.open["51/4"].id == incident.id
    assert not b.commands(c.AcknowledgeAlerts)
    order(lab, "a", e.OperatorAction.ACKNOWLEDGE, incident.id)
    lab.run(1)
    assert b.core.state.incidents.open["51/4"].acknowledged and facts(b).acknowledged == (incident.id,)
    assert b.commands(c.AcknowledgeAlerts) == [c.AcknowledgeAlerts(incident.id, "a person at a")]
    assert a.commands(c.AcknowledgeAlerts) == [c.AcknowledgeAlerts(incident.id, "root")]


@pytest.mark.parametrize("cut", [("path eth1", "path tty"), ("path eth1", "path tty", "adverts a>b", "adverts b>a")])
def test_nobody_can_vouch_that_a_node_is_off_while_anything_of_it_is_heard(cut: tuple[str, ...]) -> None:
    """Its kernel answers ARP for the address although its daemons are gone: two owners, had it been believed (J19)."""
    lab = Lab(Mode.STRICT, fence=False)
    lab.run(12)
    lab.cut(*cut)
    lab.run(5)
    taken, words = order(lab, "b", e.OperatorAction.CONFIRM_OFF, "a")
    assert not taken and "a is not off" in words
    lab.run(10)
    assert lab.owner_names() == "a"


def test_a_node_of_which_nothing_is_heard_can_be_vouched_for() -> None:
    lab = Lab(Mode.STRICT, fence=False)
    lab.run(12)
    lab.power_off(lab.nodes["a"])
    lab.run(10)
    assert order(lab, "b", e.OperatorAction.CONFIRM_OFF, "a") == (True, "done")
    lab.run_until(lambda: lab.owner_names() == "b", 10)


@pytest.mark.parametrize("maintenance", [False, True])
def test_in_strict_a_handover_is_asked_for_at_once(maintenance: bool) -> None:
    """Who gave it away does not want it back: the other one waited three seconds for it to ask first, and nobody served."""
    lab = Lab(Mode.STRICT)
    lab.run(12)
    assert lab.owner_names() == "a"
    if maintenance:  # docs/UPGRADE.md, replacing a node
        lab.tell(lab.nodes["b"], e.OperatorActed(e.OperatorAction.MAINTENANCE_ON, "root", until_ms=600_000))
        lab.run(1)
    begin = lab.now
    assert order(lab, "a", e.OperatorAction.HANDOVER)[0]
    lab.run(6)
    assert lab.owner_names() == "b"
    assert longest_gap_ms(lab, begin) <= MASTER_DOWN_MS, "a daemon that was held waits for a master once more, and for nothing else"
