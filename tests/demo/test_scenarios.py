"""The demo's scenarios end to end, and the negative controls: a spoiled braind must make named scenarios fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from brainctl.demo.sabotage import MUST_FAIL, SABOTAGES
from brainctl.demo.scenarios import SCENARIOS, find_scenario

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(180)]

KEYS = {
    *("scenario", "daemon", "mode", "expected", "ok", "split_ms", "detect_ms", "resolve_ms", "fence", "owners_after", "alerts"),
    *("client_outage_ms", "capture"),
}


def demo(tmp_path: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, the last line's only scenario, and all that was printed."""
    argv = [sys.executable, "-m", "brainctl.demo", "--json", "--keep", str(tmp_path), *options]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=170, check=False)
    (scenario,) = json.loads(done.stdout.splitlines()[-1])["scenarios"]
    return done.returncode, scenario, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("daemon", "scenario"),
    [("keepalived", "cut-heartbeat"), ("vrrpd", "orphan"), ("keepalived", "hang-all"), ("vrrpd", "cut-ethernet-serial-alive")],
)
def test_a_split_is_seen_and_ended(tmp_path: Path, daemon: str, scenario: str) -> None:
    status, result, said = demo(tmp_path, "--daemon", daemon, "--scenario", scenario)
    assert status == 0, said
    assert result["ok"]
    assert set(result) >= KEYS
    assert Path(result["capture"]).stat().st_size > 100
    assert Path(result["client_log"]).stat().st_size > 100
    assert len(result["owners_after"]) == 1


def test_strict_takes_nothing_over_without_proof(tmp_path: Path) -> None:
    status, result, said = demo(tmp_path, "--daemon", "keepalived", "--mode", "strict", "--scenario", "cut-everything-and-management")
    assert status == 0, said
    assert result["owners_after"] == ["A"]
    assert result["split_ms"] is None


@pytest.mark.parametrize("sabotage", sorted(SABOTAGES))
def test_a_spoiled_braind_is_found_out(tmp_path: Path, sabotage: str) -> None:
    scenario = MUST_FAIL[sabotage][0]
    status, result, said = demo(tmp_path, "--daemon", "keepalived", "--mode", "resolve", "--scenario", scenario, "--sabotage", sabotage)
    assert status == 1, said
    assert not result["ok"]
    assert not any("could not be played" in failure for failure in result["failures"]), said


def test_every_sabotage_names_scenarios_that_exist() -> None:
    assert set(MUST_FAIL) == set(SABOTAGES)
    assert [name for names in MUST_FAIL.values() for name in names if find_scenario(name) is None] == []


def test_the_bare_pair_stays_split(tmp_path: Path) -> None:
    """What brainctl is for: without braind nobody ends the split."""
    status, result, _ = demo(tmp_path, "--daemon", "keepalived", "--scenario", "cut-heartbeat", "--without-braind")
    assert status == 1
    assert result["owners_after"] == ["A", "B"]


def test_the_list_names_every_scenario() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "brainctl.demo", "--list"], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True
    )
    assert [line.split()[0] for line in done.stdout.splitlines()] == [scenario.name for scenario in SCENARIOS]


def test_an_unknown_scenario_is_named(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "brainctl.demo", "--scenario", "nonsense", "--keep", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 2
    assert "nonsense" in done.stderr


def test_a_missing_capability_is_named_with_its_remedy(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "brainctl.demo", "--daemon", "keepalived", "--scenario", "quiet", "--keep", str(tmp_path / "kept")]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False, env={"PATH": str(tmp_path)})
    assert done.returncode == 2
    for program, package in (("nft", "nftables"), ("keepalived", "keepalived"), ("unshare", "util-linux")):
        assert f"the program {program}: " in done.stderr and f"apt-get install {package}" in done.stderr
    assert not (tmp_path / "kept").exists()
