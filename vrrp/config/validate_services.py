"""PURE checks of virtual servers, so that a mistake is seen although nothing acts on them yet.

Where keepalived fills something in or drops a server with a complaint, the finding is a warning.
"""

from __future__ import annotations

from vrrp.config.keyword import Reading
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.services import RealServer, VirtualServer


def validate_services(reading: Reading, config: VrrpConfig) -> None:
    """Report what is wrong with the virtual servers."""
    groups = {group.name for group in config.virtual_server_groups}
    for server in config.virtual_servers:
        if not reading.diagnostics.errors:  # a rejected value would be reported as missing
            _check_defaults(reading, server)
        _check_listen(reading, server)
        _check_real_servers(reading, server)
        if server.group and server.group not in groups:
            message = f"virtual_server names the unknown group {server.group}; keepalived leaves it out"
            reading.warning(server.position, message, f"define it with: virtual_server_group {server.group} {{", "advice")


def _first(server: VirtualServer, *keywords: str) -> object:
    return next((value for keyword in keywords if (value := server.settings.get(keyword)) is not None), None)


def _check_defaults(reading: Reading, server: VirtualServer) -> None:
    is_fwmark = server.listen is not None and server.listen.fwmark
    defaults = (
        (("protocol",), "UDP" if not is_fwmark else "", "protocol TCP"),
        (("lb_algo", "lvs_sched"), "wlc", "lb_algo wlc"),
        (("lb_kind", "lvs_method"), "NAT", "lb_kind NAT"),
    )
    if not server.real_servers:
        reading.warning(
            server.position, f"virtual_server {server} has no real_server and is left out", "add one, or remove the block", "service"
        )
        return
    for keywords, default, remedy in defaults:
        if default and _first(server, *keywords) is None:
            message = f"virtual_server {server} has no {keywords[0]}; {default} is used"
            reading.warning(server.position, message, f"add: {remedy}", "service")


def _check_listen(reading: Reading, server: VirtualServer) -> None:
    listen = server.listen
    if listen is None:
        return
    if listen.fwmark and "protocol" in server.settings:
        message = f"virtual_server {server} has a protocol, which a firewall mark has not"
        reading.warning(server.position, message, "remove the protocol line", "service")
    if not listen.fwmark and not listen.port and "persistence_timeout" not in server.settings:
        message = f"virtual_server {server} has no port, which only works with persistence"
        reading.warning(server.position, message, "add a port or persistence_timeout", "service")
    if "sorry_server_inhibit" in server.settings:
        names = [name for name, _ in server.settings.items]
        if "sorry_server" not in names or names.index("sorry_server") > names.index("sorry_server_inhibit"):
            message = "sorry_server_inhibit before sorry_server has no effect"
            reading.warning(server.position, message, "put it behind sorry_server", "service")


def _check_real_servers(reading: Reading, server: VirtualServer) -> None:
    method = _first(server, "lb_kind", "lvs_method")
    seen: dict[tuple[object, int], RealServer] = {}
    for real in server.real_servers:
        own_method = real.settings.get("lvs_method", method)
        kind = own_method[0] if isinstance(own_method, tuple) else "NAT"
        listen = server.listen
        if listen is not None and listen.address is not None and kind != "TUN" and listen.address.version != real.address.version:
            message = f"real_server {real.address} is not IPv{listen.address.version} like its virtual_server {server}"
            reading.warning(real.position, message, "use one family, or tunnels (lb_kind TUN)", "service")
        if listen is not None and kind != "NAT" and real.port and real.port != listen.port:
            message = f"real_server {real.address} has port {real.port}, but {kind} keeps the port of the virtual_server"
            reading.warning(real.position, message, f"write port {listen.port}" if listen.port else "remove the port", "service")
        first = seen.setdefault((real.address, real.port), real)
        if first is not real:
            message = f"real_server {real.address} {real.port} is listed twice (first in line {first.position.line})"
            reading.warning(real.position, message, "remove one of them", "service")
