"""States, timers and counters of one virtual router. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from vrrp.protocol.packet import IPAddress


class State(Enum):
    """RFC 5798 section 6.3 and keepalived's FAULT."""

    INIT = "INIT"
    BACKUP = "BACKUP"
    MASTER = "MASTER"
    FAULT = "FAULT"


class Timer(Enum):
    """Everything a virtual router waits for. Timers due at the same instant fire in this order."""

    STARTUP = "startup"
    ADVERT = "advert"
    YIELD_END = "yield_end"
    PREEMPT_DELAY = "preempt_delay"
    MASTER_DOWN = "master_down"
    FAULT_RETRY = "fault_retry"
    EGRESS_PROBE = "egress_probe"
    RESTORE = "restore"
    GARP_AGAIN = "garp_again"
    GARP_LOWER_AGAIN = "garp_lower_again"
    REANNOUNCE = "reannounce"
    GARP_REFRESH = "garp_refresh"
    GARP_EXTRA = "garp_extra"


@dataclass(slots=True)
class Counters:
    """What keepalived's statistics count, and what it forgets."""

    adverts_sent: int = 0
    adverts_unsent: int = 0
    adverts_received: int = 0
    become_master: int = 0
    release_master: int = 0
    priority_zero_sent: int = 0
    priority_zero_received: int = 0
    lower_priority_heard: int = 0
    addresses_differ: int = 0
    strangers_heard: int = 0
    """Adverts for our VRID that were not believed: of unknown routers with other addresses."""
    adverts_bridged: int = 0
    addresses_restored: int = 0


@dataclass(frozen=True, slots=True)
class Master:
    """The MASTER that this instance believes in, from its last accepted advert."""

    source: IPAddress
    priority: int
