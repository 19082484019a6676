"""One heartbeat path: a transport that is opened, watched, closed and opened again for as long as the daemon runs.

A thin shell. It reports bytes and whether the path can be used at all; what silence means is the core's business.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import asdict, dataclass

from base.clock import now_ns
from base.core import NS_PER_MS
from base.pump import Pump
from watchdog.paths.interface import InterfaceProbe
from watchdog.paths.transport import LineBusy, Transport, explain

OnBytes = Callable[[str, bytes], None]
OnChange = Callable[[str, bool, str], None]
Opener = Callable[[], Transport]

CHECK_INTERVAL_NS = 250 * NS_PER_MS
REOPEN_AFTER_MS = (100, 200, 500, 1_000, 2_000)
_TRANSIENT = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.EINTR, errno.ENOMEM})
_STAYS_OPEN = frozenset({errno.EPERM, errno.EACCES, errno.EMSGSIZE})


@dataclass(slots=True)
class PathCounters:
    """Since the start. ``skipped``: frames not sent because the transport was still busy with an older one."""

    sent: int = 0
    received: int = 0
    skipped: int = 0
    send_errors: int = 0
    receive_errors: int = 0
    foreign: int = 0
    opened: int = 0

    def to_json(self) -> dict[str, int]:
        """By name."""
        return asdict(self)


class Path:
    """A configured path. ``interface`` is "" for a serial line. ``on_change(name, usable, reason)`` is called on every change,
    ``on_bytes(name, frame)`` for every frame. Call ``on_deadline`` when ``next_deadline`` has passed."""

    def __init__(self, name: str, interface: str, opener: Opener, pump: Pump, on_bytes: OnBytes, on_change: OnChange) -> None:
        self.name = name
        self.counters = PathCounters()
        self.usable = True
        self.reason = ""
        self._interface = interface
        self._index = 0
        self._opener = opener
        self._pump = pump
        self._on_bytes = on_bytes
        self._on_change = on_change
        self._transport: Transport | None = None
        self._failures = 0
        self._closed = False
        self._probe = InterfaceProbe()
        self._due_ns = 0
        self.on_deadline(now_ns())

    def send(self, data: bytes) -> None:
        """Send one frame now or never. Errors are counted and reported, never raised."""
        if self._transport is None:
            self.counters.skipped += 1
            return
        try:
            self._transport.send(data)
        except LineBusy:
            self.counters.skipped += 1
        except OSError as error:
            self._send_failed(error)
        else:
            self.counters.sent += 1
            self._report(True, "")

    def next_deadline(self) -> int | None:
        """When to look at the interface, or to try to open again."""
        return None if self._closed else self._due_ns

    def on_deadline(self, at_ns: int) -> None:
        """Check the interface; reopen what was lost."""
        if self._closed or at_ns < self._due_ns:
            return
        self._due_ns = at_ns + CHECK_INTERVAL_NS
        if self._interface and not self._check_interface():
            return
        if self._transport is None:
            self._open(at_ns)

    def close(self) -> None:
        """Stop for good."""
        self._closed = True
        self._drop_transport()
        self._probe.close()

    def _check_interface(self) -> bool:
        state = self._probe.state(self._interface)
        if state.index != self._index:
            self._drop_transport()
            self._index = state.index
            self._failures = 0
        if state.problem:
            self._report(False, state.problem)
        elif self._transport is not None and not self.usable and self.reason.startswith(f"{self._interface} "):
            self._report(True, "")
        return not state.problem

    def _open(self, at_ns: int) -> None:
        try:
            transport = self._opener()
        except OSError as error:
            self._lost(at_ns, explain(error))
            return
        self._transport = transport
        self._failures = 0
        self.counters.opened += 1
        self._pump.add_reader(transport.fileno(), self._drain)
        self._report(True, "")

    def _drain(self) -> None:
        if self._transport is None:
            return
        received = self._transport.receive()
        self.counters.received += len(received.frames)
        self.counters.foreign += received.foreign
        if received.error is not None:
            self.counters.receive_errors += 1
            self._lost(now_ns(), explain(received.error))
        for frame in received.frames:
            self._on_bytes(self.name, frame)

    def _send_failed(self, error: OSError) -> None:
        self.counters.send_errors += 1
        if error.errno in _TRANSIENT:
            return
        if error.errno in _STAYS_OPEN:
            self._report(False, explain(error))
        else:
            self._lost(now_ns(), explain(error))

    def _lost(self, at_ns: int, reason: str) -> None:
        self._drop_transport()
        if self._interface and (problem := self._probe.state(self._interface).problem):
            reason = problem
        wait_ms = REOPEN_AFTER_MS[min(self._failures, len(REOPEN_AFTER_MS) - 1)]
        self._failures += 1
        self._due_ns = at_ns + wait_ms * NS_PER_MS
        self._report(False, reason)

    def _drop_transport(self) -> None:
        if self._transport is not None:
            self._pump.remove_reader(self._transport.fileno())
            self._transport.close()
            self._transport = None

    def _report(self, usable: bool, reason: str) -> None:
        if (usable, reason) != (self.usable, self.reason):
            self.usable, self.reason = usable, reason
            self._on_change(self.name, usable, reason)
