"""PURE: whose MAC is it? Told by the peer's authenticated frames; until then guessed from its adverts and answers."""

from __future__ import annotations

from collections.abc import Iterable

from watchdog.config.model import GroupKey
from watchdog.frames.heartbeat import LinkMac
from watchdog.judgement.evidence import Owner

_MAX_MACS = 16
_PROBES_REMEMBERED = 64
_VRRP_PREFIXES = ("00:00:5e:00:01:", "00:00:5e:00:02:")


def is_virtual(mac: str) -> bool:
    """A VRRP virtual router's MAC (RFC 5798 section 7.3): says which router, not which node."""
    return mac.lower().startswith(_VRRP_PREFIXES)


def virtual_mac(key: GroupKey) -> str:
    """The MAC of a virtual router (RFC 5798 section 7.3)."""
    return f"{_VRRP_PREFIXES[key.family == 6]}{key.vrid:02x}"


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
    """MACs of this node and of the peer. What the peer told in an authenticated frame is *pinned*, by the name of its interface, and kept
    over restarts; what it only seems to have (its adverts, answers for its addresses) counts while nothing is pinned, and as open."""

    def __init__(self, own: tuple[str, ...], pinned: tuple[LinkMac, ...] = ()) -> None:
        self._own = frozenset(mac.lower() for mac in own)
        self._pinned: dict[str, str] = {}
        self._seen: dict[str, None] = {}
        self.pin(pinned)

    def set_own(self, macs: Iterable[str]) -> None:
        """This node's MACs changed."""
        self._own = frozenset(mac.lower() for mac in macs)

    def pin(self, links: Iterable[LinkMac], *, whole: bool = False) -> bool:
        """An authenticated frame told these; ``whole``: there are no others. True if that is news."""
        before = self._pinned
        self._pinned = {} if whole else dict(before)
        for link in links:
            if link.interface in self._pinned or len(self._pinned) < _MAX_MACS:
                self._pinned[link.interface] = link.mac.lower()
        return self._pinned != before

    def seen(self, *macs: str) -> None:
        """Somebody who seems to be the peer has these; the oldest is forgotten first."""
        for mac in macs:
            if mac and mac not in self._own and not is_virtual(mac):
                self._seen.pop(mac, None)
                self._seen[mac] = None
                if len(self._seen) > _MAX_MACS:
                    del self._seen[next(iter(self._seen))]

    def is_pinned(self, mac: str) -> bool:
        """Whether the peer told us this MAC."""
        return mac in self._pinned.values()

    def is_peer(self, mac: str) -> bool:
        """Whether this MAC is the peer's, as far as we know."""
        return self.is_pinned(mac) if self._pinned else mac in self._seen

    def owner_of(self, mac: str, sender_mac: str) -> Owner:
        """Who says "address is at ``mac``" in a frame from ``sender_mac``. A virtual MAC is judged by its sender, and by the peer if
        that is virtual too: nobody else runs this virtual router unless its adverts say so."""
        if mac in self._own or (is_virtual(mac) and sender_mac in self._own):
            return Owner.SELF
        if self.is_peer(mac) or (is_virtual(mac) and (is_virtual(sender_mac) or self.is_peer(sender_mac))):
            return Owner.PEER
        return Owner.OTHER

    def pinned(self) -> tuple[LinkMac, ...]:
        """What the peer told us."""
        return tuple(LinkMac(interface, mac) for interface, mac in self._pinned.items())

    def peer_macs(self) -> list[str]:
        """For status."""
        return list(dict.fromkeys([*self._pinned.values(), *self._seen]))
