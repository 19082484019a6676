"""Two real cores and a witness between them: who fences, how soon, and what happens when the witness is lost before or during a cut."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from base.core import NS_PER_MS
from tests.watchdog.judgement.lab import Lab, Node
from watchdog.config.model import BrainSettings, Mode, WitnessKind, WitnessSettings
from watchdog.judgement import commands as c
from watchdog.judgement import events as e
from watchdog.judgement.witnessing import TurnRule

WITNESS = WitnessSettings(WitnessKind.ETCD, lease_ms=20_000, poll_ms=500, silent_after_ms=1_500, endpoints=("http://10.0.0.9:2379",))
EVERYTHING = {"path eth1", "path tty", "adverts a>b", "adverts b>a", "arp"}


class WitnessLab(Lab):
    """The lab with a witness: ``far_ms`` is each node's way to it, None = not reached."""

    def __init__(self, mode: Mode = Mode.STRICT, **options: Any) -> None:
        self.far_ms: dict[str, int | None] = {"a": 5, "b": 5}
        self.holder: tuple[str, int, int] | None = None
        self.without_devices: set[str] = set()
        """Nodes that do not reach their fence devices."""
        super().__init__(mode, tweak=with_witness, **options)
        for node in self.nodes.values():
            self.later(10, lambda node=node: self.poll(node))  # type: ignore[misc]

    def held_by(self) -> str:
        return self.holder[0] if self.holder is not None and self.now <= self.holder[2] else ""

    def poll(self, node: Node) -> None:
        far = self.far_ms[node.name]
        self.later(500, lambda: self.poll(node))
        if far is None:
            self.tell(node, e.WitnessChanged(False, detail="no answer"))
            return
        self.later(far, lambda: self.tell(node, e.WitnessChanged(True, far, self.held_by(), "http://10.0.0.9:2379")))

    def execute(self, node: Node, commands: list[c.WatcherCommand]) -> None:
        super().execute(node, commands)
        for command in commands:
            far = self.far_ms[node.name]
            if isinstance(command, c.RequestLease):
                if far is None:
                    refused = e.LeaseRefused(command.request, "", "no answer")
                    self.later(2_000, lambda refused=refused: self.tell(node, refused))  # type: ignore[misc]
                else:
                    asked = self.now
                    self.later(far, lambda command=command, asked=asked: self.take(node, command, asked))  # type: ignore[misc]
            elif isinstance(command, c.ReleaseLease) and far is not None:
                self.later(far, lambda command=command: self.give_back(node, command))  # type: ignore[misc]

    def fence(self, node: Node, command: c.RunFence) -> None:
        if node.name not in self.without_devices:
            super().fence(node, command)
            return
        report = e.FenceReported(
            command.order_id, command.level, command.device, command.action, e.DeviceOutcome.UNREACHABLE, attempt=command.attempt
        )
        self.later(1_000, lambda: self.tell(node, report))

    def take(self, node: Node, command: c.RequestLease, asked_ns: int) -> None:
        if self.held_by() not in ("", node.name):
            answer: e.WatcherEvent = e.LeaseRefused(command.request, self.held_by())
        else:
            self.holder = (node.name, command.request, asked_ns + command.lease_ms * NS_PER_MS)
            answer = e.LeaseGranted(command.request, self.holder[2])
        self.later(1, lambda: self.tell(node, answer))

    def give_back(self, node: Node, command: c.ReleaseLease) -> None:
        if self.holder is not None and self.holder[:2] == (node.name, command.request):
            self.holder = None

    def rules(self) -> list[TurnRule]:
        return [node.core.state.witness.rule() for node in self.nodes.values()]

    def offs(self) -> dict[str, int]:
        return {name: len(node.offs()) for name, node in self.nodes.items()}


def with_witness(settings: BrainSettings) -> BrainSettings:
    return replace(settings, witness=WITNESS)


def agreed(**options: Any) -> WitnessLab:
    lab = WitnessLab(**options)
    lab.run(8)
    assert lab.rules() == [TurnRule.LEASE, TurnRule.LEASE]
    return lab


@pytest.mark.parametrize("near", ["a", "b"])
def test_in_a_total_cut_the_one_that_wins_the_turn_fences_at_once_and_the_other_gives_way(near: str) -> None:
    lab = agreed()
    lab.far_ms = {"a": 400, "b": 400} | {near: 5}
    far = "ab".replace(near, "")
    lab.cuts |= EVERYTHING
    cut_ns = lab.now
    lab.run(20)
    assert lab.offs()[far] == 0
    assert lab.offs()[near] == 1
    assert "proved" in lab.nodes[near].fences()
    first_ns = next(at for at, command in lab.nodes[near].sent if isinstance(command, c.RunFence) and command.action == "off")
    confirmed_ns = next(
        at
        for at, row in lab.nodes[near].rows
        if dict(row.fields).get("verdict") == "PEER_DEAD" and dict(row.fields)["stage"] == "confirmed"
    )
    assert cut_ns < confirmed_ns
    assert first_ns - confirmed_ns < 1_000 * NS_PER_MS  # neither d nor rank: the turn, the intent, the reading, a census


def test_both_ask_at_the_same_moment_and_exactly_one_acts() -> None:
    lab = agreed()
    lab.cuts |= EVERYTHING
    lab.run(20)
    assert sorted(lab.offs().values()) == [0, 1]


def test_a_node_that_loses_the_witness_in_the_cut_does_not_fence() -> None:
    lab = agreed()
    lab.cuts |= EVERYTHING
    lab.far_ms["a"] = None
    lab.run(30)
    assert lab.offs() == {"a": 0, "b": 1}


def test_when_both_lose_it_in_the_cut_nobody_fences_and_it_is_paged() -> None:
    lab = agreed()
    lab.cuts |= EVERYTHING
    lab.far_ms = {"a": None, "b": None}
    lab.run(60)
    assert lab.offs() == {"a": 0, "b": 0}
    for node in lab.nodes.values():
        assert any("cannot reach the witness" in str(page["summary"]) and page["severity"] == "warning" for page in node.alerts())
        assert any("the witness cannot be reached" in str(page["summary"]) and page["severity"] == "critical" for page in node.alerts())


def test_lost_before_the_cut_and_acknowledged_the_rules_without_it_count() -> None:
    lab = agreed()
    lab.far_ms = {"a": None, "b": None}
    lab.run(4)
    assert lab.rules() == [TurnRule.TURNS, TurnRule.TURNS]
    lab.cuts |= EVERYTHING
    lab.run(60)
    assert sum(lab.offs().values()) == 1


def test_it_comes_back_and_the_lease_counts_again_when_both_know() -> None:
    lab = agreed()
    lab.far_ms = {"a": None, "b": None}
    lab.run(4)
    lab.far_ms = {"a": 5, "b": 5}
    lab.run(2)
    assert lab.rules() == [TurnRule.LEASE, TurnRule.LEASE]
    lab.run(3)
    for node in lab.nodes.values():
        assert [page["severity"] for page in node.alerts() if "witness" in str(page["summary"])] == ["warning"]
        assert any("witness" in str(page["summary"]) for page in node.alerts("resolve"))


def test_a_turn_that_came_to_nothing_goes_back_and_the_other_node_gets_it() -> None:
    lab = agreed()
    lab.far_ms = {"a": 5, "b": 300}
    lab.without_devices.add("a")
    lab.cuts |= EVERYTHING
    lab.run(60)
    assert lab.offs()["b"] == 1
    assert "proved" in lab.nodes["b"].fences()


def test_the_peers_turn_is_evidence_of_its_own_kind() -> None:
    lab = agreed()
    lab.far_ms = {"a": 5, "b": 100}
    lab.cuts |= EVERYTHING
    lab.run_until(lambda: lab.held_by() == "a", 20)
    lab.run(0.7)
    status = lab.nodes["b"].core.snapshot()
    assert isinstance(status, dict)
    assert isinstance(status["pair"], dict)
    assert "K5" in str(status["pair"]["evidence"])


def test_frozen_after_it_won_it_does_not_act_on_a_turn_that_ran_out() -> None:
    lab = agreed()
    lab.far_ms = {"a": 5, "b": 300}
    lab.cuts |= EVERYTHING
    lab.run_until(lambda: lab.held_by() == "a", 20)
    lab.freeze(lab.nodes["a"], True)
    lab.run(25)
    lab.freeze(lab.nodes["a"], False)
    lab.run(20)
    assert sum(lab.offs().values()) == 1


def test_a_node_with_another_witness_has_no_turn() -> None:
    lab = WitnessLab()
    b = lab.nodes["b"]
    b.settings = replace(b.settings, witness=replace(WITNESS, endpoints=("http://10.0.0.10:2379",)))
    lab.run(8)
    lab.restart_braind(b)
    lab.run(8)
    lab.cuts |= EVERYTHING
    lab.run(40)
    assert lab.offs() == {"a": 0, "b": 0}
