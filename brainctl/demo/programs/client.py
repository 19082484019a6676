"""The client: asks the VIP every few milliseconds and logs what came back.

Arguments: VIP, port, interval in ms. Writes one JSON object per line: ``{"sent": ns, "seq": n}`` is not written for answered questions;
an answer is ``{"t": ns, "seq": n, "asked": ns, "node": "A"}`` and a question without answer for 250 ms ``{"lost": n, "asked": ns}``.
Times are CLOCK_REALTIME nanoseconds, answers stamped by the kernel. It uses this host's own ARP cache as any client does.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from collections import OrderedDict

SO_TIMESTAMPNS = 35
PATIENCE_NS = 250_000_000


def stamp(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The kernel's receive time."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = struct.unpack("qq", data[:16])
            return int(seconds * 1_000_000_000 + nanoseconds)
    return time.time_ns()


def say(**fields: object) -> None:
    """One line of the log."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def receive(sock: socket.socket, waiting: OrderedDict[int, int]) -> None:
    """Log every answer that has arrived."""
    while True:
        try:
            data, ancillary, _flags, _peer = sock.recvmsg(256, 64)
        except BlockingIOError:
            return
        except OSError:  # ICMP errors of earlier questions
            continue
        node, _, number = data.partition(b" ")
        asked = waiting.pop(int(number), None)
        if asked is not None:
            say(t=stamp(ancillary), seq=int(number), asked=asked, node=node.decode())


def main() -> int:
    """Ask for ever."""
    vip, port, interval_ns = sys.argv[1], int(sys.argv[2]), int(float(sys.argv[3]) * 1e6)
    sock = socket.socket(socket.AF_INET6 if ":" in vip else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.setblocking(False)
    waiting: OrderedDict[int, int] = OrderedDict()
    number, due_ns = 0, time.monotonic_ns()
    while True:
        wait_ns = due_ns - time.monotonic_ns()
        if wait_ns > 0 and select.select([sock], [], [], wait_ns / 1e9)[0]:
            receive(sock, waiting)
            continue
        if wait_ns > 0:
            continue
        receive(sock, waiting)
        due_ns = max(due_ns + interval_ns, time.monotonic_ns())
        number += 1
        now = time.time_ns()
        waiting[number] = now
        try:
            sock.sendto(str(number).encode(), (vip, port))
        except OSError:  # no neighbour entry: the question counts as lost
            pass
        while waiting and now - next(iter(waiting.values())) > PATIENCE_NS:
            lost, asked = waiting.popitem(last=False)
            say(lost=lost, asked=asked)


if __name__ == "__main__":
    sys.exit(main())
