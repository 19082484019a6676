"""Settings of the kernel (net.ipv4.conf.*, net.ipv4.*) that the configuration asks for, given back at the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.links import LinkKind

CONF = Path("/proc/sys/net/ipv4/conf")

EVERYWHERE = ".."
"""In the place of an interface: the setting is of the whole network namespace, a directory above those of the interfaces."""

Setting = tuple[str, str]
"""(interface, name)."""


def wanted_sysctls(config: VrrpConfig, in_force: Mapping[Setting, str], conf: Path = CONF) -> dict[Setting, str]:
    """promote_secondaries: an address whose primary is removed becomes primary itself instead of being removed with it.

    disable_local_igmp: no IGMP reports for 224.0.0.0/24.

    arp_ignore, arp_filter on an interface below an IPv4 macvlan: it does not answer for the macvlan's addresses. rp_filter must be off on
    the macvlan, and the kernel takes the larger one of its own and that of "all": the value of "all" moves to every other interface and to
    "default" (for interfaces to come), so that nothing changes for them. All of this as keepalived. Not as keepalived: arp_announce. A
    reply from a virtual address often leaves by the interface below, and the ARP request for the client would name the virtual address with
    that interface's own MAC: the client would learn it, and miss the takeover. ``in_force``: what is set already.
    """
    wanted = {(model.interface, "promote_secondaries"): "1" for model in config.instances if model.promote_secondaries and model.interface}
    if config.global_defs.disable_local_igmp:
        wanted[EVERYWHERE, "igmp_link_local_mcast_reports"] = "0"
    links = [link for link in config.links if link.kind is LinkKind.MACVLAN and not link.ipv6]
    for link in links:
        wanted[link.base, "arp_ignore"] = wanted[link.base, "arp_filter"] = "1"
        wanted[link.base, "arp_announce"] = "2"
    if links and ("all", "rp_filter") in in_force:
        wanted |= {setting: value for setting, value in in_force.items() if setting[1] == "rp_filter"}
    elif links:
        wanted |= _moved_rp_filter({link.name for link in links}, conf)
    return wanted


def _moved_rp_filter(links: set[str], conf: Path) -> dict[Setting, str]:
    """Empty where it is off for "all": nothing to move."""
    everywhere = _read(conf / "all" / "rp_filter")
    if everywhere <= 0:
        return {}
    names = [path.name for path in conf.iterdir() if path.name not in links and path.name != "all"]
    moved = {(name, "rp_filter"): str(everywhere) for name in names if 0 <= _read(conf / name / "rp_filter") < everywhere}
    return {**moved, ("all", "rp_filter"): "0"}


def _read(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return -1


class Sysctls:
    """What was set, and what stood there before."""

    def __init__(self) -> None:
        self.in_force: dict[Setting, str] = {}
        """What we set."""
        self._before: dict[Setting, str] = {}

    def apply(self, wanted: Mapping[Setting, str]) -> list[str]:
        """Set what is wanted, give back what is wanted no more; returns what went wrong, in words."""
        problems = self._give_back([setting for setting in self._before if setting not in wanted])
        for (interface, name), value in wanted.items():
            path = CONF / interface / name
            try:
                before = path.read_text().strip()
                if before != value:
                    path.write_text(value)
                    self._before.setdefault((interface, name), before)
                    self.in_force[interface, name] = value
            except OSError as error:
                problems.append(f"{_text(interface, name)} is not set: {error.strerror}")
        return problems

    def restore(self) -> None:
        """Give everything back. An interface that is gone needs nothing."""
        self._give_back(list(self._before))

    def _give_back(self, settings: list[Setting]) -> list[str]:
        problems = []
        for interface, name in settings:
            path, before, ours = CONF / interface / name, self._before.pop((interface, name)), self.in_force.pop((interface, name))
            try:
                if path.read_text().strip() == ours:  # what somebody else set in the meantime stays
                    path.write_text(before)
            except FileNotFoundError:
                continue
            except OSError as error:
                problems.append(f"{_text(interface, name)} is not given back: {error.strerror}")
        return problems


def _text(interface: str, name: str) -> str:
    return f"the sysctl {name}" if interface == EVERYWHERE else f"{name} of {interface}"
