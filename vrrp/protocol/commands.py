"""What a virtual router tells the shell to do. The order in which they are returned is the order of execution."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from vrrp.protocol.packet import Advert


@dataclass(frozen=True, slots=True)
class SendAdvert:
    """Send ``advert`` to the group or to every unicast peer. The same object comes again until something changes."""

    instance: str
    advert: Advert


@dataclass(frozen=True, slots=True)
class ProbeEgress:
    """Try whether a packet like our adverts may leave again; nobody may take it for an advert."""

    instance: str


@dataclass(frozen=True, slots=True)
class AddAddresses:
    """Put every address, route and rule of the instance into the kernel. One that is there already is a success."""

    instance: str


@dataclass(frozen=True, slots=True)
class RefitAddresses:
    """A MASTER was reconfigured: bring the kernel from what it holds to what the file says now, without a gap."""

    instance: str


@dataclass(frozen=True, slots=True)
class RemoveAddresses:
    """Take every address, route and rule of the instance out of the kernel. One that is not there is a success."""

    instance: str


@dataclass(frozen=True, slots=True)
class SendGarp:
    """Announce every address of the instance ``repeat`` times by gratuitous ARP (NA for IPv6)."""

    instance: str
    repeat: int


@dataclass(frozen=True, slots=True)
class AnnounceElsewhere:
    """Announce one address once on every interface that the adverts do not leave by (garp_extra_if): switches forget a virtual MAC that
    says nothing."""

    instance: str


@dataclass(frozen=True, slots=True)
class AnnounceSource:
    """Announce the address that unicast adverts come from, once: switches forgot our port with the link (keepalived #1283)."""

    instance: str


@dataclass(frozen=True, slots=True)
class RunNotify:
    """The state changed to ``state`` (MASTER, BACKUP, FAULT, STOP, DELETED): scripts, FIFO, subscribers. ``reason`` is for people."""

    instance: str
    state: str
    priority: int
    reason: str


class ReportKind(Enum):
    """Things worth telling that are not a change of state."""

    LOWER_PRIORITY_MASTER_HEARD = "lower_priority_master_heard"
    ADDRESSES_DIFFER = "addresses_differ"
    STRANGER_HEARD = "stranger_heard"
    PRIORITY_CHANGED = "priority_changed"
    WAITING_FOR_FENCE = "waiting_for_fence"
    WAITING_FOR_GROUP = "waiting_for_group"
    GRANT_ACCEPTED = "grant_accepted"
    GRANT_REFUSED = "grant_refused"
    YIELDING = "yielding"
    YIELD_ENDED = "yield_ended"
    ADVERT_BRIDGED = "advert_bridged"
    ADDRESS_RESTORED = "address_restored"
    ROUTING_RESTORED = "routing_restored"
    ROUTING_REFUSED = "routing_refused"
    INTERFACE_RESTORED = "interface_restored"
    LISTENING_AFTER_STALL = "listening_after_stall"
    UNHEARD = "unheard"
    HEARD_AGAIN = "heard_again"


@dataclass(frozen=True, slots=True)
class Report:
    """Tell log and subscribers."""

    instance: str
    kind: ReportKind
    detail: str


InstanceCommand: TypeAlias = (
    SendAdvert
    | ProbeEgress
    | AddAddresses
    | RefitAddresses
    | RemoveAddresses
    | SendGarp
    | AnnounceElsewhere
    | AnnounceSource
    | RunNotify
    | Report
)
