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

MAX_FACTS_PER_SCOPE = 64


class EvidenceKind(Enum):
    """The kinds of DESIGN section 1. Passive and active ARP are one kind."""

    K1_KERNEL = "K1"
    K2_NEIGHBOUR = "K2"
    K3_ADVERT = "K3"
    K4_REPORT = "K4"
    K5_WITNESS = "K5"


class Owner(Enum):
    """Whom a fact names as the owner (or as the living node, in the pair's scope)."""

    SELF = "self"
    PEER = "peer"
    OTHER = "other"


@dataclass(slots=True)
class Fact:
    """One fact. ``fresh_ns`` = 0: true until retracted (our own kernel). ``id`` is unique over restarts."""

    id: str
    kind: EvidenceKind
    scope: str
    owner: Owner
    source: str
    detail: str
    since_ns: int
    last_ns: int
    fresh_ns: int

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


class Ledger:
    """The facts of all scopes ("pair" and one per group), bounded."""

    def __init__(self, incarnation: int = 0) -> None:
        self._incarnation = incarnation
        self._count = 0
        self._facts: dict[str, dict[tuple[EvidenceKind, str], Fact]] = {}
        self.dropped = 0

    def note(self, now_ns: int, scope: str, kind: EvidenceKind, owner: Owner, source: str, detail: str, fresh_ns: int) -> tuple[Fact, bool]:
        """Record what ``source`` says now. Returns the fact and whether it is news (new, stale before, or said differently)."""
        facts = self._facts.setdefault(scope, {})
        fact = facts.get((kind, source))
        if fact is not None and fact.owner is owner and fact.is_fresh(now_ns):
            news = fact.detail != detail
            fact.detail = detail
            fact.last_ns = now_ns
            fact.fresh_ns = fresh_ns
            return fact, news
        if fact is None and len(facts) >= MAX_FACTS_PER_SCOPE:
            self._drop_oldest(facts)
        self._count += 1
        fact = Fact(f"E{self._incarnation}.{self._count}", kind, scope, owner, source, detail, now_ns, now_ns, fresh_ns)
        facts[kind, source] = fact
        return fact, True

    def retract(self, scope: str, kind: EvidenceKind, source: str) -> bool:
        """The source took its word back. True if there was a fact."""
        return self._facts.get(scope, {}).pop((kind, source), None) is not None

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

    def next_stale_ns(self, now_ns: int, scope: str) -> int | None:
        """When the first fresh fact of a scope grows stale if nobody repeats it."""
        ends = [f.last_ns + f.fresh_ns + 1 for f in self.fresh(now_ns, scope) if f.fresh_ns]
        return min(ends, default=None)

    def to_json(self, now_ns: int, scope: str) -> list[JsonValue]:
        """All facts of a scope, stale ones too."""
        return [fact.to_json(now_ns) for fact in self._facts.get(scope, {}).values()]

    def _drop_oldest(self, facts: dict[tuple[EvidenceKind, str], Fact]) -> None:
        oldest = min(facts, key=lambda key: (facts[key].kind is EvidenceKind.K1_KERNEL, facts[key].last_ns))
        del facts[oldest]
        self.dropped += 1
