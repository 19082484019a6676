"""The runner as a real process: armed, ordered, stopped, killed."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.clock import now_ns
from base.core import NS_PER_MS
from base.pump import Pump
from fencing.client import RunnerClient
from fencing.orders import Order, OrderError, Report, arm_message, devices_from_message
from fencing.plan.settings import FenceDevice
from tests.fencing.conftest import PASSWORD, Sshd
from tests.fencing.test_fence_child import gone, left_over


class Owner:
    """What braind does with a runner."""

    def __init__(self) -> None:
        self.client: RunnerClient | None = None
        self.pump = Pump(next_deadline=self._next_deadline, on_deadline=self._on_deadline)
        self.reports: list[Report] = []
        self.errors: list[tuple[str, str]] = []
        self.downs: list[str] = []
        self.attempt = 0

    def _next_deadline(self) -> int | None:
        return self.client.next_deadline() if self.client else None

    def _on_deadline(self, at_ns: int) -> None:
        if self.client:
            self.client.on_deadline(at_ns)

    def start(self, *devices: FenceDevice, argv: list[str] | None = None, env: dict[str, str] | None = None) -> RunnerClient:
        options = {"argv": argv} if argv else {}
        self.client = RunnerClient(self.pump, devices, self.reports.append, self.errors.extend, self.downs.append, env=env, **options)
        self.client.start()
        self.until(lambda: self.client is not None and self.client.armed)
        return self.client

    def until(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, (self.reports, self.errors, self.downs)
            self.pump.turn(50 * NS_PER_MS)

    def order(self, device: str, action: str, *, age_ms: int = 0, valid_ms: int = 20_000, target: str = "b", attempt: int = 0) -> Order:
        self.attempt += 1
        order = Order("o1", target, 1, device, action, attempt or self.attempt, now_ns() - age_ms * NS_PER_MS, valid_ms)
        assert self.client is not None
        assert self.client.run(order)
        return order

    def result(self, device: str, action: str, **options: object) -> Report:
        """The report of one order; for an ``off`` that must succeed see ``success``."""
        order = self.order(device, action, **options)  # type: ignore[arg-type]
        self.until(lambda: any(r.attempt == order.attempt for r in self.reports))
        return next(r for r in self.reports if r.attempt == order.attempt)

    def success(self, device: str, action: str) -> Report:
        """Repeat (as a new order) while the runner finds that this busy machine had stalled it."""
        for _ in range(10):
            report = self.result(device, action)
            if report.outcome != "stale_order":
                break
        assert report.outcome == "success"
        return report


@pytest.fixture
def owner() -> Iterator[Owner]:
    owner = Owner()
    try:
        yield owner
    finally:
        if owner.client:
            owner.client.stop()
        owner.pump.close()


@pytest.fixture
def switch(executable: Callable[[str, str], str], tmp_path: Path) -> Callable[..., FenceDevice]:
    """An exec device that writes every action with its time to a file and then takes ``seconds``."""

    def build(name: str = "switch", seconds: float = 0.0, **parameters: str) -> FenceDevice:
        text = f"#!/bin/sh\necho {name} $BRAINCTL_ACTION >> {tmp_path}/acts\nsleep {seconds}\necho identity=outlet-b\n"
        path = executable(text, f"exec-{name}")
        return FenceDevice(name, "exec", "b", (("command", path), *parameters.items()), 20_000)

    return build


def acts(tmp_path: Path) -> list[str]:
    path = tmp_path / "acts"
    return path.read_text().splitlines() if path.exists() else []


def test_orders_are_executed_and_reported(owner: Owner, switch: Callable[..., FenceDevice], tmp_path: Path):
    owner.start(switch())
    report = owner.result("switch", "status")
    assert (report.outcome, report.power, report.identity) == ("success", "on", "outlet-b")
    owner.success("switch", "off")
    assert acts(tmp_path) == ["switch status", "switch off"]


def test_an_order_that_is_too_old_is_refused(owner: Owner, switch: Callable[..., FenceDevice], tmp_path: Path):
    owner.start(switch())
    assert owner.result("switch", "off", age_ms=2_000, valid_ms=1_500).outcome == "stale_order"
    assert acts(tmp_path) == []


def test_a_runner_that_was_stopped_refuses_what_was_ordered_meanwhile(owner: Owner, switch: Callable[..., FenceDevice], tmp_path: Path):
    client = owner.start(switch())
    assert client.child.pid is not None
    os.kill(client.child.pid, signal.SIGSTOP)
    order = owner.order("switch", "off", valid_ms=60_000)
    time.sleep(2.0)
    os.kill(client.child.pid, signal.SIGCONT)
    owner.until(lambda: bool(owner.reports))
    assert (owner.reports[0].attempt, owner.reports[0].outcome) == (order.attempt, "stale_order")
    assert acts(tmp_path) == []
    owner.success("switch", "off")


def test_one_device_gets_one_order_at_a_time_and_two_devices_do_not_wait_for_each_other(
    owner: Owner, switch: Callable[..., FenceDevice], tmp_path: Path
):
    owner.start(switch("slow", 3.0), switch("fast"))
    first, second = owner.order("slow", "status"), owner.order("slow", "status")
    owner.order("fast", "status")
    owner.until(lambda: bool(owner.reports))
    assert owner.reports[0].device == "fast"
    owner.until(lambda: len(owner.reports) == 3)
    assert [r.attempt for r in owner.reports if r.device == "slow"] == [first.attempt, second.attempt]


def test_an_order_is_never_executed_twice(owner: Owner, switch: Callable[..., FenceDevice], tmp_path: Path):
    owner.start(switch())
    done = owner.success("switch", "off")
    count = len(owner.reports)
    owner.order("switch", "off", attempt=done.attempt)
    owner.until(lambda: len(owner.reports) == count + 1)
    assert owner.reports[-1].outcome == "stale_order"
    assert acts(tmp_path) == ["switch off"]


@pytest.mark.parametrize(
    ("device", "action", "target", "outcome"),
    [("nobody", "off", "b", "unreachable"), ("switch", "reboot", "b", "unknown_target"), ("switch", "off", "a", "unknown_target")],
)
def test_orders_that_make_no_sense_do_nothing(
    owner: Owner, switch: Callable[..., FenceDevice], tmp_path: Path, device: str, action: str, target: str, outcome: str
):
    owner.start(switch())
    assert owner.result(device, action, target=target).outcome == outcome
    assert acts(tmp_path) == []


def test_too_many_orders_for_one_device_are_refused_not_piled_up(owner: Owner, switch: Callable[..., FenceDevice]):
    owner.start(switch("slow", 1.0))
    for _ in range(30):
        owner.order("slow", "status")
    owner.until(lambda: len([r for r in owner.reports if r.outcome == "stale_order"]) >= 15)


def test_devices_that_cannot_be_armed_are_named_and_the_others_work(owner: Owner, switch: Callable[..., FenceDevice]):
    owner.start(switch(), FenceDevice("bad", "exec", "b", (("command", "/nonexistent"),)), FenceDevice("worse", "exec", "b", ()))
    assert {name for name, _ in owner.errors} == {"bad", "worse"}
    assert owner.result("switch", "status").outcome == "success"
    assert owner.result("bad", "off").outcome == "unreachable"


def test_a_killed_runner_takes_its_agents_along_and_comes_back_armed(owner: Owner, switch: Callable[..., FenceDevice], tmp_path: Path):
    marker = f"47{os.getpid()}"
    client = owner.start(switch("hang", float(marker)))
    owner.order("hang", "status")
    owner.until(lambda: bool(left_over("exec-hang")))
    assert client.child.pid is not None
    os.kill(client.child.pid, signal.SIGKILL)
    owner.until(lambda: bool(owner.downs))
    assert gone("exec-hang")
    owner.until(lambda: client.armed)
    assert acts(tmp_path) == ["hang status"], "nothing is repeated after a restart"


def test_a_device_that_hangs_is_reported_at_its_deadline(owner: Owner, switch: Callable[..., FenceDevice]):
    hang = switch("hang", 61.0)
    owner.start(FenceDevice(hang.name, hang.type, hang.target, hang.parameters, deadline_ms=700))
    assert owner.result("hang", "status").outcome == "timeout"
    assert gone("exec-hang")


def test_secrets_are_in_no_argument_environment_or_message(
    owner: Owner, switch: Callable[..., FenceDevice], secret_file: Callable[[str, str], str]
):
    device = switch(password_secret=secret_file(PASSWORD, "s"))
    client = owner.start(device)
    assert PASSWORD not in json.dumps(arm_message([device]))
    for name in ("cmdline", "environ"):
        assert PASSWORD.encode() not in Path(f"/proc/{client.child.pid}/{name}").read_bytes()


AUDIT = """
import atexit, json, os, sys, time
events = []
def hook(event, args):
    if event in ("import", "open", "subprocess.Popen", "os.listdir", "os.scandir", "ctypes.dlopen", "socket.getaddrinfo"):
        events.append((time.clock_gettime_ns(time.CLOCK_BOOTTIME), event, repr(args)[:200]))
sys.addaudithook(hook)
from fencing import runner
def leave_whole_dump():
    with open(sys.argv[1] + ".part", "w") as file:
        file.write(json.dumps(events))
    os.rename(sys.argv[1] + ".part", sys.argv[1])
atexit.register(leave_whole_dump)
sys.exit(runner.main())
"""


def test_nothing_is_imported_and_no_file_opened_between_the_order_and_the_ssh_command(
    owner: Owner, sshd: Sshd, ssh: Callable[..., FenceDevice], switch: Callable[..., FenceDevice], tmp_path: Path
):
    """The very first order: whatever paramiko would load late must have been loaded when the device was armed."""
    dump = tmp_path / "audit.json"
    client = owner.start(ssh(identity="node-b"), switch(), argv=[sys.executable, "-c", AUDIT, str(dump)])
    for _ in range(10):
        order = owner.order("ssh-b", "off")
        owner.until(lambda attempt=order.attempt: owner.reports[-1:] != [] and owner.reports[-1].attempt == attempt)
        reported_ns = now_ns()
        # On a machine this busy the runner may have been stalled; it then refused before it touched the device.
        if owner.reports[-1].outcome != "stale_order":
            break
    assert owner.reports[-1].outcome == "success"
    assert owner.result("switch", "status").outcome == "success"
    pid = client.child.pid
    client.child.channel.close("done")  # type: ignore[union-attr]
    owner.until(dump.exists, 10)
    assert pid is not None
    events = json.loads(dump.read_text())
    assert any(event == "import" and "paramiko" in args for _, event, args in events), "the hook saw no import at all"
    assert any(at_ns > reported_ns and event == "subprocess.Popen" for at_ns, event, _ in events), "the hook saw nothing in this phase"
    assert [e for e in events if order.issued_ns <= e[0] <= reported_ns] == []


# --- what comes over the socket ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=8), x, max_size=3),
)


@given(st.dictionaries(st.sampled_from([*Order.__annotations__, *Report.__annotations__, "devices", "op"]), JSON))
def test_any_message_is_an_order_or_an_error(message: dict[str, object]):
    for parse in (Order.from_json, Report.from_json, devices_from_message):
        try:
            parse(message)
        except OrderError:
            pass


def test_orders_reports_and_devices_survive_the_wire():
    order = Order("o", "b", 1, "d", "off", 3, 12, 1_500)
    assert Order.from_json(json.loads(json.dumps(order.to_json()))) == order
    report = Report("o", 1, "d", "off", 3, "success", "unknown", "", 5, "x")
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report
    device = FenceDevice("d", "exec", "b", (("command", "x"), ("y", "z")), 1_000, "id")
    assert devices_from_message(json.loads(json.dumps(arm_message([device])))) == [device]
    with pytest.raises(OrderError):
        Report.from_json({**report.to_json(), "outcome": "fine"})
    with pytest.raises(OrderError):
        Order.from_json({**order.to_json(), "level": True})


def test_garbage_on_the_socket_ends_the_runner_or_is_refused_but_does_nothing(
    owner: Owner, switch: Callable[..., FenceDevice], tmp_path: Path
):
    client = owner.start(switch())
    for message in ({}, {"op": "run"}, {"op": "run", "action": "off"}, {"op": "arm"}, {"op": 5}):
        client.child.send(message)
    assert owner.result("switch", "status").outcome == "success"
    assert acts(tmp_path) == ["switch status"]
