"""The native IPMI device against ipmi_sim (OpenIPMI), and what it makes of answers that are wrong."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from base.clock import now_ns
from base.core import NS_PER_MS
from fencing.devices.build import build_device
from fencing.devices.device import Device, DeviceConfigError
from fencing.devices.parameters import validate_device
from fencing.plan.events import DeviceOutcome, PowerState
from fencing.plan.settings import FenceDevice
from tests.fencing.conftest import PASSWORD, Bmc, free_port

Secret = Callable[[str, str], str]


def within(ms: int) -> int:
    return now_ns() + ms * NS_PER_MS


def native(port: int, secret_file: Secret, password: str = PASSWORD, **changes: str) -> FenceDevice:
    parameters = {
        "host": "127.0.0.1",
        "port": str(port),
        "user": "fence",
        "password_secret": secret_file(password, "native-password"),
        **changes,
    }
    return FenceDevice("bmc-b", "ipmi", "b", tuple((k, v) for k, v in parameters.items() if v))


def armed(settings: FenceDevice) -> Device:
    assert validate_device(settings) == []
    return build_device(settings)


def test_status_off_on_and_identity_without_starting_a_program(bmc: Bmc, secret_file: Secret, ipmi: Callable[..., FenceDevice]):
    device = armed(native(bmc.port, secret_file))
    reading = device.perform("status", within(10_000))
    assert (reading.outcome, reading.power) == (DeviceOutcome.SUCCESS, PowerState.ON)
    assert device.perform("off", within(10_000)).outcome is DeviceOutcome.SUCCESS
    assert not bmc.node_alive
    after = device.perform("status", within(10_000))
    assert (after.power, after.identity) == (PowerState.OFF, reading.identity)
    assert device.perform("on", within(10_000)).outcome is DeviceOutcome.SUCCESS
    assert bmc.node_alive
    assert reading.identity.startswith("guid ")
    assert reading.took_ms < 2_000


def test_login_outlet_and_way_are_told_apart(bmc: Bmc, secret_file: Secret):
    assert armed(native(bmc.port, secret_file, "wrong")).perform("off", within(10_000)).outcome is DeviceOutcome.DENIED
    assert armed(native(bmc.port, secret_file, user="nobody")).perform("off", within(10_000)).outcome is DeviceOutcome.DENIED
    nobody = armed(native(free_port(socket.SOCK_DGRAM), secret_file))
    started = time.monotonic()
    assert nobody.perform("off", within(20_000)).outcome is DeviceOutcome.UNREACHABLE
    assert time.monotonic() - started < 6
    assert bmc.node_alive


def test_a_bmc_that_refuses_says_so_by_its_completion_code(bmc: Bmc, secret_file: Secret):
    bmc.fault("fail")
    result = armed(native(bmc.port, secret_file)).perform("off", within(10_000))
    assert result.outcome is DeviceOutcome.REFUSED
    assert "completion code" in result.detail
    assert bmc.node_alive


def test_a_bmc_that_lies_is_known_by_the_next_reading(bmc: Bmc, secret_file: Secret):
    bmc.fault("ignore")
    device = armed(native(bmc.port, secret_file))
    started = time.monotonic()
    assert device.perform("off", within(10_000)).outcome is DeviceOutcome.SUCCESS
    assert device.perform("status", within(10_000)).power is PowerState.ON
    assert time.monotonic() - started < 2


def test_a_frozen_bmc_ends_at_the_deadline(bmc: Bmc, secret_file: Secret):
    device = armed(native(bmc.port, secret_file))
    bmc.freeze()
    started = time.monotonic()
    assert device.perform("off", within(1_000)).outcome is DeviceOutcome.UNREACHABLE
    assert time.monotonic() - started < 2


def test_an_old_order_is_not_sent(bmc: Bmc, secret_file: Secret):
    device = armed(native(bmc.port, secret_file))
    assert device.perform("off", within(5_000), now_ns() - 1).outcome is DeviceOutcome.STALE_ORDER
    assert bmc.node_alive


@pytest.mark.parametrize("changes", [{"cipher": "0"}, {"cipher": "1"}, {"host": ""}, {"port": "0"}, {"port": "x"}, {"user": "a" * 17}])
def test_what_cannot_be_armed_is_refused(secret_file: Secret, changes: dict[str, str]):
    settings = native(623, secret_file)
    parameters = {**dict(settings.parameters), **changes}
    settings = replace(settings, parameters=tuple((k, v) for k, v in parameters.items() if v))
    if validate_device(settings):
        return
    with pytest.raises(DeviceConfigError):
        build_device(settings)


# --- answers that are wrong ---


@contextmanager
def answering(reply: Callable[[bytes], list[bytes]]) -> Iterator[int]:
    """A UDP server of ours that answers each datagram by ``reply``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(0.05)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                try:
                    data, peer = sock.recvfrom(4096)
                except TimeoutError:
                    continue
                for answer in reply(data):
                    sock.sendto(answer, peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            over.set()
            thread.join()


def _opened(data: bytes, status: int) -> bytes:
    return data[:5] + b"\x11" + data[6:14] + b"\x08\x00" + bytes([data[16], status, 0, 0]) + data[20:24]


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (lambda data: [data], DeviceOutcome.UNREACHABLE),
        (lambda _data: [b"", b"\x06", b"\xff" * 900], DeviceOutcome.UNREACHABLE),
        (lambda data: [data[:5] + b"\x11" + data[6:]], DeviceOutcome.UNREACHABLE),
        (lambda data: [_opened(data, 0x01)], DeviceOutcome.BUSY),
        (lambda data: [_opened(data, 0x0D)], DeviceOutcome.DENIED),
        (lambda data: [_opened(data, 0x11)], DeviceOutcome.REFUSED),
        (lambda data: [_opened(data, 0x77)], DeviceOutcome.REFUSED),
        (lambda data: [_opened(data, 0x00)], DeviceOutcome.UNREACHABLE),
    ],
)
def test_garbage_and_refusals_end_in_a_type(secret_file: Secret, reply: Callable[[bytes], list[bytes]], outcome: DeviceOutcome):
    with answering(reply) as port:
        assert armed(native(port, secret_file)).perform("off", within(1_200)).outcome is outcome
