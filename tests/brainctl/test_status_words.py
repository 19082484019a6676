"""What brainctl status says and how it ends, from the documents of the real core."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from brainctl.status import CRITICAL, OK, UNKNOWN, WARNING, grade, render
from tests.watchdog.judgement.lab import GROUP, KEY, Lab, make_settings
from tests.watchdog.judgement.test_gate_trust import Disobedient, no_fence, split
from watchdog.config.model import Mode
from watchdog.judgement import events as e
from watchdog.judgement.watcher import WatcherCore
from watchdog.record.queries import RecordClosed, open_record
from watchdog.record.store import Store

DAEMON = {"pid": 1, "up_ms": 1, "now_ns": 1, "wall_ns": 1, "receivers": 1, "node": "b", "state_dir": "/", "children": {}}


def document(lab: Lab, name: str = "b") -> dict[str, Any]:
    return {"status": lab.nodes[name].core.snapshot(), "daemon": DAEMON}


def test_a_braind_that_is_only_starting_is_a_sentence() -> None:
    """D15."""
    core = WatcherCore(make_settings("a"), key=KEY)
    early: dict[str, Any] = {"status": core.snapshot(), "daemon": DAEMON}
    code, problems = grade(early, {})
    page = render(early, {}, code, problems, audit=True)
    assert code == UNKNOWN and "lab: braind has not finished starting" in page


@pytest.mark.parametrize(("mode", "code"), [(Mode.OBSERVE, OK), (Mode.RESOLVE, WARNING), (Mode.STRICT, CRITICAL)])
def test_a_gate_that_nobody_reads_is_seen_and_strict_is_not_armed(mode: Mode, code: int) -> None:
    lab = Lab(mode)
    lab.run(15)
    assert grade(document(lab), {})[0] == OK
    lab.tell(lab.nodes["b"], e.GateChecked(GROUP, e.GateObedience.NOT_READ, "keepalived does not read hold-51; reload it"))
    found, words = grade(document(lab), {})
    assert found == code
    assert any("reload it" in w for w in words) is (code != OK)
    assert any("strict is not armed" in w for w in words) is (mode is Mode.STRICT)


def test_status_shows_who_really_owns_under_a_hold() -> None:
    lab = Disobedient(Mode.RESOLVE, tweak=no_fence)
    split(lab)
    lab.run(30)
    code, words = grade(document(lab), {})
    assert code == CRITICAL and any("owns it all the same" in w for w in words)
    page = render(document(lab), {}, code, words, audit=False)
    assert "held, not obeyed" in page and "b" in document(lab)["status"]["groups"][0]["owners"]


def test_no_standby_is_a_warning_with_its_cause() -> None:
    lab = Lab(Mode.RESOLVE)
    lab.run(15)
    lab.daemon(lab.nodes["b"], e.DaemonState.STOPPED)
    lab.run(90)
    code, words = grade(document(lab, "a"), {})
    assert code == WARNING and any("no standby" in w for w in words), words


def test_a_record_that_is_closed_to_this_user_is_no_problem(tmp_path: Path) -> None:
    lab = Lab(Mode.RESOLVE)
    lab.run(15)
    assert grade(document(lab), {"closed": "not for you"}) == (OK, [])
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    store = Store(str(state / "brain.db"))
    store.open()
    store.close()
    tmp_path.chmod(0o755)
    for parent in [p for p in tmp_path.parents if p != Path("/") and str(p).startswith("/tmp/pytest")]:
        parent.chmod(0o755)
    child = os.fork()
    if child == 0:
        os.setgid(65534)
        os.setuid(65534)
        try:
            open_record(str(state / "brain.db"))
        except RecordClosed:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
