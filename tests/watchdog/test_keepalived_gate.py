"""The gate of a real keepalived: held, released, and found out when it is not looked at. keepalived runs in a network of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from base.clock import now_ns
from brainctl.stanza import instance_lines, track_file_blocks
from watchdog.config.model import GateSettings, GroupKey, Mode
from watchdog.groups import read_groups
from watchdog.judgement.commands import GateState, SetGate
from watchdog.judgement.events import CommandFailed, GateChecked, GateObedience, GroupStateReported
from watchdog.keepalived_gate import KeepalivedGate, write_gate
from watchdog.tracked_gate import gate_path

KEY = GroupKey(51, 4)
INSTANCE = """\
vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    priority 150
    advert_int 0.2
    version 3
    virtual_ipaddress {
        10.0.0.100/24
    }
%s}
"""
NETWORK = "ip link add eth0 type veth peer name eth9; ip link set eth0 up; ip link set eth9 up; ip addr add 10.0.0.1/24 dev eth0"


class World:
    """One keepalived, its gate, and what the gate says of it."""

    def __init__(self, directory: Path, mode: Mode) -> None:
        self.directory = directory
        self.mode = mode
        self.settings = GateSettings(hold_file=str(directory / "gate/hold"), grant_file=str(directory / "gate/grant"))
        self.conf = directory / "keepalived.conf"
        self.log = directory / "log"
        self.told: list[CommandFailed | GroupStateReported | GateChecked] = []
        self.gate = KeepalivedGate(self.settings, mode, self.told.append)
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self, *, stanza: bool = True, weight: str = "") -> None:
        blocks = track_file_blocks([KEY], self.mode, self.settings) if stanza else ""
        if weight:
            blocks = blocks.replace("weight 0 reverse", weight).replace("weight 0", weight)
        self.conf.write_text("global_defs {\n    router_id x\n}\n" + blocks + INSTANCE % (instance_lines(KEY) if stanza else ""))

    def start(self) -> None:
        files = f"-p {self.directory}/k.pid -r {self.directory}/v.pid"
        script = f"{NETWORK}; exec keepalived -n -l -D -f {self.conf} {files}"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(["unshare", "-n", "sh", "-c", script], stdout=log, stderr=log)
        self.until(lambda: "Startup complete" in self.text(), 10)

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def reload(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def end(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)

    def until(self, condition: Callable[[], bool], seconds: float = 8) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.text()[-2_000:]
            self.gate.on_deadline(now_ns())
            time.sleep(0.02)

    def obedience(self) -> GateObedience | None:
        return next((e.obedience for e in reversed(self.told) if isinstance(e, GateChecked)), None)

    def watch(self) -> None:
        self.gate.watch_groups(read_groups(str(self.conf), tolerant=True))

    def owns(self) -> bool:
        assert self.process is not None
        argv = ["nsenter", "-t", str(self.process.pid), "-n", "ip", "-4", "addr", "show", "dev", "eth0"]
        return "10.0.0.100" in subprocess.run(argv, capture_output=True, text=True, check=False).stdout


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """As /run: a tmpfs, which keeps access times."""
    where = tmp_path / "run"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "brainctl-test", str(where)], check=True)
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


@pytest.fixture
def world(disk: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(disk, getattr(request, "param", Mode.RESOLVE))
    yield made
    made.end()


def order(world: World, state: GateState) -> None:
    world.gate.set_gate(SetGate(KEY, state, 1, "a test"))


@pytest.mark.parametrize("world", [Mode.RESOLVE, Mode.STRICT], indirect=True)
def test_a_keepalived_that_looks_is_held_and_let_go(world: World) -> None:
    (world.directory / "gate").mkdir()
    world.configure()
    world.watch()
    world.start()
    world.until(lambda: world.obedience() is GateObedience.OBEYED)
    order(world, GateState.GRANTED if world.mode is Mode.STRICT else GateState.OPEN)
    world.until(world.owns)
    order(world, GateState.HELD)
    world.until(lambda: not world.owns())
    world.told.clear()
    world.until(lambda: world.obedience() is GateObedience.OBEYED)
    faults = world.text().lower().count("entering fault")
    world.gate.watch_groups(read_groups(str(world.conf)))
    world.until(lambda: sum(isinstance(e, GateChecked) for e in world.told) > 1)
    assert world.text().lower().count("entering fault") == faults, "looking must not change anything"


@pytest.mark.parametrize("world", [Mode.RESOLVE, Mode.STRICT], indirect=True)
def test_a_directory_that_came_after_keepalived_is_found_out(world: World) -> None:
    """The order of README once, and of every boot: keepalived starts, then the gate's directory is made."""
    world.configure()
    world.start()
    world.watch()
    world.until(lambda: world.obedience() is GateObedience.NOT_READ)
    detail = next(e.detail for e in reversed(world.told) if isinstance(e, GateChecked))
    assert gate_path(world.settings, world.mode, KEY) in detail and "reload" in detail
    world.reload()
    world.until(lambda: world.obedience() is GateObedience.OBEYED, 15)


@pytest.mark.parametrize(("stanza", "weight", "word"), [(False, "", "does not track"), (True, "weight -20", "but not with weight 0")])
def test_a_stanza_that_is_missing_or_wrong_is_found_in_the_file(world: World, stanza: bool, weight: str, word: str) -> None:
    (world.directory / "gate").mkdir()
    world.configure(stanza=stanza, weight=weight)
    world.watch()
    world.until(lambda: world.obedience() is GateObedience.NOT_CONFIGURED)
    assert word in next(e.detail for e in world.told if isinstance(e, GateChecked))


def test_a_directory_that_cannot_be_written_is_told(world: World) -> None:
    (world.directory / "gate").write_text("a file where a directory should be")
    world.configure()
    world.watch()
    world.until(lambda: world.obedience() is GateObedience.NOT_WRITABLE)
    order(world, GateState.HELD)
    assert any(isinstance(e, CommandFailed) for e in world.told)


def test_a_file_system_without_access_times_makes_it_unknown(world: World) -> None:
    subprocess.run(["mount", "-o", "remount,noatime", str(world.directory)], check=True)
    world.configure()
    world.watch()
    world.until(lambda: world.obedience() is GateObedience.UNKNOWN)


def test_observe_asks_nothing_and_writes_nothing(disk: Path) -> None:
    world = World(disk, Mode.OBSERVE)
    world.configure()
    world.watch()
    assert world.gate.next_deadline() is None and not (disk / "gate").exists()


def test_a_gate_says_something_at_every_moment(tmp_path: Path) -> None:
    path = str(tmp_path / "gate/hold-51")
    for value, expected in ((None, "0\n"), ("1", "1\n"), (None, "1\n"), ("0", "0\n")):
        write_gate(path, value)
        assert Path(path).read_text() == expected
    Path(path).write_text("garbage that is longer")
    write_gate(path, None)
    assert Path(path).read_text() == "0\n" and os.stat(path).st_mode & 0o777 == 0o644
