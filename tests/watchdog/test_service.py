"""What braind asks systemd when it is stopped."""

from __future__ import annotations

import os

from watchdog.service import SYSTEMD_RUNS, machine_goes_down


def test_a_machine_that_runs_does_not_go_down() -> None:
    """Without systemd, and with one that is not stopping: a stop of braind is a stop of braind."""
    assert machine_goes_down() is False
    assert os.path.isabs(SYSTEMD_RUNS)
