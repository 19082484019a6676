"""``[self_fence]`` of brain.toml → SelfFenceSettings; see docs/FENCING.md for what an operator writes."""

from __future__ import annotations

from collections.abc import Sequence

from watchdog.config.model import PathSettings, SelfFenceSettings
from watchdog.config.table_reader import TableReader

SILENCES = 2
"""``after_ms`` must be longer than so many silences of the slowest path: a lost frame must not reset a machine."""


def read_self_fence(table: TableReader, nodes: Sequence[str], paths: Sequence[PathSettings]) -> SelfFenceSettings:
    """The settings; errors are reported with line and remedy."""
    settings = SelfFenceSettings(
        node=table.choice("node", list(nodes)),
        device=table.string("device", "/dev/watchdog"),
        after_ms=table.integer("after_ms", 8_000, 1_000, 600_000),
        timeout_s=table.integer("timeout_s", 10, 2, 600),
    )
    table.finish()
    least_ms = SILENCES * max((path.silent_after_ms for path in paths), default=1_000)
    if settings.after_ms < least_ms:
        table.error(
            ("after_ms",),
            f"{settings.node} would reset itself when the slowest path is silent for a moment",
            f"write after_ms ≥ {least_ms} (twice the longest silent_after_ms)",
        )
    if not settings.device.startswith("/dev/"):
        table.error(("device",), f"{settings.device!r} is no device", 'write device = "/dev/watchdog0"')
    return settings
