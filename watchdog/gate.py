"""How the local VRRP daemon is held: files for a stock keepalived (keepalived_gate.py), the control socket for vrrpd."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

from base.channel import Channel, JsonObject
from base.clock import now_ns
from base.control import PROTOCOL_VERSION
from base.core import NS_PER_S
from base.pump import Pump
from watchdog.config.model import GateSettings, GroupKey
from watchdog.frames.heartbeat import GroupState
from watchdog.groups import LoadedGroups
from watchdog.judgement.commands import BridgeAdvert, GateState, SetGate
from watchdog.judgement.events import CommandFailed, GateChecked, GateObedience, GroupStateReported

Report = Callable[[CommandFailed | GroupStateReported | GateChecked], None]
RECONNECT_NS = NS_PER_S
LOST_NS = 2 * NS_PER_S
"""A socket that stays away for longer is told: vrrpd restarts within a second."""


class Gate(Protocol):
    """What the watcher's shell needs from either kind of daemon."""

    def set_gate(self, command: SetGate) -> None:
        """Open, hold or grant one group."""
        ...

    def bridge(self, command: BridgeAdvert) -> None:
        """Tell of an advert that the peer really sent."""
        ...

    def watch_groups(self, loaded: LoadedGroups) -> None:
        """The groups as keepalived.conf has them now; from then on tell by GateChecked whether the daemon looks at their gates."""
        ...

    def next_deadline(self) -> int | None:
        """When ``on_deadline`` has work."""
        ...

    def on_deadline(self, at_ns: int) -> None:
        """Reconnect and the like."""
        ...

    def close(self) -> None:
        """Leave everything as it is."""
        ...


class VrrpdGate:
    """Talks to vrrpd.sock: grant, yield, bridge_advert; subscribes to states. Reconnects and repeats the last gate state then."""

    def __init__(self, pump: Pump, settings: GateSettings, report: Report) -> None:
        self._pump = pump
        self._path = settings.vrrpd_socket
        self._report = report
        self._channel: Channel | None = None
        self._next_id = 0
        self._pending: dict[int, str] = {}
        self._wanted: dict[GroupKey, SetGate] = {}
        self._names: dict[str, GroupKey] = {}
        self._reconnect_ns: int | None = 0
        self._groups: tuple[GroupKey, ...] = ()
        self._lost_ns: int | None = now_ns()
        self._told: GateObedience | None = None

    @property
    def connected(self) -> bool:
        """Whether vrrpd listens to us now."""
        return self._channel is not None

    def set_gate(self, command: SetGate) -> None:
        """Send the state now, and again after a reconnect."""
        self._wanted[command.key] = command
        self._send_gate(command)

    def _send_gate(self, command: SetGate) -> None:
        fields: dict[str, Any] = {"vrid": command.key.vrid, "family": command.key.family}
        if command.state is GateState.HELD:
            self._request("yield", **fields, until_ms=command.expires_ms)
        else:
            self._request("unyield", **fields)
            if command.state is GateState.GRANTED:
                self._request("grant", **fields, epoch=command.epoch, expires_ms=command.expires_ms)

    def watch_groups(self, loaded: LoadedGroups) -> None:
        """Any group may be held while vrrpd answers."""
        self._groups = tuple(group.key for group in loaded.groups)
        self._told = None
        if self._channel is not None:
            self._tell(GateObedience.OBEYED)

    def _tell(self, obedience: GateObedience, detail: str = "") -> None:
        if obedience is self._told:
            return
        self._told = obedience
        for key in self._groups:
            self._report(GateChecked(key, obedience, detail))

    def bridge(self, command: BridgeAdvert) -> None:
        """Forward an advert that the peer really sent."""
        self._request(
            "bridge_advert",
            vrid=command.key.vrid,
            family=command.key.family,
            priority=command.priority,
            source=command.source,
            age_ms=command.age_ms,
            valid_ms=command.valid_ms,
        )

    def _request(self, op: str, **fields: Any) -> None:
        if self._channel is None:
            return
        self._next_id += 1
        if len(self._pending) > 1000:
            self._pending.clear()
        self._pending[self._next_id] = op
        if not self._channel.send({"v": PROTOCOL_VERSION, "id": self._next_id, "op": op, **fields}):
            self._report(CommandFailed(op, "vrrpd does not read its control socket"))

    def _connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.connect(self._path)
        except OSError:
            sock.close()
            self._reconnect_ns = now_ns() + RECONNECT_NS
            return
        self._reconnect_ns = self._lost_ns = None
        self._channel = Channel(self._pump, sock, self._received, self._lost)
        self._request("subscribe")
        self._request("status")
        for command in self._wanted.values():
            self._send_gate(command)
        self._tell(GateObedience.OBEYED)

    def _lost(self, _reason: str) -> None:
        self._channel = None
        self._lost_ns = now_ns()
        self._pending.clear()
        self._reconnect_ns = now_ns() + RECONNECT_NS // 5

    def _received(self, message: JsonObject) -> None:
        op = self._pending.pop(message["id"], "") if isinstance(message.get("id"), int) else ""
        error = message.get("error")
        if isinstance(error, dict):
            self._report(CommandFailed(op or "vrrpd", f"{error.get('where')}: {error.get('code')}"))
        elif op == "status":
            self._take_status(message.get("ok"))
        elif message.get("event") == "state" and message.get("kind") == "instance":
            key = self._names.get(str(message.get("name")))
            if key is None:
                self._request("status")  # a reload brought a new instance
            else:
                self._take_state(key, message.get("state"), message.get("priority"))

    def _take_status(self, status: Any) -> None:
        instances = status.get("instances") if isinstance(status, dict) else None
        for item in instances if isinstance(instances, list) else []:
            if isinstance(item, dict) and isinstance(item.get("vrid"), int) and item.get("family") in (4, 6):
                key = GroupKey(item["vrid"], item["family"])
                self._names[str(item.get("name"))] = key
                self._take_state(key, item.get("state"), item.get("priority"))

    def _take_state(self, key: GroupKey, state: Any, priority: Any) -> None:
        wanted = self._wanted.get(key)
        shown = _STATES.get(str(state), GroupState.UNKNOWN)
        if shown is GroupState.BACKUP and wanted is not None and wanted.state is GateState.HELD:
            shown = GroupState.HELD
        self._report(GroupStateReported(key, shown, priority if isinstance(priority, int) else 0))

    def next_deadline(self) -> int | None:
        """When to try to connect again."""
        return self._reconnect_ns

    def on_deadline(self, at_ns: int) -> None:
        """Connect again when due."""
        if self._reconnect_ns is not None and at_ns >= self._reconnect_ns:
            self._connect()
        if self._channel is None and self._lost_ns is not None and at_ns >= self._lost_ns + LOST_NS:
            self._tell(GateObedience.NOT_CONNECTED, f"vrrpd does not answer on {self._path}")

    def close(self) -> None:
        """Hang up; vrrpd keeps the last gate state it was given."""
        if self._channel is not None:
            self._channel.close()
        self._reconnect_ns = None


_STATES = {"MASTER": GroupState.MASTER, "BACKUP": GroupState.BACKUP, "FAULT": GroupState.FAULT, "INIT": GroupState.UNKNOWN}
