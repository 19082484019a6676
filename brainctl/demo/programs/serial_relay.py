"""The serial line between the nodes: carries bytes between two ptys at the line's speed; can be cut, and goes dead with a node's power.

Arguments: descriptor of A's pty master, of B's, baud. Reads words from standard input: ``cut``, ``mend``, ``off A``, ``on A``.
Bytes are read no faster than the line carries them, so the sender's kernel buffer fills as that of a real port does.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time

BITS_PER_BYTE = 10  # 8N1
TICK_S = 0.005


class Line:
    """The state of the line: cut or whole, and which end has power."""

    def __init__(self, masters: dict[str, int], baud: int) -> None:
        self.masters, self.baud = masters, baud
        self.whole = True
        self.powered = dict.fromkeys(masters, True)
        self.credit = dict.fromkeys(masters, 0.0)
        self.then = time.monotonic()

    def order(self, words: list[str]) -> None:
        """One command of the laboratory."""
        match words:
            case ["cut"]:
                self.whole = False
            case ["mend"]:
                self.whole = True
            case ["off" | "on" as power, node]:
                self.powered[node] = power == "on"
                self.drain(node)

    def drain(self, node: str) -> None:
        """Forget what this end had queued."""
        with contextlib.suppress(OSError):
            while os.read(self.masters[node], 4096):
                pass

    def carry(self) -> None:
        """Move what the elapsed time allows, in both directions."""
        now = time.monotonic()
        earned, self.then = (now - self.then) * self.baud / BITS_PER_BYTE, now
        for source, target in (("A", "B"), ("B", "A")):
            self.credit[source] = min(self.credit[source] + earned, max(16.0, 0.05 * self.baud / BITS_PER_BYTE))
            count = int(self.credit[source])
            if count < 1:
                continue
            try:
                data = os.read(self.masters[source], count)
            except OSError:  # nothing queued, or no process has the port open
                continue
            self.credit[source] -= len(data)
            if self.whole and self.powered[source] and self.powered[target]:
                with contextlib.suppress(OSError):  # receiver's buffer is full: overrun, as on a real port
                    os.write(self.masters[target], data)


def main() -> int:
    """Relay until standard input ends."""
    masters = {"A": int(sys.argv[1]), "B": int(sys.argv[2])}
    line = Line(masters, int(sys.argv[3]))
    for fd in (0, *masters.values()):
        os.set_blocking(fd, False)
    pending = b""
    while True:
        readable, _, _ = select.select([0, *masters.values()], [], [], 0.2)
        if 0 in readable:
            chunk = os.read(0, 4096)
            if not chunk:
                return 0
            *orders, pending = (pending + chunk).split(b"\n")
            for order in orders:
                line.order(order.decode().split())
        line.carry()
        time.sleep(TICK_S)


if __name__ == "__main__":
    sys.exit(main())
