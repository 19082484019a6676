"""The laboratory is real: it can be built, split, powered, and leaves nothing behind however it ends."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from brainctl.demo import measure
from brainctl.demo.addresses import draw_plan
from brainctl.demo.kernel import run
from brainctl.demo.lab import Lab
from brainctl.demo.preflight import preflight
from brainctl.demo.program import program_path
from brainctl.demo.setup import Setup
from brainctl.demo.stage import Stage

pytestmark = pytest.mark.system


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(draw_plan(time.time_ns()), tmp_path / "lab") as built:
        yield built


def until(condition: Callable[[], object], within_s: float = 15.0, lab: Lab | None = None) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "did not happen"
        if lab is not None:
            lab.tend()
        time.sleep(0.02)


def on_node(lab: Lab, name: str, *argv: str) -> str:
    return run(["nsenter", "-t", str(lab.nodes[name].pid), "-m", "-n", "-p", "-u", "-i", *argv])


def test_nothing_is_missing_on_a_machine_that_was_set_up() -> None:
    assert [str(gap) for gap in preflight(("vrrpd", "keepalived"))] == []


def test_plans_differ_and_repeat() -> None:
    assert draw_plan(1) == draw_plan(1)
    assert draw_plan(1).vip != draw_plan(2).vip
    plan = draw_plan(3)
    assert len({*plan.host.values(), plan.vip}) == len(plan.host) + 1
    assert len(set(plan.management_host.values()) | {o.address for o in plan.outlets}) == 6


def test_a_node_has_its_own_tree_name_processes_and_networks(lab: Lab) -> None:
    a, b = lab.nodes["A"], lab.nodes["B"]
    assert on_node(lab, "A", "hostname").strip() == "A"
    (a.root / "run/only-on-A").write_text("x")
    (a.root / "var/lib/on-disk").write_text("x")
    (a.root / "etc/brainctl/file").write_text("x")
    assert not (b.root / "run/only-on-A").exists()
    assert not Path("/run/only-on-A").exists()
    assert not Path("/var/lib/on-disk").exists()
    assert not Path("/etc/brainctl/file").exists()
    pids = on_node(lab, "A", "ps", "-e", "-o", "args=").splitlines()
    assert len(pids) <= 4
    for name in ("eth0", "eth1", "mgmt0"):
        assert name in on_node(lab, "A", "ip", "-br", "link")


def test_power_loses_memory_and_keeps_the_disk(lab: Lab) -> None:
    a = lab.nodes["A"]
    (a.root / "run/memory").write_text("x")
    (a.root / "var/lib/disk").write_text("x")
    lab.unpower("A")
    assert not a.on
    lab.boot("A")
    assert not (a.root / "run/memory").exists()
    assert (a.root / "var/lib/disk").read_text() == "x"
    on_node(lab, "A", "ping", "-c", "1", "-W", "2", lab.plan.host["gateway"])


def test_each_cut_cuts_what_it_says(lab: Lab) -> None:
    plan = lab.plan

    def reaches(name: str, address: str) -> bool:
        argv = ["nsenter", "-t", str(lab.nodes[name].pid), "-n", "ping", "-c", "1", "-W", "1", address]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0

    outlet = plan.outlet("B", "bmc").address
    assert reaches("A", plan.host["B"])
    assert reaches("A", plan.heartbeat_host["B"])
    assert reaches("A", outlet)
    lab.cut_ethernet()
    assert not reaches("A", plan.host["B"])
    assert not reaches("A", plan.heartbeat_host["B"])
    assert reaches("A", plan.host["gateway"])
    assert reaches("B", plan.host["client"])
    lab.cut_management()
    assert not reaches("A", outlet)
    lab.mend()
    assert reaches("A", plan.host["B"])
    until(lambda: reaches("A", outlet))


def serial(lab: Lab, name: str) -> int:
    return os.open(lab._ttys[name], os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)


def read_all(fd: int, seconds: float) -> bytes:
    data, end = b"", time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            data += os.read(fd, 4096)
        except BlockingIOError:
            time.sleep(0.01)
    return data


def test_the_serial_line_carries_at_its_speed_and_can_be_cut(lab: Lab) -> None:
    a, b = serial(lab, "A"), serial(lab, "B")
    os.write(a, b"hello")
    assert read_all(b, 0.5) == b"hello"
    os.write(a, bytes(3000))
    assert 500 <= len(read_all(b, 1.0)) <= 1500  # 9600 baud = 960 bytes/s
    lab.cut_serial()
    time.sleep(0.3)
    read_all(b, 0.1)
    os.write(b, b"nobody hears this")
    assert read_all(a, 0.5) == b""
    os.close(a)
    os.close(b)


def fence(lab: Lab, target: str, action: str, *, on: str = "A", **changes: str) -> subprocess.CompletedProcess[str]:
    outlet = lab.plan.outlet(target, "bmc")
    given = {
        "action": action,
        "ip": outlet.address,
        "ipport": str(outlet.port),
        "plug": str(outlet.plug),
        "username": lab.plan.power_user,
        "password": lab.plan.power_password,
        "power_timeout": "1",
        **changes,
    }
    text = "".join(f"{key}={value}\n" for key, value in given.items())
    argv = ["nsenter", "-t", str(lab.nodes[on].pid), "-n", sys.executable, program_path("fence_lab")]
    return subprocess.run(argv, input=text, capture_output=True, text=True, timeout=30, check=False)


def test_the_fence_agent_switches_the_real_outlet(lab: Lab) -> None:
    assert fence(lab, "B", "metadata").stdout.startswith("<?xml")
    assert fence(lab, "B", "status").returncode == 0
    assert lab.plan.outlet("B", "bmc").serial in fence(lab, "B", "list").stdout
    init = lab.nodes["B"].pid
    assert fence(lab, "B", "off").returncode == 0
    until(lambda: not Path(f"/proc/{init}").exists())
    until(lambda: not lab.nodes["B"].on, lab=lab)
    assert fence(lab, "B", "status").returncode == 2
    assert fence(lab, "B", "status", password="wrong").returncode == 1
    assert fence(lab, "B", "off", plug="99").returncode == 1
    assert fence(lab, "B", "").returncode == 1


def test_a_deaf_switch_is_found_out_by_its_status_unless_that_lies_too(lab: Lab) -> None:
    init = lab.nodes["B"].pid
    lab.behave("B", "bmc", deaf=True)
    assert fence(lab, "B", "off").returncode == 1
    lab.behave("B", "bmc", deaf=True, pretends=True)
    assert fence(lab, "B", "off").returncode == 0
    assert fence(lab, "B", "status").returncode == 2
    assert Path(f"/proc/{init}").exists()
    lab.behave("B", "bmc", hangs=True)
    assert fence(lab, "B", "status", login_timeout="1").returncode == 1


def test_the_observers_see_a_real_split(lab: Lab) -> None:
    """Debian's keepalived on both nodes; the firewalls drop protocol 112."""
    stage = Stage(lab, Setup("keepalived", "observe", brain=False, advert_ms=200), on_tick=lambda _: None, on_say=lambda *_: None)
    stage.raise_pair()
    assert stage.client_sees() == "A"
    stage.firewall_drops_vrrp()
    assert stage.wait("two owners", stage.two_owners, 15.0)
    stage.hold(0.5)
    stage.firewall_is_mended()
    assert stage.wait("one owner", stage.owned_by("A"), 15.0)
    outcome = stage.outcome()
    assert outcome.split_ms is not None
    assert outcome.split_ms >= 300
    assert outcome.resolve_ms is not None
    assert outcome.owners_after == ["A"]
    kernels = [event["node"] for event in lab.observer.events if event["kind"] == "address" and event["held"]]
    assert {"A", "B"} <= set(kernels)


def test_the_capture_can_be_read_by_others(lab: Lab) -> None:
    lab.stranger_takes_address()
    until(lambda: "stranger" in measure.recent_owners(lab.observer.events, time.time_ns(), lab.plan.vip))
    time.sleep(0.5)
    text = run(["tcpdump", "-n", "-e", "-r", str(lab.capture)])
    assert f"is-at {lab.plan.mac['stranger']}" in text
    data = lab.capture.read_bytes()
    assert struct.unpack("<I", data[:4]) == (0xA1B23C4D,)


def leftovers(directory: Path) -> list[str]:
    """Processes whose command line or root still mentions the laboratory's directory."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                line = Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            if str(directory).encode() in line:
                found.append(line.replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_when_the_demo_is_ended(tmp_path: Path, end: signal.Signals) -> None:
    argv = [
        sys.executable,
        "-m",
        "brainctl.demo",
        "--without-braind",
        "--daemon",
        "keepalived",
        "--scenario",
        "quiet",
        "--keep",
        str(tmp_path),
    ]
    heeds_sigint = ["env", "--default-signal=INT"]  # a shell's background job, such as a CI's, ignores it and so would its children
    with subprocess.Popen(
        [*heeds_sigint, *argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2]
    ) as demo:
        until(lambda: len(list(tmp_path.glob("*/B/log/vrrp.log"))) == 1, 30.0)
        time.sleep(0.5)
        demo.send_signal(end)
        demo.wait(20)
    until(lambda: not [line for line in leftovers(tmp_path) if "pytest" not in line], 10.0)
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
