"""PURE: the watcher. Takes facts in, judges every scope that they touch, and acts by the ladder (DESIGN section 7).

    event → intake (evidence, contact, surroundings) → judge (verdict table) → stages (suspected, confirmed) → act (ladder) → beats

The shell and the simulator drive the same object. Decision points are the overridable methods of hooks.Hooks at the end of the class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from base.core import NS_PER_MS, NS_PER_S, JsonValue
from fencing.plan.commands import FenceState
from fencing.plan.delay import check_delay, detection_spread_ms
from fencing.plan.interlocks import Interlock, InterlockFacts, standing
from watchdog.config.model import BrainSettings, GroupSettings, Mode, PathKind
from watchdog.frames.heartbeat import Heartbeat, NodeFlags
from watchdog.judgement import events
from watchdog.judgement.arbitration import fence_delay_ms, health
from watchdog.judgement.asking import STALLED_ELECTION_INTERVALS
from watchdog.judgement.census import Census
from watchdog.judgement.commands import GateState, ProbeReference, Row, RowKind, SendFrame, WatcherCommand
from watchdog.judgement.contact import PeerContact
from watchdog.judgement.events import OperatorAction, WatcherEvent
from watchdog.judgement.evidence import EvidenceKind, Ledger, Owner
from watchdog.judgement.fence_control import FenceControl
from watchdog.judgement.group_actor import GroupActor
from watchdog.judgement.group_view import Advert, GroupView
from watchdog.judgement.incidents import IncidentBook
from watchdog.judgement.judging import contact_of, evidence_ids, explain, group_facts, pair_facts
from watchdog.judgement.neighbours import Neighbours
from watchdog.judgement.stages import Stage, Track
from watchdog.judgement.state import WatcherState
from watchdog.judgement.status import status_document
from watchdog.judgement.surroundings import Surroundings
from watchdog.judgement.verdict import (
    PAIR_PAGES,
    PAIR_SCOPE,
    Contact,
    Isolation,
    Verdict,
    judge_group,
    judge_pair,
)

CLEAR_MS = 2_000
"""An incident is closed when its scope has been clear for this long."""
NO_OWNER_INTERVALS = {Mode.OBSERVE: 5, Mode.RESOLVE: 5, Mode.STRICT: 10}
"""A group without owner is confirmed after this many advert intervals: longer than any ordinary election (strict: asking included)."""
NEEDS_CENSUS = frozenset({Verdict.SPLIT_BRAIN, Verdict.PEER_DEAD, Verdict.PEER_HUNG, Verdict.NO_OWNER, Verdict.FOREIGN_OWNER})
STALL_SLACK_MS = 100
MIN_WAKE_MS = 20
LINE_BITS = 64 * 10
"""The longest frame on a serial line, with start and stop bits."""


class WatcherCore:
    """A core (base.core) over WatcherEvent and WatcherCommand. Does nothing before Started.

    ``key`` is the cluster key. One object serves one run of the daemon: a new run gets a new object and a Started with a new nonce.
    """

    def __init__(self, settings: BrainSettings, *, key: bytes) -> None:
        self.settings = settings
        self._key = key
        self._state: WatcherState | None = None
        self._groups: GroupActor | None = None
        self._fence: FenceControl | None = None
        self._beats: dict[str, int] = {}
        self._beat_sent: dict[str, int] = {}
        self._last_now_ns = 0
        self._dirty: dict[str, None] = {}
        self._flags = NodeFlags.NONE
        self._handlers: dict[type, Callable[[int, Any], None]] = {
            events.GroupsChanged: self._groups_changed,
            events.BytesReceived: self._bytes_received,
            events.PathChanged: self._path_changed,
            events.AdvertHeard: self._advert_heard,
            events.AddressChanged: self._address_changed,
            events.AddressesListed: self._addresses_listed,
            events.OwnerClaimed: self._owner_claimed,
            events.ProbeFinished: self._probe_finished,
            events.ReferenceAnswered: self._reference_answered,
            events.CarrierChanged: self._carrier_changed,
            events.LocalDaemonChanged: self._daemon_changed,
            events.GroupStateReported: self._group_state_reported,
            events.LoopStalled: self._loop_stalled,
            events.Persisted: self._persisted,
            events.RecorderChanged: self._recorder_changed,
            events.FenceRunnerChanged: self._fence_runner_changed,
            events.FenceReported: self._fence_reported,
            events.CommandFailed: self._command_failed,
            events.OperatorActed: self._operator_acted,
            events.Stopping: self._stopping,
        }

    # --- the Core protocol ---

    @property
    def state(self) -> WatcherState:
        """The watcher's memory, for hooks and tests; only after Started."""
        assert self._state is not None
        return self._state

    @property
    def fence(self) -> FenceControl:
        """The fence of the peer; only after Started."""
        assert self._fence is not None
        return self._fence

    @property
    def actor(self) -> GroupActor:
        """What acts on groups; only after Started."""
        assert self._groups is not None
        return self._groups

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
        state = self._state
        if state.contact.on_deadline(now_ns):
            self._path_status_changed(now_ns)
        state.census.give_up_late(now_ns)
        names = state.surroundings.due_references(now_ns)
        state.out.extend(ProbeReference(name) for name in names)
        if now_ns >= state.census.tick_due_ns:
            self._census_tick(now_ns)
        if state.pair_wake_ns is not None and now_ns >= state.pair_wake_ns:
            self._touch(PAIR_SCOPE)
        for view in state.groups.values():
            if view.wake_ns is not None and now_ns >= view.wake_ns:
                self._touch(view.scope)
        if state.maintenance_until_ns is not None and now_ns >= state.maintenance_until_ns:
            self._end_maintenance("its time is over")
        self.fence.on_deadline(now_ns)
        for name, due_ns in self._beats.items():
            if now_ns >= due_ns:
                self._send_beat(now_ns, name)
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
            self.fence.next_deadline(),
            min(self._beats.values(), default=None),
        ]
        times += [view.wake_ns for view in state.groups.values()]
        return min((t for t in times if t is not None), default=None)

    def snapshot(self) -> JsonValue:
        """The status document (status.py), as of the last call."""
        if self._state is None:
            return {"started": False, "self": self.settings.self_name, "cluster": self.settings.cluster}
        return status_document(self.state, self.fence, self._last_now_ns)

    # --- start ---

    def _start(self, now_ns: int, event: events.Started) -> None:
        settings, policy = self.settings, self.settings.policy
        self._last_now_ns = now_ns
        self._state = WatcherState(
            settings=settings,
            started=event,
            started_ns=now_ns,
            ledger=Ledger(event.incarnation),
            contact=PeerContact(settings, self._key, event.nonce, now_ns),
            census=Census(policy.census_interval_ms, policy.census_window_ms, now_ns),
            surroundings=Surroundings(settings.references, now_ns),
            incidents=IncidentBook(settings.cluster),
            neighbours=Neighbours(event.macs),
            pair=Track(PAIR_SCOPE, since_ns=now_ns),
            settled_from_ns=now_ns + policy.settle_ms * NS_PER_MS,
            trusted_from_ns=now_ns + policy.settle_ms * NS_PER_MS,
            quarantined=event.quarantined,
            peer_addresses=settings.peer.addresses,
        )
        self._groups = GroupActor(self._state, self)
        self._fence = FenceControl(self._state, self)
        self._configure_groups(now_ns, event.groups)
        for held in event.held:
            self._hold_address(now_ns, held.interface, held.address, True)
        self._beats = {path.name: now_ns for path in settings.paths}
        self._state.pair_wake_ns = self._state.settled_from_ns
        for view in self._state.groups.values():
            view.wake_ns = self._state.settled_from_ns
        self._touch_all()

    def _configure_groups(self, now_ns: int, groups: tuple[GroupSettings, ...]) -> None:
        state = self.state
        wanted = {g.key: g for g in groups}
        for key in [k for k in state.groups if k not in wanted]:
            state.ledger.forget(str(key))
            state.persist(*state.incidents.clear(now_ns, str(key), 0))
            del state.groups[key]
        for key, group in wanted.items():
            view = state.groups.get(key)
            if view is None:
                view = state.groups[key] = GroupView(group, Track(str(key), since_ns=now_ns))
                view.wake_ns = now_ns
            view.settings = group
        state.interfaces = tuple(dict.fromkeys(view.settings.interface for view in state.groups.values()))

    def _groups_changed(self, now_ns: int, event: events.GroupsChanged) -> None:
        self._configure_groups(now_ns, event.groups)
        for view in self.state.groups.values():
            self._look_at_kernel(now_ns, view)
        for view in self.state.groups.values():
            self._plan(now_ns, view)  # Promise 6: a reload is a planned change
        self._touch_all()

    # --- intake: the peer's frames ---

    def _bytes_received(self, now_ns: int, event: events.BytesReceived) -> None:
        state = self.state
        heard_before = (state.contact.hears_mask(), state.contact.on_a_path(now_ns))
        receipt, beat = state.contact.receive(now_ns, event.path, event.data)
        if receipt is None:
            return
        if receipt.new_session:
            self._peer_restarted(now_ns)
        if receipt.proven:
            self.fence.peer_heard()
            self.fence.frame_heard(now_ns, event.path)
        if (state.contact.hears_mask(), state.contact.on_a_path(now_ns)) != heard_before:
            self._path_status_changed(now_ns)
        if beat is None:
            return
        state.incidents.episodes.heard(now_ns, beat.episode)
        self._peer_flags(now_ns, beat)
        partial_ns = state.contact.report_fresh_ns(event.path, beat.partial)
        for report in beat.groups:
            view = state.groups.get(report.key)
            if view is not None:
                self._report(now_ns, view, event.path, beat, partial_ns)

    def _report(self, now_ns: int, view: GroupView, path: str, beat: Heartbeat, fresh_ns: int) -> None:
        state = self.state
        received = state.contact.groups.reports.get(view.key)
        if received is None:
            return
        report, before = received.report, view.report
        held_before = before is not None and before.held
        view.report, view.report_ns = report, now_ns
        view.report_fresh_ns = max(fresh_ns, view.report_fresh_ns) if before is report else fresh_ns
        changed = before is None or (before.held, before.state, before.priority) != (report.held, report.state, report.priority)
        if report.held:
            view.denied_ns = None
            detail = f"the peer reports that it holds it ({report.state.name.lower()}, priority {report.priority})"
            _, news = state.ledger.note(
                now_ns, view.scope, EvidenceKind.K4_REPORT, Owner.PEER, state.settings.peer.name, detail, view.report_fresh_ns
            )
            changed = changed or news
        else:
            if held_before or view.denied_ns is None:
                view.denied_ns = now_ns
            # The peer's authenticated word about its own kernel supersedes what was heard of it before.
            gone = state.ledger.retract_owner(view.scope, Owner.PEER, (EvidenceKind.K4_REPORT, EvidenceKind.K3_ADVERT))
            gone = state.ledger.retract_owner(view.scope, Owner.PEER, (EvidenceKind.K2_NEIGHBOUR,)) or gone
            changed = changed or gone
        if report.yield_request or view.yielding.request:
            self.actor.asked(now_ns, view, report.yield_request)
            changed = True
        if view.asking.request and report.yield_answer_to == view.asking.request:
            self.actor.answered(now_ns, view, report.yield_answer)
            changed = True
        self.actor.bridge(now_ns, view, state.settings.peer.addresses[0] if state.settings.peer.addresses else "")
        if changed or view.track.stage is not Stage.CLEAR or view.gate.why:
            self._touch(view.scope)

    def _peer_flags(self, now_ns: int, beat: Heartbeat) -> None:
        state = self.state
        left = bool(beat.flags & NodeFlags.STOPPING)
        if left != state.peer_left:
            state.peer_left = left
            self._touch_all()
        if beat.flags & NodeFlags.QUARANTINED and state.announced_fence:
            self.fence.peer_acknowledged_fence()
            state.beat_wanted = True
        if beat.flags & NodeFlags.FENCING and not state.quarantined:
            self._quarantine(now_ns, "the peer says that it fenced this node")

    def _quarantine(self, now_ns: int, why: str) -> None:
        """Promise 7: a node that was fenced starts quarantined; one that learns it later is so from then on."""
        state = self.state
        state.quarantined = True
        state.record_node("quarantine", why)
        state.record_action(PAIR_SCOPE, "quarantine", state.settings.self_name, why)
        state.publish(f"quarantined: {why}")
        state.beat_wanted = True
        self._touch_all()

    def _peer_restarted(self, now_ns: int) -> None:
        """A new session of the peer: what the old one said or asked is void; answer at once so that it soon hears an echo."""
        state = self.state
        for view in state.groups.values():
            view.report = None
            view.denied_ns = None
            state.ledger.retract(view.scope, EvidenceKind.K4_REPORT, state.settings.peer.name)
            self.actor.asked(now_ns, view, 0)
        state.peer_left = False
        state.record_node("seen_peer", True)
        state.beat_wanted = True
        self._touch_all()

    def _path_changed(self, now_ns: int, event: events.PathChanged) -> None:
        path = self.state.contact.paths.get(event.path)
        if path is not None:
            path.set_usable(now_ns, event.usable, event.reason)
            self._path_status_changed(now_ns)

    def _path_status_changed(self, now_ns: int) -> None:
        """A path fell silent or speaks again: the peer is told, the references and the segment are asked at once."""
        state = self.state
        state.beat_wanted = True
        if not state.contact.on_a_path(now_ns):
            state.surroundings.ask_now(now_ns)
            state.census.tick_due_ns = min(state.census.tick_due_ns, now_ns)
        self._touch_all()

    # --- intake: adverts, addresses, claims ---

    def _advert_heard(self, now_ns: int, event: events.AdvertHeard) -> None:
        state = self.state
        view = state.groups.get(event.key)
        if view is None:
            self._stranger_advert(now_ns, event)
            return
        advert = Advert(now_ns, event.priority, event.source_ip, event.interval_ms or view.settings.advert_interval_ms)
        if event.outgoing:
            if event.priority == 0 or view.sent is None or view.sent.priority != event.priority:
                self._touch(view.scope)
            view.sent = advert
            if event.priority == 0:
                self._plan(now_ns, view)
                state.beat_wanted = True
            return
        if event.problem:
            if event.problem != view.problem:
                self._touch(view.scope)
            view.problem, view.problem_ns = event.problem, now_ns
            return
        peer = state.settings.peer.addresses
        if peer and event.source_ip not in peer and state.neighbours.owner_of(event.source_mac, event.source_mac) is not Owner.PEER:
            self._other_claims(now_ns, view, EvidenceKind.K3_ADVERT, event.source_mac, f"advert of {event.source_ip} ({event.source_mac})")
            return
        state.neighbours.learn_peer(event.source_mac)
        self._peer_advert(now_ns, view, event, advert)

    def _peer_advert(self, now_ns: int, view: GroupView, event: events.AdvertHeard, advert: Advert) -> None:
        state = self.state
        was_fresh = view.heard_fresh(now_ns)
        view.heard = advert
        state.peer_answered_ns = state.segment_answered_ns = now_ns
        if event.priority == 0:  # Promise 6: its sender releases the group in order
            state.ledger.retract(view.scope, EvidenceKind.K3_ADVERT, "peer")
            self._plan(now_ns, view)
            self._touch(view.scope)
            return
        fresh_ns = advert.interval_ms * NS_PER_MS * 5 // 2
        detail = f"advert of {event.source_ip}, priority {event.priority}"
        _, news = state.ledger.note(now_ns, view.scope, EvidenceKind.K3_ADVERT, Owner.PEER, "peer", detail, fresh_ns)
        if news or not was_fresh or view.track.stage is not Stage.CLEAR or view.gate.why:
            self._touch(view.scope)
            if not was_fresh:
                self._touch(PAIR_SCOPE)

    def _stranger_advert(self, now_ns: int, event: events.AdvertHeard) -> None:
        """An advert for a VRID that is not ours, but with our VIPs: the peer's VRID is wrong."""
        if event.outgoing or not event.vips:
            return
        for view in self.state.groups.values():
            if view.key.family == event.key.family and set(event.vips) & set(view.settings.vips):
                problem = f"VRID {event.key.vrid} from {event.source_ip} advertises the VIPs of VRID {view.key.vrid}"
                if problem != view.problem:
                    self._touch(view.scope)
                view.problem, view.problem_ns = problem, now_ns

    def _plan(self, now_ns: int, view: GroupView) -> None:
        """Promise 6: planned changes get a grace; two owners that are there already do not get a new one by every repetition."""
        if not (view.own and self.state.ledger.kinds(now_ns, view.scope, Owner.PEER)):
            view.planned_until_ns = now_ns + self.settings.policy.planned_grace_ms * NS_PER_MS

    def _address_changed(self, now_ns: int, event: events.AddressChanged) -> None:
        self._hold_address(now_ns, event.interface, event.address, event.held)

    def _addresses_listed(self, now_ns: int, event: events.AddressesListed) -> None:
        self.state.kernel = {held.address: held.interface for held in event.held}
        for view in self.state.groups.values():
            self._look_at_kernel(now_ns, view)

    def _hold_address(self, now_ns: int, interface: str, address: str, held: bool) -> None:
        kernel = self.state.kernel
        if held:
            kernel[address] = interface
        elif kernel.get(address) == interface:
            del kernel[address]
        for view in self.state.groups.values():
            if address in view.settings.vips:
                self._look_at_kernel(now_ns, view)

    def _look_at_kernel(self, now_ns: int, view: GroupView) -> None:
        """K1: which VIPs of the group our kernel holds."""
        state, before = self.state, view.own
        held = {address: state.kernel[address] for address in view.settings.vips if address in state.kernel}
        if held == view.held:
            return
        view.held = held
        if held:
            detail = f"our kernel holds {', '.join(sorted(held))}"
            state.ledger.note(now_ns, view.scope, EvidenceKind.K1_KERNEL, Owner.SELF, state.settings.self_name, detail, 0)
        else:
            state.ledger.retract(view.scope, EvidenceKind.K1_KERNEL, state.settings.self_name)
        if before != view.own:
            state.beat_wanted = True  # the peer learns of a new owner at once, not at the next beat
        self._touch(view.scope)

    def _owner_claimed(self, now_ns: int, event: events.OwnerClaimed) -> None:
        state = self.state
        mac, sender = event.mac.lower(), event.sender_mac.lower()
        if event.address in state.settings.peer.addresses:
            self._peer_answered(now_ns, event, mac, sender)
            return
        view = self._view_of_vip(event.address)
        if view is None:
            return
        owner = state.neighbours.owner_of(mac, sender)
        if owner is Owner.SELF:
            return
        state.segment_answered_ns = now_ns
        if owner is Owner.OTHER:
            self._other_claims(
                now_ns, view, EvidenceKind.K2_NEIGHBOUR, f"{mac} {event.address}", f"{event.address} is at {mac}, a third host"
            )
            return
        state.peer_answered_ns = now_ns
        self.fence.census_heard(now_ns, event.interface, event.address)
        detail = f"{event.address} is at {mac} ({'announced' if event.gratuitous else 'answered'})"
        _, news = state.ledger.note(
            now_ns, view.scope, EvidenceKind.K2_NEIGHBOUR, Owner.PEER, f"{mac} {event.address}", detail, self._claim_fresh_ns()
        )
        if news or view.track.stage is not Stage.CLEAR:
            self._touch(view.scope)
            self._touch(PAIR_SCOPE)
        if event.gratuitous and view.own and view.announce_due_ns is None and state.keeps(now_ns, view) and not view.gate.why:
            view.announce_due_ns = now_ns + NS_PER_S // 2 if view.track.stage is Stage.CLEAR else None

    def _claim_fresh_ns(self) -> int:
        policy = self.settings.policy
        return (2 * policy.census_interval_ms + policy.census_window_ms) * NS_PER_MS

    def _peer_answered(self, now_ns: int, event: events.OwnerClaimed, mac: str, sender: str) -> None:
        """The peer's kernel answers for its own address."""
        state = self.state
        state.neighbours.learn_peer(mac, sender)
        state.peer_answered_ns = state.segment_answered_ns = now_ns
        self.fence.census_heard(now_ns, event.interface, event.address)
        detail = f"{event.address} is at {mac}"
        _, news = state.ledger.note(
            now_ns, PAIR_SCOPE, EvidenceKind.K2_NEIGHBOUR, Owner.PEER, f"{mac} {event.address}", detail, 2 * self._claim_fresh_ns()
        )
        if news:
            self._touch(PAIR_SCOPE)

    def _other_claims(self, now_ns: int, view: GroupView, kind: EvidenceKind, source: str, detail: str) -> None:
        state = self.state
        _, news = state.ledger.note(now_ns, view.scope, kind, Owner.OTHER, source, detail, 2 * self._claim_fresh_ns())
        if news or view.track.stage is not Stage.CLEAR:
            self._touch(view.scope)

    def _view_of_vip(self, address: str) -> GroupView | None:
        return next((view for view in self.state.groups.values() if address in view.settings.vips), None)

    def _probe_finished(self, now_ns: int, event: events.ProbeFinished) -> None:
        state = self.state
        probe = state.census.finished(now_ns, event)
        if probe is None:
            return
        if not event.error and event.requests_sent:
            self.fence.census_asked(now_ns, probe.sent_ns, probe.interface, probe.address)
            self._retract_unanswered(now_ns, probe.address, probe.sent_ns, PAIR_SCOPE if probe.of_peer else probe.scope)
        if not state.census.running(probe.scope):  # half a round is not judged
            self._touch(probe.scope)
            self._touch(PAIR_SCOPE)
            self.fence.look_if_ready(now_ns)

    def _retract_unanswered(self, now_ns: int, address: str, sent_ns: int, scope: str) -> None:
        """Who claimed the address before and did not answer a whole window does not claim it now."""
        ledger = self.state.ledger
        for fact in list(ledger.fresh(now_ns, scope)):
            if fact.kind is EvidenceKind.K2_NEIGHBOUR and fact.source.endswith(f" {address}") and fact.last_ns < sent_ns:
                ledger.retract(scope, fact.kind, fact.source)

    # --- intake: this node ---

    def _reference_answered(self, now_ns: int, event: events.ReferenceAnswered) -> None:
        state = self.state
        before = state.surroundings.references_ok(now_ns)
        if state.surroundings.answered(now_ns, event.name):
            self.fence.control_heard(now_ns, event.name)
            if before is not True:
                self._touch_all()

    def _carrier_changed(self, now_ns: int, event: events.CarrierChanged) -> None:
        self.state.surroundings.set_carrier(event.interface, event.up)
        if not event.up:
            self.fence.deaf_until(now_ns, f"carrier of {event.interface} lost")
        self.state.beat_wanted = True
        self._touch_all()

    def _daemon_changed(self, now_ns: int, event: events.LocalDaemonChanged) -> None:
        surroundings = self.state.surroundings
        if surroundings.daemon is not event.state:
            surroundings.daemon = event.state
            surroundings.daemon_since_ns = now_ns
            self.state.record_action(PAIR_SCOPE, "local_daemon", event.state.value, event.detail, "observed")
        for view in self.state.groups.values():
            if event.state is not events.DaemonState.RUNNING:
                view.local_state = None
                view.local_priority = None
        self.state.beat_wanted = True
        self._touch_all()

    def _group_state_reported(self, now_ns: int, event: events.GroupStateReported) -> None:
        view = self.state.groups.get(event.key)
        if view is not None:
            if (view.local_state, view.local_priority) != (event.state, event.priority):
                self.state.beat_wanted = True
            view.local_state = event.state
            view.local_priority = event.priority
            self._touch(view.scope)

    def _loop_stalled(self, now_ns: int, event: events.LoopStalled) -> None:
        """Promise 8: stalls. What we believed before, we could not have been told otherwise."""
        state = self.state
        distrust_ns = self.distrust_ns(event.stalled_ns)
        if distrust_ns <= 0:
            return
        state.ledger.void()
        state.census.void()
        state.surroundings.void()
        state.contact.void(now_ns)
        state.segment_answered_ns = None
        for view in state.groups.values():
            view.heard = None
            view.report = None
            view.denied_ns = None
        state.trusted_from_ns = max(state.trusted_from_ns, now_ns + distrust_ns)
        self.fence.deaf_until(now_ns, f"this process was stalled for {event.stalled_ns // NS_PER_MS} ms")
        state.record_action(PAIR_SCOPE, "stall", state.settings.self_name, f"{event.stalled_ns // NS_PER_MS} ms", "observed")
        state.census.tick_due_ns = now_ns
        self._touch_all()

    def _persisted(self, now_ns: int, event: events.Persisted) -> None:
        self.fence.persisted(now_ns, event.barrier)

    def _recorder_changed(self, now_ns: int, event: events.RecorderChanged) -> None:
        self.state.recorder_up = event.up
        self._touch(PAIR_SCOPE)

    def _fence_runner_changed(self, now_ns: int, event: events.FenceRunnerChanged) -> None:
        self.state.runner_up = event.up
        if not event.up:
            self.fence.runner_lost(now_ns, event.reason or "the fence runner is gone")
        self._touch(PAIR_SCOPE)

    def _fence_reported(self, now_ns: int, event: events.FenceReported) -> None:
        self.fence.reported(now_ns, event)

    def _command_failed(self, now_ns: int, event: events.CommandFailed) -> None:
        failures = self.state.failures
        failures[event.command] = failures.get(event.command, 0) + 1
        if failures[event.command] & (failures[event.command] - 1) == 0:  # the 1st, 2nd, 4th, 8th …
            self.state.record_action(PAIR_SCOPE, "command_failed", event.command, event.detail, "failed")

    def _stopping(self, now_ns: int, event: events.Stopping) -> None:
        self.state.stopping = True
        self.state.record_node("clean_stop", True)
        self.state.beat_wanted = True

    # --- a person acts ---

    def _operator_acted(self, now_ns: int, event: events.OperatorActed) -> None:
        state = self.state
        outcome = self._obey(now_ns, event)
        state.record_action(PAIR_SCOPE, f"operator:{event.action.value}", event.subject, f"{event.who} {event.note}".strip(), outcome)
        state.publish(f"operator {event.who}: {event.action.value} {event.subject}: {outcome}")
        state.beat_wanted = True
        self._touch_all()

    def _obey(self, now_ns: int, event: events.OperatorActed) -> str:
        state = self.state
        match event.action:
            case OperatorAction.MAINTENANCE_ON:
                state.maintenance_until_ns = now_ns + max(1, event.until_ms) * NS_PER_MS
            case OperatorAction.MAINTENANCE_OFF:
                self._end_maintenance(f"by {event.who}")
            case OperatorAction.CLEAR_QUARANTINE:
                state.quarantined = False
                state.record_node("quarantine", "")
            case OperatorAction.CLEAR_LATCH:
                self.fence.clear_latch()
            case OperatorAction.CONFIRM_OFF:
                return self._confirm_off(now_ns, event)
            case OperatorAction.FENCE_OFF:
                return self.fence.order_off(now_ns, event.who) or "ordered"
            case OperatorAction.FENCE_ON:
                return self.fence.order_on(now_ns, event.who) or "ordered"
            case OperatorAction.ACKNOWLEDGE:
                return "done" if state.incidents.acknowledge(event.subject) else "no such open incident"
            case OperatorAction.HANDOVER:
                return self._hand_over(now_ns, event)
        return "done"

    def _confirm_off(self, now_ns: int, event: events.OperatorActed) -> str:
        """A person vouches for the peer being off: as good as a proof, and it says who said so."""
        if event.subject not in ("", self.settings.peer.name):
            return f"{event.subject} is not the peer"
        if self.state.contact.on_a_path(now_ns):
            return "the peer is heard right now: it is not off"
        self.state.peer_proved_off = f"{event.who} vouched that {self.settings.peer.name} is off"
        return "done"

    def _hand_over(self, now_ns: int, event: events.OperatorActed) -> str:
        views = [v for v in self.state.groups.values() if event.subject in ("", v.scope, v.settings.name)]
        owned = [v for v in views if v.own]
        if not self.state.resolves:
            return "observe mode holds nobody: hand over with the VRRP daemon itself"
        if not owned or not self.state.contact.on_a_path(now_ns):
            return "this node does not own it" if not owned else "the peer is not heard: nobody could take it"
        for view in owned:
            self.actor.hand_over(now_ns, view, event.who)
        return f"handing over {', '.join(v.scope for v in owned)}"

    def _end_maintenance(self, why: str) -> None:
        if self.state.maintenance_until_ns is not None:
            self.state.maintenance_until_ns = None
            self.state.publish(f"maintenance ended: {why}")
            self.state.beat_wanted = True
            self._touch_all()

    # --- census ---

    def _census_tick(self, now_ns: int) -> None:
        state = self.state
        urgent = [view for view in state.groups.values() if self.census_needed(now_ns, view)]
        for view in urgent:
            state.out.extend(state.census_round(now_ns, view.settings))
        rest = tuple(view.settings for view in state.groups.values() if view not in urgent)
        state.out.extend(state.census.tick(now_ns, rest, state.peer_addresses))

    # --- judging ---

    def _touch(self, scope: str) -> None:
        self._dirty[scope] = None

    def _touch_all(self) -> None:
        self._dirty[PAIR_SCOPE] = None
        for view in self.state.groups.values():
            self._dirty[view.scope] = None

    def _conclude(self, now_ns: int) -> list[WatcherCommand]:
        """Judge and act on every touched scope until nothing is touched any more, then send the beats that became urgent."""
        state = self.state
        self._last_now_ns = max(self._last_now_ns, now_ns)
        for _ in range(4):  # an act may touch scopes again; bounded, whatever happens
            if not self._dirty:
                break
            dirty, self._dirty = self._dirty, {}
            contact = contact_of(state, now_ns)
            for view in state.groups.values():
                if view.scope in dirty:
                    self._judge_group(now_ns, view, contact)
            if PAIR_SCOPE in dirty or any(v.track.stage is not Stage.CLEAR for v in state.groups.values()):
                self._judge_pair(now_ns)
            for view in state.groups.values():
                if view.scope in dirty or PAIR_SCOPE in dirty:
                    self.actor.step(now_ns, view)
                    if view.wake_ns is not None and view.wake_ns <= now_ns:
                        view.wake_ns = now_ns + MIN_WAKE_MS * NS_PER_MS  # whatever is overdue, the loop must not spin
            self.fence.step(now_ns)
        self._flags_changed(now_ns)
        if state.beat_wanted:
            state.beat_wanted = False
            for name in self._beats:
                self._send_urgent_beat(now_ns, name)
        out, state.out = state.out, []
        return out

    def _judge_group(self, now_ns: int, view: GroupView, contact: Contact) -> None:
        state = self.state
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

    def _judge_pair(self, now_ns: int) -> None:
        state = self.state
        facts = pair_facts(state, now_ns)
        rule = judge_pair(facts)
        reason = rule.reason
        silent = [name for name in state.contact.order if not state.contact.paths[name].hears]
        if rule.verdict is Verdict.PATH_DEGRADED and facts.contact is Contact.DEGRADED:
            one_way = [n for n in state.contact.order if state.contact.paths[n].peer_hears is False and n not in silent]
            reason = f"{reason}: " + ", ".join([f"{n} silent" for n in silent] + [f"the peer does not hear us on {n}" for n in one_way])
        if facts.contact in (Contact.SILENT, Contact.UNREACHED) and facts.settled:
            reason = f"{reason}; {self._who_may_own(now_ns)}"
        ids = evidence_ids(state, PAIR_SCOPE, now_ns)
        changed = state.pair.judged(now_ns, rule.verdict, reason, ids, settling=not facts.settled)
        times = [state.ledger.next_stale_ns(now_ns, PAIR_SCOPE)]
        if not facts.settled:
            times.append(max(state.settled_from_ns, state.trusted_from_ns))
        else:
            times.append(self._advance(now_ns, state.pair, changed, self.settings.policy.confirm_ms * NS_PER_MS, None))
        times += [
            v.heard.at_ns + v.heard.interval_ms * NS_PER_MS * 5 // 2 + 1 for v in state.groups.values() if v.heard_fresh(now_ns) and v.heard
        ]
        state.pair_wake_ns = min((t for t in times if t is not None and t > now_ns), default=None)

    def _who_may_own(self, now_ns: int) -> str:
        """Silence is absence of evidence: say what it leaves open."""
        state = self.state
        if state.peer_proved_off:
            return state.peer_proved_off
        owned = ", ".join(view.scope for view in state.groups.values() if view.own)
        if state.mode is Mode.STRICT:
            return f"this node owns {owned}" if owned else "waiting for a proved fence before anything is taken over"
        return f"{'this node owns ' + owned + '; ' if owned else ''}two owners are possible until the peer is proved off"

    def _confirm_ns(self, view: GroupView) -> int:
        """How long a verdict must stand before it is confirmed."""
        confirm_ns = self.settings.policy.confirm_ms * NS_PER_MS
        if view.track.verdict is Verdict.NO_OWNER:
            return max(confirm_ns, NO_OWNER_INTERVALS[self.state.mode] * view.settings.advert_interval_ms * NS_PER_MS)
        return confirm_ns

    def _advance(self, now_ns: int, track: Track, changed: bool, confirm_ns: int, view: GroupView | None) -> int | None:
        """Suspected → confirmed → clear; rows, incidents and pages on the way. Returns when to look again."""
        state = self.state
        if changed:
            self._verdict_row(now_ns, track)
            if track.stage is Stage.SUSPECTED and view is not None and self.census_needed(now_ns, view):
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
            if not self._census_done(now_ns, track, view):
                return now_ns + self.settings.policy.census_window_ms * NS_PER_MS
            track.confirm()  # Promise 1: still true after confirm_ms and one active census
            self._verdict_row(now_ns, track)
            if view is not None and track.verdict is Verdict.SPLIT_BRAIN:
                self.actor.split_confirmed(now_ns, view)
        self._raise_incident(now_ns, track)
        return None

    def _advance_clear(self, now_ns: int, track: Track) -> int | None:
        if track.scope != PAIR_SCOPE and self._crash_lasts(track.scope):
            return None
        rows = self.state.incidents.clear(now_ns, track.scope, CLEAR_MS * NS_PER_MS)
        self.state.persist(*rows)
        return now_ns + CLEAR_MS * NS_PER_MS if self.state.incidents.of(track.scope) and not rows else None

    def _crash_lasts(self, scope: str) -> bool:
        """The incident of an orphan stays open until the local daemon runs again: until then this node is no standby."""
        view = next(v for v in self.state.groups.values() if v.scope == scope)
        if view.crashed and self.state.surroundings.daemon is events.DaemonState.RUNNING:
            view.crashed = False
        return view.crashed

    def _census_done(self, now_ns: int, track: Track, view: GroupView | None) -> bool:
        """One active census since the suspicion; a round that could not be sent (own carrier down) counts as tried."""
        if track.verdict not in NEEDS_CENSUS:
            return True
        state = self.state
        views = list(state.groups.values()) if view is None else [view]
        missing = [v for v in views if not state.census.complete_since(v.scope, track.since_ns)]
        for v in missing:
            if self.census_needed(now_ns, v):
                state.out.extend(state.census_round(now_ns, v.settings))
        return not missing or (view is None and len(missing) < len(views))

    def _raise_incident(self, now_ns: int, track: Track) -> None:
        state = self.state
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
        if scope == PAIR_SCOPE and state.peer_excused(now_ns):
            page = False  # Promise 6: the peer said that it stops, or is in maintenance
        summary = f"{state.settings.cluster} {track.scope}: {track.verdict.value}: {track.reason}"
        details = f"seen by {state.settings.self_name}; evidence {', '.join(track.evidence) or 'none fresh'}"
        before = state.incidents.episodes.number
        rows = state.incidents.raise_(now_ns, scope, track.verdict, summary, details, state.epochs(), page)
        if rows:
            state.persist(*rows)
            state.beat_wanted = state.beat_wanted or state.incidents.episodes.number != before

    def _verdict_row(self, now_ns: int, track: Track) -> None:
        """The record sees every change, with the evidence it rests on."""
        state = self.state
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

    # --- beats ---

    def _flags_changed(self, now_ns: int) -> None:
        flags = self.state.flags(now_ns)
        if flags != self._flags:
            self._flags = flags
            self.state.beat_wanted = True

    def _send_urgent_beat(self, now_ns: int, name: str) -> None:
        """Something changed: tell it now, or as soon as the line is free again (the shell drops what a busy serial line cannot take)."""
        path = self.state.contact.settings[name]
        gap_ms = 1 + (LINE_BITS * 1_000 // max(1, path.baud) if path.kind is PathKind.SERIAL else 0)
        free_ns = self._beat_sent.get(name, -gap_ms * NS_PER_MS) + gap_ms * NS_PER_MS
        if now_ns >= free_ns:
            self._send_beat(now_ns, name)
        else:
            self._beats[name] = min(self._beats[name], free_ns)

    def _send_beat(self, now_ns: int, name: str) -> None:
        state = self.state
        self._beat_sent[name] = now_ns
        path = state.contact.settings[name]
        beat = Heartbeat(
            node=state.settings.self_name,
            boot=state.started.boot,
            epoch=state.started.incarnation,
            sequence=state.contact.next_sequence(name),
            nonce=state.started.nonce,
            receiver_nonce=state.contact.session.nonce,
            hears=state.contact.hears_mask(),
            health=health(state.health_facts(now_ns)),
            flags=state.flags(now_ns),
            groups=tuple(view.make_report(now_ns, state.surroundings.daemon) for view in state.groups.values()),
            sent_ns=now_ns,
            episode=state.incidents.episodes.number,
        )
        state.out.append(SendFrame(name, state.contact.encode(name, beat)))
        self._beats[name] = now_ns + path.interval_ms * NS_PER_MS

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
                delay_safe=not check_delay(fence, self.detection_spread_ms()),
                quarantined=state.quarantined,
                maintenance=state.in_maintenance(now_ns) or state.peer_excused(now_ns),
                settled=state.settled(now_ns),
                isolated=state.isolation(now_ns) is Isolation.YES,
                reference_configured=state.surroundings.references_ok(now_ns) is True,
                stalled=not state.trusted(now_ns),
                peer_seen=state.contact.ever_heard or state.started.seen_peer_before,
                recorder_up=state.recorder_up,
                runner_up=state.runner_up,
                open_fence=bool(self.fence.open_fences),
                budget_left=self.budget_left(now_ns),
            )
        )

    def detection_spread_ms(self) -> int:
        """Δ of Promise 5 for this configuration."""
        policy, paths = self.settings.policy, self.settings.paths
        return detection_spread_ms(
            [p.silent_after_ms for p in paths],
            [p.interval_ms for p in paths],
            confirm_ms=policy.confirm_ms,
            census_window_ms=policy.census_window_ms,
            stall_ms=policy.stall_ms,
        )

    def budget_left(self, now_ns: int) -> int:
        """Promise 7: budget."""
        return self.fence.budget.left(now_ns)

    def second_look(self, now_ns: int, refuted: bool) -> str:
        """Promise 5: the last look before the device command, on evidence younger than ``second_look_ms``."""
        state, policy = self.state, self.settings.policy
        if not state.trusted(now_ns):
            return "this process was stalled"
        if state.isolation(now_ns) is not Isolation.NO:
            return "it is not certain that this node is not isolated"
        answered_ns = state.surroundings.last_answer_ns()
        limit_ns = max(policy.second_look_ms, *(r.interval_ms + policy.census_window_ms for r in self.settings.references)) * NS_PER_MS
        if answered_ns is None or now_ns - answered_ns > limit_ns:
            return "no reference answered lately"
        if state.quarantined or state.peer_excused(now_ns) or state.in_maintenance(now_ns):
            return "quarantine, maintenance or a planned stop"
        if not state.recorder_up:
            return "the recorder is gone"
        if refuted:
            return ""  # an earlier level was refuted: that the peer is heard is the reason to go on
        if self.fence.scope == PAIR_SCOPE:
            contact = contact_of(state, now_ns)
            return "" if contact in (Contact.SILENT, Contact.KERNEL_ONLY) else f"the peer is heard: {contact.value}"
        return self._still_split(now_ns)

    def _still_split(self, now_ns: int) -> str:
        state = self.state
        fresh_ns = self.settings.policy.second_look_ms * NS_PER_MS
        for view in state.groups.values():
            if view.scope == self.fence.scope:
                young = [f for f in state.ledger.fresh(now_ns, view.scope, Owner.PEER) if now_ns - f.last_ns <= fresh_ns]
                if view.own and young:
                    return ""
        return "there are no longer two owners"

    def intent_needs_barrier(self) -> bool:
        """Promise 2: intent. Always."""
        return True

    def trusts_claim(self, state: FenceState) -> bool:
        """Promise 3: proof. A claim is not one."""
        return state is FenceState.PROVED

    def fence_delay_ms(self) -> int:
        """Promise 5: no mutual fencing."""
        return fence_delay_ms(self.settings.me, self.settings.peer, self.settings.fence)

    def distrust_ns(self, stalled_ns: int) -> int:
        """Promise 8: stalls. As long as the slowest path needs to be called silent, and a little."""
        if stalled_ns <= self.settings.policy.stall_ms * NS_PER_MS:
            return 0
        return self.state.contact.slowest_silent_ns + STALL_SLACK_MS * NS_PER_MS

    def remembers_open_fences(self) -> bool:
        """Promise 2: what a crash left open is verified."""
        return True
