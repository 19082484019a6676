"""PURE: joins self_fence.py to the watcher: its facts, the orders for the device, what the peer's expiry means, and the pages."""

from __future__ import annotations

from base.core import NS_PER_MS, JsonValue
from watchdog.config.model import SelfFenceSettings
from watchdog.frames.heartbeat import NodeFlags
from watchdog.judgement.commands import OperateWatchdog
from watchdog.judgement.events import WatchdogChanged
from watchdog.judgement.incidents import Trouble
from watchdog.judgement.self_fence import SelfFence, SelfFenceFacts, WatchdogOrder
from watchdog.judgement.state import WatcherState
from watchdog.judgement.troubles import Troubles
from watchdog.judgement.verdict import PAIR_SCOPE

RETRY_MS = 30_000
"""After a device that could not be opened."""


class SelfFencing:
    """Call ``step`` at the end of every event and deadline."""

    def __init__(self, state: WatcherState, troubles: Troubles) -> None:
        self._state = state
        self._troubles = troubles
        self._settings = state.settings.self_fence
        self._rules = SelfFence(self._settings, state.settings.self_name, armed=state.started.watchdog_armed)
        state.self_fencing = self._rules.named and self._rules.armed
        self._stopping_ns: int | None = None
        self._retry_ns = 0
        self._told_starving = False

    def _facts(self) -> SelfFenceFacts:
        state, turns = self._state, self._state.contact.turns
        last = state.contact.last
        return SelfFenceFacts(
            acknowledged_ns=turns.acknowledged_ns,
            heard_ns=turns.heard_ns,
            agreed=bool(turns.agreed),
            peer_feeds=last is not None and NodeFlags.SELF_FENCING in last.flags,
            peer_out=state.peer_is_gone or state.peer_left,
            may_act=state.resolves,
            stopping_ns=self._stopping_ns,
        )

    def step(self, now_ns: int) -> None:
        """Feed or not; count the peer gone or not."""
        state = self._state
        if self._settings is None and not self._rules.armed:
            return
        if state.stopping and self._stopping_ns is None:
            self._stopping_ns = now_ns
        facts = self._facts()
        if now_ns >= self._retry_ns:
            for order in self._rules.orders(now_ns, facts):
                state.out.append(self._operate(order))
                if order is WatchdogOrder.DISARM:
                    state.self_fencing = False
        self._tell_starving(facts)
        expires_ns = self._rules.expires_ns(facts)
        if expires_ns is not None and now_ns >= expires_ns and not state.contact.on_a_path(now_ns):
            self._expired(now_ns, facts)

    def _operate(self, order: WatchdogOrder) -> OperateWatchdog:
        settings = self._settings or SelfFenceSettings("")
        return OperateWatchdog(order, settings.device, settings.timeout_s)

    def _tell_starving(self, facts: SelfFenceFacts) -> None:
        starving = self._rules.starving_ns is not None
        if starving and not self._told_starving and self._settings is not None:
            name, peer = self._state.settings.self_name, self._state.settings.peer.name
            within = f"{name} resets itself within {self._settings.timeout_s} s"
            words = f"{within}: {peer} has acknowledged nothing for {self._settings.after_ms} ms"
            self._state.record_action(PAIR_SCOPE, "self_fence", name, words, "starving")
            self._state.persist(*self._state.incidents.page_again(PAIR_SCOPE, "critical", words, words))
            self._state.publish(words)
        self._told_starving = starving

    def _expired(self, now_ns: int, facts: SelfFenceFacts) -> None:
        state = self._state
        assert facts.heard_ns is not None
        peer = state.settings.peer.name
        silent_ms = (now_ns - facts.heard_ns) // NS_PER_MS
        state.peer_proved_off = (
            f"{peer} has reset itself: it feeds its watchdog only while we acknowledge it, and was last heard {silent_ms} ms ago"
        )
        state.record_action(PAIR_SCOPE, "self_fence", peer, state.peer_proved_off, "expired")
        state.publish(state.peer_proved_off)
        state.touch_all()

    def watchdog_changed(self, now_ns: int, event: WatchdogChanged) -> None:
        """The shell opened the device, or could not."""
        state = self._state
        if event.armed:
            state.self_fencing = True
            self._troubles.report(now_ns, PAIR_SCOPE, Trouble.SELF_FENCE_UNARMED)
        else:
            state.self_fencing = False
            self._rules.armed = False
            self._retry_ns = now_ns + RETRY_MS * NS_PER_MS
            words = f"the hardware watchdog cannot be armed: {event.detail}: the pair has no fence of this node"
            self._troubles.report(now_ns, PAIR_SCOPE, Trouble.SELF_FENCE_UNARMED, words)
        state.beat_wanted = True

    def next_deadline(self, now_ns: int) -> int | None:
        """When ``step`` must be called again."""
        if self._settings is None:
            return None
        due_ns = self._rules.next_deadline(now_ns, self._facts())
        return due_ns if self._retry_ns <= now_ns else max(due_ns or self._retry_ns, self._retry_ns)

    def to_json(self, now_ns: int) -> JsonValue:
        """For status."""
        return self._rules.to_json(now_ns, self._facts())
