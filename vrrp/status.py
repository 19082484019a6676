"""What the vrrp process says about itself: ``status`` on the control socket and the dumps."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from base.channel import JsonObject
from base.clock import boot_id, now_ns
from base.core import NS_PER_MS, NS_PER_US
from vrrp.conversion import group_of
from vrrp.protocol.instance import VrrpInstance
from vrrp.protocol.node import VrrpNode
from vrrp.protocol.states import State
from vrrp.system.endpoint import Endpoint
from vrrp.system.routing import Routing

if TYPE_CHECKING:
    from vrrp.process import VrrpProcess


def _instance_status(instance: VrrpInstance, endpoint: Endpoint, held: list[str], routing: Routing) -> JsonObject:
    snapshot: Any = instance.snapshot()
    model = endpoint.model
    waiting = instance.waiting_for_fence and instance.state is State.BACKUP
    return {
        **snapshot,
        "shown_state": "WAITING_FOR_FENCE" if waiting else instance.state.value,
        "interface": model.interface,
        "master_down_us": instance.master_down_ns() // NS_PER_US,
        "last_word": instance.parameters.higher_prio_send_advert,
        "virtual_interface": model.virtual_interface or None,
        "devices": {str(address.address): address.interface for address in (*model.addresses, *model.excluded_addresses)},
        "virtual_mac": instance.parameters.virtual_mac.hex(":") or None,
        "unicast_peers": [str(peer.address) for peer in model.unicast_peers],
        "multicast_group": None if model.unicast else str(group_of(model)),
        "excluded_addresses": [str(address) for address in model.excluded_addresses],
        "old_checksum": endpoint.old_checksum,
        "held": held,
        "routing": [entry.text for entry in routing.installed.get(model.name, ())],
        "routing_restored": routing.restored[model.name],
        "rejected": {reason.value: count for reason, count in endpoint.rejected.items()},
        "egress_errors": dict(endpoint.egress_errors),
        "hmac": None if endpoint.hmac is None else {"active_key": endpoint.hmac.policy.active_key, "clock_skew_s": endpoint.hmac.skew_s},
    }


def states_of(node: VrrpNode) -> list[list[Any]]:
    """[INSTANCE or GROUP, name, state, priority] of everything that has a state; the members of a group stand for it, as in keepalived's
    FIFO after a reload."""
    alone = [(name, i) for name, i in node.instances.items() if not i.parameters.in_sync_group]
    instances = [["INSTANCE", name, i.state.value, i.priority] for name, i in alone if i.state is not State.INIT]
    return instances + [["GROUP", name, g.state.value, 0] for name, g in node.groups.items() if g.state is not State.INIT]


def process_status(process: VrrpProcess, only: str | None = None) -> JsonObject:
    """Everything, as JSON, or ``only`` one instance. Times ending in ``_ns`` are CLOCK_BOOTTIME; ``now_ns`` and ``boot_id`` place them."""
    node, wiring = process.node, process.wiring
    held: dict[str, list[str]] = {}
    for (_index, address), owner in process.executor.held.items():
        held.setdefault(owner, []).append(str(address))
    instances: list[JsonObject] = []
    if node is not None:
        for name, instance in node.instances.items():
            if only is not None and name != only:
                continue
            instances.append(_instance_status(instance, wiring.endpoints[name], sorted(held.get(name, [])), process.executor.routing))
    rest: Any = {} if node is None else node.snapshot()
    health = process.health
    return {
        "v": 1,
        "daemon": "vrrpd",
        "pid": os.getpid(),
        "now_ns": now_ns(),
        "boot_id": boot_id(),
        "gate": "closed" if process.settings.gate_closed else "open",
        "router_id": wiring.config.global_defs.router_id,
        "instances": instances,
        "groups": rest.get("groups", []),
        "scripts": rest.get("scripts", []),
        "tracked": rest.get("tracked", []),
        "stalls": {"count": health.stalls, "longest_ms": health.longest_stall_ns // NS_PER_MS},
        "polled_links": process.linkbeat.states,
        "links": {name: wiring.links.problems.get(name, "ok") for name in (*wiring.links.live, *wiring.links.problems)},
        "links_restored": wiring.links.restored,
        "packets": {"unknown_vrid": health.unknown_vrids, "unreadable": health.unreadable, "flooded": health.flooded},
    }
