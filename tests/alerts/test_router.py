"""The router core: who is told what, in which order, and that nothing is lost whatever fails and wherever it is interrupted."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.routing.events import (
    AcknowledgementReceived,
    Alert,
    AlertRecorded,
    Deliver,
    DeliveryFinished,
    DeliveryState,
    FinishDelivery,
    MarkDelivery,
    OutboxOpened,
    OutboxRead,
    ReceiversChanged,
    RouterCommand,
    RouterEvent,
)
from alerts.routing.lane import BACKOFF_MS, BURST, REFILL_MS, STEP_ASIDE_AFTER
from alerts.routing.router import NOBODY, TOO_OLD_NS, Router
from alerts.routing.settings import Receiver
from base.core import NS_PER_MS, NS_PER_S

MAIL = Receiver("mail", "email", ())
PAGER = Receiver("pager", "pagerduty", (), least_severity="critical")
BOSS = Receiver("boss", "email", (), escalate_after_ms=60_000)


def alert(number: int, key: str = "c/51/1", action: str = "trigger", severity: str = "critical", summary: str = "split") -> Alert:
    return Alert(number, key, key, severity, action, summary)


@dataclass
class Desk:
    """A router with a notebook: what the shell would have on the disk."""

    receivers: tuple[Receiver, ...]
    now_ns: int = 10**15
    disk: dict[tuple[int, str], tuple[DeliveryState, int]] = field(default_factory=dict)
    reasons: dict[tuple[int, str], str] = field(default_factory=dict)
    outbox: list[tuple[Alert, int]] = field(default_factory=list)
    sends: list[Deliver] = field(default_factory=list)
    flying: list[Deliver] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new process that knows only the disk."""
        self.flying = []
        self.router = Router(self.receivers, lambda: 0.5)
        self.tell(OutboxOpened())
        for item, at_ns in self.outbox:
            known = tuple((name, *state) for (i, name), state in self.disk.items() if i == item.alert_id)
            self.tell(AlertRecorded(item, at_ns, known))
        self.tell(OutboxRead())

    def tell(self, event: RouterEvent) -> None:
        self.execute(self.router.handle(self.now_ns, event))

    def execute(self, commands: list[RouterCommand]) -> None:
        for command in commands:
            if isinstance(command, Deliver):
                assert self.disk[(command.alert.alert_id, command.receiver)] == (DeliveryState.SENDING, command.attempt)
                self.sends.append(command)
                self.flying.append(command)
            elif isinstance(command, MarkDelivery):
                self.disk[(command.alert_id, command.receiver)] = (command.state, command.attempts)
                self.reasons[(command.alert_id, command.receiver)] = command.detail
            else:
                assert isinstance(command, FinishDelivery)
                self.disk[(command.alert_id, command.receiver)] = (command.state, command.attempt)

    def record(self, item: Alert) -> None:
        self.outbox.append((item, self.now_ns))
        self.tell(AlertRecorded(item, self.now_ns))

    def finish(self, ok: bool = True, *, retryable: bool = True, receiver: str | None = None) -> Deliver:
        send = next(f for f in self.flying if receiver in (None, f.receiver))
        self.flying.remove(send)
        self.tell(DeliveryFinished(send.alert.alert_id, send.receiver, ok, retryable))
        return send

    def wait(self, ns: int) -> None:
        """Time passes; deadlines fire as they come."""
        end = self.now_ns + ns
        for _ in range(10_000):
            due = self.router.next_deadline()
            if due is None or due > end:
                break
            self.now_ns = max(self.now_ns, due)
            self.execute(self.router.on_deadline(self.now_ns))
        else:
            raise AssertionError("the router wants to be woken without end")
        self.now_ns = end

    def told(self, receiver: str) -> list[tuple[int, str]]:
        return [(s.alert.alert_id, s.alert.action) for s in self.sends if s.receiver == receiver]

    def state(self, number: int, receiver: str) -> DeliveryState:
        return self.disk[(number, receiver)][0]


def test_severity_decides_and_the_reason_is_recorded() -> None:
    desk = Desk((MAIL, PAGER))
    desk.record(alert(1, severity="warning"))
    assert desk.told("mail") == [(1, "trigger")]
    assert desk.told("pager") == []
    assert desk.state(1, "pager") is DeliveryState.SKIPPED
    assert "least_severity" in desk.reasons[(1, "pager")]


def test_resolve_goes_to_those_who_were_told() -> None:
    desk = Desk((MAIL, PAGER))
    desk.record(alert(1, severity="warning"))
    desk.finish()
    desk.record(alert(2, action="resolve", severity="info"))
    assert desk.told("mail") == [(1, "trigger"), (2, "resolve")]
    assert desk.told("pager") == []
    desk.finish()
    desk.record(alert(3, action="resolve"))
    assert len(desk.sends) == 2, "resolved already"


def test_repetition_is_skipped_an_update_is_not() -> None:
    desk = Desk((MAIL,))
    desk.record(alert(1))
    desk.finish()
    desk.record(alert(2))
    assert desk.state(2, "mail") is DeliveryState.SKIPPED and "alert 1" in desk.reasons[(2, "mail")]
    desk.record(alert(3, summary="fenced and proved"))
    assert (desk.finish().occurrence, desk.sends[-1].alert.alert_id) == (1, 3)
    desk.record(alert(4, severity="warning"))
    assert desk.told("mail")[-1] == (4, "trigger")
    desk.finish()
    desk.record(alert(5, action="resolve"))
    assert desk.finish().occurrence == 0
    desk.record(alert(6))
    assert desk.told("mail")[-1] == (6, "trigger"), "after a resolve it is news again"
    assert desk.sends[-1].occurrence == 3


def test_recorded_duplicate_is_sent_to_nobody() -> None:
    desk = Desk((MAIL,))
    desk.record(Alert(1, "k", "k", "critical", "trigger", "s", dedup="the peer pages"))
    assert desk.sends == [] and desk.reasons[(1, "mail")] == "the peer pages"


def test_escalation_only_when_still_open_and_unacknowledged() -> None:
    for ending in ("none", "resolve", "ack"):
        desk = Desk((MAIL, BOSS))
        desk.record(alert(1))
        desk.finish(receiver="mail")
        desk.wait(59 * NS_PER_S)
        assert desk.told("boss") == []
        if ending == "resolve":
            desk.record(alert(2, action="resolve"))
        if ending == "ack":
            desk.tell(AcknowledgementReceived("c/51/1"))
        desk.wait(2 * NS_PER_S)
        assert desk.told("boss") == ([(1, "trigger")] if ending == "none" else [])
        if ending == "none":
            desk.record(alert(2, action="resolve"))
            desk.finish(receiver="boss")
            assert desk.told("boss") == [(1, "trigger"), (2, "resolve")]


def test_escalation_survives_a_restart() -> None:
    desk = Desk((BOSS,))
    desk.record(alert(1))
    desk.wait(30 * NS_PER_S)
    desk.restart()
    assert desk.sends == []
    desk.wait(31 * NS_PER_S)
    assert desk.told("boss") == [(1, "trigger")]


def test_order_is_kept_and_backoff_grows() -> None:
    desk = Desk((MAIL,))
    for number in (1, 2, 3):
        desk.record(alert(number, key=f"k{number}"))
    assert [f.alert.alert_id for f in desk.flying] == [1], "one at a time"
    waits = []
    for _ in range(3):
        failed_ns = desk.now_ns
        desk.finish(ok=False)
        assert desk.flying == []
        due = desk.router.next_deadline()
        assert due is not None
        waits.append((due - failed_ns) // NS_PER_MS)
        desk.wait(due - desk.now_ns)
        assert [f.alert.alert_id for f in desk.flying] == [1]
    assert waits == list(BACKOFF_MS[:3])
    for _ in range(3):
        desk.finish()
    assert [s.alert.alert_id for s in desk.sends] == [1, 1, 1, 1, 2, 3]
    assert [s.attempt for s in desk.sends][:4] == [1, 2, 3, 4]


def test_one_message_that_is_never_taken_does_not_block_the_others() -> None:
    desk = Desk((MAIL,))
    desk.record(alert(1, key="bad"))
    desk.record(alert(2, key="good"))
    for _ in range(STEP_ASIDE_AFTER + 3):
        if desk.flying:
            desk.finish(ok=desk.flying[0].alert.dedup_key == "good")
        desk.wait(400 * NS_PER_S)
    assert desk.state(2, "mail") is DeliveryState.DELIVERED
    assert desk.state(1, "mail") is DeliveryState.REFUSED
    desk.record(alert(3, key="next"))
    assert desk.flying[0].alert.alert_id == 3
    desk.finish()
    desk.tell(ReceiversChanged((MAIL,)))
    assert desk.flying[0].alert.alert_id == 1, "tried again after a change of the settings"


@pytest.mark.parametrize("outage", [3, 7, 8, 30, 31])
def test_long_outage_keeps_the_order_of_an_incident(outage: int) -> None:
    desk = Desk((MAIL,))
    desk.record(alert(1, key="a"))
    desk.record(alert(2, key="b"))
    desk.record(alert(3, key="a", action="resolve"))
    for _ in range(outage):
        if desk.flying:
            desk.finish(ok=False)
        desk.wait(400 * NS_PER_S)
    while desk.flying:
        desk.finish()
    assert {s[0] for s in desk.disk.values()} == {DeliveryState.DELIVERED}, "an outage is nobody's fault"
    order = list(dict.fromkeys(s.alert.alert_id for s in reversed(desk.sends)))[::-1]
    assert order.index(1) < order.index(3)


def test_refused_trigger_is_not_sent_after_its_resolve() -> None:
    desk = Desk((MAIL,))
    desk.record(alert(1))
    desk.finish(ok=False, retryable=False)
    assert desk.state(1, "mail") is DeliveryState.REFUSED
    desk.record(alert(2, action="resolve"))
    desk.finish()
    desk.restart()
    desk.tell(ReceiversChanged((MAIL,)))
    assert [s.alert.alert_id for s in desk.sends] == [1, 2]
    assert desk.state(1, "mail") is DeliveryState.SKIPPED


def test_rate_limit_delays_and_loses_nothing() -> None:
    desk = Desk((MAIL,))
    for number in range(1, BURST + 6):
        desk.record(alert(number, key=f"k{number}"))
    while desk.flying:
        desk.finish()
    assert len(desk.sends) == BURST
    for more in range(1, 6):
        desk.wait(REFILL_MS * NS_PER_MS)
        desk.finish()
        assert len(desk.sends) == BURST + more


def test_nobody_configured_is_an_error_and_healed_by_configuration() -> None:
    desk = Desk(())
    desk.record(alert(1))
    assert desk.state(1, NOBODY) is DeliveryState.REFUSED
    desk.restart()
    desk.tell(ReceiversChanged((MAIL,)))
    assert desk.told("mail") == [(1, "trigger")]
    late = Desk(())
    late.record(alert(1))
    late.now_ns += TOO_OLD_NS + 1
    late.receivers = (MAIL,)
    late.restart()
    assert late.sends == [] and late.state(1, NOBODY) is DeliveryState.SKIPPED
    before = dict(late.disk)
    late.restart()
    assert late.disk == before


def test_removed_and_added_receivers() -> None:
    desk = Desk((MAIL, BOSS))
    desk.record(alert(1))
    desk.tell(ReceiversChanged((BOSS, PAGER)))
    assert desk.state(1, "boss") is DeliveryState.PENDING
    desk.finish(ok=False, receiver="mail")
    assert desk.state(1, "mail") is DeliveryState.SKIPPED
    desk.receivers = (BOSS, PAGER)
    desk.restart()
    assert desk.told("pager") == [], "it was added after the alert"
    desk.wait(61 * NS_PER_S)
    assert desk.told("boss") == [(1, "trigger")]


def test_interrupted_attempt_is_repeated_with_the_same_occurrence() -> None:
    desk = Desk((MAIL,))
    desk.record(alert(1))
    desk.restart()
    assert [(s.occurrence, s.attempt) for s in desk.sends] == [(0, 1), (0, 2)]


KEYS = st.sampled_from(["a", "b", "c"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("trigger"), KEYS, st.sampled_from(["warning", "critical"]), st.sampled_from(["x", "y"])),
        st.tuples(st.just("resolve"), KEYS),
        st.tuples(st.just("finish"), st.sampled_from(["ok", "fail", "refuse"])),
        st.tuples(st.just("wait"), st.integers(0, 400)),
        st.tuples(st.just("restart")),
        st.tuples(st.just("ack"), KEYS),
    ),
    max_size=40,
)


@given(STEPS)
@settings(max_examples=300, deadline=None)
def test_nothing_is_lost_or_sent_twice_without_reason(steps: list[tuple[str, ...]]) -> None:
    """Random alerts, outcomes, waits and crashes; then the receivers work: every delivery ends, none is repeated after its acceptance."""
    desk = Desk((MAIL, PAGER, BOSS))
    accepted: list[tuple[int, str]] = []
    number = 0
    for step in steps:
        if step[0] in ("trigger", "resolve"):
            number += 1
            severity, summary = (step[2], step[3]) if step[0] == "trigger" else ("info", "over")
            desk.record(alert(number, key=step[1], action=step[0], severity=severity, summary=summary))
        elif step[0] == "finish" and desk.flying:
            send = desk.finish(step[1] == "ok", retryable=step[1] != "refuse")
            if step[1] == "ok":
                accepted.append((send.alert.alert_id, send.receiver))
        elif step[0] == "wait":
            desk.wait(int(step[1]) * NS_PER_S)
        elif step[0] == "restart":
            desk.restart()
        elif step[0] == "ack":
            desk.tell(AcknowledgementReceived(step[1]))
        flying = [f.receiver for f in desk.flying]
        assert len(flying) == len(set(flying)), "one attempt at a time to each receiver"
    for _ in range(1_000):
        while desk.flying:
            send = desk.finish()
            accepted.append((send.alert.alert_id, send.receiver))
        if desk.router.next_deadline() is None:
            break
        desk.wait(400 * NS_PER_S)
    for item, _ in desk.outbox:
        for receiver in (MAIL, PAGER, BOSS):
            state = desk.state(item.alert_id, receiver.name)
            assert state in (DeliveryState.DELIVERED, DeliveryState.SKIPPED, DeliveryState.REFUSED)
            assert (state is DeliveryState.DELIVERED) == ((item.alert_id, receiver.name) in accepted)
    assert len(accepted) == len(set(accepted)), "accepted and then sent again"
    for receiver in ("mail", "pager", "boss"):
        for key in "abc":
            order = [i for i, name in accepted if name == receiver and desk.outbox[i - 1][0].dedup_key == key]
            if receiver != "boss":
                assert order == sorted(order)


@pytest.mark.parametrize("prefix", range(12))
def test_every_interrupted_prefix_ends_the_same(prefix: int) -> None:
    """Crash after each of the first commands' effects: at the end both receivers have trigger and resolve."""
    desk = Desk((MAIL, PAGER))
    events = [lambda: desk.record(alert(1)), lambda: desk.record(alert(2, action="resolve"))]
    events += [lambda: desk.finish() if desk.flying else None] * 8
    for position, event in enumerate(events):
        if position == prefix:
            desk.restart()
        event()
    while desk.flying:
        desk.finish()
    assert {k: s[0] for k, s in desk.disk.items()} == {(n, r): DeliveryState.DELIVERED for n in (1, 2) for r in ("mail", "pager")}
