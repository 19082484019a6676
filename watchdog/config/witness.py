"""``[witness]`` of brain.toml → WitnessSettings; see docs/WITNESS.md for what an operator writes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from urllib.parse import urlsplit

from watchdog.config.model import PerNode, WitnessKind, WitnessSettings
from watchdog.config.table_reader import TableReader, show

DEFAULT_LEASE_MS = 60_000
MAX_ENDPOINTS = 9


def read_witness(table: TableReader, nodes: Sequence[str]) -> WitnessSettings:
    """The settings; errors are reported with line and remedy."""
    word = table.choice("type", [k.value for k in WitnessKind])
    kind = next((k for k in WitnessKind if k.value == word), WitnessKind.ETCD)
    etcd = kind is WitnessKind.ETCD
    settings = WitnessSettings(
        kind=kind,
        lease_ms=table.integer("lease_ms", DEFAULT_LEASE_MS, 2_000, 600_000),
        poll_ms=table.integer("poll_ms", 1_000, 100, 60_000),
        silent_after_ms=table.integer("silent_after_ms", 3_000, 300, 600_000),
        endpoints=_endpoints(table) if etcd else (),
        ca_file=_file(table, "ca_file") if etcd else "",
        certificate_file=_file(table, "certificate_file") if etcd else "",
        private_key_file=_file(table, "private_key_file") if etcd else "",
        user=table.string("user", "") if etcd else "",
        password_secret=_secret(table) if etcd else "",
        device=PerNode(()) if etcd else _device(table, nodes),
    )
    table.finish()
    _together(table, settings)
    return settings


def _together(table: TableReader, settings: WitnessSettings) -> None:
    """What is good alone and wrong beside another key."""
    if settings.silent_after_ms < 2 * settings.poll_ms:
        table.error(
            ("silent_after_ms",),
            "the witness must be allowed to miss one poll",
            f"silent_after_ms ≥ 2 × poll_ms = {2 * settings.poll_ms}",
        )
    if settings.kind is WitnessKind.ETCD and settings.lease_ms % 1_000:
        table.error(
            ("lease_ms",),
            "etcd counts leases in whole seconds",
            f"write lease_ms = {settings.lease_ms - settings.lease_ms % 1_000 + 1_000}",
        )
    if bool(settings.certificate_file) != bool(settings.private_key_file):
        table.error(
            (), "a client certificate needs its key, and a key its certificate", "write certificate_file and private_key_file, or neither"
        )
    if bool(settings.user) != bool(settings.password_secret):
        table.error((), "user and password_secret go together", 'write user = "…" and password_secret = "file:/etc/brainctl/etcd"')


def _endpoints(table: TableReader) -> tuple[str, ...]:
    endpoints = table.strings("endpoints")
    remedy = 'write endpoints = ["https://etcd1:2379", "https://etcd2:2379", "https://etcd3:2379"]'
    if not endpoints:
        table.error(("endpoints",) if "endpoints" in table else (), "no endpoint of etcd is named", remedy)
    if len(endpoints) > MAX_ENDPOINTS:
        table.error(("endpoints",), f"{len(endpoints)} endpoints are too many", f"at most {MAX_ENDPOINTS}")
    for endpoint in endpoints:
        if not _is_endpoint(endpoint):
            table.error(("endpoints",), f"{show(endpoint)} is no URL of an etcd member", remedy)
    if len({urlsplit(e).scheme for e in endpoints if _is_endpoint(e)}) > 1:
        table.error(("endpoints",), "some endpoints are encrypted and some are not", "https for all of them")
    return tuple(dict.fromkeys(e.rstrip("/") for e in endpoints))


def _is_endpoint(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port is not None
            and parts.path in ("", "/")
            and "@" not in text
        )
    except ValueError:  # a port that is no number, a bracket that is never closed
        return False


def _file(table: TableReader, key: str) -> str:
    path = table.string(key, "")
    if path and not os.path.isabs(path):
        table.error((key,), f"{key} must be an absolute path", f'write {key} = "/etc/brainctl/…"')
    return path


def _secret(table: TableReader) -> str:
    if table.take("password") is not None:
        table.error(
            ("password",), "password would put a secret into this file", 'write password_secret = "file:/etc/brainctl/etcd" (mode 0600)'
        )
    return table.string("password_secret", "")


def _device(table: TableReader, nodes: Sequence[str]) -> PerNode:
    device = table.per_node("device", nodes, required=True)
    for _, path in device.values:
        if not os.path.isabs(path):
            table.error(("device",), f"{show(path)} is not an absolute path", 'write device = "/dev/disk/by-id/…"')
    return device
