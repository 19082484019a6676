"""Polls links whose driver does not tell the kernel of a lost carrier: linkbeat_interfaces, linkbeat_use_polling.

The answers of keepalived's three methods: MII (the link bit of the PHY), ETHTOOL, IOCTL (IFF_RUNNING). Without a method the first that
the driver knows is taken, in this order. A driver that knows none: the link counts as up, and netlink alone decides.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from collections.abc import Iterable

from vrrp.config.model.daemon import LinkbeatInterface, LinkbeatMethod

POLL_EVERY_NS = 1_000_000_000
_SIOCGIFFLAGS, _SIOCETHTOOL, _SIOCGMIIPHY, _SIOCGMIIREG = 0x8913, 0x8946, 0x8947, 0x8948
_ETHTOOL_GLINK = 0x0A
_IFF_RUNNING = 0x40
_MII_BMSR, _MII_LINK_UP = 1, 0x04
_MII = struct.Struct("=HHHH")
_REQUEST_BYTES = 40


class Linkbeat:
    """Polls once a second. ``states``: link up by interface, for those polled."""

    def __init__(self) -> None:
        self.states: dict[str, bool] = {}
        self.due_ns: int | None = None
        self._polled: dict[str, LinkbeatMethod] = {}
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def configure(self, at_ns: int, interfaces: Iterable[LinkbeatInterface], others: Iterable[str]) -> None:
        """Poll ``interfaces`` each by its method, and ``others`` (linkbeat_use_polling: all of ours) by the first that works."""
        self._polled = dict.fromkeys(others, LinkbeatMethod.DEFAULT) | {i.interface: i.method for i in interfaces}
        self.states = {}
        self.due_ns = None
        if self._polled:
            self.poll(at_ns)

    def poll(self, at_ns: int) -> bool:
        """Ask every driver; True if an answer changed."""
        before = self.states
        self.states = {name: self._ask(name, method) for name, method in self._polled.items()}
        self.due_ns = at_ns + POLL_EVERY_NS if self._polled else None
        return self.states != before

    def _ask(self, name: str, method: LinkbeatMethod) -> bool:
        ways = {LinkbeatMethod.MII: self._mii, LinkbeatMethod.ETHTOOL: self._ethtool, LinkbeatMethod.IOCTL: self._flags}
        for way in [ways[method]] if method in ways else ways.values():
            try:
                return way(name.encode()[:15])
            except OSError:
                continue
        return True

    def _mii(self, name: bytes) -> bool:
        request = bytearray(name.ljust(16, b"\0") + bytes(_REQUEST_BYTES - 16))
        fcntl.ioctl(self._sock, _SIOCGMIIPHY, request)
        phy = _MII.unpack_from(request, 16)[0]
        _MII.pack_into(request, 16, phy, _MII_BMSR, 0, 0)
        fcntl.ioctl(self._sock, _SIOCGMIIREG, request)
        return bool(_MII.unpack_from(request, 16)[3] & _MII_LINK_UP)

    def _ethtool(self, name: bytes) -> bool:
        value = ctypes.create_string_buffer(struct.pack("=II", _ETHTOOL_GLINK, 0), 8)
        request = bytearray(name.ljust(16, b"\0") + struct.pack("@P", ctypes.addressof(value)))
        fcntl.ioctl(self._sock, _SIOCETHTOOL, request.ljust(_REQUEST_BYTES, b"\0"))
        return bool(struct.unpack("=II", value.raw)[1])

    def _flags(self, name: bytes) -> bool:
        request = bytearray(name.ljust(16, b"\0") + bytes(_REQUEST_BYTES - 16))
        fcntl.ioctl(self._sock, _SIOCGIFFLAGS, request)
        return bool(struct.unpack_from("=H", request, 16)[0] & _IFF_RUNNING)
