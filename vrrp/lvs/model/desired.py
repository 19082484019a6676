"""PURE: the table of IPVS as a value, and what must change to get from one table to another.

A ``Table`` says all that ``ipvsadm -Sn`` would. Changes are ordered so that a service never loses its last server before
the next one is there: services, then new and changed destinations, then removals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from vrrp.config.model.common import Family, IpAddress
from vrrp.lvs.model.settings import PLAIN_NAT, Forwarding, Listen, Method, Transport, VirtualServerSettings


@dataclass(frozen=True, slots=True, order=True)
class ServiceKey:
    """Identity of a service in the kernel: a firewall mark, or transport, address and port. ``family``: 4 or 6."""

    family: int
    fwmark: int = 0
    transport: int = 0
    address: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """A service without its destinations. ``prefix`` as in persistence_granularity; ``scheduler_flags``: 1, 2, 4."""

    scheduler: str
    scheduler_flags: int = 0
    one_packet: bool = False
    persistence_timeout_s: int = 0
    prefix: int = 32
    engine: str = ""


@dataclass(frozen=True, slots=True, order=True)
class DestinationKey:
    """Identity of a destination within its service."""

    family: int
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Destination:
    """What is configured of one destination."""

    weight: int
    forwarding: Forwarding = PLAIN_NAT
    upper_threshold: int = 0
    lower_threshold: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One service with its destinations."""

    service: Service
    destinations: Mapping[DestinationKey, Destination] = field(default_factory=dict)


Table: TypeAlias = "Mapping[ServiceKey, Entry]"


@dataclass(frozen=True, slots=True)
class AddService:
    """Make a service."""

    key: ServiceKey
    service: Service


@dataclass(frozen=True, slots=True)
class EditService:
    """Change a service that is there."""

    key: ServiceKey
    service: Service


@dataclass(frozen=True, slots=True)
class RemoveService:
    """Remove a service with all its destinations."""

    key: ServiceKey


@dataclass(frozen=True, slots=True)
class AddDestination:
    """Add a destination."""

    key: ServiceKey
    destination: DestinationKey
    value: Destination


@dataclass(frozen=True, slots=True)
class EditDestination:
    """Change a destination that is there."""

    key: ServiceKey
    destination: DestinationKey
    value: Destination


@dataclass(frozen=True, slots=True)
class DropDestination:
    """Remove a destination."""

    key: ServiceKey
    destination: DestinationKey


Change: TypeAlias = "AddService | EditService | RemoveService | AddDestination | EditDestination | DropDestination"


def service_key(listen: Listen, transport: Transport) -> ServiceKey:
    """The kernel's identity of one listening point."""
    if listen.fwmark:
        return ServiceKey(int(listen.family), listen.fwmark)
    return ServiceKey(int(listen.family), 0, int(transport), str(listen.address), listen.port)


def service_of(settings: VirtualServerSettings, listen: Listen) -> Service:
    """The kernel's view of a virtual server's own options."""
    full = 32 if listen.family is Family.IPV4 else 128
    prefix = full if settings.persistence_prefix is None else min(full, settings.persistence_prefix)
    return Service(
        settings.scheduler,
        settings.scheduler_flags,
        settings.one_packet,
        settings.persistence_timeout_s,
        prefix,
        settings.persistence_engine,
    )


def destination_key(listen: Listen, address: IpAddress, port: int, forwarding: Forwarding) -> DestinationKey:
    """The kernel's identity of a server behind ``listen``: only NAT can change the port."""
    own = port if forwarding.method is Method.NAT and port else listen.port
    return DestinationKey(address.version, str(address), own)


def united(entries: Iterable[Entry]) -> Entry:
    """What several virtual servers make of one kernel service, as keepalived: options of the first block, the servers of all; of a server
    that is in two of them the first one counts."""
    first, *others = entries
    destinations = dict(first.destinations)
    for entry in others:
        for key, value in entry.destinations.items():
            destinations.setdefault(key, value)
    return Entry(first.service, destinations)


def diff(desired: Table, actual: Table) -> tuple[Change, ...]:
    """The changes that turn ``actual`` into ``desired``, in the order of execution."""
    services: list[Change] = []
    additions: list[Change] = []
    removals: list[Change] = []
    for key in sorted(desired):
        wanted, present = desired[key], actual.get(key)
        if present is None:
            services.append(AddService(key, wanted.service))
        elif present.service != wanted.service:
            services.append(EditService(key, wanted.service))
        there: Mapping[DestinationKey, Destination] = {} if present is None else present.destinations
        for target in sorted(wanted.destinations):
            value = wanted.destinations[target]
            if target not in there:
                additions.append(AddDestination(key, target, value))
            elif there[target] != value:
                additions.append(EditDestination(key, target, value))
        removals += [DropDestination(key, target) for target in sorted(there) if target not in wanted.destinations]
    removals += [RemoveService(key) for key in sorted(actual) if key not in desired]
    return (*services, *additions, *removals)


def apply(table: Table, changes: Iterable[Change]) -> dict[ServiceKey, Entry]:
    """What the kernel's table is after ``changes``. Raises KeyError or ValueError where the kernel answers ENOENT or EEXIST."""
    result = {key: Entry(entry.service, dict(entry.destinations)) for key, entry in table.items()}
    for change in changes:
        match change:
            case AddService(key, service):
                if key in result:
                    raise ValueError(f"{key} exists")
                result[key] = Entry(service, {})
            case EditService(key, service):
                result[key] = Entry(service, result[key].destinations)
            case RemoveService(key):
                del result[key]
            case AddDestination(key, target, value):
                if target in result[key].destinations:
                    raise ValueError(f"{target} exists")
                result[key] = Entry(result[key].service, {**result[key].destinations, target: value})
            case EditDestination(key, target, value):
                if target not in result[key].destinations:
                    raise KeyError(target)
                result[key] = Entry(result[key].service, {**result[key].destinations, target: value})
            case DropDestination(key, target):
                rest = dict(result[key].destinations)
                del rest[target]
                result[key] = Entry(result[key].service, rest)
    return result
