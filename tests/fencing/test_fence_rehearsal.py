"""The trial that counts (check --really, watched by an observer), what is kept of it, what is due, and what two devices have in common."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

from fencing.check import check_device
from fencing.check_report import Grade
from fencing.plan.settings import FenceDevice, FenceLevel, FenceSettings
from fencing.rehearsal import DAY_NS, Due, Rehearsal, RehearsalError, keep_rehearsal, load_rehearsals, plan
from fencing.topology import topology_warnings

SWITCH = """#!/bin/sh
echo identity=outlet
case $BRAINCTL_ACTION in
    off) echo off > {state} ;;
    on) echo on > {state} ;;
    status) [ "$(cat {state})" = off ] && exit 2 ;;
esac
exit 0
"""


@dataclass
class Peer:
    """What braind hears: the node falls silent with the switch, unless the outlet is another machine's."""

    state: Path
    paths: frozenset[str] = frozenset({"eth1", "tty"})
    another: bool = False

    def heard_on(self) -> frozenset[str]:
        return self.paths if self.another or self.state.read_text().strip() == "on" else frozenset()

    def wait_for_silence(self, before: frozenset[str], _seconds: float) -> frozenset[str]:
        return self.heard_on() & before


@pytest.fixture
def switch(tmp_path: Path, executable: Callable[[str, str], str]) -> tuple[FenceDevice, Path]:
    state = tmp_path / "power"
    state.write_text("on")
    path = executable(SWITCH.format(state=state), "switch")
    return FenceDevice("pdu", "exec", "b", (("command", path), ("worth", "power")), 10_000), state


def test_the_trial_measures_and_sees_the_peer_fall_silent(switch: tuple[FenceDevice, Path]):
    device, state = switch
    report = check_device(device, really=True, observer=Peer(state))
    assert report.passed, report.findings
    assert report.fell_silent == ("eth1", "tty")
    assert report.spoke_on == ()
    assert min(report.effect_ms, report.on_ms) > 0
    assert state.read_text().strip() == "on", "the trial restores"


def test_a_wrong_outlet_is_found_although_the_device_tells_the_truth_about_it(switch: tuple[FenceDevice, Path]):
    """D12: it reads OFF, and the peer speaks on."""
    device, state = switch
    report = check_device(device, really=True, observer=Peer(state, another=True))
    assert {f.code for f in report.findings if f.grade is Grade.ERROR} == {"still-heard"}
    assert report.spoke_on == ("eth1", "tty")
    assert state.read_text().strip() == "on"


def test_a_peer_that_nobody_heard_before_is_said(switch: tuple[FenceDevice, Path]):
    device, state = switch
    report = check_device(device, really=True, observer=Peer(state, paths=frozenset()))
    assert "not-observed" in {f.code for f in report.findings}


TRIED = Rehearsal("pdu", "b", 100 * DAY_NS, True, 900, 1_200, ("eth1",), ())


def test_a_rehearsal_is_kept_and_the_last_one_counts(tmp_path: Path):
    path = tmp_path / "state" / "rehearsals.json"
    assert load_rehearsals(path) == {}
    keep_rehearsal(TRIED, path)
    keep_rehearsal(replace(TRIED, device="bmc"), path)
    keep_rehearsal(replace(TRIED, effect_ms=700), path)
    assert load_rehearsals(path) == {"bmc": replace(TRIED, device="bmc"), "pdu": replace(TRIED, effect_ms=700)}


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"version": 2}', '{"version": 1}', '{"version": 1, "devices": [{}]}', '{"version": 1, "devices": 7}', "[" * 5_000,
     json.dumps({"version": 1, "devices": [{**asdict(TRIED), "device": 1}]})],
)  # fmt: skip
def test_a_damaged_file_is_named_with_its_remedy(tmp_path: Path, text: str):
    path = tmp_path / "rehearsals.json"
    path.write_text(text)
    with pytest.raises(RehearsalError) as refused:
        load_rehearsals(path)
    assert str(path) in str(refused.value)
    assert "--really" in str(refused.value)


def test_what_is_due_comes_first():
    devices = [FenceDevice(name, "ipmi", "b", ()) for name in ("fine", "old", "never", "failed", "moved")]
    tried = {
        "fine": replace(TRIED, device="fine", wall_ns=150 * DAY_NS),
        "old": replace(TRIED, device="old", wall_ns=10 * DAY_NS),
        "failed": replace(TRIED, device="failed", wall_ns=150 * DAY_NS, passed=False),
        "moved": replace(TRIED, device="moved", target="a", wall_ns=150 * DAY_NS),
    }
    planned = plan(devices, tried, 160 * DAY_NS, 90)
    assert [(p.device, p.due) for p in planned] == [
        ("moved", Due.NEVER_TRIED),
        ("never", Due.NEVER_TRIED),
        ("failed", Due.FAILED),
        ("old", Due.OVERDUE),
        ("fine", Due.FINE),
    ]
    assert planned[-1].next_wall_ns == 240 * DAY_NS
    assert plan(devices[:1], tried, 0, 90)[0].next_wall_ns == 90 * DAY_NS, "a clock that was set back does not postpone the trial"


def settings(**levels: list[str]) -> FenceSettings:
    """target → hosts of its levels."""

    def level(target: str, number: int, host: str) -> FenceLevel:
        return FenceLevel(f"l{number}", (FenceDevice(f"{target}{number}", "ipmi", target, (("host", host),)),))

    return FenceSettings(levels=tuple((t, tuple(level(t, n, host) for n, host in enumerate(hosts))) for t, hosts in levels.items()))


@pytest.mark.parametrize(
    ("configured", "words"),
    [
        (settings(a=["192.0.2.9"], b=["192.0.2.9"]), "neither node can be fenced"),
        (settings(a=["192.0.2.1", "192.0.2.1"], b=["192.0.2.2"]), "different make"),
        (settings(a=["192.0.2.3"], b=["192.0.2.11"]), "dies with the node"),
    ],
)
def test_what_both_nodes_hang_on_is_named(configured: FenceSettings, words: str):
    (warning,) = topology_warnings(configured, {"a": ("192.0.2.10",), "b": ("192.0.2.11",)})
    assert words in warning


def test_two_boxes_for_two_nodes_are_no_warning():
    assert topology_warnings(settings(a=["192.0.2.1", "192.0.2.9"], b=["192.0.2.2", "192.0.2.9"]), {"a": ("192.0.2.10",)}) == []
