"""``lvs_sync_daemon``: which of IPVS's connection synchronisation daemons shall run. PURE.

As keepalived: with a VRRP instance the node sends while it is MASTER and receives otherwise; without one it does both all the time.
The sync id is the one in the file, else the instance's virtual_router_id, else 0 (all).
"""

from __future__ import annotations

from collections.abc import Container

from vrrp.config.model.configuration import VrrpConfig
from vrrp.lvs.ipvs.values import SyncDaemon, SyncRole


def wanted_daemons(config: VrrpConfig, masters: Container[str]) -> tuple[SyncDaemon, ...]:
    """``masters``: names of the instances that are MASTER now."""
    given = config.global_defs.lvs.sync_daemon
    if given is None:
        return ()
    instance = config.instance(given.instance) if given.instance else None
    sync_id = given.sync_id if given.sync_id is not None else 0 if instance is None else instance.vrid
    if not given.instance:
        roles: tuple[SyncRole, ...] = (SyncRole.MASTER, SyncRole.BACKUP)
    else:
        roles = (SyncRole.MASTER if given.instance in masters else SyncRole.BACKUP,)
    return tuple(SyncDaemon(role, given.interface, sync_id, given.max_length, given.group, given.port, given.ttl) for role in roles)
