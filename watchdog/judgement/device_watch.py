"""PURE: the fence devices of the peer, asked long before they are needed (fencing/plan/monitor.py), and the pages when one is lost.

A device that died last month must not be found out at the fence (D7). Nothing is asked while anything is wrong with the pair: the device
may have one session only, and the next one must be the fence's.
"""

from __future__ import annotations

from base.core import JsonValue
from fencing.plan.events import DeviceReported
from fencing.plan.monitor import ORDER_PREFIX, DeviceMonitor
from watchdog.judgement.commands import RunFence
from watchdog.judgement.events import FenceReported
from watchdog.judgement.incidents import Trouble
from watchdog.judgement.stages import Stage
from watchdog.judgement.state import WatcherState
from watchdog.judgement.troubles import Troubles
from watchdog.judgement.verdict import PAIR_SCOPE


class DeviceWatch:
    """Asks, remembers, pages. ``fencing`` tells whether a fence runs now."""

    def __init__(self, state: WatcherState, troubles: Troubles, now_ns: int) -> None:
        self._state = state
        self._troubles = troubles
        fence = state.settings.fence
        self._target = state.settings.peer.name
        self._levels = fence.levels_for(self._target)
        self.monitor = DeviceMonitor(
            self._levels, target=self._target, interval_ms=fence.monitor_interval_ms, salt=state.settings.self_name, now_ns=now_ns
        )

    def _paused(self, fencing: bool) -> bool:
        state = self._state
        wrong = state.pair.stage is not Stage.CLEAR or any(v.track.stage is not Stage.CLEAR for v in state.groups.values())
        return fencing or wrong or not state.runner_up

    def on_deadline(self, now_ns: int, *, fencing: bool) -> None:
        """Order the reading that is due."""
        for order in self.monitor.on_deadline(now_ns, paused=self._paused(fencing)):
            self._state.out.append(
                RunFence(order.order_id, order.target, order.level, order.device, order.action, order.attempt, now_ns, order.valid_ms)
            )
        self._tell(now_ns)

    def next_deadline(self, *, fencing: bool) -> int | None:
        """When a reading is due or overdue."""
        return self.monitor.next_deadline(paused=self._paused(fencing))

    def reported(self, now_ns: int, event: FenceReported) -> bool:
        """A reading of ours is over; False if it is another's."""
        if not event.order_id.startswith(ORDER_PREFIX):
            return False
        answer = DeviceReported(
            event.level,
            event.device,
            event.action,
            event.attempt,
            event.outcome,
            event.power,
            event.identity,
            event.took_ms,
            event.detail,
        )
        if self.monitor.reported(now_ns, answer, heard=self._state.contact.on_a_path(now_ns)):
            self._state.publish(f"fence device {event.device}: {event.outcome.value}")
        self._tell(now_ns)
        return True

    def runner_lost(self, now_ns: int) -> None:
        """What was asked will not be answered."""
        self.monitor.runner_lost(now_ns)

    def _tell(self, now_ns: int) -> None:
        """The last level of the peer is gone: critical. A device is not as it should be: warning."""
        found = self.monitor.findings()
        what = "; ".join(f"{f.device}: {f.state.value.replace('_', ' ')}" + (f" ({f.detail})" if f.detail else "") for f in found)
        none_left = bool(self._levels) and not any(self.monitor.usable(level) for level in self._levels)
        gone = f"{self._target} cannot be fenced from here: no level of devices is left: {what}" if none_left else ""
        lost = f"fence devices of {self._target} are not as they should be: {what}" if found and not none_left else ""
        self._troubles.report(now_ns, PAIR_SCOPE, Trouble.FENCE_LEVELS_GONE, gone)
        self._troubles.report(now_ns, PAIR_SCOPE, Trouble.FENCE_DEVICE_LOST, lost)

    def to_json(self, now_ns: int) -> list[JsonValue]:
        """For status."""
        return self.monitor.to_json(now_ns)
