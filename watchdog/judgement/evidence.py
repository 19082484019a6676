"""PURE: what we know about who owns what, as dated facts of five kinds (Promise 1: evidence).

A fact is refreshed while its source repeats itself, is *retracted* when its source takes it back, grows stale by itself, and is
*void* when this process could not have heard a retraction (Promise 8: stalls). Two facts of the same kind are one kind of evidence,
however many sources say it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from base.core import NS_PER_MS, JsonValue
from watchdog.config.model import LinkAddress
from watchdog.judgement.open_evidence import Strength

MAX_FACTS_PER_SCOPE = 64
MAX_STRANGERS_PER_SCOPE = 16
"""Facts that name a third owner: a flood of them replaces only its own kind."""


class EvidenceKind(Enum):
    """The kinds of DESIGN section 1. Passive and active ARP are one kind."""

    K1_KERNEL = "K1"
    K2_NEIGHBOUR = "K2"
    K3_ADVERT = "K3"
    K4_REPORT = "K4"
    K5_WITNESS = "K5"

    @property
    def is_open(self) -> bool:
        """Promise 11: anybody on the segment can send or jam it."""
        return self in (EvidenceKind.K2_NEIGHBOUR, EvidenceKind.K3_ADVERT)


class Owner(Enum):
    """Whom a fact names as the owner (or as the living node, in the pair's scope)."""

    SELF = "self"
    PEER = "peer"
    OTHER = "other"


@dataclass(slots=True)
class Fact:
    """One fact. ``at``: the address that it is about, if one; ``fresh_ns`` = 0: true until retracted (our own kernel). ``id`` is unique
    over restarts. ``answered_ns``: when it was last an answer to a probe of ours from the peer's pinned MAC."""

    id: str
    kind: EvidenceKind
    scope: str
    owner: Owner
    source: str
    detail: str
    since_ns: int
    last_ns: int
    fresh_ns: int
    at: LinkAddress | None = None
    answered_ns: int | None = None

    def strength(self, now_ns: int) -> Strength:
        """How hard it is to say this for somebody else."""
        if not self.kind.is_open:
            return Strength.AUTHENTICATED
        answered = self.answered_ns is not None and now_ns - self.answered_ns <= self.fresh_ns
        return Strength.ANSWERED if answered else Strength.OPEN

    @property
    def standing(self) -> int:
        """Who may displace it when there is no more room: 0 a third host's word, 1 what the peer's host seems to say, 2 what is certain."""
        if not self.kind.is_open:
            return 2
        return 0 if self.owner is Owner.OTHER else 1

    def is_fresh(self, now_ns: int) -> bool:
        """Whether the fact may still be used."""
        return self.fresh_ns == 0 or now_ns - self.last_ns <= self.fresh_ns

    def to_json(self, now_ns: int) -> dict[str, JsonValue]:
        """The fact with its age, for status."""
        return {
            "id": self.id,
            "kind": self.kind.value,
            "owner": self.owner.value,
            "source": self.source,
            "detail": self.detail,
            "since_ms": (now_ns - self.since_ns) // NS_PER_MS,
            "age_ms": (now_ns - self.last_ns) // NS_PER_MS,
            "fresh": self.is_fresh(now_ns),
        }


FactKey = tuple[EvidenceKind, str, LinkAddress | None]
"""(kind, source, the address that it is about)."""


class Ledger:
    """The facts of all scopes ("pair" and one per group), bounded. A fact never displaces one of higher standing (Promise 11)."""

    def __init__(self, incarnation: int = 0) -> None:
        self._incarnation = incarnation
        self._count = 0
        self._facts: dict[str, dict[FactKey, Fact]] = {}
        self.dropped = 0

    def note(
        self,
        now_ns: int,
        scope: str,
        kind: EvidenceKind,
        owner: Owner,
        source: str,
        detail: str,
        fresh_ns: int,
        at: LinkAddress | None = None,
        *,
        answered: bool = False,
    ) -> tuple[Fact, bool]:
        """Record what ``source`` says now (``answered``: to a probe of ours, from the peer's pinned MAC). Returns the fact and whether it
        is news (new, stale before, or said differently). A fact for which there is no room is returned and not kept; it is no news."""
        facts = self._facts.setdefault(scope, {})
        key = (kind, source, at)
        fact = facts.get(key)
        if fact is not None and fact.owner is owner and fact.is_fresh(now_ns):
            news = fact.detail != detail
            fact.detail = detail
            fact.last_ns = now_ns
            fact.fresh_ns = fresh_ns
            if answered:
                news = news or fact.strength(now_ns) is Strength.OPEN
                fact.answered_ns = now_ns
            return fact, news
        self._count += 1
        new = Fact(f"E{self._incarnation}.{self._count}", kind, scope, owner, source, detail, now_ns, now_ns, fresh_ns, at)
        new.answered_ns = now_ns if answered else None
        if fact is None and not self._make_room(now_ns, facts, new):
            self.dropped += 1
            return new, False
        facts[key] = new
        return new, True

    def retract(self, scope: str, kind: EvidenceKind, source: str, at: LinkAddress | None = None) -> bool:
        """The source took its word back. True if there was a fact."""
        return self._facts.get(scope, {}).pop((kind, source, at), None) is not None

    def retract_owner(self, scope: str, owner: Owner, kinds: tuple[EvidenceKind, ...]) -> bool:
        """Everything of ``kinds`` that names ``owner`` is superseded by something newer."""
        facts = self._facts.get(scope, {})
        gone = [key for key, fact in facts.items() if fact.owner is owner and fact.kind in kinds]
        for key in gone:
            del facts[key]
        return bool(gone)

    def void(self) -> None:
        """Promise 8: we were stalled; whatever was taken back meanwhile, we did not hear it. Our kernel's own facts stay."""
        for facts in self._facts.values():
            for key in [k for k in facts if k[0] is not EvidenceKind.K1_KERNEL]:
                del facts[key]

    def forget(self, scope: str) -> None:
        """A group is no longer configured."""
        self._facts.pop(scope, None)

    def fresh(self, now_ns: int, scope: str, owner: Owner | None = None) -> Iterator[Fact]:
        """The usable facts of a scope, oldest first."""
        for fact in self._facts.get(scope, {}).values():
            if (owner is None or fact.owner is owner) and fact.is_fresh(now_ns):
                yield fact

    def kinds(self, now_ns: int, scope: str, owner: Owner) -> frozenset[EvidenceKind]:
        """Which kinds of evidence name ``owner`` now."""
        return frozenset(fact.kind for fact in self.fresh(now_ns, scope, owner))

    def strength(self, now_ns: int, scope: str, owner: Owner) -> Strength | None:
        """The strongest word that names ``owner`` now; None if nothing does."""
        return max((fact.strength(now_ns) for fact in self.fresh(now_ns, scope, owner)), default=None)

    def next_stale_ns(self, now_ns: int, scope: str) -> int | None:
        """When the first fresh fact of a scope grows stale if nobody repeats it."""
        ends = [f.last_ns + f.fresh_ns + 1 for f in self.fresh(now_ns, scope) if f.fresh_ns]
        return min(ends, default=None)

    def to_json(self, now_ns: int, scope: str) -> list[JsonValue]:
        """All facts of a scope, stale ones too."""
        return [fact.to_json(now_ns) for fact in self._facts.get(scope, {}).values()]

    def _make_room(self, now_ns: int, facts: dict[FactKey, Fact], new: Fact) -> bool:
        """Drop what is stale, else the oldest of the lowest standing; False if everything kept stands higher than ``new``."""
        strangers = [key for key, fact in facts.items() if fact.standing == 0]
        if new.standing == 0 and len(strangers) >= MAX_STRANGERS_PER_SCOPE:
            candidates = strangers
        elif len(facts) >= MAX_FACTS_PER_SCOPE:
            candidates = [key for key, fact in facts.items() if fact.standing <= new.standing or not fact.is_fresh(now_ns)]
        else:
            return True
        if not candidates:
            return False
        oldest = min(candidates, key=lambda key: (facts[key].is_fresh(now_ns), facts[key].standing, facts[key].last_ns))
        del facts[oldest]
        self.dropped += 1
        return True
