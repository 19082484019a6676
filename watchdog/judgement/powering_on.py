"""PURE: a person has the peer switched on again (``brainctl fence on``). Drives one PowerOnSession (fencing/plan/power_on.py): its intent
and every step are rows of kind ACTION, so that nobody takes them for a fence that is still open."""

from __future__ import annotations

from base.core import NS_PER_MS, JsonValue
from fencing.plan.commands import FenceFinished, FenceState, PersistIntent, RecordState, RunDevice
from fencing.plan.events import DeviceOutcome, DeviceReported, PowerState
from fencing.plan.power_on import PowerOnCommand, PowerOnSession
from fencing.plan.times import FenceTimes
from watchdog.judgement.commands import Persist, RunFence
from watchdog.judgement.events import FenceReported
from watchdog.judgement.state import WatcherState
from watchdog.judgement.verdict import PAIR_SCOPE

ACTION = "fence_on"


class PoweringOn:
    """At most one at a time, always of the peer."""

    def __init__(self, state: WatcherState) -> None:
        self._state = state
        self.session: PowerOnSession | None = None
        self._barrier: int | None = None
        self._last: dict[str, JsonValue] | None = None

    def order(self, now_ns: int, order_id: str, who: str, times: FenceTimes) -> str:
        """Begin; "" or why not."""
        state = self._state
        target = state.settings.peer.name
        levels = state.settings.fence.levels_for(target)
        if self.session is not None:
            return "it is being switched on already"
        if not levels:
            return f"no [[fence.level]] with target {target} is configured"
        if not state.recorder_up:
            return "the record cannot be written, and nothing is switched without a durable intent"
        if not state.runner_up:
            return "the fence runner is not armed; braind's log says why"
        state.record_action(PAIR_SCOPE, ACTION, target, f"ordered by {who}")
        self.session = PowerOnSession(order_id, target, levels, times)
        self._run(now_ns, self.session.begin(now_ns))
        return ""

    def persisted(self, now_ns: int, barrier: int) -> None:
        """Everything up to ``barrier`` is durable."""
        if self.session is not None and self._barrier is not None and barrier >= self._barrier:
            self._barrier = None
            self._run(now_ns, self.session.intent_durable(now_ns))

    def reported(self, now_ns: int, event: FenceReported) -> bool:
        """The runner finished an action; False if it was not one of ours."""
        session = self.session
        if session is None or event.order_id != session.order_id:
            return False
        outcome, power = DeviceOutcome(event.outcome.value), PowerState(event.power.value)
        report = DeviceReported(
            event.level, event.device, event.action, event.attempt, outcome, power, event.identity, event.took_ms, event.detail
        )
        self._run(now_ns, session.reported(now_ns, report))
        return True

    def peer_heard(self) -> None:
        """A proven frame."""
        if self.session is not None:
            self.session.target_heard()

    def stop(self, now_ns: int, reason: str) -> None:
        """A fence begins, or the runner is gone."""
        if self.session is not None:
            self._run(now_ns, self.session.stop(reason))

    def on_deadline(self, now_ns: int) -> None:
        """The session's timers."""
        session = self.session
        due = session.next_deadline() if session is not None else None
        if session is not None and due is not None and now_ns >= due:
            self._run(now_ns, session.on_deadline(now_ns))

    def next_deadline(self) -> int | None:
        """The session's."""
        return self.session.next_deadline() if self.session is not None else None

    def to_json(self, now_ns: int) -> dict[str, JsonValue]:
        """For status: the keys of a fence's ``running`` and ``last``."""
        last = dict(self._last) if self._last else None
        if last is not None:
            at_ns = last.pop("at_ns")
            assert isinstance(at_ns, int)
            last["age_ms"] = (now_ns - at_ns) // NS_PER_MS
        return {"running": self.session.snapshot() if self.session is not None else None, "last": last}

    def _run(self, now_ns: int, commands: list[PowerOnCommand]) -> None:
        state = self._state
        for command in commands:
            match command:
                case PersistIntent():
                    state.barrier += 1
                    self._barrier = state.barrier
                    row = state.action_row(PAIR_SCOPE, ACTION, command.target, f"{command.order_id}: {command.detail}", "requested")
                    state.out.append(Persist((row,), self._barrier))
                case RunDevice() as c:
                    state.out.append(RunFence(c.order_id, c.target, c.level, c.device, c.action, c.attempt, now_ns, c.valid_ms))
                case RecordState() if command.level:
                    self._say(command)
                case FenceFinished():
                    self._finished(now_ns, command)

    def _say(self, command: RecordState) -> None:
        words = f"{command.order_id}: {command.detail}"
        self._state.record_action(PAIR_SCOPE, ACTION, command.target, words, command.state.value)
        self._state.publish(f"power on of {command.target}: {command.state.value}: {command.detail}")

    def _finished(self, now_ns: int, end: FenceFinished) -> None:
        self.session, self._barrier = None, None
        self._say(RecordState(end.order_id, end.target, 0, end.state, end.detail))
        self._last = {
            "order_id": end.order_id,
            "target": end.target,
            "level": end.level,
            "state": end.state.value,
            "detail": end.detail,
            "at_ns": now_ns,
        }
        if end.state is FenceState.PROVED:
            self._state.touch(PAIR_SCOPE)
