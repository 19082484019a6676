"""PURE: from evidence to the small records that the verdict table reads."""

from __future__ import annotations

from base.core import NS_PER_MS
from watchdog.frames.heartbeat import NodeFlags
from watchdog.judgement.evidence import EvidenceKind, Owner
from watchdog.judgement.fitness import fitness_of
from watchdog.judgement.group_view import GroupView
from watchdog.judgement.open_evidence import Effect, OpenKind, Strength, allows, sufficient
from watchdog.judgement.state import WatcherState
from watchdog.judgement.verdict import PAIR_SCOPE, Contact, GroupFacts, Isolation, PairFacts

PROBLEM_FRESH_MS = 5_000


def contact_of(state: WatcherState, now_ns: int) -> Contact:
    """What we hear of the peer node (see Contact)."""
    if state.contact.on_a_path(now_ns):
        return Contact.HEARD if state.contact.on_every_path() else Contact.DEGRADED
    if state.contact.lives(now_ns):
        return Contact.WATCHER_SILENT  # frames that cannot answer us yet: a new session, or one way only; they prove life and nothing else
    if any(view.heard_fresh(now_ns) for view in state.groups.values()) and allows(OpenKind.ADVERT, Effect.HOLD_BACK, state.mode):
        return Contact.WATCHER_SILENT
    claims = [fact for view in state.groups.values() for fact in state.ledger.fresh(now_ns, view.scope, Owner.PEER)]
    claims = [fact for fact in claims if fact.kind is EvidenceKind.K2_NEIGHBOUR]
    if any(fact.strength(now_ns) >= Strength.ANSWERED for fact in claims):
        return Contact.KERNEL_ONLY
    claims += [f for f in state.ledger.fresh(now_ns, PAIR_SCOPE, Owner.PEER) if f.kind is EvidenceKind.K2_NEIGHBOUR]
    if any(sufficient(fact.strength(now_ns), Effect.HOLD_BACK, state.mode) for fact in claims):
        return Contact.WATCHER_SILENT
    return Contact.SILENT if _fell_silent(state) else Contact.UNREACHED


def _fell_silent(state: WatcherState) -> bool:
    """A silence counts only where an answer could be expected: at the peer's own addresses, and at those that it held by its last word
    (cases J7 and N1). A peer whose kernel never answered us in this run is not known to be dead."""
    last_ns = state.contact.last_ns
    if last_ns is None:
        return False
    held = {at for view in state.groups.values() if view.told_held for at in view.settings.addresses}
    expected = [at for at in state.channels.places() if at in held or at.address in state.peer_addresses]
    return any(state.channels.fell_silent(at, last_ns) for at in expected)


def fence_is_grounded(state: WatcherState, now_ns: int, scope: str) -> bool:
    """Promise 11: whether what asks for a fence is more than what a stranger can send. The silence of everything authenticated is ground
    enough (own carrier and a learnt reference are asked for besides); a second owner or a hung peer needs somebody's proven answer."""
    if scope == PAIR_SCOPE and contact_of(state, now_ns) is Contact.SILENT:
        return True
    scopes = [view.scope for view in state.groups.values()] if scope == PAIR_SCOPE else [scope]
    strengths = [s for one in scopes if (s := state.ledger.strength(now_ns, one, Owner.PEER)) is not None]
    fence = state.settings.fence
    return sufficient(max(strengths, default=None), Effect.START_FENCE, state.mode, require_authenticated=fence.require_authenticated)


def note_peer_stopped(state: WatcherState, now_ns: int, contact: Contact) -> None:
    """Promise 4: a peer that stopped in order is gone when its daemon had ended before, or when nothing of its kernel answers although
    our references do. That lasts until it is heard of again: later, a silence of our own port proves nothing any more."""
    if contact not in (Contact.SILENT, Contact.UNREACHED):
        state.peer_stopped = False
        state.peer_sign_ns = now_ns
        return
    last_ns = state.contact.last_ns
    if state.peer_stopped or not state.peer_left or last_ns is None:
        return
    if not state.contact.flags() & NodeFlags.VRRP_RUNNING:
        state.peer_stopped = True
    elif state.peer_addresses and state.surroundings.references_ok(now_ns):
        state.peer_stopped = _asked_in_vain_through_a_live_port(state)


def _asked_in_vain_through_a_live_port(state: WatcherState) -> bool:
    """A whole census that began after the peer's last sign of life, and a reference that answered after it had begun: a port that died
    together with the peer's last words must not make them its end."""
    answered_ns = state.surroundings.last_answer_ns()
    rounds = [last for view in state.groups.values() if (last := state.census.rounds.get(view.scope)) is not None]
    asked = [last.started_ns for last in rounds if last.heard_segment and last.started_ns >= state.peer_sign_ns]
    return answered_ns is not None and any(started_ns <= answered_ns for started_ns in asked)


def pair_facts(state: WatcherState, now_ns: int) -> PairFacts:
    """The pair's record."""
    listening = state.settled(now_ns) and (state.trusted(now_ns) or state.contact.on_every_path())
    return PairFacts(listening, contact_of(state, now_ns), state.isolation(now_ns), state.peer_left)


def group_facts(state: WatcherState, view: GroupView, now_ns: int, contact: Contact) -> GroupFacts:
    """A group's record. ``contact`` is ``contact_of`` now: the same for all groups."""
    claims = state.ledger.kinds(now_ns, view.scope, Owner.PEER)
    two_owners = view.own and bool(claims)
    # Promise 8: facts heard after the stall are good at once; silences need trust.
    listening = state.settled(now_ns) and (state.trusted(now_ns) or two_owners)
    return GroupFacts(
        settled=listening,
        own=view.own,
        peer_claims=claims,
        other_claims=any(True for _ in state.ledger.fresh(now_ns, view.scope, Owner.OTHER)),
        absent=view.peer_denies(now_ns) or _census_found_nobody(state, view, now_ns),
        daemon=state.surroundings.daemon,
        planned=now_ns < view.planned_until_ns,
        misconfigured=bool(view.settings.clash) or (bool(view.problem) and now_ns - view.problem_ns <= PROBLEM_FRESH_MS * NS_PER_MS),
        contact=contact,
        isolation=state.isolation(now_ns, view.settings.interfaces),
        fitness=fitness_of(state, now_ns, view).fitness,
    )


def _census_found_nobody(state: WatcherState, view: GroupView, now_ns: int) -> bool:
    """A whole round that really went out ended lately without an owner."""
    last = state.census.rounds.get(view.scope)
    if last is None or last.finished_ns is None or not last.heard_segment:
        return False
    fresh_ns = 3 * state.settings.policy.census_interval_ms * NS_PER_MS
    return now_ns - last.finished_ns <= fresh_ns and state.isolation(now_ns, view.settings.interfaces) is Isolation.NO


def evidence_ids(state: WatcherState, scope: str, now_ns: int) -> tuple[str, ...]:
    """The ids of the facts that a verdict rests on."""
    return tuple(fact.id for fact in state.ledger.fresh(now_ns, scope))


def explain(state: WatcherState, view: GroupView, reason: str, now_ns: int) -> str:
    """The table's sentence with the particulars of this case: the port by its name, what stands in the way of a standby."""
    parts = [f"{fact.kind.value} {fact.detail}" for fact in state.ledger.fresh(now_ns, view.scope) if fact.owner is not Owner.SELF]
    if words := fitness_of(state, now_ns, view).words:
        reason = f"{reason}: {words}"
    if view.settings.clash:
        parts.append(view.settings.clash)
    if view.problem and now_ns - view.problem_ns <= PROBLEM_FRESH_MS * NS_PER_MS:
        parts.append(f"dropped adverts: {view.problem}")
    return f"{reason} ({'; '.join(parts)})" if parts else reason
