"""The monitor of fence devices (fencing/plan/monitor.py), played with devices that die, lock accounts, swap outlets and hang."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest

from base.core import NS_PER_MS
from fencing.plan.commands import RunDevice
from fencing.plan.events import DeviceOutcome, DeviceReported, PowerState
from fencing.plan.monitor import FAILURES_UNTIL_BAD, LOCKOUT_PAUSE_MS, DeviceMonitor, DeviceState
from fencing.plan.settings import FenceLevel
from tests.fencing.script import device, levels

MINUTE_NS = 60_000 * NS_PER_MS
INTERVAL_MS = 300_000


@dataclass
class Answer:
    outcome: DeviceOutcome = DeviceOutcome.SUCCESS
    power: PowerState = PowerState.ON
    identity: str | None = None
    takes_ms: int | None = 200


@dataclass
class Played:
    """A monitor in virtual time. ``answers`` by device; None as ``takes_ms`` = no report ever."""

    configured: tuple[FenceLevel, ...]
    salt: str = "a"
    answers: dict[str, Answer] = field(default_factory=dict)
    now_ns: int = 0
    paused: bool = False
    heard: bool = True
    asked: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.monitor = DeviceMonitor(self.configured, target="b", interval_ms=INTERVAL_MS, salt=self.salt, now_ns=0)
        self._reports: list[tuple[int, DeviceReported]] = []

    def run(self, minutes: float) -> Played:
        end_ns = self.now_ns + int(minutes * MINUTE_NS)
        for _ in range(100_000):
            times = [t for t in (self.monitor.next_deadline(paused=self.paused), *(at for at, _ in self._reports)) if t is not None]
            if not times or min(times) > end_ns:
                self.now_ns = end_ns
                return self
            self.now_ns = max(self.now_ns, min(times))
            for entry in [e for e in self._reports if e[0] <= self.now_ns]:
                self._reports.remove(entry)
                self.monitor.reported(self.now_ns, entry[1], heard=self.heard)
            for order in self.monitor.on_deadline(self.now_ns, paused=self.paused):
                self._ask(order)
        raise AssertionError("the monitor spins")

    def _ask(self, order: RunDevice) -> None:
        assert order.action == "status", "the monitor never acts"
        self.asked.append((self.now_ns, order.device))
        answer = self.answers.get(order.device, Answer())
        configured = next(d for level in self.configured for d in level.devices if d.name == order.device)
        identity = configured.identity if answer.identity is None else answer.identity
        if answer.takes_ms is not None:
            report = DeviceReported(order.level, order.device, "status", order.attempt, answer.outcome, answer.power, identity)
            self._reports.append((self.now_ns + answer.takes_ms * NS_PER_MS, report))

    def state(self, name: str) -> DeviceState:
        return next(DeviceState(row["state"]) for row in self.monitor.to_json(self.now_ns) if row["device"] == name)  # type: ignore[index, call-overload]


def test_every_device_is_asked_about_every_five_minutes_and_one_at_a_time():
    played = Played(levels("bmc", "pdu1+pdu2")).run(61)
    for name in ("bmc", "pdu1", "pdu2"):
        times = [at for at, who in played.asked if who == name]
        assert 9 <= len(times) <= 13
        assert all(4.9 * MINUTE_NS <= b - a <= 6.2 * MINUTE_NS for a, b in itertools.pairwise(times))
        assert played.state(name) is DeviceState.GOOD
    assert played.monitor.findings() == []


def test_two_nodes_do_not_meet_at_one_device_for_long():
    one, two = (Played(levels("bmc"), salt=salt).run(120) for salt in ("a", "b"))
    gaps = [min(abs(at - other) for other, _ in two.asked) for at, _ in one.asked]
    assert sum(gap < 1_000 * NS_PER_MS for gap in gaps) <= len(gaps) // 4


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (DeviceOutcome.UNREACHABLE, DeviceState.UNREACHABLE),
        (DeviceOutcome.TIMEOUT, DeviceState.UNREACHABLE),
        (DeviceOutcome.DENIED, DeviceState.DENIED),
        (DeviceOutcome.UNTRUSTED, DeviceState.UNTRUSTED),
        (DeviceOutcome.UNKNOWN_TARGET, DeviceState.WRONG_OUTLET),
        (DeviceOutcome.AMBIGUOUS, DeviceState.WRONG_OUTLET),
        (DeviceOutcome.CRASHED, DeviceState.FAILING),
    ],
)
def test_a_device_that_dies_is_found_by_type_and_found_well_again(outcome: DeviceOutcome, state: DeviceState):
    played = Played(levels("bmc", "pdu")).run(12)
    played.answers["bmc"] = Answer(outcome)
    played.run(8)
    assert played.state("bmc") is state
    assert [f.device for f in played.monitor.findings()] == ["bmc"]
    assert not played.monitor.usable(played.configured[0])
    assert played.monitor.usable(played.configured[1])
    played.answers["bmc"] = Answer()
    played.run(80)
    assert played.state("bmc") is DeviceState.GOOD
    assert played.monitor.usable(played.configured[0])


def test_one_lost_packet_is_not_a_dead_device():
    played = Played(levels("bmc")).run(12)
    played.answers["bmc"] = Answer(DeviceOutcome.UNREACHABLE)
    count = len(played.asked)
    while len(played.asked) == count:
        played.run(0.1)
    played.run(0.05)
    assert FAILURES_UNTIL_BAD == 2
    assert played.state("bmc") is DeviceState.GOOD
    played.answers["bmc"] = Answer()
    played.run(1)
    assert played.state("bmc") is DeviceState.GOOD
    assert len(played.asked) == count + 2, "it was asked again soon"


def test_a_refused_login_is_not_tried_often_enough_to_lock_an_account():
    played = Played(levels("bmc"), answers={"bmc": Answer(DeviceOutcome.DENIED)}).run(24 * 60)
    assert len(played.asked) <= 24 * 3_600_000 // LOCKOUT_PAUSE_MS + 1
    assert played.state("bmc") is DeviceState.DENIED


def test_busy_is_neither_good_nor_bad():
    played = Played(levels("bmc")).run(12)
    played.answers["bmc"] = Answer(DeviceOutcome.BUSY)
    played.run(10)
    assert played.state("bmc") is DeviceState.GOOD


def test_another_identity_and_an_unexpected_power_are_told():
    played = Played(levels("bmc", "pdu")).run(12)
    played.answers = {"bmc": Answer(identity="somebody else's"), "pdu": Answer(power=PowerState.OFF)}
    played.run(12)
    assert played.state("bmc") is DeviceState.OTHER_IDENTITY
    assert played.state("pdu") is DeviceState.UNEXPECTED_POWER
    assert not played.monitor.usable(played.configured[0])
    assert played.monitor.usable(played.configured[1]), "a device that reads OFF can still act"
    played.heard = False
    played.run(12)
    assert played.state("pdu") is DeviceState.GOOD, "a node that nobody hears may well be off"


def test_nothing_is_asked_while_a_fence_may_come():
    played = Played(levels("bmc")).run(12)
    played.paused = True
    count = len(played.asked)
    played.run(60)
    assert len(played.asked) == count
    played.paused = False
    played.run(1)
    assert len(played.asked) == count + 1


def test_a_report_that_never_comes_is_a_failure_and_a_lost_runner_is_not():
    played = Played(levels("bmc"), answers={"bmc": Answer(takes_ms=None)}).run(5)
    assert played.state("bmc") is DeviceState.FAILING
    other = Played(levels("bmc"), answers={"bmc": Answer(takes_ms=None)})
    while not other.asked:
        other.run(0.1)
    other.monitor.runner_lost(other.now_ns)
    other.answers = {}
    other.run(2)
    assert other.state("bmc") is DeviceState.GOOD


def test_a_report_of_another_fence_is_not_the_monitors():
    played = Played((FenceLevel("l", (device("bmc"),)),))
    report = DeviceReported(1, "bmc", "status", 7, DeviceOutcome.DENIED)
    assert not played.monitor.reported(0, report, heard=True)
    assert played.state("bmc") is DeviceState.UNKNOWN
