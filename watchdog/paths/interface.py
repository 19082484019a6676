"""Is a network interface there, and can it carry a frame? Asked by ioctl, so that a path needs nobody else to know it."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from dataclasses import dataclass

SIOCGIFFLAGS, SIOCGIFINDEX = 0x8913, 0x8933
IFF_UP, IFF_RUNNING = 0x1, 0x40
_REQUEST = struct.Struct("16si20x")


@dataclass(frozen=True, slots=True)
class InterfaceState:
    """``index`` 0: it does not exist. A new index under the same name is another interface. ``problem`` is "" when it can be used."""

    index: int
    problem: str


class InterfaceProbe:
    """Asks about interfaces of the network namespace in which it was made."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def state(self, name: str) -> InterfaceState:
        """The interface now. Raises OSError only for what is no answer about the interface."""
        try:
            index = self._ioctl(SIOCGIFINDEX, name)
            flags = self._ioctl(SIOCGIFFLAGS, name) & 0xFFFF
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.ENXIO):
                return InterfaceState(0, f"{name} does not exist")
            raise
        if not flags & IFF_UP:
            return InterfaceState(index, f"{name} is down")
        if not flags & IFF_RUNNING:
            return InterfaceState(index, f"{name} has no carrier")
        return InterfaceState(index, "")

    def _ioctl(self, code: int, name: str) -> int:
        answer = fcntl.ioctl(self._socket, code, _REQUEST.pack(name.encode()[:15], 0))
        value: int = _REQUEST.unpack(answer)[1]
        return value

    def close(self) -> None:
        """Close the descriptor."""
        self._socket.close()
