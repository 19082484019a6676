"""The laboratory's witness: three etcd members on the management network, or a file that both nodes share as a SAN's disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from brainctl.demo.program import Program
from watchdog.witness.disk import format_disk
from watchdog.witness.lease.slots import SlotCodec

if TYPE_CHECKING:
    from brainctl.demo.lab import Lab

MEMBERS = 3
LEASE_MS = 12_000
"""Longer than the laboratory's devices may take, and what comes before an act."""


def settings(lab: Lab, kind: str) -> dict[str, object]:
    """The keys of ``[witness]``."""
    shared: dict[str, object] = {"type": kind, "lease_ms": LEASE_MS, "poll_ms": 500, "silent_after_ms": 1_500}
    if kind == "disk":
        return {**shared, "device": str(disk(lab))}
    return {**shared, "endpoints": [f"http://{lab.plan.witness}:{2379 + 10 * number}" for number in range(MEMBERS)]}


def disk(lab: Lab) -> Path:
    """The shared file; the laboratory's directory is seen by both nodes."""
    return lab.directory / "witness-disk"


def make_disk(lab: Lab, key: str) -> None:
    """Format it anew, as ``brainctl witness format`` does."""
    disk(lab).unlink(missing_ok=True)
    format_disk(str(disk(lab)), SlotCodec(key.encode(), "demo", ("A", "B")))


def start_members(lab: Lab, network: str) -> list[Program]:
    """Three members on one host of the management network."""
    address = lab.plan.witness
    peers = {f"m{n}": f"http://{address}:{2380 + 10 * n}" for n in range(MEMBERS)}
    cluster = ",".join(f"{name}={url}" for name, url in peers.items())
    members = []
    for number, (name, peer) in enumerate(peers.items()):
        client = f"http://{address}:{2379 + 10 * number}"
        data = lab.directory / f"etcd-{name}"
        os.makedirs(data, mode=0o700, exist_ok=True)
        argv = ["etcd", "--name", name, "--data-dir", str(data), "--initial-cluster", cluster, "--initial-cluster-token", "demo"]
        argv += ["--listen-client-urls", client, "--advertise-client-urls", client]
        argv += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        members.append(Program(argv, network=network, log=lab.directory / f"etcd-{name}.jsonl", hears=False))
    return members
