"""A hold that does not hold (a read-only gate directory, a missing stanza): it is found, told once, and the peer is not deceived."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.watchdog.judgement.lab import GROUP, VIP, Lab, Node
from watchdog.config.model import BrainSettings, Mode
from watchdog.judgement import commands as c
from watchdog.judgement import events as e


class Disobedient(Lab):
    """B's daemon knows nothing of the gate: an address that is taken from it comes back after 400 ms."""

    def set_gate(self, node: Node, state: c.GateState) -> None:
        if node.name == "a":
            super().set_gate(node, state)

    def hold(self, node: Node, on: bool) -> None:
        was = bool(node.held)
        super().hold(node, on)
        if node.name == "b" and was and not on and node.vrrp.state == "master":
            self.later(400, lambda: self.take_back(node))

    def take_back(self, node: Node) -> None:
        if node.kernel and node.vrrp.state == "master":
            super().hold(node, True)


def no_fence(settings: BrainSettings) -> BrainSettings:
    return replace(settings, fence=replace(settings.fence, enabled=False))


def split(lab: Lab) -> None:
    lab.run(12)
    lab.cut_adverts()
    lab.run_until(lambda: lab.owner_names() == "ab", 10)


def pages(node: Node, word: str) -> list[dict[str, object]]:
    return [a for a in node.alerts() if word in str(a["summary"])]


def test_a_yield_that_does_not_stick_is_a_failed_yield_and_pages_once() -> None:
    lab = Disobedient(Mode.RESOLVE, tweak=no_fence)
    split(lab)
    lab.run(40)
    b = lab.nodes["b"]
    told = pages(b, "cannot hold the VRRP daemon")
    assert len(told) == 1 and told[0]["severity"] == "critical"
    assert VIP in str(told[0]["summary"]) and "VI_1" in str(told[0]["summary"])
    removals = len(b.commands(c.RemoveAddress))
    lab.run(30)
    assert len(b.commands(c.RemoveAddress)) == removals, "it goes on taking away for ever what comes back for ever"
    status = b.core.snapshot()
    assert isinstance(status, dict)
    group = status["groups"][0]  # type: ignore[index,call-overload]
    assert group["gate"]["fails"] is True and "b" in group["owners"]  # type: ignore[index,call-overload]


def test_the_keeper_fences_who_cannot_be_held() -> None:
    lab = Disobedient(Mode.RESOLVE)
    split(lab)
    lab.run(30)
    assert lab.owner_names() == "a"
    assert "proved" in lab.nodes["a"].fences()


def test_the_page_is_resolved_when_the_hold_holds() -> None:
    lab = Disobedient(Mode.RESOLVE, tweak=no_fence)
    split(lab)
    lab.run(20)
    b = lab.nodes["b"]
    assert pages(b, "cannot hold")
    b.vrrp.state = "fault"  # a person wrote the stanza and reloaded keepalived
    lab.hold(b, False)
    lab.run(70)
    assert [a for a in b.alerts("resolve") if "hold_fails" in str(a["dedup_key"])]


def test_an_obedient_daemon_is_never_accused() -> None:
    lab = Lab(Mode.RESOLVE)
    split(lab)
    lab.run(40)
    assert lab.owner_names() == "a"
    assert not pages(lab.nodes["a"], "hold the VRRP") and not pages(lab.nodes["b"], "hold the VRRP")


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.RESOLVE, Mode.STRICT])
def test_a_gate_that_nobody_reads_pages_before_it_is_needed(mode: Mode) -> None:
    lab = Lab(mode)
    lab.run(12)
    b = lab.nodes["b"]
    lab.tell(b, e.GateChecked(GROUP, e.GateObedience.NOT_READ, "keepalived does not read /run/brainctl/gate/hold-51"))
    lab.run(8)
    told = pages(b, "could not hold the VRRP daemon")
    assert len(told) == (0 if mode is Mode.OBSERVE else 1)
    lab.tell(b, e.GateChecked(GROUP, e.GateObedience.OBEYED))
    lab.run(5)
    assert len([a for a in b.alerts("resolve") if "gate_not_obeyed" in str(a["dedup_key"])]) == len(told)


def test_a_trouble_of_an_earlier_run_goes_on_or_is_closed() -> None:
    lab = Lab(Mode.RESOLVE)
    lab.run(12)
    b = lab.nodes["b"]
    lab.tell(b, e.RecordSpaceChanged(True, 20 << 20))
    lab.run(1)
    (page,) = pages(b, "nearly full")
    assert page["severity"] == "warning" and "20 MiB" in str(page["summary"])
    left = (e.OpenIncident(str(page["incident"]), "pair#disk_low", "DISK_LOW", "full", True),)
    lab.restart_braind(b, open_incidents=left)
    lab.run(20)
    assert len(pages(b, "nearly full")) == 1
    assert [a for a in b.alerts("resolve") if a["incident"] == page["incident"]]


def test_a_sick_record_pages_critically_once() -> None:
    lab = Lab(Mode.RESOLVE)
    lab.run(12)
    b = lab.nodes["b"]
    for _ in range(3):
        lab.tell(b, e.RecorderChanged(False, "disk full"))
        lab.run(1)
    lab.run(5)
    (page,) = pages(b, "cannot write its record")
    assert page["severity"] == "critical" and "disk full" in str(page["summary"])
