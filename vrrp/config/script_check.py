"""Can the configured scripts be run, and could someone else change what runs as root? Reads the file system.

``enable_script_security`` follows keepalived's rule: a script that runs as root is refused if any part of its path can
be written by somebody else. keepalived drops such a script in silence and runs on without it; here it is an error.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import stat
from collections.abc import Iterator

from base.diagnostics import Diagnostics
from vrrp.config.model.common import ScriptCommand
from vrrp.config.model.configuration import VrrpConfig

DEFAULT_USER = "keepalived_script"
SECURITY = "security"


def check_scripts(diagnostics: Diagnostics, config: VrrpConfig) -> None:
    """Report every script that cannot run or should not."""
    secure = config.global_defs.script_security
    _check_default_user(diagnostics, config)
    as_root: ScriptCommand | None = None
    for what, command, tracked in _commands(config):
        if command.path.startswith("<"):
            continue
        if not _user_exists(diagnostics, what, command):
            continue
        path = shutil.which(command.path)
        if path is None:
            _report_missing(diagnostics, what, command, tracked)
            continue
        if not _runs_as_root(command):
            continue
        as_root = as_root or command
        reason = writable_by_others(path)
        if reason and secure:
            message = f"{what} would run {path} as root, but {reason}"
            diagnostics.error(command.position, message, f"chown root and chmod go-w it, or add: script_user {DEFAULT_USER}", SECURITY)
        elif reason:
            message = f"{what} runs {path} as root, and {reason}"
            diagnostics.warning(command.position, message, "chown root and chmod go-w it, and set enable_script_security", SECURITY)
        if secure and not command.user:
            message = f"{what} has no user, and there is no user {DEFAULT_USER}; keepalived drops the script, vrrpd runs it as root"
            diagnostics.warning(command.position, message, "add script_user to global_defs", "script")
    if as_root is not None and not secure:
        message = "scripts run as root without enable_script_security"
        diagnostics.warning(as_root.position, message, "add 'enable_script_security' and 'script_user USER' to global_defs", SECURITY)


def _check_default_user(diagnostics: Diagnostics, config: VrrpConfig) -> None:
    """keepalived complains of ``script_user`` also where no script runs as it."""
    user, group, position = config.global_defs.script_user, config.global_defs.script_group, config.global_defs.script_user_position
    if user and not _known(pwd.getpwnam, pwd.getpwuid, user):
        diagnostics.warning(position, f"script_user names the unknown user {user}", "create the user or correct the name", "script-user")
    elif group and not _known(grp.getgrnam, grp.getgrgid, group):
        diagnostics.warning(position, f"script_user names the unknown group {group}", "create the group or correct the name", "script-user")


def _commands(config: VrrpConfig) -> Iterator[tuple[str, ScriptCommand, bool]]:
    """What it is, the command, and whether a failover depends on it."""
    for script in config.scripts:
        yield f"vrrp_script {script.name}", script.command, True
    for instance in config.instances:
        for command in instance.notify.configured():
            yield f"a notify script of {instance.name}", command, False
    for group in config.sync_groups:
        for command in group.notify.configured():
            yield f"a notify script of sync group {group.name}", command, False
    for fifo in (config.global_defs.fifo, config.global_defs.vrrp_fifo, config.global_defs.lvs_fifo):
        if fifo.script is not None:
            yield f"the reader of {fifo.path or 'the notify FIFO'}", fifo.script, False
    for name in ("startup_script", "shutdown_script"):
        command = getattr(config.global_defs, name).command
        if command is not None:
            yield f"the {name}", command, False


def _user_exists(diagnostics: Diagnostics, what: str, command: ScriptCommand) -> bool:
    if command.user and not _known(pwd.getpwnam, pwd.getpwuid, command.user):
        diagnostics.error(
            command.position, f"{what} runs as the unknown user {command.user}", "create the user or correct the name", "script-user"
        )
        return False
    if command.group and not _known(grp.getgrnam, grp.getgrgid, command.group):
        diagnostics.error(
            command.position, f"{what} runs as the unknown group {command.group}", "create the group or correct the name", "script-user"
        )
        return False
    return True


def _known(by_name: object, by_number: object, name: str) -> bool:
    lookup = by_number if name.isdecimal() else by_name
    assert callable(lookup)
    try:
        lookup(int(name) if name.isdecimal() else name)
    except (KeyError, OverflowError):
        return False
    return True


def _report_missing(diagnostics: Diagnostics, what: str, command: ScriptCommand, tracked: bool) -> None:
    state = "is not executable" if os.path.exists(command.path) else "does not exist"
    if tracked:
        message = f"{what}: {command.path} {state}; it counts as failed"
        diagnostics.warning(command.position, message, "correct the path, or chmod +x", "script")
    else:
        diagnostics.warning(command.position, f"{what}: {command.path} {state}", "correct the path, or chmod +x", "advice")


def _runs_as_root(command: ScriptCommand) -> bool:
    user = command.user
    if not user:
        if _known(pwd.getpwnam, pwd.getpwuid, DEFAULT_USER):
            return False
        return os.geteuid() == 0
    return user == "0" or (not user.isdecimal() and pwd.getpwnam(user).pw_uid == 0)


def writable_by_others(path: str) -> str:
    """Which part of ``path`` somebody other than root can replace, in words; "" if none. Sticky directories are fine."""
    current = os.path.realpath(path)
    first = True
    while True:
        try:
            info = os.stat(current)
        except OSError as error:
            return f"{current} cannot be examined ({error.strerror})"
        sticky = stat.S_ISDIR(info.st_mode) and bool(info.st_mode & stat.S_ISVTX) and not first
        if info.st_uid != 0:
            return f"{current} belongs to uid {info.st_uid}"
        if info.st_mode & stat.S_IWOTH and not sticky:
            return f"everybody can write {current}"
        if info.st_mode & stat.S_IWGRP and info.st_gid != 0 and not sticky:
            return f"group {info.st_gid} can write {current}"
        if current == "/":
            return ""
        current, first = os.path.dirname(current), False
