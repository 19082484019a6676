"""watch.toml → WatchSettings: the pairs that ``braind --watch-only`` judges from a third host; every error with line and remedy."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, replace
from typing import Any

from alerts.routing.settings import Receiver
from base.diagnostics import ConfigError, Diagnostic, Diagnostics, Position
from base.toml_limits import excess
from base.toml_positions import Positions, locate
from fencing.plan.settings import FenceSettings
from vrrp.config.model.instance import VrrpInstance
from watchdog.config.load import MAX_FILE_BYTES, Loader, toml_position
from watchdog.config.model import (
    BrainSettings,
    GateSettings,
    GroupSettings,
    LinkAddress,
    NodeSettings,
    PolicySettings,
)
from watchdog.config.table_reader import TableReader, show
from watchdog.groups import groups_of, read_groups

MAX_PAIRS = 64


@dataclass(frozen=True, slots=True)
class WatchedNode:
    """One node of a watched pair. ``macs`` given by hand are the only ones believed; without them those that answer for ``addresses``."""

    name: str
    addresses: tuple[str, ...]
    macs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WatchedPair:
    """``[[watch]]``: ``groups`` as in a copy of the pair's keepalived.conf, with the interfaces of *this* host; ``instances`` are the same
    for the sniffer. ``references``: hosts on the LAN of each interface that tell a dead pair from our own dead cable."""

    cluster: str
    nodes: tuple[WatchedNode, WatchedNode]
    groups: tuple[GroupSettings, ...]
    instances: tuple[VrrpInstance, ...]
    references: tuple[LinkAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """The whole of watch.toml. ``name`` is this host's in pages and in the record."""

    name: str
    policy: PolicySettings
    pairs: tuple[WatchedPair, ...]
    alerts: tuple[Receiver, ...]

    def as_owner(self) -> BrainSettings:
        """What recorder and delivery need to know of whom they serve: a name and the receivers. There is no peer and nothing to fence."""
        nobody = NodeSettings("", 2)
        return BrainSettings(
            self.name,
            "",
            self.name,
            (NodeSettings(self.name, 1), nobody),
            self.policy,
            GateSettings(),
            (),
            (),
            FenceSettings(),
            self.alerts,
        )


@dataclass(frozen=True, slots=True)
class LoadedWatch:
    """The settings and what the operator should read about them."""

    settings: WatchSettings
    diagnostics: tuple[Diagnostic, ...]


def load_watch(path: str) -> LoadedWatch:
    """Read and check watch.toml and the copies of keepalived.conf that it names; raises ConfigError with every error."""
    diagnostics = Diagnostics()
    try:
        with open(path, "rb") as f:
            text = f.read(MAX_FILE_BYTES + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        diagnostics.error(Position(path), f"cannot be read: {error}", "docs/WITNESS.md has an example")
        raise ConfigError(diagnostics) from None
    too_much = excess(text)
    if len(text) > MAX_FILE_BYTES or too_much is not None:
        diagnostics.error(Position(path), "is no configuration: too large or nested too deep", "docs/WITNESS.md has an example")
        raise ConfigError(diagnostics)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        diagnostics.error(toml_position(path, text, str(error)), f"not TOML: {error}", "mend the syntax at this place")
        raise ConfigError(diagnostics) from None
    settings = _WatchLoader(data, locate(path, text), diagnostics).watch()
    diagnostics.raise_if_errors()
    return LoadedWatch(settings, tuple(diagnostics))


class _WatchLoader(Loader):
    def __init__(self, data: dict[str, Any], positions: Positions, diagnostics: Diagnostics) -> None:
        super().__init__(data, positions, diagnostics)

    def watch(self) -> WatchSettings:
        top = self._top
        if top.integer("version", 0, 0, 1 << 31) != 1:
            top.error(("version",), "version must be 1", "write version = 1 as the first line")
        settings = WatchSettings(
            name=top.string("name"),
            policy=self._policy(),
            pairs=tuple(pair for table in self._tables(top, "watch", MAX_PAIRS) if (pair := self._pair(table)) is not None),
            alerts=self._alerts(),
        )
        if "watch" not in top:
            top.error((), "no [[watch]]: no pair to look at", "add one for each pair")
        clusters = [pair.cluster for pair in settings.pairs]
        if len(set(clusters)) != len(clusters):
            top.error(("watch",), "two pairs have the same cluster name", "name each as its brain.toml does")
        top.finish()
        return settings

    def _pair(self, table: TableReader) -> WatchedPair | None:
        cluster, config = table.string("cluster"), table.string("config")
        nodes = self._watched_nodes(table)
        renamed = table.take("interfaces") or {}
        if not isinstance(renamed, dict) or not all(isinstance(v, str) and v for v in renamed.values()):
            table.error(("interfaces",), f"interfaces is {show(renamed)}", 'write interfaces = { eth0 = "ens3" }: theirs = ours')
            renamed = {}
        references = table.strings("references")
        for address in references:
            table.check_ip(("references",), address)
        table.finish()
        if not config:
            return None
        if not os.path.isabs(config):
            table.error(("config",), "config must be an absolute path", "a copy of one node's keepalived.conf on this host")
            return None
        try:
            loaded = read_groups(config, tolerant=True)
        except ConfigError as error:
            for diagnostic in error.diagnostics:
                table.error(("config",), str(diagnostic), "copy one node's keepalived.conf to this host")
            return None
        instances = tuple(_on_this_host(i, renamed) for i in loaded.config.instances)
        groups = groups_of(replace(loaded.config, instances=instances))
        if not groups:
            table.error(("config",), f"{config} has no vrrp_instance", "copy one node's keepalived.conf to this host")
        links = list(dict.fromkeys(link for group in groups for link in group.links))
        return WatchedPair(cluster, nodes, groups, instances, tuple(LinkAddress(i, a) for a in references for i in links))

    def _watched_nodes(self, table: TableReader) -> tuple[WatchedNode, WatchedNode]:
        tables = table.take("node")
        found: list[WatchedNode] = []
        for name, data in tables.items() if isinstance(tables, dict) else ():
            node = self._table(data, (*table.path, "node", name))
            addresses = tuple(node.check_ip(("addresses",), a) for a in node.strings("addresses"))
            macs = tuple(m.lower() for m in node.strings("macs"))
            if not addresses:
                node.error(
                    (), f"node {name} has no addresses", 'write addresses = ["…"]: its own on the watched LANs, not the virtual ones'
                )
            for mac in macs:
                if len(mac) != 17 or any(len(p) != 2 or not set(p) <= set("0123456789abcdef") for p in mac.split(":")):
                    node.error(("macs",), f"{show(mac)} is no link-layer address", 'write macs = ["02:00:00:00:00:01"]')
            node.finish()
            found.append(WatchedNode(name, addresses, macs))
        if len(found) != 2:
            table.error(("node",), f"{len(found)} nodes are named, a pair has two", "write [watch.node.NAME] for each of the two")
            return WatchedNode("?", ()), WatchedNode("??", ())
        return found[0], found[1]


def _on_this_host(instance: VrrpInstance, renamed: dict[str, str]) -> VrrpInstance:
    """The instance with the interfaces of this host; addresses on an interface of their own move with it."""

    def here(name: str) -> str:
        return renamed.get(name, name)

    return replace(
        instance,
        interface=here(instance.interface),
        addresses=tuple(replace(a, interface=here(a.interface)) for a in instance.addresses),
        excluded_addresses=tuple(replace(a, interface=here(a.interface)) for a in instance.excluded_addresses),
    )
