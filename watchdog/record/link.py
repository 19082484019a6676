"""The watcher's end of the recorder: rows are kept in memory until the recorder has them on the disk, and survive its death.

Every message gets a number. The recorder writes the highest number it has committed in the same transaction as the rows, so that after a
restart it can say where to go on: nothing is lost, nothing is written twice, and the order holds. Without this a barrier could be
answered by a new recorder although an older one died with an earlier barrier's rows in its hands.

The link never blocks. What does not fit in ``MAX_KEPT_BYTES`` (the recorder is down or stuck for long) is refused and counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from base.channel import JsonObject, ProtocolError, encode_line

MAX_KEPT_BYTES = 16 << 20
WINDOW_BYTES = 1 << 20
"""So much may be on its way to the recorder unanswered; the rest waits here, not in a socket that dies with it."""


class RecorderLink:
    """``send`` is the child's non-blocking send (False = not taken); ``session`` identifies this run of the watcher."""

    def __init__(self, send: Callable[[JsonObject], bool], session: str) -> None:
        self._send = send
        self._session = session
        self._kept: deque[tuple[int, JsonObject, int]] = deque()
        self._kept_bytes = 0
        self._sent = 0
        self._sent_bytes = 0
        self._next_seq = 1
        self._ready = False
        self.refused = 0
        self.written = 0
        """Messages up to this number are on the disk."""

    def write(self, message: JsonObject) -> bool:
        """Take a persist, packets or journal message; False if it had to be refused (memory is full, or it is over a line's limit)."""
        numbered = {**message, "session": self._session, "seq": self._next_seq}
        try:
            size = len(encode_line(numbered))
        except (ProtocolError, TypeError, ValueError):
            self.refused += 1
            return False
        if self._kept_bytes + size > MAX_KEPT_BYTES:
            self.refused += 1
            return False
        self._kept.append((self._next_seq, numbered, size))
        self._kept_bytes += size
        self._next_seq += 1
        self._advance()
        return True

    def down(self) -> None:
        """The recorder is gone; everything it has not answered is kept for the next one."""
        self._ready = False
        self._sent = 0
        self._sent_bytes = 0

    def take(self, message: JsonObject) -> bool:
        """Look at a message from the recorder; True if it was for the link alone."""
        if "ready" in message:
            ready = message["ready"]
            if ready.get("session") == self._session:
                self._written(int(ready.get("seq", 0)))
            self._ready = True
            self._sent = 0
            self._sent_bytes = 0
            self._advance()
            return True
        if "written" in message:
            self._written(int(message["written"]))
            self._advance()
            return True
        return False

    @property
    def newest(self) -> int:
        """The number of the newest message that was taken."""
        return self._next_seq - 1

    @property
    def unwritten(self) -> int:
        """Messages that are not yet known to be on the disk."""
        return len(self._kept)

    def _written(self, seq: int) -> None:
        self.written = max(self.written, seq)
        while self._kept and self._kept[0][0] <= seq:
            _, _, size = self._kept.popleft()
            self._kept_bytes -= size
            if self._sent:
                self._sent -= 1
                self._sent_bytes -= size

    def _advance(self) -> None:
        while self._ready and self._sent < len(self._kept) and self._sent_bytes < WINDOW_BYTES:
            _, message, size = self._kept[self._sent]
            if not self._send(message):
                return
            self._sent += 1
            self._sent_bytes += size
