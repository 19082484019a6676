"""The short names of our processes (``comm``: what top, ps -e, pgrep and a vrrp_track_process see)."""

from __future__ import annotations

import ctypes

from vrrp.config.model.daemon import GlobalDefs

PARENT, VRRP, CHECKER, BFD, OUTSIDE = "parent", "vrrp", "checker", "bfd", "outside"
OURS = {PARENT: "vrrpd", VRRP: "vrrpd_vrrp", CHECKER: "vrrpd_checkers", BFD: "vrrpd_bfd", OUTSIDE: "vrrpd_outside"}
KEEPALIVEDS = {PARENT: "keepalived", VRRP: "keepalived_vrrp", CHECKER: "keepalived_lvs", BFD: "keepalived_bfd"}
"""What ``process_names`` stands for in keepalived 2.2.7."""
_PR_SET_NAME = 15
_MAX_BYTES = 15
_libc = ctypes.CDLL(None, use_errno=True)


def name_of(defs: GlobalDefs, role: str) -> str:
    """As configured: the name of this process, else keepalived's with ``process_names``, else ours."""
    given = {
        PARENT: defs.process_name,
        VRRP: defs.vrrp_process.name,
        CHECKER: defs.checker_process.name,
        BFD: defs.bfd_process.name,
    }.get(role, "")
    return given or (KEEPALIVEDS.get(role) if defs.default_process_names else None) or OURS[role]


def set_name(name: str) -> None:
    """Of this thread, which is the process's main thread. The kernel keeps 15 bytes."""
    _libc.prctl(_PR_SET_NAME, name.encode("utf-8", "surrogateescape")[:_MAX_BYTES], 0, 0, 0)
