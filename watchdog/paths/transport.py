"""What a heartbeat path needs from a transport, and the errors that transports share."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Protocol

MAX_FRAMES_PER_WAKE = 64
"""A flood on one path must not keep the pump from the others."""


class LineBusy(Exception):
    """The transport still has bytes of an older frame to send; a heartbeat is never queued behind stale ones."""


@dataclass(frozen=True, slots=True)
class Received:
    """What one drain brought: whole frames, how many were dropped by the source filter, and an error that ends the transport."""

    frames: tuple[bytes, ...] = ()
    foreign: int = 0
    error: OSError | None = None


class Transport(Protocol):
    """An open socket or line. Any OSError from ``send`` or in ``Received.error`` may make its path close and reopen it."""

    def fileno(self) -> int:
        """The descriptor to watch for reading."""
        ...

    def send(self, data: bytes) -> None:
        """Send one frame, never blocking. Raises OSError or LineBusy."""
        ...

    def receive(self) -> Received:
        """Read at most MAX_FRAMES_PER_WAKE frames, never blocking, never raising."""
        ...

    def close(self) -> None:
        """Close the descriptor."""
        ...


_EXPLANATIONS: dict[int, str] = {
    errno.EPERM: "the kernel refuses to send: a local firewall rule drops it, or a capability is missing (CAP_NET_RAW)",
    errno.EACCES: "permission denied",
    errno.ENODEV: "the interface does not exist",
    errno.ENXIO: "the interface or line is gone",
    errno.ENETDOWN: "the interface is down",
    errno.EADDRNOTAVAIL: "this node does not have the path's address",
    errno.EADDRINUSE: "another program uses the port; is a second braind running?",
    errno.ENETUNREACH: "no route to the peer on this interface",
    errno.EHOSTUNREACH: "a route of this node forbids the way to the peer",
    errno.ENOENT: "the device does not exist",
    errno.EIO: "the line hung up",
    errno.EWOULDBLOCK: "another program has the line",
    errno.EMSGSIZE: "the interface's MTU is too small for a heartbeat",
}


def explain(error: OSError) -> str:
    """One line for status and log: what the error means for a heartbeat path."""
    code = error.errno or 0
    name = errno.errorcode.get(code, "error")
    return f"{_EXPLANATIONS.get(code, error.strerror or str(error))} ({name})"
