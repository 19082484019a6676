"""Signals of a real process: handed over between two drains, ignored on the way out, let in when they waited."""

from __future__ import annotations

import subprocess
import sys

from tests.lab import ROOT

PROGRAM = """
import os, signal, sys
from base.pump import Pump
from base.signals import SignalReader

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
os.kill(os.getpid(), signal.SIGHUP)          # waits, as after an exec
seen = []
pump = Pump(next_deadline=lambda: None, on_deadline=lambda _now_ns: None)

def on_signal(number):
    seen.append(signal.Signals(number).name)
    if number == signal.SIGTERM:
        pump.stop()

signals = SignalReader(pump, (signal.SIGHUP, signal.SIGTERM), on_signal)
assert seen == []                            # only a turn of the pump hands them over
os.kill(os.getpid(), signal.SIGTERM)
assert seen == []
pump.run()
signals.close()
os.kill(os.getpid(), signal.SIGTERM)         # a second one while the process ends
print(" ".join(seen))
"""


def test_signals_wait_for_a_turn_and_a_second_one_does_not_kill() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["SIGHUP", "SIGTERM"]), done.stderr
