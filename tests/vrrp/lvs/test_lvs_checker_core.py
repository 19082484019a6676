"""CheckerCore: when it probes, when its verdict changes."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from base.core import NS_PER_S
from tests.vrrp.lvs.services import checker, timing
from vrrp.lvs.model.checker import (
    CheckerCommand,
    CheckerCore,
    ProbeFailed,
    ProbePassed,
    ReportDown,
    ReportFailure,
    ReportUp,
    ReportWeight,
    Resumed,
    StartProbe,
    Suspended,
)
from vrrp.lvs.model.settings import CheckerSettings, Connection, HttpProbe, Url

S = NS_PER_S


def probe(core: CheckerCore, passes: bool, weight: int | None = None) -> tuple[int, list[CheckerCommand]]:
    """Run the next probe at its time; answers (when, what its end caused)."""
    due = core.next_deadline()
    assert due is not None
    (start,) = core.on_deadline(due)
    assert isinstance(start, StartProbe)
    return due, core.handle(due, ProbePassed(weight) if passes else ProbeFailed("refused"))


def urls(count: int, *, fast: bool = False, alpha: bool = False) -> CheckerSettings:
    connection = Connection(ip_address("192.0.2.1"), 80)
    http = HttpProbe(connection, tuple(Url(f"/{n}") for n in range(count)), fast_recovery=fast)
    return CheckerSettings("H", http, timing(alpha=alpha))


def test_the_first_probe_decides_alone_without_alpha() -> None:
    core = CheckerCore(checker(retry=5), 1 * S)
    assert core.is_up
    assert probe(core, False) == (1 * S, [ReportDown("refused")])


def test_later_failures_are_retried_first() -> None:
    core = CheckerCore(checker(retry=2), 1 * S)
    assert probe(core, True) == (1 * S, [])
    assert probe(core, False) == (11 * S, [ReportFailure("refused", 2)])
    assert probe(core, False) == (12 * S, [ReportFailure("refused", 1)])
    assert probe(core, False) == (13 * S, [ReportDown("refused")])
    assert probe(core, False) == (23 * S, [ReportFailure("refused", 0)])
    assert probe(core, True) == (33 * S, [ReportUp("")])


def test_a_success_between_failures_gives_all_tries_back() -> None:
    core = CheckerCore(checker(retry=1), 0)
    for passes in (True, False, True, False, True, False):
        probe(core, passes)
        assert core.is_up
    assert probe(core, False)[1] == [ReportDown("refused")]


def test_alpha_starts_down_and_needs_one_success() -> None:
    core = CheckerCore(checker(alpha=True), 0)
    assert not core.is_up
    assert probe(core, False)[1] == [ReportDown("refused")], "nothing was known before (V6)"
    assert probe(core, False)[1] == [ReportFailure("refused", 0)]
    assert probe(core, True)[1] == [ReportUp("")]


def test_the_rhythm_counts_from_the_start_of_a_probe() -> None:
    core = CheckerCore(checker(), 0)
    core.on_deadline(0)
    core.handle(4 * S, ProbePassed())
    assert core.next_deadline() == 10 * S
    core.on_deadline(10 * S)
    assert core.next_deadline() is None, "one probe at a time"
    core.handle(25 * S, ProbePassed())
    assert core.next_deadline() == 25 * S, "a probe longer than the period is followed at once"


def test_weights_are_told_when_they_change() -> None:
    core = CheckerCore(checker(), 0)
    assert [probe(core, True, weight)[1] for weight in (7, 7, None, None)] == [[ReportWeight(7)], [], [ReportWeight(None)], []]


def test_urls_take_turns_and_the_failed_one_comes_first() -> None:
    core = CheckerCore(urls(3), 0)
    steps = []
    for passes in (True, False, False, True, True, True, True):
        due = core.next_deadline()
        assert due is not None
        (start,) = core.on_deadline(due)
        assert isinstance(start, StartProbe)
        commands = core.handle(due, ProbePassed() if passes else ProbeFailed("x"))
        steps.append((start.step, [type(command) for command in commands]))
    assert steps == [(0, []), (1, [ReportFailure]), (1, [ReportDown]), (1, []), (0, []), (1, []), (2, [ReportUp])]


def test_fast_recovery_goes_through_the_urls_without_a_pause_while_down_only() -> None:
    core = CheckerCore(urls(3, fast=True, alpha=True), 0)
    assert [probe(core, True)[0] for _ in range(3)] == [0, 0, 0]
    assert core.is_up
    assert core.next_deadline() == 10 * S


def test_a_suspended_checker_is_silent_and_comes_back_at_once() -> None:
    core = CheckerCore(checker(), 0)
    core.on_deadline(0)
    core.handle(1, Suspended())
    assert core.handle(2, ProbeFailed("the address had left")) == [] and core.is_up
    assert core.next_deadline() is None
    core.handle(50 * S, Resumed())
    assert core.next_deadline() == 50 * S


def test_resumed_while_a_probe_runs_waits_for_it() -> None:
    core = CheckerCore(checker(), 0)
    core.on_deadline(0)
    core.handle(1, Suspended())
    core.handle(2, Resumed())
    assert core.next_deadline() is None
    assert core.handle(3, ProbePassed()) == []
    assert core.next_deadline() == 10 * S


def test_a_reload_keeps_verdict_and_tries() -> None:
    before = CheckerCore(checker(retry=2), 0)
    probe(before, True)
    probe(before, False)
    after = CheckerCore(checker(retry=2), 99 * S)
    after.inherit(before)
    assert after.next_deadline() == 11 * S
    assert probe(after, False)[1] == [ReportFailure("refused", 1)]
    assert probe(after, False)[1] == [ReportDown("refused")]


@given(st.booleans(), st.integers(0, 3), st.integers(1, 3), st.booleans(), st.lists(st.booleans(), max_size=40))
def test_verdicts_only_change_when_they_are_told_and_after_enough_failures(
    alpha: bool, retry: int, count: int, fast: bool, results: list[bool]
) -> None:
    configured = urls(count, fast=fast)
    configured = CheckerSettings("H", configured.probe, timing(alpha=alpha, retry=retry))
    core = CheckerCore(configured, 0)
    told, in_a_row = not alpha, 0
    last_due = -1
    for number, passes in enumerate(results):
        due, commands = probe(core, passes)
        assert due >= last_due
        last_due = due
        in_a_row = 0 if passes else in_a_row + 1
        for command in commands:
            if isinstance(command, ReportUp):
                assert not told and passes
                told = True
            if isinstance(command, ReportDown):
                assert (told or (alpha and number == 0)) and not passes
                assert number == 0 or in_a_row >= retry + 1
                told = False
        assert told is core.is_up
        if told and not passes:
            assert in_a_row <= retry
