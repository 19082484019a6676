"""What one run is: drawn from its seed (some faults off, others frequent), printed in full, and enough to repeat it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from fencing.plan.settings import FenceDevice, FenceLevel, FenceSettings
from watchdog.config.model import (
    BrainSettings,
    GateSettings,
    GroupKey,
    GroupSettings,
    LinkAddress,
    Mode,
    NodeSettings,
    PathKind,
    PathSettings,
    PerNode,
    PolicySettings,
    ReferenceSettings,
    WitnessKind,
    WitnessSettings,
)
from watchdog.judgement.delays import least_delay_ms
from watchdog.simulator.faults import Fault

NODES = ("A", "B")
ADDRESSES = {"A": "10.0.0.1", "B": "10.0.0.2"}
MACS = {
    "A": "02:00:00:00:00:0a",
    "B": "02:00:00:00:00:0b",
    "gateway": "02:00:00:00:00:fe",
    "router": "02:00:00:00:00:fd",
    "outside": "02:00:00:00:02:fe",
    "stranger": "02:00:00:00:00:66",
}
GATEWAY = "10.0.0.254"
MAX_GROUPS = 120
VIPS = tuple(f"10.0.{index // 100}.{100 + index % 100}" for index in range(MAX_GROUPS))
GATEWAYS = {"gateway": GATEWAY, "router": "10.0.0.253", "outside": "10.2.0.254"}
"""Reference hosts: two on the first service LAN, one on the second."""
MEASURED_F_MS = 6_500
"""F: what ``fence check`` would have measured for our switches: their slowest answer and a margin."""

PATHS: dict[str, PathSettings] = {
    "ethernet": PathSettings("ethernet", PathKind.ETHERNET, "eth0", interface=PerNode((("A", "eth0"), ("B", "eth0")))),
    "unicast": PathSettings("unicast", PathKind.UNICAST, "eth1", interface=PerNode((("A", "eth1"), ("B", "eth1")))),
    "multicast": PathSettings("multicast", PathKind.MULTICAST, "eth0", interface=PerNode((("A", "eth0"), ("B", "eth0")))),
    "serial": PathSettings("serial", PathKind.SERIAL, "serial", interval_ms=500, silent_after_ms=2_000),
}


@dataclass(frozen=True, slots=True)
class Options:
    """Everything about one run. Times in ms unless the name says otherwise."""

    seed: int
    story: str
    mode: Mode
    daemon: str
    groups: int
    vrrp_version: int
    advert_interval_ms: int
    preempt: bool
    paths: tuple[str, ...]
    beat_ms: int
    reference: bool
    fence_levels: int
    fence_enabled: bool
    enrolled: bool
    budget_per_hour: int
    confirm_ms: int
    bridge_adverts: bool
    use_vmac: bool
    device_deadline_ms: int
    faults: tuple[Fault, ...]
    safety_ns: int
    healing_ns: int
    mode_b: Mode | None = None
    """B's mode during a rollout; None: as A's."""
    delay_ms: int = 0
    """d; 0: exactly what ``brainctl check`` would ask for."""
    measured_ms: int = MEASURED_F_MS
    yield_deadline_ms: int = 1_500
    node_addresses: bool = True
    """Whether ``[node.X] addresses`` is configured."""
    answers_arp: bool = True
    """False: no node answers ARP for its own address (arp_ignore)."""
    lans: int = 1
    """Service LANs: with 2, every second group lives on eth2, with a reference of its own."""
    witness: bool = False
    references: int = 1
    """Reference hosts on the first LAN (if ``reference``)."""

    @property
    def lan_names(self) -> tuple[str, ...]:
        """The service LANs."""
        return ("eth0", "eth2")[: self.lans]

    @property
    def networks(self) -> tuple[str, ...]:
        """Every Ethernet segment between the nodes."""
        return ("eth0", "eth1", "eth2")[: 1 + self.lans]

    def mode_of(self, node: str) -> Mode:
        """The mode that this node's brain.toml names."""
        return self.mode_b if node == "B" and self.mode_b is not None else self.mode

    def describe(self) -> list[str]:
        """One line per option and per fault, for a person."""
        names = [name for name in self.__slots__ if name != "faults"]
        values = {name: getattr(self, name) for name in names if name not in ("mode_b",) or self.mode_b is not None}
        lines = [f"{name} = {value.value if isinstance(value, Mode) else value}" for name, value in values.items()]
        return lines + [f"fault: {fault}" for fault in self.faults]


class SettingError(ValueError):
    """NAME=VALUE is not an option of a run; the message says what is."""


def with_setting(options: Options, text: str) -> Options:
    """``options`` with one of them as ``NAME=VALUE`` says (``brainctl simulate --set``). Raises SettingError."""
    name, _, value = text.partition("=")
    types = {field.name: str(field.type) for field in fields(Options) if field.name not in ("seed", "story", "faults")}
    if name not in types:
        raise SettingError(f"{text!r}: no such option; there are {', '.join(types)}")
    try:
        made: Any
        match types[name]:
            case "bool":
                made = {"true": True, "false": False}[value.lower()]
            case "int":
                made = int(value)
            case "tuple[str, ...]":
                made = tuple(value.split(","))
                if unknown := [path for path in made if path not in PATHS]:
                    raise SettingError(f"{text!r}: no such path as {unknown[0]}; there are {', '.join(PATHS)}")
            case "str":
                made = value
                if value not in ("vrrpd", "keepalived"):
                    raise SettingError(f"{text!r}: the daemon is vrrpd or keepalived")
            case _:
                made = Mode(value)
    except (KeyError, ValueError) as error:
        if isinstance(error, SettingError):
            raise
        raise SettingError(f"{text!r}: {name} is a {types[name]}") from None
    return replace(options, **{name: made})


def virtual_mac(address: str) -> str:
    """The MAC that answers for one of VIPS with use_vmac, whichever node holds it (RFC 5798 section 7.3); "" for other addresses."""
    return f"00:00:5e:00:01:{51 + VIPS.index(address):02x}" if address in VIPS else ""


def groups_of(options: Options, node: str) -> tuple[GroupSettings, ...]:
    """What ``node``'s keepalived.conf says: A is preferred for the first group, B for the second."""
    groups = []
    for index in range(options.groups):
        preferred = NODES[index % 2]
        key = GroupKey(51 + index, 4)
        priority = 150 if node == preferred else 100
        interval_ms = options.advert_interval_ms
        lan = lan_of(options, index)
        address = LinkAddress(lan, VIPS[index])
        version, preempt = options.vrrp_version, options.preempt
        groups.append(GroupSettings(key, f"VI_{index + 1}", lan, (address,), priority, version, interval_ms, preempt=preempt))
    return tuple(groups)


def lan_of(options: Options, index: int) -> str:
    """The service LAN of the group with this index."""
    return "eth2" if options.lans > 1 and index % 2 else "eth0"


def references_of(options: Options) -> dict[str, tuple[str, str]]:
    """Name -> (interface, address) of every configured reference."""
    if not options.reference:
        return {}
    names = [("gateway", "eth0"), ("router", "eth0")][: options.references] + ([("outside", "eth2")] if options.lans > 1 else [])
    return {name: (interface, GATEWAYS[name]) for name, interface in names}


def switch_name(target: str, level: int) -> str:
    """The device of one level for one target."""
    return f"{'bmc' if level == 1 else 'pdu'}-{target}"


def identity_of(target: str, level: int) -> str:
    """What the device says its outlet belongs to."""
    return f"serial-{switch_name(target, level)}"


def asked_delay_ms(options: Options) -> int:
    """d as ``brainctl check`` asks for it: the smallest delay at which it has nothing to say."""
    return least_delay_ms(paths_of(options), policy_of(options, "A"), FenceSettings(levels=_levels(options)))


def policy_of(options: Options, node: str) -> PolicySettings:
    """``[policy]`` as ``node`` reads it."""
    return PolicySettings(mode=options.mode_of(node), confirm_ms=options.confirm_ms, yield_deadline_ms=options.yield_deadline_ms)


def _levels(options: Options) -> tuple[tuple[str, tuple[FenceLevel, ...]], ...]:
    def level(target: str, number: int) -> FenceLevel:
        identity = identity_of(target, number) if options.enrolled else ""
        name = switch_name(target, number)
        return FenceLevel(
            f"level{number}", (FenceDevice(name, "agent", target, (("worth", "power"),), options.device_deadline_ms, identity),)
        )

    return tuple((target, tuple(level(target, n + 1) for n in range(options.fence_levels))) for target in NODES)


def _fence(options: Options) -> FenceSettings:
    return FenceSettings(
        enabled=options.fence_enabled and options.fence_levels > 0,
        levels=_levels(options),
        delay_ms=options.delay_ms or asked_delay_ms(options),
        measured_ms=options.measured_ms,
        budget_per_hour=options.budget_per_hour,
    )


def paths_of(options: Options) -> tuple[PathSettings, ...]:
    """``[[path]]``."""
    paths = []
    for name in options.paths:
        path = PATHS[name]
        if path.kind is not PathKind.SERIAL:
            path = replace(path, interval_ms=options.beat_ms, silent_after_ms=5 * options.beat_ms)
        paths.append(path)
    return tuple(paths)


def settings_of(options: Options, node: str) -> BrainSettings:
    """brain.toml as ``node`` reads it."""
    references = tuple(
        ReferenceSettings(name, address, PerNode((("A", interface), ("B", interface))))
        for name, (interface, address) in references_of(options).items()
    )
    own = {name: (ADDRESSES[name],) if options.node_addresses else () for name in NODES}
    return BrainSettings(
        cluster="sim",
        key_file="",
        self_name=node,
        nodes=(NodeSettings("A", 1, own["A"]), NodeSettings("B", 2, own["B"])),
        policy=policy_of(options, node),
        gate=GateSettings(daemon=options.daemon, bridge_adverts=options.bridge_adverts),
        paths=paths_of(options),
        references=references,
        fence=_fence(options),
        alerts=(),
        witness=WitnessSettings(WitnessKind.ETCD, lease_ms=3 * options.measured_ms, endpoints=("http://10.9.0.1:2379",))
        if options.witness
        else None,
    )
