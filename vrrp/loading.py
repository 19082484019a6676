"""Reads the configuration for the daemon: the file, and what the protocol core thinks of it."""

from __future__ import annotations

from collections.abc import Callable

from base.diagnostics import ConfigError, Diagnostic, Diagnostics, Position, Severity
from vrrp.commandline import Options
from vrrp.config.check import Verdict, report
from vrrp.config.load import interface_in_kernel, load_config
from vrrp.config.model.configuration import VrrpConfig
from vrrp.conversion import node_parameters


class Refused(Exception):
    """The file cannot be used; every reason is in ``diagnostics``. ``unreadable``: it could not even be opened."""

    def __init__(self, diagnostics: list[Diagnostic], *, unreadable: bool = False) -> None:
        self.diagnostics = diagnostics
        self.unreadable = unreadable
        super().__init__("\n".join(str(d) for d in diagnostics))


def judge(options: Options, *, interface_exists: Callable[[str], bool] = interface_in_kernel) -> Verdict:
    """``-t``: what is to be said of the file, and the exit status, which is that of ``keepalived -t``."""
    try:
        _config, remarks = load(options, interface_exists=interface_exists)
    except Refused as refused:
        remarks = refused.diagnostics
    return report(remarks, options.config)


def load(options: Options, *, interface_exists: Callable[[str], bool] = interface_in_kernel) -> tuple[VrrpConfig, list[Diagnostic]]:
    """The configuration and the remarks on it; raises Refused.

    Nothing that a file contains may end a running daemon: an error in our own reader refuses the file, too.
    """
    try:
        loaded = load_config(
            options.config, config_id=options.config_id or None, interface_exists=interface_exists, all_config=options.all_config
        )
        node_parameters(loaded.config)
        remarks = list(loaded.diagnostics)
        if loaded.config.virtual_servers and not options.vrrp_only:
            remarks += _check_virtual_servers(loaded.config)
    except ConfigError as error:
        found = list(error.diagnostics)
        raise Refused(found, unreadable=any(d.code == "unreadable" for d in found)) from None
    except Exception as error:
        text = f"cannot be understood ({type(error).__name__}: {error})"
        raise Refused([Diagnostic(Position(options.config), Severity.ERROR, text, "please report this file", "internal")]) from error
    return loaded.config, remarks


def _check_virtual_servers(config: VrrpConfig) -> list[Diagnostic]:
    """What the checker process will say of them; raises ConfigError. Here, so that ``-t`` and a reload know it, too."""
    from vrrp.lvs.from_config import virtual_servers  # only a director pays for the import

    found = Diagnostics()
    virtual_servers(config, found)
    if found.errors:
        raise ConfigError(list(found))
    return list(found)
