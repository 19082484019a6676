"""Whose adverts are believed: a stranger with our VRID and other addresses is not our router. Pure.

Two clusters with one VRID in a segment would depose each other's masters: an advert with priority 200 made both our nodes BACKUP, and
nobody served our addresses. keepalived 2.2.7 drops every advert with another list, also that of the peer in the middle of a rolling change,
and then has two masters; later ones believe everybody. Here (``differing_lists known``; docs/adr/0102-vrrp-receive-checks.md):

    source                         address list         secret (auth_pass, AH, auth_hmac)   believed
    a configured unicast peer      any                  any                                 yes
    one believed before            any                  any                                 yes: a changed list is a rolling change
    unknown                        as ours, in part     any                                 yes
    unknown                        no address of ours   shared with us                      yes
    unknown                        no address of ours   none                                no

What anybody on the segment can forge stays so: who copies our list (or our password, which is sent in the clear) is believed.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from vrrp.protocol.address_lists import difference
from vrrp.protocol.packet import Advert, IPAddress

if TYPE_CHECKING:
    from vrrp.protocol.parameters import InstanceParameters

MAX_KNOWN = 16
"""So many sources are remembered, the last ones believed."""


class DifferingLists(Enum):
    """``differing_lists`` of vrrp_instance: whose adverts count if their address list is not ours."""

    KNOWN = "known"
    ALL = "all"
    """Everybody's, as keepalived from 2.3 on."""
    NONE = "none"
    """Nobody's, as keepalived 2.2.7: a rolling change of the list has two masters."""


class Belief:
    """The routers that this instance knows."""

    def __init__(self) -> None:
        self._known: dict[IPAddress, None] = {}
        self._doubted: IPAddress | None = None

    def doubt(self, source: IPAddress, advert: Advert, parameters: InstanceParameters) -> str | None:
        """None: an advert that is good in every other way counts. Else what is to be said of it; "" = said already."""
        if self._believes(source, advert, parameters):
            self._known.pop(source, None)
            self._known[source] = None
            if len(self._known) > MAX_KNOWN:
                del self._known[next(iter(self._known))]
            return None
        if self._doubted == source:
            return ""
        self._doubted = source
        lists = difference(parameters.addresses, advert.addresses)
        return f"priority {advert.priority} from {source}, which is no router of ours as far as we know: {lists}; it is not obeyed"

    def _believes(self, source: IPAddress, advert: Advert, p: InstanceParameters) -> bool:
        theirs, ours = set(advert.addresses), set(p.addresses)
        if theirs == ours:
            return True
        if p.differing_lists is DifferingLists.NONE:
            return False
        known = source in p.peers or source in self._known or p.has_secret
        return known or p.differing_lists is DifferingLists.ALL or not ours.isdisjoint(theirs)
