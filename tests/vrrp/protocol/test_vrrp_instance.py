"""The state machine of one virtual router, driven by hand: times are exact, nothing sleeps."""

from __future__ import annotations

import itertools
import typing
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrrp.protocol import events as ev
from vrrp.protocol.commands import (
    AddAddresses,
    InstanceCommand,
    RefitAddresses,
    RemoveAddresses,
    Report,
    ReportKind,
    RunNotify,
    SendAdvert,
    SendGarp,
)
from vrrp.protocol.instance import EVENT_TABLE, TIMER_TABLE, VrrpInstance
from vrrp.protocol.packet import Advert, Family
from vrrp.protocol.parameters import InstanceParameters
from vrrp.protocol.states import State, Timer

S = 1_000_000_000
MS = 1_000_000
OURS, LOWER_IP, HIGHER_IP = IPv4Address("10.0.0.5"), IPv4Address("10.0.0.4"), IPv4Address("10.0.0.6")
VIP = IPv4Address("10.0.0.100")
BASE = InstanceParameters("V", 51, priority=100, addresses=(VIP,))


def advert(priority: int, *, parameters: InstanceParameters = BASE, interval_cs: int = 100) -> Advert:
    return Advert(parameters.version, Family.IPV4, parameters.vrid, priority, parameters.addresses, interval_cs)


def heard(priority: int, source: IPv4Address = HIGHER_IP, **kw: typing.Any) -> ev.AdvertReceived:
    return ev.AdvertReceived(source, advert(priority, **kw))


def started(at: int = 0, *, gate_closed: bool = False, **changes: typing.Any) -> VrrpInstance:
    instance = VrrpInstance(replace(BASE, **changes), local_address=OURS, gate_closed=gate_closed)
    instance.handle(at, ev.Started())
    return instance


def run_until(instance: VrrpInstance, until: int) -> list[tuple[int, InstanceCommand]]:
    """Fire every deadline up to ``until``, each exactly on time."""
    out: list[tuple[int, InstanceCommand]] = []
    while (due := instance.next_deadline()) is not None and due <= until:
        out += [(due, command) for command in instance.on_deadline(due)]
    return out


def master(at: int = 0, **changes: typing.Any) -> tuple[VrrpInstance, int]:
    """A MASTER and the instant at which it became one."""
    instance = started(at, **changes)
    due = instance.next_deadline()
    assert due is not None
    instance.on_deadline(due)
    assert instance.state is State.MASTER
    return instance, due


def kinds(commands: typing.Iterable[InstanceCommand]) -> list[type]:
    return [type(c) for c in commands]


def reports(commands: typing.Iterable[InstanceCommand]) -> list[ReportKind]:
    return [c.kind for c in commands if isinstance(c, Report)]


def test_every_pair_of_state_and_event_is_declared() -> None:
    declared = set(typing.get_args(ev.InstanceEvent))
    assert set(EVENT_TABLE) == {(state, event) for state in State for event in declared}
    assert set(TIMER_TABLE) == {(state, timer) for state in State for timer in Timer}


def test_start_removes_leftovers_then_waits_a_master_down_interval() -> None:
    instance = VrrpInstance(BASE, local_address=OURS)
    commands = instance.handle(0, ev.Started())
    assert kinds(commands) == [RemoveAddresses, RunNotify]
    assert instance.next_deadline() == 3 * S + 156 * S // 256


@pytest.mark.parametrize(
    ("version", "interval", "expected"), [(2, 1 * S, 3_609_375_000), (3, 100 * MS, 360_937_500), (3, S, 3_609_375_000)]
)
def test_master_down_interval(version: int, interval: int, expected: int) -> None:
    assert started(version=version, interval_ns=interval).master_down_ns() == expected


def test_order_of_becoming_master() -> None:
    instance = started()
    commands = instance.on_deadline(4 * S)
    assert kinds(commands) == [SendAdvert, AddAddresses, SendGarp, RunNotify]
    assert commands[2] == SendGarp("V", 5)
    assert typing.cast(RunNotify, commands[3]).state == "MASTER"


def test_order_of_stopping() -> None:
    instance, at = master()
    commands = instance.handle(at, ev.Stopped())
    assert kinds(commands) == [SendAdvert, RemoveAddresses, RunNotify]
    assert typing.cast(SendAdvert, commands[0]).advert.priority == 0
    assert instance.next_deadline() is None


def test_advert_timer_runs_from_its_deadline_not_from_now() -> None:
    instance, at = master()
    instance.on_deadline(at + S + 30 * MS)  # woken 30 ms late
    assert instance.next_deadline() == at + 2 * S
    instance.on_deadline(at + 7 * S)  # five seconds late: one advert, no burst
    assert instance.next_deadline() == at + 8 * S


def test_same_advert_object_until_something_changes() -> None:
    instance, at = master(garp_delay_ns=0)
    first = instance.on_deadline(at + S)[0]
    assert instance.on_deadline(at + 2 * S)[0] is first
    instance.handle(at + 2 * S, ev.PriorityChanged(120))
    changed = typing.cast(SendAdvert, instance.on_deadline(at + 3 * S)[0])
    assert changed.advert.priority == 120


def test_announcements_of_a_new_master() -> None:
    instance, at = master(garp_delay_ns=5 * S, garp_repeat=4, garp_refresh_ns=10 * S, garp_refresh_repeat=2)
    garps = [(when - at, c.repeat) for when, c in run_until(instance, at + 36 * S) if isinstance(c, SendGarp)]
    assert garps == [(5 * S, 4), (15 * S, 2), (25 * S, 2), (35 * S, 2)]


def test_no_refresh_timer_outlives_the_mastership() -> None:
    instance, at = master(garp_refresh_ns=10 * S)
    instance.handle(at + S, heard(200))
    instance.handle(at + 2 * S, heard(0))
    again = run_until(instance, at + 4 * S)
    assert instance.state is State.MASTER
    became = next(when for when, c in again if isinstance(c, AddAddresses))
    garps = [when - became for when, c in run_until(instance, became + 40 * S) if isinstance(c, SendGarp)]
    assert garps == [5 * S, 15 * S, 25 * S, 35 * S]


def test_backup_keeps_quiet_while_it_hears_a_master() -> None:
    instance = started()
    for second in range(1, 60):
        assert not instance.on_deadline(second * S)
        assert instance.handle(second * S, heard(150)) == []
    assert instance.next_deadline() == 59 * S + 3_609_375_000


def test_repeat_moves_only_the_deadline_and_equals_the_event() -> None:
    fast, slow = started(), started()
    for instance in (fast, slow):
        assert not instance.repeat_accepted(S)
        instance.handle(S, heard(150))
    assert fast.repeat_accepted(2 * S)
    slow.handle(2 * S, ev.AdvertRepeated())
    assert fast.snapshot() == slow.snapshot()
    assert fast.next_deadline() == 2 * S + 3_609_375_000
    fast.handle(3 * S, ev.PriorityChanged(90))
    assert not fast.repeat_accepted(4 * S), "after a change the next advert is looked at in full"


def test_priority_zero_leaves_the_skew_only() -> None:
    instance = started()
    instance.handle(S, heard(150))
    instance.handle(2 * S, heard(0))
    assert instance.next_deadline() == 2 * S + 156 * S // 256


def test_lower_advert_does_not_keep_a_preempting_backup_down() -> None:
    instance = started()
    due = instance.next_deadline()
    instance.handle(3 * S, heard(50))
    assert instance.next_deadline() == due


def test_equal_priority_never_preempts() -> None:
    instance = started()
    instance.handle(3 * S, heard(100, LOWER_IP))
    assert instance.next_deadline() == 3 * S + 3_609_375_000


def test_nopreempt_accepts_a_lower_master() -> None:
    instance = started(preempt=False)
    instance.handle(3 * S, heard(50))
    assert instance.next_deadline() == 3 * S + 3_609_375_000


def test_preempt_delay_runs_from_the_first_lower_advert() -> None:
    instance = started(preempt_delay_ns=10 * S)
    for second in range(1, 11):
        instance.handle(second * S, heard(50))
    assert instance.next_deadline() == 11 * S
    assert run_until(instance, 11 * S) == []
    instance.handle(11 * S, heard(50))  # over: discarded, the remaining master-down time runs out
    assert instance.next_deadline() == 10 * S + 3_609_375_000


def test_preempt_delay_is_cleared_by_an_equal_or_higher_master_and_counts_again() -> None:
    instance = started(preempt_delay_ns=10 * S)
    instance.handle(1 * S, heard(50))
    instance.handle(2 * S, heard(150))
    instance.handle(3 * S, heard(50))
    assert instance.snapshot()["timers"]["preempt_delay"] == 13 * S  # type: ignore[index,call-overload]


def test_preempt_delay_does_not_delay_a_takeover_from_a_dead_master() -> None:
    instance = started(preempt_delay_ns=1000 * S)
    instance.handle(S, heard(50))
    run_until(instance, S + 3_609_375_000)
    assert instance.state is State.MASTER


def test_v3_backup_learns_the_interval_and_forgets_it_as_master() -> None:
    instance = started(version=3, interval_ns=S)
    instance.handle(0, heard(150, parameters=instance.parameters, interval_cs=10))
    assert instance.next_deadline() == 360_937_500
    run_until(instance, S // 2)
    assert instance.state is State.MASTER
    assert instance.master_interval_ns == S


@pytest.mark.parametrize(
    ("priority", "source", "stays"),
    [(50, HIGHER_IP, True), (100, LOWER_IP, True), (100, HIGHER_IP, False), (150, LOWER_IP, False)],
)
def test_election_of_a_master_that_hears_another(priority: int, source: IPv4Address, stays: bool) -> None:
    instance, at = master()
    commands = instance.handle(at + 2 * S, heard(priority, source))
    assert (instance.state is State.MASTER) == stays
    if stays:
        assert kinds(commands) == [Report, SendAdvert, SendGarp]
    else:
        # The last word, so that the winner knows that there were two.
        assert kinds(commands) == [SendAdvert, RemoveAddresses, RunNotify]
        assert typing.cast(SendAdvert, commands[0]).advert.priority == 100


def test_the_last_word_can_be_switched_off() -> None:
    instance, at = master(higher_prio_send_advert=False)
    assert kinds(instance.handle(at + S // 2, heard(150))) == [RemoveAddresses, RunNotify]


def test_lower_prio_no_advert_still_announces() -> None:
    instance, at = master(lower_prio_no_advert=True)
    assert kinds(instance.handle(at + 2 * S, heard(50))) == [Report, SendGarp]


def test_a_hang_full_of_lower_adverts_costs_one_advert_and_one_announcement() -> None:
    instance, at = master(garp_delay_ns=0, garp_lower_prio_delay_ns=0)
    commands = [c for _ in range(200) for c in instance.handle(at + 8 * S, heard(50))]
    assert kinds(commands).count(SendAdvert) == 1
    assert kinds(commands).count(SendGarp) == 1


def test_one_way_loss_is_answered_once_a_second() -> None:
    instance, at = master(version=3, interval_ns=100 * MS, garp_delay_ns=0, garp_lower_prio_delay_ns=0)
    garps = adverts = 0
    for tick in range(1, 101):
        now = at + tick * 100 * MS
        commands = [c for _, c in run_until(instance, now)] + instance.handle(now, heard(50, interval_cs=10))
        garps += kinds(commands).count(SendGarp)
        adverts += kinds(commands).count(SendAdvert)
    assert 9 <= garps <= 11
    assert adverts <= 201


def test_announcement_that_comes_too_soon_is_postponed_not_forgotten() -> None:
    instance, at = master(garp_delay_ns=0)
    assert SendGarp not in kinds(instance.handle(at + 100 * MS, heard(50)))
    garps = [when for when, c in run_until(instance, at + 3 * S) if isinstance(c, SendGarp)]
    assert garps == [at + S]


@pytest.mark.parametrize("first", ["winner heard first", "loser heard first"])
def test_after_a_heal_the_winner_always_announces(first: str) -> None:
    """keepalived's black hole: when the loser hears the winner first, the winner never learns that there were two."""
    winner, at = master(priority=150)
    loser = VrrpInstance(replace(BASE, priority=100), local_address=LOWER_IP)
    loser.handle(0, ev.Started())
    run_until(loser, at + S)
    assert loser.state is State.MASTER
    now = at + 60 * S
    if first == "winner heard first":
        answer = loser.handle(now, heard(150, OURS))
        last_word = typing.cast(SendAdvert, answer[0]).advert
    else:
        last_word = advert(100)
    commands = winner.handle(now + 1, ev.AdvertReceived(LOWER_IP, last_word))
    assert SendGarp in kinds(commands)
    assert winner.state is State.MASTER


def test_priority_zero_heard_by_a_master_is_answered_and_announced() -> None:
    instance, at = master()
    assert kinds(instance.handle(at + 2 * S, heard(0))) == [SendAdvert, SendGarp]


def test_fault_and_return() -> None:
    instance, at = master()
    commands = instance.handle(at, ev.FaultRaised("eth0 down"))
    assert kinds(commands) == [SendAdvert, RemoveAddresses, RunNotify]
    assert typing.cast(SendAdvert, commands[0]).advert.priority == 0
    assert instance.next_deadline() is None
    instance.handle(at, ev.FaultRaised("script"))
    assert instance.handle(at, heard(250)) == []
    assert instance.handle(at, ev.FaultCleared("eth0 down")) == []
    instance.handle(at + S, ev.FaultCleared("script"))
    assert (instance.state, instance.next_deadline()) == (State.BACKUP, at + S + 3_609_375_000)


def test_fault_before_start_is_remembered() -> None:
    instance = VrrpInstance(BASE, local_address=OURS)
    instance.handle(0, ev.FaultRaised("eth0 down"))
    instance.handle(0, ev.Started())
    assert instance.state is State.FAULT


def test_owner_starts_as_master_at_once_and_returns_after_one_interval() -> None:
    instance = started(priority=255, start_as_master=True)
    assert instance.state is State.MASTER
    instance.handle(S, ev.FaultRaised("x"))
    instance.handle(2 * S, ev.FaultCleared("x"))
    assert instance.next_deadline() == 3 * S + S // 256


def test_startup_delay_ignores_adverts() -> None:
    instance = started(startup_delay_ns=5 * S)
    instance.handle(S, heard(150))
    assert (instance.state, instance.next_deadline()) == (State.INIT, 5 * S)
    instance.on_deadline(5 * S)
    assert instance.next_deadline() == 5 * S + 3_609_375_000


def test_priority_change_moves_the_running_timer_by_the_difference_of_skew() -> None:
    instance = started()
    instance.handle(S, ev.PriorityChanged(228))
    assert instance.next_deadline() == 3 * S + 28 * S // 256


class TestGate:
    def test_closed_gate_holds_a_backup_and_says_so_once(self) -> None:
        instance = started(gate_closed=True)
        assert reports(instance.on_deadline(4 * S)) == [ReportKind.WAITING_FOR_FENCE]
        assert (instance.state, instance.waiting_for_fence, instance.next_deadline()) == (State.BACKUP, True, None)

    def test_grant_releases_it_at_once(self) -> None:
        instance = started(gate_closed=True)
        instance.on_deadline(4 * S)
        instance.handle(5 * S, ev.TakeoverGranted(1, 9 * S))
        assert instance.state is State.MASTER

    def test_grant_before_the_timer_counts_until_it_expires(self) -> None:
        early, late = started(gate_closed=True), started(gate_closed=True)
        early.handle(0, ev.TakeoverGranted(1, 5 * S))
        late.handle(0, ev.TakeoverGranted(1, 3 * S))
        for instance in (early, late):
            instance.on_deadline(4 * S)
        assert (early.state, late.state) == (State.MASTER, State.BACKUP)

    def test_old_epoch_is_refused(self) -> None:
        instance = started(gate_closed=True)
        instance.handle(0, ev.TakeoverGranted(7, 2 * S))
        assert reports(instance.handle(3 * S, ev.TakeoverGranted(6, 99 * S))) == [ReportKind.GRANT_REFUSED]
        instance.on_deadline(4 * S)
        assert instance.state is State.BACKUP

    def test_a_master_that_returns_ends_the_wait(self) -> None:
        instance = started(gate_closed=True)
        instance.on_deadline(4 * S)
        instance.handle(5 * S, heard(150))
        assert not instance.waiting_for_fence
        instance.handle(6 * S, ev.TakeoverGranted(1, 99 * S))
        assert instance.state is State.BACKUP

    def test_expiry_does_not_depose_a_master(self) -> None:
        instance = started(gate_closed=True)
        instance.handle(0, ev.TakeoverGranted(1, 4 * S))
        run_until(instance, 20 * S)
        assert instance.state is State.MASTER

    def test_a_grant_lasts_until_it_expires_or_a_yield(self) -> None:
        """The watcher grants once and holds later; a link that bounces does not ask it again."""
        bounced, yielded = started(gate_closed=True), started(gate_closed=True)
        for instance in (bounced, yielded):
            instance.handle(0, ev.TakeoverGranted(5, 99 * S))
            run_until(instance, 4 * S)
            assert instance.state is State.MASTER
        bounced.handle(5 * S, ev.FaultRaised("x"))
        bounced.handle(6 * S, ev.FaultCleared("x"))
        yielded.handle(5 * S, ev.YieldRequested(6 * S))
        for instance in (bounced, yielded):
            run_until(instance, 60 * S)
        assert bounced.state is State.MASTER
        assert (yielded.state, yielded.waiting_for_fence) == (State.BACKUP, True)
        yielded.handle(60 * S, ev.TakeoverGranted(1, 99 * S))
        assert yielded.state is State.MASTER, "a watcher that was restarted counts from 1"

    def test_even_an_owner_waits(self) -> None:
        assert started(gate_closed=True, priority=255, start_as_master=True).state is State.BACKUP

    def test_a_grant_after_a_yield_does_not_wait_for_a_master_that_cannot_be(self) -> None:
        """Case J1, strict: the other node let go because its port is dead; the watcher says so by a grant."""
        instance = started(gate_closed=True)
        instance.handle(0, ev.YieldRequested(1 << 62))
        instance.handle(9 * S, heard(150))
        instance.handle(12 * S, ev.YieldCancelled())
        instance.handle(12 * S, ev.TakeoverGranted(1, 99 * S))
        assert instance.next_deadline() == 9 * S + 3_609_375_000
        run_until(instance, 13 * S)
        assert instance.state is State.MASTER


class TestYield:
    def test_master_gives_up_with_priority_zero_and_stays_down(self) -> None:
        instance, at = master()
        commands = instance.handle(at, ev.YieldRequested(at + 30 * S))
        assert kinds(commands) == [SendAdvert, RemoveAddresses, RunNotify, Report]
        assert typing.cast(SendAdvert, commands[0]).advert.priority == 0
        run_until(instance, at + 30 * S)
        assert instance.state is State.BACKUP
        run_until(instance, at + 34 * S)
        assert instance.state is State.MASTER

    def test_cancel_gives_one_more_master_down_interval(self) -> None:
        instance, at = master()
        instance.handle(at, ev.YieldRequested(at + 30 * S))
        run_until(instance, at + 10 * S)
        instance.handle(at + 10 * S, ev.YieldCancelled())
        assert instance.next_deadline() == at + 10 * S + 3_609_375_000

    def test_backup_and_fault_remember_the_yield(self) -> None:
        instance = started()
        instance.handle(0, ev.FaultRaised("x"))
        instance.handle(0, ev.YieldRequested(60 * S))
        instance.handle(S, ev.FaultCleared("x"))
        run_until(instance, 59 * S)
        assert instance.state is State.BACKUP


class TestBridge:
    def test_bridged_advert_counts_from_when_it_was_sent(self) -> None:
        instance = started()
        instance.handle(3 * S, ev.AdvertBridged(150, HIGHER_IP, 500 * MS, 60 * S))
        assert instance.next_deadline() == 2500 * MS + 3_609_375_000

    def test_never_outlives_its_validity(self) -> None:
        instance = started()
        instance.handle(3 * S, ev.AdvertBridged(150, HIGHER_IP, 0, S))
        assert instance.next_deadline() == 4 * S

    def test_never_shortens_and_never_touches_a_master(self) -> None:
        instance = started()
        instance.handle(0, heard(150))
        instance.handle(S, ev.AdvertBridged(150, HIGHER_IP, S, S))
        assert instance.next_deadline() == 3_609_375_000
        ruler, at = master()
        before = ruler.snapshot()
        assert ruler.handle(at, ev.AdvertBridged(255, HIGHER_IP, 0, 60 * S)) == []
        assert ruler.snapshot() == before

    def test_lower_master_does_not_hold_a_preempting_backup(self) -> None:
        instance = started()
        due = instance.next_deadline()
        instance.handle(3 * S, ev.AdvertBridged(50, HIGHER_IP, 0, 60 * S))
        assert instance.next_deadline() == due

    def test_the_newest_word_counts_whichever_way_it_came(self) -> None:
        """Case S3: an advert that was sent before a priority 0 must not put the takeover off when it arrives after it."""
        instance = started()
        instance.handle(0, heard(150))
        instance.handle(S, heard(0))
        due_ns = instance.next_deadline()
        instance.handle(S + 200 * MS, ev.AdvertBridged(150, HIGHER_IP, 300 * MS, 3 * S))
        assert instance.next_deadline() == due_ns
        instance.handle(S + 300 * MS, ev.AdvertBridged(150, HIGHER_IP, 100 * MS, 3 * S))  # it is master again
        assert instance.next_deadline() == 4 * S + 300 * MS

    def test_a_bridge_is_taken_back_by_priority_zero(self) -> None:
        instance = started()
        instance.handle(0, heard(150))
        for at_ns in (2 * S, 3 * S):
            instance.handle(at_ns, ev.AdvertBridged(150, HIGHER_IP, 0, 3 * S))
        assert instance.next_deadline() == 6 * S
        instance.handle(3 * S + 100 * MS, ev.AdvertBridged(0, HIGHER_IP, 0, 3 * S))
        assert instance.next_deadline() == 3_609_375_000, "as if nothing had been bridged"
        instance.handle(3 * S + 200 * MS, ev.AdvertBridged(150, HIGHER_IP, 0, 3 * S))
        instance.handle(4 * S, ev.AdvertBridged(0, HIGHER_IP, 0, 3 * S))
        assert instance.next_deadline() == 4 * S, "overdue: at once"


class TestReleaseWhileYielding:
    def test_a_release_that_was_heard_meanwhile_counts(self) -> None:
        """Case S4: the owner died while this node was held; its priority 0 is not forgotten."""
        instance = started()
        instance.handle(0, heard(150))
        instance.handle(S, ev.YieldRequested(1 << 62))
        instance.handle(10 * S, heard(150))
        instance.handle(11 * S, heard(0))
        instance.handle(11 * S + 100 * MS, ev.YieldCancelled())
        assert instance.next_deadline() == 11 * S + 609_375_000
        run_until(instance, 12 * S)
        assert instance.state is State.MASTER

    def test_a_release_is_forgotten_when_somebody_else_is_heard(self) -> None:
        instance = started()
        instance.handle(S, ev.YieldRequested(1 << 62))
        instance.handle(11 * S, heard(0))
        instance.handle(12 * S, heard(150))
        instance.handle(12 * S + 100 * MS, ev.YieldCancelled())
        assert instance.next_deadline() == 12 * S + 100 * MS + 3_609_375_000

    def test_a_yield_without_end_says_so(self) -> None:
        (report,) = [c for c in started().handle(0, ev.YieldRequested(1 << 62)) if isinstance(c, Report)]
        assert report.detail == "until it is cancelled"


class TestStall:
    def test_master_listens_before_it_speaks(self) -> None:
        instance, at = master()
        instance.handle(at + 8 * S, ev.ProcessStalled(8 * S))
        assert SendAdvert not in kinds(instance.on_deadline(at + 8 * S + 1))
        sent = [when for when, c in run_until(instance, at + 10 * S) if isinstance(c, SendAdvert)]
        assert sent[0] == at + 9 * S

    def test_nopreempt_master_that_slept_leaves_the_new_one_alone(self) -> None:
        instance, at = master(preempt=False)
        instance.handle(at + 8 * S, ev.ProcessStalled(8 * S))
        commands = instance.handle(at + 8 * S, heard(50))
        assert instance.state is State.BACKUP
        assert SendAdvert not in kinds(commands), "a last word with our higher priority would depose it"

    def test_preempting_master_wins_back_with_one_announcement(self) -> None:
        instance, at = master()
        instance.handle(at + 8 * S, ev.ProcessStalled(8 * S))
        commands = [c for _ in range(8) for c in instance.handle(at + 8 * S, heard(50))]
        assert kinds(commands).count(SendGarp) == 1
        assert instance.state is State.MASTER

    def test_short_stall_changes_nothing(self) -> None:
        instance, at = master()
        before = instance.snapshot()
        assert instance.handle(at, ev.ProcessStalled(2 * S)) == []
        assert instance.snapshot() == before

    def test_strict_master_that_slept_leaves_whoever_took_over_alone(self) -> None:
        for heard_somebody in (True, False):
            instance = started(gate_closed=True)
            instance.handle(0, ev.TakeoverGranted(1, 99 * S))
            run_until(instance, 4 * S)
            instance.handle(20 * S, ev.ProcessStalled(10 * S))
            if heard_somebody:
                instance.handle(20 * S, heard(50))
            assert instance.state is (State.BACKUP if heard_somebody else State.MASTER)

    def test_backup_that_slept_does_not_believe_in_the_silence(self) -> None:
        instance = started()
        instance.handle(S, heard(150))
        instance.handle(20 * S, ev.ProcessStalled(19 * S))
        assert instance.on_deadline(20 * S) == []
        assert instance.next_deadline() == 21 * S + 156 * S // 256


class TestAddresses:
    def test_lost_address_is_restored_at_once_but_not_in_a_loop(self) -> None:
        instance, at = master(garp_delay_ns=0)
        assert AddAddresses in kinds(instance.handle(at + S, ev.AddressLost(VIP)))
        assert instance.handle(at + S + 1, ev.AddressLost(VIP)) == []
        restored = [when for when, c in run_until(instance, at + 5 * S) if isinstance(c, AddAddresses)]
        assert restored == [at + 2 * S]

    def test_who_keeps_removing_it_makes_the_pauses_grow_until_there_is_calm(self) -> None:
        instance, at = master(garp_delay_ns=0)
        restored, when = [], at
        for _ in range(9):
            commands = instance.handle(when, ev.AddressLost(VIP))
            while AddAddresses not in kinds(commands):
                due = instance.next_deadline()
                assert due is not None
                when = due
                commands = instance.on_deadline(when)
            restored.append(when)
        assert [(b - a) // S for a, b in itertools.pairwise(restored)] == [1, 2, 4, 8, 16, 32, 60, 60]
        calm = when + 121 * S
        assert AddAddresses in kinds(instance.handle(calm, ev.AddressLost(VIP)))
        instance.handle(calm + 1, ev.AddressLost(VIP))
        assert [t for t, c in run_until(instance, calm + 5 * S) if isinstance(c, AddAddresses)] == [calm + S]
        assert instance.counters.addresses_restored == 11

    def test_refused_address_hands_over_and_tries_again(self) -> None:
        instance, at = master()
        assert kinds(instance.handle(at, ev.AddressFailed("ENOBUFS"))) == [SendAdvert, RemoveAddresses, RunNotify]
        run_until(instance, at + 10 * S)
        assert instance.state is State.BACKUP

    def test_differing_list_is_reported_once_and_accepted(self) -> None:
        other = replace(BASE, addresses=(VIP, IPv4Address("10.0.0.101")))
        instance = started()
        assert reports(instance.handle(S, heard(150, parameters=other))) == [ReportKind.ADDRESSES_DIFFER]
        assert reports(instance.handle(2 * S, heard(150, parameters=other))) == []
        assert instance.next_deadline() == 2 * S + 3_609_375_000


class TestReload:
    def test_master_stays_master_and_announces_new_addresses(self) -> None:
        instance, at = master()
        more = replace(BASE, addresses=(VIP, IPv4Address("10.0.0.101")), carried=(("eth0", VIP), ("eth0", IPv4Address("10.0.0.101"))))
        commands = instance.handle(at + S // 2, ev.ParametersChanged(more))
        assert kinds(commands) == [RefitAddresses, SendGarp]
        sent = [c for _, c in run_until(instance, at + S) if isinstance(c, SendAdvert)]
        assert sent[0].advert.addresses == more.addresses

    def test_what_only_the_shell_knows_is_acted_on_too(self) -> None:
        """A route, a label, a prefix: nothing that this core knows has changed, and the kernel gets the new file all the same (F1)."""
        instance, at = master()
        assert kinds(instance.handle(at + S // 2, ev.ParametersChanged(BASE))) == [RefitAddresses]

    def test_an_excluded_address_that_is_new_is_announced(self) -> None:
        instance, at = master()
        more = replace(BASE, carried=(*BASE.carried, ("eth0", IPv4Address("10.0.0.111"))))
        assert kinds(instance.handle(at + S // 2, ev.ParametersChanged(more))) == [RefitAddresses, SendGarp]

    def test_a_backup_gives_up_what_becomes_virtual(self) -> None:
        instance = started()
        more = replace(BASE, carried=(("eth0", IPv4Address("10.0.0.111")),))
        assert kinds(instance.handle(0, ev.ParametersChanged(more))) == [RemoveAddresses]
        assert kinds(instance.handle(0, ev.ParametersChanged(more))) == []

    def test_backup_timer_follows_the_new_interval(self) -> None:
        instance = started()
        instance.handle(0, ev.ParametersChanged(replace(BASE, interval_ns=2 * S)))
        assert instance.next_deadline() == 6 * S + 156 * S // 256

    def test_a_backup_that_changes_to_version_2_forgets_the_interval_it_learned(self) -> None:
        instance = started(version=3)
        slow = replace(BASE, version=3)
        instance.handle(S, heard(150, parameters=slow, interval_cs=500))
        assert instance.master_interval_ns == 5 * S
        instance.handle(S, ev.ParametersChanged(replace(BASE, version=2)))
        assert instance.next_deadline() == S + 3 * S + 156 * S // 256


class TestGroup:
    def test_member_asks_and_waits(self) -> None:
        instance = started(in_sync_group=True)
        due = instance.next_deadline()
        assert due is not None
        instance.on_deadline(due)
        assert (instance.state, instance.wants_master, instance.next_deadline()) == (State.BACKUP, True, due + 3_609_375_000)
        instance.handle(due, ev.PromotedByGroup())
        assert instance.state is State.MASTER

    def test_demoted_member_says_no_zero(self) -> None:
        instance = started(in_sync_group=True)
        run_until(instance, 4 * S)
        instance.handle(4 * S, ev.PromotedByGroup())
        assert kinds(instance.handle(5 * S, ev.DemotedByGroup())) == [RemoveAddresses, RunNotify]


ADDRESSES = st.sampled_from([LOWER_IP, HIGHER_IP])
EVENTS = st.one_of(
    st.just(ev.Started()),
    st.just(ev.Stopped()),
    st.builds(ev.AdvertReceived, ADDRESSES, st.builds(advert, st.integers(0, 255))),
    st.just(ev.AdvertRepeated()),
    st.builds(ev.PriorityChanged, st.integers(1, 254)),
    st.builds(ev.FaultRaised, st.sampled_from("ab")),
    st.builds(ev.FaultCleared, st.sampled_from("ab")),
    st.builds(ev.LocalAddressChanged, st.sampled_from([None, OURS])),
    st.just(ev.AddressLost(VIP)),
    st.just(ev.AddressFailed("EINVAL")),
    st.builds(lambda p: ev.ParametersChanged(replace(BASE, priority=p)), st.integers(1, 255)),
    st.builds(ev.ProcessStalled, st.integers(0, 20 * S)),
    st.builds(ev.TakeoverGranted, st.integers(0, 3), st.integers(0, 100 * S)),
    st.builds(ev.YieldRequested, st.integers(0, 100 * S)),
    st.just(ev.YieldCancelled()),
    st.builds(ev.AdvertBridged, st.integers(0, 255), ADDRESSES, st.integers(0, 5 * S), st.integers(0, 5 * S)),
    st.just(ev.AnnounceRequested()),
    st.just(ev.PromotedByGroup()),
    st.just(ev.DemotedByGroup()),
)


@given(
    steps=st.lists(st.tuples(st.integers(0, 4 * S), EVENTS), max_size=60),
    gate=st.booleans(),
    preempt=st.booleans(),
    delay=st.sampled_from([0, 3 * S]),
    group=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_any_sequence_keeps_the_invariants(steps: list[typing.Any], gate: bool, preempt: bool, delay: int, group: bool) -> None:
    parameters = replace(BASE, preempt=preempt, preempt_delay_ns=delay, in_sync_group=group, garp_refresh_ns=2 * S)
    instance = VrrpInstance(parameters, local_address=OURS, gate_closed=gate)
    now, holds = 0, False
    granted_until, epoch = 0, 0

    def check(commands: typing.Iterable[InstanceCommand]) -> None:
        nonlocal holds
        for command in commands:
            if isinstance(command, AddAddresses):
                if not holds and gate:
                    assert now < granted_until, "became MASTER through a closed gate"
                holds = True
            elif isinstance(command, RemoveAddresses):
                holds = False
        assert holds == (instance.state is State.MASTER)
        due = instance.next_deadline()
        if instance.state is State.MASTER:
            assert due is not None and due <= now + BASE.interval_ns, "a MASTER must speak every interval"
        if instance.state is State.BACKUP and not instance.waiting_for_fence:
            assert due is not None, "a BACKUP that waits for nothing never takes over"
        assert due is None or due > now - S, "what is due fires; a higher priority may make it due at once"

    for wait, event in steps:
        until = now + wait
        while (due := instance.next_deadline()) is not None and due <= until:
            now = due
            before, rehearsed = instance.snapshot(), instance.rehearse(now)
            assert instance.snapshot() == before, "a rehearsal changes nothing"
            commands = instance.on_deadline(now)
            assert rehearsed == commands, "a rehearsal is what happens then"
            check(commands)
        now = until
        if isinstance(event, ev.TakeoverGranted) and event.epoch >= epoch and event.expires_ns > now:
            epoch, granted_until = event.epoch, event.expires_ns
        if isinstance(event, ev.YieldRequested) and event.until_ns > now:
            epoch, granted_until = 0, 0
        if isinstance(event, ev.PromotedByGroup) and not instance.wants_master:
            continue  # the group promotes only those that want it
        check(instance.handle(now, event))
