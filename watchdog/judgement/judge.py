"""PURE: asks the verdict table about every scope that was touched, takes the answer through its stages, opens and closes incidents."""

from __future__ import annotations

from base.core import NS_PER_MS
from watchdog.config.model import Mode
from watchdog.judgement import events
from watchdog.judgement.asking import TAKEOVER_WAIT_MS
from watchdog.judgement.commands import Row, RowKind
from watchdog.judgement.evidence import Owner
from watchdog.judgement.group_actor import GroupActor
from watchdog.judgement.group_view import GroupView
from watchdog.judgement.hooks import Hooks
from watchdog.judgement.judging import evidence_ids, explain, group_facts, pair_facts
from watchdog.judgement.stages import Stage, Track
from watchdog.judgement.state import WatcherState
from watchdog.judgement.verdict import (
    PAIR_PAGES,
    PAIR_SCOPE,
    Contact,
    Verdict,
    judge_group,
    judge_pair,
)

CLEAR_MS = 2_000
"""An incident is closed when its scope has been clear for this long."""
NO_OWNER_INTERVALS = {Mode.OBSERVE: 5, Mode.RESOLVE: 5, Mode.STRICT: 10}
"""A group without owner is confirmed after this many advert intervals: longer than any ordinary election."""
STRICT_HANDSHAKE_MS = 3 * TAKEOVER_WAIT_MS
"""strict: both nodes also wait, ask for a release and answer before one may take over, however quick the adverts are."""
NO_STANDBY_MS = 20_000
"""A standby may be restarted, upgraded or reconfigured: only one that stays away is worth a page."""
PORT_VERDICTS = frozenset({Verdict.UNFIT_OWNER, Verdict.NO_STANDBY})
NEEDS_CENSUS = frozenset({Verdict.SPLIT_BRAIN, Verdict.PEER_DEAD, Verdict.PEER_HUNG, Verdict.NO_OWNER, Verdict.FOREIGN_OWNER})


class Judge:
    """Suspected, confirmed, clear: for the pair and every group."""

    def __init__(self, state: WatcherState, hooks: Hooks, actor: GroupActor) -> None:
        self._state = state
        self._hooks = hooks
        self._actor = actor

    def judge_group(self, now_ns: int, view: GroupView, contact: Contact) -> None:
        """Judge one group; ``contact`` is the same for all of them. Sets when to look again."""
        state = self._state
        facts = group_facts(state, view, now_ns, contact)
        rule = judge_group(facts)
        ids = evidence_ids(state, view.scope, now_ns)
        view.wake_ns = state.ledger.next_stale_ns(now_ns, view.scope)
        if view.planned_until_ns > now_ns:
            view.wake_at(view.planned_until_ns)
        if not facts.settled:
            view.wake_at(max(state.settled_from_ns, state.trusted_from_ns))
        reason = explain(state, view, rule.reason, now_ns)
        changed = view.track.judged(now_ns, rule.verdict, reason, ids, settling=not facts.settled)
        wake_ns = self._advance(now_ns, view.track, changed, self._confirm_ns(view), view)
        if wake_ns is not None:
            view.wake_at(wake_ns)

    def judge_pair(self, now_ns: int) -> None:
        """Judge the pair."""
        state = self._state
        facts = pair_facts(state, now_ns)
        rule = judge_pair(facts)
        reason = rule.reason
        silent = [name for name in state.contact.order if not state.contact.paths[name].hears]
        if rule.verdict is Verdict.PATH_DEGRADED and facts.contact is Contact.DEGRADED:
            one_way = [n for n in state.contact.order if state.contact.paths[n].peer_hears is False and n not in silent]
            reason = f"{reason}: " + ", ".join([f"{n} silent" for n in silent] + [f"the peer does not hear us on {n}" for n in one_way])
        if facts.contact in (Contact.SILENT, Contact.UNREACHED) and facts.settled:
            reason = f"{reason}; {self._who_may_own(now_ns)}"
        state.pair.parts = frozenset(silent) if rule.verdict is Verdict.PATH_DEGRADED and facts.contact is Contact.DEGRADED else frozenset()
        ids = evidence_ids(state, PAIR_SCOPE, now_ns)
        changed = state.pair.judged(now_ns, rule.verdict, reason, ids, settling=not facts.settled)
        times = [state.ledger.next_stale_ns(now_ns, PAIR_SCOPE), state.restart_ends_ns(now_ns)]
        if not facts.settled:
            times.append(max(state.settled_from_ns, state.trusted_from_ns))
        else:
            times.append(self._advance(now_ns, state.pair, changed, self._state.settings.policy.confirm_ms * NS_PER_MS, None))
        times += [
            v.heard.at_ns + v.heard.interval_ms * NS_PER_MS * 5 // 2 + 1 for v in state.groups.values() if v.heard_fresh(now_ns) and v.heard
        ]
        state.pair_wake_ns = min((t for t in times if t is not None and t > now_ns), default=None)

    def _who_may_own(self, now_ns: int) -> str:
        """Silence is absence of evidence: say what it leaves open."""
        state = self._state
        if state.peer_proved_off:
            return state.peer_proved_off
        owned = ", ".join(view.scope for view in state.groups.values() if view.own)
        if state.mode is Mode.STRICT:
            return f"this node owns {owned}" if owned else "waiting for a proved fence before anything is taken over"
        return f"{'this node owns ' + owned + '; ' if owned else ''}two owners are possible until the peer is proved off"

    def election_ns(self, view: GroupView) -> int:
        """Longer than any ordinary election of this group takes; in strict with its handshake."""
        election_ms = NO_OWNER_INTERVALS[self._state.mode] * view.settings.advert_interval_ms
        if self._state.mode is Mode.STRICT:
            election_ms += STRICT_HANDSHAKE_MS + self._state.settings.policy.yield_deadline_ms
        return max(self._state.settings.policy.confirm_ms, election_ms) * NS_PER_MS

    def _confirm_ns(self, view: GroupView) -> int:
        """How long a verdict must stand before it is confirmed."""
        confirm_ns = self._state.settings.policy.confirm_ms * NS_PER_MS
        if view.track.verdict is Verdict.NO_STANDBY:
            return max(confirm_ns, NO_STANDBY_MS * NS_PER_MS)
        if view.track.verdict is Verdict.NO_OWNER:
            return self.election_ns(view)
        return confirm_ns

    def _advance(self, now_ns: int, track: Track, changed: bool, confirm_ns: int, view: GroupView | None) -> int | None:
        """Suspected → confirmed → clear; rows, incidents and pages on the way. Returns when to look again."""
        state = self._state
        if changed:
            self._verdict_row(now_ns, track)
            if track.stage is Stage.SUSPECTED and view is not None and self._hooks.census_needed(now_ns, view):
                state.out.extend(state.census_round(now_ns, view.settings))
        if track.stage is Stage.CLEAR:
            return None if track.settling else self._advance_clear(now_ns, track)
        state.incidents.not_clear(track.scope)
        if track.stage is Stage.SUSPECTED:
            due_ns = track.since_ns + confirm_ns
            if now_ns < due_ns:
                return due_ns
            if not state.trusted(now_ns):
                return state.trusted_from_ns
            if not self._census_done(now_ns, track, view) or not self._repeated(now_ns, track):
                return now_ns + self._state.settings.policy.census_window_ms * NS_PER_MS
            track.confirm()  # Promise 1: still true after confirm_ms and one active census
            self._verdict_row(now_ns, track)
            if view is not None and track.verdict is Verdict.SPLIT_BRAIN:
                self._actor.split_confirmed(now_ns, view)
        self._raise_incident(now_ns, track)
        return None

    def _advance_clear(self, now_ns: int, track: Track) -> int | None:
        if track.scope != PAIR_SCOPE and self._crash_lasts(track.scope):
            return None
        rows = self._state.incidents.clear(now_ns, track.scope, CLEAR_MS * NS_PER_MS)
        self._state.persist(*rows)
        return now_ns + CLEAR_MS * NS_PER_MS if self._state.incidents.of(track.scope) and not rows else None

    def _crash_lasts(self, scope: str) -> bool:
        """The incident of an orphan stays open until the local daemon runs again: until then this node is no standby."""
        view = next(v for v in self._state.groups.values() if v.scope == scope)
        if view.crashed and self._state.surroundings.daemon is events.DaemonState.RUNNING:
            view.crashed = False
        return view.crashed

    def _census_done(self, now_ns: int, track: Track, view: GroupView | None) -> bool:
        """One active census since the suspicion; a round that could not be sent (own carrier down) counts as tried."""
        if track.verdict not in NEEDS_CENSUS:
            return True
        state = self._state
        views = list(state.groups.values()) if view is None else [view]
        missing = [v for v in views if not state.census.complete_since(v.scope, track.since_ns)]
        for v in missing:
            if self._hooks.census_needed(now_ns, v):
                state.out.extend(state.census_round(now_ns, v.settings))
        return not missing or (view is None and len(missing) < len(views))

    def _repeated(self, now_ns: int, track: Track) -> bool:
        """A split is confirmed only on a claim that was made *after* the suspicion: the last word of a node that has just died stays
        fresh for a while, and a fast VRRP daemon takes over meanwhile."""
        if track.verdict is not Verdict.SPLIT_BRAIN:
            return True
        return any(fact.last_ns > track.since_ns for fact in self._state.ledger.fresh(now_ns, track.scope, Owner.PEER))

    def _raise_incident(self, now_ns: int, track: Track) -> None:
        state = self._state
        if state.in_maintenance(now_ns):
            return
        if track.scope != PAIR_SCOPE and track.verdict in PAIR_PAGES:
            return
        scope, page = track.scope, True
        if state.incidents.of(PAIR_SCOPE) and not state.contact.on_a_path(now_ns) and track.verdict is Verdict.SPLIT_BRAIN:
            scope = PAIR_SCOPE  # one cause, one incident: the dead or hung peer's grows into the split's
        if scope == PAIR_SCOPE and any(
            v.track.is_confirmed(Verdict.SPLIT_BRAIN) and state.incidents.of(v.scope) for v in state.groups.values()
        ):
            page = False  # the split's page says it already
        if scope == PAIR_SCOPE and (state.peer_excused(now_ns) or now_ns < state.peer_returns_ns):
            page = False  # Promise 6: the peer said that it stops, or is in maintenance
        if track.verdict in PORT_VERDICTS and self._told_of_another_group(track):
            page = False
        summary = f"{state.settings.cluster} {track.scope}: {track.verdict.value}: {track.reason}"
        details = f"seen by {state.settings.self_name}; evidence {', '.join(track.evidence) or 'none fresh'}"
        before = state.incidents.episodes.number
        rows = state.incidents.raise_(now_ns, scope, track.verdict, summary, details, state.epochs(), page, track.parts)
        if rows:
            state.persist(*rows)
            state.beat_wanted = state.beat_wanted or state.incidents.episodes.number != before

    def _told_of_another_group(self, track: Track) -> bool:
        """One port is the cause for every group behind it: one page."""
        views = self._state.groups.values()
        interface = next((v.settings.interface for v in views if v.scope == track.scope), "")
        others = [self._state.incidents.of(v.scope) for v in views if v.scope != track.scope and v.settings.interface == interface]
        return any(incident is not None and incident.paged and incident.verdict is track.verdict for incident in others)

    def _verdict_row(self, now_ns: int, track: Track) -> None:
        """The record sees every change, with the evidence it rests on."""
        state = self._state
        facts = list(state.ledger.fresh(now_ns, track.scope))
        rows = [
            Row(
                RowKind.EVIDENCE,
                (("id", f.id), ("kind", f.kind.value), ("subject", track.scope), ("detail", f.detail), ("at_ns", f.last_ns)),
            )
            for f in facts
        ]
        rows.append(
            Row(
                RowKind.VERDICT,
                (
                    ("id", state.next_row_id("V")),
                    ("scope", track.scope),
                    ("verdict", track.verdict.value),
                    ("stage", track.stage.value),
                    ("reason", track.reason),
                    ("evidence", [f.id for f in facts]),
                    ("incident", state.incidents.id_of(track.scope)),
                ),
            )
        )
        state.persist(*rows)
        state.publish(f"{track.scope}: {track.verdict.value} {track.stage.value}".rstrip())
