"""All tables in one list, and what the lexer has to know about keywords."""

from __future__ import annotations

from vrrp.config.keyword import Table
from vrrp.config.tables.global_defs import GLOBAL_DEFS
from vrrp.config.tables.services import CHECKERS, REAL_SERVER, SMTP_HOST, SSL, URLS, VIRTUAL_SERVER
from vrrp.config.tables.top_level import TABLE
from vrrp.config.tables.tracking import (
    BFD_INSTANCE,
    GARP_GROUP,
    TRACK_FILE,
    TRACK_GROUP,
    VRRP_SCRIPT,
    VRRP_SYNC_GROUP,
    VRRP_TRACK_FILE,
    VRRP_TRACK_PROCESS,
)
from vrrp.config.tables.vrrp_instance import AUTH_HMAC, AUTHENTICATION, VRRP_INSTANCE

ALL_TABLES: tuple[Table, ...] = (
    TABLE,
    GLOBAL_DEFS,
    VRRP_INSTANCE,
    AUTHENTICATION,
    AUTH_HMAC,
    VRRP_SYNC_GROUP,
    VRRP_SCRIPT,
    VRRP_TRACK_PROCESS,
    TRACK_FILE,
    VRRP_TRACK_FILE,
    TRACK_GROUP,
    GARP_GROUP,
    BFD_INSTANCE,
    SSL,
    VIRTUAL_SERVER,
    REAL_SERVER,
    *CHECKERS,
    *URLS,
    SMTP_HOST,
)

HOMES: dict[str, tuple[str, ...]] = {
    keyword.name: tuple(table.name for table in ALL_TABLES if table.find(keyword.name))
    for table in ALL_TABLES
    for keyword in table.keywords
}
"""Keyword to the blocks that know it."""

SCRIPT_KEYWORDS = frozenset(
    {
        "notify", "notify_master", "notify_backup", "notify_fault", "notify_stop", "notify_deleted", "notify_master_rx_lower_pri",
        "notify_up", "notify_down", "quorum_up", "quorum_down", "script", "misc_path", "startup_script", "shutdown_script",
        "notify_fifo_script", "vrrp_notify_fifo_script", "lvs_notify_fifo_script", "process", "regex",
    }
)  # fmt: skip
"""Keywords whose values follow the quoting rules of a shell."""

TOP_LEVEL_ONLY = frozenset(
    keyword.name
    for keyword in TABLE.keywords
    if keyword.value.takes_block and not any(table.find(keyword.name) for table in ALL_TABLES if table is not TABLE)
)
"""Keywords of blocks that stand at the top level only: inside another block they prove that a ``}`` is missing."""
