"""How the local VRRP daemon is held: files for a stock keepalived, the control socket for vrrpd (DESIGN section 6).

Stock keepalived (tried with 2.2.7: only FAULT holds a backup, a weight does not) tracks one small file per group:

- observe and resolve: ``hold-VRID``, ``weight 0``: 1 = held, 0 or missing = open;
- strict: ``grant-VRID``, ``weight 0 reverse``: 1 = may run, anything else (missing, garbage, a reboot) = held.

braind's death leaves the files as they are. ``brainctl init`` writes the stanza that tracks them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any, Protocol

from base.channel import Channel, JsonObject
from base.clock import now_ns
from base.control import PROTOCOL_VERSION
from base.core import NS_PER_S
from base.pump import Pump
from watchdog.config.model import GateSettings, GroupKey, Mode
from watchdog.frames.heartbeat import GroupState
from watchdog.judgement.commands import BridgeAdvert, GateState, SetGate
from watchdog.judgement.events import CommandFailed, GroupStateReported

Report = Callable[[CommandFailed | GroupStateReported], None]
RECONNECT_NS = NS_PER_S


def gate_file(base: str, key: GroupKey) -> str:
    """The file that holds one group: ``/run/brainctl/gate/hold-51``, ``hold-51-v6`` for IPv6."""
    return f"{base}-{key.vrid}" if key.family == 4 else f"{base}-{key.vrid}-v6"


class Gate(Protocol):
    """What the watcher's shell needs from either kind of daemon."""

    def set_gate(self, command: SetGate) -> None:
        """Open, hold or grant one group."""
        ...

    def bridge(self, command: BridgeAdvert) -> None:
        """Tell of an advert that the peer really sent."""
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


class KeepalivedGate:
    """Writes the tracked files. keepalived hears of a change by inotify when the file is closed."""

    def __init__(self, settings: GateSettings, mode: Mode, report: Report) -> None:
        self._settings = settings
        self._strict = mode is Mode.STRICT
        self._report = report

    def set_gate(self, command: SetGate) -> None:
        """Write the group's file; a failure is reported, not raised."""
        if self._strict:
            base, value = self._settings.grant_file, "1" if command.state is GateState.GRANTED else "0"
        else:
            base, value = self._settings.hold_file, "1" if command.state is GateState.HELD else "0"
        path = gate_file(base, command.key)
        try:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            try:
                os.write(descriptor, f"{value}\n".encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            self._report(CommandFailed("SetGate", f"{path}: {error.strerror}"))

    def bridge(self, command: BridgeAdvert) -> None:
        """A stock keepalived cannot be told; the core does not ask for it."""

    def next_deadline(self) -> int | None:
        """Nothing to do later."""
        return None

    def on_deadline(self, at_ns: int) -> None:
        """Nothing to do later."""

    def close(self) -> None:
        """The files stay: braind's death must not open a gate."""


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
        self._reconnect_ns = None
        self._channel = Channel(self._pump, sock, self._received, self._lost)
        self._request("subscribe")
        self._request("status")
        for command in self._wanted.values():
            self._send_gate(command)

    def _lost(self, _reason: str) -> None:
        self._channel = None
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

    def close(self) -> None:
        """Hang up; vrrpd keeps the last gate state it was given."""
        if self._channel is not None:
            self._channel.close()
        self._reconnect_ns = None


_STATES = {"MASTER": GroupState.MASTER, "BACKUP": GroupState.BACKUP, "FAULT": GroupState.FAULT, "INIT": GroupState.UNKNOWN}
