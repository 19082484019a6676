"""Pid files: where the command line wants them, else where keepalived puts them for this file, else in our run directory."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from vrrp.commandline import Options
from vrrp.config.model.daemon import DaemonSettings

PID_DIRECTORY = "/run/keepalived"
"""Of keepalived, with ``use_pid_dir`` or ``instance``."""


@dataclass(frozen=True, slots=True)
class PidFiles:
    """One path for each process; "" = none is written."""

    parent: str
    vrrp: str
    checker: str
    bfd: str

    def remove(self) -> None:
        """At the end."""
        for path in (self.parent, self.vrrp, self.checker, self.bfd):
            remove_file(path)


def pid_files(options: Options, daemon: DaemonSettings) -> PidFiles:
    """``use_pid_dir``: keepalived's names in PID_DIRECTORY; ``instance NAME``: the same with _NAME behind them."""
    kept = (options.pid_file, options.vrrp_pid_file, options.checker_pid_file, options.bfd_pid_file)
    if daemon.use_pid_dir or daemon.instance:
        suffix = f"_{daemon.instance}" if daemon.instance else ""
        ours = [os.path.join(PID_DIRECTORY, f"{name}{suffix}.pid") for name in ("keepalived", "vrrp", "checkers", "bfd")]
    else:
        ours = [os.path.join(options.run_dir, "vrrpd.pid"), os.path.join(options.run_dir, "vrrpd_vrrp.pid"), "", ""]
    return PidFiles(*(given or default for given, default in zip(kept, ours, strict=True)))


def write_pid_file(path: str, pid: int | None) -> None:
    """Write a pid file if one is asked for and the process runs."""
    if path and pid is not None:
        os.makedirs(os.path.dirname(path) or ".", mode=0o755, exist_ok=True)
        with open(path, "w", encoding="ascii") as file:
            file.write(f"{pid}\n")


def running_already(path: str) -> int | None:
    """The pid in a pid file if that process lives and is a vrrpd (a pid that was used again is not)."""
    try:
        with open(path, encoding="ascii") as file:
            pid = int(file.read(32))
        with open(f"/proc/{pid}/cmdline", "rb") as command:
            words = [os.path.basename(word) for word in command.read(4096).split(b"\0")]
        return pid if b"vrrpd" in words[:2] or b"vrrp.daemon" in words else None
    except (OSError, ValueError):
        return None


def remove_file(path: str) -> None:
    """Remove a file if it is there."""
    if path:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
