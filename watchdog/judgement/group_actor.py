"""PURE: what the watcher does about one group: gate, asking and yielding, removal of its own addresses, announcements.

``step`` is idempotent: it compares what should be with what was last ordered and emits the difference, so it may run as often as
anything changes. Order of a step = the ladder, mildest first.
"""

from __future__ import annotations

from base.core import NS_PER_MS
from watchdog.config.model import Mode
from watchdog.frames.heartbeat import GroupState, YieldAnswer
from watchdog.judgement.asking import Asker
from watchdog.judgement.commands import Announce, BridgeAdvert, GateState, RemoveAddress, SetGate
from watchdog.judgement.events import DaemonState
from watchdog.judgement.evidence import Owner
from watchdog.judgement.group_view import GroupView, Yielding
from watchdog.judgement.hooks import Hooks
from watchdog.judgement.ladder import Rung, Situation, rungs
from watchdog.judgement.state import WatcherState
from watchdog.judgement.verdict import Isolation, Verdict

"""How long a supervisor has to restart the VRRP daemon before we remove what it left behind."""
REMOVE_RETRY_MS = 200
MAX_REMOVALS = 10
ANNOUNCE_INTERVAL_MS = 500
MIN_ANNOUNCEMENTS = 2
MAX_ANNOUNCEMENTS = 20
TRIAL_BACKOFF_MAX_MS = 3_600_000
HANDOVER_HOLD_MS = 10_000


def situation_of(state: WatcherState, now_ns: int, view: GroupView) -> Situation:
    """The ladder's input for a group."""
    daemon = state.surroundings.daemon
    orphan_ns = state.surroundings.orphan_since_ns(view.settings.advert_interval_ms)
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
        peer_excused=state.peer_excused(now_ns),
    )


class GroupActor:
    """Acts for the groups of one watcher; all memory is in the state and the views."""

    def __init__(self, state: WatcherState, hooks: Hooks) -> None:
        self._state = state
        self._hooks = hooks
        self.asker = Asker(state, hooks)

    # --- one step ---

    def step(self, now_ns: int, view: GroupView) -> None:
        """Do what the group needs now, and set ``wake_ns`` no later than the next thing that time alone brings."""
        allowed = rungs(situation_of(self._state, now_ns, view))
        self._announce(now_ns, view, Rung.ANNOUNCE in allowed)
        self.asker.step(now_ns, view, Rung.ASK_PEER in allowed)
        self._answer(now_ns, view)
        if Rung.GIVE_UP in allowed and self._hooks.should_give_up(now_ns, view):
            self._give_up(now_ns, view)
        self._set_wanted_gate(now_ns, view)
        self._remove(now_ns, view, Rung.REMOVE_ORPHAN in allowed)

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
            for address, interface in view.held.items():
                self._state.out.append(Announce(interface, address))
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
            self.grant(now_ns, view, "the peer released it")

    def asked(self, now_ns: int, view: GroupView, request: int) -> None:
        """The peer's report carries this request (0: it asks for nothing, or not any more)."""
        yielding = view.yielding
        if request == yielding.request:
            return
        if request == 0:
            view.yielding = Yielding()
            return
        # Observe acts on nobody; and the tie of two askers is broken by the same comparison on both nodes.
        accepts = self._state.resolves and (self._state.quarantined or self._hooks.should_yield(now_ns, view))
        answer = YieldAnswer.ACCEPTED if accepts else YieldAnswer.REFUSED
        view.yielding = Yielding(request, answer, now_ns)
        self._state.beat_wanted = True
        if not accepts:
            return
        if view.asking.request:
            self.asker.withdraw(view)  # a node that yields withdraws what it asked itself: at most one of both can win
        if view.own:
            running = self._state.surroundings.daemon is DaemonState.RUNNING
            view.gate.deaf = running and view.heard_fresh(now_ns)
            self._state.record_action(view.scope, "yield", view.scope, f"asked by the peer, request {request}")
        hung = self._state.surroundings.daemon is DaemonState.HUNG
        self._hold(now_ns, view, "hung" if hung else "yielded", "the peer keeps the group: it asked us to yield")

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
        self._want_removal(view, due_ns)

    # --- rung 4: give up ---

    def _give_up(self, now_ns: int, view: GroupView) -> None:
        why = "quarantined" if self._state.quarantined else "isolated"
        if not view.gave_up:
            view.gave_up = True
            self._state.record_action(view.scope, "give_up", view.scope, f"this node is {why}")
            self._hold(now_ns, view, why, f"this node is {why}: it gives its addresses up")
        self._want_removal(view, now_ns)

    # --- the gate ---

    def _hold(self, now_ns: int, view: GroupView, why: str, reason: str) -> None:
        gate = view.gate
        gate.why = why
        gate.on_trial = False
        gate.trial_due_ns = now_ns + gate.trial_backoff_ms * NS_PER_MS
        self._order(now_ns, view, GateState.HELD, reason)

    def grant(self, now_ns: int, view: GroupView, reason: str) -> None:
        """strict: the group is ours to take."""
        view.gate.why = ""
        view.gave_up = False
        view.gate.epoch += 1
        self._order(now_ns, view, GateState.GRANTED, reason)
        self._state.record_action(view.scope, "grant", view.scope, reason)

    def hand_over(self, now_ns: int, view: GroupView, who: str) -> None:
        """A person wants the peer to own the group (Promise 6: planned)."""
        view.planned_until_ns = now_ns + self._state.settings.policy.planned_grace_ms * NS_PER_MS
        self._hold(now_ns, view, "handover", f"handover ordered by {who}")
        view.gate.trial_due_ns = now_ns + HANDOVER_HOLD_MS * NS_PER_MS

    def _order(self, now_ns: int, view: GroupView, wanted: GateState, reason: str) -> None:
        gate = view.gate
        if gate.state is wanted:
            return
        gate.state = wanted
        gate.reason = reason
        gate.since_ns = now_ns
        self._state.out.append(SetGate(view.key, wanted, gate.epoch, reason))
        self._state.beat_wanted = True
        self._state.publish(f"{view.scope}: gate {wanted.value}: {reason}")

    def _set_wanted_gate(self, now_ns: int, view: GroupView) -> None:
        state, gate = self._state, view.gate
        if not state.resolves:
            if gate.state is not GateState.OPEN:
                self._order(now_ns, view, GateState.OPEN, "observe mode holds nobody")
            return
        if state.quarantined:
            if gate.why != "quarantined":
                self._hold(now_ns, view, "quarantined", "this node was fenced and nobody has cleared it")
            if view.own:
                self._want_removal(view, now_ns)
            return
        if state.mode is Mode.STRICT:
            self._strict_gate(now_ns, view)
        else:
            self._resolve_gate(now_ns, view)

    def _strict_gate(self, now_ns: int, view: GroupView) -> None:
        gate = view.gate
        if gate.state is None:
            continuing = view.own and self._state.started.same_boot
            wanted = GateState.GRANTED if continuing else GateState.HELD
            gate.why = "" if continuing else "strict"
            self._order(now_ns, view, wanted, "owned already when braind started" if continuing else "strict: no takeover without proof")
        if gate.state is GateState.HELD and self._state.peer_proved_off and self._isolation_over(now_ns, view):
            self.grant(now_ns, view, self._state.peer_proved_off)

    def _isolation_over(self, now_ns: int, view: GroupView) -> bool:
        return self._state.isolation(now_ns, (view.settings.interface,)) is not Isolation.YES

    def _resolve_gate(self, now_ns: int, view: GroupView) -> None:
        gate = view.gate
        if gate.on_trial and view.own:
            self._end_trial(now_ns, view)
        if gate.why and self._may_release(now_ns, view):
            gate.why = ""
            gate.deaf = False
            view.gave_up = False
            gate.trial_due_ns = None
        if not gate.why and (gate.state is not None or self._may_open_first(now_ns, view)):
            self._order(now_ns, view, GateState.OPEN, "nothing forbids it")

    def _may_open_first(self, now_ns: int, view: GroupView) -> bool:
        """After our own restart a hold of the run before stays until it is clear that it is not needed: the peer owns the group and
        its adverts do not arrive here is exactly when it was."""
        if not self._state.settled(now_ns):
            return False
        report = view.fresh_report(now_ns)
        return report is None or not report.held or view.own or view.heard_fresh(now_ns)

    def _may_release(self, now_ns: int, view: GroupView) -> bool:
        """resolve: whether the standing reason of a hold is gone."""
        state, gate = self._state, view.gate
        if gate.why == "quarantined":
            return True
        if not (state.settled(now_ns) and state.trusted(now_ns)):
            return False
        if gate.why == "isolated":
            return self._isolation_over(now_ns, view) and state.isolation(now_ns) is Isolation.NO
        if gate.why == "hung" and state.surroundings.daemon is not DaemonState.RUNNING:
            return False
        if view.own:
            return False
        report = view.fresh_report(now_ns)
        if report is None or not state.contact.on_a_path(now_ns):
            claims = any(True for _ in state.ledger.fresh(now_ns, view.scope, Owner.PEER))
            return state.pair.is_confirmed() and not state.contact.on_a_path(now_ns) and not claims
        if not report.held and gate.why == "handover":
            return gate.trial_due_ns is not None and now_ns >= gate.trial_due_ns
        if not report.held:
            return True
        if gate.why == "handover":
            return False  # a daemon that preempts would take it back at once: held until the peer lets go of it
        if view.heard_fresh(now_ns) and not gate.deaf:
            return True
        return self._begin_trial(now_ns, view)

    def _begin_trial(self, now_ns: int, view: GroupView) -> bool:
        """Adverts were on our wire all the time and our daemon did not hear them: only trying shows whether it does now."""
        gate = view.gate
        if gate.trial_due_ns is None or not view.heard_fresh(now_ns):
            return False
        if now_ns < gate.trial_due_ns:
            view.wake_at(gate.trial_due_ns)
            return False
        gate.on_trial = True
        self._state.record_action(view.scope, "gate_trial", view.scope, "does the local daemon hear the peer's adverts again?")
        return True

    def _end_trial(self, now_ns: int, view: GroupView) -> None:
        """Our daemon took the group although the peer owns it: it is still deaf. Let go at once, wait longer next time."""
        gate = view.gate
        gate.on_trial = False
        if view.peer_denies(now_ns) or not self._state.contact.on_a_path(now_ns):
            return
        gate.trial_backoff_ms = min(gate.trial_backoff_ms * 2, TRIAL_BACKOFF_MAX_MS)
        gate.deaf = True
        self._hold(now_ns, view, "yielded", "the local daemon still does not hear the peer's adverts")
        self._want_removal(view, now_ns)

    # --- removing our own addresses ---

    def _want_removal(self, view: GroupView, due_ns: int) -> None:
        if view.removal_due_ns is None:
            view.removal_due_ns = due_ns
            view.removals = 0

    def _remove(self, now_ns: int, view: GroupView, orphan: bool) -> None:
        if orphan:
            self._want_removal(view, now_ns)
        elif self._state.resolves and view.own:
            orphan_ns = self._state.surroundings.orphan_since_ns(view.settings.advert_interval_ms)
            if orphan_ns is not None:
                view.wake_at(max(orphan_ns, self._state.settled_from_ns))
        if not view.own:
            view.removal_due_ns = None
        if view.removal_due_ns is None:
            return
        if now_ns < view.removal_due_ns:
            view.wake_at(view.removal_due_ns)
            return
        if view.removals >= MAX_REMOVALS:
            return
        reason = "orphan: no local daemon claims it" if orphan else view.gate.reason or view.track.reason
        if not view.removals:
            if orphan:
                self._page_orphan(now_ns, view)
            self._state.record_action(view.scope, "remove_address", ", ".join(view.held), reason)
        for address, interface in view.held.items():
            self._state.out.append(RemoveAddress(interface, address, reason))
        view.removals += 1
        view.removal_due_ns = now_ns + REMOVE_RETRY_MS * NS_PER_MS
        view.wake_at(view.removal_due_ns)

    def _page_orphan(self, now_ns: int, view: GroupView) -> None:
        """Removing it ends the verdict before it could be confirmed: the act itself opens the incident, until the daemon runs again."""
        state = self._state
        view.crashed = True
        if state.in_maintenance(now_ns):
            return
        summary = f"{state.settings.cluster} {view.scope}: {Verdict.ORPHAN_VIP.value}: the VRRP daemon of {state.settings.self_name} died"
        summary += f" and left {', '.join(view.held)} behind; it is removed"
        rows = state.incidents.raise_(now_ns, view.scope, Verdict.ORPHAN_VIP, summary, view.track.reason, state.epochs(), True)
        state.persist(*rows)

    # --- bridging adverts ---

    def bridge(self, now_ns: int, view: GroupView, source: str) -> None:
        """vrrpd only: the peer really sent an advert that may not have reached us; tell our daemon how old it is.

        Not in observe: a backup that waits because of it would be held, and observe holds nobody.
        """
        gate = self._state.settings.gate
        report = view.report
        if not self._state.resolves or gate.daemon != "vrrpd" or not gate.bridge_adverts:
            return
        if report is None or report.advert_sent_age_ms is None:
            return
        if report.state is not GroupState.MASTER and not report.held:
            return
        valid_ms = 3 * view.settings.advert_interval_ms
        if report.advert_sent_age_ms >= valid_ms or view.own:
            return
        if view.heard is not None and view.heard.priority and view.heard.age_ms(now_ns) <= view.settings.advert_interval_ms * 3 // 2:
            return
        self._state.out.append(BridgeAdvert(view.key, report.priority, source, report.advert_sent_age_ms, valid_ms))
