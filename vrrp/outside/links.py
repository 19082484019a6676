"""What the kernel says about interfaces, by the classical ioctls: they follow the network namespace, /sys does not."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Iterable

from vrrp.outside.view import Link

_SIOCGIFFLAGS = 0x8913
_SIOCGIFHWADDR = 0x8927
_SIOCGIFINDEX = 0x8933
_IFF_UP_AND_RUNNING = 0x1 | 0x40
_REQUEST_BYTES = 40
_MAX_NAME = 15


def read_links(names: Iterable[str]) -> dict[str, Link]:
    """Those of ``names`` that exist."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        for name in set(names):
            if not 0 < len(name.encode()) <= _MAX_NAME:
                continue
            request = name.encode().ljust(_REQUEST_BYTES, b"\0")
            try:
                (index,) = struct.unpack_from("=i", fcntl.ioctl(sock, _SIOCGIFINDEX, request), 16)
                (flags,) = struct.unpack_from("=H", fcntl.ioctl(sock, _SIOCGIFFLAGS, request), 16)
                mac = fcntl.ioctl(sock, _SIOCGIFHWADDR, request)[18:24]
            except OSError:
                continue
            found[name] = Link(index, mac, flags & _IFF_UP_AND_RUNNING == _IFF_UP_AND_RUNNING)
    return found
