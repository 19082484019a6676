"""IPVS against a real kernel: boots the lab's guest for each file (`make lab` installs what that needs)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.guest import ROOT, run_in_guest

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(480)]


GUEST_FILES = ("guest_ipvs", "guest_traffic", "guest_daemon", "guest_cluster", "guest_snmp", "guest_mail", "guest_beside_keepalived")


@pytest.mark.parametrize("name", GUEST_FILES)
def test_in_the_guest(name: str, tmp_path: Path) -> None:
    run_in_guest(f"tests/vrrp/lvs/{name}.py", scratch=tmp_path, limit_s=420)


def test_every_guest_file_is_run() -> None:
    assert set(GUEST_FILES) == {path.stem for path in Path(__file__).parent.glob("guest_*.py")}


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
