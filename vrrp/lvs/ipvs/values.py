"""What the kernel knows beside the table of services: counters, sync daemons, timeouts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from vrrp.config.model.common import IpAddress
from vrrp.lvs.model.desired import DestinationKey


@dataclass(frozen=True, slots=True)
class Counters:
    """Totals since the last zero, and rates per second as the kernel estimates them (they lag up to two seconds)."""

    connections: int = 0
    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    connections_per_s: int = 0
    packets_in_per_s: int = 0
    packets_out_per_s: int = 0
    bytes_in_per_s: int = 0
    bytes_out_per_s: int = 0


@dataclass(frozen=True, slots=True)
class DestinationStatistics:
    """Counters of one destination, and its connections now."""

    counters: Counters
    active_connections: int = 0
    inactive_connections: int = 0
    persistent_connections: int = 0


@dataclass(frozen=True, slots=True)
class ServiceStatistics:
    """Counters of one service and of its destinations."""

    counters: Counters
    destinations: Mapping[DestinationKey, DestinationStatistics] = field(default_factory=dict)


class SyncRole(IntEnum):
    """IP_VS_STATE_*: a master sends connections, a backup receives them; both may run at once."""

    MASTER = 1
    BACKUP = 2


@dataclass(frozen=True, slots=True)
class SyncDaemon:
    """``lvs_sync_daemon``. 0 and None leave the kernel's default: 1460 or so bytes, 224.0.0.81, port 8848, TTL 1.

    ``group``: IPv4 or IPv6 multicast address. ``sync_id``: 0..255; a backup with 0 takes all.
    """

    role: SyncRole
    interface: str
    sync_id: int = 0
    max_length: int = 0
    group: IpAddress | None = None
    port: int = 0
    ttl: int = 0

    def is_met_by(self, running: SyncDaemon) -> bool:
        """Whether a daemon of the kernel is the one wanted here; what is left to the kernel may be anything."""
        same = (running.role, running.interface, running.sync_id) == (self.role, self.interface, self.sync_id)
        options = ((self.max_length, running.max_length), (self.group, running.group), (self.port, running.port), (self.ttl, running.ttl))
        return same and all(not wanted or wanted == found for wanted, found in options)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """``lvs_timeouts`` in seconds; 0 leaves what is set."""

    tcp_s: int = 0
    tcp_fin_s: int = 0
    udp_s: int = 0
