"""PURE: the watcher. Takes facts in, judges every scope that they touch, and acts by the ladder (DESIGN section 7).

    event → *_intake.py (evidence) → judge.py (verdict table, stages, incidents) → group_actor.py and fence_control.py (ladder) → beats.py

The shell and the simulator drive the same object. Decision points are the overridable methods of hooks.Hooks at the end of the class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from base.core import NS_PER_MS, JsonValue
from fencing.plan.commands import FenceState
from fencing.plan.delay import bounded_ms, check_delay
from fencing.plan.interlocks import Interlock, InterlockFacts, standing
from watchdog.config.model import BrainSettings, GroupSettings
from watchdog.judgement import events, peer_gone, suspicion
from watchdog.judgement.agreement import Agreement
from watchdog.judgement.alarms import Alarms
from watchdog.judgement.asking import STALLED_ELECTION_INTERVALS
from watchdog.judgement.beats import Beats
from watchdog.judgement.census import Census
from watchdog.judgement.commands import GateState, ProbeReference, WatcherCommand
from watchdog.judgement.contact import PeerContact
from watchdog.judgement.delays import spread_ms
from watchdog.judgement.device_watch import DeviceWatch
from watchdog.judgement.events import WatcherEvent
from watchdog.judgement.evidence import Ledger, Owner
from watchdog.judgement.fence_control import FenceControl
from watchdog.judgement.gate_trust import GateTrust
from watchdog.judgement.group_actor import GroupActor
from watchdog.judgement.group_view import GroupView
from watchdog.judgement.hooks import NO_REFERENCE_LATELY, UNGROUNDED, UNSURE_ISOLATION
from watchdog.judgement.incidents import IncidentBook
from watchdog.judgement.judge import Judge
from watchdog.judgement.judging import contact_of, fence_is_grounded, note_peer_stopped
from watchdog.judgement.neighbours import Neighbours
from watchdog.judgement.node_intake import NodeIntake
from watchdog.judgement.operator_orders import Answer, OperatorOrders
from watchdog.judgement.peer_intake import PeerIntake
from watchdog.judgement.self_fencing import SelfFencing
from watchdog.judgement.stages import Stage, Track
from watchdog.judgement.state import WatcherState
from watchdog.judgement.status import status_document
from watchdog.judgement.surroundings import Surroundings
from watchdog.judgement.terms import own_terms
from watchdog.judgement.troubles import Troubles
from watchdog.judgement.turns import DISAGREEMENTS, TurnRefusal, Turns
from watchdog.judgement.verdict import PAIR_SCOPE, Contact, Isolation
from watchdog.judgement.wire_intake import WireIntake
from watchdog.judgement.witness_intake import WitnessIntake
from watchdog.judgement.witnessing import TurnRule, Witnessing, WitnessRefusal

STALL_SLACK_MS = 100
MIN_WAKE_MS = 20
MAX_PASSES = 4
"""How often one call judges again what its own acts touched."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """What works on the state; made when Started arrives."""

    actor: GroupActor
    fence: FenceControl
    judge: Judge
    beats: Beats
    peer: PeerIntake
    wire: WireIntake
    orders: OperatorOrders
    troubles: Troubles
    devices: DeviceWatch
    self_fencing: SelfFencing
    gate_trust: GateTrust
    alarms: Alarms
    witness: WitnessIntake


class WatcherCore:
    """A core (base.core) over WatcherEvent and WatcherCommand. Does nothing before Started.

    ``key`` is the cluster key. One object serves one run of the daemon: a new run gets a new object and a Started with a new nonce.
    """

    def __init__(self, settings: BrainSettings, *, key: bytes) -> None:
        self.settings = settings
        self._key = key
        self._state: WatcherState | None = None
        self._made: _Parts | None = None
        self._handlers: dict[type, Callable[[int, Any], None]] = {}
        self._last_now_ns = 0

    # --- the Core protocol ---

    @property
    def state(self) -> WatcherState:
        """The watcher's memory, for hooks and tests; only after Started."""
        assert self._state is not None
        return self._state

    @property
    def fence(self) -> FenceControl:
        """The fence of the peer; only after Started."""
        return self._parts.fence

    @property
    def _parts(self) -> _Parts:
        assert self._made is not None
        return self._made

    def handle(self, now_ns: int, event: WatcherEvent) -> list[WatcherCommand]:
        """Take one event in; see base.core.Core."""
        if isinstance(event, events.Started):
            if self._state is not None:
                return []
            self._start(now_ns, event)
        elif self._state is None:
            return []
        else:
            self._handlers[type(event)](now_ns, event)
        return self._conclude(now_ns)

    def on_deadline(self, now_ns: int) -> list[WatcherCommand]:
        """Fire what is due: silences, probes, references, census tick, judgements, the fence, beats; in this order."""
        if self._state is None:
            return []
        state, parts = self._state, self._parts
        if state.contact.on_deadline(now_ns):
            parts.peer.path_status_changed(now_ns)
        state.census.give_up_late(now_ns)
        if state.surroundings.news(now_ns):
            state.beat_wanted = True
            state.touch_all()
        state.out.extend(ProbeReference(name) for name in state.surroundings.due_references(now_ns))
        if now_ns >= state.census.tick_due_ns:
            self._census_tick(now_ns)
        if state.pair_wake_ns is not None and now_ns >= state.pair_wake_ns:
            state.touch(PAIR_SCOPE)
        for view in state.groups.values():
            if view.wake_ns is not None and now_ns >= view.wake_ns:
                state.touch(view.scope)
        if state.maintenance_until_ns is not None and now_ns >= state.maintenance_until_ns:
            parts.orders.end_maintenance(now_ns, "its time is over")
        witness_ns = state.witness.next_deadline(self._last_now_ns)
        if witness_ns is not None and now_ns >= witness_ns:
            parts.witness.on_deadline(now_ns)
        parts.fence.on_deadline(now_ns)
        parts.devices.on_deadline(now_ns, fencing=parts.fence.session is not None)
        parts.troubles.on_deadline(now_ns)
        parts.beats.on_deadline(now_ns)
        return self._conclude(now_ns)

    def next_deadline(self) -> int | None:
        """The earliest of all timers."""
        state = self._state
        if state is None:
            return None
        times = [
            state.contact.next_deadline(),
            state.census.next_deadline(),
            state.surroundings.next_deadline(self._last_now_ns),
            state.pair_wake_ns,
            state.maintenance_until_ns,
            state.witness.next_deadline(self._last_now_ns),
            self._parts.fence.next_deadline(),
            self._parts.beats.next_deadline(),
            self._parts.troubles.next_deadline(),
            self._parts.self_fencing.next_deadline(self._last_now_ns),
            self._parts.devices.next_deadline(fencing=self.fence.session is not None),
        ]
        times += [view.wake_ns for view in state.groups.values()]
        return min((t for t in times if t is not None), default=None)

    def snapshot(self) -> JsonValue:
        """The status document (status.py), as of the last call."""
        if self._state is None:
            return {"started": False, "self": {"name": self.settings.self_name}, "cluster": self.settings.cluster}
        return status_document(self.state, self.fence, self._parts.devices, self._parts.self_fencing, self._last_now_ns)

    @property
    def last_answer(self) -> Answer | None:
        """What became of the newest order of a person; None before the first one."""
        return None if self._made is None else self._made.orders.last

    # --- start and configuration ---

    def _start(self, now_ns: int, event: events.Started) -> None:
        settings, policy = self.settings, self.settings.policy
        self._last_now_ns = now_ns
        settled_ns = now_ns + policy.settle_ms * NS_PER_MS
        state = self._state = WatcherState(
            settings=settings,
            started=event,
            started_ns=now_ns,
            ledger=Ledger(event.incarnation),
            contact=PeerContact(settings, self._key, event.nonce, now_ns, self._turns(now_ns, event)),
            census=Census(policy.census_interval_ms, policy.census_window_ms, now_ns),
            surroundings=Surroundings(settings.references, now_ns, settings.self_name, event.durable.reference_macs),
            incidents=IncidentBook(settings.cluster),
            neighbours=Neighbours(event.macs, event.durable.peer_macs),
            link_macs=event.links,
            pair=Track(PAIR_SCOPE, since_ns=now_ns),
            witness=Witnessing(settings.witness, now_ns, settings.self_name),
            settled_from_ns=settled_ns,
            trusted_from_ns=settled_ns,
            quarantined=event.quarantined,
            peer_addresses=settings.peer.addresses,
        )
        state.restore_windows(now_ns)
        suspicion.begin(state)
        peer_gone.begin(state)
        actor, fence = GroupActor(state, self), FenceControl(state, self)
        wire = WireIntake(state, fence)
        troubles = Troubles(state)
        agreement = Agreement(state, troubles)
        devices = DeviceWatch(state, troubles, now_ns)
        self._made = _Parts(
            actor=actor,
            fence=fence,
            judge=Judge(state, self, actor),
            beats=Beats(state, now_ns),
            peer=PeerIntake(state, actor, fence, agreement),
            wire=wire,
            orders=OperatorOrders(state, actor, fence),
            troubles=troubles,
            devices=devices,
            self_fencing=SelfFencing(state, troubles),
            gate_trust=GateTrust(state, troubles),
            alarms=Alarms(state, troubles),
            witness=WitnessIntake(state, troubles),
        )
        node = NodeIntake(state, self, fence, troubles, devices, agreement, actor.gate)
        self._handlers = self._make_handlers(self._made, node)
        self._configure_groups(now_ns, event.groups)
        scopes = {PAIR_SCOPE, *(view.scope for view in state.groups.values())}
        state.persist(*state.incidents.restore(now_ns, event.open_incidents, scopes))
        for incident_id in event.durable.acknowledged:
            state.incidents.acknowledge(incident_id)
        wire.addresses_listed(now_ns, events.AddressesListed(event.held))
        state.pair_wake_ns = settled_ns
        for view in state.groups.values():
            view.wake_ns = settled_ns
        state.touch_all()

    def _turns(self, now_ns: int, event: events.Started) -> Turns:
        """Whose turn it is. What an open fence of an earlier run told a device may still take effect."""
        fence = self.settings.fence
        acting_ns = now_ns + bounded_ms(fence) * NS_PER_MS if event.open_fences else 0
        return Turns(own_terms(self.settings), now_ns, agreed=event.durable.turn_terms, acting_until_ns=acting_ns)

    def _make_handlers(self, parts: _Parts, node: NodeIntake) -> dict[type, Callable[[int, Any], None]]:
        return {
            events.GroupsChanged: self._groups_changed,
            events.BytesReceived: parts.peer.bytes_received,
            events.PathChanged: parts.peer.path_changed,
            events.AdvertHeard: parts.wire.advert_heard,
            events.AddressChanged: parts.wire.address_changed,
            events.AddressesListed: parts.wire.addresses_listed,
            events.OwnerClaimed: parts.wire.owner_claimed,
            events.ProbeFinished: parts.wire.probe_finished,
            events.ReferenceAnswered: node.reference_answered,
            events.LinkMacsChanged: node.link_macs_changed,
            events.CarrierChanged: node.carrier_changed,
            events.TrafficCounted: node.traffic_counted,
            events.LocalDaemonChanged: node.daemon_changed,
            events.GroupStateReported: node.group_state_reported,
            events.LoopStalled: node.loop_stalled,
            events.Persisted: node.persisted,
            events.RecorderChanged: node.recorder_changed,
            events.RecordSpaceChanged: node.record_space_changed,
            events.GateChecked: parts.gate_trust.checked,
            events.FenceRunnerChanged: node.fence_runner_changed,
            events.FenceReported: node.fence_reported,
            events.CommandFailed: node.command_failed,
            events.OperatorActed: parts.orders.operator_acted,
            events.WitnessChanged: parts.witness.changed,
            events.LeaseGranted: parts.witness.granted,
            events.LeaseRefused: parts.witness.refused,
            events.LeaseLost: parts.witness.lost,
            events.WatchdogChanged: parts.self_fencing.watchdog_changed,
            events.Stopping: node.stopping,
        }

    def _configure_groups(self, now_ns: int, groups: tuple[GroupSettings, ...]) -> None:
        state = self.state
        wanted = {g.key: g for g in groups}
        for key in [k for k in state.groups if k not in wanted]:
            state.ledger.forget(str(key))
            state.persist(*state.incidents.clear(now_ns, str(key), 0))
            self._parts.troubles.forget(str(key))
            del state.groups[key]
        for key, group in wanted.items():
            view = state.groups.get(key)
            if view is None:
                view = state.groups[key] = GroupView(group, Track(str(key), since_ns=now_ns))
                view.wake_ns = now_ns
            view.settings = group
        state.interfaces = tuple(
            dict.fromkeys(link for view in state.groups.values() for link in (view.settings.interface, *view.settings.links))
        )
        state.watched = {}
        for key, view in state.groups.items():
            for at in view.settings.addresses:
                state.watched[at] = (*state.watched.get(at, ()), key)

    def _groups_changed(self, now_ns: int, event: events.GroupsChanged) -> None:
        self._configure_groups(now_ns, event.groups)
        for view in self.state.groups.values():
            self._parts.wire.look_at_kernel(now_ns, view)
            self._parts.wire.plan(now_ns, view)  # Promise 6: a reload is a planned change
        self.state.touch_all()

    def _census_tick(self, now_ns: int) -> None:
        state = self.state
        urgent = [view for view in state.groups.values() if self.census_needed(now_ns, view)]
        for view in urgent:
            state.out.extend(state.census_round(now_ns, view.settings))
        rest = tuple(view.settings for view in state.groups.values() if view not in urgent)
        state.out.extend(state.census.tick(now_ns, rest, state.peer_addresses))

    # --- the end of every call ---

    def _conclude(self, now_ns: int) -> list[WatcherCommand]:
        """Judge and act on every touched scope until nothing is touched any more, then send the beats that became urgent."""
        state, parts = self.state, self._parts
        self._last_now_ns = max(self._last_now_ns, now_ns)
        for _ in range(MAX_PASSES):
            peer_gone.note(state)
            if not state.dirty:
                break
            dirty, state.dirty = state.dirty, {}
            self._judge_and_act(now_ns, dirty)
        parts.actor.handovers.conclude(now_ns)
        parts.self_fencing.step(now_ns)
        parts.beats.conclude(now_ns)
        out, state.out = state.out, []
        return out

    def _judge_and_act(self, now_ns: int, dirty: dict[str, None]) -> None:
        state, parts = self.state, self._parts
        contact = contact_of(state, now_ns)
        note_peer_stopped(state, now_ns, contact)
        for view in state.groups.values():
            if view.scope in dirty:
                parts.judge.judge_group(now_ns, view, contact)
        if PAIR_SCOPE in dirty or any(v.track.stage is not Stage.CLEAR for v in state.groups.values()):
            parts.judge.judge_pair(now_ns)
        for view in state.groups.values():
            if view.scope in dirty or PAIR_SCOPE in dirty:
                parts.actor.step(now_ns, view)
                parts.gate_trust.step(now_ns, view)
                parts.alarms.step(now_ns, view, parts.judge.election_ns(view), self.fence.session is not None)
                if view.wake_ns is not None and view.wake_ns <= now_ns:
                    view.wake_ns = now_ns + MIN_WAKE_MS * NS_PER_MS  # whatever is overdue, the loop must not spin
        parts.fence.step(now_ns)

    # --- hooks: the decision points (hooks.Hooks) ---

    def census_needed(self, now_ns: int, view: GroupView) -> bool:
        """Ask now: a suspicion, a silent peer, an incident, a fence, or announcements that wait for a clean census."""
        state = self.state
        return (
            view.track.stage is not Stage.CLEAR
            or state.pair.stage is not Stage.CLEAR
            or not state.contact.on_a_path(now_ns)
            or view.announce_due_ns is not None
            or self.fence.session is not None
            or state.incidents.of(view.scope) is not None
        )

    def should_ask(self, now_ns: int, view: GroupView) -> bool:
        """Ask the loser (Promise 4: exactly one node keeps it)."""
        return self.state.keeps(now_ns, view) is True

    def should_yield(self, now_ns: int, view: GroupView) -> bool:
        """Yield when the comparison says so, or when we neither hold it nor are about to take it."""
        election_ns = STALLED_ELECTION_INTERVALS * view.settings.advert_interval_ms * NS_PER_MS
        electing = view.gate.state is GateState.GRANTED and now_ns - view.gate.since_ns < election_ns
        if view.own or view.asking.request or electing:
            return self.state.keeps(now_ns, view) is False
        return True

    def should_give_up(self, now_ns: int, view: GroupView) -> bool:
        """Promise 4: isolated nodes give their addresses up (the ladder has checked mode and confirmation)."""
        return True

    def may_fence(self, now_ns: int) -> tuple[Interlock, ...]:
        """Promise 4: isolated nodes never fence; Promise 5, 7, 8 and the rest of the interlocks."""
        state, fence = self.state, self.settings.fence
        return standing(
            InterlockFacts(
                enabled=fence.enabled,
                levels=fence.levels_for(self.settings.peer.name),
                measured_ms=fence.measured_ms,
                delay_safe=state.witness.rule() is TurnRule.LEASE or not check_delay(fence, self.detection_spread_ms()),
                quarantined=state.quarantined,
                maintenance=state.in_maintenance(now_ns) or state.peer_excused(now_ns),
                settled=state.settled(now_ns),
                isolated=state.isolation_at_stake(now_ns) is Isolation.YES,
                reference_configured=state.surroundings.references_ok(now_ns) is True,
                stalled=not state.trusted(now_ns),
                peer_seen=state.contact.ever_heard or state.started.seen_peer_before,
                recorder_up=state.recorder_up,
                runner_up=state.runner_up,
                open_fence=bool(self.fence.open_fences),
                budget_left=self.budget_left(now_ns),
                suspect=state.suspect,
            )
        )

    def detection_spread_ms(self) -> int:
        """Δ of Promise 5 for this configuration."""
        return spread_ms(self.settings.paths, self.settings.policy)

    def budget_left(self, now_ns: int) -> int:
        """Promise 7: budget."""
        return self.fence.budget.left(now_ns)

    def second_look(self, now_ns: int, refuted: bool) -> str:
        """Promise 5: the last look before the device command, on evidence younger than ``second_look_ms``."""
        state, policy = self.state, self.settings.policy
        if not state.trusted(now_ns):
            return "this process was stalled"
        if state.isolation_at_stake(now_ns) is not Isolation.NO:
            return UNSURE_ISOLATION
        answered_ns = state.surroundings.last_answer_ns()
        intervals_ms = [r.interval_ms + policy.census_window_ms for r in self.settings.references]
        limit_ns = max([policy.second_look_ms, *intervals_ms]) * NS_PER_MS
        if answered_ns is None or now_ns - answered_ns > limit_ns:
            return NO_REFERENCE_LATELY
        if state.quarantined or state.peer_excused(now_ns) or state.in_maintenance(now_ns):
            return "quarantine, maintenance or a planned stop"
        if not state.recorder_up:
            return "the recorder is gone"
        if refuted:
            return ""  # an earlier level was refuted: that the peer is heard is the reason to go on
        if state.contact.lives(now_ns) and not state.contact.on_a_path(now_ns):
            return "an authentic frame of the peer arrives, although it cannot answer us yet: it lives"
        contact = contact_of(state, now_ns)
        if contact in (Contact.SILENT, Contact.KERNEL_ONLY) or self._still_split(now_ns):
            return "" if fence_is_grounded(state, now_ns, self.fence.scope) or contact is Contact.SILENT else UNGROUNDED
        return f"the peer is heard ({contact.value}) and there are no two owners"

    def _still_split(self, now_ns: int) -> bool:
        """Two owners, by evidence younger than ``second_look_ms``, in the group that the fence rests on."""
        state = self.state
        fresh_ns = self.settings.policy.second_look_ms * NS_PER_MS
        view = next((view for view in state.groups.values() if view.scope == self.fence.scope), None)
        if view is None or not view.own:
            return False
        return any(now_ns - fact.last_ns <= fresh_ns for fact in state.ledger.fresh(now_ns, view.scope, Owner.PEER))

    def intent_needs_barrier(self) -> bool:
        """Promise 2: intent. Always."""
        return True

    def trusts_claim(self, state: FenceState) -> bool:
        """Promise 3: proof. A claim is not one."""
        return state is FenceState.PROVED

    def turn_refusal(self, now_ns: int, act_ms: int) -> TurnRefusal | WitnessRefusal | None:
        """Promise 5: no mutual fencing. With a witness a turn is won and neither d nor rank matter; that the nodes live by the same
        settings is needed in any case: one with another witness, or none, would have another rule."""
        state = self.state
        turn, rule = state.contact.turns.may_begin(now_ns, act_ms), state.witness.rule()
        if rule is TurnRule.TURNS or turn in DISAGREEMENTS or (rule is TurnRule.BOTH and turn is not None):
            return turn
        refusal = state.witness.want(now_ns, act_ms)
        state.out.extend(state.witness.take_commands())
        return refusal

    def distrust_ns(self, stalled_ns: int) -> int:
        """Promise 8: stalls. As long as the slowest path needs to be called silent, and a little."""
        if stalled_ns <= self.settings.policy.stall_ms * NS_PER_MS:
            return 0
        return self.state.contact.slowest_silent_ns + STALL_SLACK_MS * NS_PER_MS

    def remembers_open_fences(self) -> bool:
        """Promise 2: what a crash left open is verified."""
        return True
