"""What this host's kernel says of its networks, for ``init`` and ``check``."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_interface


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """One address of this host: ``address`` plain, ``prefix`` its length."""

    interface: str
    address: str
    prefix: int

    def reaches(self, address: str) -> bool:
        """Whether ``address`` is on the network of this one."""
        return ip_address(address) in ip_interface(f"{self.address}/{self.prefix}").network


def local_addresses() -> tuple[LocalAddress, ...]:
    """Every address but the loopback's and link-local ones, in the kernel's order."""
    from pyroute2 import IPRoute  # slow to import

    found = []
    with IPRoute() as route:
        for message in route.get_addr():
            address = message.get("local") or message.get("address")
            name = _interface_name(message["index"])
            if address and name and not _uninteresting(address):
                found.append(LocalAddress(name, str(address), int(message["prefixlen"])))
    return tuple(found)


def _interface_name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""


def _uninteresting(address: str) -> bool:
    parsed = ip_address(address)
    return parsed.is_loopback or (isinstance(parsed, IPv6Address) and parsed.is_link_local)


def default_gateway() -> tuple[str, str] | None:
    """The IPv4 default gateway and the interface that leads to it, by /proc/net/route; None without one."""
    try:
        with open("/proc/net/route", encoding="ascii") as f:
            rows = [line.split() for line in f.readlines()[1:]]
    except OSError:
        return None
    for row in rows:
        if len(row) > 3 and row[1] == "00000000" and int(row[3], 16) & 2:
            return socket.inet_ntoa(struct.pack("<I", int(row[2], 16))), row[0]
    return None


def interface_towards(address: str, local: Sequence[LocalAddress], preferred: Iterable[str]) -> str | None:
    """The interface on whose network ``address`` is, a preferred one first; None if it is on none."""
    on = [own.interface for own in local if own.reaches(address)]
    return next((name for name in preferred if name in on), on[0] if on else None)
