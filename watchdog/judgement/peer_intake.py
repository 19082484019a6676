"""PURE: takes in what arrives on the heartbeat paths: the peer's reports, requests, answers and flags (K4)."""

from __future__ import annotations

from base.core import NS_PER_MS, NS_PER_S
from watchdog.config.model import PathKind
from watchdog.frames.heartbeat import NO_NONCE, Heartbeat, NodeFlags
from watchdog.judgement import events, suspicion
from watchdog.judgement.agreement import Agreement
from watchdog.judgement.evidence import EvidenceKind, Owner
from watchdog.judgement.fence_control import FenceControl
from watchdog.judgement.group_actor import GroupActor
from watchdog.judgement.group_view import GroupView
from watchdog.judgement.stages import Stage
from watchdog.judgement.state import EXCUSED_MS, WatcherState
from watchdog.judgement.verdict import PAIR_SCOPE

ANNOUNCED = NodeFlags.STOPPING | NodeFlags.RESTARTING
PATHS_BACK_NS = 2 * NS_PER_S
"""A path that was silent needs several frames in a row, and a serial line tells its session only in every second frame."""
WINDOW_SLACK_NS = 5 * NS_PER_S
"""A window that is told anew in every frame is written again only when its end has really moved."""


class PeerIntake:
    """Turns frames into evidence, and requests into answers."""

    def __init__(self, state: WatcherState, actor: GroupActor, fence: FenceControl, agreement: Agreement) -> None:
        self._state = state
        self._actor = actor
        self._fence = fence
        self._agreement = agreement
        self._unfenced = False

    def bytes_received(self, now_ns: int, event: events.BytesReceived) -> None:
        """A frame: only a *proven* one (frames/path_state.py) is evidence."""
        state = self._state
        heard_before = (state.contact.hears_mask(), state.contact.on_a_path(now_ns))
        receipt, beat = state.contact.receive(now_ns, event.path, event.data)
        if receipt is None:
            return
        if receipt.new_session:
            self._peer_restarted(now_ns)
        if receipt.life:
            state.peer_proved_off = ""  # a proof ends when the target is heard again, however little its frame proves
        if receipt.proven:
            suspicion.end(state, f"{state.settings.peer.name} is heard")
            self._fence.peer_heard()
            self._fence.frame_heard(now_ns, event.path)
        self._agreement.note(now_ns)
        if (state.contact.hears_mask(), state.contact.on_a_path(now_ns)) != heard_before:
            self.path_status_changed(now_ns)
        if beat is None:
            return
        state.incidents.episodes.heard(now_ns, beat.episode)
        self._peer_flags(now_ns, beat)
        self._pin(event.path, beat)
        partial_ns = state.contact.report_fresh_ns(event.path, beat.partial)
        for report in beat.groups:
            view = state.groups.get(report.key)
            if view is not None:
                self._report(now_ns, view, event.path, beat, partial_ns)

    def _report(self, now_ns: int, view: GroupView, path: str, beat: Heartbeat, fresh_ns: int) -> None:
        state = self._state
        received = state.contact.groups.reports.get(view.key)
        if received is None:
            return
        report, before = received.report, view.report
        held_before = before is not None and before.held
        view.report, view.report_ns, view.told_held = report, now_ns, report.held
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
            self._actor.asked(now_ns, view, report.yield_request)
            changed = True
        if view.asking.request and report.yield_answer_to == view.asking.request:
            self._actor.answered(now_ns, view, report.yield_answer)
            changed = True
        self._actor.bridge(now_ns, view, state.settings.peer.addresses[0] if state.settings.peer.addresses else "")
        if changed or view.track.stage is not Stage.CLEAR or view.gate.why:
            self._state.touch(view.scope)

    def _witness_acknowledged(self, beat: Heartbeat) -> None:
        """Which of our frames the peer has accepted, for the rule of the witness: frames of a serial line do not count there."""
        contact = self._state.contact
        frame = beat.terms.acknowledged if beat.terms is not None else None
        if frame is None or frame.path >= len(contact.order) or contact.settings[contact.order[frame.path]].kind is PathKind.SERIAL:
            return
        sent_ns = contact.turns.sent_at_ns(frame)
        if sent_ns is not None:
            self._state.witness.peer_acknowledged(sent_ns)

    def _pin(self, path: str, beat: Heartbeat) -> None:
        """Promise 11: the MACs of the peer are those that it tells under the key; a serial line tells one of them at a time."""
        state = self._state
        whole = state.contact.settings[path].kind is not PathKind.SERIAL
        if beat.macs and state.neighbours.pin(beat.macs, whole=whole):
            state.record_node("peer_macs", [[link.interface, link.mac] for link in state.neighbours.pinned()])

    def _peer_flags(self, now_ns: int, beat: Heartbeat) -> None:
        state = self._state
        state.witness.peer_said(beat.sent_ns, bool(beat.flags & NodeFlags.WITNESS_OUT))
        self._witness_acknowledged(beat)
        self._peer_maintenance(now_ns, beat)
        if beat.flags & NodeFlags.TAKEN:
            for incident in state.incidents.of_episode(beat.episode):
                if not incident.acknowledged and state.acknowledge(incident.id, f"a person at {beat.node}"):
                    state.record_action(incident.scope, "acknowledged", incident.id, f"by a person at {beat.node}", "done")
        announced = bool(beat.flags & ANNOUNCED)
        if announced is not state.peer_announced:
            state.peer_announced = announced
            for path in state.contact.paths.values():
                path.expect_silence(beat.nonce if announced else NO_NONCE)
        left = bool(beat.flags & NodeFlags.STOPPING)
        if left != state.peer_left:
            state.peer_left = left
            self._state.touch_all()
        if beat.flags & NodeFlags.QUARANTINED and state.announced_fence:
            self._fence.peer_acknowledged_fence()
            state.beat_wanted = True
        if not beat.flags & NodeFlags.FENCING:
            self._unfenced = True
        elif not state.quarantined and not self._unfenced:
            self._quarantine(now_ns, "the peer says that it fenced this node")

    def _peer_maintenance(self, now_ns: int, beat: Heartbeat) -> None:
        """The peer's maintenance is kept, with its end if the frame tells it: it excuses the peer also after a restart of ours."""
        state = self._state
        until_ns = state.peer_maintenance_until_ns
        if not beat.flags & NodeFlags.MAINTENANCE:
            if until_ns is not None:
                state.set_peer_maintenance(now_ns, None)
            return
        told_s = beat.terms.maintenance_left_s if beat.terms is not None else 0
        if until_ns is None or (told_s and abs(now_ns + told_s * NS_PER_S - until_ns) > WINDOW_SLACK_NS):
            state.set_peer_maintenance(now_ns, now_ns + (told_s * NS_PER_S or EXCUSED_MS * NS_PER_MS))

    def _quarantine(self, now_ns: int, why: str) -> None:
        """Promise 7: a node that was fenced starts quarantined. A run that had heard the peer before it fenced was never off: that
        fence failed."""
        state = self._state
        state.quarantined = True
        state.record_node("quarantine", why)
        state.record_action(PAIR_SCOPE, "quarantine", state.settings.self_name, why)
        state.publish(f"quarantined: {why}")
        state.beat_wanted = True
        self._state.touch_all()

    def _peer_restarted(self, now_ns: int) -> None:
        """A new session of the peer: what the old one said or asked is void; answer at once so that it soon hears an echo."""
        state = self._state
        state.witness.peer_restarted()
        for view in state.groups.values():
            view.report, view.told_held = None, False
            view.denied_ns = None
            state.ledger.retract(view.scope, EvidenceKind.K4_REPORT, state.settings.peer.name)
            self._actor.asked(now_ns, view, 0)
        state.peer_left = False
        if state.peer_announced:
            state.peer_announced = False
            state.peer_returns_ns = now_ns + state.contact.slowest_silent_ns + PATHS_BACK_NS
        state.record_node("seen_peer", True)
        state.beat_wanted = True
        self._state.touch_all()

    def path_changed(self, now_ns: int, event: events.PathChanged) -> None:
        """A path can or cannot be used at all."""
        path = self._state.contact.paths.get(event.path)
        if path is not None:
            path.set_usable(now_ns, event.usable, event.reason)
            self.path_status_changed(now_ns)

    def path_status_changed(self, now_ns: int) -> None:
        """A path fell silent or speaks again: the peer is told, the references and the segment are asked at once."""
        state = self._state
        state.beat_wanted = True
        if not state.contact.on_a_path(now_ns):
            state.surroundings.ask_now(now_ns)
            state.census.tick_due_ns = min(state.census.tick_due_ns, now_ns)
        self._state.touch_all()
