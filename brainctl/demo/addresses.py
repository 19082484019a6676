"""What differs from run to run: addresses, VRID, MACs, ports, outlets, serial numbers; drawn from one seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

NODES = ("A", "B")


@dataclass(frozen=True, slots=True)
class Outlet:
    """One power outlet: the device it belongs to, its own serial number and the number of the plug that feeds the node."""

    node: str
    device: str
    address: str
    port: int
    plug: int
    serial: str


MORE_ADDRESSES = 39


@dataclass(frozen=True, slots=True)
class Plan:
    """Every address of one laboratory. ``host`` maps a role (A, B, client, gateway, stranger, pager) to its address on the service LAN.

    ``inside``: the second service LAN (eth2 of the nodes), with a gateway, a client and a stranger of its own. ``more_vips``: further
    addresses on the service LAN. ``service6``, ``host6``, ``vip6``: IPv6 on the service LAN.
    """

    seed: int
    service: IPv4Network
    heartbeat: IPv4Network
    management: IPv4Network
    vip: str
    vrid: int
    host: dict[str, str]
    heartbeat_host: dict[str, str]
    management_host: dict[str, str]
    mac: dict[str, str]
    heartbeat_mac: dict[str, str]
    service_port: int
    beat_port: int
    group: str
    pager_port: int
    outlets: tuple[Outlet, ...]
    power_user: str
    power_password: str
    inside: IPv4Network
    inside_vip: str
    inside_vrid: int
    inside_host: dict[str, str]
    inside_mac: dict[str, str]
    more_vips: tuple[str, ...]
    service6: IPv6Network
    vip6: str
    vrid6: int
    host6: dict[str, str]
    witness: str
    """A host on the management network."""

    def service_address(self, node: str, *, routed: bool = False) -> str:
        """A node's address on its service LAN, or on the other side of the router."""
        return (self.inside_host if routed else self.host)[node]

    def outlet(self, node: str, device: str) -> Outlet:
        """The outlet of ``node`` at ``device`` ("bmc" or "pdu")."""
        return next(o for o in self.outlets if o.node == node and o.device == device)


def draw_plan(seed: int) -> Plan:
    """The plan of a seed; the same seed gives the same plan."""
    rng = random.Random(f"plan/{seed}")  # noqa: S311
    service = IPv4Network((f"10.{rng.randint(1, 250)}.{rng.randint(0, 250)}.0", 24))
    heartbeat = IPv4Network((f"192.168.{rng.randint(0, 250)}.0", 24))
    management = IPv4Network((f"172.{rng.randint(16, 31)}.{rng.randint(0, 250)}.0", 24))
    numbers = rng.sample(range(2, 250), 7)
    roles = ("A", "B", "client", "gateway", "stranger", "pager")
    host = {role: str(service[number]) for role, number in zip(roles, numbers, strict=False)}
    beats = rng.sample(range(2, 250), 2)
    managed = rng.sample(range(2, 250), 8)
    management_host = {role: str(management[number]) for role, number in zip(NODES, managed, strict=False)}
    outlets = tuple(
        Outlet(
            node=node,
            device=device,
            address=str(management[managed[4 + index]]),
            port=rng.randint(8000, 8999),
            plug=rng.randint(1, 24),
            serial=f"{device.upper()}-{rng.randrange(16**6):06X}",
        )
        for index, (node, device) in enumerate((node, device) for node in NODES for device in ("bmc", "pdu"))
    )

    inside = IPv4Network((f"10.{rng.randint(251, 254)}.{rng.randint(0, 250)}.0", 24))
    inside_roles = ("A", "B", "client", "gateway", "stranger")
    inner = rng.sample(range(2, 250), 6)
    unused = sorted(set(range(2, 250)) - set(numbers))
    service6 = IPv6Network((f"fd{rng.randrange(256):02x}:{rng.randrange(1, 65536):x}::", 64))
    sixes = rng.sample(range(2, 60000), 7)
    vrids = rng.sample(range(1, 256), 3)

    def mac() -> str:
        return ":".join(f"{byte:02x}" for byte in (0x02, *(rng.randrange(256) for _ in range(5))))

    return Plan(
        seed=seed,
        service=service,
        heartbeat=heartbeat,
        management=management,
        vip=str(service[numbers[6]]),
        vrid=vrids[0],
        host=host,
        heartbeat_host={node: str(heartbeat[number]) for node, number in zip(NODES, beats, strict=True)},
        management_host=management_host,
        mac={role: mac() for role in (*roles, "detector")},
        heartbeat_mac={node: mac() for node in NODES},
        service_port=rng.randint(20000, 29999),
        beat_port=rng.randint(6000, 6999),
        group=f"239.255.{rng.randint(0, 255)}.{rng.randint(1, 254)}",
        pager_port=rng.randint(30000, 39999),
        outlets=outlets,
        power_user="fence",
        power_password="".join(rng.choice("abcdefghjkmnpqrstuvwxyz23456789") for _ in range(16)),
        inside=inside,
        inside_vip=str(inside[inner[5]]),
        inside_vrid=vrids[1],
        inside_host={role: str(inside[number]) for role, number in zip(inside_roles, inner, strict=False)},
        inside_mac={role: mac() for role in (*inside_roles, "detector")},
        more_vips=tuple(str(service[number]) for number in rng.sample(unused, MORE_ADDRESSES)),
        service6=service6,
        vip6=str(service6[sixes[6]]),
        vrid6=vrids[2],
        host6={role: str(service6[number]) for role, number in zip(roles, sixes, strict=False)},
        witness=str(management[next(n for n in range(2, 250) if n not in managed)]),
    )
