"""PURE: takes in what happens to this node and to this daemon's own parts: references, carrier, VRRP daemon, stalls, children."""

from __future__ import annotations

from base.core import NS_PER_MS
from watchdog.config.model import Mode
from watchdog.judgement import events
from watchdog.judgement.agreement import Agreement
from watchdog.judgement.commands import RemoveAddress
from watchdog.judgement.device_watch import DeviceWatch
from watchdog.judgement.fence_control import FenceControl
from watchdog.judgement.gate_keeper import GateKeeper
from watchdog.judgement.group_view import GateReason, GroupView
from watchdog.judgement.hooks import Hooks
from watchdog.judgement.incidents import Trouble
from watchdog.judgement.stages import Stage
from watchdog.judgement.state import WatcherState
from watchdog.judgement.troubles import Troubles
from watchdog.judgement.verdict import PAIR_SCOPE


class NodeIntake:
    """Keeps the surroundings up to date."""

    def __init__(
        self,
        state: WatcherState,
        hooks: Hooks,
        fence: FenceControl,
        troubles: Troubles,
        devices: DeviceWatch,
        agreement: Agreement,
        keeper: GateKeeper,
    ) -> None:
        self._state = state
        self._keeper = keeper
        self._troubles = troubles
        self._devices = devices
        self._hooks = hooks
        self._fence = fence
        self._agreement = agreement

    def reference_answered(self, now_ns: int, event: events.ReferenceAnswered) -> None:
        """A reference target answered."""
        state = self._state
        before = state.surroundings.references_ok(now_ns)
        all_well = state.contact.on_a_path(now_ns) and state.pair.stage is Stage.CLEAR
        counts, learnt = state.surroundings.answered(now_ns, event.name, event.mac, all_well)
        if learnt:
            state.record_node("reference_macs", state.surroundings.pinned())
        if counts:
            self._fence.control_heard(now_ns, event.name)
            if before is not True:
                self._state.touch_all()

    def link_macs_changed(self, now_ns: int, event: events.LinkMacsChanged) -> None:
        """An interface of ours has another MAC: it is our own, and the peer is told."""
        state = self._state
        state.neighbours.set_own(event.macs)
        if event.links != state.link_macs:
            state.link_macs = event.links
            state.beat_wanted = True

    def carrier_changed(self, now_ns: int, event: events.CarrierChanged) -> None:
        """An interface gained or lost carrier."""
        self._state.surroundings.set_carrier(event.interface, event.up)
        if not event.up:
            self._fence.deaf_until(now_ns, f"carrier of {event.interface} lost")
        self._state.beat_wanted = True
        self._state.touch_all()

    def traffic_counted(self, now_ns: int, event: events.TrafficCounted) -> None:
        """What arrived on an interface that serves clients."""
        state = self._state
        state.surroundings.counted(now_ns, event.interface, event.packets)
        if state.surroundings.news(now_ns):
            state.beat_wanted = True
            state.touch_all()

    def daemon_changed(self, now_ns: int, event: events.LocalDaemonChanged) -> None:
        """The local VRRP daemon started, died or hangs."""
        if self._state.surroundings.set_daemon(now_ns, event.state):
            self._state.record_action(PAIR_SCOPE, "local_daemon", event.state.value, event.detail, "observed")
        for view in self._state.groups.values():
            if event.state is not events.DaemonState.RUNNING:
                view.trust.obedience = events.GateObedience.UNKNOWN  # what the next one does must be seen anew
                view.local_state = None
                view.local_priority = None
        self._state.beat_wanted = True
        self._state.touch_all()

    def group_state_reported(self, now_ns: int, event: events.GroupStateReported) -> None:
        """Our own vrrpd told the state of a group."""
        view = self._state.groups.get(event.key)
        if view is not None:
            if (view.local_state, view.local_priority) != (event.state, event.priority):
                self._state.beat_wanted = True
            view.local_state = event.state
            view.local_priority = event.priority
            self._state.touch(view.scope)

    def loop_stalled(self, now_ns: int, event: events.LoopStalled) -> None:
        """Promise 8: stalls. What we believed before, we could not have been told otherwise."""
        state = self._state
        distrust_ns = self._hooks.distrust_ns(event.stalled_ns)
        if distrust_ns <= 0:
            return
        state.ledger.void()
        state.census.void()
        state.surroundings.void()
        state.contact.void(now_ns)
        state.witness.stalled(now_ns)
        state.segment_answered_ns = None
        state.channels.void()
        for view in state.groups.values():
            view.heard = None
            view.report = None
            view.denied_ns = None
        state.trusted_from_ns = max(state.trusted_from_ns, now_ns + distrust_ns)
        self._fence.deaf_until(now_ns, f"this process was stalled for {event.stalled_ns // NS_PER_MS} ms")
        state.record_action(PAIR_SCOPE, "stall", state.settings.self_name, f"{event.stalled_ns // NS_PER_MS} ms", "observed")
        state.census.tick_due_ns = now_ns
        self._state.touch_all()

    def persisted(self, now_ns: int, event: events.Persisted) -> None:
        """The recorder has committed a barrier."""
        self._agreement.persisted(event.barrier)
        self._fence.persisted(now_ns, event.barrier)

    def recorder_changed(self, now_ns: int, event: events.RecorderChanged) -> None:
        """The recorder came up or went away: without it nothing is durable and nothing is fenced."""
        self._state.recorder_up = event.up
        what = f"{self._state.settings.self_name} cannot write its record: nothing will be fenced ({event.reason or 'no recorder'})"
        self._troubles.report(now_ns, PAIR_SCOPE, Trouble.RECORD_SICK, "" if event.up else what)
        self._state.touch(PAIR_SCOPE)

    def record_space_changed(self, now_ns: int, event: events.RecordSpaceChanged) -> None:
        """The state directory's disk is nearly full, or has room again: told while it can still be mended."""
        what = f"the disk of the record on {self._state.settings.self_name} is nearly full: {event.free_bytes >> 20} MiB left"
        details = "without room nothing is durable, and without durability nothing is fenced: make room in the state directory"
        self._troubles.report(now_ns, PAIR_SCOPE, Trouble.DISK_LOW, what if event.low else "", details)

    def fence_runner_changed(self, now_ns: int, event: events.FenceRunnerChanged) -> None:
        """The fence runner is armed, or gone with whatever it was doing."""
        self._state.runner_up = event.up
        if not event.up:
            self._devices.runner_lost(now_ns)
            self._fence.runner_lost(now_ns, event.reason or "the fence runner is gone")
        self._state.touch(PAIR_SCOPE)

    def fence_reported(self, now_ns: int, event: events.FenceReported) -> None:
        """The runner finished one device action."""
        if not self._devices.reported(now_ns, event):
            self._fence.reported(now_ns, event)

    def command_failed(self, now_ns: int, event: events.CommandFailed) -> None:
        """The shell could not do something: counted, and recorded ever more rarely."""
        failures = self._state.failures
        failures[event.command] = failures.get(event.command, 0) + 1
        if failures[event.command] & (failures[event.command] - 1) == 0:  # the 1st, 2nd, 4th, 8th …
            self._state.record_action(PAIR_SCOPE, "command_failed", event.command, event.detail, "failed")

    def stopping(self, now_ns: int, event: events.Stopping) -> None:
        """This daemon ends in an orderly way: the peer is told, so that our silence is no alarm. One that will be back at once does not
        count as gone: it may go on serving."""
        self._state.stopping = not event.restarting
        self._state.restarting = event.restarting
        if self._state.stopping and self._state.mode is Mode.STRICT:
            for view in self._state.groups.values():
                if event.shutdown or not view.own:
                    self._release_for_good(now_ns, view)
        self._state.record_node("clean_stop", True)
        self._state.record_node("ended_in_order", True)
        self._state.beat_wanted = True

    def _release_for_good(self, now_ns: int, view: GroupView) -> None:
        """strict: the gate of what we do not own is shut before we go, and so the peer may count it as released (gate_keeper.py); at a
        shutdown of the machine we let go of what we own, because nobody could say later that the daemon has."""
        self._keeper.hold(now_ns, view, GateReason.STRICT, "braind stops in order: released for good")
        for at in view.held:
            self._state.out.append(RemoveAddress(at.interface, at.address, "this machine is shut down"))
