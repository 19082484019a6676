"""Settings of the kernel (net.ipv4.conf.*, net.ipv4.*) that the configuration asks for, given back at the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vrrp.config.model.configuration import VrrpConfig

CONF = Path("/proc/sys/net/ipv4/conf")

EVERYWHERE = ".."
"""In the place of an interface: the setting is of the whole network namespace, a directory above those of the interfaces."""

Setting = tuple[str, str]
"""(interface, name)."""


def wanted_sysctls(config: VrrpConfig) -> dict[Setting, str]:
    """promote_secondaries: an address whose primary is removed becomes primary itself instead of being removed with it.

    disable_local_igmp: no IGMP reports for 224.0.0.0/24.
    """
    wanted = {(model.interface, "promote_secondaries"): "1" for model in config.instances if model.promote_secondaries and model.interface}
    if config.global_defs.disable_local_igmp:
        wanted[EVERYWHERE, "igmp_link_local_mcast_reports"] = "0"
    return wanted


class Sysctls:
    """What was set, and what stood there before."""

    def __init__(self) -> None:
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
            except OSError as error:
                problems.append(f"{_text(interface, name)} is not set: {error.strerror}")
        return problems

    def restore(self) -> None:
        """Give everything back. An interface that is gone needs nothing."""
        self._give_back(list(self._before))

    def _give_back(self, settings: list[Setting]) -> list[str]:
        problems = []
        for interface, name in settings:
            try:
                (CONF / interface / name).write_text(self._before.pop((interface, name)))
            except FileNotFoundError:
                continue
            except OSError as error:
                problems.append(f"{_text(interface, name)} is not given back: {error.strerror}")
        return problems


def _text(interface: str, name: str) -> str:
    return f"the sysctl {name}" if interface == EVERYWHERE else f"{name} of {interface}"
