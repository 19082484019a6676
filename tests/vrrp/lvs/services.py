"""Virtual servers for the tests."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from base.core import NS_PER_S
from vrrp.config.model.common import Family
from vrrp.lvs.model.settings import (
    CheckerSettings,
    Connection,
    Listen,
    RealServerSettings,
    SorryServer,
    TcpProbe,
    Timing,
    Transport,
    VirtualServerSettings,
)

VIP = Listen(Family.IPV4, ip_address("192.0.2.9"), 80)


def timing(**changes: Any) -> Timing:
    """Fast: 10 s between probes, 1 s between tries."""
    values: dict[str, Any] = {"delay_loop_ns": 10 * NS_PER_S, "warmup_ns": 0, **changes}
    return Timing(**values)


def checker(name: str = "TCP", address: str = "192.0.2.1", port: int = 80, **changes: Any) -> CheckerSettings:
    return CheckerSettings(name, TcpProbe(Connection(ip_address(address), port)), timing(**changes))


def real_server(number: int, *, checkers: int = 1, alpha: bool = False, **changes: Any) -> RealServerSettings:
    address = ip_address(f"192.0.2.{number}")
    own = tuple(checker(f"C{index}", str(address), alpha=alpha) for index in range(checkers))
    return RealServerSettings(f"rs{number}", address, 80, checkers=own, **changes)


def virtual_server(
    *real_servers: RealServerSettings, sorry: bool = False, sorry_inhibit: bool = False, **changes: Any
) -> VirtualServerSettings:
    server = SorryServer(ip_address("192.0.2.200"), 80, inhibit=sorry_inhibit) if sorry or sorry_inhibit else None
    return VirtualServerSettings("vs", (VIP,), Transport.TCP, real_servers=real_servers, sorry_server=server, **changes)
