"""SIGHUP whenever somebody sends it, and the log file that logrotate moved."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.lab import Lab
from tests.vrrp.interop.vrrp_conf import VIP, conf
from tests.vrrp.interop.vrrpd_status import is_in

pytestmark = pytest.mark.system
INTERPRETER_STARTS_S = 0.1
"""Before its first line runs, a Python program cannot hold a signal back."""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGRTMIN + 2])
def test_a_signal_while_it_loads_does_not_end_it(number: int) -> None:
    with Lab("a") as lab:
        ours = lab.vrrpd("a", conf(150))
        time.sleep(INTERPRETER_STARTS_S)
        for _ in range(12):
            ours.signal(number)
            time.sleep(0.05)
        lab.until(lambda: is_in(ours, "MASTER"))
        assert ours.process.poll() is None
        assert ours.stop() == 0
        assert not lab.nodes["a"].holds(VIP)


def test_the_log_file_is_opened_again() -> None:
    with Lab("a") as lab:
        home = lab.home("a")
        log, moved = home / "vrrpd.log", home / "vrrpd.log.1"
        ours = lab.vrrpd("a", conf(150), "-g", str(log), home=home)
        lab.until(lambda: is_in(ours, "MASTER"))
        os.rename(log, moved)
        ours.signal(signal.SIGHUP)
        lab.until(lambda: log.exists() and "Reload complete" in log.read_text(), what="the new file is written to")
        assert "Reload complete" not in moved.read_text()
