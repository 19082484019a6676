"""virtual_server, virtual_server_group, real_server and the checkers as configured.

As they stand in the file (``Settings``); vrrp.lvs.from_config resolves defaults and inheritance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from base.diagnostics import Position
from vrrp.config.model.common import NOWHERE, Family, IpAddress

ServiceValue: TypeAlias = object
"""A checked value of one keyword: durations in ns, addresses, scripts as ScriptCommand, lists as tuples."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Keywords of one block in the order of the file, already checked. Durations are nanoseconds."""

    items: tuple[tuple[str, ServiceValue], ...] = ()

    def get(self, keyword: str, default: ServiceValue = None) -> ServiceValue:
        """The last value given for ``keyword``."""
        return dict(self.items).get(keyword, default)

    def __contains__(self, keyword: object) -> bool:
        return any(name == keyword for name, _ in self.items)


@dataclass(frozen=True, slots=True)
class Checker:
    """One health checker of a real server. ``blocks``: nested url { } or host { } blocks."""

    kind: str
    settings: Settings
    blocks: tuple[tuple[str, Settings], ...] = ()
    position: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class RealServer:
    """``real_server IP [PORT]``. ``port`` 0 = that of the virtual server."""

    address: IpAddress
    port: int
    settings: Settings
    checkers: tuple[Checker, ...] = ()
    position: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    """Where a service listens: ``address`` (to ``last``, for a range) and ``port``, or a firewall mark.

    ``family`` only matters for a firewall mark.
    """

    address: IpAddress | None = None
    last: IpAddress | None = None
    port: int = 0
    fwmark: int = 0
    family: Family | None = None
    position: Position = field(default=NOWHERE, compare=False)

    def __str__(self) -> str:
        if self.address is None:
            return f"fwmark {self.fwmark}"
        span = str(self.address) if self.last is None else f"{self.address}-{self.last}"
        return f"{span} port {self.port}" if self.port else span


@dataclass(frozen=True, slots=True)
class VirtualServerGroup:
    """``virtual_server_group NAME``."""

    name: str
    members: tuple[ServiceAddress, ...]
    position: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class LoweredPriority:
    """``quorum_lowers_priority INSTANCE AMOUNT``, a keyword of ours: while the quorum is lost, so much is taken off."""

    instance: str
    amount: int


@dataclass(frozen=True, slots=True)
class VirtualServer:
    """``virtual_server``: exactly one of ``listen`` and ``group`` is set."""

    listen: ServiceAddress | None
    group: str
    settings: Settings
    real_servers: tuple[RealServer, ...] = ()
    position: Position = field(default=NOWHERE, compare=False)

    def __str__(self) -> str:
        return str(self.listen) if self.listen is not None else f"group {self.group}"


def lowered_priorities(server: VirtualServer) -> tuple[LoweredPriority, ...]:
    """The VRRP instances that pay for a lost quorum of ``server``."""
    given = server.settings.get("quorum_lowers_priority", ())
    return tuple(item for item in given if isinstance(item, LoweredPriority)) if isinstance(given, tuple) else ()
