"""What runs on a laboratory node besides the service: a VRRP daemon and braind."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from brainctl.demo.node import Node
from brainctl.demo.setup import Setup
from brainctl.launcher import library_root

GATE_DIRECTORY = "run/brainctl/gate"


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


def start_brain(node: Node, setup: Setup, *, older: bool = False) -> None:
    """Start braind as its unit file would; with a sabotage, the same daemon with one judgement spoiled; or the release before."""
    options = ["--config", "/etc/brainctl/brain.toml", "--node", node.name]
    if setup.sabotage or older:
        spoiled = ["brainctl.demo.older"] if older else ["brainctl.demo.sabotage", setup.sabotage]
        command = [sys.executable, "-m", *spoiled]
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
