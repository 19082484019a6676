"""The operations of vrrpd.sock: what the watcher and the operator's command can ask of the vrrp process.

Framing and permissions: ``base.control``. Times in requests are milliseconds from now; ``expires_ms`` and ``until_ms`` of 0 mean "until
changed".

    status       [{instance}]                             → everything, see vrrp.status; or one instance by name
    subscribe                                             → {} and from then on lines {"event": "state" | "report" | "rejected" | …}
    grant        {vrid, family, epoch, expires_ms}        strict mode: may become MASTER
    yield        {vrid, family, until_ms}                 hold no address
    unyield      {vrid, family}
    bridge_advert {vrid, family, priority, source, age_ms, valid_ms}
    announce     {vrid, family}                           gratuitous ARP, if MASTER
    journal                                               → {"lines": […]} what the core was told and answered

``family`` is 4 or 6; an optional ``interface`` narrows it down where the same VRID is used twice.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from base.channel import JsonObject
from base.clock import now_ns
from base.control import Client, Handler, RequestError
from base.core import NS_PER_MS
from vrrp.protocol.events import (
    AdvertBridged,
    AnnounceRequested,
    InstanceEvent,
    TakeoverGranted,
    YieldCancelled,
    YieldRequested,
)
from vrrp.protocol.packet import IPAddress
from vrrp.status import process_status

if TYPE_CHECKING:
    from vrrp.process import VrrpProcess

FOREVER_NS = 1 << 62
_JOURNAL_BYTES = 900_000


class VrrpControl:
    """Handlers for one ``ControlServer``."""

    def __init__(self, process: VrrpProcess) -> None:
        self._process = process
        self._subscribers: list[Client] = []

    def handlers(self) -> dict[str, tuple[Handler, bool]]:
        """Operation → (handler, does it act)."""
        return {
            "status": (lambda _client, request: process_status(self._process, request.get("instance")), False),
            "subscribe": (self._subscribe, False),
            "journal": (self._journal, False),
            "grant": (self._grant, True),
            "yield": (self._yield, True),
            "unyield": (lambda _client, request: self._feed(request, YieldCancelled()), True),
            "bridge_advert": (self._bridge, True),
            "announce": (lambda _client, request: self._feed(request, AnnounceRequested()), True),
        }

    def publish(self, message: JsonObject) -> None:
        """Push one line to every subscriber; one that does not read is dropped."""
        self._subscribers = [client for client in self._subscribers if not client.channel.closed and client.push(message)]

    def _subscribe(self, client: Client, _request: JsonObject) -> JsonObject:
        client.subscribed = True
        if client not in self._subscribers:
            self._subscribers.append(client)
        return {}

    def _journal(self, _client: Client, _request: JsonObject) -> JsonObject:
        lines: list[str] = []
        size = 0
        for line in reversed(self._process.journal.lines()):
            size += len(line) + 8
            if size > _JOURNAL_BYTES:
                break
            lines.append(line)
        return {"lines": lines[::-1], "dropped": self._process.journal.dropped}

    def _grant(self, _client: Client, request: JsonObject) -> JsonObject:
        expires_ms = _integer(request, "expires_ms")
        expires_ns = FOREVER_NS if not expires_ms else now_ns() + expires_ms * NS_PER_MS
        return self._feed(request, TakeoverGranted(_integer(request, "epoch"), expires_ns))

    def _yield(self, _client: Client, request: JsonObject) -> JsonObject:
        until_ms = _integer(request, "until_ms")
        return self._feed(request, YieldRequested(FOREVER_NS if not until_ms else now_ns() + until_ms * NS_PER_MS))

    def _bridge(self, _client: Client, request: JsonObject) -> JsonObject:
        event = AdvertBridged(
            _integer(request, "priority", 255),
            _address(request, "source"),
            _integer(request, "age_ms") * NS_PER_MS,
            _integer(request, "valid_ms") * NS_PER_MS,
        )
        return self._feed(request, event)

    def _feed(self, request: JsonObject, event: InstanceEvent) -> JsonObject:
        names = self._matching(request)
        for name in names:
            self._process.feed_instance(now_ns(), name, event)
        assert self._process.node is not None
        states = {name: self._process.node.instances[name].state.value for name in names}
        return {"instances": states}

    def _matching(self, request: JsonObject) -> list[str]:
        vrid, family = _integer(request, "vrid", 255), _integer(request, "family", 6)
        interface = request.get("interface")
        names = [
            name
            for name, endpoint in self._process.wiring.endpoints.items()
            if endpoint.model.vrid == vrid
            and int(endpoint.model.family) == family
            and (interface is None or endpoint.model.interface == interface)
        ]
        if not names:
            raise RequestError("unknown_instance", f"vrid {vrid}, family {family}", "op status lists the instances")
        return names


def _integer(request: JsonObject, field: str, top: int = 1 << 53) -> int:
    value: Any = request.get(field)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= top:
        raise RequestError("bad_field", f"field {field}", f"send a whole number from 0 to {top}")
    return value


def _address(request: JsonObject, field: str) -> IPAddress | None:
    value = request.get(field)
    if value in (None, ""):
        return None
    try:
        return ip_address(str(value))
    except ValueError:
        raise RequestError("bad_field", f"field {field}", "send an IP address") from None
