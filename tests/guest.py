"""Tests that run inside the kernel lab's guest (``lab/run``), because this machine's kernel lacks what they need.

They live in ``guest_*.py`` files, which pytest does not collect on the host. A host test boots the guest for such a file:

    @pytest.mark.lab
    def test_ipvs_in_the_guest(tmp_path): run_in_guest("tests/vrrp/lvs/guest_ipvs.py", scratch=tmp_path)
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent


def run_in_guest(*paths: str, scratch: Path, limit_s: int = 240) -> int:
    """Boot the guest, run every test of these files there; how many there were. Fails unless all passed and none was skipped."""
    report = scratch / "report.xml"
    argv = [ROOT / "lab/run", "-t", str(limit_s), "-w", scratch, sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider"]
    argv += ["-p", "no:xdist", f"--junitxml={report}", *paths]
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit_s + 30,
        check=False,
    )
    assert done.returncode == 0, f"in the guest, status {done.returncode}:\n{done.stdout[-20000:]}"
    (suite,) = ElementTree.parse(report).getroot().iter("testsuite")
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    assert counts["tests"] > 0 and counts == {"tests": counts["tests"], "failures": 0, "errors": 0, "skipped": 0}, done.stdout
    return counts["tests"]
