"""What a device that speaks a protocol itself needs: its address resolved when armed, and an end whatever the other side does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from base.clock import now_ns
from base.core import NS_PER_S
from fencing.devices.device import DeviceConfigError


@dataclass(frozen=True, slots=True)
class Address:
    """Where a device is; ``host`` as configured, ``sockaddr`` as resolved when it was armed."""

    host: str
    family: socket.AddressFamily
    sockaddr: tuple[object, ...]


def resolve(host: str, port_text: str, kind: socket.SocketKind) -> Address:
    """Resolve once, when armed: nothing may depend on a name server while fencing. Raises DeviceConfigError."""
    if not host:
        raise DeviceConfigError('host is missing; write host = "192.0.2.10"')
    if not (port_text.isascii() and port_text.isdigit()) or not 0 < int(port_text) < 65536:
        raise DeviceConfigError(f"port {port_text!r} is no {'TCP' if kind is socket.SOCK_STREAM else 'UDP'} port")
    try:
        family, _, _, _, sockaddr = socket.getaddrinfo(host, int(port_text), type=kind)[0]
    except (OSError, UnicodeError) as error:
        raise DeviceConfigError(f"host {host!r}: {getattr(error, 'strerror', None) or error}; write its address instead") from None
    return Address(host, family, sockaddr)


def left_s(deadline_ns: int) -> float:
    """Seconds until the deadline, at least a hundredth: a socket's timeout of 0 would mean "do not wait"."""
    return max(0.01, (deadline_ns - now_ns()) / NS_PER_S)


@contextmanager
def hard_stop(deadline_ns: int, stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` from another thread at the deadline, unless the block ends before. For what has timeouts per read only."""
    timer = threading.Timer(left_s(deadline_ns), stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
