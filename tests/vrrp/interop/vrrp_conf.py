"""keepalived.conf for the tests, the same text for both daemons."""

from __future__ import annotations

VIP = "10.77.0.100"
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
) -> str:
    """One instance on eth0. ``peer``: unicast to this address instead of multicast."""
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
        lines.append(f"    authentication {{\n        auth_type PASS\n        auth_pass {password}\n    }}")
    if source:
        lines.append(f"    unicast_src_ip {source}")
    if peer:
        lines.append(f"    unicast_peer {{\n        {peer}\n    }}")
    return "\n".join([*lines, instance, "}", ""])
