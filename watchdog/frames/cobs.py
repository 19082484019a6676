"""PURE: consistent overhead byte stuffing (Cheshire and Baker 1999), and cutting a serial byte stream into frames."""

from __future__ import annotations

DELIMITER = b"\0"
MAX_FRAME_BYTES = 64
"""On the wire, delimiter included."""


def stuff(data: bytes) -> bytes:
    """``data`` without any zero byte; one byte longer for up to 254 bytes. Raises ValueError above that."""
    if len(data) > 254:
        raise ValueError(f"{len(data)} bytes do not fit into one COBS block")
    return b"".join([bytes((len(run) + 1,)) + run for run in data.split(b"\0")])


def unstuff(data: bytes) -> bytes | None:
    """The inverse of ``stuff``, or None if ``data`` is not COBS (a zero byte, or a run that points past the end)."""
    runs: list[bytes] = []
    at = 0
    while at < len(data):
        length = data[at]
        run = data[at + 1 : at + length]
        if not length or len(run) != length - 1 or 0 in run:
            return None
        runs.append(run)
        at += length
    return b"\0".join(runs) if runs else None


class Deframer:
    """Cuts a byte stream at delimiters. Keeps at most one frame in memory; what grows longer is dropped up to the next delimiter."""

    __slots__ = ("_buffer", "_skipping", "overlong")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skipping = False
        self.overlong = 0
        """Runs of bytes without a delimiter that were too long to be a frame (wrong baud rate, noise)."""

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that ``data`` completes, without delimiters. Empty ones are left out."""
        frames: list[bytes] = []
        first, *rest = data.split(DELIMITER)
        self._extend(first)
        for chunk in rest:
            if self._buffer:
                frames.append(bytes(self._buffer))
            self._buffer.clear()
            self._skipping = False
            self._extend(chunk)
        return frames

    def reset(self) -> None:
        """Forget a half-received frame (the line was reopened)."""
        self._buffer.clear()
        self._skipping = False

    def _extend(self, chunk: bytes) -> None:
        if self._skipping:
            return
        if len(self._buffer) + len(chunk) >= MAX_FRAME_BYTES:
            self._buffer.clear()
            self._skipping = True
            self.overlong += 1
            return
        self._buffer += chunk
