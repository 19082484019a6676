"""SSH fencing against a real sshd."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from base.clock import now_ns
from base.core import NS_PER_MS
from fencing.devices.device import DeviceConfigError
from fencing.devices.ssh import SshDevice
from fencing.plan.events import DeviceOutcome, PowerState
from fencing.plan.settings import FenceDevice
from tests.fencing.conftest import Sshd, free_port, other_host_key

Build = Callable[..., FenceDevice]


def within(ms: int) -> int:
    return now_ns() + ms * NS_PER_MS


def acts(sshd: Sshd) -> int:
    path = sshd.directory / "acts"
    return len(path.read_text().split()) if path.exists() else 0


def test_status_and_off(sshd: Sshd, ssh: Build):
    device = SshDevice(ssh(identity="node-b"))
    reading = device.perform("status", within(20_000))
    assert (reading.outcome, reading.power, reading.identity) == (DeviceOutcome.SUCCESS, PowerState.ON, "node-b")
    assert device.perform("off", within(20_000)).outcome is DeviceOutcome.SUCCESS
    assert acts(sshd) == 1


def test_a_status_command_on_a_host_that_controls_the_target_reads_its_power(sshd: Sshd, ssh: Build):
    state = sshd.directory / "vm"
    state.write_text("on")
    device = SshDevice(ssh(status_command=f"grep -q on {state} || exit 2", off_command=f"echo off > {state}"))
    assert device.perform("status", within(20_000)).power is PowerState.ON
    device.perform("off", within(20_000))
    assert device.perform("status", within(20_000)).power is PowerState.OFF
    broken = SshDevice(ssh(status_command="exit 7"))
    assert broken.perform("status", within(20_000)).power is PowerState.UNKNOWN


def test_a_node_that_dies_under_the_command_is_a_claim(sshd: Sshd, ssh: Build):
    device = SshDevice(ssh(off_command=f"touch {sshd.directory}/started; sleep 60"))

    def die() -> None:
        while not (sshd.directory / "started").exists():
            time.sleep(0.05)
        sshd.kill_everything()

    thread = threading.Thread(target=die)
    thread.start()
    result = device.perform("off", within(20_000))
    thread.join()
    assert result.outcome is DeviceOutcome.SUCCESS
    after = device.perform("status", within(5_000))
    assert (after.outcome, after.power) == (DeviceOutcome.UNREACHABLE, PowerState.UNKNOWN)


def test_a_command_that_fails_is_no_claim(ssh: Build):
    result = SshDevice(ssh(off_command="echo no permission >&2; exit 1")).perform("off", within(20_000))
    assert result.outcome is DeviceOutcome.FAILURE
    assert "no permission" in result.detail


def test_a_command_that_hangs_ends_at_the_deadline(ssh: Build):
    device = SshDevice(ssh(off_command="sleep 60"))
    started = time.monotonic()
    assert device.perform("off", within(6_000)).outcome is DeviceOutcome.TIMEOUT
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("name", ["host", "host_rsa", "host_ecdsa"])
def test_a_host_key_of_any_kind_may_be_enrolled(sshd: Sshd, ssh: Build, name: str):
    device = SshDevice(ssh(host_key=(sshd.directory / f"{name}.pub").read_text()))
    assert device.perform("off", within(20_000)).outcome is DeviceOutcome.SUCCESS


def test_another_machine_at_the_address_is_never_shot(sshd: Sshd, ssh: Build, tmp_path: Path):
    impostor = SshDevice(ssh(host_key=other_host_key(tmp_path)))
    assert impostor.perform("off", within(20_000)).outcome is DeviceOutcome.UNKNOWN_TARGET
    other = SshDevice(ssh(identity="node-b", identity_command="echo node-a"))
    assert other.perform("off", within(20_000)).outcome is DeviceOutcome.UNKNOWN_TARGET
    assert acts(sshd) == 0


def test_a_refused_login_differs_from_an_unreachable_host(sshd: Sshd, ssh: Build, tmp_path: Path):
    other_host_key(tmp_path)
    denied = SshDevice(ssh(key_secret=f"file:{tmp_path}/stranger"))
    assert denied.perform("off", within(20_000)).outcome is DeviceOutcome.DENIED
    nobody = SshDevice(ssh(port=str(free_port(socket.SOCK_STREAM))))
    assert nobody.perform("off", within(20_000)).outcome is DeviceOutcome.UNREACHABLE
    assert acts(sshd) == 0


def test_an_order_that_became_old_during_the_handshake_is_not_sent(sshd: Sshd, ssh: Build):
    device = SshDevice(ssh(identity="node-b", identity_command="sleep 1; echo node-b"))
    assert device.perform("off", within(20_000), now_ns() + 500 * NS_PER_MS).outcome is DeviceOutcome.STALE_ORDER
    assert acts(sshd) == 0


@pytest.fixture
def bad_server() -> Iterator[Callable[[bytes], int]]:
    """A TCP server that says something and then nothing; returns its port."""
    servers: list[socket.socket] = []

    def start(greeting: bytes) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve() -> None:
            kept = []
            try:
                while True:
                    connection, _ = server.accept()
                    connection.sendall(greeting)
                    kept.append(connection)
            except OSError:
                pass

        threading.Thread(target=serve, daemon=True).start()
        port: int = server.getsockname()[1]
        return port

    yield start
    for server in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


@pytest.mark.parametrize(
    "greeting", [b"", b"SSH-2.0-slow\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\xff" * 5000, b"SSH-2.0-x\r\n" + b"\xff" * 3000]
)
def test_a_server_that_stalls_or_speaks_garbage_ends_at_the_deadline(ssh: Build, bad_server: Callable[[bytes], int], greeting: bytes):
    device = SshDevice(ssh(port=str(bad_server(greeting))))
    started = time.monotonic()
    assert device.perform("off", within(1_500)).outcome is DeviceOutcome.UNREACHABLE
    assert time.monotonic() - started < 6


def test_no_thread_or_socket_is_left_behind(ssh: Build, bad_server: Callable[[bytes], int]):
    device = SshDevice(ssh(port=str(bad_server(b"SSH-2.0-slow\r\n"))))
    before = threading.active_count()
    for _ in range(3):
        device.perform("off", within(400))
    for _ in range(100):
        if threading.active_count() <= before:
            break
        time.sleep(0.05)
    assert threading.active_count() <= before


@pytest.mark.parametrize(
    "changes",
    [
        {"host_key": ""},
        {"host_key": "ssh-ed25519 notbase64!"},
        {"host_key": "ssh-nonsense AAAA"},
        {"host_key": "ssh-ed25519 AAAA"},
        {"host": ""},
        {"port": "0"},
        {"port": "70000"},
        {"key_secret": ""},
        {"host": "no-such-host.invalid"},
    ],
)
def test_what_cannot_be_armed_says_so(ssh: Build, changes: dict[str, str]):
    with pytest.raises(DeviceConfigError):
        SshDevice(ssh(**changes))


def test_a_key_that_is_no_key_or_is_encrypted_is_refused(ssh: Build, secret_file: Callable[[str, str], str], tmp_path: Path):
    with pytest.raises(DeviceConfigError):
        SshDevice(ssh(key_secret=secret_file("hello", "k")))
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "pass phrase", "-f", str(tmp_path / "enc")], check=True)
    with pytest.raises(DeviceConfigError):
        SshDevice(ssh(key_secret=f"file:{tmp_path}/enc"))
    SshDevice(ssh(key_secret=f"file:{tmp_path}/enc", key_passphrase_secret=secret_file("pass phrase", "phrase")))
