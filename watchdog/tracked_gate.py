"""Whether keepalived.conf lets braind hold an instance: the gate file is tracked, with the weight that means FAULT (tried with 2.2.7)."""

from __future__ import annotations

from vrrp.config.model.configuration import VrrpConfig
from watchdog.config.model import GateSettings, GroupKey, Mode


def gate_file(base: str, key: GroupKey) -> str:
    """The file that holds one group: ``/run/brainctl/gate/hold-51``, ``hold-51-v6`` for IPv6."""
    return f"{base}-{key.vrid}" if key.family == 4 else f"{base}-{key.vrid}-v6"


def gate_path(settings: GateSettings, mode: Mode, key: GroupKey) -> str:
    """The gate file of a group in this mode."""
    return gate_file(settings.grant_file if mode is Mode.STRICT else settings.hold_file, key)


def missing_gate(config: VrrpConfig, instance_name: str, path: str, mode: Mode) -> str:
    """Why an instance would not be held by the file at ``path``, or "" if it would.

    Only weight 0 means FAULT; a weight of another number only changes the priority, and a backup with a lower priority still takes over
    when it hears nobody. strict needs ``reverse``: everything but 1 holds.
    """
    instance = config.instance(instance_name)
    if instance is None:
        return f"{instance_name} is not in the configuration"
    tracks = list(instance.track.files)
    for group in config.sync_groups:
        if instance_name in group.members:
            tracks += group.track.files
    names = {f.name for f in config.track_files if f.path == path}
    used = [track for track in tracks if track.name in names]
    if not used:
        return f"{instance_name} does not track {path}"
    wants_reverse = mode is Mode.STRICT
    if any(track.weight == 0 and track.reverse is wants_reverse for track in used):
        return ""
    wanted = "weight 0 reverse" if wants_reverse else "weight 0"
    return f"{instance_name} tracks {path}, but not with {wanted}"
