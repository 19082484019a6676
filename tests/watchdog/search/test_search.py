"""Exhaustive search: it copies worlds truly, finds the planted bugs behind J1, J6 and J10, and says what it looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from watchdog.judgement.watcher import WatcherCore
from watchdog.search.alphabet import LETTERS, fault_at, letters
from watchdog.search.explore import Explorer, Limits, Outcome, Step, in_a_copy, play_schedule, strike
from watchdog.search.fingerprint import fingerprint
from watchdog.search.plants import PLANTS
from watchdog.search.run import dealt, search
from watchdog.search.seen import SeenStates
from watchdog.search.settings import CONFIGURATIONS

ROOT = Path(__file__).resolve().parents[3]
MS = 1_000_000
BY_NAME = {str(pair): pair for pair in CONFIGURATIONS}

PLANTED = {
    "blind-to-the-port": ("strict/vrrpd/alone", ((9000, "port-a"),)),
    "deaf-to-new-sessions": ("strict/vrrpd/alone", ((9000, "cut-ab"), (10500, "watcher-b"))),
    "no-turns": ("strict/vrrpd/alone", ((9000, "cut"),)),
}
"""The shortest schedule that shows each planted bug."""


def ns(schedule: tuple[tuple[int, str], ...]) -> tuple[tuple[int, str], ...]:
    return tuple((at_ms * MS, letter) for at_ms, letter in schedule)


def test_every_letter_is_a_fault_and_there_are_enough_of_them() -> None:
    for letter, text in LETTERS.items():
        fault = fault_at(letter, 9_001 * MS)
        assert fault.at_ns == 9_001 * MS
        assert text.startswith(fault.text)
    assert len(letters(witness=False, strict=True, deep=True)) >= 20
    assert set(letters(witness=True, strict=False, deep=False)) == set(LETTERS)


def test_the_pairs_are_both_modes_beside_both_daemons_with_and_without_a_witness() -> None:
    assert len(CONFIGURATIONS) == 8
    assert {(pair.mode.value, pair.daemon, pair.witness) for pair in CONFIGURATIONS} == {
        (mode, daemon, witness) for mode in ("strict", "resolve") for daemon in ("vrrpd", "keepalived") for witness in (True, False)
    }
    for pair in CONFIGURATIONS:
        assert pair.options().fence_enabled


def test_a_copy_goes_its_own_way_and_leaves_the_world_where_it_was() -> None:
    pair = BY_NAME["resolve/vrrpd/alone"]
    explorer = Explorer(pair, Limits(1), lambda _: None)
    world, _log = explorer.prepare()
    before = (world.scheduler.now_ns, world.trace.digest())

    def play() -> Outcome:
        strike(world, Step(9_000 * MS, "crash-a"))
        world.run_until(13_000 * MS)
        return Outcome((), (), (world.scheduler.now_ns, int(world.machines["A"].kernel.powered)))

    assert in_a_copy(play).decisions == (13_000 * MS, 0)
    assert (world.scheduler.now_ns, world.trace.digest()) == before
    assert world.machines["A"].kernel.powered


def test_a_quiet_pair_comes_back_to_its_state_and_a_fault_is_another_state() -> None:
    world, _ = Explorer(BY_NAME["strict/vrrpd/alone"], Limits(1), lambda _: None).prepare()
    states = set()
    for second in range(10, 40):
        world.run_until(second * 1_000 * MS)
        states.add(fingerprint(world))
    assert len(states) < 25, "thirty seconds of peace are fewer states than seconds"
    strike(world, Step(40_000 * MS, "cut"))
    world.run_until(42_500 * MS)
    assert fingerprint(world) not in states


def test_the_table_of_states_remembers_over_processes() -> None:
    table = SeenStates(64)
    assert not table.met(b"12345678")
    child = os.fork()
    if child == 0:
        os._exit(0 if table.met(b"12345678") and not table.met(b"abcdefgh") else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert table.met(b"abcdefgh")
    assert table.count() == 2


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_shown_by_its_schedule(name: str) -> None:
    pair, schedule = PLANTED[name]
    plant = PLANTS[name]
    assert play_schedule(BY_NAME[pair], ns(schedule)).violations == ()
    outcome = play_schedule(BY_NAME[pair], ns(schedule), plant.core)
    assert any(violation.split(" at ")[0] in plant.caught_by for violation in outcome.violations), outcome.violations


def test_a_search_finds_a_planted_bug_by_itself() -> None:
    pair = BY_NAME["strict/vrrpd/alone"]
    told = search(1, workers=1, pairs=(pair,), core=PLANTS["blind-to-the-port"].core, stop_at_first=True)
    assert told.findings and told.findings[0].violations[0].startswith("service")
    assert f"--pair {pair} --step port-a@" in told.findings[0].repeat()


def test_every_plant_has_its_schedule() -> None:
    assert set(PLANTED) == set(PLANTS)
    assert {plant.case for plant in PLANTS.values()} == {"J1", "J6", "J10"}


def test_the_order_rotates_with_the_start_and_leaves_nothing_out() -> None:
    pairs = CONFIGURATIONS[:2]
    one, other = (dealt(pairs, Limits(1), start, WatcherCore) for start in (1, 2))
    assert one != other
    assert sorted(map(repr, one)) == sorted(map(repr, other))


def command(*words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "brainctl.command", "search", *words], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_a_search_ends_in_its_time_and_says_what_it_covered() -> None:
    status, text = command("--depth", "2", "--budget", "6", "--start", "5", "--json", "--workers", "1", "--pair", "resolve/vrrpd/alone")
    told = json.loads(text)
    assert status in (0, 2)
    assert told["schedules"] > 0 and not told["complete"]
    assert set(told) >= {"start", "depth", "schedules_by_depth", "letters", "findings", "cpu_s"}


def test_a_schedule_is_played_by_name_and_wrong_usage_is_3() -> None:
    status, text = command("--pair", "resolve/vrrpd/alone", "--step", "handover-a@9000")
    assert (status, text.splitlines()[-1]) == (0, "every promise kept")
    for words in (("--step", "cut@9000"), ("--step", "no-such@9000", "--pair", "resolve/vrrpd/alone"), ("--depth", "0")):
        assert command(*words)[0] == 3
