"""Reads the configuration for the daemon."""

from __future__ import annotations

from base.diagnostics import Diagnostic
from vrrp.commandline import Options
from vrrp.config.model.configuration import VrrpConfig


class Refused(Exception):
    """The file cannot be used; every reason is in ``diagnostics``. ``unreadable``: it could not even be opened."""

    def __init__(self, diagnostics: list[Diagnostic], *, unreadable: bool = False) -> None:
        self.diagnostics = diagnostics
        self.unreadable = unreadable
        super().__init__("\n".join(str(d) for d in diagnostics))


def load(options: Options) -> tuple[VrrpConfig, list[Diagnostic]]:
    """The configuration and the remarks on it; raises Refused."""
    raise NotImplementedError
