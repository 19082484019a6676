"""The language of faults."""

from __future__ import annotations

import pytest

from watchdog.simulator.faults import ON_FENCE, FaultSyntaxError, parse_fault
from watchdog.simulator.stories import STORIES, draw_options

LINES = (
    "cut eth0 at 10s",
    "cut eth0 of A at 10s for 5s",
    "cut everything from A to B at 10s",
    "cut serial at 1500ms",
    "pull eth0 of B at 10s",
    "drop vrrp at 10s",
    "drop vrrp from B to A at 10s for 12s",
    "lose 20% on eth0 at 10s",
    "duplicate 5% on serial at 10s",
    "corrupt 5% on eth1 at 10s",
    "reorder 5% on eth0 at 10s",
    "delay 80ms on eth0 at 10s",
    "pause vrrp of A at 10s for 5s",
    "pause all of A at 10s",
    "kill braind of A at 10s for 3s",
    "stop vrrp of A at 10s for 5s",
    "reload vrrp of B at 10s",
    "crash A at 10s for 8s",
    "stall disk of A at 10s for 4s",
    "silence gateway at 10s",
    "cut management of A at 10s",
    "device 1 of A lies-always at 0s",
    "foreign claims at 10s",
    "handover of A at 10s",
    "maintenance of A at 10s for 10s",
    "step clock of A by 3600s at 10s",
    "kill braind of A on fence for 2500ms",
)


@pytest.mark.parametrize("line", LINES)
def test_a_fault_says_itself_again(line: str) -> None:
    fault = parse_fault(line)
    assert parse_fault(str(fault)) == fault


def test_the_parts_of_a_fault_are_understood() -> None:
    fault = parse_fault("cut  eth0 from A to B at 1.5s for 250ms")
    assert (fault.verb, fault.link, fault.source, fault.target, fault.node) == ("cut", "eth0", "A", "B", "")
    assert (fault.at_ns, fault.for_ns) == (1_500_000_000, 250_000_000)
    assert parse_fault("pause braind of B on fence").at_ns == ON_FENCE
    assert parse_fault("handover of A at 1s").planned
    assert not parse_fault("crash A at 1s").planned


@pytest.mark.parametrize(
    "line", ["", "cut eth0", "cut eth7 at 10s", "pause vrrp of C at 10s", "cut eth0 at ten", "device 3 of A lies at 0s"]
)
def test_what_is_not_in_the_language_is_refused_with_a_hint(line: str) -> None:
    with pytest.raises(FaultSyntaxError, match=r"say when|language of faults"):
        parse_fault(line)


def test_every_story_tells_faults_of_the_language_and_every_story_is_told() -> None:
    told = {draw_options(seed).story for seed in range(600)}
    assert told == set(STORIES)
