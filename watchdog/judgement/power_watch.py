"""PURE: while the peer is missed, its power is read again and again (fencing/plan/reading.py). Off twice proves that it is off: strict
may take over without an act, in nobody's turn and without touching the budget. It is read too while a split is only suspected: then a
fence that becomes due has asked its devices already whose outlet theirs is (fencing/plan/ahead.py)."""

from __future__ import annotations

from base.core import JsonValue
from fencing.plan.ahead import ReadAhead
from fencing.plan.commands import RunDevice
from fencing.plan.events import DeviceOutcome, DeviceReported, PowerState
from fencing.plan.reading import PowerReading
from fencing.plan.times import FenceTimes
from watchdog.judgement.commands import RunFence
from watchdog.judgement.events import FenceReported
from watchdog.judgement.evidence import Owner
from watchdog.judgement.stages import Stage
from watchdog.judgement.state import WatcherState
from watchdog.judgement.verdict import PAIR_SCOPE, Verdict

FENCEABLE = frozenset({Verdict.SPLIT_BRAIN, Verdict.PEER_DEAD, Verdict.PEER_HUNG})


class PowerWatch:
    """Of the peer. Call ``step`` whenever something changed."""

    def __init__(self, state: WatcherState) -> None:
        self._state = state
        settings = state.settings
        prefix = f"P-{settings.self_name}-{state.started.incarnation}-"
        levels = settings.fence.levels_for(settings.peer.name)
        self._reading = PowerReading(prefix, settings.peer.name, levels, FenceTimes().order_valid_ms)
        self._told = False
        self.ahead = ReadAhead(levels)

    def _suspected(self) -> bool:
        """Something that may end in a fence is under way while the peer is still heard."""
        tracks = [self._state.pair, *(view.track for view in self._state.groups.values())]
        return any(t.stage is not Stage.CLEAR and t.verdict in FENCEABLE for t in tracks)

    def step(self, now_ns: int, *, acting: bool) -> None:
        """Begin, go on, or stop. ``acting``: a fence session runs, which reads for itself."""
        state = self._state
        alive = state.contact.on_a_path(now_ns) or state.contact.lives(now_ns)
        if alive:
            self._reading.disproved()
            self._told = False
            if not self._suspected():
                self._reading.stop()
                return
        missed = alive or state.contact.ever_heard or state.started.seen_peer_before
        ready = state.resolves and state.settings.fence.enabled and state.runner_up and state.trusted(now_ns)
        if missed and ready and not acting and not state.peer_proved_off:
            self._reading.want(now_ns)
            self._run(now_ns, self._reading.on_deadline(now_ns))
        else:
            self._reading.pause(now_ns)
        if self._reading.off and not alive and not state.peer_proved_off:
            self._proved(now_ns)

    def reported(self, now_ns: int, event: FenceReported) -> bool:
        """The runner finished a reading; False if it was not one of ours."""
        if event.order_id != self._reading.order_id:
            return False
        outcome, power = DeviceOutcome(event.outcome.value), PowerState(event.power.value)
        report = DeviceReported(event.level, event.device, event.action, event.attempt, outcome, power, event.identity)
        self.ahead.note(now_ns, report)
        self._reading.reported(now_ns, report)
        self.step(now_ns, acting=False)
        return True

    def under_way(self, level: int, device: str) -> bool:
        """Whether a reading of this device will be reported: nobody need ask for another one."""
        return self._reading.under_way(level, device)

    def runner_lost(self, now_ns: int) -> None:
        """Nothing that was ordered will be reported."""
        self._reading.lost(now_ns)

    def next_deadline(self) -> int | None:
        """The next reading."""
        return self._reading.next_deadline()

    def to_json(self) -> dict[str, JsonValue]:
        """For status."""
        return {"off": self._reading.off, "order": self._reading.order_id}

    def _run(self, now_ns: int, commands: list[RunDevice]) -> None:
        for c in commands:
            self._state.out.append(RunFence(c.order_id, c.target, c.level, c.device, c.action, c.attempt, now_ns, c.valid_ms))

    def _proved(self, now_ns: int) -> None:
        """As good as a proved fence. Whatever speaks in the peer's name on the open segment is a page and no refutation (Promise 3)."""
        state = self._state
        target = state.settings.peer.name
        state.peer_proved_off = f"{target} is proved off: {self._reading.off}"
        state.record_action(PAIR_SCOPE, "power_reading", target, self._reading.off, "proved")
        state.publish(state.peer_proved_off)
        state.touch_all()
        if self._told or not self._contradicted(now_ns):
            return
        self._told = True
        summary = f"{state.peer_proved_off}; but somebody answers or adverts in its name on the network: look who"
        rows = state.incidents.page_again(PAIR_SCOPE, "critical", summary, "the devices are believed, not the open network")
        if not rows:
            rows = state.incidents.raise_(now_ns, PAIR_SCOPE, Verdict.FOREIGN_OWNER, summary, "", state.epochs(), True)
        state.persist(*rows)

    def _contradicted(self, now_ns: int) -> bool:
        """Somebody claims an address of ours, or of the peer's, in the peer's name."""
        state = self._state
        scopes = [PAIR_SCOPE, *(view.scope for view in state.groups.values())]
        return any(True for scope in scopes for _ in state.ledger.fresh(now_ns, scope, Owner.PEER))
