"""The whole of keepalived.conf."""

from __future__ import annotations

from dataclasses import dataclass, field

from base.diagnostics import Position
from vrrp.config.model.addresses import VirtualAddress
from vrrp.config.model.common import NOWHERE
from vrrp.config.model.daemon import DEFAULT_DAEMON, DEFAULT_GLOBALS, DaemonSettings, GlobalDefs, SslSettings
from vrrp.config.model.instance import GarpGroup, SyncGroup, VrrpInstance
from vrrp.config.model.links import VirtualLink
from vrrp.config.model.routing import Route, Rule
from vrrp.config.model.services import VirtualServer, VirtualServerGroup
from vrrp.config.model.tracking import BfdInstance, TrackFile, TrackProcess, VrrpScript


@dataclass(frozen=True, slots=True)
class TrackGroup:
    """``track_group NAME``: the instances that go to FAULT while an interface of a static entry of this group is down or gone, or the
    kernel refuses the entry."""

    name: str
    members: tuple[str, ...]
    position: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class VrrpConfig:
    """Everything that one run of the reader understood, in the order of the file. Names are unique per kind."""

    daemon: DaemonSettings = DEFAULT_DAEMON
    global_defs: GlobalDefs = DEFAULT_GLOBALS
    instances: tuple[VrrpInstance, ...] = ()
    sync_groups: tuple[SyncGroup, ...] = ()
    scripts: tuple[VrrpScript, ...] = ()
    track_files: tuple[TrackFile, ...] = ()
    track_processes: tuple[TrackProcess, ...] = ()
    track_groups: tuple[TrackGroup, ...] = ()
    bfd_instances: tuple[BfdInstance, ...] = ()
    garp_groups: tuple[GarpGroup, ...] = ()
    static_addresses: tuple[VirtualAddress, ...] = ()
    static_routes: tuple[Route, ...] = ()
    static_rules: tuple[Rule, ...] = ()
    virtual_servers: tuple[VirtualServer, ...] = ()
    virtual_server_groups: tuple[VirtualServerGroup, ...] = ()
    ssl: SslSettings | None = None
    links: tuple[VirtualLink, ...] = ()
    """Not from the file: ``vrrp.placement`` makes them of use_vmac, use_vmac_addr and use_ipvlan."""

    def instance(self, name: str) -> VrrpInstance | None:
        """The instance called ``name``."""
        return next((i for i in self.instances if i.name == name), None)

    def script(self, name: str) -> VrrpScript | None:
        """The vrrp_script called ``name``."""
        return next((s for s in self.scripts if s.name == name), None)
