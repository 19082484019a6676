"""Addresses of brain.toml beside what this host and keepalived.conf say: a reference that is the peer proves nothing, and heartbeats
between swapped addresses arrive nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from base.diagnostics import Diagnostic, Position, Severity
from base.toml_positions import Positions
from brainctl.local_network import LocalAddress
from watchdog.config.model import BrainSettings, GroupSettings, PathKind


def check_addresses(
    brain: BrainSettings, at: Positions, groups: Sequence[GroupSettings], local: Sequence[LocalAddress]
) -> Iterator[Diagnostic]:
    """Every address of brain.toml in turn; ``local`` are this host's (local_network.py)."""
    vips = {vip for group in groups for vip in group.vips}
    yield from _references(brain, at, groups, local, vips)
    yield from _paths(brain, at, local)
    yield from _nodes(brain, at, groups, local, vips)


def _references(
    brain: BrainSettings, at: Positions, groups: Sequence[GroupSettings], local: Sequence[LocalAddress], vips: set[str]
) -> Iterator[Diagnostic]:
    own = {a.address for a in local} | set(brain.me.addresses)
    peer = set(brain.peer.addresses) | {p.address.of(brain.peer.name) for p in brain.paths}
    service = {group.interface for group in groups}
    for number, reference in enumerate(brain.references):
        place = at.of(("reference", number, "address"))
        what = f"reference {reference.name}"
        if reference.address in vips:
            yield _error(
                place, f"{what} is a virtual address of this pair", "name a third host that always answers ARP, the gateway for one"
            )
        elif reference.address in own:
            yield _error(place, f"{what} is this node itself: it would answer in any isolation", "name a third host, the gateway for one")
        elif reference.address in peer:
            yield _error(place, f"{what} is the peer: when it dies this node would look isolated", "name a third host, the gateway for one")
        interface = reference.interface.of(brain.self_name)
        if service and interface not in service:
            text = f"{what} is asked on {interface}, where no address is served: it says nothing of the clients' side"
            remedy = f"name one on {', '.join(sorted(service))} too"
            yield Diagnostic(at.of(("reference", number, "interface")), Severity.WARNING, text, remedy)
        networks = [a for a in local if a.interface == interface and ip_address(a.address).version == ip_address(reference.address).version]
        if networks and not any(a.reaches(reference.address) for a in networks):
            text = f"{what}: {reference.address} is on no network of {interface}: nobody there answers for it"
            yield _error(place, text, "name the interface that leads to it")


def _paths(brain: BrainSettings, at: Positions, local: Sequence[LocalAddress]) -> Iterator[Diagnostic]:
    for number, path in enumerate(brain.paths):
        if path.kind is not PathKind.UNICAST:
            continue
        place = at.of(("path", number, "address"))
        interface, mine, theirs = path.interface.of(brain.self_name), path.address.of(brain.self_name), path.address.of(brain.peer.name)
        here = {a.address for a in local if a.interface == interface}
        if mine == theirs:
            yield _error(place, f"path {path.name} has the same address for both nodes", "give each node its own")
        elif here and theirs in here:
            text = f"path {path.name}: {theirs} stands for {brain.peer.name} and is an address of this node: are they swapped?"
            yield _error(place, text, f"write {brain.self_name} = {theirs!r} and the other node's own address")
        elif here and mine not in here:
            text = f"path {path.name}: {mine} is no address of {interface} on this node"
            yield _error(place, text, f"it has {', '.join(sorted(here))}")


def _nodes(
    brain: BrainSettings, at: Positions, groups: Sequence[GroupSettings], local: Sequence[LocalAddress], vips: set[str]
) -> Iterator[Diagnostic]:
    here = {a.address for a in local}
    service = [a for a in local if a.interface in {group.interface for group in groups} and a.address not in vips]
    for node in (brain.me, brain.peer):
        place = at.of(("node", node.name, "addresses"))
        if not node.addresses:
            severity = Severity.ERROR if brain.fence.enabled else Severity.WARNING
            text = f"[node.{node.name}] has no addresses: a crashed watcher there cannot be told from a dead node"
            example = service[0].address if service and node is brain.me else "…"
            remedy = f'add addresses = ["{example}"] (its own on the service network); needed before fencing may be armed'
            yield Diagnostic(place, severity, text, remedy)
        for address in node.addresses:
            if address in vips:
                yield _error(place, f"{address} of node {node.name} is a virtual address: it moves", "name its own address")
            elif node is brain.me and here and address not in here:
                swapped = set(brain.peer.addresses) & here
                hint = (
                    f"{', '.join(sorted(swapped))} of {brain.peer.name} is here: are they swapped?" if swapped else "name its own address"
                )
                yield _error(place, f"{address} is no address of this node", hint)
            elif node is brain.peer and address in here:
                yield _error(place, f"{address} of {node.name} is an address of this node", "name the other node's own address")
        asked = [a.reaches(address) for a in service for address in node.addresses]
        if node is brain.peer and asked and not any(asked):
            # Peers behind a router: a crashed watcher on a healthy node looks like a dead node on every path at once.
            severity = Severity.ERROR if brain.fence.enabled else Severity.WARNING
            text = f"no address of {node.name} is on a service network: its kernel cannot be asked there whether it lives"
            remedy = (
                "add its own address on the service network; peers behind a router cannot be told from dead ones: fencing may not be armed"
            )
            yield Diagnostic(place, severity, text, remedy)


def _error(place: Position, message: str, remedy: str) -> Diagnostic:
    return Diagnostic(place, Severity.ERROR, message, remedy)
