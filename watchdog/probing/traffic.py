"""Counts what arrives on the interfaces that serve clients, without sending anything: the kernel's own packet counters, once a second.

The files stay open: reading one again is a copy from kernel memory and never waits (promise 8).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from base.clock import now_ns
from base.core import NS_PER_S
from watchdog.judgement.events import TrafficCounted

INTERVAL_NS = NS_PER_S
ROOT = "/sys/class/net"


class TrafficCounter:
    """Reports ``TrafficCounted`` for every watched interface. An interface that is not there is tried again at every turn."""

    def __init__(self, feed: Callable[[TrafficCounted], None], root: str = ROOT) -> None:
        self._feed = feed
        self._root = root
        self._files: dict[str, int | None] = {}
        self._due_ns = now_ns()

    def watch(self, interfaces: Iterable[str]) -> None:
        """Count these from now on, and no others."""
        wanted = set(interfaces)
        for name in [n for n in self._files if n not in wanted]:
            self._close(name)
            del self._files[name]
        for name in wanted:
            self._files.setdefault(name, None)

    def next_deadline(self) -> int | None:
        """When to read again."""
        return self._due_ns if self._files else None

    def on_deadline(self, at_ns: int) -> None:
        """Read every counter."""
        self._due_ns = at_ns + INTERVAL_NS
        for name in self._files:
            packets = self._read(name)
            if packets is not None:
                self._feed(TrafficCounted(name, packets))

    def _read(self, name: str) -> int | None:
        file = self._files[name]
        try:
            if file is None:
                path = os.path.join(self._root, name, "statistics", "rx_packets")
                file = self._files[name] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            return int(os.pread(file, 32, 0))
        except (OSError, ValueError):  # gone, or made anew under the same name: the next turn opens it again
            self._close(name)
            return None

    def _close(self, name: str) -> None:
        file = self._files[name]
        if file is not None:
            os.close(file)
            self._files[name] = None

    def close(self) -> None:
        """Close every file."""
        self.watch(())
