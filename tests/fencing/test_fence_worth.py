"""What a device's word is worth (fencing/plan/worth.py): the table, what follows from it, and Debian's fence_sbd on a real loop device."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from base.clock import now_ns
from base.core import NS_PER_MS
from fencing.check import check_device
from fencing.devices.agent import AgentDevice
from fencing.devices.parameters import validate_device
from fencing.enrolment import enroll
from fencing.plan.commands import FenceState
from fencing.plan.events import DeviceOutcome, PowerState
from fencing.plan.session import FenceSession
from fencing.plan.settings import FenceDevice, FenceLevel
from fencing.plan.worth import AGENTS, Worth, judge
from fencing.worth_table import DOCUMENT, with_table
from tests.fencing.script import TIMES, VirtualDevice, World, device


def test_every_agent_of_the_package_is_judged():
    listed = subprocess.run(["dpkg", "-L", "fence-agents"], capture_output=True, text=True, check=True).stdout.split()
    assert sorted({Path(path).name for path in listed if path.startswith("/usr/sbin/fence_")}) == sorted(AGENTS)


def test_the_table_in_the_fencing_guide_is_current():
    text = DOCUMENT.read_text("utf-8")
    assert with_table(text) == text, "run: python -m fencing.worth_table --write"


@pytest.mark.parametrize("agent", ["fence_sbd", "fence_scsi", "fence_kdump", "fence_ack_manual"])
def test_nobody_can_declare_a_message_to_be_a_power_switch(agent: str):
    settings = FenceDevice("x", "agent", "b", (("agent", f"/usr/sbin/{agent}"), ("worth", "power")))
    assert settings.worth is Worth.BOOKKEEPING
    assert any("worth" in problem for problem in validate_device(settings))


def test_what_nobody_has_judged_is_bookkeeping_until_the_operator_says_otherwise():
    assert judge("agent", "/opt/fence_mine").worth is Worth.BOOKKEEPING
    assert judge("agent", "/opt/fence_mine", "power").worth is Worth.POWER
    assert judge("exec", "").worth is Worth.BOOKKEEPING
    assert judge("exec", "", "fabric").worth is Worth.FABRIC
    assert judge("ssh", "", "").worth is Worth.POWER


@pytest.mark.parametrize("agent", ["fence_heuristics_ping", "fence_rcd_serial", "fence_crosslink", "fence_evacuate"])
def test_what_cannot_fence_is_refused_with_its_reason(agent: str):
    problems = validate_device(FenceDevice("x", "agent", "b", (("agent", agent),)))
    assert any(agent in problem and "refused" in problem for problem in problems)


# --- what follows from it in a session ---


def level_of(worth: str, identity: str = "id") -> tuple[FenceLevel, ...]:
    made = device("d", identity=identity)
    return (FenceLevel("one", (FenceDevice(made.name, made.type, made.target, (("worth", worth),), made.deadline_ms, made.identity),)),)


def play(configured: tuple[FenceLevel, ...], devices: dict[str, VirtualDevice], **world: dict[str, object]) -> World:
    return World(FenceSession("o1", "b", configured, TIMES), configured, devices, **world).start().run()  # type: ignore[arg-type]


@pytest.mark.parametrize(("worth", "proved"), [("power", True), ("fabric", False), ("bookkeeping", False)])
def test_two_off_readings_prove_only_what_cuts_power(worth: str, proved: bool):
    played = play(level_of(worth), {"d": VirtualDevice()})
    assert (played.state is FenceState.PROVED) is proved


@pytest.mark.parametrize(
    ("worth", "speaks_on", "proved"),
    [("power", False, True), ("fabric", False, True), ("bookkeeping", False, False), ("fabric", True, False)],
)
def test_silence_proves_what_cuts_something_if_every_channel_falls_silent(worth: str, speaks_on: bool, proved: bool):
    """A switch port is cut while a serial line would go on; a message on a disk is never the reason of a silence that we can prove."""
    played = play(
        level_of(worth, ""),
        {"d": VirtualDevice(status=DeviceOutcome.UNREACHABLE)},
        channels={"path/eth1": ("eth1", 200)},
        controls={"eth1": 250},
    )
    if speaks_on:
        played = play(
            level_of(worth, ""),
            {"d": VirtualDevice(status=DeviceOutcome.UNREACHABLE, acts=False)},
            channels={"path/eth1": ("eth1", 200), "path/tty": ("tty", 250)},
            controls={"eth1": 250},
        )
    assert (played.state is FenceState.PROVED) is proved


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    """A loop device with SBD's header and a slot of node b that nobody watches."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(4 << 20))
    loop = subprocess.run(["losetup", "-f", "--show", str(image)], capture_output=True, text=True, check=True).stdout.strip()
    try:
        subprocess.run(["sbd", "-d", loop, "-1", "1", "-4", "2", "create"], check=True, capture_output=True)
        subprocess.run(["sbd", "-d", loop, "allocate", "b"], check=True, capture_output=True)
        yield loop
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)


def test_fence_sbd_can_only_claim(disk: str, tmp_path: Path):
    """D1: its off ends well and its status reads OFF although nobody watches the slot: the node runs on."""
    settings = FenceDevice(
        "sbd-b", "agent", "b", (("agent", "fence_sbd"), ("devices", disk), ("plug", "b"), ("power_timeout", "20")), 60_000
    )
    armed = AgentDevice(settings)
    until = now_ns() + 120_000 * NS_PER_MS
    assert armed.perform("status", until).power is PowerState.ON
    assert armed.perform("off", until).outcome is DeviceOutcome.SUCCESS
    assert armed.perform("status", until).power is PowerState.OFF
    assert settings.worth is Worth.BOOKKEEPING
    report = check_device(settings, wrong_password=False)
    assert not report.can_prove
    assert "worth" in {finding.code for finding in report.findings}
    entry = enroll(settings, report, tmp_path / "enrolment.json")
    enrolled = FenceDevice(settings.name, settings.type, settings.target, settings.parameters, settings.deadline_ms, entry.identity)
    played = play((FenceLevel("sbd", (enrolled,)),), {"sbd-b": VirtualDevice(acts=False, reads=PowerState.OFF)})
    assert played.state is FenceState.CLAIMED
