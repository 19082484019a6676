"""What would make a second MASTER if it were ignored: an instance that needs it stays in FAULT and says why.

Everything else that has no effect yet is reported by the reader of the configuration (vrrp/config), keyword by keyword.
"""

from __future__ import annotations

from vrrp.config.model.instance import VrrpInstance


def instance_faults(model: VrrpInstance) -> tuple[str, ...]:
    """Why this instance cannot take part in an election at all."""
    faults = []
    if model.unicast_fault_no_peer and not model.unicast:
        faults.append("no unicast_peer (unicast_fault_no_peer)")
    return tuple(faults)
