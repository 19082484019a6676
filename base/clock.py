"""CLOCK_BOOTTIME and one absolute timer descriptor.

Python 3.11 has no timerfd in its standard library, so it is called through ctypes. CLOCK_BOOTTIME goes on while the machine is
suspended: a node that slept must know how long.
"""

from __future__ import annotations

import ctypes
import os
import time

_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_CLOEXEC = os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1

_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = [("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long)]


class _Itimerspec(ctypes.Structure):
    _fields_ = [("it_interval", _Timespec), ("it_value", _Timespec)]


def now_ns() -> int:
    """CLOCK_BOOTTIME in nanoseconds: the time base of every core."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def wall_ns() -> int:
    """Wall clock in nanoseconds since 1970: for display and records only, never for a decision."""
    return time.time_ns()


def boot_id() -> str:
    """The kernel's random id of this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as f:
        return f.read().strip()


class DeadlineTimer:
    """One timerfd on CLOCK_BOOTTIME, armed with an absolute instant."""

    def __init__(self) -> None:
        fd = _libc.timerfd_create(time.CLOCK_BOOTTIME, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._fd: int = fd
        self._armed_ns: int | None = None
        self._spec = _Itimerspec()

    def fileno(self) -> int:
        """The descriptor, readable when the deadline has passed."""
        return self._fd

    def arm(self, deadline_ns: int | None) -> None:
        """Wake at ``deadline_ns`` (CLOCK_BOOTTIME), or never if None. Arming the same instant again costs nothing."""
        if deadline_ns == self._armed_ns:
            return
        value = 0 if deadline_ns is None else max(1, deadline_ns)
        self._spec.it_value.tv_sec, self._spec.it_value.tv_nsec = divmod(value, 1_000_000_000)
        if _libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(self._spec), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        self._armed_ns = deadline_ns

    def clear(self) -> None:
        """Consume an expiry."""
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        self._armed_ns = None

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)
