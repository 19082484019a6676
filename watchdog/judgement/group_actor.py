"""PURE: what the watcher does about one group: gate, asking and yielding, removal of its own addresses, announcements.

``step`` is idempotent: it compares what should be with what was last ordered and emits the difference, so it may run as often as
anything changes. Order of a step = the ladder, mildest first.
"""

from __future__ import annotations

from base.core import NS_PER_MS
from watchdog.config.model import Mode
from watchdog.frames.heartbeat import GroupState, YieldAnswer
from watchdog.judgement.asking import Asker
from watchdog.judgement.commands import Announce, BridgeAdvert
from watchdog.judgement.events import DaemonState
from watchdog.judgement.evidence import Owner
from watchdog.judgement.fitness import peer_is_less_fit
from watchdog.judgement.gate_keeper import GateKeeper
from watchdog.judgement.group_view import GateReason, GroupView, Yielding
from watchdog.judgement.handing_over import Handovers
from watchdog.judgement.hooks import Hooks
from watchdog.judgement.ladder import Rung, Situation, rungs
from watchdog.judgement.moving import Mover
from watchdog.judgement.removal import Remover, orphan_due_ns
from watchdog.judgement.state import WatcherState
from watchdog.judgement.verdict import Verdict

ANNOUNCE_INTERVAL_MS = 500
MIN_ANNOUNCEMENTS = 2
MAX_ANNOUNCEMENTS = 20
BRIDGE_AHEAD_MS = 600
"""So long before the earliest takeover of any daemon adverts are bridged: a few beats of the slowest path."""


def situation_of(state: WatcherState, now_ns: int, view: GroupView) -> Situation:
    """The ladder's input for a group."""
    daemon = state.surroundings.daemon
    orphan_ns = orphan_due_ns(state, now_ns, view)
    return Situation(
        mode=state.mode,
        verdict=view.track.verdict,
        confirmed=view.track.is_confirmed(),
        own=view.own,
        on_a_path=state.contact.on_a_path(now_ns),
        keeps=state.keeps(now_ns, view) if view.track.verdict in (Verdict.SPLIT_BRAIN, Verdict.ISOLATED) else None,
        asked_in_vain=view.asking.failed,
        daemon=daemon,
        orphan_grace_over=orphan_ns is not None and now_ns >= orphan_ns and state.settled(now_ns),
        maintenance=state.in_maintenance(now_ns),
        quarantined=state.quarantined,
        peer_can_take=(report := view.fresh_report(now_ns)) is not None and report.can_take,
        peer_is_gone=state.peer_is_gone,
        peer_excused=state.peer_excused(now_ns),
    )


class GroupActor:
    """Acts for the groups of one watcher; all memory is in the state and the views."""

    def __init__(self, state: WatcherState, hooks: Hooks) -> None:
        self._state = state
        self._hooks = hooks
        self.asker = Asker(state, hooks)
        self._remover = Remover(state)
        self.gate = GateKeeper(state, self._remover)
        self.handovers = Handovers(state, self.gate)
        self.mover = Mover(state, self.gate, self._remover)

    # --- one step ---

    def step(self, now_ns: int, view: GroupView) -> None:
        """Do what the group needs now, and set ``wake_ns`` no later than the next thing that time alone brings."""
        allowed = rungs(situation_of(self._state, now_ns, view))
        self._announce(now_ns, view, Rung.ANNOUNCE in allowed)
        self.asker.step(now_ns, view, Rung.ASK_PEER in allowed)
        self._answer(now_ns, view)
        if Rung.GIVE_UP in allowed and self._hooks.should_give_up(now_ns, view):
            self._give_up(now_ns, view)
        self.handovers.step(now_ns, view)
        self.mover.step(now_ns, view)
        self.gate.step(now_ns, view)
        self._remover.step(now_ns, view, Rung.REMOVE_ORPHAN in allowed)

    # --- rung 1: announce ---

    def split_confirmed(self, now_ns: int, view: GroupView) -> None:
        """The keeper re-announces at once, and again until a census shows one owner."""
        if self._state.keeps(now_ns, view) is not False:
            view.start_announcing(now_ns)

    def _announce(self, now_ns: int, view: GroupView, split: bool) -> None:
        if view.announce_due_ns is None:
            return
        if not view.own:
            view.announce_due_ns = None
            return
        if now_ns < view.announce_due_ns:
            view.wake_at(view.announce_due_ns)
            return
        others = any(True for _ in self._state.ledger.fresh(now_ns, view.scope, Owner.PEER))
        observing = self._state.mode is Mode.OBSERVE
        # While the loser still answers, our announcements only start a quarrel of two caches: once is enough until it lets go.
        if not (split and others and view.announced and not observing):
            for at in view.held:
                self._state.out.append(Announce(at.interface, at.address))
            view.announced += 1
            if view.announced == 1:
                self._state.record_action(view.scope, "announce", view.scope, "re-announce after a second owner or a fence")
        clean = not others and self._state.census.complete_since(view.scope, view.track.since_ns)
        done = (clean and view.announced >= MIN_ANNOUNCEMENTS) or view.announced >= MAX_ANNOUNCEMENTS or observing
        view.announce_due_ns = None if done else now_ns + ANNOUNCE_INTERVAL_MS * NS_PER_MS
        if view.announce_due_ns is not None:
            view.wake_at(view.announce_due_ns)

    # --- rung 3: ask (asking.py), and the other side: yield when asked ---

    def answered(self, now_ns: int, view: GroupView, answer: YieldAnswer) -> None:
        """The peer's answer to our present request."""
        if self.asker.answered(now_ns, view, answer):
            self.gate.grant(now_ns, view, "the peer released it")

    def asked(self, now_ns: int, view: GroupView, request: int) -> None:
        """The peer's report carries this request (0: it asks for nothing, or not any more)."""
        yielding = view.yielding
        if request == yielding.request:
            return
        if request == 0:
            view.yielding = Yielding()
            return
        # Observe acts on nobody; and the tie of two askers is broken by the same comparison on both nodes.
        # And a yield that would not stick is none: the asker must know that it has to do without us.
        willing = self._state.quarantined or self._hooks.should_yield(now_ns, view)
        accepts = self._state.resolves and not view.trust.fails and willing
        answer = YieldAnswer.ACCEPTED if accepts else YieldAnswer.REFUSED
        view.yielding = Yielding(request, answer, now_ns)
        self._state.beat_wanted = True
        if not accepts:
            return
        if view.asking.request:
            self.asker.withdraw(view)  # a node that yields withdraws what it asked itself: at most one of both can win
        if view.own:
            running = self._state.surroundings.daemon is DaemonState.RUNNING
            # Deaf is a daemon that took the group although the peer's adverts were on our wire, not one beside an address by hand.
            adverts = view.sent is not None and view.sent.is_fresh(now_ns)
            view.gate.deaf = running and adverts and view.heard_fresh(now_ns)
            self._state.record_action(view.scope, "yield", view.scope, f"asked by the peer, request {request}")
        hung = self._state.surroundings.daemon is DaemonState.HUNG
        self.gate.hold(now_ns, view, GateReason.HUNG if hung else GateReason.YIELDED, "the peer keeps the group: it asked us to yield")

    def _answer(self, now_ns: int, view: GroupView) -> None:
        yielding = view.yielding
        if yielding.answer is not YieldAnswer.ACCEPTED:
            return
        if not view.own:
            yielding.answer = YieldAnswer.DONE
            self._state.beat_wanted = True
            return
        half_ms = self._state.settings.policy.yield_deadline_ms // 2
        # A hung or dead daemon cannot let go by itself; a living one gets half of the deadline.
        running = self._state.surroundings.daemon in (DaemonState.RUNNING, None)
        due_ns = yielding.accepted_ns + (half_ms * NS_PER_MS if running else 0)
        self._remover.want(view, due_ns)

    # --- rung 4: give up ---

    def _give_up(self, now_ns: int, view: GroupView) -> None:
        why = GateReason.QUARANTINED if self._state.quarantined else GateReason.ISOLATED
        if not view.gave_up:
            view.gave_up = True
            self._state.record_action(view.scope, "give_up", view.scope, f"this node is {why.value}")
            self.gate.hold(now_ns, view, why, f"this node is {why.value}: it gives its addresses up")
        self._remover.want(view, now_ns)

    # --- bridging adverts ---

    def bridge(self, now_ns: int, view: GroupView, source: str) -> None:
        """vrrpd only: the peer really sent an advert that may not have reached us; tell our daemon how old it is.

        Not in observe: a backup that waits because of it would be held, and observe holds nobody. Not before it is needed: until then
        the peer has time to find out that its own port is dead, and a fitter node waits for nobody. Never an advert that is older than
        a priority 0 that arrived here. What was bridged is taken back when any of this changes.
        """
        gate = self._state.settings.gate
        if not self._state.resolves or gate.daemon != "vrrpd" or not gate.bridge_adverts:
            return
        valid_ms = 3 * view.settings.advert_interval_ms
        age_ms = self._age_to_bridge(now_ns, view)
        if age_ms is None:
            if view.bridged_ns is not None and now_ns - view.bridged_ns < valid_ms * NS_PER_MS and not view.own:
                self._state.out.append(BridgeAdvert(view.key, 0, source, 0, valid_ms))
            view.bridged_ns = None
        elif age_ms < valid_ms and view.report is not None and self._is_needed(now_ns, view):
            view.bridged_ns = now_ns
            self._state.out.append(BridgeAdvert(view.key, view.report.priority, source, age_ms, valid_ms))

    def _age_to_bridge(self, now_ns: int, view: GroupView) -> int | None:
        """How old the newest advert is that the peer really sent; None: nothing of the peer may hold this node back."""
        report = view.report
        if report is None or view.own or report.advert_sent_age_ms is None:
            return None
        if report.state is not GroupState.MASTER and not report.held:
            return None
        sent_ns = now_ns - report.advert_sent_age_ms * NS_PER_MS
        if view.heard is not None and view.heard.priority == 0 and sent_ns <= view.heard.at_ns:
            return None
        return None if peer_is_less_fit(self._state, now_ns, view) else report.advert_sent_age_ms

    @staticmethod
    def _is_needed(now_ns: int, view: GroupView) -> bool:
        """Shortly before the daemon would take over."""
        interval_ms = view.settings.advert_interval_ms
        from_ms = max(interval_ms * 3 // 2, min(interval_ms * 5 // 2, 3 * interval_ms - BRIDGE_AHEAD_MS))
        return view.heard is None or view.heard.priority == 0 or view.heard.age_ms(now_ns) > from_ms
