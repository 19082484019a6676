"""What ``brainctl init`` adds around a stock keepalived: the tracked gate files and the firewall rules that let adverts and beats pass."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from brainctl.launcher import library_root
from brainctl.options import DEFAULT_CONFIG
from watchdog.config.model import GateSettings, GroupKey, Mode, PathKind, PathSettings
from watchdog.tracked_gate import gate_path

HOMES = ("/home", "/root", "/run/user")
"""What ProtectHome=yes hides from a unit, be it the program that it shall start."""


def tracker_name(key: GroupKey) -> str:
    """The name of the track_file block of one group."""
    return f"brainctl_{key.vrid}" if key.family == 4 else f"brainctl_{key.vrid}_v6"


def track_file_blocks(keys: Iterable[GroupKey], mode: Mode, gate: GateSettings) -> str:
    """The ``track_file`` blocks for keepalived.conf.

    observe and resolve track the hold file (1 = FAULT), strict tracks the grant file reversed (anything but 1 = FAULT): only FAULT
    holds a keepalived backup, a weight does not.
    """
    blocks = []
    for key in keys:
        path = gate_path(gate, mode, key)
        weight = "weight 0 reverse" if mode is Mode.STRICT else "weight 0"
        blocks.append(f'track_file {tracker_name(key)} {{\n    file "{path}"\n    {weight}\n}}\n')
    return "".join(blocks)


def instance_lines(key: GroupKey) -> str:
    """The lines that go inside the vrrp_instance of the group."""
    return f"    track_file {{\n        {tracker_name(key)}\n    }}\n"


def keepalived_stanza(keys: Iterable[GroupKey], mode: Mode, gate: GateSettings) -> str:
    """The whole text with instructions, for a person to paste."""
    keys = tuple(keys)
    parts = [
        "# 1. Put these blocks at the top level of keepalived.conf, before the vrrp_instance blocks:\n\n",
        track_file_blocks(keys, mode, gate),
        "\n# 2. Put these lines inside each vrrp_instance:\n\n",
    ]
    for key in keys:
        parts.append(f"# inside the vrrp_instance with virtual_router_id {key.vrid}:\n{instance_lines(key)}\n")
    parts.append(
        "# What this costs: while braind holds a group, keepalived is in FAULT: notify_fault and mail fire, and a released takeover\n"
        "# costs one more master down interval.\n"
    )
    if mode is Mode.STRICT:
        parts.append(
            "# strict: without braind's grant (and after every boot) keepalived stays in FAULT until the takeover is proved safe.\n"
        )
    return "".join(parts)


def unit_file(unit: str, config: str, keepalived_conf: str, mode: Mode) -> str:
    """The systemd unit of ``braind`` or ``vrrpd`` for this installation: absolute paths, and in mode strict a gate that is shut at boot."""
    program = Path(sys.executable).parent / unit
    text = (library_root() / "conf/systemd" / f"{unit}.service").read_text(encoding="utf-8")
    if program.exists():
        text = text.replace(f"/usr/bin/env {unit}", str(program))
        if any(path.is_relative_to(home) for path in (program, Path(sys.executable).resolve()) for home in HOMES):
            text = text.replace("ProtectHome=yes", "# Its programs or their Python lie in a home.\nProtectHome=read-only")
    if unit == "braind" and config != DEFAULT_CONFIG:
        text = re.sub(r"^(Exec(?:Start|StartPre)=.*)$", rf"\1 --config {config}", text, flags=re.MULTILINE)
    text = text.replace("/etc/keepalived/keepalived.conf", keepalived_conf)
    return text.replace(" -n -D ", " -n -D --gate closed ") if mode is Mode.STRICT else text


def tmpfiles(gate: GateSettings) -> str:
    """The tmpfiles.d snippet that makes the gate's directory at every boot, before any service."""
    text = (library_root() / "conf/tmpfiles.d/brainctl.conf").read_text(encoding="utf-8")
    lines = [f"d {os.path.dirname(path)} 0755 root root -" for path in (gate.hold_file, gate.grant_file)]
    return text + "".join(f"{line}\n" for line in dict.fromkeys(lines) if line not in text)


def firewall_rules(paths: Iterable[PathSettings], node: str, peer: str, service_interfaces: Iterable[str]) -> str:
    """nftables rules for one node: VRRP, and every IP heartbeat path. Raw ethernet frames and serial lines need none."""
    lines = [
        f"# node {node}. An accept in this table does not overrule a drop in another one: if a firewall of yours drops by default,",
        "# copy these rules into its own input chain, before the drop. On an open host this table documents what must pass.",
        "table inet brainctl {",
        "    chain input {",
        "        type filter hook input priority -10; policy accept;",
    ]
    lines += [
        f'        iifname "{interface}" ip protocol vrrp accept comment "VRRP adverts"' for interface in sorted(set(service_interfaces))
    ]
    for path in paths:
        interface = path.interface.of(node)
        if path.kind is PathKind.MULTICAST:
            lines.append(f'        iifname "{interface}" ip daddr {path.group} udp dport {path.port} accept comment "path {path.name}"')
            lines.append(f'        iifname "{interface}" ip protocol igmp accept')
        elif path.kind is PathKind.UNICAST:
            lines.append(
                f'        iifname "{interface}" ip saddr {path.address.of(peer)} udp dport {path.port} accept comment "path {path.name}"'
            )
    lines += ["    }", "}", ""]
    return "\n".join(lines)
