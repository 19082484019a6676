"""PURE: a pair seen from a third host (``braind --watch-only``): who answers for each address, who adverts, and what that means.

Everything here is open evidence (K2, K3): it pages and acts on nobody. A *claim* names one of the two nodes or a stranger:

- K2: the answers of the last whole census, by the MAC that gave them; a node's MACs are those given by hand, else those that answered for
  the node's own address. Behind a virtual MAC two owners show as every request answered twice.
- K3: adverts, by their source address or else their MAC (over IPv6 the source is link-local), fresh for three of their intervals.

A verdict is suspected at once and confirmed when it still stands after ``confirm_ms`` and a whole census; two owners, moreover, only when
each of them has claimed the address anew since. So the short overlap of a planned handover is never confirmed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from base.core import NS_PER_MS, JsonValue
from watchdog.config.model import GroupSettings, LinkAddress, PolicySettings
from watchdog.judgement.census import LATE_MS, ROUND_REQUESTS
from watchdog.judgement.commands import Persist, ProbeOwners, PublishStatus, Row, RowKind
from watchdog.judgement.events import AdvertHeard, CarrierChanged, LoopStalled, OpenIncident, OwnerClaimed, ProbeFinished
from watchdog.judgement.evidence import EvidenceKind, Ledger, Owner
from watchdog.judgement.incidents import IncidentBook
from watchdog.judgement.neighbours import Twins, is_virtual
from watchdog.judgement.stages import Stage, Track
from watchdog.judgement.verdict import Verdict

ADVERTS_MISSED = 3
ELECTION_INTERVALS = 5
"""A group without owner is confirmed after this many advert intervals: longer than any ordinary election."""
CLEAR_MS = 2_000
NODES = (Owner.SELF, Owner.PEER)
"""In the ledger the first node of the pair is SELF and the second PEER; neither is this host."""
BAD = frozenset({Verdict.SPLIT_BRAIN, Verdict.NO_OWNER, Verdict.FOREIGN_OWNER})

ObserverEvent: TypeAlias = OwnerClaimed | ProbeFinished | AdvertHeard | CarrierChanged | LoopStalled
ObserverCommand: TypeAlias = ProbeOwners | Persist | PublishStatus


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """One node of the pair: its own addresses; ``macs`` given by hand are the only ones believed."""

    name: str
    addresses: tuple[str, ...]
    macs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PairSeen:
    """What is looked at. ``references`` tell a dead pair from our own dead cable."""

    cluster: str
    nodes: tuple[NodeSeen, NodeSeen]
    groups: tuple[GroupSettings, ...]
    references: tuple[LinkAddress, ...]


@dataclass(slots=True)
class _Asked:
    at: LinkAddress
    sent_ns: int
    answers: set[str] = field(default_factory=set)


class PairObserver:
    """A core (base.core) for one pair. Probe ids are ``first_id``, ``first_id + step``, …, so that several share one prober."""

    def __init__(self, pair: PairSeen, policy: PolicySettings, host: str, now_ns: int, *, first_id: int = 0, step: int = 1) -> None:
        self.pair = pair
        self._policy = policy
        self._host = host
        self._ledger = Ledger()
        self._twins = Twins()
        self._book = IncidentBook(pair.cluster)
        self._tracks = {str(g.key): Track(f"{pair.cluster} {g.key}", since_ns=now_ns) for g in pair.groups}
        self._whole = Track(f"{pair.cluster} pair", since_ns=now_ns)
        self._learnt: dict[Owner, dict[str, None]] = {owner: {} for owner in NODES}
        self._answered: dict[LinkAddress, int] = {}
        self._carriers: dict[str, bool] = {}
        self._asked: dict[int, _Asked] = {}
        self._round_ns: int | None = None
        self._done_ns: int | None = None
        """When the newest whole round began."""
        self._next_id, self._step = first_id, step
        self._due_ns = now_ns
        self._wake_ns: int | None = None
        self._trusted_ns = now_ns + policy.settle_ms * NS_PER_MS

    # --- the Core protocol ---

    def restore(self, now_ns: int, left: tuple[OpenIncident, ...]) -> list[ObserverCommand]:
        """What an earlier run left open, of this pair or of none."""
        mine = tuple(i for i in left if i.scope.startswith(f"{self.pair.cluster} "))
        scopes = [self._whole.scope, *(t.scope for t in self._tracks.values())]
        return self._rows(self._book.restore(now_ns, mine, scopes))

    def handle(self, now_ns: int, event: ObserverEvent) -> list[ObserverCommand]:
        """Take one event in."""
        match event:
            case OwnerClaimed():
                self._claimed(now_ns, event)
            case ProbeFinished():
                self._finished(now_ns, event)
            case AdvertHeard():
                self._advert(now_ns, event)
            case CarrierChanged():
                self._carriers[event.interface] = event.up
            case LoopStalled():
                self._void(now_ns, event)
        return self._judge(now_ns)

    def on_deadline(self, now_ns: int) -> list[ObserverCommand]:
        """The next round, or a verdict whose time has come."""
        commands: list[ObserverCommand] = []
        for probe_id in [i for i, a in self._asked.items() if now_ns >= a.sent_ns + (self._policy.census_window_ms + LATE_MS) * NS_PER_MS]:
            del self._asked[probe_id]
        if now_ns >= self._due_ns and not self._asked:
            commands += self._ask(now_ns)
        return commands + self._judge(now_ns)

    def next_deadline(self) -> int | None:
        """The earliest of the next round, a late probe and a verdict."""
        late_ns = (self._policy.census_window_ms + LATE_MS) * NS_PER_MS
        times = [a.sent_ns + late_ns for a in self._asked.values()] or [self._due_ns]
        return min([*times, *([self._wake_ns] if self._wake_ns is not None else [])])

    def snapshot(self, now_ns: int) -> dict[str, JsonValue]:
        """For status."""
        groups: list[JsonValue] = []
        for group in self.pair.groups:
            track = self._tracks[str(group.key)]
            vips: list[JsonValue] = [*group.vips]
            owners: list[JsonValue] = [*self._owners(now_ns, group)]
            evidence = self._ledger.to_json(now_ns, str(group.key))
            groups.append(
                {
                    "group": str(group.key),
                    "name": group.name,
                    "vips": vips,
                    "owners": owners,
                    "evidence": evidence,
                    **_verdict(track, now_ns),
                }
            )
        nodes: list[JsonValue] = [{"name": n.name, "lives": self._lives(now_ns, o)} for n, o in zip(self.pair.nodes, NODES, strict=True)]
        incidents: list[JsonValue] = [i.to_json(now_ns) for i in self._book.open.values()]
        return {
            "cluster": self.pair.cluster,
            "pair": _verdict(self._whole, now_ns),
            "nodes": nodes,
            "groups": groups,
            "incidents": incidents,
            "settled": now_ns >= self._trusted_ns,
        }

    # --- the census ---

    def _ask(self, now_ns: int) -> list[ObserverCommand]:
        policy = self._policy
        self._due_ns = now_ns + policy.census_interval_ms * NS_PER_MS
        self._round_ns = now_ns
        links = list(dict.fromkeys(link for group in self.pair.groups for link in group.links))
        nodes = [LinkAddress(link, a) for link in links for node in self.pair.nodes for a in node.addresses]
        vips = [at for group in self.pair.groups for at in group.addresses]
        commands: list[ObserverCommand] = []
        for at in dict.fromkeys((*nodes, *vips, *self.pair.references)):
            if self._carriers.get(at.interface, True):
                self._asked[self._next_id] = _Asked(at, now_ns)
                commands.append(ProbeOwners(self._next_id, at.interface, at.address, ROUND_REQUESTS, policy.census_window_ms))
                self._next_id += self._step
        return commands

    def _claimed(self, now_ns: int, event: OwnerClaimed) -> None:
        at = LinkAddress(event.interface, event.address)
        asked = self._asked.get(event.probe_id) if event.probe_id is not None else None
        node = self._node_with(event.address)
        if node is not None:
            if asked is not None:
                self._answered[at] = now_ns
                self._learn(node, event.mac, event.sender_mac)
            return
        if at in self.pair.references:
            if asked is not None:
                self._answered[at] = now_ns
            return
        for group in self.pair.groups:
            if at in group.addresses:
                self._note_claim(now_ns, group, event, asked)

    def _note_claim(self, now_ns: int, group: GroupSettings, event: OwnerClaimed, asked: _Asked | None) -> None:
        owner = self._owner_of(event.mac, event.sender_mac)
        source = f"{event.mac} {event.address}"
        if owner is Owner.OTHER and is_virtual(event.mac):
            if event.probe_id is None:
                return
            if self._twins.answered(event.probe_id, event.mac, event.request_index):
                source, owner = f"twin {event.mac} {event.address}", Owner.OTHER
            else:
                return  # a virtual MAC says which router, not which node: the adverts do
        fresh_ns = (3 * self._policy.census_interval_ms + self._policy.census_window_ms) * NS_PER_MS
        detail = f"{event.address} is at {event.mac}"
        self._ledger.note(now_ns, str(group.key), EvidenceKind.K2_NEIGHBOUR, owner, source, detail, fresh_ns)
        if asked is not None:
            asked.answers.add(source)

    def _finished(self, now_ns: int, event: ProbeFinished) -> None:
        asked = self._asked.pop(event.probe_id, None)
        if asked is None:
            return
        if not event.error and event.requests_sent:
            for group in self.pair.groups:
                if asked.at in group.addresses:
                    self._retract_silent(now_ns, str(group.key), asked)
        if not self._asked and self._round_ns is not None:
            self._done_ns = self._round_ns

    def _retract_silent(self, now_ns: int, scope: str, asked: _Asked) -> None:
        """Whoever did not answer the whole census for this address does not own it (any more); if somebody else did, an advert from before
        the census is older than that: the last word of a node that has just handed over."""
        facts = list(self._ledger.fresh(now_ns, scope))
        answering = {f.owner for f in facts if f.source in asked.answers}
        for fact in facts:
            if fact.kind is EvidenceKind.K3_ADVERT and answering and fact.owner not in answering and fact.last_ns < asked.sent_ns:
                self._ledger.retract(scope, fact.kind, fact.source)
            named = fact.source.endswith(f" {asked.at.address}")
            if fact.kind is EvidenceKind.K2_NEIGHBOUR and named and fact.source not in asked.answers:
                self._ledger.retract(scope, fact.kind, fact.source)

    def _advert(self, now_ns: int, event: AdvertHeard) -> None:
        group = next((g for g in self.pair.groups if g.key == event.key and g.interface == event.interface), None)
        if group is None or event.outgoing:
            return
        node = self._node_with(event.source_ip)
        owner, source = node or self._owner_of(event.source_mac, event.source_mac), f"router {event.source_ip}"
        if owner is Owner.OTHER and is_virtual(event.source_mac):
            return  # IPv6 from a virtual MAC: neither address nor MAC says which node it is
        if event.priority == 0:
            self._ledger.retract(str(group.key), EvidenceKind.K3_ADVERT, source)
            return
        if event.problem and owner is Owner.OTHER:
            return  # no daemon of the pair obeys it
        interval_ms = max(event.interval_ms, group.advert_interval_ms)
        detail = f"{event.source_ip} adverts with priority {event.priority}"
        fresh_ns = ADVERTS_MISSED * interval_ms * NS_PER_MS
        self._ledger.note(now_ns, str(group.key), EvidenceKind.K3_ADVERT, owner, source, detail, fresh_ns)
        if node is not None:
            self._answered[LinkAddress(event.interface, event.source_ip)] = now_ns

    def _node_with(self, address: str) -> Owner | None:
        return next((o for n, o in zip(self.pair.nodes, NODES, strict=True) if address in n.addresses), None)

    def _learn(self, owner: Owner, *macs: str) -> None:
        learnt = self._learnt[owner]
        for mac in macs:
            if not is_virtual(mac):
                learnt.pop(mac, None)
                learnt[mac] = None
        while len(learnt) > 8:
            del learnt[next(iter(learnt))]

    def _owner_of(self, mac: str, sender_mac: str) -> Owner:
        for node, owner in zip(self.pair.nodes, NODES, strict=True):
            known = node.macs or tuple(self._learnt[owner])
            if mac in known or (is_virtual(mac) and sender_mac in known):
                return owner
        return Owner.OTHER

    def _void(self, now_ns: int, event: LoopStalled) -> None:
        """Promise 8: what was said while we slept, we did not hear."""
        if event.stalled_ns <= self._policy.stall_ms * NS_PER_MS:
            return
        self._ledger.void()
        self._asked.clear()
        self._round_ns = self._done_ns = None
        self._due_ns = now_ns
        self._trusted_ns = max(self._trusted_ns, now_ns + 2 * (self._policy.census_interval_ms + self._policy.census_window_ms) * NS_PER_MS)

    # --- verdicts ---

    def _lives(self, now_ns: int, owner: Owner) -> bool:
        node = self.pair.nodes[NODES.index(owner)]
        limit_ns = (3 * self._policy.census_interval_ms + self._policy.census_window_ms) * NS_PER_MS
        times = [at_ns for at, at_ns in self._answered.items() if at.address in node.addresses]
        return bool(times) and now_ns - max(times) <= limit_ns

    def _hears_lan(self, now_ns: int) -> bool:
        """Anybody we ask answers: our own cable works."""
        limit_ns = (3 * self._policy.census_interval_ms + self._policy.census_window_ms) * NS_PER_MS
        return any(now_ns - at_ns <= limit_ns for at_ns in self._answered.values())

    def _owners(self, now_ns: int, group: GroupSettings) -> list[str]:
        """Names of the nodes that claim the group, and the sources of strangers."""
        facts = list(self._ledger.fresh(now_ns, str(group.key)))
        names = [n.name for n, o in zip(self.pair.nodes, NODES, strict=True) if any(f.owner is o for f in facts)]
        return names + sorted({f.source.rpartition(" ")[0] or f.source for f in facts if f.owner is Owner.OTHER})

    def _judge(self, now_ns: int) -> list[ObserverCommand]:
        self._wake_ns = self._trusted_ns if now_ns < self._trusted_ns else None
        commands: list[ObserverCommand] = []
        for group in self.pair.groups:
            verdict, reason = self._judge_group(now_ns, group)
            commands += self._advance(now_ns, self._tracks[str(group.key)], verdict, reason, self._confirm_ms(verdict, group), group)
        verdict, reason = self._judge_pair(now_ns)
        longest_ms = max((self._confirm_ms(verdict, g) for g in self.pair.groups), default=0)
        commands += self._advance(now_ns, self._whole, verdict, reason, longest_ms, None)
        return commands

    def _judge_group(self, now_ns: int, group: GroupSettings) -> tuple[Verdict, str]:
        if now_ns < self._trusted_ns:
            return Verdict.UNKNOWN, "listening: nothing is judged yet"
        facts = list(self._ledger.fresh(now_ns, str(group.key)))
        names = [n.name for n, o in zip(self.pair.nodes, NODES, strict=True) if any(f.owner is o for f in facts)]
        told = "; ".join(f"{f.kind.value} {f.detail}" for f in facts)
        twins = any(f.source.startswith("twin ") for f in facts)
        if len(names) == 2 or twins:
            return Verdict.SPLIT_BRAIN, f"both nodes own {group.name} ({told})"
        if any(f.owner is Owner.OTHER for f in facts):
            return Verdict.FOREIGN_OWNER, f"a third host claims {group.name} ({told})"
        if names:
            return Verdict.HEALTHY, f"{names[0]} owns {group.name}"
        if not all(self._carriers.get(i, True) for i in group.interfaces) or not self._hears_lan(now_ns):
            return Verdict.UNKNOWN, "nobody is heard on this LAN: the pair is gone, or this host is cut off"
        if self._done_ns is None:
            return Verdict.UNKNOWN, "no whole census yet"
        return Verdict.NO_OWNER, f"nobody answers for {', '.join(group.vips) or group.name}, and nobody adverts it"

    def _judge_pair(self, now_ns: int) -> tuple[Verdict, str]:
        if now_ns < self._trusted_ns:
            return Verdict.UNKNOWN, "listening: nothing is judged yet"
        dead = [n.name for n, o in zip(self.pair.nodes, NODES, strict=True) if not self._lives(now_ns, o)]
        if not dead:
            return Verdict.HEALTHY, "both nodes are heard"
        if len(dead) == 2 and not self._hears_lan(now_ns):
            return Verdict.UNKNOWN, "neither node is heard, nor anybody else: the pair is gone, or this host is cut off"
        return Verdict.PATH_DEGRADED, f"{' and '.join(dead)} not heard: no answer for its address, no advert"

    def _confirm_ms(self, verdict: Verdict, group: GroupSettings) -> int:
        election_ms = ELECTION_INTERVALS * group.advert_interval_ms if verdict in (Verdict.NO_OWNER, Verdict.UNKNOWN) else 0
        return max(self._policy.confirm_ms, election_ms)

    def _advance(
        self, now_ns: int, track: Track, verdict: Verdict, reason: str, confirm_ms: int, group: GroupSettings | None
    ) -> list[ObserverCommand]:
        settling = now_ns < self._trusted_ns
        evidence = tuple(f.id for f in self._ledger.fresh(now_ns, str(group.key))) if group is not None else ()
        changed = track.judged(now_ns, verdict, reason, evidence, settling)
        commands: list[ObserverCommand] = []
        if track.stage is Stage.CLEAR and not settling:
            commands += self._rows(self._book.clear(now_ns, track.scope, CLEAR_MS * NS_PER_MS))
            if track.scope in self._book.open:
                self._wake_at(now_ns + CLEAR_MS * NS_PER_MS)
        elif track.stage is Stage.SUSPECTED:
            self._book.not_clear(track.scope)
            due_ns = track.since_ns + confirm_ms * NS_PER_MS
            # The census that confirms begins when the time is over; one begins no sooner than the window of the last one has ended.
            after_ns = (self._round_ns or 0) + self._policy.census_window_ms * NS_PER_MS
            self._due_ns = min(self._due_ns, max(due_ns, after_ns))
            if now_ns < due_ns:
                self._wake_at(due_ns)
            elif self._seen_again(now_ns, track, group, due_ns):
                track.confirm()
                changed = True
                summary = f"{track.scope}: {verdict.value}: {reason}"
                details = f"seen by {self._host}, which belongs to neither node and acts on nobody"
                open_one = self._book.of(track.scope)
                if open_one is not None and open_one.verdict is not verdict:
                    # Another trouble is another page, be it the milder one: nobody may own what two owned a moment ago.
                    commands += self._rows(self._book.clear(now_ns, track.scope, 0))
                commands += self._rows(self._book.raise_(now_ns, track.scope, verdict, summary, details, (0, 0), page=True))
        if changed:
            commands += [self._verdict_row(track), PublishStatus(f"{track.scope}: {verdict.value} {track.stage.value}".rstrip())]
        return commands

    def _seen_again(self, now_ns: int, track: Track, group: GroupSettings | None, due_ns: int) -> bool:
        """A whole census that began when the time was over; of two owners each has claimed the address since the suspicion."""
        if self._done_ns is None or self._done_ns < due_ns:
            return track.verdict is Verdict.UNKNOWN
        if track.verdict is not Verdict.SPLIT_BRAIN or group is None:
            return True
        since = [f for f in self._ledger.fresh(now_ns, str(group.key)) if f.last_ns > track.since_ns]
        return all(any(f.owner is owner for f in since) for owner in NODES) or any(f.source.startswith("twin ") for f in since)

    def _wake_at(self, at_ns: int) -> None:
        self._wake_ns = at_ns if self._wake_ns is None else min(self._wake_ns, at_ns)

    @staticmethod
    def _rows(rows: list[Row]) -> list[ObserverCommand]:
        return [Persist(tuple(rows))] if rows else []

    def _verdict_row(self, track: Track) -> Persist:
        track.row += 1
        fields: tuple[tuple[str, JsonValue], ...] = (
            ("id", f"W-{track.scope}-{track.since_ns}-{track.row}"),
            ("scope", track.scope),
            ("verdict", track.verdict.value),
            ("stage", track.stage.value),
            ("reason", track.reason),
            ("evidence", list(track.evidence)),
            ("incident", self._book.id_of(track.scope)),
        )
        return Persist((Row(RowKind.VERDICT, fields),))


def _verdict(track: Track, now_ns: int) -> dict[str, JsonValue]:
    return {
        "verdict": track.verdict.value,
        "stage": track.stage.value,
        "reason": track.reason,
        "since_ms": (now_ns - track.since_ns) // NS_PER_MS,
    }
