"""brain.toml → BrainSettings, with every error of the file in one run: file, line, column, what is wrong, how to mend it."""

from __future__ import annotations

import os
import socket
import tomllib
from dataclasses import dataclass
from typing import Any

from alerts.routing.settings import RECEIVER_TYPES, SEVERITIES, Receiver
from base.diagnostics import ConfigError, Diagnostic, Diagnostics, Position
from base.toml_limits import excess
from base.toml_positions import KeyPath, Positions, locate
from fencing.plan.settings import DEVICE_TYPES, FenceDevice, FenceLevel, FenceSettings
from watchdog.config.model import (
    BrainSettings,
    GateSettings,
    Mode,
    NodeSettings,
    PathKind,
    PathSettings,
    PerNode,
    PolicySettings,
    ReferenceSettings,
)
from watchdog.config.self_fence import read_self_fence
from watchdog.config.table_reader import TableReader, control_character, show
from watchdog.config.witness import read_witness

MAX_FILE_BYTES = 1 << 20
MAX_PATHS = 16
MAX_NAME = 64
"""Characters of a cluster's, path's or device's name: it stands in every line of the log and in every page."""
MAX_INTERFACE = 15
BAUD_RATES = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600, 1000000, 1500000, 2000000, 3000000, 4000000)
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class LoadedBrain:
    """The settings and what the operator should read about them (no errors among it)."""

    settings: BrainSettings
    diagnostics: tuple[Diagnostic, ...]
    positions: Positions


def load_brain(path: str, node: str | None = None) -> LoadedBrain:
    """Read and check brain.toml; raises ConfigError with every error.

    ``node`` is this node's name; without it the host name (or its part before the first dot) must be one of the nodes.
    """
    try:
        with open(path, "rb") as f:
            raw = f.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _refuse(path, f"cannot be read: {error.strerror}", "brainctl init writes one") from None
    if len(raw) > MAX_FILE_BYTES:
        raise _refuse(path, f"is over {MAX_FILE_BYTES} bytes", "is this the right file?")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refuse(path, f"is not UTF-8 at byte {error.start}", "save it as UTF-8") from None
    return parse_brain(text, path, node)


def _refuse(path: str, message: str, remedy: str) -> ConfigError:
    diagnostics = Diagnostics()
    diagnostics.error(Position(path), message, remedy)
    return ConfigError(diagnostics)


def parse_brain(text: str, file: str, node: str | None = None) -> LoadedBrain:
    """Check the text of a brain.toml; see ``load_brain``."""
    diagnostics = Diagnostics()
    if found := excess(text):
        diagnostics.error(Position(file, found.line, found.column), found.message, found.remedy)
        raise ConfigError(diagnostics)
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        diagnostics.error(toml_position(file, text, str(error)), f"not TOML: {error}", "mend the syntax at this place")
        raise ConfigError(diagnostics) from None
    positions = locate(file, text)
    settings = Loader(data, positions, diagnostics).load(node)
    diagnostics.raise_if_errors()
    return LoadedBrain(settings, tuple(diagnostics), positions)


def toml_position(file: str, text: str, message: str) -> Position:
    """Where tomllib found its error."""
    if "end of document" in message:
        lines = text.splitlines() or [""]
        return Position(file, len(lines), len(lines[-1]) + 1)
    words = message.replace(")", "").replace(",", "").split()
    try:
        return Position(file, int(words[words.index("line") + 1]), int(words[words.index("column") + 1]))
    except (ValueError, IndexError):
        return Position(file)


def _parameter_text(value: Any) -> str | None:
    """A device's or receiver's own value as text; None for what cannot be one."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 64 else None
    if isinstance(value, str | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return ",".join(value)
    return None


class Loader:
    """Walks the tables in the order in which the file is documented."""

    def __init__(self, data: dict[str, Any], positions: Positions, diagnostics: Diagnostics) -> None:
        self._positions = positions
        self._diagnostics = diagnostics
        self._top = self._table(data, ())

    def _table(self, data: Any, path: KeyPath) -> TableReader:
        return TableReader(data, path, self._positions, self._diagnostics)

    def _tables(self, owner: TableReader, key: str, at_most: int) -> list[TableReader]:
        value = owner.take(key)
        if value is None:
            return []
        if not isinstance(value, list):
            owner.error((key,), f"{key} must be a list of tables", f"write [[{key}]]")
            return []
        if len(value) > at_most:
            owner.error((key,), f"{len(value)} × [[{key}]] is too many", f"at most {at_most}")
        return [self._table(item, (*owner.path, key, i)) for i, item in enumerate(value[:at_most])]

    def _section(self, key: str) -> Any:
        """A table that may be left out; anything else in its place is an error of the reader."""
        value = self._top.take(key)
        return {} if value is None else value

    def load(self, node: str | None) -> BrainSettings:
        """The whole of brain.toml."""
        if self._top.integer("version", 0, 0, 1 << 31) != 1:
            self._top.error(("version",), "version must be 1", "write version = 1 as the first line")
        cluster = self._table(self._section("cluster"), ("cluster",))
        name = cluster.string("name")
        if len(name) > MAX_NAME:
            cluster.error(("name",), f"{len(name)} characters are too long", f"at most {MAX_NAME}")
        key_file = cluster.string("key_file", "/etc/brainctl/cluster.key")
        cluster.finish()
        nodes = self._nodes()
        names = [n.name for n in nodes]
        paths = self._paths(names)
        self_fence = self._top.take("self_fence")
        settings = BrainSettings(
            cluster=name,
            key_file=key_file,
            self_name=self._self_name(node, names),
            nodes=(nodes[0], nodes[1]),
            policy=self._policy(),
            gate=self._gate(),
            paths=paths,
            references=self._references(names),
            fence=self._fence(names),
            alerts=self._alerts(),
            witness=None if (witness := self._top.take("witness")) is None else read_witness(self._table(witness, ("witness",)), names),
            self_fence=None if self_fence is None else read_self_fence(self._table(self_fence, ("self_fence",)), names, paths),
        )
        self._top.finish()
        self._advise(settings)
        return settings

    def _nodes(self) -> list[NodeSettings]:
        tables = self._top.take("node")
        if not isinstance(tables, dict) or len(tables) != 2:
            count = len(tables) if isinstance(tables, dict) else 0
            self._top.error(("node",), f"{count} nodes are named, a pair has two", "write [node.NAME] for each of the two nodes")
            return [NodeSettings("?", 1), NodeSettings("??", 2)]
        nodes = []
        for position, (name, data) in enumerate(tables.items(), 1):
            table = self._table(data, ("node", name))
            rank = table.integer("rank", position, 1, 2)
            addresses = tuple(table.check_ip(("addresses",), a) for a in table.strings("addresses"))
            if not name or len(name.encode()) > 32 or not name.isprintable():
                table.error((), f"node name {show(name)} is empty, too long or not printable", "at most 32 bytes")
            table.finish()
            nodes.append(NodeSettings(name, rank, addresses))
        if nodes[0].rank == nodes[1].rank:
            self._top.error(("node", nodes[1].name, "rank"), "both nodes have the same rank", "give one node rank 1 and the other rank 2")
        return nodes

    def _self_name(self, node: str | None, names: list[str]) -> str:
        if node is not None:
            if node not in names:
                self._top.error(("node",), f"--node {node} is none of {', '.join(names)}", "name one of the nodes of this file")
            return node if node in names else names[0]
        host = socket.gethostname()
        for candidate in (host, host.partition(".")[0]):
            if candidate in names:
                return candidate
        self._top.error(
            ("node",), f"this host is {host!r}, the nodes are {', '.join(names)}", "start with --node NAME or name the node after its host"
        )
        return names[0]

    def _policy(self) -> PolicySettings:
        table = self._table(self._section("policy"), ("policy",))
        default = PolicySettings()
        times: dict[str, int] = {}
        for key in (
            "confirm_ms",
            "settle_ms",
            "yield_deadline_ms",
            "planned_grace_ms",
            "second_look_ms",
            "barrier_ms",
            "census_interval_ms",
            "census_window_ms",
            "stall_ms",
        ):
            times[key] = table.integer(key, getattr(default, key), 20, 600_000)
        mode = Mode(table.choice("mode", [m.value for m in Mode], default.mode.value))
        table.finish()
        return PolicySettings(mode=mode, **times)

    def _gate(self) -> GateSettings:
        table = self._table(self._section("gate"), ("gate",))
        default = GateSettings()
        daemon = table.choice("daemon", ("keepalived", "vrrpd"), default.daemon)
        gate = GateSettings(
            daemon=daemon,
            config=table.string("config", default.config),
            pid_file=table.string("pid_file", default.pid_file if daemon == "keepalived" else "/run/brainctl/vrrpd.pid"),
            vrrp_pid_file=table.string(
                "vrrp_pid_file", default.vrrp_pid_file if daemon == "keepalived" else "/run/brainctl/vrrpd_vrrp.pid"
            ),
            vrrpd_socket=table.string("vrrpd_socket", default.vrrpd_socket),
            hold_file=table.string("hold_file", default.hold_file),
            grant_file=table.string("grant_file", default.grant_file),
            bridge_adverts=table.boolean("bridge_adverts", default.bridge_adverts),
        )
        table.finish()
        return gate

    def _paths(self, nodes: list[str]) -> tuple[PathSettings, ...]:
        paths: list[PathSettings] = []
        for table in self._tables(self._top, "path", MAX_PATHS):
            path = self._path(table, nodes)
            if any(p.name == path.name for p in paths):
                table.error(("name",), f"two paths are called {path.name!r}", "give each path its own name")
            paths.append(path)
        if not paths:
            self._top.error((), "no [[path]]", "add at least two heartbeat paths on different media")
        return tuple(paths)

    def _path(self, table: TableReader, nodes: list[str]) -> PathSettings:
        kind = PathKind(table.choice("type", [k.value for k in PathKind]))
        name = table.string("name", kind.value)
        serial = kind is PathKind.SERIAL
        default = PathSettings(name, kind, name)
        interface = self._interface(table, nodes, required=not serial)
        path = PathSettings(
            name=name,
            kind=kind,
            medium=table.string("medium", name if serial else (interface.of(nodes[0]) or name)),
            interval_ms=table.integer("interval_ms", 250 if serial else default.interval_ms, 20, 60_000),
            silent_after_ms=table.integer("silent_after_ms", 1_500 if serial else default.silent_after_ms, 60, 600_000),
            interface=interface,
            address=table.per_node("address", nodes, required=kind is PathKind.UNICAST, address=True),
            group=table.ip_address("group", default.group),
            port=table.integer("port", default.port, 1, 65_535),
            device=table.per_node("device", nodes, required=serial),
            baud=table.integer("baud", default.baud, 1200, 4_000_000),
        )
        table.finish()
        if path.baud not in BAUD_RATES:
            table.error(("baud",), f"{path.baud} is not a speed of a serial line", f"one of {', '.join(str(b) for b in BAUD_RATES)}")
        if path.silent_after_ms < 3 * path.interval_ms:
            table.error(
                ("silent_after_ms",),
                "a path must be allowed to miss two beats",
                f"silent_after_ms ≥ 3 × interval_ms = {3 * path.interval_ms}",
            )
        if serial and path.interval_ms * path.baud < 64 * 10 * 1000:
            beats = 64 * 10 * 1000 // path.baud + 1
            table.error(("interval_ms",), f"a beat of 64 bytes takes {beats} ms at {path.baud} baud", f"interval_ms ≥ {beats}")
        return path

    def _interface(self, table: TableReader, nodes: list[str], *, required: bool) -> PerNode:
        """The ``interface`` key; a name that no kernel can have is an error here instead of in a socket call."""
        interface = table.per_node("interface", nodes, required=required)
        for _, name in interface.values:
            if len(name.encode()) > MAX_INTERFACE or "/" in name or any(c.isspace() for c in name):
                table.error(
                    ("interface",), f"{show(name)} cannot be an interface", f"a name as `ip link` shows it, at most {MAX_INTERFACE} bytes"
                )
        return interface

    def _references(self, nodes: list[str]) -> tuple[ReferenceSettings, ...]:
        references = []
        for table in self._tables(self._top, "reference", 8):
            address = table.ip_address("address")
            references.append(
                ReferenceSettings(
                    name=table.string("name", address),
                    address=address,
                    interface=self._interface(table, nodes, required=True),
                    interval_ms=table.integer("interval_ms", 1_000, 100, 60_000),
                    silent_after_ms=table.integer("silent_after_ms", 3_000, 300, 600_000),
                )
            )
            table.finish()
        return tuple(references)

    def _fence(self, nodes: list[str]) -> FenceSettings:
        table = self._table(self._section("fence"), ("fence",))
        levels: dict[str, list[FenceLevel]] = {}
        for level in self._tables(table, "level", 18):
            target = level.choice("target", nodes)
            devices = tuple(self._device(d, target) for d in self._tables(level, "device", 8))
            if not devices:
                level.error((), "this level has no device", "add [[fence.level.device]] below it")
            levels.setdefault(target, []).append(FenceLevel(level.string("name", f"level{len(levels.get(target, [])) + 1}"), devices))
            level.finish()
        enabled = table.boolean("enabled", False)
        if enabled and not levels:
            table.error(("enabled",), "fencing is enabled without a [[fence.level]]", "add the devices, or write enabled = false")
        settings = FenceSettings(
            enabled=enabled,
            levels=tuple((t, tuple(ls)) for t, ls in levels.items()),
            delay_ms=table.integer("delay_ms", 0, 0, 600_000),
            measured_ms=table.integer("measured_ms", 0, 0, 600_000),
            budget_per_hour=table.integer("budget_per_hour", 3, 1, 100),
            proof_silence_ms=table.integer("proof_silence_ms", 2_000, 200, 600_000),
            require_authenticated=table.boolean("require_authenticated", False),
            monitor_interval_ms=table.integer("monitor_interval_ms", 300_000, 0, 86_400_000),
        )
        table.finish()
        return settings

    def _device(self, table: TableReader, target: str) -> FenceDevice:
        kind = table.choice("type", DEVICE_TYPES)
        name = table.string("name", f"{kind}-{target}")
        deadline_ms = table.integer("deadline_ms", 20_000, 200, 600_000)
        return FenceDevice(name, kind, target, self._parameters(table), deadline_ms)

    def _alerts(self) -> tuple[Receiver, ...]:
        receivers: list[Receiver] = []
        for table in self._tables(self._top, "alert", 32):
            kind = table.choice("type", RECEIVER_TYPES)
            name = table.string("name", f"{kind}{len(receivers) + 1}")
            severity = table.choice("least_severity", SEVERITIES, "warning")
            escalate_ms = table.integer("escalate_after_ms", 0, 0, DAY_MS)
            if any(r.name == name for r in receivers):
                table.error(("name",), f"two alert receivers are called {name!r}", "give each its own name")
            receivers.append(Receiver(name, kind, self._parameters(table), severity, escalate_ms))
        return tuple(receivers)

    def _parameters(self, table: TableReader) -> tuple[tuple[str, str], ...]:
        """A device's or receiver's own keys, as strings. A plain secret in the file is refused."""
        parameters = []
        for key, value in table.remaining().items():
            if key in ("password", "passwd", "token", "secret", "routing_key", "auth_pass"):
                table.error((key,), f"{key} would put a secret into this file", f'write {key}_secret = "file:/etc/brainctl/…" (mode 0600)')
            text = _parameter_text(value)
            if text is None:
                table.error((key,), f"{key} must be a string, number, boolean or list of strings", "see docs/FENCING.md and docs/ALERTS.md")
                continue
            if control_character(text.replace("\n", "").replace("\t", "")):
                table.error((key,), f"{key} holds a control character", "it would go to a program or a receiver as it is")
                continue
            parameters.append((key, text))
        return tuple(parameters)

    def _advise(self, settings: BrainSettings) -> None:
        """Warn about what is allowed but weaker than the operator may think."""
        media = {p.medium for p in settings.paths}
        top = self._positions
        if len(media) < 2:
            self._diagnostics.warning(
                top.of(("path", 0)),
                "all heartbeat paths share one medium",
                "add a path on another network or a serial line: one cut cable must not blind both nodes",
            )
        if not settings.references:
            self._diagnostics.warning(
                top.of(("policy",)),
                "no [[reference]]: a node cannot tell its own isolation from the peer's death",
                "add the gateway; without it total silence is UNKNOWN, and nothing is fenced or given up automatically",
            )
        if settings.policy.mode is Mode.STRICT and not settings.fence.enabled:
            self._diagnostics.warning(
                top.of(("policy", "mode")),
                "strict without fencing: every takeover waits for a person",
                'enable [fence] or use mode = "resolve"',
            )
        if not settings.alerts:
            self._diagnostics.warning(top.of(("version",)), "no [[alert]]: nobody will be told", "add at least one receiver")
        if not os.path.isabs(settings.key_file):
            self._diagnostics.error(top.of(("cluster", "key_file")), "key_file must be an absolute path", "write /etc/brainctl/cluster.key")
