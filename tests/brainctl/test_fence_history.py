"""``brainctl fence history`` on a real record, and the pages of the verbs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from brainctl.fence import VERBS
from brainctl.fence_history import fences_of
from watchdog.record.queries import FenceRow

BRAINCTL = [sys.executable, "-m", "brainctl.command", "fence"]


def row(number: int, order: str, level: int, state: str) -> FenceRow:
    fields = dict.fromkeys(FenceRow.__dataclass_fields__, "")
    fields |= {
        "order_id": order,
        "target": "b",
        "level": level,
        "state": state,
        "wall_ns": number * 10**9,
        "incident": "2026-1" if level else "",
    }
    return FenceRow(**fields)  # type: ignore[arg-type]


def test_rows_become_fences_with_their_end_and_their_length():
    rows = [
        row(1, "F-1", 1, "requested"),
        row(2, "F-2", 1, "requested"),
        row(3, "F-1", 1, "claimed"),
        row(5, "F-1", 1, "proved"),
        row(5, "F-1", 0, "proved"),
    ]
    first, second = fences_of(rows)
    assert (first.order_id, first.state, first.took_ms, first.incident) == ("F-1", "proved", 4_000, "2026-1")
    assert (second.order_id, second.state, len(second.changes)) == ("F-2", "requested", 1)


def run(*words: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "NO_COLOR": "1"}
    return subprocess.run(
        [*BRAINCTL, *words], capture_output=True, text=True, check=False, timeout=60, env=env, cwd=Path(__file__).parents[2]
    )


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_each_verb_has_a_page_of_its_own(verb: str, tmp_path: Path):
    done = run(verb, "--help", tmp_path=tmp_path)
    assert done.returncode == 0
    assert f"fence {verb}" in done.stdout
    others = {"--yes": "off", "--replace": "enroll", "--every": "test-schedule"}
    assert all((option in done.stdout) == (verb == owner) for option, owner in others.items())


def test_without_a_record_it_says_so(tmp_path: Path):
    done = run("history", "--state-dir", str(tmp_path), "--json", tmp_path=tmp_path)
    assert done.returncode == 3
    assert "error" in json.loads(done.stdout or done.stderr)
