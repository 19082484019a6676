"""The session, the runner process and real devices together; only the recorder and the second look are played by the test."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from base.clock import now_ns
from base.core import NS_PER_MS
from base.pump import Pump
from fencing.check import check_device
from fencing.client import RunnerClient
from fencing.orders import Order, Report
from fencing.plan.commands import FenceCommand, FenceState, PersistIntent, RecordState, RunDevice, SecondLookNeeded
from fencing.plan.events import (
    ChannelHeard,
    DeviceOutcome,
    DeviceReported,
    FenceEvent,
    FenceRequested,
    IntentDurable,
    PowerState,
    RunnerLost,
    SecondLook,
)
from fencing.plan.session import FenceSession
from fencing.plan.settings import FenceDevice, FenceLevel
from fencing.plan.times import FenceTimes
from tests.fencing.conftest import Bmc

TIMES = FenceTimes(order_valid_ms=15_000, barrier_ms=10_000, second_look_ms=10_000)


class Owner:
    """What the watcher does around one session, in a few lines."""

    def __init__(self) -> None:
        self.pump = Pump(next_deadline=self._next_deadline, on_deadline=self._on_deadline)
        self.session = FenceSession("none", "b", ())
        self.client: RunnerClient | None = None
        self.log: list[FenceCommand] = []
        self.intents: list[int] = []
        self.before_turn: Callable[[], None] = lambda: None

    def start(self, *levels: FenceLevel, recover_level: int | None = None) -> None:
        self.session = FenceSession("o1", "b", levels, TIMES, recover_level=recover_level)
        devices = [device for level in levels for device in level.devices]
        self.client = RunnerClient(self.pump, devices, self._reported, on_down=lambda why: self.give(RunnerLost(why)))
        self.client.start()
        self.until(lambda: self.client is not None and self.client.armed)

    def fence(self) -> FenceState:
        self.give(FenceRequested())
        self.until(lambda: self.session.finished)
        return self.session.state

    def until(self, condition: Callable[[], bool], timeout_s: float = 90.0) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, (self.session.snapshot(), self.log)
            self.before_turn()
            self.pump.turn(50 * NS_PER_MS)

    def give(self, event: FenceEvent) -> None:
        self._obey(self.session.handle(now_ns(), event))

    def _reported(self, report: Report) -> None:
        event = DeviceReported(
            report.level,
            report.device,
            report.action,
            report.attempt,
            DeviceOutcome(report.outcome),
            PowerState(report.power),
            report.identity,
            report.took_ms,
            report.detail,
        )
        self.give(event)

    def _obey(self, commands: list[FenceCommand]) -> None:
        for command in commands:
            self.log.append(command)
            match command:
                case PersistIntent():
                    self.intents.append(command.level)
                    self.pump.call_soon(lambda level=command.level: self.give(IntentDurable(level)))
                case SecondLookNeeded():
                    self.pump.call_soon(lambda level=command.level: self.give(SecondLook(level, True)))
                case RunDevice():
                    assert self.client is not None
                    order = Order(
                        command.order_id,
                        command.target,
                        command.level,
                        command.device,
                        command.action,
                        command.attempt,
                        now_ns(),
                        command.valid_ms,
                    )
                    self.client.run(order)

    def _next_deadline(self) -> int | None:
        deadlines = [self.session.next_deadline(), self.client.next_deadline() if self.client else None]
        return min((d for d in deadlines if d is not None), default=None)

    def _on_deadline(self, at_ns: int) -> None:
        self._obey(self.session.on_deadline(at_ns))
        if self.client:
            self.client.on_deadline(at_ns)

    @property
    def acts(self) -> list[str]:
        return [c.device for c in self.log if isinstance(c, RunDevice) and c.action == "off"]

    @property
    def level_states(self) -> dict[int, FenceState]:
        return {c.level: c.state for c in self.log if isinstance(c, RecordState) and c.level}


@pytest.fixture
def owner() -> Iterator[Owner]:
    owner = Owner()
    try:
        yield owner
    finally:
        if owner.client:
            owner.client.stop()
        owner.pump.close()


def enrolled(device: FenceDevice) -> FenceDevice:
    report = check_device(device, wrong_password=False)
    assert report.can_prove, report.findings
    return replace(device, identity=report.identity)


def test_a_real_bmc_is_proved_by_two_readings_with_its_guid(owner: Owner, bmc: Bmc, ipmi: Callable[..., FenceDevice]):
    owner.start(FenceLevel("bmc", (enrolled(ipmi()),)))
    assert owner.fence() is FenceState.PROVED
    assert not bmc.node_alive


def test_a_bmc_that_swaps_its_guid_is_not_used(owner: Owner, bmc: Bmc, ipmi: Callable[..., FenceDevice]):
    owner.start(FenceLevel("bmc", (ipmi(identity="guid 00000000-0000-0000-0000-000000000000"),)))
    assert owner.fence() is FenceState.NOT_DONE
    assert owner.acts == []
    assert bmc.node_alive


def test_a_liar_is_refuted_by_a_living_channel_and_the_bmc_behind_it_proves(
    owner: Owner, bmc: Bmc, ipmi: Callable[..., FenceDevice], executable: Callable[[str, str], str]
):
    """The first level claims, and even reads off with the right identity."""
    liar = executable('#!/bin/sh\necho identity=outlet-b\n[ "$BRAINCTL_ACTION" = status ] && exit 2\nexit 0\n', "liar")
    lying = FenceDevice("liar", "exec", "b", (("worth", "power"), ("command", liar), ("settle_ms", "100")), 20_000, "outlet-b")
    owner.start(FenceLevel("liar", (lying,)), FenceLevel("bmc", (enrolled(ipmi()),)))

    def heartbeat() -> None:
        if bmc.node_alive and not owner.session.finished:
            owner.give(ChannelHeard("path/eth1", "eth1", now_ns(), 200))

    owner.before_turn = heartbeat
    assert owner.fence() is FenceState.PROVED
    assert owner.level_states == {1: FenceState.REFUTED, 2: FenceState.PROVED}
    assert not bmc.node_alive


def test_a_bmc_that_accepts_and_ignores_gives_way_to_the_next_level(
    owner: Owner, bmc: Bmc, ipmi: Callable[..., FenceDevice], executable: Callable[[str, str], str], tmp_path: Path
):
    bmc.fault("ignore")
    switch = executable(
        f'#!/bin/sh\necho identity=port-b\n[ "$BRAINCTL_ACTION" = off ] && touch {tmp_path}/off\n'
        f'[ "$BRAINCTL_ACTION" = status ] && [ -e {tmp_path}/off ] && exit 2\nexit 0\n',
        "switch",
    )
    port = FenceDevice(
        "port",
        "exec",
        "b",
        (
            ("worth", "power"),
            ("command", switch),
        ),
        20_000,
        "port-b",
    )
    owner.start(FenceLevel("bmc", (enrolled(ipmi(power_timeout="2")),)), FenceLevel("port", (port,)))
    assert owner.fence() is FenceState.PROVED
    assert owner.level_states == {1: FenceState.UNKNOWN, 2: FenceState.PROVED}
    assert owner.acts == ["ipmi-b", "port"]


def test_the_runner_is_killed_in_the_act_and_the_truth_is_read_afterwards(
    owner: Owner, executable: Callable[[str, str], str], tmp_path: Path
):
    """Unknown, then proved by reading: the act had happened. It is not repeated, neither here nor by a recovered session."""
    path = executable(
        f'#!/bin/sh\necho identity=port-b\nif [ "$BRAINCTL_ACTION" = off ]; then echo x >> {tmp_path}/acts; sleep 60; fi\n'
        f'[ "$BRAINCTL_ACTION" = status ] && [ -e {tmp_path}/acts ] && exit 2\nexit 0\n',
        "slow",
    )
    level = FenceLevel(
        "slow",
        (
            FenceDevice(
                "slow",
                "exec",
                "b",
                (
                    ("worth", "power"),
                    ("command", path),
                ),
                20_000,
                "port-b",
            ),
        ),
    )
    owner.start(level)
    owner.give(FenceRequested())
    owner.until((tmp_path / "acts").exists)
    assert owner.client is not None
    assert owner.client.child.pid is not None
    os.kill(owner.client.child.pid, signal.SIGKILL)
    owner.until(lambda: owner.session.finished)
    assert owner.session.state is FenceState.PROVED
    assert (tmp_path / "acts").read_text() == "x\n"
    owner.session = FenceSession("o1", "b", (level,), TIMES, recover_level=1)
    assert owner.fence() is FenceState.PROVED
    assert (tmp_path / "acts").read_text() == "x\n"
