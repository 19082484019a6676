"""Between the pure model (``vrrp.lvs.model.desired``) and IPVS's netlink attributes. No I/O here.

The kernel wants every field of a service or destination at NEW and SET, and only its key at DEL. Fields that mean nothing for a
forwarding method are sent as zero and read as their defaults, so that equal things compare equal.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

from vrrp.lvs.ipvs.messages import Attributes, Nest
from vrrp.lvs.ipvs.values import Counters, DestinationStatistics, SyncDaemon, SyncRole
from vrrp.lvs.model.desired import Destination, DestinationKey, Service, ServiceKey
from vrrp.lvs.model.settings import Forwarding, Method, Transport, TunnelChecksum, TunnelType

FLAG_PERSISTENT = 0x01
FLAG_ONE_PACKET = 0x04
SCHEDULER_FLAGS_SHIFT = 3
SCHEDULER_FLAGS_MASK = 0x07
ALL_FLAGS = 0xFFFFFFFF

FWD_MASK = 0x07
_FWD_METHODS = {Method.NAT: 0, Method.TUNNEL: 2, Method.DIRECT: 3}
_METHODS = {number: method for method, number in _FWD_METHODS.items()}
_TUNNEL_NUMBERS = {TunnelType.IPIP: 0, TunnelType.GUE: 1, TunnelType.GRE: 2}
_TUNNELS = {number: tunnel for tunnel, number in _TUNNEL_NUMBERS.items()}
_CHECKSUM_BITS = {TunnelChecksum.NONE: 0, TunnelChecksum.FULL: 1, TunnelChecksum.REMOTE: 2}
_CHECKSUMS = {bits: checksum for checksum, bits in _CHECKSUM_BITS.items()}

_ADDRESS_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_FAMILIES = {int(number): family for family, number in _ADDRESS_FAMILIES.items()}

FOREIGN = -1
"""A weight or prefix that no configuration has: what cannot be said in our terms differs from all that is wanted, and is set anew."""


# ---- addresses and masks ---------------------------------------------------------------------------------------------------------------


def address_bytes(address: str) -> bytes:
    """``union nf_inet_addr``: 16 bytes, IPv4 in the first four."""
    return ip_address(address).packed.ljust(16, b"\0")


def address_text(family: int, raw: bytes) -> str:
    """The address in ``union nf_inet_addr``; ``family`` 4 or 6."""
    return str(IPv4Address(raw[:4]) if family == 4 else IPv6Address(raw[:16]))


def netmask_bytes(family: int, prefix: int) -> bytes:
    """IPv4: the mask in network order. IPv6: the length as an integer of this host."""
    if family == 6:
        return struct.pack("=I", prefix)
    return struct.pack("!I", (0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF)


def prefix_of(family: int, raw: bytes) -> int:
    """The prefix length of a netmask; FOREIGN for an IPv4 mask with holes."""
    if family == 6:
        return int(struct.unpack("=I", raw[:4])[0])
    prefix = int.from_bytes(raw[:4], "big").bit_count()
    return prefix if netmask_bytes(4, prefix) == raw[:4] else FOREIGN


# ---- to the kernel ---------------------------------------------------------------------------------------------------------------------


def service_key_attributes(key: ServiceKey) -> Attributes:
    """Which service."""
    family = ("IPVS_SVC_ATTR_AF", int(_ADDRESS_FAMILIES[key.family]))
    if key.fwmark:
        return [family, ("IPVS_SVC_ATTR_FWMARK", key.fwmark)]
    return [
        family,
        ("IPVS_SVC_ATTR_PROTOCOL", key.transport),
        ("IPVS_SVC_ATTR_ADDR", address_bytes(key.address)),
        ("IPVS_SVC_ATTR_PORT", key.port),
    ]


def service_attributes(key: ServiceKey, service: Service) -> Attributes:
    """Which service, and all that is configured of it."""
    flags = service.scheduler_flags << SCHEDULER_FLAGS_SHIFT
    if service.persistence_timeout_s:
        flags |= FLAG_PERSISTENT
    if service.one_packet:
        flags |= FLAG_ONE_PACKET
    engine: Attributes = [("IPVS_SVC_ATTR_PE_NAME", service.engine)] if service.engine else []
    return [
        *service_key_attributes(key),
        ("IPVS_SVC_ATTR_SCHED_NAME", service.scheduler),
        *engine,
        ("IPVS_SVC_ATTR_FLAGS", struct.pack("=II", flags, ALL_FLAGS)),
        ("IPVS_SVC_ATTR_TIMEOUT", service.persistence_timeout_s),
        ("IPVS_SVC_ATTR_NETMASK", netmask_bytes(key.family, service.prefix)),
    ]


def destination_key_attributes(key: DestinationKey) -> Attributes:
    """Which destination of a service."""
    return [
        ("IPVS_DEST_ATTR_ADDR_FAMILY", int(_ADDRESS_FAMILIES[key.family])),
        ("IPVS_DEST_ATTR_ADDR", address_bytes(key.address)),
        ("IPVS_DEST_ATTR_PORT", key.port),
    ]


def destination_attributes(key: DestinationKey, destination: Destination) -> Attributes:
    """Which destination, and all that is configured of it."""
    forwarding = canonical(destination.forwarding)
    return [
        *destination_key_attributes(key),
        ("IPVS_DEST_ATTR_FWD_METHOD", _FWD_METHODS[forwarding.method]),
        ("IPVS_DEST_ATTR_WEIGHT", destination.weight),
        ("IPVS_DEST_ATTR_U_THRESH", destination.upper_threshold),
        ("IPVS_DEST_ATTR_L_THRESH", destination.lower_threshold),
        ("IPVS_DEST_ATTR_TUN_TYPE", _TUNNEL_NUMBERS[forwarding.tunnel]),
        ("IPVS_DEST_ATTR_TUN_PORT", forwarding.port),
        ("IPVS_DEST_ATTR_TUN_FLAGS", _CHECKSUM_BITS[forwarding.checksum]),
    ]


def daemon_attributes(daemon: SyncDaemon) -> Attributes:
    """A sync daemon to start."""
    attributes: Attributes = [
        ("IPVS_DAEMON_ATTR_STATE", int(daemon.role)),
        ("IPVS_DAEMON_ATTR_MCAST_IFN", daemon.interface),
        ("IPVS_DAEMON_ATTR_SYNC_ID", daemon.sync_id),
    ]
    if daemon.max_length:
        attributes.append(("IPVS_DAEMON_ATTR_SYNC_MAXLEN", daemon.max_length))
    if daemon.group is not None:
        attributes.append((f"IPVS_DAEMON_ATTR_MCAST_GROUP{'6' if daemon.group.version == 6 else ''}", daemon.group.packed))
    if daemon.port:
        attributes.append(("IPVS_DAEMON_ATTR_MCAST_PORT", daemon.port))
    if daemon.ttl:
        attributes.append(("IPVS_DAEMON_ATTR_MCAST_TTL", daemon.ttl))
    return attributes


def canonical(forwarding: Forwarding) -> Forwarding:
    """Without the tunnel options that do not count: tunnels only, the port for GUE only, the checksum not for IPIP."""
    if forwarding.method is not Method.TUNNEL:
        return Forwarding(forwarding.method)
    if forwarding.tunnel is TunnelType.IPIP:
        return Forwarding(Method.TUNNEL)
    port = forwarding.port if forwarding.tunnel is TunnelType.GUE else 0
    return Forwarding(Method.TUNNEL, forwarding.tunnel, port, forwarding.checksum)


# ---- from the kernel: a ``Nest`` is one attribute of a dump ------------------------------------------------------------


def read_service(nest: Nest) -> tuple[ServiceKey, Service]:
    """A service of a dump."""
    family = _FAMILIES[nest.get_attr("IPVS_SVC_ATTR_AF")]
    fwmark = nest.get_attr("IPVS_SVC_ATTR_FWMARK")
    if fwmark:
        key = ServiceKey(family, fwmark)
    else:
        address = address_text(family, nest.get_attr("IPVS_SVC_ATTR_ADDR"))
        key = ServiceKey(family, 0, nest.get_attr("IPVS_SVC_ATTR_PROTOCOL"), address, nest.get_attr("IPVS_SVC_ATTR_PORT"))
    flags, _ = struct.unpack("=II", nest.get_attr("IPVS_SVC_ATTR_FLAGS")[:8])
    service = Service(
        scheduler=nest.get_attr("IPVS_SVC_ATTR_SCHED_NAME") or "",
        scheduler_flags=flags >> SCHEDULER_FLAGS_SHIFT & SCHEDULER_FLAGS_MASK,
        one_packet=bool(flags & FLAG_ONE_PACKET),
        persistence_timeout_s=nest.get_attr("IPVS_SVC_ATTR_TIMEOUT") if flags & FLAG_PERSISTENT else 0,
        prefix=prefix_of(family, nest.get_attr("IPVS_SVC_ATTR_NETMASK")),
        engine=nest.get_attr("IPVS_SVC_ATTR_PE_NAME") or "",
    )
    return key, service


def read_destination(nest: Nest, service_family: int) -> tuple[DestinationKey, Destination]:
    """A destination of a dump. Kernels before 3.18 say no family: it is that of the service."""
    number = nest.get_attr("IPVS_DEST_ATTR_ADDR_FAMILY")
    family = _FAMILIES.get(number, service_family)
    key = DestinationKey(family, address_text(family, nest.get_attr("IPVS_DEST_ATTR_ADDR")), nest.get_attr("IPVS_DEST_ATTR_PORT"))
    method = _METHODS.get(nest.get_attr("IPVS_DEST_ATTR_FWD_METHOD") & FWD_MASK)
    tunnel = _TUNNELS.get(nest.get_attr("IPVS_DEST_ATTR_TUN_TYPE") or 0)
    checksum = _CHECKSUMS.get(nest.get_attr("IPVS_DEST_ATTR_TUN_FLAGS") or 0)
    if method is None or tunnel is None or checksum is None:
        return key, Destination(FOREIGN)
    destination = Destination(
        weight=nest.get_attr("IPVS_DEST_ATTR_WEIGHT"),
        forwarding=canonical(Forwarding(method, tunnel, nest.get_attr("IPVS_DEST_ATTR_TUN_PORT") or 0, checksum)),
        upper_threshold=nest.get_attr("IPVS_DEST_ATTR_U_THRESH"),
        lower_threshold=nest.get_attr("IPVS_DEST_ATTR_L_THRESH"),
    )
    return key, destination


def read_counters(nest: Nest | None) -> Counters:
    """IPVS_STATS_ATTR_*; zeros where the kernel said nothing (before 4.1)."""
    if nest is None:
        return Counters()
    names = ("CONNS", "INPKTS", "OUTPKTS", "INBYTES", "OUTBYTES", "CPS", "INPPS", "OUTPPS", "INBPS", "OUTBPS")
    return Counters(*(nest.get_attr(f"IPVS_STATS_ATTR_{name}") or 0 for name in names))


def read_destination_statistics(nest: Nest) -> DestinationStatistics:
    """Counters and connections of a destination of a dump."""
    return DestinationStatistics(
        read_counters(nest.get_attr("IPVS_DEST_ATTR_STATS64")),
        nest.get_attr("IPVS_DEST_ATTR_ACTIVE_CONNS"),
        nest.get_attr("IPVS_DEST_ATTR_INACT_CONNS"),
        nest.get_attr("IPVS_DEST_ATTR_PERSIST_CONNS"),
    )


def read_daemon(nest: Nest) -> SyncDaemon:
    """A running sync daemon."""
    group6, group4 = nest.get_attr("IPVS_DAEMON_ATTR_MCAST_GROUP6"), nest.get_attr("IPVS_DAEMON_ATTR_MCAST_GROUP")
    group = IPv6Address(group6[:16]) if group6 else IPv4Address(group4[:4]) if group4 else None
    return SyncDaemon(
        SyncRole(nest.get_attr("IPVS_DAEMON_ATTR_STATE")),
        nest.get_attr("IPVS_DAEMON_ATTR_MCAST_IFN"),
        nest.get_attr("IPVS_DAEMON_ATTR_SYNC_ID"),
        nest.get_attr("IPVS_DAEMON_ATTR_SYNC_MAXLEN") or 0,
        group,
        nest.get_attr("IPVS_DAEMON_ATTR_MCAST_PORT") or 0,
        nest.get_attr("IPVS_DAEMON_ATTR_MCAST_TTL") or 0,
    )


def describe_service(key: ServiceKey) -> str:
    """For the operator: ``192.0.2.1:80 tcp``, ``[2001:db8::1]:53 udp``, ``fwmark 5 IPv6``."""
    if key.fwmark:
        return f"fwmark {key.fwmark}{' IPv6' if key.family == 6 else ''}"
    host = f"[{key.address}]" if key.family == 6 else key.address
    return f"{host}:{key.port} {Transport(key.transport).name.lower()}"


def describe_destination(key: DestinationKey) -> str:
    """For the operator: ``10.0.0.1:80``."""
    return f"[{key.address}]:{key.port}" if key.family == 6 else f"{key.address}:{key.port}"
