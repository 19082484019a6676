"""What several blocks share: address families, protocol versions, commands that the daemon starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

from base.diagnostics import Position

IpAddress: TypeAlias = "IPv4Address | IPv6Address"
IpNetwork: TypeAlias = "IPv4Network | IPv6Network"

NOWHERE = Position("")
"""The position of values that no file gave."""


class Family(IntEnum):
    """Address family by its IP version number, as in ``ipaddress``."""

    IPV4 = 4
    IPV6 = 6


class InitialState(Enum):
    """``state`` of a vrrp_instance. MASTER only matters together with priority 255."""

    MASTER = "MASTER"
    BACKUP = "BACKUP"


@dataclass(frozen=True, slots=True)
class ScriptCommand:
    """A command that the daemon starts without a shell.

    ``arguments``: argv as configured, the program first. ``user``/``group``: "" = the daemon's rule for scripts
    without a user (keepalived_script if that user exists, else root). ``all_groups``: with the user's supplementary groups.
    ``real_path``: a program that is a symbolic link is started under the name of what it points to.
    """

    arguments: tuple[str, ...]
    user: str = ""
    group: str = ""
    position: Position = field(default=NOWHERE, compare=False)
    all_groups: bool = False
    real_path: bool = False

    @property
    def path(self) -> str:
        """The program: absolute, or a name that is looked up in PATH."""
        return self.arguments[0]


@dataclass(frozen=True, slots=True)
class NotifyCommands:
    """Scripts of an instance or sync group, by the state that is entered; ``any_state`` gets four words appended."""

    master: ScriptCommand | None = None
    backup: ScriptCommand | None = None
    fault: ScriptCommand | None = None
    stop: ScriptCommand | None = None
    deleted: ScriptCommand | None = None
    master_rx_lower_priority: ScriptCommand | None = None
    any_state: ScriptCommand | None = None

    def configured(self) -> tuple[ScriptCommand, ...]:
        """Every script that is set, in the order above."""
        commands = (self.master, self.backup, self.fault, self.stop, self.deleted, self.master_rx_lower_priority, self.any_state)
        return tuple(command for command in commands if command is not None)


NO_NOTIFY = NotifyCommands()
