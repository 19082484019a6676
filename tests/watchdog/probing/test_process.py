"""The local daemon's life as the operating system tells it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from base.pump import Pump
from tests.watchdog.network import Network, wait_for
from watchdog.judgement.events import DaemonState, LocalDaemonChanged, WatcherEvent
from watchdog.probing.process import DaemonMonitor, read_pid


class Watched:
    def __init__(self, tmp_path: Path) -> None:
        self.parent_file, self.child_file = tmp_path / "parent.pid", tmp_path / "vrrp.pid"
        self.events: list[WatcherEvent] = []
        self.pump = Pump(next_deadline=lambda: self.monitor.next_deadline(), on_deadline=lambda at_ns: self.monitor.on_deadline(at_ns))
        self.monitor = DaemonMonitor(self.pump, "keepalived", str(self.parent_file), str(self.child_file), self.events.append)
        self.children: list[subprocess.Popen[bytes]] = []

    def spawn(self, path: Path, name: str = "keepalived") -> subprocess.Popen[bytes]:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", name])
        self.children.append(child)
        path.write_text(f"{child.pid}\n")
        return child

    def turn(self) -> None:
        self.pump.turn(20_000_000)

    def until(self, state: DaemonState) -> LocalDaemonChanged:
        wait_for(lambda: self.monitor.state is state, self.turn)
        last = self.events[-1]
        assert isinstance(last, LocalDaemonChanged) and last.state is state
        return last

    def close(self) -> None:
        self.monitor.close()
        self.pump.close()
        for child in self.children:
            child.kill()
            child.wait()


@pytest.fixture
def it(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path)
    yield watched
    watched.close()


def test_start_stop_cont_kill_restart(it: Watched) -> None:
    it.monitor.report()
    assert it.events == [LocalDaemonChanged(DaemonState.STOPPED, "keepalived is not running")]
    it.spawn(it.parent_file)
    child = it.spawn(it.child_file)
    it.until(DaemonState.RUNNING)
    child.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    it.until(DaemonState.HUNG)
    assert time.monotonic() - stopped >= 0.5
    child.send_signal(signal.SIGCONT)
    it.until(DaemonState.RUNNING)
    child.kill()
    killed = time.monotonic()
    assert "its parent" in it.until(DaemonState.STOPPED).detail
    assert time.monotonic() - killed < 0.15, "told by the pidfd, not by the poll"
    it.spawn(it.child_file)
    it.until(DaemonState.RUNNING)
    assert len(it.events) == 6


def test_a_short_stop_is_no_hang(it: Watched) -> None:
    child = it.spawn(it.child_file)
    it.monitor.report()
    it.until(DaemonState.RUNNING)
    it.events.clear()
    for _ in range(4):
        child.send_signal(signal.SIGSTOP)
        time.sleep(0.05)
        it.turn()
        child.send_signal(signal.SIGCONT)
        end = time.monotonic() + 0.25
        while time.monotonic() < end:
            it.turn()
    assert not it.events


def test_a_daemon_killed_while_stopped_is_stopped_not_hung(it: Watched) -> None:
    child = it.spawn(it.child_file)
    it.monitor.report()
    it.until(DaemonState.RUNNING)
    child.send_signal(signal.SIGSTOP)
    it.until(DaemonState.HUNG)
    child.kill()
    it.until(DaemonState.STOPPED)


def test_a_pid_used_again_by_another_program_is_not_the_daemon(it: Watched) -> None:
    it.spawn(it.child_file, name="something-else")
    it.monitor.report()
    it.turn()
    assert it.monitor.state is DaemonState.STOPPED


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "99999999999999999999", "12 34", "1\x00"])
def test_garbage_in_a_pid_file_is_nobody(it: Watched, text: str, tmp_path: Path) -> None:
    it.child_file.write_text(text)
    it.monitor.report()
    it.turn()
    assert it.monitor.state is DaemonState.STOPPED
    assert read_pid(str(tmp_path / "missing")) == 0


def test_names_with_parentheses_do_not_confuse(it: Watched, tmp_path: Path) -> None:
    odd = tmp_path / "keepalived) Z (b"
    odd.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(odd), "30"])
    it.children.append(child)
    it.child_file.write_text(f"{child.pid}\n")
    it.monitor.report()
    it.until(DaemonState.RUNNING)


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Nothing can be opened any more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spent = os.open("/dev/null", os.O_RDONLY)
    os.close(spent)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spent, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_living_daemon_does_not_stop_when_descriptors_run_out(it: Watched) -> None:
    """Case A7: /proc cannot be read = "daemon stopped" = the address of a healthy master is removed."""
    child = it.spawn(it.child_file)
    it.monitor.report()
    it.until(DaemonState.RUNNING)
    it.events.clear()
    with no_descriptors_left():
        end = time.monotonic() + 1
        while time.monotonic() < end:
            it.turn()
        assert it.monitor.state is DaemonState.RUNNING and not it.events
        child.kill()
        it.until(DaemonState.STOPPED)  # its pidfd and its open file tell


def test_what_cannot_be_looked_at_is_not_gone(it: Watched) -> None:
    it.spawn(it.child_file)
    assert it.pump.aside.waiting == 0
    with no_descriptors_left():
        it.monitor.report()
        it.turn()
        assert it.events == []
    it.until(DaemonState.RUNNING)


@pytest.mark.system
def test_a_real_keepalived(it: Watched, tmp_path: Path) -> None:
    net = Network("a")
    conf = tmp_path / "k.conf"
    conf.write_text("vrrp_instance VI_1 { interface eth0\n virtual_router_id 51\n virtual_ipaddress { 10.77.0.100\n } }\n")
    files = ["-p", str(it.parent_file), "-r", str(it.child_file)]
    argv = ["ip", "netns", "exec", net.namespace("a"), "keepalived", "-n", "-l", "-P", "-f", str(conf), *files]
    daemon = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        it.monitor.report()
        it.until(DaemonState.RUNNING)
        vrrp = read_pid(str(it.child_file))
        assert vrrp not in (0, daemon.pid)
        os.kill(vrrp, signal.SIGSTOP)
        it.until(DaemonState.HUNG)
        os.kill(vrrp, signal.SIGCONT)
        it.until(DaemonState.RUNNING)
        before = len(it.events)
        os.kill(vrrp, signal.SIGKILL)
        wait_for(lambda: len(it.events) >= before + 2, it.turn, 20)
        states = [event.state for event in it.events[before:] if isinstance(event, LocalDaemonChanged)]
        assert states == [DaemonState.STOPPED, DaemonState.RUNNING], "its parent starts the next one"
        daemon.terminate()
        daemon.wait(10)
        it.until(DaemonState.STOPPED)
    finally:
        daemon.kill()
        daemon.wait()
        net.close()
