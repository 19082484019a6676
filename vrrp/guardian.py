"""The guardian: removes the addresses of a vrrpd whose processes were all killed at once (docs/adr/0103-last-will.md).

A process of its own outside of vrrpd's process tree and session, without any import that is not needed, because it has to live when
everything else is killed. ``python -S -m vrrp.guardian FD``; over the inherited SOCK_SEQPACKET the daemon's parent sends

    b"P" + decimal pid      the vrrp process that holds the addresses now
    b"C"                    forget what is to be removed
    b"A" + decimal index + b" " + packed address    an address on this interface, in whatever form the kernel holds it then
    b"R" + bytes            netlink messages that remove everything else of one virtual router

At the end of that connection the parent is dead. The vrrp process ends by itself then; one that does not is killed after PATIENCE_S, and
whatever was not forgotten is removed.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys

from vrrp.system.kernel_addresses import Place, open_socket, remove

PATIENCE_S = 1.5
MESSAGE_BYTES = 1 << 20


def follow(sock: socket.socket) -> tuple[int, list[bytes], set[Place]]:
    """Until the parent is dead; returns a pidfd of the vrrp process (-1: none) and what is to be removed."""
    process, removals, places = -1, list[bytes](), set[Place]()
    while message := sock.recv(MESSAGE_BYTES):
        match message[:1]:
            case b"P":
                if process >= 0:
                    os.close(process)
                try:
                    process = os.pidfd_open(int(message[1:]))
                except ProcessLookupError:
                    process = -1
            case b"C":
                removals.clear()
                places.clear()
            case b"A":
                index, _, packed = message[1:].partition(b" ")
                places.add((int(index), packed))
            case b"R":
                removals.append(message[1:])
    return process, removals, places


def outlive(process: int) -> None:
    """Wait for the end of the vrrp process, and see to it."""
    over = select.poll()
    over.register(process, select.POLLIN)
    if not over.poll(PATIENCE_S * 1000):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
        over.poll(PATIENCE_S * 1000)


def remove_everything(removals: list[bytes], places: set[Place]) -> None:
    """Addresses first. What is gone already is no error."""
    with contextlib.suppress(OSError), open_socket() as sock:
        if places:
            remove(sock, places)
    with contextlib.suppress(OSError), open_socket() as sock:
        for blob in removals:
            with contextlib.suppress(OSError):
                sock.send(blob)


def main(argv: list[str]) -> int:
    """Entry of the process."""
    if os.fork():
        return 0  # the parent reaps this one; the guardian is nobody's child
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sock = socket.socket(fileno=int(argv[0]))
    process, removals, places = follow(sock)
    if process >= 0:
        outlive(process)
    remove_everything(removals, places)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
