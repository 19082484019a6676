"""The address list of an advert beside ours. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from vrrp.protocol.packet import IPAddress


def difference(ours: Sequence[IPAddress], theirs: Sequence[IPAddress]) -> str:
    """For people: what stands in one list only."""
    only_ours = " ".join(str(address) for address in ours if address not in theirs) or "none"
    only_theirs = " ".join(str(address) for address in theirs if address not in ours) or "none"
    return f"only ours {only_ours}; only theirs {only_theirs}"
