"""Reads configuration texts for the tests."""

from __future__ import annotations

from pathlib import Path

from base.diagnostics import Diagnostic, Severity
from vrrp.config.load import LoadedConfig, read_config
from vrrp.config.model.instance import VrrpInstance

INTERFACES = frozenset({"eth0", "eth1", "eth2", "eth3", "eth0.1"})

INSTANCE = """\
vrrp_instance VI_1 {{
    interface eth0
    virtual_router_id 51
    {extra}
    virtual_ipaddress {{
        10.0.0.100
    }}
}}
"""


def read(directory: Path, text: str | bytes, config_id: str = "node", **more: object) -> LoadedConfig:
    """Read ``text`` from a file in ``directory``; only INTERFACES exist."""
    path = directory / "keepalived.conf"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))
    return read_config(str(path), config_id=config_id, interface_exists=INTERFACES.__contains__, environment={"RACK": "r7"}, **more)


def read_instance(directory: Path, extra: str = "", head: str = "") -> tuple[VrrpInstance, LoadedConfig]:
    """One instance on eth0 with VRID 51, VIP 10.0.0.100 and ``extra`` lines; ``head`` stands before it."""
    loaded = read(directory, head + INSTANCE.format(extra=extra))
    return loaded.config.instances[0], loaded


def findings(loaded: LoadedConfig, severity: Severity = Severity.ERROR) -> list[tuple[int, int, str]]:
    """(line, column, code) of every finding of one severity."""
    return [(d.position.line, d.position.column, d.code) for d in loaded.diagnostics if d.severity is severity]


def only_error(loaded: LoadedConfig) -> Diagnostic:
    """The one error of a reading."""
    (error,) = loaded.errors
    return error
