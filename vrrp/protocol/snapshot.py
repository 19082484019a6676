"""PURE: the state of one virtual router for people and programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vrrp.protocol.states import Counters, Timer

if TYPE_CHECKING:
    from base.core import JsonValue
    from vrrp.protocol.instance import VrrpInstance


def snapshot_of(instance: VrrpInstance, timers: Mapping[Timer, int]) -> JsonValue:
    """The whole state as JSON; times are CLOCK_BOOTTIME ns."""
    master = instance.master
    return {
        "name": instance.parameters.name,
        "vrid": instance.parameters.vrid,
        "family": int(instance.parameters.family),
        "version": instance.parameters.version,
        "state": instance.state.value,
        "since_ns": instance.since_ns,
        "reason": instance.reason,
        "base_priority": instance.parameters.priority,
        "priority": instance.priority,
        "advert_interval_ms": instance.parameters.interval_ns // 1_000_000,
        "master_interval_ms": instance.master_interval_ns // 1_000_000,
        "master": None if master is None else {"address": str(master.source), "priority": master.priority},
        "last_heard_ns": instance.last_heard_ns,
        "local_address": None if instance.local_address is None else str(instance.local_address),
        "addresses": [str(address) for address in instance.parameters.addresses],
        "faults": list(instance.faults),
        "unsent_in_a_row": instance.unsent_in_a_row,
        "wants_master": instance.wants_master,
        "gate": "closed" if instance.gate_closed else "open",
        "waiting_for_fence": instance.waiting_for_fence,
        "grant": {"epoch": instance.grant_epoch, "expires_ns": instance.grant_expires_ns},
        "yield_until_ns": timers.get(Timer.YIELD_END),
        "timers": {timer.value: timers[timer] for timer in Timer if timer in timers},
        "counters": {name: getattr(instance.counters, name) for name in Counters.__slots__},
    }
