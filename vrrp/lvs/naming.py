"""PURE: what virtual servers are called in the log, in FIFOs, on the command line and between VRRP and checkers; as keepalived has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from vrrp.config.model.common import Family
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.services import Settings, VirtualServer, VirtualServerGroup
from vrrp.lvs.model.settings import Transport


def transport_of(server: VirtualServer, groups: Iterable[VirtualServerGroup]) -> Transport:
    """NONE if there are only firewall marks; a protocol that is not said is UDP."""
    if server.listen is not None:
        members = [server.listen]
    else:
        members = [member for group in groups if group.name == server.group for member in group.members]
    if members and all(member.fwmark for member in members):
        return Transport.NONE
    given = server.settings.get("protocol")
    return Transport[given] if isinstance(given, str) else Transport.UDP


def mark_family(server: VirtualServer) -> Family:
    """A firewall mark belongs to the family of its (not tunnelled) real servers, else of ``ip_family``."""
    given = server.settings.get("ip_family")
    if isinstance(given, Family):
        return given
    for real in server.real_servers:
        if _method(real.settings, _method(server.settings, "NAT")) != "TUN":
            return Family(real.address.version)
    prefix = server.settings.get("persistence_granularity")
    return Family.IPV6 if isinstance(prefix, int) and prefix > 32 else Family.IPV4


def _method(settings: Settings, default: str) -> str:
    given = next((value for name in ("lb_kind", "lvs_method") if isinstance(value := settings.get(name), tuple)), None)
    return default if given is None else str(given[0])


def service_id_of(config: VrrpConfig, server: VirtualServer) -> str:
    """The name of a virtual server of this file."""
    return service_id(server, transport_of(server, config.virtual_server_groups), mark_family(server))


def service_id(server: VirtualServer, transport: Transport, mark_family: Family) -> str:
    """``[192.0.2.9]:tcp:80``, ``FWM 5``, ``FWM 5 inet6`` or ``GROUP:tcp``. Unique in a file."""
    listen = server.listen
    if listen is None:
        return f"{server.group}:{transport_word(transport)}"
    if listen.fwmark:
        return f"FWM {listen.fwmark}" if (listen.family or mark_family) is Family.IPV4 else f"FWM {listen.fwmark} inet6"
    return f"[{listen.address}]:{transport_word(transport)}:{listen.port}"


def keepalived_names(config: VrrpConfig) -> dict[str, str]:
    """Our names → as keepalived writes them in FIFOs and mail: the virtual servers of a group are ``[GROUP]:0``, ``[GROUP]:1`` … there."""
    used: Counter[str] = Counter()
    names = {}
    for server in config.virtual_servers:
        ours = service_id_of(config, server)
        if server.listen is None:
            names[ours] = f"[{server.group}]:{used[server.group]}"
            used[server.group] += 1
        else:
            names[ours] = ours
    return names


def transport_word(transport: Transport) -> str:
    """As it stands in names."""
    return "none" if transport is Transport.NONE else transport.name.lower()
