"""Negative controls: braind with one judgement spoiled. A demo that still succeeds with them would prove nothing.

The product has no switch for any of this: the altered cores override decision points of the watcher (watchdog/judgement/hooks.py).
Run as ``python -m brainctl.demo.sabotage NAME [braind's options]``.
"""

from __future__ import annotations

import sys

from fencing.plan.commands import FenceFinished, FenceState, RecordState
from fencing.plan.events import DeviceOutcome
from fencing.plan.interlocks import Interlock
from watchdog import daemon
from watchdog.judgement.commands import WatcherCommand
from watchdog.judgement.events import FenceReported, OwnerClaimed, WatcherEvent
from watchdog.judgement.group_view import GroupView
from watchdog.judgement.watcher import WatcherCore


class NoCensus(WatcherCore):
    """Never asks the segment who owns an address, and does not listen when somebody says so."""

    def census_needed(self, now_ns: int, view: GroupView) -> bool:
        """Never."""
        return False

    def handle(self, now_ns: int, event: WatcherEvent) -> list[WatcherCommand]:
        """Deaf to claims."""
        return [] if isinstance(event, OwnerClaimed) else super().handle(now_ns, event)


class NoYield(WatcherCore):
    """Asked to give a group up, it keeps it."""

    def should_yield(self, now_ns: int, view: GroupView) -> bool:
        """Never."""
        return False


class NoFence(WatcherCore):
    """Never fences, whatever happens."""

    def may_fence(self, now_ns: int) -> tuple[Interlock, ...]:
        """Always forbidden."""
        return (Interlock.DISABLED,)


class TrustAgent(WatcherCore):
    """Takes a fence agent's exit code for a proof, as Pacemaker does."""

    def handle(self, now_ns: int, event: WatcherEvent) -> list[WatcherCommand]:
        """Ends the fence as proved when the agent says done."""
        if isinstance(event, FenceReported) and event.action == "off" and event.outcome is DeviceOutcome.SUCCESS:
            session = self.fence.session
            if session is not None and event.order_id == session.order_id:
                said = f"{event.device} says done"
                record = RecordState(event.order_id, session.target, event.level, FenceState.PROVED, said)
                self.fence._run(now_ns, [record, FenceFinished(event.order_id, session.target, event.level, FenceState.PROVED, said)])
        return super().handle(now_ns, event)


class ShootsTheSilent(WatcherCore):
    """Takes a watcher that is away for a node that is dead, and looks at nothing else."""

    def on_deadline(self, now_ns: int) -> list[WatcherCommand]:
        """No heartbeat: off with it."""
        contact = None if self._state is None else self._state.contact
        if contact is not None and contact.ever_heard and not contact.on_a_path(now_ns) and self.fence.session is None:
            self.fence.order_off(now_ns, "a spoiled judgement")
        return super().on_deadline(now_ns)


SABOTAGES: dict[str, type[WatcherCore]] = {
    "no-census": NoCensus,
    "no-yield": NoYield,
    "no-fence": NoFence,
    "trust-agent": TrustAgent,
    "shoots-the-silent": ShootsTheSilent,
}

MUST_FAIL: dict[str, tuple[str, ...]] = {
    "no-census": ("foreign",),
    "no-yield": ("cut-heartbeat", "cut-ethernet-serial-alive", "one-way"),
    "no-fence": ("cut-everything", "hang-all", "orphan-all"),
    "trust-agent": ("lying-fence",),
    "shoots-the-silent": ("watcher-crashes", "watcher-dies"),
}
"""Scenarios that must fail under each sabotage (with keepalived, mode resolve)."""


def main() -> int:
    """Run braind with the altered core."""
    name, *options = sys.argv[1:]
    return daemon.main(options, core_factory=SABOTAGES[name])


if __name__ == "__main__":
    sys.exit(main())
