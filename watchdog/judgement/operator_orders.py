"""PURE: what a person may order, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass

from base.core import NS_PER_MS
from watchdog.judgement import events, suspicion
from watchdog.judgement.durable_facts import LONGEST_MS
from watchdog.judgement.events import OperatorAction
from watchdog.judgement.evidence import Owner
from watchdog.judgement.fence_control import FenceControl
from watchdog.judgement.group_actor import GroupActor
from watchdog.judgement.state import WatcherState
from watchdog.judgement.verdict import PAIR_SCOPE

KERNEL_HEARD_MS = 5_000
"""The peer's kernel is asked about once a second while it is not heard: an answer this young means that it runs."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an order: ``taken`` or refused, and in words what was done or why not. ``order_id`` of a fence that began."""

    taken: bool
    outcome: str
    order_id: str = ""


def _done() -> Answer:
    return Answer(True, "done")


def _refused(why: str) -> Answer:
    return Answer(False, why)


class OperatorOrders:
    """Obeys, or says why not; every order becomes an ACTION row. ``last``: the answer to the newest order, a new object each time."""

    def __init__(self, state: WatcherState, actor: GroupActor, fence: FenceControl) -> None:
        self.last: Answer | None = None
        self._state = state
        self._actor = actor
        self._fence = fence

    def operator_acted(self, now_ns: int, event: events.OperatorActed) -> None:
        """Obey, record who ordered what, and look at everything again."""
        state = self._state
        self.last = self._obey(now_ns, event)
        outcome = self.last.outcome
        scope = state.incidents.scope_of(event.subject) or PAIR_SCOPE
        state.record_action(scope, f"operator:{event.action.value}", event.subject, f"{event.who} {event.note}".strip(), outcome)
        state.publish(f"operator {event.who}: {event.action.value} {event.subject}: {outcome}")
        state.beat_wanted = True
        self._state.touch_all()

    def _obey(self, now_ns: int, event: events.OperatorActed) -> Answer:
        state = self._state
        match event.action:
            case OperatorAction.MAINTENANCE_ON:
                state.set_maintenance(now_ns, now_ns + min(max(1, event.until_ms), LONGEST_MS) * NS_PER_MS)
            case OperatorAction.MAINTENANCE_OFF:
                if state.maintenance_until_ns is None and (state.peer_maintenance_until_ns or 0) > now_ns:
                    return _refused(f"it was ordered on {state.settings.peer.name}: end it there")
                self.end_maintenance(now_ns, f"by {event.who}")
            case OperatorAction.CLEAR_QUARANTINE:
                state.quarantined = False
                state.record_node("quarantine", "")
                suspicion.end(state, f"cleared by {event.who}")
            case OperatorAction.CLEAR_LATCH:
                self._fence.clear_latch()
            case OperatorAction.CONFIRM_OFF:
                return self._confirm_off(now_ns, event)
            case OperatorAction.FENCE_OFF | OperatorAction.FENCE_ON:
                return self._fence_order(now_ns, event)
            case OperatorAction.ACKNOWLEDGE:
                return _done() if state.acknowledge(event.subject, event.who) else _refused("no such open incident")
            case OperatorAction.HANDOVER:
                return self._hand_over(now_ns, event)
        return _done()

    def _not_the_peer(self, event: events.OperatorActed) -> str:
        """A node that was mistyped must never cost another one its power."""
        peer = self._state.settings.peer.name
        return "" if event.subject in ("", peer) else f"{event.subject} is not the peer of this node: that is {peer}"

    def _fence_order(self, now_ns: int, event: events.OperatorActed) -> Answer:
        off = event.action is OperatorAction.FENCE_OFF
        why = self._not_the_peer(event) or (self._fence.order_off if off else self._fence.order_on)(now_ns, event.who)
        return _refused(why) if why else Answer(True, "ordered", self._fence.newest_order_id)

    def _confirm_off(self, now_ns: int, event: events.OperatorActed) -> Answer:
        """A person vouches for the peer being off: as good as a proof, and it says who said so."""
        if why := self._not_the_peer(event):
            return _refused(why)
        if why := self._heard_of_the_peer(now_ns):
            return _refused(f"{self._state.settings.peer.name} is not off: {why}")
        self._state.peer_proved_off = f"{event.who} vouched that {self._state.settings.peer.name} is off"
        return _done()

    def _heard_of_the_peer(self, now_ns: int) -> str:
        """What is heard of the peer now: frames, adverts, its kernel's answers. A node that answers ARP for an address owns it, whatever
        a person has seen."""
        state = self._state
        if paths := state.contact.heard_paths():
            return f"its frames arrive on {', '.join(paths)}"
        for view in state.groups.values():
            if view.heard_fresh(now_ns):
                return f"its adverts for {view.settings.name} arrive"
            for fact in state.ledger.fresh(now_ns, view.scope, Owner.PEER):
                return f"it still owns {view.settings.name} ({fact.kind.value}: {fact.detail})"
        answered_ns = state.channels.last_ns
        if answered_ns is not None and now_ns - answered_ns <= KERNEL_HEARD_MS * NS_PER_MS:
            return f"its kernel answered {(now_ns - answered_ns) // NS_PER_MS} ms ago"
        return ""

    def _hand_over(self, now_ns: int, event: events.OperatorActed) -> Answer:
        views = [v for v in self._state.groups.values() if event.subject in ("", v.scope, v.settings.name)]
        owned = [v for v in views if v.own]
        if not self._state.resolves:
            return _refused("observe mode holds nobody: hand over with the VRRP daemon itself")
        if not views:
            return _refused(f"no such group; there are {', '.join(f'{v.settings.name} ({v.scope})' for v in self._state.groups.values())}")
        if not owned:
            return _refused("this node does not own it")
        handovers = self._actor.handovers
        refused = [f"{v.scope}: {why}" for v in owned if (why := handovers.refusal(now_ns, v))]
        if refused:
            return _refused("; ".join(refused))
        return Answer(True, "; ".join(handovers.order(now_ns, v, event.who) for v in owned))

    def end_maintenance(self, now_ns: int, why: str) -> None:
        """By order, or because its time is over."""
        if self._state.maintenance_until_ns is not None:
            self._state.set_maintenance(now_ns, None)
            self._state.publish(f"maintenance ended: {why}")
            self._state.beat_wanted = True
            self._state.touch_all()
