"""The hardware watchdog on a real kernel: softdog in the lab's guest, which it really resets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.guest import run_in_guest
from watchdog.hardware_watchdog import HardwareWatchdog, HardwareWatchdogError

ROOT = Path(__file__).resolve().parents[3]
BITTEN = 120
"""lab/run's exit status when the guest was reset."""


def play(fault: str, scratch: Path) -> tuple[int, list[tuple[float, str]]]:
    notes = scratch / "notes"
    argv = [ROOT / "lab/run", "-t", "90", "-w", scratch, sys.executable, "-m", "tests.watchdog.hardware.guest_feed", fault, notes]
    done = subprocess.run([str(word) for word in argv], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert notes.exists(), done.stdout + done.stderr
    lines = [line.split(" ", 1) for line in notes.read_text().splitlines()]
    return done.returncode, [(float(at), text) for at, text in lines]


@pytest.mark.lab
@pytest.mark.parametrize(("fault", "bitten"), [("nothing", True), ("stop", True), ("disarm", False)])
def test_the_machine_is_reset_when_nobody_feeds_it(fault: str, bitten: bool, tmp_path: Path):
    status, notes = play(fault, tmp_path)
    assert (status == BITTEN) is bitten, (status, notes)
    assert notes[0][1] == "armed Software Watchdog 2"
    fed = next(at for at, text in notes if text == "fed")
    lived_s = notes[-1][0] - fed
    assert (lived_s < 2 + 1.5) is bitten, "within the timeout, give or take the guest's coarse clock"


@pytest.mark.lab
@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", ["cut", "hung"])
def test_two_brainds_without_a_fence_device(fault: str, tmp_path: Path):
    """Promise 3c with real daemons and a real driver (guest_pair.py): a total cut, and a watcher that hangs."""
    test = "test_the_named_node_starves_and_the_other_counts_it_only_afterwards"
    assert run_in_guest(f"tests/watchdog/hardware/guest_pair.py::{test}[{fault}]", scratch=tmp_path) == 1


@pytest.mark.parametrize(("path", "words"), [("/nowhere/watchdog", "softdog"), ("/dev/null", "no watchdog device")])
def test_what_is_no_watchdog_is_refused_with_its_name(path: str, words: str):
    with pytest.raises(HardwareWatchdogError) as refused:
        HardwareWatchdog(path, 10)
    assert path in str(refused.value)
    assert words in str(refused.value)
