"""PURE: what a reload changes.

keepalived's rule of identity: an instance is the same one if VRID, family, interface and kind of transport agree (with
unicast its source address, with multicast its group and VMAC settings). The name is not part of it. What is the same
keeps its state; MASTER stays MASTER.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol, TypeVar

from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.daemon import DaemonSettings
from vrrp.config.model.instance import VrrpInstance


class _Named(Protocol):
    @property
    def name(self) -> str:
        """The identity of everything but instances."""


NamedT = TypeVar("NamedT", bound=_Named)


@dataclass(frozen=True, slots=True)
class InstanceChange:
    """One instance before and after. ``changed``: names of the VrrpInstance fields that differ."""

    old: VrrpInstance
    new: VrrpInstance
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NamesDiff:
    """Names that came, went, and stayed with other values."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True)
class ConfigDiff:
    """``kept``: the same in every field. ``changed``: the same virtual router with other settings; it keeps its state.

    ``frozen``: daemon settings that differ but only count after a restart; the running values stay.
    """

    added: tuple[VrrpInstance, ...]
    removed: tuple[VrrpInstance, ...]
    changed: tuple[InstanceChange, ...]
    kept: tuple[VrrpInstance, ...]
    scripts: NamesDiff
    track_files: NamesDiff
    track_processes: NamesDiff
    sync_groups: NamesDiff
    global_defs_changed: bool
    frozen: tuple[str, ...]

    @property
    def nothing(self) -> bool:
        """The two configurations mean the same."""
        parts = (self.scripts, self.track_files, self.track_processes, self.sync_groups)
        return not (self.added or self.removed or self.changed or any(parts) or self.global_defs_changed or self.frozen)


def identity(instance: VrrpInstance) -> Hashable:
    """What makes two instances of two configurations the same virtual router."""
    common = (instance.vrid, instance.family, instance.interface, instance.unicast)
    if instance.unicast:
        return (*common, instance.source)
    vmac = None if instance.vmac is None else (instance.vmac.ipvlan, instance.vmac.name, instance.vmac.mac, instance.vmac_xmit_base)
    return (*common, instance.multicast_group, vmac)


def compare(old: VrrpConfig, new: VrrpConfig) -> ConfigDiff:
    """What happens on a reload from ``old`` to ``new``."""
    before = {identity(instance): instance for instance in old.instances}
    after = {identity(instance): instance for instance in new.instances}
    pairs = [(before[key], instance) for key, instance in after.items() if key in before]
    changes = [InstanceChange(was, now, changed_fields(was, now)) for was, now in pairs]
    return ConfigDiff(
        added=tuple(instance for key, instance in after.items() if key not in before),
        removed=tuple(instance for key, instance in before.items() if key not in after),
        changed=tuple(change for change in changes if change.changed),
        kept=tuple(change.new for change in changes if not change.changed),
        scripts=_names(old.scripts, new.scripts),
        track_files=_names(old.track_files, new.track_files),
        track_processes=_names(old.track_processes, new.track_processes),
        sync_groups=_names(old.sync_groups, new.sync_groups),
        global_defs_changed=old.global_defs != new.global_defs,
        frozen=tuple(f.name for f in fields(DaemonSettings) if getattr(old.daemon, f.name) != getattr(new.daemon, f.name)),
    )


def changed_fields(old: VrrpInstance, new: VrrpInstance) -> tuple[str, ...]:
    """The fields that differ, positions apart."""
    return tuple(f.name for f in fields(VrrpInstance) if f.compare and getattr(old, f.name) != getattr(new, f.name))


def _names(old: Sequence[NamedT], new: Sequence[NamedT]) -> NamesDiff:
    before, after = {item.name: item for item in old}, {item.name: item for item in new}
    return NamesDiff(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(name for name in after if name in before and before[name] != after[name]),
    )
