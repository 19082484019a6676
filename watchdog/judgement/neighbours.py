"""PURE: whose MAC is it? Learnt from the peer's own adverts and from answers for the peer's own addresses."""

from __future__ import annotations

from watchdog.judgement.evidence import Owner

_MAX_MACS = 16
_PROBES_REMEMBERED = 64
_VRRP_PREFIXES = ("00:00:5e:00:01:", "00:00:5e:00:02:")


def is_virtual(mac: str) -> bool:
    """A VRRP virtual router's MAC (RFC 5798 section 7.3): says which router, not which node."""
    return mac.lower().startswith(_VRRP_PREFIXES)


class Twins:
    """Finds a second host behind one virtual MAC: every request of a probe is answered twice. One answer too many is a duplicated frame."""

    NEEDED = 2

    def __init__(self) -> None:
        self._answered: dict[tuple[int, str], tuple[set[int], int]] = {}

    def answered(self, probe_id: int, mac: str, request_index: int) -> bool:
        """One more answer to that request; True if this MAC has answered NEEDED requests of the probe twice by now."""
        for key in [key for key in self._answered if key[0] < probe_id - _PROBES_REMEMBERED]:
            del self._answered[key]
        seen, again = self._answered.get((probe_id, mac), (set[int](), 0))
        again += request_index in seen
        seen.add(request_index)
        self._answered[probe_id, mac] = seen, again
        return again >= self.NEEDED


class Neighbours:
    """MACs of this node and of the peer, bounded; the oldest of the peer's is forgotten first."""

    def __init__(self, own: tuple[str, ...]) -> None:
        self._own = frozenset(mac.lower() for mac in own)
        self._peer: dict[str, None] = {}

    def learn_peer(self, *macs: str) -> None:
        """These MACs are the peer's."""
        for mac in macs:
            if mac and mac not in self._own and not is_virtual(mac):
                self._peer.pop(mac, None)
                self._peer[mac] = None
                if len(self._peer) > _MAX_MACS:
                    del self._peer[next(iter(self._peer))]

    @property
    def peer_known(self) -> bool:
        """Whether any MAC of the peer was learnt."""
        return bool(self._peer)

    def owner_of(self, mac: str, sender_mac: str) -> Owner:
        """Who says "address is at ``mac``" in a frame from ``sender_mac``. A virtual MAC is judged by its sender, and by the peer if
        that is virtual too: nobody else runs this virtual router unless its adverts say so."""
        if mac in self._own or (is_virtual(mac) and sender_mac in self._own):
            return Owner.SELF
        if mac in self._peer or (is_virtual(mac) and (is_virtual(sender_mac) or sender_mac in self._peer)):
            return Owner.PEER
        return Owner.OTHER

    def peer_macs(self) -> list[str]:
        """For status."""
        return list(self._peer)
