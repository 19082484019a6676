"""Newline-delimited JSON over a stream socket, without blocking: between our own processes and on control sockets.

A line is one JSON object of at most ``MAX_LINE_BYTES``. Outgoing data is queued up to ``MAX_QUEUE_BYTES``; what does not fit is
refused (``send`` returns False), never blocks, and the caller decides what that means.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

from base.pump import Pump

MAX_LINE_BYTES = 1 << 20
MAX_QUEUE_BYTES = 4 << 20
_READ_BYTES = 65536

JsonObject = dict[str, Any]


class ProtocolError(Exception):
    """The other side sent something that is not a line of JSON within the limits."""


class LineDecoder:
    """Turns a byte stream into JSON objects; raises ProtocolError on garbage or an over-long line."""

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._buffer = bytearray()
        self._max = max_line_bytes

    def feed(self, data: bytes) -> list[JsonObject]:
        """Add received bytes; return the objects that are now complete."""
        self._buffer += data
        objects: list[JsonObject] = []
        while (end := self._buffer.find(b"\n")) >= 0:
            if end > self._max:
                raise ProtocolError(f"a line of {end} bytes is over the limit of {self._max}")
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            if line.strip():
                objects.append(_parse(line))
        if len(self._buffer) > self._max:
            raise ProtocolError(f"a line is over the limit of {self._max} bytes")
        return objects


def _parse(line: bytes) -> JsonObject:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ProtocolError("not a JSON object")
    return value


def encode_line(message: JsonObject) -> bytes:
    """One object as a line; raises ProtocolError if it is over the limit."""
    line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise ProtocolError(f"a message of {len(line)} bytes is over the limit of {MAX_LINE_BYTES}")
    return line


class Channel:
    """One connected stream socket on a pump.

    ``on_message(object)`` is called for each line; ``on_close(reason)`` once, when the other side is gone or spoke garbage.
    """

    def __init__(self, pump: Pump, sock: socket.socket, on_message: Callable[[JsonObject], None], on_close: Callable[[str], None]) -> None:
        sock.setblocking(False)
        self._pump = pump
        self._sock = sock
        self._on_message = on_message
        self._on_close = on_close
        self._decoder = LineDecoder()
        self._queue = bytearray()
        self.closed = False
        pump.add_reader(sock, self._drain)

    def send(self, message: JsonObject) -> bool:
        """Queue one object; False if the queue is full or the channel is closed (nothing was queued then)."""
        return self.send_bytes(encode_line(message))

    def send_bytes(self, data: bytes) -> bool:
        """Queue an encoded line; see ``send``."""
        if self.closed or len(self._queue) + len(data) > MAX_QUEUE_BYTES:
            return False
        idle = not self._queue
        self._queue += data
        if idle:
            self._flush()
        return not self.closed

    def close(self, reason: str = "closed here") -> None:
        """Close; ``on_close`` is called once."""
        if self.closed:
            return
        self.closed = True
        self._pump.remove_reader(self._sock)
        self._pump.remove_writer(self._sock)
        self._sock.close()
        self._on_close(reason)

    @property
    def queued_bytes(self) -> int:
        """Bytes accepted by ``send`` and not yet taken by the kernel."""
        return len(self._queue)

    def _flush(self) -> None:
        try:
            while self._queue:
                sent = self._sock.send(self._queue)
                del self._queue[:sent]
        except BlockingIOError:
            self._pump.add_writer(self._sock, self._flush)
            return
        except OSError as error:
            self.close(f"send failed: {error}")
            return
        if not self.closed:
            self._pump.remove_writer(self._sock)

    def _drain(self) -> None:
        for _ in range(8):
            try:
                data = self._sock.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self.close(f"receive failed: {error}")
                return
            if not data:
                self.close("the other side closed")
                return
            try:
                messages = self._decoder.feed(data)
            except ProtocolError as error:
                self.close(f"protocol error: {error}")
                return
            for message in messages:
                if self.closed:
                    return
                self._on_message(message)
            if len(data) < _READ_BYTES:
                return
