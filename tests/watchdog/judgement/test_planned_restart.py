"""A restart or reload of braind announces itself and pages nobody; a crash does, and a restart that does not come back does."""

from __future__ import annotations

import pytest

from tests.watchdog.judgement.lab import Lab
from watchdog.config.model import Mode
from watchdog.judgement import events as e


def restart(lab: Lab, name: str, down_s: float, stop: e.Stopping) -> None:
    node = lab.nodes[name]
    lab.tell(node, stop)
    lab.run(0.05)
    node.braind = False
    lab.run(down_s)
    lab.restart_braind(node)


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("down_s", [0.1, 0.4, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("stop", [e.Stopping(), e.Stopping(restarting=True)], ids=["restart", "reload"])
def test_it_pages_nobody(name: str, down_s: float, stop: e.Stopping) -> None:
    lab = Lab(Mode.RESOLVE)
    lab.run(15)
    for _ in range(4):
        restart(lab, name, down_s, stop)
        lab.run(12)
    for node in lab.nodes.values():
        assert node.alerts() == [], [a["summary"] for a in node.alerts()]
    assert lab.owner_names() == "a" and not lab.nodes["a"].fences() and not lab.nodes["b"].fences()
    status = lab.nodes["a"].core.snapshot()
    assert isinstance(status, dict) and isinstance(status["pair"], dict) and status["pair"]["verdict"] == "HEALTHY"


def test_a_path_that_does_not_come_back_after_a_restart_is_told() -> None:
    lab = Lab(Mode.RESOLVE)
    lab.run(15)
    lab.tell(lab.nodes["b"], e.Stopping(restarting=True))
    lab.run(0.05)
    lab.cut("path eth1")
    lab.nodes["b"].braind = False
    lab.run(0.5)
    lab.restart_braind(lab.nodes["b"])
    lab.run(15)
    assert any("PATH_DEGRADED" in str(alert["summary"]) for alert in lab.nodes["a"].alerts())


def test_a_reload_that_never_comes_back_is_told_soon() -> None:
    lab = Lab(Mode.RESOLVE, fence=False)
    lab.run(15)
    lab.tell(lab.nodes["b"], e.Stopping(restarting=True))
    lab.run(0.05)
    lab.nodes["b"].braind = False
    lab.run(29)
    assert not lab.nodes["a"].alerts()
    lab.run(20)
    assert lab.nodes["a"].alerts()


def test_a_crash_is_told() -> None:
    lab = Lab(Mode.RESOLVE, fence=False)
    lab.run(15)
    lab.nodes["b"].braind = False
    lab.run(5)
    lab.restart_braind(lab.nodes["b"])
    lab.run(10)
    assert lab.nodes["a"].alerts()
