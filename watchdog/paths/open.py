"""From a configured path to an open one."""

from __future__ import annotations

from base.pump import Pump
from watchdog.config.model import PathKind, PathSettings, PerNode
from watchdog.paths.ethernet import EthernetTransport
from watchdog.paths.multicast import open_multicast
from watchdog.paths.path import OnBytes, OnChange, Opener, Path
from watchdog.paths.serial import SerialTransport
from watchdog.paths.unicast import open_unicast


def _of_peer(pair: PerNode, self_name: str) -> str:
    return next((value for node, value in pair.values if node != self_name), "")


def _opener(settings: PathSettings, self_name: str) -> Opener:
    interface = settings.interface.of(self_name)
    own, peer = settings.address.of(self_name), _of_peer(settings.address, self_name)
    match settings.kind:
        case PathKind.ETHERNET:
            return lambda: EthernetTransport(interface)
        case PathKind.MULTICAST:
            return lambda: open_multicast(settings.group, settings.port, interface, own, peer)
        case PathKind.UNICAST:
            return lambda: open_unicast(own, peer, settings.port, interface)
        case PathKind.SERIAL:
            return lambda: SerialTransport(settings.device.of(self_name), settings.baud)


def open_path(settings: PathSettings, self_name: str, pump: Pump, on_bytes: OnBytes, on_change: OnChange) -> Path:
    """Open a path of node ``self_name``. Whatever cannot be opened now is tried again; ``on_change`` tells. Never raises OSError.

    ``on_change`` may be called before this returns, with False, when the path cannot be opened at once.
    """
    interface = "" if settings.kind is PathKind.SERIAL else settings.interface.of(self_name)
    return Path(settings.name, interface, _opener(settings, self_name), pump, on_bytes, on_change)
