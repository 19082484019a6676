"""PURE: takes in what is seen on the service LAN and in our own kernel: adverts (K3), ARP and NDP claims (K2), addresses (K1)."""

from __future__ import annotations

from base.core import NS_PER_MS, NS_PER_S
from watchdog.config.model import LinkAddress
from watchdog.judgement import events
from watchdog.judgement.evidence import EvidenceKind, Owner
from watchdog.judgement.fence_control import FenceControl
from watchdog.judgement.group_view import Advert, GroupView
from watchdog.judgement.neighbours import Twins, is_virtual, virtual_mac
from watchdog.judgement.open_evidence import Effect, Strength, sufficient
from watchdog.judgement.stages import Stage
from watchdog.judgement.state import WatcherState
from watchdog.judgement.verdict import PAIR_SCOPE

DENIAL_LASTS_NS = NS_PER_S
"""A peer that takes an address over says so within a heartbeat, on the slowest path too."""


class WireIntake:
    """Turns packets and kernel changes into evidence."""

    def __init__(self, state: WatcherState, fence: FenceControl) -> None:
        self._state = state
        self._fence = fence
        self._twins = Twins()
        self._virtual_claims: dict[tuple[str, str], tuple[int, int]] = {}
        """(group, virtual MAC) → since when somebody claims the VIP with it against the peer's word, and when last."""

    def advert_heard(self, now_ns: int, event: events.AdvertHeard) -> None:
        """An advert on the wire: our own, the peer's, or a third router's."""
        state = self._state
        view = state.groups.get(event.key)
        if view is None or event.interface != view.settings.interface:  # the same VRID on another LAN is another virtual router
            self._stranger_advert(now_ns, event)
            return
        advert = Advert(now_ns, event.priority, event.source_ip, event.interval_ms or view.settings.advert_interval_ms)
        if event.outgoing:
            if event.priority == 0 or view.sent is None or view.sent.priority != event.priority:
                self._state.touch(view.scope)
            view.sent = advert
            if event.priority and state.surroundings.contradicts_stopped(now_ns):
                self._daemon_lives(now_ns)
            if event.priority == 0:
                self.plan(now_ns, view)
                state.beat_wanted = True
            return
        if event.problem:
            if event.problem != view.problem:
                self._state.touch(view.scope)
            view.problem, view.problem_ns = event.problem, now_ns
            return
        peer = state.settings.peer.addresses
        if peer and event.source_ip not in peer and state.neighbours.owner_of(event.source_mac, event.source_mac) is not Owner.PEER:
            self._other_claims(now_ns, view, EvidenceKind.K3_ADVERT, event.source_mac, f"advert of {event.source_ip} ({event.source_mac})")
            return
        state.neighbours.seen(event.source_mac)
        self._peer_advert(now_ns, view, event, advert)

    def _peer_advert(self, now_ns: int, view: GroupView, event: events.AdvertHeard, advert: Advert) -> None:
        state = self._state
        was_fresh = view.heard_fresh(now_ns)
        view.heard = advert
        if event.priority == 0:  # Promise 6: its sender releases the group in order
            state.ledger.retract(view.scope, EvidenceKind.K3_ADVERT, "peer")
            self.plan(now_ns, view)
            self._state.touch(view.scope)
            return
        if view.is_overtaken(now_ns):
            return
        fresh_ns = advert.interval_ms * NS_PER_MS * 5 // 2
        detail = f"advert of {event.source_ip}, priority {event.priority}"
        _, news = state.ledger.note(now_ns, view.scope, EvidenceKind.K3_ADVERT, Owner.PEER, "peer", detail, fresh_ns)
        if news or not was_fresh or view.track.stage is not Stage.CLEAR or view.gate.why:
            self._state.touch(view.scope)
            if not was_fresh:
                self._state.touch(PAIR_SCOPE)

    def _stranger_advert(self, now_ns: int, event: events.AdvertHeard) -> None:
        """An advert for a VRID that is not ours, but with our VIPs: the peer's VRID is wrong."""
        if event.outgoing or not event.vips:
            return
        for view in self._state.groups.values():
            if view.key.family == event.key.family and any(
                LinkAddress(event.interface, vip) in view.settings.addresses for vip in event.vips
            ):
                problem = f"VRID {event.key.vrid} from {event.source_ip} advertises the VIPs of VRID {view.key.vrid}"
                if problem != view.problem:
                    self._state.touch(view.scope)
                view.problem, view.problem_ns = problem, now_ns

    def _daemon_lives(self, now_ns: int) -> None:
        """Some local daemon adverts although its pid file names nobody: what it holds is no orphan."""
        state = self._state
        state.surroundings.set_daemon(now_ns, None)
        detail = "its pid file names no process, but this host still sends adverts: correct pid_file and vrrp_pid_file in [gate]"
        state.record_action(PAIR_SCOPE, "local_daemon", "unseen", detail, "observed")
        state.touch_all()

    def plan(self, now_ns: int, view: GroupView) -> None:
        """Promise 6: planned changes get a grace; two owners that are there already do not get a new one by every repetition."""
        if not (view.own and self._state.ledger.kinds(now_ns, view.scope, Owner.PEER)):
            view.planned_until_ns = now_ns + self._state.settings.policy.planned_grace_ms * NS_PER_MS

    def address_changed(self, now_ns: int, event: events.AddressChanged) -> None:
        """Our kernel gained or lost an address."""
        state, at = self._state, LinkAddress(event.lan or event.interface, event.address)
        others = tuple(interface for interface in state.kernel.get(at, ()) if interface != event.interface)
        state.kernel[at] = (*others, event.interface) if event.held else others
        if not state.kernel[at]:
            del state.kernel[at]
        for key in state.watched.get(at, ()):
            self.look_at_kernel(now_ns, state.groups[key])

    def addresses_listed(self, now_ns: int, event: events.AddressesListed) -> None:
        """A full dump of our kernel's addresses."""
        kernel: dict[LinkAddress, tuple[str, ...]] = {}
        for held in event.held:
            kernel[held.at] = (*kernel.get(held.at, ()), held.interface)
        self._state.kernel = kernel
        for view in self._state.groups.values():
            self.look_at_kernel(now_ns, view)

    def look_at_kernel(self, now_ns: int, view: GroupView) -> None:
        """K1: which VIPs of the group our kernel holds where they are configured to live; the same address elsewhere owns nothing here."""
        state, before = self._state, view.own
        places = [(at, interface) for at in view.settings.addresses for interface in state.kernel.get(at, ())]
        held = tuple(sorted({LinkAddress(interface, at.address) for at, interface in places}))
        if held == view.held:
            return
        view.held = held
        if held:
            detail = f"our kernel holds {', '.join(map(str, held))}"
            state.ledger.note(now_ns, view.scope, EvidenceKind.K1_KERNEL, Owner.SELF, state.settings.self_name, detail, 0)
        else:
            state.ledger.retract(view.scope, EvidenceKind.K1_KERNEL, state.settings.self_name)
        if before != view.own:
            state.beat_wanted = True  # the peer learns of a new owner at once, not at the next beat
        self._state.touch(view.scope)

    def owner_claimed(self, now_ns: int, event: events.OwnerClaimed) -> None:
        """Somebody said by ARP or NDP that an address is at a MAC."""
        state = self._state
        mac, sender = event.mac.lower(), event.sender_mac.lower()
        if event.address in state.settings.peer.addresses:
            self._peer_answered(now_ns, event, mac, sender)
            return
        for key in state.watched.get(event.at, ()):
            self._vip_claimed(now_ns, state.groups[key], event, mac, sender)

    def _vip_claimed(self, now_ns: int, view: GroupView, event: events.OwnerClaimed, mac: str, sender: str) -> None:
        state = self._state
        owner = state.neighbours.owner_of(mac, sender)
        if owner is Owner.PEER and is_virtual(mac) and is_virtual(sender) and self._is_somebody_else(now_ns, view, mac):
            owner = Owner.OTHER
        if owner is Owner.SELF:
            return
        if owner is Owner.OTHER:
            self._other_claims(now_ns, view, EvidenceKind.K2_NEIGHBOUR, mac, f"{event.at} is at {mac}, a third host", event.at)
            return
        answered = self._answers_probe(view, event, mac, sender)
        self._peer_spoke(now_ns, event.at, answered)
        if event.probe_id is not None and is_virtual(mac) and self._twins.answered(event.probe_id, mac, event.request_index):
            detail = f"two hosts answer for {event.at} with the virtual MAC {mac}, one of them is neither node"
            self._other_claims(now_ns, view, EvidenceKind.K2_NEIGHBOUR, f"{mac} twice", detail, event.at)
        if view.is_overtaken(now_ns):
            return
        detail = f"{event.at} is at {mac} ({'announced' if event.gratuitous else 'answered'})"
        _, news = state.ledger.note(
            now_ns, view.scope, EvidenceKind.K2_NEIGHBOUR, Owner.PEER, mac, detail, self._claim_fresh_ns(), event.at, answered=answered
        )
        if news or view.track.stage is not Stage.CLEAR:
            self._state.touch(view.scope)
            self._state.touch(PAIR_SCOPE)
        if event.gratuitous and view.own and view.announce_due_ns is None and state.keeps(now_ns, view) and not view.gate.why:
            view.announce_due_ns = now_ns + NS_PER_S // 2 if view.track.stage is Stage.CLEAR else None

    def _answers_probe(self, view: GroupView | None, event: events.OwnerClaimed, mac: str, sender: str) -> bool:
        """Promise 11: whether this answers a probe of ours that is out, from a MAC that the peer told us. The virtual router's MAC is told
        by the configuration of both nodes."""
        probe = self._state.census.probe(event.probe_id)
        if probe is None or probe.at != event.at:
            return False
        neighbours = self._state.neighbours
        configured = virtual_mac(view.key) if view is not None and view.settings.use_vmac else ""
        return all(it == configured or neighbours.is_pinned(it) for it in (mac, sender))

    def _peer_spoke(self, now_ns: int, at: LinkAddress, answered: bool) -> None:
        """The peer's kernel was heard on the segment; ``answered`` as in ``_answers_probe``."""
        state = self._state
        strength = Strength.ANSWERED if answered else Strength.OPEN
        if sufficient(strength, Effect.VOUCH, state.mode):
            state.channels.answered(now_ns, at)
            state.segment_answered_ns = now_ns
        self._fence.census_heard(now_ns, at, answered)

    def _is_somebody_else(self, now_ns: int, view: GroupView, mac: str) -> bool:
        """Who answers with a virtual MAC counts as the peer, until the peer has denied it long after the claim began."""
        if view.denied_ns is None or not view.peer_denies(now_ns):
            return False
        key = (view.scope, mac)
        first_ns, last_ns = self._virtual_claims.get(key, (now_ns, now_ns))
        if first_ns < view.denied_ns or now_ns - last_ns > 2 * self._claim_fresh_ns():
            first_ns = now_ns
        self._virtual_claims[key] = first_ns, now_ns
        return view.report_ns - first_ns > DENIAL_LASTS_NS

    def _claim_fresh_ns(self) -> int:
        policy = self._state.settings.policy
        return (2 * policy.census_interval_ms + policy.census_window_ms) * NS_PER_MS

    def _peer_answered(self, now_ns: int, event: events.OwnerClaimed, mac: str, sender: str) -> None:
        """The peer's kernel answers for its own address."""
        state = self._state
        state.neighbours.seen(mac, sender)
        if state.neighbours.owner_of(mac, sender) is not Owner.PEER:
            return  # a third host in the peer's name
        answered = self._answers_probe(None, event, mac, sender)
        self._peer_spoke(now_ns, event.at, answered)
        detail = f"{event.at} is at {mac}"
        _, news = state.ledger.note(
            now_ns, PAIR_SCOPE, EvidenceKind.K2_NEIGHBOUR, Owner.PEER, mac, detail, 2 * self._claim_fresh_ns(), event.at, answered=answered
        )
        if news:
            self._state.touch(PAIR_SCOPE)

    def _other_claims(
        self, now_ns: int, view: GroupView, kind: EvidenceKind, source: str, detail: str, at: LinkAddress | None = None
    ) -> None:
        state = self._state
        _, news = state.ledger.note(now_ns, view.scope, kind, Owner.OTHER, source, detail, 2 * self._claim_fresh_ns(), at)
        if news or view.track.stage is not Stage.CLEAR:
            self._state.touch(view.scope)

    def probe_finished(self, now_ns: int, event: events.ProbeFinished) -> None:
        """A whole window is over: who claimed the address before and was silent now does not claim it."""
        state = self._state
        probe = state.census.finished(now_ns, event)
        if probe is None:
            return
        if not event.error and event.requests_sent:
            self._fence.census_asked(now_ns, probe.sent_ns, probe.at)
            state.channels.asked_in_vain(probe.at, probe.sent_ns)
            self._retract_unanswered(now_ns, probe.at, probe.sent_ns, PAIR_SCOPE if probe.of_peer else probe.scope)
        if not state.census.running(probe.scope):  # half a round is not judged
            self._state.touch(probe.scope)
            self._state.touch(PAIR_SCOPE)
            self._fence.look_if_ready(now_ns)

    def _retract_unanswered(self, now_ns: int, at: LinkAddress, sent_ns: int, scope: str) -> None:
        """Who claimed the address before and did not answer a whole window does not claim it now."""
        ledger = self._state.ledger
        for fact in list(ledger.fresh(now_ns, scope)):
            if fact.kind is EvidenceKind.K2_NEIGHBOUR and fact.at == at and fact.last_ns < sent_ns:
                ledger.retract(scope, fact.kind, fact.source, at)
