"""PURE: when the peer is fenced and what comes of it. Drives one FenceSession (fencing/plan) at a time and translates both ways.

The session owns levels, identity, proof and recovery; this file owns the decision to start and its turn (turns.py), the second look, the
durable intent (Promise 2), the budget (Promise 7) and what the outcome means for gates and pages. Attempts go on while they are safe:
one that certainly did nothing is made again in the same turn; one that may have acted is a person's, or a reading's (power_watch.py).
"""

from __future__ import annotations

from base.core import NS_PER_MS, JsonValue
from fencing.plan.budget import FenceBudget
from fencing.plan.commands import (
    FenceCommand,
    FenceFinished,
    FenceState,
    PersistIntent,
    ProbeTarget,
    RecordState,
    RunDevice,
    SecondLookNeeded,
)
from fencing.plan.delay import act_ms
from fencing.plan.events import (
    NOT_CARRIED_OUT,
    ChannelAsked,
    ChannelHeard,
    ControlHeard,
    DeviceOutcome,
    DeviceReported,
    FenceEvent,
    FenceRequested,
    FenceWithdrawn,
    IntentDurable,
    RunnerLost,
    SecondLook,
    SilenceVoided,
    Trust,
)
from fencing.plan.interlocks import Interlock
from fencing.plan.session import FenceSession, Phase
from fencing.plan.settings import FenceSettings
from fencing.plan.times import FenceTimes
from watchdog.config.model import LinkAddress
from watchdog.judgement.commands import Persist, ProbeReference, Row, RowKind, RunFence
from watchdog.judgement.events import FenceReported
from watchdog.judgement.group_actor import situation_of
from watchdog.judgement.hooks import PASSING_LOOKS, Hooks
from watchdog.judgement.judging import fence_is_grounded
from watchdog.judgement.ladder import Rung, rungs
from watchdog.judgement.open_evidence import Effect, Strength, sufficient
from watchdog.judgement.power_watch import PowerWatch
from watchdog.judgement.powering_on import PoweringOn
from watchdog.judgement.state import WatcherState
from watchdog.judgement.terms import differences
from watchdog.judgement.turns import TurnRefusal
from watchdog.judgement.verdict import PAIR_SCOPE, Verdict
from watchdog.judgement.witnessing import WitnessRefusal

CENSUS_INTERVAL_MS = 500
"""How often a census channel is heard while a session asks for probes (every 250 ms, plus the window)."""
MAX_PROBED_GROUPS = 4
ASK_EARLY_MS = 15
"""How long before the turn a census must be over: what a busy loop may be late."""
LOOK_AGAIN_MS = 250
"""How long after a second look that was in doubt it is repeated."""
TURN_AGAIN_MS = 20
"""How long after the witness was asked to renew the turn its answer is looked for."""
ATTEMPT_PAUSE_MS = 1_000
"""After an attempt that certainly did nothing."""
PASSING_LOCKS = frozenset({Interlock.STALLED, Interlock.SETTLING})
PASSING_TURNS: frozenset[TurnRefusal | WitnessRefusal] = frozenset(
    {TurnRefusal.NOT_YET, TurnRefusal.PEER_ACTS, WitnessRefusal.ASKED, WitnessRefusal.PEER_HAS_IT}
)
CERTAIN = NOT_CARRIED_OUT | {DeviceOutcome.SUCCESS}
"""Outcomes after which nothing can take effect any more."""
NO_BOOT = b"?"
LOOK_FRESH_MS = 50
"""A census that was over so long ago is still one of this moment: what confirmed the danger, or ended right before the turn, need not be
asked again before the act."""


def armed_by(fence: FenceSettings, target: str) -> bool:
    """Whether this configuration may fence by itself at all (flag ARMED)."""
    return fence.enabled and fence.measured_ms > 0 and any(level.devices for level in fence.levels_for(target))


def remembered_starts(state: WatcherState) -> tuple[int, ...]:
    """When fences of the peer were started, by this run's clock. Of another boot nobody knows for certain how long ago that was: it
    counts from this machine's start. A record without them has only wall times."""
    started = state.started
    boot = started.boot.hex()
    kept = tuple(start_ns if of_boot == boot else 0 for of_boot, start_ns in started.durable.fence_starts)
    by_wall = tuple(state.started_ns - max(0, started.wall_ns - wall_ns) for wall_ns in started.recent_fence_wall_ns)
    return kept if len(kept) >= len(by_wall) else by_wall


class FenceControl:
    """At most one fence at a time, always of the peer."""

    def __init__(self, state: WatcherState, hooks: Hooks) -> None:
        self._state = state
        self._hooks = hooks
        settings = state.settings
        self.power = PowerWatch(state)
        self.powering_on = PoweringOn(state)
        self.budget = FenceBudget(settings.fence.budget_per_hour, recent_ns=remembered_starts(state), latched=state.started.latched)
        self.target = settings.peer.name
        self.session: FenceSession | None = None
        self.last: dict[str, JsonValue] | None = None
        self._scope = PAIR_SCOPE
        self._open = list(state.started.open_fences)
        self._manual = False
        self._taken = False
        self._orders = 0
        self._intents: list[tuple[int, int]] = []
        self._looking: SecondLookNeeded | None = None
        self._look_since_ns = 0
        self._look_until_ns = 0
        self._look_again_ns: int | None = None
        self._attempts: dict[tuple[int, str, str], int] = {}
        self._awaited: dict[tuple[int, str], int] = {}
        """Readings that were begun before the fence, and answer its question too: (level, device) → the session's attempt."""
        self._spent = False
        self._again_ns = 0
        self._refusal = ""
        self._wake_ns: int | None = None
        self._asked_for_ns = 0
        self._acted_on_boot = b""
        state.fence_armed = armed_by(settings.fence, self.target)

    @property
    def scope(self) -> str:
        """The scope whose verdict the present or last fence rests on."""
        return self._scope

    @property
    def open_fences(self) -> tuple[str, ...]:
        """Orders of an earlier run that still have to be verified."""
        return tuple(fence.order_id for fence in self._open)

    # --- starting ---

    def step(self, now_ns: int) -> None:
        """Verify what a crash left open, start a fence that is due, withdraw one whose reason is gone."""
        self._wake_ns = None
        self.power.step(now_ns, acting=self.session is not None)
        if self.session is not None:
            self._withdraw_if_unfounded(now_ns)
            return
        if self._open and self._hooks.remembers_open_fences():
            self._recover(now_ns)
            return
        scope = self._scope_to_fence(now_ns)
        if not scope or self._spent:
            self._turn_not_needed(now_ns)
            return
        if now_ns < self._again_ns:
            self._wake_ns = self._again_ns
            return
        locks = self._hooks.may_fence(now_ns)
        turn = None if locks else self._hooks.turn_refusal(now_ns, self._act_ms(1))
        if locks:
            self._turn_not_needed(now_ns)
            if Interlock.BUDGET in locks:
                self._latch()
            self._refused(now_ns, scope, "; ".join(lock.value for lock in locks), page=not set(locks) <= PASSING_LOCKS)
        elif turn is WitnessRefusal.ASKED:
            return  # its answer comes in a moment
        elif turn is not None:
            self._refused(now_ns, scope, self._turn_words(now_ns, turn), page=turn not in PASSING_TURNS)
        else:
            self._start(now_ns, scope, manual=False)

    def _turn_not_needed(self, now_ns: int) -> None:
        """The witness gets the turn back, unless an act of ours may still take effect: then it runs out by itself."""
        witness = self._state.witness
        if self._state.contact.turns.acting(now_ns):
            witness.leave()
        else:
            witness.done(now_ns)
        self._state.out.extend(witness.take_commands())

    def _turn_words(self, now_ns: int, turn: TurnRefusal | WitnessRefusal) -> str:
        """The refusal, with both values where the nodes differ, and when the next turn is."""
        if isinstance(turn, WitnessRefusal):
            return turn.value
        turns = self._state.contact.turns
        turn_ns = turns.next_turn_ns(now_ns)
        self._wake_ns = turn_ns
        if turn_ns is not None:
            self._ask_before_turn(now_ns, turn_ns)
        words = turn.value
        if turn is TurnRefusal.TERMS_DIFFER and turns.peer_terms is not None:
            words += f" ({', '.join(differences(turns.terms, turns.peer_terms, self._state.settings.self_name, self.target))})"
        if self._wake_ns is not None:
            words += "; the next turn is when the peer has been silent for d"
        return words

    def _ask_before_turn(self, now_ns: int, turn_ns: int) -> None:
        """The census of the second look is over when the turn comes, not begun."""
        ask_ns = turn_ns - (self._state.settings.policy.census_window_ms + ASK_EARLY_MS) * NS_PER_MS
        if now_ns < ask_ns:
            self._wake_ns = ask_ns
        elif self._asked_for_ns != turn_ns:
            self._asked_for_ns = turn_ns
            self._probe_target(now_ns)

    def _act_ms(self, level: int) -> int:
        """F of the act itself: the deadlines of the level's devices, one after the other."""
        levels = self._state.settings.fence.levels_for(self.target)
        return act_ms(levels[level - 1].devices) if level <= len(levels) else 0

    def _latch(self) -> None:
        """Promise 7: a fence is due and the hour's budget is used up: from now on a person is needed, whatever the clocks do."""
        if not self.budget.latched:
            self.budget.latched = True
            self._state.record_node("latch", True)

    def order_off(self, now_ns: int, who: str) -> str:
        """A person orders the fence: no verdict is needed, but a durable intent and an armed runner are. Returns "" or why not."""
        if self.session is not None:
            return "a fence is already running"
        if not self._state.settings.fence.levels_for(self.target):
            return f"no [[fence.level]] with target {self.target} is configured"
        if not self._state.recorder_up:
            return "the record cannot be written, and nothing is fenced without a durable intent"
        if not self._state.runner_up:
            return "the fence runner is not armed; braind's log says why"
        self._state.record_action(PAIR_SCOPE, "fence_off", self.target, f"ordered by {who}")
        self._start(now_ns, PAIR_SCOPE, manual=True)
        return ""

    def order_on(self, now_ns: int, who: str) -> str:
        """A person switches the peer on again, by every device of every level. Returns "" or why not."""
        if self.session is not None:
            return "a fence is running"
        return self.powering_on.order(now_ns, self._next_order_id(), who, self._times())

    def clear_latch(self) -> None:
        """A person looked."""
        self.budget.clear()
        self._spent, self._again_ns = False, 0
        self._state.record_node("latch", False)
        self._remember_starts()

    def _scope_to_fence(self, now_ns: int) -> str:
        """The scope whose confirmed verdict asks for the fence rung, "" if none does."""
        state = self._state
        if state.contact.lives(now_ns) and not state.contact.on_a_path(now_ns):
            return ""  # an authentic frame of a session that cannot answer yet: the peer is not fenced for a silence that is not one
        for view in state.groups.values():
            due = view.track.verdict is Verdict.SPLIT_BRAIN and Rung.FENCE in rungs(situation_of(self._state, now_ns, view))
            if due and fence_is_grounded(state, now_ns, view.scope):
                return view.scope
        if state.pair.is_confirmed(Verdict.PEER_DEAD, Verdict.PEER_HUNG) and state.resolves and not state.peer_proved_off:
            excused = state.peer_excused(now_ns) or state.in_maintenance(now_ns) or state.quarantined
            ungrounded = state.contact.on_a_path(now_ns) or not fence_is_grounded(state, now_ns, PAIR_SCOPE)
            return "" if excused or ungrounded else PAIR_SCOPE
        return ""

    def _start(self, now_ns: int, scope: str, *, manual: bool) -> None:
        self._scope, self._manual, self._taken, self._refusal = scope, manual, False, ""
        levels = self._state.settings.fence.levels_for(self.target)
        self.powering_on.stop(now_ns, "a fence begins")
        self.session = FenceSession(self._next_order_id(), self.target, levels, self._times())
        self._state.publish(f"fence of {self.target}: requested")
        self._run(now_ns, self.session.handle(now_ns, FenceRequested(self.power.ahead.known(now_ns))))

    def _recover(self, now_ns: int) -> None:
        """Promise 2: what a crash left open is unknown and only read, never repeated."""
        if not self._state.runner_up:
            return
        fence = self._open.pop()
        levels = self._state.settings.fence.levels_for(fence.target)
        self._scope, self._manual, self._taken = PAIR_SCOPE, False, True
        self.session = FenceSession(fence.order_id, fence.target, levels, self._times(), recover_level=fence.level)
        self._run(now_ns, self.session.handle(now_ns, FenceRequested()))

    def _times(self) -> FenceTimes:
        policy, fence = self._state.settings.policy, self._state.settings.fence
        return FenceTimes(
            proof_silence_ms=fence.proof_silence_ms,
            order_valid_ms=policy.second_look_ms,
            barrier_ms=policy.barrier_ms,
            second_look_ms=1_000 + 3 * policy.census_window_ms + self._state.contact.slowest_silent_ns // NS_PER_MS,
        )

    def _refused(self, now_ns: int, scope: str, why: str, *, page: bool = True) -> None:
        """Fencing is due and forbidden: say why, once per reason; page unless it will pass by itself."""
        if why == self._refusal:
            return
        self._refusal = why
        self._state.record_action(scope, "fence", self.target, why, "refused")
        incident_scope = scope if self._state.incidents.of(scope) else PAIR_SCOPE
        if not self._state.settings.fence.enabled or not page:
            return
        summary = f"{self.target} ought to be fenced and must not be: {why}"
        self._state.persist(*self._state.incidents.page_again(incident_scope, "critical", summary, why))

    def _withdraw_if_unfounded(self, now_ns: int) -> None:
        assert self.session is not None
        state = self._state
        if self._manual:
            return
        if state.in_maintenance(now_ns) or state.peer_excused(now_ns):
            self._run(now_ns, self.session.handle(now_ns, FenceWithdrawn("maintenance or a planned stop")))
        elif state.contact.lives(now_ns) and not state.contact.on_a_path(now_ns) and not self._acted_on_boot:
            self._run(now_ns, self.session.handle(now_ns, FenceWithdrawn("an authentic frame of the peer arrives: it lives")))
        elif self._scope == PAIR_SCOPE and state.contact.on_a_path(now_ns):
            self._run(now_ns, self.session.handle(now_ns, FenceWithdrawn("the peer is heard again")))
        elif self._scope != PAIR_SCOPE:
            track = state.scope_track(self._scope)
            if track is None or track.verdict not in (Verdict.SPLIT_BRAIN, Verdict.PEER_DEAD, Verdict.PEER_HUNG, Verdict.UNKNOWN):
                self._run(now_ns, self.session.handle(now_ns, FenceWithdrawn("there are no longer two owners")))

    # --- what the session asks for ---

    def _run(self, now_ns: int, commands: list[FenceCommand]) -> None:
        for command in commands:
            match command:
                case PersistIntent():
                    self._persist_intent(now_ns, command)
                case SecondLookNeeded():
                    self._begin_look(now_ns, command)
                case RunDevice():
                    self._run_device(now_ns, command)
                case ProbeTarget():
                    self._probe_target(now_ns)
                case RecordState():
                    self._record(command)
                case FenceFinished():
                    self._finished(now_ns, command)

    def _persist_intent(self, now_ns: int, command: PersistIntent) -> None:
        state = self._state
        row = self._fence_row(command.order_id, command.target, command.level, FenceState.REQUESTED.value, command.detail)
        if not self._hooks.intent_needs_barrier():
            state.out.append(Persist((row,)))
            self.feed(now_ns, IntentDurable(command.level))
            return
        # Promise 2: intent. The session acts only after Persisted(barrier) has come back as IntentDurable.
        state.barrier += 1
        self._intents.append((state.barrier, command.level))
        state.out.append(Persist((row,), state.barrier))

    def persisted(self, now_ns: int, barrier: int) -> None:
        """Everything up to ``barrier`` is durable."""
        self.powering_on.persisted(now_ns, barrier)
        due = [level for number, level in self._intents if number <= barrier]
        self._intents = [pair for pair in self._intents if pair[0] > barrier]
        for level in due:
            self.feed(now_ns, IntentDurable(level))

    def _begin_look(self, now_ns: int, command: SecondLookNeeded) -> None:
        """The second look rests on a census that begins now."""
        self._looking = command
        window_ms = self._state.settings.policy.census_window_ms
        self._look_since_ns = now_ns - (window_ms + LOOK_FRESH_MS) * NS_PER_MS
        self._look_until_ns = now_ns + (self._times().second_look_ms - 2 * LOOK_AGAIN_MS) * NS_PER_MS
        if not self._census_since(self._look_since_ns):
            self._probe_target(now_ns)
        self.look_if_ready(now_ns)

    def look_if_ready(self, now_ns: int) -> None:
        """Called when a census round is over: judge again if the session waits for it."""
        command = self._looking
        if command is None or self.session is None:
            return
        state = self._state
        if not self._manual and not state.trusted(now_ns):
            # Promise 8: we slept; look again when we have listened long enough. The session waits, but not for ever.
            self._look_again_ns = state.trusted_from_ns
            return
        if self._look_again_ns is not None:
            if now_ns < self._look_again_ns:
                return
            self._look_again_ns, self._look_since_ns = None, now_ns
        if state.groups and not self._census_since(self._look_since_ns):
            for view in list(state.groups.values())[:MAX_PROBED_GROUPS]:
                state.out.extend(state.census_round(now_ns, view.settings))
            return
        why = "" if self._manual else self._hooks.second_look(now_ns, command.refuted)
        if why in PASSING_LOOKS and now_ns < self._look_until_ns:
            # One unanswered probe must not end the only fence of this outage. Nothing is done in doubt: the session waits.
            self._look_again_ns = now_ns + LOOK_AGAIN_MS * NS_PER_MS
            self._probe_target(now_ns)
            return
        if not why and not self._manual:
            turn = self._hooks.turn_refusal(now_ns, self._act_ms(command.level))
            if turn is WitnessRefusal.ASKED and now_ns < self._look_until_ns:
                self._look_again_ns = now_ns + TURN_AGAIN_MS * NS_PER_MS
                return  # the turn has grown short and is being renewed
            why = self._turn_words(now_ns, turn) if turn is not None else ""
        self._looking = None
        if not why and not self._taken:
            why = self._take_budget(now_ns)
        self.feed(now_ns, SecondLook(command.level, not why, why))

    def _census_since(self, since_ns: int) -> bool:
        """A census of some group that began at or after ``since_ns`` is over."""
        return any(self._state.census.any_over_since(v.scope, since_ns) for v in self._state.groups.values())

    def _take_budget(self, now_ns: int) -> str:
        """Promise 7: budget. One fence of the hour's is used up at the last moment before the act; "" or why it must not be. A person's
        word is a budget of its own (D17): the order stands in the record with who gave it, and uses up nothing of the daemon's."""
        if self._manual:
            self._taken = True
            return ""
        if self._hooks.budget_left(now_ns) <= 0:
            self._latch()
            return Interlock.BUDGET.value
        self.budget.take(now_ns)
        self._remember_starts()
        self._taken = True
        return ""

    def _remember_starts(self) -> None:
        """Durable by count and by this boot's clock: neither a step of the wall clock nor a restart forgets a fence."""
        boot = self._state.started.boot.hex()
        starts: list[JsonValue] = [[boot, start_ns] for start_ns in self.budget.starts_ns]
        self._state.record_node("fence_starts", starts)

    def _run_device(self, now_ns: int, command: RunDevice) -> None:
        if command.action == "off":
            # Promise 5: while this may take effect we acknowledge nothing.
            self._state.contact.turns.act_begins(now_ns, self._act_ms(command.level))
            self._acted_on_boot = self._state.contact.session.boot or NO_BOOT
            self._state.announced_fence = True
            self._state.beat_wanted = True
        self._attempts[command.level, command.device, command.action] = command.attempt
        preparing = self.session is not None and self.session.phase is Phase.PREPARING
        if command.action == "status" and preparing and self.power.under_way(command.level, command.device):
            self._awaited[command.level, command.device] = command.attempt
            return
        self._state.out.append(
            RunFence(
                command.order_id,
                command.target,
                command.level,
                command.device,
                command.action,
                command.attempt,
                now_ns,
                command.valid_ms,
            )
        )

    def _probe_target(self, now_ns: int) -> None:
        state = self._state
        for view in list(state.groups.values())[:MAX_PROBED_GROUPS]:
            state.out.extend(state.census_round(now_ns, view.settings))
        state.surroundings.ask_now(now_ns)
        state.out.extend(ProbeReference(name) for name in state.surroundings.due_references(now_ns))

    def _record(self, command: RecordState) -> None:
        row = self._fence_row(command.order_id, command.target, command.level, command.state.value, command.detail)
        self._state.persist(row)
        self._state.publish(f"fence of {command.target} level {command.level}: {command.state.value}: {command.detail}")

    def _fence_row(self, order_id: str, target: str, level: int, state: str, detail: str) -> Row:
        return Row(
            RowKind.FENCE,
            (
                ("order_id", order_id),
                ("incident", self._state.incidents.id_of(self._scope)),
                ("target", target),
                ("level", level),
                ("state", state),
                ("detail", detail),
            ),
        )

    # --- the end ---

    def _finished(self, now_ns: int, end: FenceFinished) -> None:
        state = self._state
        self.session = None
        self._looking = None
        self._look_again_ns = None
        self._intents.clear()
        self._attempts.clear()
        self._awaited.clear()
        self.last = {
            "order_id": end.order_id,
            "target": end.target,
            "level": end.level,
            "state": end.state.value,
            "detail": end.detail,
            "at_ns": now_ns,
        }
        # What certainly did nothing is tried again while the turn lasts. What may have acted is never repeated by itself: only a person,
        # a reading of the devices, or hearing the peer goes on from there.
        self._spent = end.state is not FenceState.NOT_DONE
        self._again_ns = now_ns + ATTEMPT_PAUSE_MS * NS_PER_MS
        self._turn_not_needed(now_ns)  # an attempt that came to nothing must not keep the turn from a node that reaches its devices
        if end.state in (FenceState.NOT_DONE, FenceState.REFUTED):
            state.announced_fence = False
        if self._hooks.trusts_claim(end.state):  # Promise 3: only a proved fence counts
            state.announced_fence = True
            self._win_caches_back(now_ns)
            state.peer_proved_off = f"{end.target} is proved off (order {end.order_id}): {end.detail}"
        self._page_end(end)
        state.beat_wanted = True

    def _page_end(self, end: FenceFinished) -> None:
        state = self._state
        scope = self._scope if state.incidents.of(self._scope) else PAIR_SCOPE
        if end.state is FenceState.PROVED:
            summary = f"{end.target} was fenced and is proved off: {end.detail}"
        else:
            summary = f"the fence of {end.target} ended {end.state.value}: {end.detail}; a person must look"
        if state.incidents.of(scope) is None:
            state.persist(
                *state.incidents.raise_(self.now_of_last(), PAIR_SCOPE, Verdict.PEER_DEAD, summary, end.detail, state.epochs(), True)
            )
            return
        if end.state is FenceState.NOT_DONE and "heard again" in end.detail:
            return
        state.persist(*state.incidents.page_again(scope, "critical", summary, end.detail))

    def now_of_last(self) -> int:
        """When the last session ended."""
        at_ns = self.last["at_ns"] if self.last else 0
        return at_ns if isinstance(at_ns, int) else 0

    def peer_heard(self) -> None:
        """A proven frame: the peer lives. What was proved about it is over, and a new fence may become necessary one day. The same boot as
        when it was told off: it never was off, and nobody is to think so."""
        state = self._state
        state.peer_proved_off = ""
        self.powering_on.peer_heard()
        if self.session is not None:
            return
        self._spent, self._again_ns = False, 0
        if self._acted_on_boot and state.contact.session.boot == self._acted_on_boot and state.announced_fence:
            state.announced_fence = False
            state.beat_wanted = True
            state.record_action(PAIR_SCOPE, "fence", self.target, "it was never off: the same boot is heard again", "refuted")
        self._acted_on_boot = b""

    def peer_acknowledged_fence(self) -> None:
        """The peer says that it is quarantined: it knows."""
        if self.session is None:
            self._state.announced_fence = False

    # --- what the session needs to hear ---

    def feed(self, now_ns: int, event: FenceEvent) -> None:
        """Pass something on to the running session."""
        if self.session is not None:
            self._run(now_ns, self.session.handle(now_ns, event))

    def reported(self, now_ns: int, event: FenceReported) -> None:
        """The runner finished one device action."""
        if self.power.reported(now_ns, event):
            attempt = self._awaited.pop((event.level, event.device), 0)
            if attempt:
                self._pass_on(now_ns, event, attempt)
            return
        if self.powering_on.reported(now_ns, event):
            return
        if self.session is None or event.order_id != self.session.order_id:
            return
        if event.action == "off" and event.outcome is DeviceOutcome.SUCCESS:
            self._win_caches_back(now_ns)
        self._pass_on(now_ns, event, event.attempt or self._attempts.get((event.level, event.device, event.action), 0))
        if event.action == "off" and DeviceOutcome(event.outcome.value) in CERTAIN and (self.session is None or not self.session.acting):
            self._state.contact.turns.act_ended(now_ns)

    def _pass_on(self, now_ns: int, event: FenceReported, attempt: int) -> None:
        self.feed(
            now_ns,
            DeviceReported(
                event.level,
                event.device,
                event.action,
                attempt,
                event.outcome,
                event.power,
                event.identity,
                event.took_ms,
                event.detail,
            ),
        )

    def _win_caches_back(self, now_ns: int) -> None:
        """The fenced node may have owned our addresses where we could not see it: its neighbours still send to a dead MAC."""
        for view in self._state.groups.values():
            if view.own:
                view.start_announcing(now_ns)
                self._state.touch(view.scope)

    def frame_heard(self, now_ns: int, path: str) -> None:
        """A proven frame of the peer: a channel."""
        settings = self._state.contact.settings[path]
        self.feed(now_ns, ChannelHeard(f"path/{path}", settings.medium, now_ns, settings.interval_ms))

    def census_heard(self, now_ns: int, at: LinkAddress, answered: bool) -> None:
        """An address was claimed with a MAC of the peer; ``answered``: to a probe of ours, from a MAC that the peer told us."""
        settings = self._state.settings
        strength = Strength.ANSWERED if answered else Strength.OPEN
        refutes = sufficient(strength, Effect.REFUTE, settings.policy.mode, require_authenticated=settings.fence.require_authenticated)
        trust = Trust.ANSWERED if refutes else Trust.OPEN
        self.feed(now_ns, ChannelHeard(f"census/{at.interface}/{at.address}", at.interface, now_ns, CENSUS_INTERVAL_MS, True, trust))

    def census_asked(self, now_ns: int, sent_ns: int, at: LinkAddress) -> None:
        """A whole window is over."""
        self.feed(now_ns, ChannelAsked(f"census/{at.interface}/{at.address}", sent_ns))

    def control_heard(self, now_ns: int, reference: str) -> None:
        """A reference answered: its interface works, and every path that runs over it."""
        if self.session is None:
            return
        me = self._state.settings.self_name
        interface = self._state.surroundings.references[reference].settings.interface.of(me)
        media = [interface, *(p.medium for p in self._state.settings.paths if p.interface.of(me) == interface)]
        for medium in dict.fromkeys(media):
            self.feed(now_ns, ControlHeard(medium, now_ns))

    def deaf_until(self, now_ns: int, reason: str) -> None:
        """We could not hear until now."""
        self.feed(now_ns, SilenceVoided(now_ns, reason))

    def runner_lost(self, now_ns: int, reason: str) -> None:
        """The fence runner is gone."""
        self.power.runner_lost(now_ns)
        self.powering_on.stop(now_ns, reason)
        self.feed(now_ns, RunnerLost(reason))

    # --- time ---

    def on_deadline(self, now_ns: int) -> None:
        """The session's timers."""
        self.look_if_ready(now_ns)
        self.powering_on.on_deadline(now_ns)
        if self._wake_ns is not None and now_ns >= self._wake_ns:
            self._state.touch(PAIR_SCOPE)
        self.power.step(now_ns, acting=self.session is not None)
        due = self.session.next_deadline() if self.session is not None else None
        if self.session is not None and due is not None and now_ns >= due:
            self._run(now_ns, self.session.on_deadline(now_ns))

    def next_deadline(self) -> int | None:
        """The session's, the next reading, the next turn or attempt, or when a second look that a stall put off is due."""
        times = [self._wake_ns, self.power.next_deadline(), self.powering_on.next_deadline()]
        if self.session is not None:
            times += [self.session.next_deadline(), self._look_again_ns]
        return min((t for t in times if t is not None), default=None)

    def to_json(self, now_ns: int) -> dict[str, JsonValue]:
        """For status."""
        fence = self._state.settings.fence
        last = dict(self.last) if self.last else None
        if last is not None:
            last["age_ms"] = (now_ns - self.now_of_last()) // NS_PER_MS
            del last["at_ns"]
        return {
            "enabled": fence.enabled,
            "target": self.target,
            "levels": [{"name": level.name, "devices": [d.name for d in level.devices]} for level in fence.levels_for(self.target)],
            "delay_ms": fence.delay_ms,
            "measured_ms": fence.measured_ms,
            "budget": {**_as_dict(self.budget.snapshot()), "left": self._hooks.budget_left(now_ns)},
            "latched": self.budget.latched,
            "turn": self._state.contact.turns.to_json(now_ns),
            "reading": self.power.to_json(),
            "refused": self._refusal,
            "running": self.session.snapshot() if self.session is not None else None,
            "last": last,
            "power_on": self.powering_on.to_json(now_ns),
            "open": list(self.open_fences),
            "peer_proved_off": self._state.peer_proved_off,
        }

    @property
    def newest_order_id(self) -> str:
        """The id of the order that was given last in this run."""
        return f"F-{self._state.settings.self_name}-{self._state.started.incarnation}-{self._orders}"

    def _next_order_id(self) -> str:
        self._orders += 1
        return self.newest_order_id


def _as_dict(value: JsonValue) -> dict[str, JsonValue]:
    assert isinstance(value, dict)
    return value
