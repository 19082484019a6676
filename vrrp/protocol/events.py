"""What can happen to one virtual router. All times in the fields are CLOCK_BOOTTIME nanoseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from vrrp.protocol.packet import Advert, IPAddress
from vrrp.protocol.parameters import InstanceParameters


@dataclass(frozen=True, slots=True)
class Started:
    """The daemon is ready: sockets are open and the interface is known."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The daemon ends or the instance was removed; ``notify`` is the state word for its notify scripts."""

    notify: str = "STOP"


@dataclass(frozen=True, slots=True)
class AdvertReceived:
    """An advert passed every receive check."""

    source: IPAddress
    advert: Advert


@dataclass(frozen=True, slots=True)
class AdvertRepeated:
    """The very advert that was accepted last came again, byte for byte, from the same source."""


@dataclass(frozen=True, slots=True)
class PriorityChanged:
    """Trackers or a reload changed the effective priority (1..254, or 255 for an owner)."""

    priority: int


@dataclass(frozen=True, slots=True)
class FaultRaised:
    """A reason why this instance must not take part, e.g. ``interface eth0 down``."""

    cause: str


@dataclass(frozen=True, slots=True)
class FaultCleared:
    """That reason has gone. The instance leaves FAULT when none is left."""

    cause: str


@dataclass(frozen=True, slots=True)
class LocalAddressChanged:
    """The source address of our adverts; it breaks ties."""

    address: IPAddress | None


@dataclass(frozen=True, slots=True)
class AddressLost:
    """Somebody else removed a virtual address that we should hold."""

    address: IPAddress


@dataclass(frozen=True, slots=True)
class AddressFailed:
    """The kernel refused to add our virtual addresses."""

    error: str


@dataclass(frozen=True, slots=True)
class ParametersChanged:
    """A reload. VRID and family do not change this way: that is another instance."""

    parameters: InstanceParameters


@dataclass(frozen=True, slots=True)
class AdvertUnsent:
    """The kernel let no copy of our last advert leave: a firewall rule in OUTPUT (EPERM), no route, no buffers."""

    error: str


@dataclass(frozen=True, slots=True)
class AdvertSentAgain:
    """After that, something left again: an advert, or a probe."""


@dataclass(frozen=True, slots=True)
class ProcessStalled:
    """This process did not run for ``stalled_ns``; what it believes about silence is worth nothing."""

    stalled_ns: int


@dataclass(frozen=True, slots=True)
class TakeoverGranted:
    """The watcher allows BACKUP to MASTER until ``expires_ns`` or a request to yield. A grant with a lower epoch than an earlier one
    is void; a request to yield starts the count anew."""

    epoch: int
    expires_ns: int


@dataclass(frozen=True, slots=True)
class YieldRequested:
    """The watcher asks us to hold no address until ``until_ns``."""

    until_ns: int


@dataclass(frozen=True, slots=True)
class YieldCancelled:
    """The request to yield is withdrawn."""


@dataclass(frozen=True, slots=True)
class AdvertBridged:
    """The watcher's paths say that the peer really sent an advert ``age_ns`` ago; good for ``valid_ns`` from now. ``priority`` 0: what
    was bridged before counts for nothing any more (the peer let go, or is less fit than this node)."""

    priority: int
    source: IPAddress | None
    age_ns: int
    valid_ns: int


@dataclass(frozen=True, slots=True)
class AdvertOutdated:
    """An authentic advert whose AH number was used already: a second MASTER that counts behind us after a split, or a replay."""

    source: IPAddress
    advert: Advert


@dataclass(frozen=True, slots=True)
class AnnounceRequested:
    """The watcher or operator wants the holder's gratuitous ARPs now."""


@dataclass(frozen=True, slots=True)
class PromotedByGroup:
    """Every member of the sync group wants MASTER."""


@dataclass(frozen=True, slots=True)
class DemotedByGroup:
    """A member of the sync group went to BACKUP."""


InstanceEvent: TypeAlias = (
    Started
    | Stopped
    | AdvertReceived
    | AdvertRepeated
    | AdvertOutdated
    | PriorityChanged
    | FaultRaised
    | FaultCleared
    | LocalAddressChanged
    | AddressLost
    | AddressFailed
    | ParametersChanged
    | AdvertUnsent
    | AdvertSentAgain
    | ProcessStalled
    | TakeoverGranted
    | YieldRequested
    | YieldCancelled
    | AdvertBridged
    | AnnounceRequested
    | PromotedByGroup
    | DemotedByGroup
)
