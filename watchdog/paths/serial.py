"""Heartbeats on a serial line: raw 8N1 without flow control, read and written without ever blocking."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios

from base.clock import now_ns
from base.core import NS_PER_S
from watchdog.frames.cobs import DELIMITER, Deframer
from watchdog.paths.transport import MAX_FRAMES_PER_WAKE, LineBusy, Received

STUCK_AFTER_NS = 2 * NS_PER_S
_BITS_PER_BYTE = 10
"""8N1: one start and one stop bit."""
_READ_BYTES = 64 * MAX_FRAMES_PER_WAKE
_VMIN, _VTIME = termios.VMIN, termios.VTIME


def speed_of(baud: int) -> int:
    """The termios constant for a baud rate; raises ValueError for one that the system does not know."""
    speed = getattr(termios, f"B{baud}", None)
    if not isinstance(speed, int):
        raise ValueError(f"{baud} baud is not a speed of this system; use 9600, 19200, 38400, 57600 or 115200")
    return speed


class SerialTransport:
    """An open line. Raises OSError if it does not exist, is no terminal, or another program has it."""

    def __init__(self, device: str, baud: int) -> None:
        self._deframer = Deframer()
        self._busy_since_ns: int | None = None
        self._ns_per_byte = _BITS_PER_BYTE * NS_PER_S // baud
        self._free_ns = 0
        self._fd = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._prepare(speed_of(baud))
        except termios.error as error:
            os.close(self._fd)
            raise OSError(*error.args) from error
        except BaseException:
            os.close(self._fd)
            raise

    def _prepare(self, speed: int) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.ioctl(self._fd, termios.TIOCEXCL)
        # CLOCAL: modem lines of a three-wire cable mean nothing; no CRTSCTS: an unplugged cable must not block the output.
        control = termios.CS8 | termios.CREAD | termios.CLOCAL
        characters: list[bytes | int] = [b"\0"] * 32
        characters[_VMIN], characters[_VTIME] = 1, 0
        attributes: list[int | list[bytes | int]] = [termios.IGNBRK | termios.IGNPAR, 0, control, 0, speed, speed, characters]
        termios.tcsetattr(self._fd, termios.TCSANOW, attributes)
        termios.tcflush(self._fd, termios.TCIOFLUSH)
        try:
            os.write(self._fd, DELIMITER)  # what the peer half received from a former run ends here
        except BlockingIOError:
            return

    def fileno(self) -> int:
        """See Transport."""
        return self._fd

    @property
    def overlong(self) -> int:
        """Runs of bytes that were too long for a frame: noise, or a wrong baud rate."""
        return self._deframer.overlong

    def send(self, data: bytes) -> None:
        """See Transport. LineBusy while a byte of the last frame still waits; one that waits too long is thrown away.

        The driver's queue is not believed alone: ptys and line extenders say that they are empty when the line is not.
        """
        current_ns = now_ns()
        if current_ns < self._free_ns:
            raise LineBusy
        try:
            waiting = struct.unpack("i", fcntl.ioctl(self._fd, termios.TIOCOUTQ, b"\0\0\0\0"))[0]
            if waiting:
                self._note_busy(current_ns)
                raise LineBusy
            self._busy_since_ns = None
            written = os.write(self._fd, data)
        except BlockingIOError:
            raise LineBusy from None
        except termios.error as error:
            raise OSError(*error.args) from error
        self._free_ns = current_ns + written * self._ns_per_byte
        if written < len(data):
            raise LineBusy

    def _note_busy(self, current_ns: int) -> None:
        if self._busy_since_ns is None:
            self._busy_since_ns = current_ns
        elif current_ns - self._busy_since_ns > STUCK_AFTER_NS:
            termios.tcflush(self._fd, termios.TCOFLUSH)
            self._busy_since_ns = None

    def receive(self) -> Received:
        """See Transport. A hang-up (no bytes, or EIO) is an error: the descriptor would stay readable for ever."""
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return Received()
        except OSError as error:
            return Received(error=error)
        if not data:
            return Received(error=OSError(errno.EIO, "hang-up"))
        return Received(tuple(self._deframer.feed(data)))

    def close(self) -> None:
        """See Transport."""
        try:
            fcntl.ioctl(self._fd, termios.TIOCNXCL)
        except OSError:
            pass  # the line is gone
        os.close(self._fd)
