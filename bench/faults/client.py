"""A client of the virtual address with a Linux neighbour cache: ICMP echoes from node g, in a thread of its own.

It shares no code with the daemons and knows nothing of VRRP: what it cannot reach is unreachable.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from itertools import pairwise

from bench.lab import VIP, Lab

PERIOD_S = 0.02
LATE_NS = 500_000_000
"""An answer that takes longer counts as lost."""
_IDENTIFIER = 0x6262


class Client:
    """``answered`` and ``sent`` by sequence number, CLOCK_REALTIME ns."""

    def __init__(self, lab: Lab) -> None:
        self.sent: list[int] = []
        self.answered: dict[int, int] = {}
        self._sock = lab.socket("g", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._sock.setblocking(False)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            due = max(due + PERIOD_S, time.monotonic())
            self._ask()
            self._read()

    def _ask(self) -> None:
        head = struct.pack("!BBHHH", 8, 0, 0, _IDENTIFIER, len(self.sent) & 0xFFFF)
        total = sum(struct.unpack("!4H", head))
        head = head[:2] + struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + head[4:]
        self.sent.append(time.time_ns())
        with contextlib.suppress(OSError):  # no route, no neighbour: an echo that is lost
            self._sock.sendto(head, (VIP, 0))

    def _read(self) -> None:
        while True:
            try:
                data = self._sock.recv(256)
            except OSError:
                return
            kind, _code, _sum, identifier, number = struct.unpack_from("!BBHHH", data, (data[0] & 15) * 4)
            if kind == 0 and identifier == _IDENTIFIER:
                self.answered.setdefault(number, time.time_ns())

    def _good(self, number: int) -> bool:
        return self.answered.get(number & 0xFFFF, 1 << 63) - self.sent[number] < LATE_NS

    def reached_now(self) -> bool:
        """Was one of the last echoes answered?"""
        asked = len(self.sent)
        return any(self._good(number) for number in range(max(0, asked - 10), asked))

    def longest_gap_ms(self, start_ns: int, end_ns: int) -> float:
        """The longest time between two echoes of that period that were answered (or its ends), without the period of asking."""
        good = [at for number, at in enumerate(self.sent) if start_ns <= at <= end_ns and self._good(number)]
        edges = [start_ns, *good, end_ns]
        return max(0.0, max(b - a for a, b in pairwise(edges)) / 1e6 - PERIOD_S * 1000)

    def lost_percent(self, start_ns: int, end_ns: int) -> float:
        """Echoes of that period without an answer."""
        asked = [number for number, at in enumerate(self.sent) if start_ns <= at <= end_ns]
        return 100 * sum(not self._good(number) for number in asked) / max(1, len(asked))

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(5)
        self._sock.close()
