"""Wake-on-LAN: switches a node on, and can do nothing else. For ``brainctl fence on`` after a fence by a device that cannot.

The magic packet (six times 0xff, sixteen times the address) goes out as a broadcast to UDP port 9 on the named interface.
"""

from __future__ import annotations

import re
import socket

from base.clock import now_ns
from fencing.devices.device import NEVER_NS, DeviceConfigError, DeviceResult, elapsed_ms, is_stale, resolve_parameters, stale_result
from fencing.plan.events import DeviceOutcome
from fencing.plan.settings import FenceDevice

_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_PORT = 9
REPEATS = 3
"""The packet is not acknowledged; one that is lost must not leave a node off."""


class WakeOnLanDevice:
    """One network card, armed. Raises DeviceConfigError."""

    def __init__(self, settings: FenceDevice) -> None:
        self.settings = settings
        plain, _ = resolve_parameters(settings)
        mac = plain.get("mac", "").lower().replace("-", ":")
        if not _MAC.fullmatch(mac):
            raise DeviceConfigError(f'mac {plain.get("mac", "")!r} is no link-layer address; write mac = "52:54:00:12:34:56"')
        self._packet = b"\xff" * 6 + bytes.fromhex(mac.replace(":", "")) * 16
        self._interface = plain.get("interface", "")
        if not self._interface:
            raise DeviceConfigError("interface is missing; write the interface on which the card is woken")

    def perform(self, action: str, deadline_ns: int, valid_until_ns: int = NEVER_NS) -> DeviceResult:
        """See Device.perform. ``off`` and ``status`` are refused: nothing was done, nothing is known."""
        started_ns = now_ns()
        if is_stale(action, valid_until_ns):
            return stale_result(started_ns)
        if action != "on":
            return DeviceResult(DeviceOutcome.REFUSED, detail="Wake-on-LAN can only switch on", took_ms=elapsed_ms(started_ns))
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._interface.encode())
                for _ in range(REPEATS):
                    sock.sendto(self._packet, ("255.255.255.255", _PORT))
        except OSError as error:
            return DeviceResult(DeviceOutcome.UNREACHABLE, detail=f"{self._interface}: {error.strerror}", took_ms=elapsed_ms(started_ns))
        return DeviceResult(DeviceOutcome.SUCCESS, detail="magic packet sent; nothing acknowledges it", took_ms=elapsed_ms(started_ns))
