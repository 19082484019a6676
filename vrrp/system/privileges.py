"""What a process of ours may do: capabilities, scheduling, locked memory."""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from collections.abc import Iterable

from vrrp.config.model.daemon import ProcessSettings

CAP_NET_ADMIN = 12
CAP_NET_RAW = 13
CAP_SYS_NICE = 23
_CAPABILITY_VERSION_3 = 0x20080522
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_MCL_CURRENT_AND_FUTURE = 3
RTTIME_FLOOR_US = 500_000
"""keepalived's default of 10 ms between blocking calls would end an interpreter at its first garbage collection."""
_libc = ctypes.CDLL(None, use_errno=True)


def keep_only(capabilities: Iterable[int]) -> None:
    """Give up every capability but these, for good: bounding set, permitted, effective, inheritable. Raises OSError."""
    mask = 0
    for capability in capabilities:
        mask |= 1 << capability
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as f:
        last = int(f.read())
    for capability in range(last + 1):
        if not mask >> capability & 1:
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails without CAP_SETPCAP; then there is nothing to give up either
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = struct.pack("=6I", low, low, 0, high, high, 0)
    if _libc.capset(header, data):
        code = ctypes.get_errno()
        raise OSError(code, f"cannot reduce capabilities: {os.strerror(code)}")
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def raise_priority(limit: int) -> str:
    """max_auto_priority: to real time, or one step up there; returns what was done or what went wrong."""
    now = os.sched_getparam(0).sched_priority if os.sched_getscheduler(0) == os.SCHED_RR else 0
    wanted = min(now + 1, limit, os.sched_get_priority_max(os.SCHED_RR))
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(wanted))
    except OSError as error:
        return f"real-time priority {wanted}: {error.strerror}"
    return f"real-time priority {wanted}, because it did not run for too long"


def real_time_limit_us(process: ProcessSettings) -> int:
    """…_rlimit_rttime of a child: none unless the file names one, and never below RTTIME_FLOOR_US."""
    given = process.rlimit_rttime_us
    return 0 if given == ProcessSettings().rlimit_rttime_us else max(given, RTTIME_FLOOR_US)


def schedule(
    *, nice: int | None = None, rt_priority: int = 0, cpus: Iterable[int] = (), lock_memory: bool = False, rttime_us: int = 0
) -> list[str]:
    """Apply scheduling as configured; returns what did not work, in words. ``rttime_us`` only counts with a real-time priority."""
    problems: list[str] = []

    def attempt(what: str, action: object, *arguments: object) -> None:
        try:
            action(*arguments)  # type: ignore[operator]
        except OSError as error:
            problems.append(f"{what}: {error.strerror}")

    if nice is not None:
        attempt(f"nice {nice}", os.setpriority, os.PRIO_PROCESS, 0, nice)
    if rt_priority:
        attempt(f"real-time priority {rt_priority}", os.sched_setscheduler, 0, os.SCHED_RR, os.sched_param(rt_priority))
        if rttime_us:
            attempt(f"RLIMIT_RTTIME {rttime_us}", resource.setrlimit, resource.RLIMIT_RTTIME, (rttime_us, rttime_us))
    wanted = set(cpus)
    if wanted:
        attempt(f"CPU affinity {sorted(wanted)}", os.sched_setaffinity, 0, wanted)
    if lock_memory and _libc.mlockall(_MCL_CURRENT_AND_FUTURE):
        problems.append(f"mlockall: {os.strerror(ctypes.get_errno())}")
    return problems
