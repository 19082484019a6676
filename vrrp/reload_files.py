"""What a reload leaves in files (reload_file, config_save_dir) and what it cannot change."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace

from base.log import Log
from vrrp.commandline import Options
from vrrp.config.model.configuration import VrrpConfig
from vrrp.dump_files import write_atomically
from vrrp.dumps import without_secrets
from vrrp.system.pid_files import pid_files

_FIXED_DAEMON = ("net_namespace", "net_namespace_ipvs", "instance", "use_pid_dir")
_FIXED_GLOBAL = ("disable_local_igmp",)


def with_unchangeable(config: VrrpConfig, running: VrrpConfig, log: Log) -> VrrpConfig:
    """``config`` with what only a restart can change as it is in ``running``; says so. keepalived refuses the whole reload."""
    found = []
    for name in _FIXED_DAEMON:
        if getattr(config.daemon, name) != getattr(running.daemon, name):
            found.append(name)
            config = replace(config, daemon=replace(config.daemon, **{name: getattr(running.daemon, name)}))
    for name in _FIXED_GLOBAL:
        if getattr(config.global_defs, name) != getattr(running.global_defs, name):
            found.append(name)
            config = replace(config, global_defs=replace(config.global_defs, **{name: getattr(running.global_defs, name)}))
    if found:
        log.warning(f"{', '.join(found)} cannot change while vrrpd runs: restart it; everything else of the new configuration counts")
    return config


class ReloadMarker:
    """``reload_file``: there, and empty, while the configuration is read; gone when it was. Whoever edits the files waits for that."""

    def __init__(self, log: Log) -> None:
        self._log = log

    @contextlib.contextmanager
    def beside(self, config: VrrpConfig, options: Options) -> Iterator[None]:
        """Reading happens inside. ``config``: the running one, which names the file."""
        path = marker_path(config, options)
        if path:
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
                os.close(os.open(path, flags, 0o644))
            except OSError as error:
                self._log.error(f"reload_file {path}: {error.strerror}")
        try:
            yield
        finally:
            if path:
                with contextlib.suppress(OSError):
                    os.unlink(path)


def marker_path(config: VrrpConfig, options: Options) -> str:
    """ "" = none; without a path in the file it lies beside the pid file, .reload instead of .pid."""
    given = config.global_defs.reload.marker_file
    if given is None:
        return ""
    return given or os.path.splitext(pid_files(options, config.daemon).parent)[0] + ".reload"


class ConfigCopies:
    """``config_save_dir``: the configuration before and after each reload N, as it was understood, as JSON without secrets.

    Names as keepalived's: keepalived_vrrp.PID.N.pre and .post, PID of the parent. keepalived also copies the files that it read, passwords
    and all; of those the operator has the originals.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._number = 0

    def before(self, config: VrrpConfig) -> None:
        """A reload begins."""
        self._number += 1
        self._write(config, "pre")

    def after(self, config: VrrpConfig) -> None:
        """The vrrp process has changed over."""
        self._write(config, "post")

    def _write(self, config: VrrpConfig, when: str) -> None:
        directory = config.global_defs.config_save_dir
        if not directory:
            return
        path = os.path.join(directory, f"keepalived_vrrp.{os.getpid()}.{self._number}.{when}")
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            write_atomically(path, json.dumps(without_secrets(config), indent=1) + "\n")
        except OSError as error:
            self._log.error(f"config_save_dir: cannot write {path}: {error.strerror}")
