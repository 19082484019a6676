"""Signals as something the pump reads: each goes to a callback between two drains, in order of arrival, never in the middle of code."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterable

from base.pump import Pump

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_READ_BYTES = 256


class SignalReader:
    """Hands the signals ``numbers`` to ``on_signal(number)`` from the pump's next turn on; one per process.

    Signals that were blocked (a program that was put in place by exec) are let in once everything stands.
    """

    def __init__(self, pump: Pump, numbers: Iterable[int], on_signal: Callable[[int], None]) -> None:
        self._numbers = tuple(numbers)
        self._on_signal = on_signal
        self._read_end, self._write_end = socket.socketpair()
        self._read_end.setblocking(False)
        self._write_end.setblocking(False)
        for number in self._numbers:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._write_end.fileno(), warn_on_full_buffer=False)
        pump.add_reader(self._read_end, self._drain)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)

    def _drain(self) -> None:
        try:
            numbers = self._read_end.recv(_READ_BYTES)
        except BlockingIOError:
            return
        for number in numbers:
            if number in self._numbers:
                self._on_signal(number)

    def close(self) -> None:
        """Ignore the same signals from now on: Python's own way out gives the handlers back, and a second SIGTERM would kill us there."""
        signal.set_wakeup_fd(-1)
        for number in self._numbers:
            signal.signal(number, signal.SIG_IGN)


def run_child(pump: Pump, stop: Callable[[], None]) -> None:
    """Run the pump of a child process until ``stop``, which SIGTERM and SIGINT call; the signals meant for the parent are ignored."""
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signals = SignalReader(pump, STOP_SIGNALS, lambda _number: stop())
    pump.run()
    signals.close()
