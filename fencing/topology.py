"""What the fence devices of a pair have in common: one box whose failure takes both nodes' fences, or a node and its fence, at once."""

from __future__ import annotations

from collections.abc import Iterable

from fencing.plan.settings import FenceDevice, FenceLevel, FenceSettings
from fencing.plan.worth import Worth

_ADDRESS_KEYS = ("host", "ip", "ipaddr", "uri", "devices")


def address_of(device: FenceDevice) -> str:
    """Where the device is ("" = not told): two devices with one address are one box."""
    parameters = dict(device.parameters)
    return next((parameters[key].strip().lower() for key in _ADDRESS_KEYS if parameters.get(key)), "")


def topology_warnings(settings: FenceSettings, addresses: dict[str, tuple[str, ...]]) -> list[str]:
    """Sentences for ``brainctl check``. ``addresses``: the nodes' own addresses by name."""
    warnings = []
    boxes: dict[str, set[str]] = {}
    for target, levels in settings.levels:
        for level in levels:
            for device in level.devices:
                if where := address_of(device):
                    boxes.setdefault(where, set()).add(target)
        if len(levels) > 1 and len({address_of(d) for level in levels for d in level.devices} - {""}) == 1:
            warnings.append(f"all fence levels of {target} go to one box; when it is down no level is left: use devices of different make")
    for where, targets in sorted(boxes.items()):
        if len(targets) > 1 and all(_only(settings, target, where) for target in targets):
            warnings.append(
                f"{where} is the only way to fence {' and '.join(sorted(targets))}: a strip or chassis that fails takes its load along, "
                f"and neither node can be fenced; add a level on another box"
            )
    for target, levels in settings.levels:
        for device in _devices(levels):
            remote = device.worth is not Worth.BOOKKEEPING and device.type not in ("ssh", "wake_on_lan")
            for node in (node for node, own in addresses.items() if remote and address_of(device) in own):
                where = address_of(device)
                warnings.append(f"{device.name} fences {target} at {where}, an address of {node} itself: it dies with the node")
    return warnings


def _devices(levels: Iterable[FenceLevel]) -> list[FenceDevice]:
    return [device for level in levels for device in level.devices]


def _only(settings: FenceSettings, target: str, where: str) -> bool:
    return {address_of(device) for device in _devices(settings.levels_for(target))} == {where}
