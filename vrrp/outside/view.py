"""What the outside is shown: one status document of the vrrp process, joined with its configuration. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address

from base.channel import JsonObject
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.instance import VrrpInstance
from vrrp.placement import mac_of

_NS_PER_CS = 10_000_000


class ShownState(IntEnum):
    """keepalived's numbers of states, as its MIB (VrrpState) has them."""

    INIT = 0
    BACKUP = 1
    MASTER = 2
    FAULT = 3
    UNKNOWN = 4
    STOP = 5
    DELETED = 6

    @classmethod
    def of(cls, word: str) -> ShownState:
        """From the state's name in status documents and events."""
        return cls.__members__.get(word, cls.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Link:
    """What the kernel says about an interface; index 0 = it does not exist."""

    index: int = 0
    mac: bytes = bytes(6)
    up: bool = False


@dataclass(frozen=True, slots=True)
class InstanceView:
    """One virtual router: where it stands (``status``), how it is configured (``model``), its 1-based ``number`` in the file."""

    number: int
    model: VrrpInstance
    status: JsonObject
    link: Link

    @property
    def state(self) -> ShownState:
        """Its state."""
        return ShownState.of(str(self.status.get("state", "")))

    @property
    def local_address(self) -> IPv4Address | IPv6Address | None:
        """The source of its adverts."""
        return _address(self.status.get("local_address"))

    @property
    def master_address(self) -> IPv4Address | IPv6Address | None:
        """Who is MASTER as far as this instance knows: itself, or the sender of the adverts."""
        if self.state is ShownState.MASTER:
            return self.local_address
        return _address((self.status.get("master") or {}).get("address"))

    @property
    def mac(self) -> bytes:
        """The MAC that answers for the virtual addresses: the virtual one with use_vmac (RFC 9568, section 7.3), else the interface's."""
        vmac = self.model.vmac
        if vmac is None or vmac.ipvlan:
            return self.link.mac
        return mac_of(vmac, self.model.vrid, int(self.model.family))

    def counter(self, name: str) -> int:
        """One of the protocol counters."""
        return int(self.status.get("counters", {}).get(name, 0))

    def rejected(self, *reasons: str) -> int:
        """Adverts refused for any of these reasons."""
        refused = self.status.get("rejected", {})
        return sum(int(refused.get(reason, 0)) for reason in reasons)


@dataclass(frozen=True, slots=True)
class View:
    """``links``: by interface name. ``up_since_ns``: instance → when it left INIT or FAULT. ``master_uptime_cs``: the SNMP master's
    sysUpTime at the time of the status document.
    """

    config: VrrpConfig
    status: JsonObject
    links: dict[str, Link] = field(default_factory=dict)
    up_since_ns: dict[str, int] = field(default_factory=dict)
    host: str = ""
    version: str = ""
    master_uptime_cs: int = 0

    def instances(self) -> list[InstanceView]:
        """Those of the configuration that the vrrp process runs, in the order of the file."""
        running = {snapshot["name"]: snapshot for snapshot in self.status.get("instances", [])}
        return [
            InstanceView(number, model, running[model.name], self.link(model.interface))
            for number, model in enumerate(self.config.instances, 1)
            if model.name in running
        ]

    def group_state(self, name: str) -> ShownState:
        """The state of a sync group."""
        for group in self.status.get("groups", []):
            if group["name"] == name:
                return ShownState.of(group["state"])
        return ShownState.UNKNOWN

    def link(self, name: str) -> Link:
        """An interface; index 0 if there is none of that name."""
        return self.links.get(name, Link())

    @property
    def router_id(self) -> str:
        """As it stands in mail and traps."""
        return self.config.global_defs.router_id or self.host

    def up_for_cs(self, instance: InstanceView) -> int:
        """How long the instance has been out of INIT and FAULT, in 1/100 s."""
        since_ns: int | None = self.up_since_ns.get(instance.model.name, instance.status.get("since_ns"))
        if since_ns is None or instance.state not in (ShownState.BACKUP, ShownState.MASTER):
            return 0
        return max(0, int(self.status.get("now_ns", 0)) - since_ns) // _NS_PER_CS


def _address(text: str | None) -> IPv4Address | IPv6Address | None:
    return ip_address(text.partition("/")[0]) if text else None
