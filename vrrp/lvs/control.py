"""The operations of vrrpd-lvs.sock: what the operator can ask of the checker process.

Framing and permissions: ``base.control``.

    status                         → numbers, and the last events: repairs, drains, servers that came and went
    services     {skip}            → {"services": […], "next": N or null}: virtual servers with real servers, checkers and counters,
                                     from real server number ``skip`` of all on, as many as a line holds
    subscribe                      → {} and from then on lines {"event": "lvs" | "quorum" | "repaired" | "drain" | "undrain", …}
    drain        {service, server, note}    weight 0 until undrained, also after a reload or restart
    undrain      {service, server}
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from base.channel import JsonObject
from base.clock import boot_id, now_ns
from base.control import Client, Handler, RequestError
from base.core import NS_PER_S
from vrrp.lvs.ipvs.values import ServiceStatistics
from vrrp.lvs.model.desired import ServiceKey
from vrrp.lvs.status import service_status

if TYPE_CHECKING:
    from vrrp.lvs.daemon import CheckerDaemon

PAGE = 200
"""Real servers in one answer: with their checkers well below the limit of a line."""
STATISTICS_AGE_NS = NS_PER_S


class LvsControl:
    """Handlers for one ``ControlServer``."""

    def __init__(self, daemon: CheckerDaemon) -> None:
        self._daemon = daemon
        self._subscribers: list[Client] = []
        self._statistics: dict[ServiceKey, ServiceStatistics] = {}
        self._statistics_ns = 0
        self._kernel_problem = ""

    def handlers(self) -> dict[str, tuple[Handler, bool]]:
        """Operation → (handler, does it act)."""
        return {
            "status": (lambda _client, _request: self.status(), False),
            "services": (self._services, False),
            "subscribe": (self._subscribe, False),
            "drain": (lambda client, request: self._drain(client, request, True), True),
            "undrain": (lambda client, request: self._drain(client, request, False), True),
        }

    def publish(self, message: JsonObject) -> None:
        """Push one line to every subscriber; one that does not read is dropped."""
        self._subscribers = [client for client in self._subscribers if not client.channel.closed and client.push(message)]

    def _subscribe(self, client: Client, _request: JsonObject) -> JsonObject:
        client.subscribed = True
        if client not in self._subscribers:
            self._subscribers.append(client)
        return {}

    def status(self) -> JsonObject:
        """The whole in numbers."""
        process = self._daemon.process
        self._read_statistics()
        return {
            "v": 1,
            "daemon": "vrrpd-checkers",
            "pid": os.getpid(),
            "now_ns": now_ns(),
            "boot_id": boot_id(),
            "services": len(process.services),
            "real_servers": sum(len(core.real_servers) for core in process.services.values()),
            "without_quorum": [name for name, core in process.services.items() if not core.has_quorum],
            "probes": process.probes_started,
            "kernel_errors": process.backend_errors,
            "kernel_problem": self._kernel_problem or process.kernel_problem or self._daemon.marker.problem,
            "repairs": self._daemon.news.repairs,
            "drained": [{"service": service, "server": server, "note": note} for (service, server), note in sorted(process.drains.items())],
            "masters": sorted(self._daemon.masters),
            "sync_daemons": self._sync_daemons(),
            "events": list(self._daemon.news.events)[-50:],
        }

    def _sync_daemons(self) -> list[JsonObject]:
        try:
            return [
                {**asdict(daemon), "role": daemon.role.name, "group": str(daemon.group or "")}
                for daemon in self._daemon.ipvs.kernel().sync_daemons()
            ]
        except OSError:
            return []

    def _read_statistics(self) -> None:
        """The kernel's counters, at most STATISTICS_AGE_NS old."""
        at_ns = now_ns()
        if self._statistics_ns and at_ns - self._statistics_ns < STATISTICS_AGE_NS:
            return
        self._statistics_ns = at_ns
        try:
            self._statistics, self._kernel_problem = self._daemon.ipvs.kernel().statistics(), ""
        except OSError as error:
            self._statistics, self._kernel_problem = {}, error.strerror or str(error)

    def _services(self, _client: Client, request: JsonObject) -> JsonObject:
        skip: Any = request.get("skip", 0)
        if isinstance(skip, bool) or not isinstance(skip, int) or skip < 0:
            raise RequestError("bad_field", "field skip", "send a whole number from 0 on")
        self._read_statistics()
        services: list[JsonObject] = []
        left = PAGE
        passed = 0
        process = self._daemon.process
        for core in process.services.values():
            count = len(core.settings.real_servers)
            begin = max(0, skip - passed)
            passed += count
            if passed <= skip:
                continue
            if left <= 0:
                return {"services": services, "next": passed - count}
            status = service_status(core, process.checkers_of(core.settings.id), process.drains, self._statistics)
            taken = status["real_servers"][begin : begin + left]
            services.append({**status, "real_servers": taken})
            left -= len(taken)
            if begin + len(taken) < count:
                return {"services": services, "next": passed - count + begin + len(taken)}
        return {"services": services, "next": None}

    def _drain(self, client: Client, request: JsonObject, drained: bool) -> JsonObject:
        service, server = request.get("service"), request.get("server")
        if not isinstance(service, str) or not isinstance(server, str):
            raise RequestError("bad_field", "fields service and server", "send two names; op services lists them")
        note = request.get("note", "")
        try:
            self._daemon.drain(service, server, drained, note[:200] if isinstance(note, str) else "", f"uid {client.peer.uid}")
        except LookupError:
            raise RequestError("unknown_server", f"{server} of {service}", "brainctl lvs lists services and servers") from None
        except OSError as error:
            raise RequestError("not_saved", f"{self._daemon.drain_file.path}: {error.strerror}", "make room, then again") from None
        return {"service": service, "server": server, "drained": drained}
