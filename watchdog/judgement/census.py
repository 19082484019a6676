"""PURE: when to ask the segment who owns what, and what the answers and the silences mean.

A *round* asks for the first VIPs of a group, each on the interface where it lives, and for the peer's own addresses there; it is
complete when the window of every probe is over. Between rounds a slow tick asks for one address at a time, so that an orphan or a
foreign owner is found from both nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from base.core import NS_PER_MS
from watchdog.config.model import GroupSettings, LinkAddress
from watchdog.judgement.commands import ProbeOwners
from watchdog.judgement.events import ProbeFinished

ROUND_REQUESTS = 3
TICK_REQUESTS = 2
MAX_VIPS_PER_ROUND = 4
MAX_PROBES_PER_TICK = 16
LATE_MS = 500
"""A probe whose end is this late over its window is given up."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A question under way. ``scope`` is the group it belongs to; ``of_peer``: for the peer's own address."""

    probe_id: int
    scope: str
    at: LinkAddress
    sent_ns: int
    give_up_ns: int
    of_peer: bool
    in_round: bool


@dataclass(slots=True)
class Round:
    """The last round of a group. ``finished_ns`` is None while probes are out; ``errors`` counts probes that could not be sent."""

    started_ns: int
    open_probes: set[int] = field(default_factory=set)
    finished_ns: int | None = None
    sent: int = 0
    errors: int = 0

    @property
    def heard_segment(self) -> bool:
        """Finished, and at least one probe really went out."""
        return self.finished_ns is not None and self.sent > self.errors


def peer_places(group: GroupSettings, peer_addresses: tuple[str, ...]) -> list[LinkAddress]:
    """Where the peer's own addresses may answer: on each LAN of the group. One that never answered there says nothing by its silence."""
    families = {at.family for at in group.addresses} | {group.key.family}
    return [LinkAddress(link, a) for link in group.links for a in peer_addresses if LinkAddress(link, a).family in families]


class Census:
    """Outstanding probes and the last round of every group."""

    def __init__(self, interval_ms: int, window_ms: int, now_ns: int) -> None:
        self._interval_ns = interval_ms * NS_PER_MS
        self._window_ms = window_ms
        self._next_id = 0
        self._probes: dict[int, Probe] = {}
        self._rotation = 0
        self.rounds: dict[str, Round] = {}
        self._before: dict[str, Round] = {}
        """The round before the last: it is over, and may be of this moment still."""
        self.tick_due_ns = now_ns

    def start_round(self, now_ns: int, group: GroupSettings, peer_addresses: tuple[str, ...]) -> list[ProbeOwners]:
        """Ask now. A round that is still under way counts as this one."""
        scope = str(group.key)
        last = self.rounds.get(scope)
        if last is not None and last.finished_ns is None:
            return []
        fresh = Round(now_ns)
        if last is not None:
            self._before[scope] = last
        self.rounds[scope] = fresh
        asked = group.addresses[:MAX_VIPS_PER_ROUND]
        targets = [(at, False) for at in asked] + [(at, True) for at in peer_places(group, peer_addresses)]
        commands = [self._probe(now_ns, scope, at, of_peer, ROUND_REQUESTS, fresh) for at, of_peer in targets]
        if not commands:
            fresh.finished_ns = now_ns
        return commands

    def tick(self, now_ns: int, groups: tuple[GroupSettings, ...], peer_addresses: tuple[str, ...]) -> list[ProbeOwners]:
        """The slow census: one VIP of each of the next groups, and one address of the peer."""
        self.tick_due_ns = now_ns + self._interval_ns
        if not groups:
            return []
        commands = []
        for offset in range(min(len(groups), MAX_PROBES_PER_TICK)):
            group = groups[(self._rotation + offset) % len(groups)]
            if group.addresses:
                at = group.addresses[(self._rotation // len(groups)) % len(group.addresses)]
                commands.append(self._probe(now_ns, str(group.key), at, False, TICK_REQUESTS, None))
        group = groups[self._rotation % len(groups)]
        places = peer_places(group, peer_addresses)
        if places:
            at = places[(self._rotation // len(groups)) % len(places)]
            commands.append(self._probe(now_ns, str(group.key), at, True, TICK_REQUESTS, None))
        self._rotation += min(len(groups), MAX_PROBES_PER_TICK)
        return commands

    def finished(self, now_ns: int, event: ProbeFinished) -> Probe | None:
        """A window is over; returns the probe, or None if it is not ours any more."""
        probe = self._probes.pop(event.probe_id, None)
        if probe is not None:
            self._close(now_ns, probe, bool(event.error) or event.requests_sent == 0)
        return probe

    def probe(self, probe_id: int | None) -> Probe | None:
        """The outstanding probe of that number."""
        return None if probe_id is None else self._probes.get(probe_id)

    def give_up_late(self, now_ns: int) -> None:
        """Probes whose end was never reported count as not sent."""
        for probe in [p for p in self._probes.values() if now_ns >= p.give_up_ns]:
            del self._probes[probe.probe_id]
            self._close(now_ns, probe, True)

    def void(self) -> None:
        """Promise 8: a window that we slept through proves nothing."""
        self._probes.clear()
        self.rounds.clear()
        self._before.clear()

    def complete_since(self, scope: str, since_ns: int) -> bool:
        """Whether a round that began at or after ``since_ns`` is over."""
        last = self.rounds.get(scope)
        return last is not None and last.started_ns >= since_ns and last.finished_ns is not None

    def any_over_since(self, scope: str, since_ns: int) -> bool:
        """As ``complete_since``, also when another round has begun meanwhile."""
        rounds = (self.rounds.get(scope), self._before.get(scope))
        return any(r is not None and r.started_ns >= since_ns and r.finished_ns is not None for r in rounds)

    def running(self, scope: str) -> bool:
        """Whether a round of this group is under way."""
        last = self.rounds.get(scope)
        return last is not None and last.finished_ns is None

    def next_deadline(self) -> int:
        """The next tick or give-up."""
        return min([self.tick_due_ns, *(p.give_up_ns for p in self._probes.values())])

    def _probe(self, now_ns: int, scope: str, at: LinkAddress, of_peer: bool, requests: int, in_round: Round | None) -> ProbeOwners:
        self._next_id += 1
        give_up_ns = now_ns + (self._window_ms + LATE_MS) * NS_PER_MS
        self._probes[self._next_id] = Probe(self._next_id, scope, at, now_ns, give_up_ns, of_peer, in_round is not None)
        if in_round is not None:
            in_round.open_probes.add(self._next_id)
            in_round.sent += 1
        return ProbeOwners(self._next_id, at.interface, at.address, requests, self._window_ms)

    def _close(self, now_ns: int, probe: Probe, failed: bool) -> None:
        last = self.rounds.get(probe.scope)
        if last is None or probe.probe_id not in last.open_probes:
            return
        last.open_probes.discard(probe.probe_id)
        last.errors += failed
        if not last.open_probes:
            last.finished_ns = now_ns
