"""Addresses that the daemon adds: virtual_ipaddress, virtual_ipaddress_excluded, static_ipaddress."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag
from ipaddress import IPv4Address

from base.diagnostics import Position
from vrrp.config.model.common import NOWHERE, Family, IpAddress


class AddressFlag(IntFlag):
    """Kernel address flags (IFA_F_*) that an address line can set."""

    NONE = 0
    NODAD = 0x02
    HOMEADDRESS = 0x10
    MANAGETEMPADDR = 0x100
    NOPREFIXROUTE = 0x200
    MCAUTOJOIN = 0x400


@dataclass(frozen=True, slots=True)
class VirtualAddress:
    """One address line.

    ``prefix_length``: 32 or 128 where the line has none. ``interface``: resolved (the line's ``dev``, else the
    instance's interface, else global default_interface); ``interface_given`` tells that the line named it.
    ``scope``: the kernel's RT_SCOPE number (0 = global). ``broadcast``: already computed for ``brd +`` and ``brd -``.
    ``preferred_lft_s``: None = forever; 0 deprecates the address (keepalived's default for a /128).
    """

    address: IpAddress
    prefix_length: int
    interface: str = ""
    interface_given: bool = False
    broadcast: IPv4Address | None = None
    scope: int = 0
    label: str = ""
    peer: IpAddress | None = None
    flags: AddressFlag = AddressFlag.NONE
    preferred_lft_s: int | None = None
    no_track: bool = False
    use_vmac: bool = False
    track_group: str = ""
    position: Position = field(default=NOWHERE, compare=False)

    @property
    def family(self) -> Family:
        """IPv4 or IPv6."""
        return Family(self.address.version)

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix_length}"
