"""Words that old versions, other programs' copies and old tutorials left in files; keepalived logs them, skips the line and runs.

None of them changes who owns an address, so they warn and are skipped here, too (docs/adr/0110-configuration-errors.md). Any other unknown
word is an error: ``priorty`` would make another cluster than the one on paper.
"""

from __future__ import annotations

EVERYWHERE = "*"
HISTORICAL: dict[tuple[str, str], str] = {
    ("global_defs", "lvs_id"): "write router_id, or remove the line",
    (EVERYWHERE, "lvs_sync_daemon_inteface"): "write lvs_sync_daemon INTERFACE INSTANCE in global_defs",
    ("global_defs", "lvs_sync_daemon_interface"): "write lvs_sync_daemon INTERFACE INSTANCE in global_defs",
    (EVERYWHERE, "net_mask"): "write the length behind the address: 192.0.2.1/24",
    (EVERYWHERE, "nat_mask"): "remove the line: the kernel has needed none since IPVS 1.0",
    (EVERYWHERE, "interface_name"): "write interface NAME in vrrp_instance",
    ("virtual_server/real_server", "persistence_timeout"): "write it in virtual_server, where it counts",
    ("virtual_server/real_server/TCP_CHECK", "nb_get_retry"): "write retry N",
    ("virtual_server/real_server/SMTP_CHECK", "nb_get_retry"): "write retry N",
    ("virtual_server/real_server/MISC_CHECK", "nb_get_retry"): "write retry N",
    ("virtual_server/real_server/DNS_CHECK", "nb_get_retry"): "write retry N",
    ("virtual_server/real_server/UDP_CHECK", "nb_get_retry"): "write retry N",
    ("virtual_server/real_server/PING_CHECK", "nb_get_retry"): "write retry N",
}
"""(block, word) → what to write today."""


def remedy_of(block: str, word: str) -> str:
    """What to write instead of a historical word; "" if it is none."""
    return HISTORICAL.get((block, word)) or HISTORICAL.get((EVERYWHERE, word), "")
