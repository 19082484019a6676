"""The kernel's hardware watchdog (/dev/watchdog*): once armed, the machine is reset when it is not fed for ``timeout_s``.

For a pair without any fence device (Promise 3c): the node named for it feeds only while the other node acknowledges its frames
(judgement/self_fence.py decides; this file only obeys). Linux: Documentation/watchdog/watchdog-api.rst.
"""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass

_GET_SUPPORT, _SET_TIMEOUT, _GET_TIMEOUT = 0x80285700, 0xC0045706, 0x80045707
_INFO = struct.Struct("=II32s")
_CAN_SET_TIMEOUT, _MAGIC_CLOSE = 0x0080, 0x0100
_DISARM = b"V"


class HardwareWatchdogError(Exception):
    """The device cannot be used; the message names it and the remedy."""


@dataclass(frozen=True, slots=True)
class WatchdogDriver:
    """What the driver says of itself; ``timeout_s`` is what is in force, which may differ from what was asked."""

    identity: str
    timeout_s: int
    can_disarm: bool


class HardwareWatchdog:
    """One device. Opening it arms it: from then on only ``feed`` keeps the machine up, until ``disarm``."""

    def __init__(self, path: str, timeout_s: int) -> None:
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            raise HardwareWatchdogError(f"{path}: {error.strerror}; {_remedy(error)}") from None
        self.path, self.timeout_s = path, timeout_s
        try:
            self.driver = self._configure(timeout_s)
        except (OSError, HardwareWatchdogError) as error:
            self.disarm()
            if isinstance(error, HardwareWatchdogError):
                raise
            raise HardwareWatchdogError(f"{path} is no watchdog device: {error.strerror}") from None

    def _configure(self, timeout_s: int) -> WatchdogDriver:
        options, _, name = _INFO.unpack(fcntl.ioctl(self._fd, _GET_SUPPORT, bytes(_INFO.size)))
        if options & _CAN_SET_TIMEOUT:
            fcntl.ioctl(self._fd, _SET_TIMEOUT, struct.pack("=i", timeout_s))
        (in_force,) = struct.unpack("=i", fcntl.ioctl(self._fd, _GET_TIMEOUT, bytes(4)))
        identity = name.split(b"\0")[0].decode("utf-8", "replace")
        if in_force > timeout_s:
            raise HardwareWatchdogError(
                f"{self.path} ({identity}) resets the machine after {in_force} s, not {timeout_s} s as configured; "
                f"write timeout_s = {in_force} on both nodes"
            )
        return WatchdogDriver(identity, in_force, bool(options & _MAGIC_CLOSE))

    def feed(self) -> None:
        """Another ``timeout_s`` from now. Raises OSError when the device is gone: the machine will be reset."""
        os.write(self._fd, b"\0")

    def disarm(self) -> None:
        """An orderly stop. A driver with ``nowayout`` stays armed: the machine is reset unless somebody feeds it again."""
        if self._fd < 0:
            return
        try:
            os.write(self._fd, _DISARM)
        except OSError:
            pass
        os.close(self._fd)
        self._fd = -1


def _remedy(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "load the driver of the board's watchdog (or softdog), or name another device"
    if error.errno == 16:  # EBUSY
        return "something else feeds it: systemd's RuntimeWatchdogSec, sbd or watchdogd; one feeder only"
    return "braind needs to be root to open it"
