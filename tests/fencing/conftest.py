"""Real devices or their real emulators, on loopback, each on a port of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
import pytest

from fencing.plan.settings import FenceDevice

PASSWORD = f"s3cr!{os.getpid()}"
"""Of this process alone: others may run the same tests beside us."""


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    """Poll until true; False after ``timeout_s``."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()


@pytest.fixture
def secret_file(tmp_path: Path) -> Callable[[str, str], str]:
    """Write a secret with mode 0600; returns its reference."""

    def write(value: str, name: str = "secret") -> str:
        path = tmp_path / name
        path.write_text(value + "\n")
        path.chmod(0o600)
        return f"file:{path}"

    return write


@pytest.fixture
def executable(tmp_path: Path) -> Callable[[str, str], str]:
    """Write an executable script; returns its path."""

    def write(text: str, name: str = "fence_test") -> str:
        path = tmp_path / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return write


# --- a BMC ---


@dataclass
class Bmc:
    """ipmi_sim in front of a real process (the "node"): off kills it, unless the fault file says otherwise."""

    port: int
    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def node_alive(self) -> bool:
        return (self.directory / "power").read_text().strip() == "1"

    def fault(self, kind: str) -> None:
        """ "" = healthy, "ignore" = accepts and does nothing, "fail" = refuses."""
        (self.directory / "fault").write_text(kind)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)


@pytest.fixture
def bmc(tmp_path: Path) -> Iterator[Bmc]:
    directory = tmp_path / "bmc"
    (directory / "state").mkdir(parents=True)
    port = free_port(socket.SOCK_DGRAM)
    chassis = directory / "chassis.sh"
    chassis.write_text(
        f"""#!/bin/sh
cd {directory}
case "$2" in
    get) echo "power:$(cat power)" ;;
    set)
        case "$(cat fault)" in
            ignore) exit 0 ;;
            fail) exit 1 ;;
        esac
        [ "$3" = power ] && echo "$4" > power
        [ "$3" = reset ] && echo 1 > power ;;
esac
exit 0
"""
    )
    chassis.chmod(0o755)
    (directory / "power").write_text("1")
    (directory / "fault").write_text("")
    (directory / "lan.conf").write_text(
        f"""name "nodeB"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 {port}
    priv_limit admin
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "{chassis} 0x20"
  user 2 true "fence" "{PASSWORD}" admin 10 none md2 md5 straight
"""
    )
    (directory / "node.emu").write_text(
        "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nsel_enable 0x20 1000 0x0a\nmc_enable 0x20\n"
    )
    argv = ["ipmi_sim", "-c", str(directory / "lan.conf"), "-f", str(directory / "node.emu"), "-s", str(directory / "state"), "-n"]
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    probe = [
        "ipmitool",
        "-I",
        "lanplus",
        "-N",
        "1",
        "-R",
        "1",
        "-H",
        "127.0.0.1",
        "-p",
        str(port),
        "-U",
        "fence",
        "-E",
        "-C",
        "3",
        "mc",
        "guid",
    ]
    env = {**os.environ, "IPMI_PASSWORD": PASSWORD}
    ready = wait_for(lambda: subprocess.run(probe, env=env, capture_output=True, check=False).returncode == 0)
    assert ready, (directory / "log").read_text()
    try:
        yield Bmc(port, directory, process)
    finally:
        stop(process)


@pytest.fixture
def ipmi(bmc: Bmc, secret_file: Callable[[str, str], str]) -> Callable[..., FenceDevice]:
    """A device in front of ``bmc``; keyword arguments override parameters ("" removes one)."""

    def build(identity: str = "", deadline_ms: int = 30_000, **changes: str) -> FenceDevice:
        parameters = {
            "agent": "fence_ipmilan",
            "ip": "127.0.0.1",
            "ipport": str(bmc.port),
            "username": "fence",
            "lanplus": "1",
            "cipher": "3",
            "power_wait": "0",
            "password_secret": secret_file(PASSWORD, "ipmi-password"),
            **changes,
        }
        return FenceDevice("ipmi-b", "agent", "b", tuple((k, v) for k, v in parameters.items() if v), deadline_ms, identity)

    return build


# --- an SSH server ---


@dataclass
class Sshd:
    """A real sshd with its own configuration, host key and one authorised key."""

    port: int
    directory: Path
    process: subprocess.Popen[bytes]
    host_key: str
    key_reference: str
    argv: list[str] = field(default_factory=list)

    def kill_everything(self) -> None:
        """The node dies: the listener and every session, without a word."""
        children = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False).stdout.split()
        for pid in [*children, str(self.process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="session")
def ssh_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Host keys of three kinds and one user key, made once."""
    directory = tmp_path_factory.mktemp("keys")
    for name, kind in (("host", "ed25519"), ("host_rsa", "rsa"), ("host_ecdsa", "ecdsa"), ("user", "ed25519")):
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(directory / name)], check=True)
    return directory


@pytest.fixture
def sshd(tmp_path: Path, ssh_keys: Path) -> Iterator[Sshd]:
    directory = tmp_path / "ssh"
    shutil.copytree(ssh_keys, directory)
    directory.chmod(0o700)
    shutil.copy(directory / "user.pub", directory / "authorized_keys")
    port = free_port(socket.SOCK_STREAM)
    (directory / "sshd_config").write_text(
        f"""Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/host
HostKey {directory}/host_rsa
HostKey {directory}/host_ecdsa
AuthorizedKeysFile {directory}/authorized_keys
PidFile {directory}/pid
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
"""
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    argv = ["/usr/sbin/sshd", "-D", "-e", "-f", str(directory / "sshd_config")]
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def listening() -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    assert wait_for(listening), (directory / "log").read_text()
    host_key = " ".join((directory / "host.pub").read_text().split()[:2])
    try:
        yield Sshd(port, directory, process, host_key, f"file:{directory}/user", argv)
    finally:
        stop(process)


@pytest.fixture
def ssh(sshd: Sshd) -> Callable[..., FenceDevice]:
    """A device in front of ``sshd``; keyword arguments override parameters ("" removes one)."""

    def build(identity: str = "", deadline_ms: int = 20_000, **changes: str) -> FenceDevice:
        parameters = {
            "host": "127.0.0.1",
            "port": str(sshd.port),
            "user": "root",
            "host_key": sshd.host_key,
            "key_secret": sshd.key_reference,
            "off_command": f"echo off >> {sshd.directory}/acts",
            "identity_command": "echo node-b",
            **changes,
        }
        return FenceDevice("ssh-b", "ssh", "b", tuple((k, v) for k, v in parameters.items() if v), deadline_ms, identity)

    return build


def other_host_key(directory: Path) -> str:
    """A valid host key that nobody uses."""
    path = directory / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    key = paramiko.Ed25519Key(filename=str(path))
    return f"{key.get_name()} {key.get_base64()}"
