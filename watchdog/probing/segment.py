"""A packet socket on one ethernet segment that outlives its interface: closed when the interface vanishes, opened when it is back."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from base.core import NS_PER_MS
from base.packetsocket import Captured, Instruction, attach_filter, drain, join_multicast, open_packet_socket
from base.pump import Pump
from watchdog.paths.interface import InterfaceProbe

CHECK_INTERVAL_NS = 500 * NS_PER_MS
MAX_FRAMES_PER_WAKE = 64
BROADCAST = b"\xff" * 6


def mac_text(mac: bytes) -> str:
    """Lower-case colon form."""
    return mac.hex(":")


@dataclass(slots=True)
class SegmentCounters:
    """Since the start. ``malformed`` frames passed the filter but could not be read; ``suppressed`` repeated a claim too soon."""

    received: int = 0
    malformed: int = 0
    suppressed: int = 0
    errors: int = 0

    def to_json(self) -> dict[str, int]:
        """By name."""
        return asdict(self)


Tap = Callable[[str, Captured], None]
"""Gets a copy of every accepted frame with its interface, before anybody judges it."""


class Segment:
    """``on_frame`` gets every frame that the filter accepts, at most MAX_FRAMES_PER_WAKE for one wake-up.

    ``ethertype`` ETH_P_ALL also sees what this host sends. Call ``check`` every CHECK_INTERVAL_NS; it never raises.
    """

    def __init__(
        self,
        pump: Pump,
        interface: str,
        ethertype: int,
        program: Sequence[Instruction],
        on_frame: Callable[[Captured], None],
        multicast_macs: Sequence[bytes] = (),
        tap: Tap | None = None,
    ) -> None:
        self.interface = interface
        self.counters = SegmentCounters()
        self.problem = ""
        """Why nothing can be sent or heard now, "" when it can."""
        self._pump = pump
        self._ethertype = ethertype
        self._program = list(program)
        self._on_frame = on_frame
        self._multicast_macs = multicast_macs
        self._tap = tap
        self._socket: socket.socket | None = None
        self._index = 0
        self._probe = InterfaceProbe()
        self.check()

    def check(self) -> None:
        """Look at the interface; open or reopen the socket if it can be."""
        state = self._probe.state(self.interface)
        if state.index != self._index:
            self._drop()
            self._index = state.index
        self.problem = state.problem
        if self._socket is None and state.index:
            try:
                self._socket = self._open()
            except OSError as error:
                self.counters.errors += 1
                self.problem = f"{self.interface}: {error.strerror or error}"

    def _open(self) -> socket.socket:
        opened = open_packet_socket(self.interface, self._program, ethertype=self._ethertype)
        try:
            for mac in self._multicast_macs:
                join_multicast(opened, self.interface, mac)
        except OSError:
            opened.close()
            raise
        self._pump.add_reader(opened, self._drain)
        return opened

    def set_filter(self, program: Sequence[Instruction]) -> None:
        """Accept other frames from now on."""
        self._program = list(program)
        if self._socket is None:
            return
        try:
            attach_filter(self._socket, self._program)
        except OSError:
            self.counters.errors += 1
            self._drop()
            self.check()

    @property
    def mac(self) -> bytes:
        """The interface's MAC now, or six zeros."""
        return self._socket.getsockname()[4] if self._socket is not None else bytes(6)

    def send(self, frame: bytes) -> str:
        """Send one frame; returns "" or why it could not be sent."""
        self.check()
        if self.problem or self._socket is None:
            return self.problem or f"{self.interface} is not open"
        try:
            self._socket.send(frame)
        except OSError as error:
            self.counters.errors += 1
            return f"{self.interface}: {errno.errorcode.get(error.errno or 0, 'error')} {error.strerror}"
        return ""

    def _drain(self) -> None:
        if self._socket is None:
            return
        frames, error = drain(self._socket, MAX_FRAMES_PER_WAKE)
        self.counters.received += len(frames)
        if error is not None:
            self.counters.errors += 1
        for frame in frames:
            if self._tap is not None:
                self._tap(self.interface, frame)
            self._on_frame(frame)
        if error is not None:
            self.check()

    def _drop(self) -> None:
        if self._socket is not None:
            self._pump.remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """Release the sockets."""
        self._drop()
        self._probe.close()
