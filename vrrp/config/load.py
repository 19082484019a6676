"""Reads keepalived.conf: from a path to a ``VrrpConfig`` with every finding.

``load_config`` is for the daemon and refuses a file with errors. ``read_config`` never refuses: braind uses it beside
a stock keepalived, which lives with most errors.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from base.diagnostics import ConfigError, Diagnostic, Diagnostics, Position, Severity
from vrrp.config.hmac_files import with_hmac_keys
from vrrp.config.keyword import DEFAULT_MTU, Reading, read_block
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.resolve import resolve_config
from vrrp.config.script_check import check_scripts
from vrrp.config.source import Environment, SourceReader, UnreadableError
from vrrp.config.syntax import SyntaxReader
from vrrp.config.tables.catalogue import HOMES, SCRIPT_KEYWORDS, TOP_LEVEL_ONLY
from vrrp.config.tables.top_level import TABLE
from vrrp.config.validate import validate
from vrrp.config.validate_services import validate_services

_SIOCGIFMTU = 0x8921
DEFAULT_PATH = "/etc/keepalived/keepalived.conf"


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """What a file said. ``diagnostics``: all findings, sorted by place. ``files``: every file read, in order."""

    config: VrrpConfig
    diagnostics: tuple[Diagnostic, ...]
    files: tuple[str, ...]

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The findings that refuse the file."""
        return tuple(d for d in self.diagnostics if d.severity is Severity.ERROR)


def interface_in_kernel(name: str) -> bool:
    """Whether this network namespace has the interface."""
    try:
        socket.if_nametoindex(name)
    except (OSError, ValueError):
        return False
    return True


def mtu_in_kernel(name: str) -> int:
    """The MTU of an interface of this network namespace; DEFAULT_MTU if there is no such interface."""
    request = struct.pack("=16si20x", name.encode()[:15], 0)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            found: int = struct.unpack_from("=i", fcntl.ioctl(sock, _SIOCGIFMTU, request), 16)[0]
    except OSError:
        return DEFAULT_MTU
    return found


def default_config_id() -> str:
    """What ``@ID`` is compared with unless ``-i`` says otherwise: the host name up to its first dot."""
    return os.uname().nodename.partition(".")[0]


def read_config(
    path: str,
    *,
    config_id: str | None = None,
    interface_exists: Callable[[str], bool] = interface_in_kernel,
    environment: Mapping[str, str] | None = None,
    random_seed: int | None = None,
    scripts: bool = False,
    all_config: bool = False,
) -> LoadedConfig:
    """Read ``path`` and its includes; problems are only reported. Raises ConfigError (code ``unreadable``) if
    ``path`` itself cannot be read.

    ``interface_exists``: asked for every interface that the file names. ``environment``: for ``${_ENV NAME}``.
    ``all_config``: a missing include file is an error (keepalived's ``-e``).
    ``scripts``: look also whether the scripts can be run safely (reads the file system and the user database), and read the key files
    of auth_hmac.
    """
    diagnostics = Diagnostics()
    variables = os.environ if environment is None else environment
    source = SourceReader(Environment(default_config_id() if config_id is None else config_id, variables, random_seed), diagnostics)
    if all_config:
        source.set_include_checks(())
    syntax = SyntaxReader(diagnostics, SCRIPT_KEYWORDS.__contains__, TOP_LEVEL_ONLY.__contains__)
    try:
        statements = syntax.read(source.read(path))
    except UnreadableError as error:
        remedy = "correct the path (-f FILE) or the permissions"
        raise ConfigError([Diagnostic(Position(path), Severity.ERROR, f"cannot be read: {error.reason}", remedy, "unreadable")]) from None
    reading = Reading(diagnostics, interface_exists, HOMES, hidden=source.own_lines)
    if interface_exists is interface_in_kernel:
        reading.mtu_of = mtu_in_kernel
    top = read_block(reading, TABLE, statements)
    if "net_namespace" in top.values and interface_exists is interface_in_kernel:
        reading.mtu_of = lambda name: DEFAULT_MTU
        reading.interface_exists = lambda name: True  # its interfaces are in a namespace that we are not in yet
    config = resolve_config(reading, top)
    reading.via = ""
    validate(reading, config)
    validate_services(reading, config)
    reading.note_without_effect()
    if scripts:
        check_scripts(diagnostics, config)
        config = with_hmac_keys(diagnostics, config)
    order = {file: index for index, file in enumerate(source.files)}
    found = sorted(diagnostics, key=lambda d: (order.get(d.position.file, len(order)), d.position.line, d.position.column))
    return LoadedConfig(config, tuple(found), tuple(source.files))


def load_config(
    path: str,
    *,
    config_id: str | None = None,
    interface_exists: Callable[[str], bool] = interface_in_kernel,
    environment: Mapping[str, str] | None = None,
    random_seed: int | None = None,
    scripts: bool = True,
    all_config: bool = False,
) -> LoadedConfig:
    """As ``read_config``, but raises ConfigError with all findings if one of them is an error."""
    loaded = read_config(
        path,
        config_id=config_id,
        interface_exists=interface_exists,
        environment=environment,
        random_seed=random_seed,
        scripts=scripts,
        all_config=all_config,
    )
    if loaded.errors:
        raise ConfigError(loaded.diagnostics)
    return loaded
