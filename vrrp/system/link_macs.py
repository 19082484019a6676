"""Names and MACs of this network namespace's interfaces, for ``vrrp.placement``; without pyroute2, which the parent does not load."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct

_SIOCGIFHWADDR = 0x8927
_REQUEST_BYTES = 40
_NAME_BYTES = 16


def interface_macs() -> dict[str, bytes]:
    """Interface → its MAC (6 bytes; zeroes where it has none)."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        for _index, name in socket.if_nameindex():
            request = struct.pack(f"{_REQUEST_BYTES}s", name.encode())
            with contextlib.suppress(OSError):  # it may just have gone
                answer = fcntl.ioctl(sock, _SIOCGIFHWADDR, request)
                found[name] = answer[_NAME_BYTES + 2 : _NAME_BYTES + 8]
    return found
