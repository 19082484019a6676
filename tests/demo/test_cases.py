"""Every case of T, A and N that was once played on real parts, as a scenario of the demo: what it wants is what the scenario expects."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from brainctl.demo.scenarios import SCENARIOS, find_scenario
from brainctl.demo.scenarios.known_failing import KNOWN_FAILING

ROOT = Path(__file__).resolve().parents[2]

CASES: tuple[tuple[str, str, str], ...] = (
    ("port-dead", "vrrpd", "strict"),
    ("port-dead", "keepalived", "resolve"),
    ("two-lans", "keepalived", "resolve"),
    ("two-lans-sync", "vrrpd", "resolve"),
    ("same-vrid", "vrrpd", "resolve"),
    ("routed-peers", "keepalived", "resolve"),
    ("many-addresses", "keepalived", "resolve"),
    ("ipv6", "vrrpd", "resolve"),
    ("local-node", "keepalived", "resolve"),
    ("local-node", "vrrpd", "strict"),
    ("gateway-reboots", "vrrpd", "strict"),
    ("gateway-reboots-after-stop", "keepalived", "resolve"),
    ("owner-shuts-down", "keepalived", "strict"),
    ("watcher-stops-first", "vrrpd", "strict"),
    ("foreign-elsewhere", "vrrpd", "resolve"),
    ("stranger", "keepalived", "resolve"),
    ("nopreempt", "keepalived", "resolve"),
    ("no-standby", "keepalived", "observe"),
    ("watcher-crashes", "keepalived", "resolve"),
    ("descriptors-run-out", "vrrpd", "resolve"),
    ("disk-full", "keepalived", "resolve"),
    ("hold-ignored", "keepalived", "resolve"),
    ("hold-unwritable", "keepalived", "resolve"),
    ("hold-ends", "vrrpd", "resolve"),
    ("vrrp-process-dies", "vrrpd", "resolve"),
    ("owner-stops-after-split", "keepalived", "resolve"),
    ("gate-late", "keepalived", "strict"),
    ("handover", "keepalived", "resolve"),
    ("upgrade", "keepalived", "resolve"),
    ("key-change", "vrrpd", "strict"),
    ("node-replaced", "keepalived", "resolve"),
    ("fenced-node-returns", "vrrpd", "resolve"),
)


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("scenario", "daemon", "mode"), CASES, ids=lambda value: str(value))
def test_a_case_on_real_parts(tmp_path: Path, scenario: str, daemon: str, mode: str) -> None:
    argv = [sys.executable, "-m", "brainctl.demo", "--json", "--keep", str(tmp_path), "--daemon", daemon, "--mode", mode]
    done = subprocess.run([*argv, "--scenario", scenario], capture_output=True, text=True, cwd=ROOT, timeout=170, check=False)
    (result,) = json.loads(done.stdout.splitlines()[-1])["scenarios"]
    assert result["ok"], done.stdout + done.stderr
    assert done.returncode == 0, done.stderr


def test_every_scenario_with_a_case_is_tested() -> None:
    assert {scenario.name for scenario in SCENARIOS if scenario.case} <= {name for name, _daemon, _mode in CASES}


def test_what_is_known_to_fail_exists() -> None:
    assert [name for name in KNOWN_FAILING if find_scenario(name) is None] == []
