"""What runs on a laboratory node besides the service: a VRRP daemon and braind, with the files that an operator would have written."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from brainctl.demo.addresses import NODES
from brainctl.demo.lab import Lab
from brainctl.demo.node import Node
from brainctl.demo.program import program_path
from brainctl.launcher import library_root
from brainctl.stanza import instance_lines, track_file_blocks
from fencing.plan.delay import detection_spread_ms, needed_delay_ms
from watchdog.config.model import GateSettings, GroupKey, Mode, PolicySettings

DAEMONS = ("vrrpd", "keepalived")
MODES = tuple(mode.value for mode in Mode)
PRIORITY = {"A": 150, "B": 100}
GATE_DIRECTORY = "run/brainctl/gate"


QUICK = PolicySettings(confirm_ms=600, settle_ms=3_000, stall_ms=400, census_interval_ms=500)
"""Shorter times than the defaults, so that the demo ends in minutes."""


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
    device_deadline_ms: int = 3_000
    silent_after_ms: int = 1_000
    interval_ms: int = 200
    policy: PolicySettings = QUICK
    sabotage: str = ""

    @property
    def fence_delay_ms(self) -> int:
        """How long the lower-ranked node waits: what ``brainctl check`` asks for, and half a second more."""
        policy = self.policy
        spread = detection_spread_ms(
            [self.silent_after_ms],
            [self.interval_ms],
            confirm_ms=policy.confirm_ms,
            census_window_ms=policy.census_window_ms,
            stall_ms=policy.stall_ms,
        )
        return needed_delay_ms(spread, self.device_deadline_ms) + 500


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
    plan, policy = lab.plan, setup.policy
    beats = {"interval_ms": setup.interval_ms, "silent_after_ms": setup.silent_after_ms}
    heartbeat = {"interface": "eth1", "medium": "heartbeat-network", **beats}
    service = {"interface": "eth0", "medium": "service-network", **beats}
    times = {key: getattr(policy, key) for key in ("confirm_ms", "settle_ms", "stall_ms", "census_interval_ms")}
    parts = [
        "version = 1",
        _table("[cluster]", name="demo", key_file="/etc/brainctl/cluster.key"),
        *(_table(f"[node.{node}]", rank=rank, addresses=[plan.host[node]]) for rank, node in enumerate(NODES, 1)),
        _table("[policy]", mode=setup.mode, **times),
        _table("[gate]", daemon=setup.daemon),
        _table("[[path]]", name="beat-frames", type="ethernet", **heartbeat),
        _table("[[path]]", name="service-multicast", type="multicast", group=plan.group, port=plan.beat_port, **service),
        _table("[[path]]", name="beat-udp", type="unicast", port=plan.beat_port + 1, address=plan.heartbeat_host, **heartbeat),
        _table("[[path]]", name="serial", type="serial", device="/run/lab/ttyS0", baud=lab.baud, **beats),
        _table("[[reference]]", name="gateway", address=plan.host["gateway"], interface="eth0"),
        _table("[fence]", enabled=setup.fence_enabled, delay_ms=setup.fence_delay_ms),
        *(_fence_level(lab, setup, target, device) for target in NODES for device in setup.levels),
        _table("[[alert]]", name="pager", type="webhook", url_secret="file:/etc/brainctl/pager-url"),  # noqa: S106
    ]
    return "\n".join(parts)


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


def start_enrolment(node: Node) -> None:
    """What an operator does once for every pair: check the fence devices and bind their identity to the nodes."""
    node.start("enrolment", [program("brainctl"), "fence", "enroll", "--node", node.name])


def copy_enrolment(node: Node, other: Node) -> None:
    """The enrolment is about devices and nodes, not about who asked: the same file serves both nodes."""
    source, target = (n.disk / "var-lib" / "brainctl" for n in (node, other))
    target.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(source / "enrolment.json", target / "enrolment.json")
