"""The command line of vrrpd: keepalived's options, the configuration test, refusal at start."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Lab, inside
from vrrp.commandline import NO_EFFECT, SIGNAL_NUMBERS, parse

pytestmark = pytest.mark.system
ROOT = Path(__file__).resolve().parents[3]
GOOD = """
vrrp_instance V1 {
    interface eth0
    virtual_router_id 51
    priority 100
    virtual_ipaddress {
        10.0.0.100/24
    }
}
"""
BAD = GOOD + "vrrp_instence V2 {\n}\n" + GOOD.replace("V1", "V3").replace("priority 100", "priority many")


@pytest.fixture(scope="module", autouse=True)
def namespace() -> Iterator[None]:
    """With an eth0 of its own."""
    with Lab("a") as lab, inside(lab.nodes["a"].namespace):
        yield


def vrrpd(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vrrp.daemon", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)


def options_of_keepalived() -> list[str]:
    """Every long option that the installed keepalived offers."""
    text = subprocess.run(["keepalived", "--help"], capture_output=True, text=True, check=False).stderr
    text += subprocess.run(["keepalived", "--help"], capture_output=True, text=True, check=False).stdout
    return sorted({word.split("=")[0].split("[")[0].rstrip(",") for word in text.split() if word.startswith("--")})


def test_every_option_of_keepalived_is_known() -> None:
    ours = vrrpd("--help").stdout
    missing = [option for option in options_of_keepalived() if option not in ours]
    assert missing == ["--genhash"], "genhash is a program of its own, not an option of a VRRP daemon"


def test_options_without_effect_say_so() -> None:
    options, _ = parse(["-C", "-x", "-I", "-a", "--all", "-f", "x"])
    assert set(options.without_effect) == {NO_EFFECT["address_monitoring"], NO_EFFECT["all_children"]}
    assert (options.checker_only, options.vrrp_only, options.keep_ipvs) == (True, False, True)
    both, _ = parse(["-C", "-P"])
    assert (both.checker_only, both.vrrp_only) == (False, False), "both halves; keepalived would run nothing"


@pytest.mark.parametrize("name", ["STOP", "RELOAD", "DATA", "STATS", "STATS_CLEAR", "JSON"])
def test_signum_is_keepaliveds(name: str) -> None:
    theirs = subprocess.run(["keepalived", f"--signum={name}"], capture_output=True, text=True, check=False).stdout
    assert int(theirs) == SIGNAL_NUMBERS[name] == int(vrrpd("--signum", name).stdout)


def test_configuration_test(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.conf", tmp_path / "bad.conf"
    good.write_text(GOOD)
    bad.write_text(BAD)
    assert vrrpd("-t", "-f", str(good)).returncode == 0
    refused = vrrpd("-t", "-f", str(bad))
    assert refused.returncode == 5
    for line in (10, 15):
        assert f"{bad}:{line}:" in refused.stderr, "every error has its place"
    assert vrrpd("-t", "-f", str(tmp_path / "none.conf")).returncode == 4
    good.write_text(GOOD.replace("priority 100", "priority 100\nnotify /usr/bin/true"))
    assert vrrpd("-t", "-f", str(good)).returncode == 6, "as keepalived: scripts without enable_script_security"
    good.write_text(GOOD + "include none.conf\n")
    assert vrrpd("-t", "-f", str(good)).returncode == 0
    assert vrrpd("-t", "-e", "-f", str(good)).returncode == 5, "with -e a missing include is an error"
    log = tmp_path / "log"
    assert vrrpd(f"--config-test={log}", "-f", str(bad)).returncode == 5
    assert f"{bad}:10:" in log.read_text()


def test_a_bad_file_starts_nothing(tmp_path: Path) -> None:
    bad = tmp_path / "bad.conf"
    bad.write_text(BAD)
    pid = tmp_path / "pid"
    assert vrrpd("-n", "-l", "-f", str(bad), "-p", str(pid), "--run-dir", str(tmp_path / "run")).returncode == 5
    assert not pid.exists()
    assert not (tmp_path / "run").exists()
