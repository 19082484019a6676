"""Tracked processes against real processes: with the kernel's events, and by looking where there are none."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.log import Log
from base.pump import Pump
from tests.lab import ROOT
from vrrp.config.model.daemon import ReceiveBuffer
from vrrp.config.model.tracking import ParameterMatch, TrackProcess
from vrrp.system.process_events import Exited, Forked, ProcessEvents, TrackedProcesses, decode_event, look_at
from vrrp.system.timers import Timers

pytestmark = pytest.mark.system
NAME = f"bt{os.getpid() % 1_000_000}"


@pytest.fixture
def program(tmp_path: Path) -> str:
    """A copy of sleep under a name that nobody else uses: its comm is NAME."""
    path = tmp_path / NAME
    path.write_bytes(Path("/bin/sleep").resolve().read_bytes())
    path.chmod(0o755)
    return str(path)


@contextmanager
def started(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(argv)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Watch:
    """``TrackedProcesses`` on a pump of its own, turned by hand."""

    def __init__(self, *tracked: TrackProcess) -> None:
        self.timers = Timers()
        self.pump = Pump(next_deadline=self.timers.next_deadline, on_deadline=self.timers.on_deadline)
        self.said: list[tuple[str, bool, int]] = []
        self.processes = TrackedProcesses(self.pump, self.timers, Log("test", -1), lambda *words: self.said.append(words))
        self.processes.configure(tracked)

    def until(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> float:
        begin = time.monotonic()
        while not condition():
            assert time.monotonic() - begin < timeout_s, self.said
            self.pump.turn(20_000_000)
        return time.monotonic() - begin

    def run(self, for_s: float) -> None:
        end = time.monotonic() + for_s
        while time.monotonic() < end:
            self.pump.turn(20_000_000)

    def up(self, name: str = "p") -> bool | None:
        return next((up for n, up, _count in reversed(self.said) if n == name), None)


@contextmanager
def watch(*tracked: TrackProcess) -> Iterator[Watch]:
    made = Watch(*tracked)
    try:
        yield made
    finally:
        made.processes.close()
        made.pump.close()


P = TrackProcess("p", NAME)


class TestWithEvents:
    def test_start_exec_and_end_are_heard_without_looking(self, program: str) -> None:
        with watch(P) as seen:
            assert seen.processes.events is not None
            assert seen.up() is False
            with started(program, "60"):
                assert seen.until(lambda: seen.up() is True) < 5
            assert seen.until(lambda: seen.up() is False) < 5

    def test_one_that_ran_before_is_found(self, program: str) -> None:
        with started(program, "60"), watch(P) as seen:
            seen.until(lambda: seen.up() is True)

    def test_a_new_name_counts(self) -> None:
        script = f"import ctypes, time; time.sleep(1); ctypes.CDLL(None).prctl(15, b'{NAME}', 0, 0, 0); time.sleep(60)"
        with watch(P) as seen, started(sys.executable, "-S", "-c", script):
            seen.until(lambda: seen.up() is True)

    @pytest.mark.shows("vrrp_track_process/quorum", "vrrp_track_process/quorum_max")
    def test_quorum_and_quorum_max(self, program: str) -> None:
        with watch(replace(P, quorum=2, quorum_max=2)) as seen, started(program, "60"):
            seen.run(0.3)
            assert seen.up() is False
            with started(program, "60"):
                seen.until(lambda: seen.up() is True)
                with started(program, "60"):
                    seen.until(lambda: seen.up() is False)
                seen.until(lambda: seen.up() is True)

    def test_a_short_restart_is_not_told_with_terminate_delay(self, program: str) -> None:
        with watch(replace(P, terminate_delay_ns=3_000_000_000)) as seen:
            with started(program, "60"):
                seen.until(lambda: seen.up() is True)
            seen.run(0.3)
            with started(program, "60"):
                seen.run(4.0)
                assert [up for _name, up, _count in seen.said] == [False, True]

    def test_parameters(self, program: str) -> None:
        exact = TrackProcess("exact", program, ("60",), ParameterMatch.EXACT)
        initial = TrackProcess("initial", program, ("6",), ParameterMatch.INITIAL)
        none = TrackProcess("none", program, (), ParameterMatch.EXACT)
        full = TrackProcess("full", program, full_command=True)
        with watch(exact, initial, none, full) as seen, started(program, "60"):
            seen.until(lambda: [seen.up(name) for name in ("exact", "initial", "none", "full")] == [True, True, False, True])

    def test_a_zombie_does_not_run(self, program: str) -> None:
        with watch(P) as seen, started(program, "60") as process:
            seen.until(lambda: seen.up() is True)
            os.kill(process.pid, signal.SIGKILL)
            seen.until(lambda: seen.up() is False)
            assert look_at(process.pid, False) is None, "not waited for yet, and no process any more"

    def test_nothing_is_missed_after_an_overrun(self, program: str) -> None:
        """Nobody reads while more happens than the socket holds: the end of a tracked process is among it."""
        with watch(P) as seen:
            assert seen.processes.events is not None
            with started(program, "60"):
                seen.until(lambda: seen.up() is True)
                descriptor = seen.processes.events.fileno()
                with socket.socket(fileno=os.dup(descriptor)) as same:
                    same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
                for _ in range(60):
                    subprocess.run(["/bin/true"], check=True)
            seen.until(lambda: seen.up() is False)
            assert seen.processes.overruns >= 1
            with started(program, "60"):
                seen.until(lambda: seen.up() is True)

    @pytest.mark.shows("global_defs/process_monitor_rcv_bufs", "global_defs/process_monitor_rcv_bufs_force")
    def test_the_receive_buffer_is_as_configured(self) -> None:
        most = int(Path("/proc/sys/net/core/rmem_max").read_text())
        for buffer, expected in (
            (ReceiveBuffer(50_000), 100_000),
            (ReceiveBuffer(3 * most), 2 * most),
            (ReceiveBuffer(3 * most, force=True), 6 * most),
        ):
            with watch() as seen:
                seen.processes.configure([TrackProcess("p", "nobody-is-called-so")], buffer)
                assert seen.processes.events is not None
                with socket.socket(fileno=os.dup(seen.processes.events.fileno())) as copy:
                    assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == expected

    def test_threads_do_not_wake_us(self) -> None:
        events = ProcessEvents()
        try:
            for _ in range(50):
                thread = threading.Thread(target=lambda: None)
                thread.start()
                thread.join()
            me = os.getpid()
            time.sleep(0.2)
            mine = [event for event in events.drain()[0] if event in (Exited(me),) or (isinstance(event, Forked) and event.parent == me)]
            assert mine == []
        finally:
            events.close()


def test_without_events_it_looks_again_and_again(program: str) -> None:
    """In a process namespace the kernel gives no answer to the subscription, and no error either."""
    script = f"""
import subprocess, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.vrrp.system.test_process_events import Watch
from vrrp.config.model.tracking import TrackProcess
seen = Watch(TrackProcess("p", {NAME!r}))
assert seen.processes.events is None
assert seen.up() is False
child = subprocess.Popen([{program!r}, "60"])
seen.until(lambda: seen.up() is True)
child.kill(); child.wait()
seen.until(lambda: seen.up() is False)
print("seen")
"""
    argv = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.returncode) == ("seen", 0), done.stderr


def test_without_the_capability_there_are_no_events() -> None:
    script = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from vrrp.system.privileges import CAP_NET_RAW, keep_only
from vrrp.system.process_events import NoEvents, ProcessEvents
keep_only((CAP_NET_RAW,))
try:
    ProcessEvents()
except NoEvents:
    print("none")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "none", done.stderr


@given(st.binary(max_size=120))
def test_anything_is_decoded_or_ignored(data: bytes) -> None:
    decode_event(data)


def test_names_with_parentheses_and_blanks() -> None:
    libc = ctypes.CDLL(None)
    before = ctypes.create_string_buffer(16)
    libc.prctl(16, before, 0, 0, 0)
    libc.prctl(15, b"a) R (b", 0, 0, 0)
    try:
        seen = look_at(os.getpid(), True)
        assert seen is not None and seen.comm == "a) R (b" and seen.command_line
    finally:
        libc.prctl(15, before, 0, 0, 0)
