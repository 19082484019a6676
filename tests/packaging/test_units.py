"""What the units leave to an intruder, as systemd itself counts it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[2] / "conf/systemd"
LIMIT = 3.0


@pytest.mark.parametrize("unit", ["braind.service", "vrrpd.service"])
def test_the_exposure_of_the_units_is_low(unit: str) -> None:
    assert shutil.which("systemd-analyze"), "apt-get install systemd"
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(UNITS / unit)], capture_output=True, text=True, timeout=60
    )
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= LIMIT, done.stdout


@pytest.mark.parametrize("unit", ["braind.service", "vrrpd.service"])
def test_systemd_understands_every_line(unit: str, tmp_path: Path) -> None:
    text = (UNITS / unit).read_text().replace("/usr/bin/env braind", "/bin/true").replace("/usr/bin/env vrrpd", "/bin/true")
    (tmp_path / unit).write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(tmp_path / unit)], capture_output=True, text=True, timeout=60)
    assert [line for line in done.stderr.splitlines() if str(tmp_path) in line] == []
