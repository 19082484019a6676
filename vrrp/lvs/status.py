"""What one virtual server looks like to the operator: servers, checkers with their last answers, the kernel's counters. PURE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from base.channel import JsonObject
from vrrp.lvs.drains import Drains
from vrrp.lvs.ipvs.translation import describe_service
from vrrp.lvs.ipvs.values import Counters, DestinationStatistics, ServiceStatistics
from vrrp.lvs.model.desired import ServiceKey
from vrrp.lvs.model.virtual_server import SORRY_ID, VirtualServerCore

CheckerSnapshots = Mapping[str, list[Any]]
"""Real server id → snapshots of its checkers."""


def service_status(
    core: VirtualServerCore, checkers: CheckerSnapshots, drains: Drains, statistics: Mapping[ServiceKey, ServiceStatistics]
) -> JsonObject:
    """One virtual server; counters of a group's services are added up."""
    settings, snapshot = core.settings, core.snapshot()
    assert isinstance(snapshot, dict)
    found = [statistics[key] for key in core.service_keys() if key in statistics]
    real_servers: list[Any] = snapshot["real_servers"]  # type: ignore[assignment]
    sorry = settings.sorry_server
    return {
        **snapshot,
        "listen": [describe_service(key) for key in core.service_keys()[:100]],
        "listen_count": len(settings.listen),
        "scheduler": settings.scheduler,
        "method": settings.real_servers[0].forwarding.method.value if settings.real_servers else "",
        "quorum_wanted": settings.quorum,
        "only_while_master": settings.only_while_master,
        "counters": asdict(_sum(each.counters for each in found)),
        "sorry": None if sorry is None else {"address": str(sorry.address), "port": sorry.port, **_traffic(core, SORRY_ID, statistics)},
        "real_servers": [
            {
                **server,
                "note": drains.get((settings.id, server["id"]), ""),
                "checkers": checkers.get(server["id"], []),
                **_traffic(core, server["id"], statistics),
            }
            for server in real_servers
        ],
    }


def _traffic(core: VirtualServerCore, server: str, statistics: Mapping[ServiceKey, ServiceStatistics]) -> JsonObject:
    found: list[DestinationStatistics] = []
    for listen, key in zip(core.settings.listen, core.service_keys(), strict=True):
        service = statistics.get(key)
        destination = None if service is None else service.destinations.get(core.destination(listen, server))
        if destination is not None:
            found.append(destination)
    return {
        "counters": asdict(_sum(each.counters for each in found)),
        "active": sum(each.active_connections for each in found),
        "inactive": sum(each.inactive_connections for each in found),
        "persistent": sum(each.persistent_connections for each in found),
    }


def _sum(counters: Iterable[Counters]) -> Counters:
    total: dict[str, int] = {}
    for each in counters:
        for name, value in asdict(each).items():
            total[name] = total.get(name, 0) + value
    return Counters(**total)
