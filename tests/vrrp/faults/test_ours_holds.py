"""Every fault in which keepalived was measured to fail, played against vrrpd at a quick pace: ours must reach the same goal.

The plays and goals are the bench's (bench/faults); ``make bench ARGS='--only faults'`` plays them against keepalived too.
"""

from __future__ import annotations

import json

import pytest

from bench.faults.catalogue import BY_NAME, FAULTS
from bench.faults.fault import QUICK
from bench.faults.report import DAEMONS, RESULT

IN_BENCH_ONLY = {"start"}
"""Judged by the speed of the machine, which tests share with others."""


@pytest.mark.system
@pytest.mark.timeout(90)
@pytest.mark.parametrize("name", [fault.name for fault in FAULTS if fault.name not in IN_BENCH_ONLY])
def test_vrrpd_holds(name: str) -> None:
    fault = BY_NAME[name]
    figures = fault.play("vrrpd", QUICK)
    assert fault.holds(figures), f"{fault.says(figures)}; the goal: {fault.goal}"


@pytest.mark.system
@pytest.mark.timeout(90)
@pytest.mark.parametrize("name", ["heal", "hang", "stop"])
def test_the_play_can_be_lost(name: str) -> None:
    """The same observers see keepalived fail: they are not blind."""
    fault = BY_NAME[name]
    figures = fault.play("keepalived", QUICK)
    assert not fault.holds(figures), fault.says(figures)


def test_the_result_file_has_both_figures_of_every_fault() -> None:
    rows = json.loads(RESULT.read_text(encoding="utf-8"))["faults"]
    assert [row["name"] for row in rows] == [fault.name for fault in FAULTS]
    for row in rows:
        fault = BY_NAME[row["name"]]
        assert (row["finding"], row["title"], row["goal"]) == (fault.finding, fault.title, fault.goal)
        for daemon in DAEMONS:
            figures = row[daemon]["figures"]
            assert figures
            assert row[daemon]["holds"] == fault.holds(figures)
            assert row[daemon]["says"]
    assert {row["finding"] for row in rows} == set(range(1, 11))
