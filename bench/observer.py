"""What the wire says: kernel time stamps at the switch ports, kernel addresses by netlink, ARP answers to a detector.

All times are CLOCK_REALTIME ns. The loop runs SCHED_RR where it may, so that it does not wait behind the daemons.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Callable
from functools import partial

from bench.lab import VIP, Lab

_SO_TIMESTAMPNS, _SO_RCVBUFFORCE, _PACKET_IGNORE_OUTGOING, _SOL_PACKET, _ETH_P_ALL = 35, 33, 23, 263, 3
_VIP = socket.inet_aton(VIP)


def real_time() -> None:
    """Run before other work; children are not affected."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        pass


class Observer:
    """Sees adverts, claims and ARP answers of a and b, and their kernels' addresses."""

    def __init__(self, lab: Lab, probe_ms: float = 1.0) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, tuple[Callable[[socket.socket], None], socket.socket]] = {}
        self.adverts: dict[str, list[tuple[int, int]]] = {"a": [], "b": []}
        self.claims: dict[str, list[int]] = {"a": [], "b": []}
        self.answers: dict[str, list[int]] = {"a": [], "b": []}
        self.address_added: dict[str, list[int]] = {"a": [], "b": []}
        self.address_removed: dict[str, list[int]] = {"a": [], "b": []}
        for node in "ab":
            capture = lab.socket("s", socket.AF_PACKET, socket.SOCK_RAW)
            capture.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            capture.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 32 << 20)
            capture.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            capture.bind((f"p{node}0", _ETH_P_ALL))
            self._watch(capture, partial(self._captured, node=node))
            netlink = lab.socket(node, socket.AF_NETLINK, socket.SOCK_RAW)
            netlink.bind((0, 0x10))
            self._watch(netlink, partial(self._address, node=node))
        self._detector = lab.socket("d", socket.AF_PACKET, socket.SOCK_RAW)
        self._detector.bind(("eth0", 0))
        mac = self._detector.getsockname()[4]
        head = b"\xff" * 6 + mac + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x800, 6, 4, 1)
        self._probe = head + mac + bytes(4) + bytes(6) + _VIP
        self._probe_ns = int(probe_ms * 1e6)
        self._next_ns = time.monotonic_ns()

    def _watch(self, sock: socket.socket, handler: Callable[[socket.socket], None]) -> None:
        sock.setblocking(False)
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        self._handlers[sock.fileno()] = (handler, sock)

    def _captured(self, sock: socket.socket, node: str) -> None:
        for _ in range(256):
            try:
                data, ancillary, _flags, _address = sock.recvmsg(128, 64)
            except BlockingIOError:
                return
            except OSError:  # ENETDOWN, once, when a port was unplugged
                return
            stamp = _stamp(ancillary)
            if data[12:14] == b"\x08\x00" and data[23] == 112:
                offset = 14 + (data[14] & 15) * 4
                self.adverts[node].append((stamp, data[offset + 2]))
            elif data[12:14] == b"\x08\x06" and data[28:32] == _VIP:
                if data[38:42] == _VIP:
                    self.claims[node].append(stamp)
                elif data[21] == 2:
                    self.answers[node].append(stamp)

    def _address(self, sock: socket.socket, node: str) -> None:
        for _ in range(64):
            try:
                data = sock.recv(65536)
            except BlockingIOError:
                return
            kind = struct.unpack_from("H", data, 4)[0]
            if kind in (20, 21) and _VIP in data:
                (self.address_added if kind == 20 else self.address_removed)[node].append(time.time_ns())

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Watch for ``seconds`` or until ``until()``; returns whether it became true."""
        end = time.monotonic_ns() + int(seconds * 1e9)
        while True:
            now = time.monotonic_ns()
            if now >= self._next_ns:
                self._next_ns = max(self._next_ns + self._probe_ns, now)
                self._detector.send(self._probe)
            for fd, _mask in self._epoll.poll(max(0, (min(self._next_ns, end) - now) / 1e9)):
                handler, sock = self._handlers[fd]
                handler(sock)
            if until is not None and until():
                return True
            if time.monotonic_ns() >= end:
                return False

    def run_dense(self, start_ns: int, end_ns: int, grid_ns: int, until: Callable[[], bool]) -> bool:
        """Probe every ``grid_ns`` at absolute times between ``start_ns`` and ``end_ns`` (CLOCK_REALTIME) without ever sleeping.

        Before ``start_ns`` it watches and probes as ``run`` does. Returns whether ``until()`` became true. Answers carry the kernel's
        time stamp of their arrival at the switch port: what is left of the grid's coarseness is ``grid_ns``.
        """
        if self.run(max(0.0, (start_ns - time.time_ns()) / 1e9), until):
            return True
        due_ns = time.time_ns()
        while (now_ns := time.time_ns()) < end_ns:
            if now_ns >= due_ns:
                self._detector.send(self._probe)
                due_ns += grid_ns * max(1, (now_ns - due_ns + grid_ns - 1) // grid_ns)
            for fd, _mask in self._epoll.poll(0):
                handler, sock = self._handlers[fd]
                handler(sock)
            if until():
                return True
        return False

    def answering(self, node: str) -> bool:
        """Whether the node's kernel answered for the VIP in the last 100 ms."""
        return bool(self.answers[node]) and time.time_ns() - self.answers[node][-1] < 100_000_000

    def close(self) -> None:
        """Close every socket."""
        self._epoll.close()
        for _handler, sock in self._handlers.values():
            sock.close()
        self._detector.close()


def first_after(times: list[int], start_ns: int) -> int | None:
    """The first time after ``start_ns``."""
    return next((t for t in times if t > start_ns), None)


def _stamp(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = struct.unpack("qq", data[:16])
            return int(seconds * 1_000_000_000 + nanoseconds)
    return time.time_ns()
