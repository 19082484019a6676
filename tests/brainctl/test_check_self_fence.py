"""What ``brainctl check`` says of [self_fence]: the price, the bound, the device."""

from __future__ import annotations

from pathlib import Path

import pytest

from base.diagnostics import ConfigError, Severity
from brainctl.check import check_self_fence
from watchdog.config.load import load_brain

BRAIN = """version = 1
[cluster]
name = "c"
[node.a]
[node.b]
[policy]
mode = "{mode}"
[[path]]
name = "eth1"
type = "ethernet"
medium = "hb"
interface = "eth1"
[self_fence]
node = "b"
{rest}
"""


def load(tmp_path: Path, rest: str, mode: str = "strict", node: str = "b"):
    path = tmp_path / "brain.toml"
    path.write_text(BRAIN.format(rest=rest, mode=mode))
    return load_brain(str(path), node)


def test_the_price_and_the_bound_are_printed_and_a_device_that_is_none_is_an_error(tmp_path: Path):
    findings = list(check_self_fence(load(tmp_path, 'device = "/dev/no-such-watchdog"')))
    assert [f.severity for f in findings] == [Severity.ERROR, Severity.NOTE]
    assert "b alone gives no service" in findings[1].message
    assert "19037 ms" in findings[1].message
    assert [f.severity for f in check_self_fence(load(tmp_path, "", node="a"))] == [Severity.NOTE], "the other node needs no device"


def test_observe_is_said_to_arm_nothing(tmp_path: Path):
    assert Severity.WARNING in {f.severity for f in check_self_fence(load(tmp_path, "", mode="observe", node="a"))}


@pytest.mark.parametrize("rest", ["after_ms = 1000", 'device = "watchdog"', "timeout_s = 1", "x = 1", 'after_ms = "8 s"'])
def test_what_would_reset_a_machine_for_nothing_is_refused(tmp_path: Path, rest: str):
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, rest)
    assert "self_fence" in str(refused.value) or "after_ms" in str(refused.value) or rest.split(" ")[0] in str(refused.value)


def test_the_named_node_must_be_one_of_the_pair(tmp_path: Path):
    path = tmp_path / "brain.toml"
    path.write_text(BRAIN.format(rest="", mode="strict").replace('node = "b"', 'node = "c"'))
    with pytest.raises(ConfigError):
        load_brain(str(path), "b")
