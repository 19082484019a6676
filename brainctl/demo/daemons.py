"""What runs on a laboratory node besides the service: a VRRP daemon and braind, with the files that an operator would have written."""

from __future__ import annotations

import os
import secrets
import sys
from dataclasses import dataclass, field
from pathlib import Path

from brainctl.demo.addresses import NODES
from brainctl.demo.lab import Lab
from brainctl.demo.node import Node
from brainctl.demo.program import program_path
from brainctl.launcher import library_root
from brainctl.stanza import instance_lines, track_file_blocks
from watchdog.config.model import GateSettings, GroupKey, Mode

DAEMONS = ("vrrpd", "keepalived")
MODES = tuple(mode.value for mode in Mode)
PRIORITY = {"A": 150, "B": 100}
GATE_DIRECTORY = "run/brainctl/gate"


@dataclass(frozen=True, slots=True)
class Setup:
    """How a pair is set up. ``advert_ms``: advertisement interval; ``levels``: power switches used as fence levels, in order."""

    daemon: str
    mode: str
    brain: bool = True
    version: int = 3
    advert_ms: int = 500
    levels: tuple[str, ...] = ("bmc",)
    fence_enabled: bool = True
    fence_delay_ms: int = 6_000
    policy: dict[str, int] = field(default_factory=dict)
    sabotage: str = ""


def keepalived_conf(lab: Lab, setup: Setup, node: str) -> str:
    """A keepalived.conf as a tutorial would have it, with the stanza that ``brainctl init`` generates."""
    plan = lab.plan
    key = GroupKey(plan.vrid, 4)
    stanza = setup.brain and setup.daemon == "keepalived"
    return "\n".join(
        (
            "global_defs {",
            f"    router_id node-{node}",
            f"    vrrp_version {setup.version}",
            "}",
            "",
            *([track_file_blocks([key], Mode(setup.mode), GateSettings())] if stanza else []),
            "vrrp_instance VI_1 {",
            "    state BACKUP",
            "    interface eth0",
            f"    virtual_router_id {plan.vrid}",
            f"    priority {PRIORITY[node]}",
            f"    advert_int {setup.advert_ms / 1000:g}",
            "    virtual_ipaddress {",
            f"        {plan.vip}/{plan.service.prefixlen} dev eth0",
            "    }",
            *([instance_lines(key)] if stanza else []),
            "}",
            "",
        )
    )


def brain_toml(lab: Lab, setup: Setup) -> str:
    """The brain.toml of the pair: four heartbeat paths on three media, the gateway as reference, the power switches, the pager."""
    plan = lab.plan
    out = [
        "version = 1",
        "[cluster]",
        'name = "demo"',
        'key_file = "/etc/brainctl/cluster.key"',
        *(f'[node.{node}]\nrank = {rank}\naddresses = ["{plan.host[node]}"]' for rank, node in enumerate(NODES, 1)),
        "[policy]",
        f'mode = "{setup.mode}"',
        *(f"{key} = {value}" for key, value in setup.policy.items()),
        "[gate]",
        f'daemon = "{setup.daemon}"',
        '[[path]]\nname = "beat-frames"\ntype = "ethernet"\ninterface = "eth1"\nmedium = "heartbeat-network"',
        f'[[path]]\nname = "service-multicast"\ntype = "multicast"\ninterface = "eth0"\nmedium = "service-network"\ngroup = "{plan.group}"'
        f"\nport = {plan.beat_port}",
        f'[[path]]\nname = "beat-udp"\ntype = "unicast"\ninterface = "eth1"\nmedium = "heartbeat-network"\nport = {plan.beat_port + 1}\n'
        f"address = {_per_node(plan.heartbeat_host)}",
        f'[[path]]\nname = "serial"\ntype = "serial"\ndevice = "/run/lab/ttyS0"\nbaud = {lab.baud}',
        f'[[reference]]\nname = "gateway"\naddress = "{plan.host["gateway"]}"\ninterface = "eth0"',
        "[fence]",
        f"enabled = {str(setup.fence_enabled).lower()}",
        f"delay_ms = {setup.fence_delay_ms}",
    ]
    for target in NODES:
        for device in setup.levels:
            outlet = plan.outlet(target, device)
            out += [
                f'[[fence.level]]\nname = "{device}"\ntarget = "{target}"',
                f'[[fence.level.device]]\nname = "{device}-{target}"\ntype = "agent"\nagent = "{program_path("fence_lab")}"',
                f'ip = "{outlet.address}"\nipport = {outlet.port}\nplug = "{outlet.plug}"\nusername = "{plan.power_user}"',
                'password_secret = "file:/etc/brainctl/power-password"\ndeadline_ms = 8000',
            ]
    out.append('[[alert]]\nname = "pager"\ntype = "webhook"\nurl_secret = "file:/etc/brainctl/pager-url"\nleast_severity = "warning"')
    return "\n".join(out) + "\n"


def _per_node(values: dict[str, str]) -> str:
    return "{ " + ", ".join(f'{node} = "{value}"' for node, value in values.items()) + " }"


def write_files(lab: Lab, setup: Setup) -> None:
    """Put the configuration on both nodes' disks."""
    key = secrets.token_hex(32)
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


def program(name: str) -> str:
    """The command of one of the three programs, from the environment that runs this one."""
    return str(Path(sys.executable).parent / name)


def prepare_boot(node: Node) -> None:
    """What systemd's tmpfiles do on a real machine: the run directory exists before either daemon starts."""
    os.makedirs(node.root / GATE_DIRECTORY, mode=0o755, exist_ok=True)


def start_vrrp(node: Node, setup: Setup) -> None:
    """Start the VRRP daemon as its unit file would."""
    if setup.daemon == "keepalived":
        node.start("vrrp", ["keepalived", "-n", "-l", "-D", "-p", "/run/keepalived.pid", "-r", "/run/vrrp.pid"])
        return
    gate = ["--gate", "closed"] if setup.brain and setup.mode == "strict" else []
    node.start("vrrp", [program("vrrpd"), "-n", "-l", "-D", *gate])


def start_brain(node: Node, setup: Setup) -> None:
    """Start braind as its unit file would; with a sabotage, the same daemon with one judgement spoiled."""
    options = ["--config", "/etc/brainctl/brain.toml", "--node", node.name]
    if setup.sabotage:
        command = [sys.executable, "-m", "brainctl.demo.sabotage", setup.sabotage]
        environment = {"PYTHONPATH": str(library_root())}
    else:
        command, environment = [program("braind")], {}
    node.start("braind", [*command, *options], environment)
