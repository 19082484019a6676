"""IPVS against a real kernel: boots the lab's guest (`make lab` installs what that needs)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.guest import ROOT, run_in_guest

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(480)]


GUESTS = {
    "parts": ("guest_ipvs", "guest_traffic", "guest_daemon", "guest_snmp", "guest_mail"),
    "whole": ("guest_cluster", "guest_beside_keepalived"),
}
"""Few boots, many tests in each; two of about the same length, for two workers."""


@pytest.mark.parametrize("guest", GUESTS)
def test_in_the_guest(guest: str, tmp_path: Path) -> None:
    run_in_guest(*(f"tests/vrrp/lvs/{name}.py" for name in GUESTS[guest]), scratch=tmp_path, limit_s=420)


def test_every_guest_file_is_run() -> None:
    listed = {name for names in GUESTS.values() for name in names}
    assert listed == {path.stem for path in Path(__file__).parent.glob("guest_*.py")}


def test_the_lab_returns_output_and_status_and_keeps_writes_to_itself(tmp_path: Path) -> None:
    kept, lost = tmp_path / "kept", ROOT.parent / f"lab-lost-{tmp_path.name}"
    script = f"echo out; echo err >&2; echo x > {kept}; echo x > {lost}; ls {lost}; exit 7"
    done = subprocess.run([ROOT / "lab/run", "-t", "60", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stdout, done.stderr) == (7, f"out\n{lost}\n", "err\n")
    assert kept.read_text() == "x\n"
    assert not lost.exists()


def test_the_lab_ends_a_command_that_takes_too_long(tmp_path: Path) -> None:
    done = subprocess.run([ROOT / "lab/run", "-t", "6", "sleep", "600"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 124


def test_the_lab_without_a_kernel_says_how_to_get_one(tmp_path: Path) -> None:
    done = subprocess.run([ROOT / "lab/run", "-k", "/nowhere/linux", "true"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 125
    assert "make lab" in done.stderr
