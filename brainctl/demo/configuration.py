"""The files that an operator would have written for a laboratory pair: keepalived.conf and brain.toml."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from brainctl.demo import witness
from brainctl.demo.addresses import NODES
from brainctl.demo.lab import ANYCAST, Lab
from brainctl.demo.program import program_path
from brainctl.demo.setup import PRIORITY, Group, Setup, groups
from brainctl.demo.switch import INSIDE
from brainctl.stanza import instance_lines, track_file_blocks
from watchdog.config.model import GateSettings, Mode


def keepalived_conf(lab: Lab, setup: Setup, node: str) -> str:
    """A keepalived.conf as a tutorial would have it, with the stanza that ``brainctl init`` generates."""
    found = groups(lab.plan, setup.site)
    stanza = setup.brain and setup.daemon == "keepalived" and node not in setup.site.unheld
    sync = ["vrrp_sync_group ALL {", "    group {", *(f"        {group.name}" for group in found), "    }", "}", ""]
    return "\n".join(
        (
            "global_defs {",
            f"    router_id node-{node}",
            f"    vrrp_version {setup.version}",
            "}",
            "",
            *([track_file_blocks([group.key for group in found], Mode(setup.mode), GateSettings())] if stanza else []),
            *(sync if setup.site.sync else []),
            *(_instance(lab, setup, group, node, stanza) for group in found),
        )
    )


def _instance(lab: Lab, setup: Setup, group: Group, node: str, stanza: bool) -> str:
    return "\n".join(
        (
            f"vrrp_instance {group.name} {{",
            "    state BACKUP",
            f"    interface {group.interface}",
            f"    virtual_router_id {group.key.vrid}",
            f"    priority {PRIORITY[node]}",
            f"    advert_int {setup.advert_ms / 1000:g}",
            *(["    nopreempt"] if setup.site.nopreempt else []),
            *(_unicast(lab, node) if setup.site.routed else []),
            "    virtual_ipaddress {",
            *(f"        {line}" for line in group.lines),
            "    }",
            *([instance_lines(group.key)] if stanza else []),
            "}",
            "",
        )
    )


def _unicast(lab: Lab, node: str) -> list[str]:
    own = {name: lab.plan.service_address(name, routed=name == "B") for name in NODES}
    peer = next(address for name, address in own.items() if name != node)
    return [f"    unicast_src_ip {own[node]}", "    unicast_peer {", f"        {peer}", "    }"]


def brain_toml(lab: Lab, setup: Setup) -> str:
    """The brain.toml of the pair: four heartbeat paths on three media, the gateways as references, the power switches, the pager."""
    plan, policy, site = lab.plan, setup.policy, setup.site
    beats = {"interval_ms": setup.interval_ms, "silent_after_ms": setup.silent_after_ms}
    heartbeat = {"interface": "eth1", "medium": "heartbeat-network", **beats}
    service = {"interface": "eth0", "medium": "service-network", **beats}
    times = {key: getattr(policy, key) for key in ("confirm_ms", "settle_ms", "stall_ms", "census_interval_ms")}
    references = {"gateway": (plan.host["gateway"], "eth0")}
    if site.has_inside_lan:
        references["inside-gateway"] = (plan.inside_host["gateway"], "eth2")
    on_eth0 = _table("[[path]]", name="service-multicast", type="multicast", group=plan.group, port=plan.beat_port, **service)
    found = [_table("[[reference]]", name=name, address=address, interface=on) for name, (address, on) in references.items()]
    if site.routed:
        own = {name: plan.service_address(name, routed=name == "B") for name in NODES}
        on_eth0 = _table("[[path]]", name="service-udp", type="unicast", port=plan.beat_port, address=own, **service)
        found = [_table("[[reference]]", name="gateway", address=ANYCAST, interface="eth0")]
    parts = [
        "version = 1",
        _table("[cluster]", name="demo", key_file="/etc/brainctl/cluster.key"),
        *(_node(lab, setup, node, rank) for rank, node in enumerate(NODES, 1)),
        _table("[policy]", mode=setup.mode, **times),
        _table("[gate]", daemon=setup.daemon),
        _table("[[path]]", name="beat-frames", type="ethernet", **heartbeat),
        on_eth0,
        _table("[[path]]", name="beat-udp", type="unicast", port=plan.beat_port + 1, address=plan.heartbeat_host, **heartbeat),
        _table("[[path]]", name="serial", type="serial", device="/run/lab/ttyS0", baud=lab.baud, **beats),
        *found,
        _table("[fence]", enabled=setup.fence_enabled, delay_ms=setup.fence_delay_ms),
        *(_fence_level(lab, setup, target, device) for target in NODES for device in setup.levels),
        *([_table("[witness]", **witness.settings(lab, site.witness))] if site.witness else []),
        _table("[[alert]]", name="pager", type="webhook", url_secret="file:/etc/brainctl/pager-url"),  # noqa: S106
    ]
    return "\n".join(parts)


def _node(lab: Lab, setup: Setup, node: str, rank: int) -> str:
    if not setup.site.node_addresses:
        return _table(f"[node.{node}]", rank=rank)
    plan, site = lab.plan, setup.site
    own = [
        plan.service_address(node, routed=site.service_network(node) == INSIDE),
        *([plan.inside_host[node]] if setup.site.has_inside_lan else []),
    ]
    return _table(f"[node.{node}]", rank=rank, addresses=[*own, *([plan.host6[node]] if setup.site.ipv6 else [])])


def _fence_level(lab: Lab, setup: Setup, target: str, device: str) -> str:
    outlet = lab.plan.outlet(target, device)
    level = _table("[[fence.level]]", name=device, target=target)
    return level + _table(
        "[[fence.level.device]]",
        name=f"{device}-{target}",
        type="agent",
        worth="power",
        agent=program_path("fence_lab"),
        ip=outlet.address,
        ipport=outlet.port,
        plug=str(outlet.plug),
        username=lab.plan.power_user,
        password_secret="file:/etc/brainctl/power-password",  # noqa: S106
        deadline_ms=setup.device_deadline_ms,
    )


def _table(heading: str, **values: object) -> str:
    return "\n".join([heading, *(f"{key} = {_toml(value)}" for key, value in values.items())]) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)  # strings, numbers, booleans and lists of these are the same in TOML


def write_files(lab: Lab, setup: Setup) -> None:
    """Put the configuration on both nodes' disks."""
    key = secrets.token_hex(32)
    if setup.site.witness == "disk":
        witness.make_disk(lab, key)
    for name, node in lab.nodes.items():
        (node.disk / "etc-keepalived" / "keepalived.conf").write_text(keepalived_conf(lab, setup, name))
        if setup.brain:
            etc = node.disk / "etc-brainctl"
            (etc / "brain.toml").write_text(brain_toml(lab, setup))
            _secret(etc / "cluster.key", key)
            _secret(etc / "power-password", lab.plan.power_password)
            _secret(etc / "pager-url", f"http://{lab.plan.host['pager']}:{lab.plan.pager_port}/alert")


def _secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text + "\n")
