"""Options that every subcommand shares, and the files they lead to."""

from __future__ import annotations

import argparse
import os

DEFAULT_CONFIG = "/etc/brainctl/brain.toml"
DEFAULT_RUN_DIR = "/run/brainctl"
DEFAULT_STATE_DIR = "/var/lib/brainctl"


def add_common(parser: argparse.ArgumentParser, *, config: bool = True, json: bool = True) -> None:
    """``--config --node --run-dir --state-dir --json``."""
    if config:
        parser.add_argument("--config", default=DEFAULT_CONFIG, help="brain.toml (%(default)s)")
        parser.add_argument("--node", help="name of this node (default: the host name)")
    parser.add_argument("--run-dir", default=DEFAULT_RUN_DIR, help="control sockets (%(default)s)")
    parser.add_argument("--state-dir", default=DEFAULT_STATE_DIR, help="record and durable state (%(default)s)")
    if json:
        parser.add_argument("--json", action="store_true", help="print JSON")


def control_socket(args: argparse.Namespace) -> str:
    """braind's control socket."""
    return os.path.join(args.run_dir, "braind.sock")


def database(args: argparse.Namespace) -> str:
    """The record."""
    return os.path.join(args.state_dir, "brain.db")


def no_daemon(socket_path: str, error: Exception, unit: str = "braind") -> tuple[str, str]:
    """Why a daemon could not be asked, and what to do: being refused by the file's permissions is not being dead."""
    if isinstance(error, PermissionError):
        return f"{unit} may not be asked by this user on {socket_path}", "run it as root or as a member of the group brainctl"
    return f"{unit} does not answer on {socket_path} ({error})", f"is it running? systemctl status {unit}"
