"""keepalived.conf for the tests, the same text for both daemons."""

from __future__ import annotations

VIP = "10.77.0.100"
VIP6 = "fe80::77:100"
"""RFC 5798 section 5.2.9: the first address is link-local."""
SERVICE6 = "fd77::100"
VRID = 51


def conf(
    priority: int,
    *,
    version: int = 3,
    interval: str = "0.1",
    peer: str = "",
    source: str = "",
    password: str = "",
    instance: str = "",
    instance_extra: str = "",
    global_extra: str = "",
    blocks: str = "",
    vip: str = f"{VIP}/24",
    name: str = "V1",
    ipv6: bool = False,
    auth_type: str = "PASS",
) -> str:
    """One instance on eth0. ``peer``: unicast to this address instead of multicast. ``ipv6``: two IPv6 addresses instead of ``vip``."""
    if ipv6:
        vip = f"{VIP6}/64\n        {SERVICE6}/64"
    lines = [
        "global_defs {",
        "    router_id lab",
        f"    vrrp_version {version}",
        f"    {global_extra}",
        "}",
        blocks,
        f"vrrp_instance {name} {{",
        "    state BACKUP",
        "    interface eth0",
        f"    virtual_router_id {VRID}",
        f"    priority {priority}",
        f"    advert_int {interval}",
        f"    {instance_extra}",
        "    virtual_ipaddress {",
        f"        {vip}",
        "    }",
    ]
    if password:
        lines.append(f"    authentication {{\n        auth_type {auth_type}\n        auth_pass {password}\n    }}")
    if source:
        lines.append(f"    unicast_src_ip {source}")
    if peer:
        lines.append(f"    unicast_peer {{\n        {peer}\n    }}")
    return "\n".join([*lines, instance, "}", ""])


def priority_of(frame: bytes) -> int | None:
    """The priority in an Ethernet frame that carries an advert, else None."""
    if frame[12:14] == b"\x86\xdd":
        return frame[56] if frame[20] == 112 else None
    if frame[12:14] != b"\x08\x00" or frame[23] not in (51, 112):
        return None
    return frame[36 + (24 if frame[23] == 51 else 0)]
