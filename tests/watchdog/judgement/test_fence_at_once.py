"""A fence that is due acts at once: the devices were asked, and the segment was, while the danger was only suspected. And what a person
orders: off is not the daemon's budget (D17), on is a session with an end (D6)."""

from __future__ import annotations

import pytest

from base.core import NS_PER_MS
from tests.watchdog.judgement.lab import Lab, Node
from watchdog.config.model import Mode
from watchdog.judgement import commands as c
from watchdog.judgement import events as e


def settled(mode: Mode = Mode.RESOLVE, **options: object) -> Lab:
    lab = Lab(mode, **options)  # type: ignore[arg-type]
    lab.run(15)
    return lab


def orders(node: Node, action: str) -> list[tuple[int, c.RunFence]]:
    return [(at, x) for at, x in node.sent if isinstance(x, c.RunFence) and x.action == action]


def confirmed_ns(node: Node, verdict: str, scope: str) -> int:
    rows = [(at, dict(r.fields)) for at, r in node.rows if r.kind is c.RowKind.VERDICT]
    return next(at for at, f in rows if (f["scope"], f["verdict"], f["stage"]) == (scope, verdict, "confirmed"))


@pytest.mark.parametrize("mode", [Mode.RESOLVE, Mode.STRICT])
def test_rank_1_commands_its_device_50_ms_after_the_verdict(mode: Mode) -> None:
    lab = settled(mode)
    lab.cut_everything()
    a = lab.nodes["a"]
    lab.run_until(lambda: bool(a.offs()), 20)
    acted_ns = orders(a, "off")[0][0]
    assert (acted_ns - confirmed_ns(a, "PEER_DEAD", "pair")) / NS_PER_MS <= 50
    read = [at for at, x in orders(a, "status") if at < acted_ns]
    assert read and all(at < confirmed_ns(a, "PEER_DEAD", "pair") for at in read), "asked while it was only suspected, and not again"


def test_rank_2_commands_its_device_50_ms_after_its_turn_has_come() -> None:
    lab = settled()
    b = lab.nodes["b"]
    lab.crash(lab.nodes["a"])
    heard_ns = lab.now
    lab.run_until(lambda: bool(b.offs()), 60)
    turns = b.core.state.contact.turns
    assert turns.next_turn_ns(heard_ns) is not None
    due_ns = turns.next_turn_ns(heard_ns) or 0
    assert 0 <= (orders(b, "off")[0][0] - due_ns) / NS_PER_MS <= 50


def test_a_slow_reading_costs_the_act_nothing_when_it_was_taken_ahead() -> None:
    """D2: a device that takes 1.2 s to read."""

    class Slow(Lab):
        def fence(self, node: Node, command: c.RunFence) -> None:
            if command.action == "status":
                self.later(1_170, lambda: Lab.fence(self, node, command))
            else:
                Lab.fence(self, node, command)

    lab = Slow(Mode.RESOLVE)
    lab.run(15)
    lab.cut_everything()
    a = lab.nodes["a"]
    lab.run_until(lambda: bool(a.offs()), 20)
    assert (orders(a, "off")[0][0] - confirmed_ns(a, "PEER_DEAD", "pair")) / NS_PER_MS <= 300


def test_an_outlet_that_names_another_node_is_not_used_although_it_was_right_before() -> None:
    lab = settled()
    a = lab.nodes["a"]
    lab.crash(lab.nodes["b"])
    lab.run_until(lambda: bool(orders(a, "status")), 10)
    lab.identities["pdu1-b"] = "outlet-of-somebody-else"
    lab.run(40)
    assert not a.offs()
    assert any("another node's outlet" in str(dict(r.fields)["detail"]) for _, r in a.rows if r.kind is c.RowKind.FENCE)


def test_a_reading_of_off_while_the_peer_is_heard_proves_nothing_later() -> None:
    """The device lies while a split is only suspected over a living path; then the path dies: what was read before is no proof."""
    lab = settled(fence=True)
    a = lab.nodes["a"]
    lab.deaf_levels, lab.lying_status = {1}, True
    lab.cut_adverts()
    lab.cut("arp")
    for _ in range(400):
        lab.run(0.02)
        assert not a.core.state.peer_proved_off


# --- a person's orders ---


def ordered(lab: Lab, action: e.OperatorAction) -> str:
    lab.tell(lab.nodes["a"], e.OperatorActed(action, "root", subject="b"))
    answer = lab.nodes["a"].core.last_answer
    assert answer is not None
    return answer.outcome


def test_a_person_may_order_off_when_the_hours_budget_is_used_up() -> None:
    lab = settled()
    a = lab.nodes["a"]
    a.braind = False
    lab.run(1)
    lab.restart_braind(a, recent_fence_wall_ns=tuple(lab.now + 10**18 for _ in range(3)))
    lab.run(15)
    fence = a.core.fence
    assert fence.budget.left(lab.now) == 0
    assert ordered(lab, e.OperatorAction.FENCE_OFF) == "ordered"
    lab.run(10)
    assert len(a.offs()) == 1 and a.fences()[-1] == "proved"
    assert not fence.budget.latched, "a person's word neither uses the budget nor shuts the latch"
    actions = [dict(r.fields) for _, r in a.rows if r.kind is c.RowKind.ACTION]
    assert any(f["action"] == "fence_off" and "root" in str(f["detail"]) for f in actions), "audited"


def test_a_persons_off_leaves_the_budget_as_it_was() -> None:
    lab = settled()
    before = lab.nodes["a"].core.fence.budget.left(lab.now)
    ordered(lab, e.OperatorAction.FENCE_OFF)
    lab.run(10)
    assert lab.nodes["a"].offs()
    assert lab.nodes["a"].core.fence.budget.left(lab.now) == before


class WithPower(Lab):
    """``on`` powers the machine on, by every device that took its power; ``heavy``: devices that do not obey."""

    def __init__(self, *args: object, **options: object) -> None:
        self.cut_by: set[str] = set()
        self.dead: set[str] = set()
        super().__init__(*args, **options)  # type: ignore[arg-type]

    def fence(self, node: Node, command: c.RunFence) -> None:
        if command.action == "off" and command.level not in self.deaf_levels:
            self.cut_by.add(command.device)
        if command.action == "status" and command.target == "b":
            power = e.PowerState.OFF if command.device in self.cut_by else e.PowerState.ON
            self.later(30, lambda: self.tell(node, self.report(command, e.DeviceOutcome.SUCCESS, power)))
        elif command.action == "on":
            if command.device not in self.dead:
                self.cut_by.discard(command.device)
            self.later(300, lambda: self.tell(node, self.report(command, e.DeviceOutcome.SUCCESS)))
        else:
            super().fence(node, command)

    def report(self, command: c.RunFence, outcome: e.DeviceOutcome, power: e.PowerState = e.PowerState.UNKNOWN) -> e.FenceReported:
        identity = self.identities.get(command.device, f"outlet-{command.target}")
        return e.FenceReported(
            command.order_id, command.level, command.device, command.action, outcome, power, identity, attempt=command.attempt
        )


def last_on(lab: Lab) -> dict[str, object]:
    status = lab.nodes["a"].core.snapshot()
    assert isinstance(status, dict) and isinstance(status["fence"], dict) and isinstance(status["fence"]["power_on"], dict)
    last = status["fence"]["power_on"]["last"]
    assert isinstance(last, dict)
    return last  # type: ignore[return-value]


def two_levels() -> WithPower:
    lab = WithPower(Mode.RESOLVE, levels=2)
    lab.run(15)
    return lab


def test_on_goes_by_the_level_that_acted_and_says_what_came_of_it() -> None:
    """D6: fenced by level 2, level 1 did nothing."""
    lab = two_levels()
    a = lab.nodes["a"]
    lab.deaf_levels = {1}
    ordered(lab, e.OperatorAction.FENCE_OFF)
    lab.run(30)
    assert lab.cut_by == {"pdu2-b"} and a.fences()[-1] == "proved"
    rows = len(a.rows)
    assert ordered(lab, e.OperatorAction.FENCE_ON) == "ordered"
    lab.run(10)
    assert [x.device for _, x in orders(a, "on")] == ["pdu2-b"] and not lab.cut_by
    assert last_on(lab)["state"] == "proved" and "pdu2-b: reads on" in str(last_on(lab)["detail"])
    outcomes = [dict(r.fields)["outcome"] for _, r in a.rows[rows:] if dict(r.fields).get("action") == "fence_on"]
    assert outcomes[:2] == ["ordered", "requested"] and outcomes[-1] == "proved"


def test_nothing_is_switched_on_before_the_intent_is_durable() -> None:
    lab = two_levels()
    a = lab.nodes["a"]
    a.recorder_delay_ms = 5_000
    ordered(lab, e.OperatorAction.FENCE_ON)
    lab.run(4)
    assert not orders(a, "on") and last_on(lab)["state"] == "not_done" and "durable" in str(last_on(lab)["detail"])


def test_an_outlet_that_stays_off_is_said() -> None:
    lab = two_levels()
    lab.cut_by, lab.dead = {"pdu1-b", "pdu2-b"}, {"pdu2-b"}
    ordered(lab, e.OperatorAction.FENCE_ON)
    lab.run(30)
    assert last_on(lab)["state"] == "refuted" and "pdu2-b: still off" in str(last_on(lab)["detail"])


def test_another_nodes_outlet_is_not_switched_on() -> None:
    lab = two_levels()
    lab.cut_by = {"pdu1-b", "pdu2-b"}
    lab.identities["pdu1-b"] = "outlet-of-somebody-else"
    ordered(lab, e.OperatorAction.FENCE_ON)
    lab.run(30)
    assert [x.device for _, x in orders(lab.nodes["a"], "on")] == ["pdu2-b"]
    assert last_on(lab)["state"] == "not_done"


def test_a_runner_that_dies_meanwhile_leaves_it_unknown_and_a_fence_ends_it() -> None:
    for trouble in (e.FenceRunnerChanged(False, "killed"), e.OperatorActed(e.OperatorAction.FENCE_OFF, "root", subject="b")):
        lab = two_levels()
        lab.cut_by = {"pdu1-b"}
        ordered(lab, e.OperatorAction.FENCE_ON)
        assert ordered(lab, e.OperatorAction.FENCE_ON) == "it is being switched on already"
        lab.run_until(lambda lab=lab: bool(orders(lab.nodes["a"], "on")), 5)  # type: ignore[misc]
        lab.tell(lab.nodes["a"], trouble)
        assert last_on(lab)["state"] == "unknown"
