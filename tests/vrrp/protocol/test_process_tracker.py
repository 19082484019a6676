"""vrrp_track_process: matching, quorum and delays, without a single process."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.core import NS_PER_S
from vrrp.protocol.process_tracker import (
    ParameterRule,
    ProcessEnded,
    ProcessesListed,
    ProcessEvent,
    ProcessForked,
    ProcessSeen,
    ProcessTracker,
    ReportProcess,
    TrackedChanged,
    TrackedProcess,
)

WEB = TrackedProcess("web", "nginx")
NONE, EXACT, PARTIAL, INITIAL = ParameterRule


def listed(*pids: int, comm: str = "nginx") -> ProcessesListed:
    return ProcessesListed(tuple(ProcessSeen(pid, comm) for pid in pids))


def tracker(tracked: TrackedProcess, *pids: int) -> ProcessTracker:
    made = ProcessTracker([tracked])
    made.handle(0, listed(*pids))
    return made


class TestMatching:
    @pytest.mark.parametrize(
        ("parameters", "rule", "given_line", "matches"),
        [
            ((), NONE, (), True),
            ((), EXACT, (), True),
            ((), EXACT, ("-v",), False),
            ((), INITIAL, ("-v",), False),
            (("-a", "x"), NONE, ("-a", "x"), True),
            (("-a", "x"), NONE, ("-a", "x", "y"), False),
            (("-a", "x"), EXACT, ("-a",), False),
            (("-a", "x"), PARTIAL, ("-a", "x", "y"), True),
            (("-a", "x"), PARTIAL, ("-a", "xy"), False),
            (("-a", "x"), PARTIAL, ("-a",), False),
            (("-a", "x"), INITIAL, ("-a", "xyz"), True),
            (("-a", "x"), INITIAL, ("-ab", "x"), False),
            (("-a", "x"), INITIAL, ("-a", "xyz", "more"), False),
        ],
    )
    @pytest.mark.shows("vrrp_track_process/param_match")
    def test_parameters(self, parameters: tuple[str, ...], rule: ParameterRule, given_line: tuple[str, ...], matches: bool) -> None:
        tracked = replace(WEB, parameters=parameters, rule=rule)
        assert tracked.matches("nginx", ("nginx", *given_line)) is matches

    @pytest.mark.shows("vrrp_track_process/full_command")
    def test_by_name_the_command_line_does_not_matter_and_by_command_the_name_does_not(self) -> None:
        assert WEB.matches("nginx", ("something", "else"))
        assert not WEB.matches("nginx2", ("nginx",))
        assert replace(WEB, full_command=True).matches("other", ("nginx", "-g"))
        assert not replace(WEB, full_command=True).matches("nginx", ("/usr/sbin/nginx",))
        assert replace(WEB, process="/usr/sbin/nginx").matches("nginx", ("/usr/sbin/nginx", "-g"))

    def test_the_kernel_cuts_long_names(self) -> None:
        assert replace(WEB, process="a-very-long-process-name").matches("a-very-long-pro", ())

    def test_a_kernel_thread_has_no_command_line(self) -> None:
        assert not replace(WEB, full_command=True).matches("nginx", ())


class TestQuorum:
    @pytest.mark.parametrize(("quorum", "most", "running", "up"), [(1, None, 0, False), (1, None, 9, True), (2, 3, 1, False)])
    def test_at_the_start(self, quorum: int, most: int | None, running: int, up: bool) -> None:
        made = ProcessTracker([replace(WEB, quorum=quorum, quorum_max=most)])
        assert made.handle(0, listed(*range(10, 10 + running))) == [ReportProcess("web", up, running)]

    def test_quorum_max_0_means_that_it_must_not_run(self) -> None:
        made = tracker(replace(WEB, quorum=0, quorum_max=0))
        assert made.current() == [ReportProcess("web", True, 0)]
        assert made.handle(1, ProcessSeen(7, "nginx")) == [ReportProcess("web", False, 1)]

    def test_forks_count_until_they_run_something_else(self) -> None:
        made = tracker(replace(WEB, quorum_max=2), 1, 2)
        assert made.handle(1, ProcessForked(1, 3)) == [ReportProcess("web", False, 3)]
        assert made.handle(2, ProcessSeen(3, "sh")) == [ReportProcess("web", True, 2)]

    def test_forks_and_ends_of_others_do_not_count(self) -> None:
        made = tracker(WEB, 1)
        assert made.handle(1, ProcessForked(99, 100)) == made.handle(2, ProcessEnded(100)) == []

    def test_only_changes_are_reported(self) -> None:
        made = tracker(WEB, 1)
        assert made.handle(1, ProcessForked(1, 2)) == made.handle(2, ProcessEnded(1)) == []
        assert made.handle(3, ProcessEnded(2)) == [ReportProcess("web", False, 0)]


class TestDelays:
    SLOW = replace(WEB, fork_delay_ns=2 * NS_PER_S, terminate_delay_ns=NS_PER_S)

    def test_a_restart_shorter_than_terminate_delay_is_not_seen(self) -> None:
        made = tracker(self.SLOW, 1)
        assert made.handle(0, ProcessEnded(1)) == []
        assert made.next_deadline() == NS_PER_S
        assert made.handle(NS_PER_S // 2, ProcessSeen(2, "nginx")) == []
        assert made.next_deadline() is None

    def test_a_longer_end_is(self) -> None:
        made = tracker(self.SLOW, 1)
        made.handle(0, ProcessEnded(1))
        assert made.on_deadline(NS_PER_S - 1) == []
        assert made.on_deadline(NS_PER_S) == [ReportProcess("web", False, 0)]

    @pytest.mark.shows("vrrp_track_process/fork_delay")
    def test_fork_delay_holds_back_what_comes(self) -> None:
        made = tracker(self.SLOW)
        assert made.handle(0, ProcessSeen(2, "nginx")) == []
        assert made.on_deadline(2 * NS_PER_S) == [ReportProcess("web", True, 1)]

    def test_the_first_answer_is_not_delayed(self) -> None:
        made = ProcessTracker([self.SLOW])
        assert made.handle(0, listed(1)) == [ReportProcess("web", True, 1)]

    def test_more_changes_of_the_same_kind_do_not_begin_the_delay_again(self) -> None:
        made = tracker(replace(self.SLOW, quorum=2), 1, 2)
        made.handle(0, ProcessEnded(1))
        made.handle(NS_PER_S // 2, ProcessEnded(2))
        assert made.next_deadline() == NS_PER_S

    def test_one_that_becomes_another_program_is_missed_after_terminate_delay(self) -> None:
        made = tracker(self.SLOW, 1)
        assert made.handle(0, ProcessSeen(1, "sh")) == []
        assert made.next_deadline() == NS_PER_S

    def test_a_fork_over_quorum_max_that_runs_something_else_within_fork_delay_is_not_seen(self) -> None:
        made = tracker(replace(self.SLOW, quorum_max=1), 1)
        assert made.handle(0, ProcessForked(1, 2)) == []
        assert made.next_deadline() == 2 * NS_PER_S
        assert made.handle(NS_PER_S, ProcessSeen(2, "sh")) == []
        assert made.next_deadline() is None

    def test_looking_again_and_finding_the_same_does_not_end_the_delay(self) -> None:
        made = tracker(replace(WEB, terminate_delay_ns=NS_PER_S), 1)
        assert made.handle(0, listed()) == made.handle(1, listed()) == []
        assert made.next_deadline() == NS_PER_S


def test_a_reload_keeps_what_is_tracked_in_the_same_way_and_learns_the_rest_from_the_next_list() -> None:
    made = tracker(WEB, 1)
    other = TrackedProcess("db", "postgres")
    assert made.handle(1, TrackedChanged((WEB, other))) == []
    assert made.handle(2, ProcessesListed((ProcessSeen(1, "nginx"), ProcessSeen(5, "postgres")))) == [ReportProcess("db", True, 1)]


EVENTS = st.one_of(
    st.builds(ProcessSeen, st.integers(1, 8), st.sampled_from(["nginx", "sh"]), st.just(())),
    st.builds(ProcessForked, st.integers(1, 8), st.integers(1, 8)),
    st.builds(ProcessEnded, st.integers(1, 8)),
    st.lists(st.integers(1, 8), unique=True).map(lambda pids: listed(*pids)),
)


@given(st.lists(st.tuples(EVENTS, st.integers(0, 3 * NS_PER_S)), max_size=40), st.integers(0, 3), st.integers(0, 3))
def test_after_quiet_the_last_report_is_the_truth(script: list[tuple[ProcessEvent, int]], quorum: int, extra: int) -> None:
    tracked = replace(TestDelays.SLOW, quorum=quorum, quorum_max=quorum + extra)
    made, now_ns, running = ProcessTracker([tracked]), 0, set[int]()
    said = made.handle(0, listed())
    for event, step_ns in script:
        now_ns += step_ns
        said += made.on_deadline(now_ns) + made.handle(now_ns, event)
        match event:
            case ProcessSeen(pid, "nginx"):
                running.add(pid)
            case ProcessSeen(pid) | ProcessEnded(pid):
                running.discard(pid)
            case ProcessForked(parent, child):
                running |= {child} if parent in running else set()
            case ProcessesListed(processes):
                running = {p.pid for p in processes}
    said += made.on_deadline(now_ns + 10 * NS_PER_S)
    assert said[-1].up is tracked.fulfilled(len(running))
    assert all(a.up is not b.up for a, b in itertools.pairwise(said)), "only changes"
    assert made.next_deadline() is None
