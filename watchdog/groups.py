"""What braind reads from keepalived.conf: the VIP groups, whichever VRRP daemon runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from base.core import NS_PER_MS
from base.diagnostics import ConfigError, Diagnostic, Severity
from vrrp.config.load import read_config
from vrrp.config.model.configuration import VrrpConfig
from watchdog.config.model import GroupKey, GroupSettings, LinkAddress


@dataclass(frozen=True, slots=True)
class LoadedGroups:
    """The groups, the whole configuration, what the reader remarked, and every file that was read (to see a change)."""

    groups: tuple[GroupSettings, ...]
    config: VrrpConfig
    diagnostics: tuple[Diagnostic, ...]
    files: tuple[str, ...]


def read_groups(path: str, *, tolerant: bool = False) -> LoadedGroups:
    """Read keepalived.conf; raises base.diagnostics.ConfigError with every error of the file.

    ``tolerant``: only an unreadable file is refused. A stock keepalived runs files with mistakes in them, and what runs must be watched.
    """
    loaded = read_config(path)
    if not tolerant and any(d.severity is Severity.ERROR for d in loaded.diagnostics):
        raise ConfigError(loaded.diagnostics)
    return LoadedGroups(groups_of(loaded.config), loaded.config, tuple(loaded.diagnostics), tuple(loaded.files))


def groups_of(config: VrrpConfig) -> tuple[GroupSettings, ...]:
    """One group per vrrp_instance. ``brainctl check`` refuses the same VRID and family twice; a stock keepalived runs it: here the first
    one is watched, and says that it stands for two."""
    groups: dict[GroupKey, GroupSettings] = {}
    sync_groups = {member: group.name for group in config.sync_groups for member in group.members}
    for instance in config.instances:
        key = GroupKey(instance.vrid, int(instance.family.value))
        lines = (*instance.addresses, *instance.excluded_addresses)
        if (first := groups.get(key)) is not None:
            clash = f"{instance.name} on {instance.interface} has the VRID of {first.name} and is not watched: give it another one"
            groups[key] = replace(first, clash=first.clash or clash)
            continue
        addresses = tuple(LinkAddress(a.interface or instance.interface, str(a.address)) for a in lines)
        groups[key] = GroupSettings(
            key=key,
            name=instance.name,
            interface=instance.interface,
            addresses=addresses,
            priority=instance.priority,
            version=instance.version,
            advert_interval_ms=instance.advert_interval_ns // NS_PER_MS,
            use_vmac=instance.vmac is not None,
            preempt=not instance.nopreempt,
            sync_group=sync_groups.get(instance.name, ""),
        )
    return tuple(groups[key] for key in sorted(groups))
