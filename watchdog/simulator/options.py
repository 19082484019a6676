"""What one run is: drawn from its seed (some faults off, others frequent), printed in full, and enough to repeat it."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
)
from watchdog.simulator.faults import Fault

NODES = ("A", "B")
ADDRESSES = {"A": "10.0.0.1", "B": "10.0.0.2"}
MACS = {"A": "02:00:00:00:00:0a", "B": "02:00:00:00:00:0b", "gateway": "02:00:00:00:00:fe", "stranger": "02:00:00:00:00:66"}
GATEWAY = "10.0.0.254"
VIPS = ("10.0.0.100", "10.0.0.101")
MEASURED_F_MS = 6_500
"""F: what ``fence check`` would have measured for our switches: their slowest answer and a margin."""
DELAY_MS = 12_000
"""d of the node that acts second: F + the largest difference of detection times + margin."""

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

    def describe(self) -> list[str]:
        """One line per option and per fault, for a person."""
        names = [name for name in self.__slots__ if name != "faults"]
        values = {name: getattr(self, name) for name in names}
        lines = [f"{name} = {value.value if isinstance(value, Mode) else value}" for name, value in values.items()]
        return lines + [f"fault: {fault}" for fault in self.faults]


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
        interval = options.advert_interval_ms
        groups.append(
            GroupSettings(key, f"VI_{index + 1}", "eth0", (LinkAddress("eth0", VIPS[index]),), priority, options.vrrp_version, interval)
        )
    return tuple(groups)


def switch_name(target: str, level: int) -> str:
    """The device of one level for one target."""
    return f"{'bmc' if level == 1 else 'pdu'}-{target}"


def identity_of(target: str, level: int) -> str:
    """What the device says its outlet belongs to."""
    return f"serial-{switch_name(target, level)}"


def _fence(options: Options) -> FenceSettings:
    def level(target: str, number: int) -> FenceLevel:
        identity = identity_of(target, number) if options.enrolled else ""
        name = switch_name(target, number)
        return FenceLevel(
            f"level{number}", (FenceDevice(name, "agent", target, (("worth", "power"),), options.device_deadline_ms, identity),)
        )

    levels = tuple((target, tuple(level(target, n + 1) for n in range(options.fence_levels))) for target in NODES)
    return FenceSettings(
        enabled=options.fence_enabled and options.fence_levels > 0,
        levels=levels,
        delay_ms=DELAY_MS,
        measured_ms=MEASURED_F_MS,
        budget_per_hour=options.budget_per_hour,
    )


def settings_of(options: Options, node: str) -> BrainSettings:
    """brain.toml as ``node`` reads it."""
    paths = []
    for name in options.paths:
        path = PATHS[name]
        if path.kind is not PathKind.SERIAL:
            path = replace(path, interval_ms=options.beat_ms, silent_after_ms=5 * options.beat_ms)
        paths.append(path)
    both_eth0 = PerNode((("A", "eth0"), ("B", "eth0")))
    return BrainSettings(
        cluster="sim",
        key_file="",
        self_name=node,
        nodes=(NodeSettings("A", 1, (ADDRESSES["A"],)), NodeSettings("B", 2, (ADDRESSES["B"],))),
        policy=PolicySettings(mode=options.mode, confirm_ms=options.confirm_ms),
        gate=GateSettings(daemon=options.daemon, bridge_adverts=options.bridge_adverts),
        paths=tuple(paths),
        references=(ReferenceSettings("gateway", GATEWAY, both_eth0),) if options.reference else (),
        fence=_fence(options),
        alerts=(),
    )
