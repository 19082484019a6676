"""Power switches and the fence runner that talks to them over the management network.

A switch may be slow, late, unreachable, refuse, lie about the action, or lie about action and status alike.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from base.core import NS_PER_MS
from fencing.plan.events import DeviceOutcome, PowerState
from watchdog.judgement.commands import RunFence
from watchdog.judgement.events import FenceReported, FenceRunnerChanged

if TYPE_CHECKING:
    from watchdog.simulator.watcherhost import BrainHost
    from watchdog.simulator.world import World


class Habit(Enum):
    """How a switch behaves."""

    HONEST = "honest"
    SLOW = "slow"
    LATE = "late"
    UNREACHABLE = "unreachable"
    REFUSES = "refuses"
    BUSY = "busy"
    WRONG_OUTLET = "wrong-outlet"
    SHARED_OUTLET = "shared-outlet"
    LIES = "lies"
    LIES_ALWAYS = "lies-always"


class PowerSwitch:
    """One device that can turn one machine off: its address on the management network is reachable or not per node."""

    def __init__(self, world: World, name: str, target: str, level: int, identity: str) -> None:
        self._world = world
        self.name = name
        self.target = target
        self.level = level
        self.identity = identity
        self.habit = Habit.HONEST
        self.acts_in_ms = 0
        self.reads_in_ms = 0
        """Fixed times of an act and of a reading; 0: drawn each time."""
        self._claims_off = False

    def took_ms(self, action: str = "off") -> int:
        """How long one call takes this time."""
        rng = self._world.streams.of(f"switch/{self.name}")
        fixed_ms = self.reads_in_ms if action == "status" else self.acts_in_ms
        if fixed_ms:
            return fixed_ms
        return rng.randint(2_000, 4_500) if self.habit is Habit.SLOW else rng.randint(20, 250)

    def act(self, by: str, action: str) -> tuple[DeviceOutcome, PowerState]:
        """The command reaches the device: what it answers. Its effect on the machine happens here."""
        if self.habit is Habit.REFUSES:
            return (DeviceOutcome.DENIED if action == "off" else DeviceOutcome.SUCCESS), self._status()
        if self.habit is Habit.BUSY:
            return DeviceOutcome.FAILURE, PowerState.UNKNOWN
        if action == "status":
            return DeviceOutcome.SUCCESS, self._status()
        if action == "off":
            self._off(by)
        elif action == "on":
            self._claims_off = False
            self._world.power_on(self.target)
        return DeviceOutcome.SUCCESS, PowerState.UNKNOWN

    def act_unheard(self, by: str, action: str) -> None:
        """The command has its effect, and nobody waits for the answer any more."""
        self.act(by, action)

    def _off(self, by: str) -> None:
        self._claims_off = True
        if self.habit is Habit.LATE:
            self._world.scheduler.after(1_200 * NS_PER_MS, self._world.power_off, self.target, f"fenced by {by}")
        elif self.habit not in (Habit.LIES, Habit.LIES_ALWAYS):
            other = "B" if self.target == "A" else "A"
            if self.habit is not Habit.WRONG_OUTLET:
                self._world.power_off(self.target, f"fenced by {by}")
            if self.habit in (Habit.WRONG_OUTLET, Habit.SHARED_OUTLET):
                self._world.power_off(other, "on the outlet of the other node")

    def _status(self) -> PowerState:
        if self.habit is Habit.LIES_ALWAYS and self._claims_off:
            return PowerState.OFF
        return PowerState.ON if self._world.machines[self.target].kernel.powered else PowerState.OFF

    def forget(self) -> None:
        """A person repaired the device."""
        self.habit = Habit.HONEST
        self._claims_off = False
        self.acts_in_ms = self.reads_in_ms = 0


class FenceRunner:
    """The fence runner process of one node. It begins a device command once, and refuses an order that grew too old."""

    def __init__(self, world: World, brain: BrainHost) -> None:
        self._world = world
        self._brain = brain
        self._incarnation = 0
        self.gone = 0
        """Faults that hold the runner process itself dead."""
        self._rng = world.streams.of(f"{brain.kernel.name}/runner")

    def died(self) -> None:
        """The process is gone; what it began at a device goes on without it."""
        self._incarnation += 1

    def killed(self) -> None:
        """SIGKILL of the runner alone; braind sees it go."""
        self._incarnation += 1
        self.gone += 1
        self._brain.post(FenceRunnerChanged(False, "killed"))

    def restarted(self) -> None:
        """braind started it again."""
        self.gone -= 1
        if not self.gone:
            self._brain.post(FenceRunnerChanged(True))

    def run(self, command: RunFence) -> None:
        """Take an order; begin after the time that a pipe and a wake-up take."""
        self._world.scheduler.after(int(self._rng.random() * 5 * NS_PER_MS) + NS_PER_MS, self._begin, command, self._incarnation)

    def _begin(self, command: RunFence, incarnation: int) -> None:
        if incarnation != self._incarnation or not self._brain.kernel.powered or self.gone:
            return
        if self._brain.hung:
            self._world.scheduler.after(100 * NS_PER_MS, self._begin, command, incarnation)
            return
        node = self._brain.kernel.name
        if self._brain.kernel.now_ns() - command.issued_ns > command.valid_ms * NS_PER_MS:
            self._report(command, incarnation, DeviceOutcome.STALE_ORDER, PowerState.UNKNOWN, "", 0)
            return
        switch = self._world.switches.get(command.device)
        if switch is None or switch.target != command.target:
            self._report(command, incarnation, DeviceOutcome.UNKNOWN_TARGET, PowerState.UNKNOWN, "", 0)
            return
        self._world.device_called(node, switch, command)
        if self._world.management_cut[node] or switch.habit is Habit.UNREACHABLE:
            wait_ms = min(1_500, self._world.options.device_deadline_ms)
            self._world.scheduler.after(
                wait_ms * NS_PER_MS, self._report, command, incarnation, DeviceOutcome.UNREACHABLE, PowerState.UNKNOWN, "", wait_ms
            )
            return
        took_ms = switch.took_ms(command.action)
        if took_ms > self._world.options.device_deadline_ms:
            late_ms = self._world.options.device_deadline_ms
            self._world.scheduler.after(
                late_ms * NS_PER_MS, self._report, command, incarnation, DeviceOutcome.TIMEOUT, PowerState.UNKNOWN, "", late_ms
            )
            self._world.scheduler.after(took_ms * NS_PER_MS, switch.act_unheard, node, command.action)
            return
        self._world.scheduler.after(took_ms * NS_PER_MS, self._reach, command, incarnation, switch, took_ms)

    def _reach(self, command: RunFence, incarnation: int, switch: PowerSwitch, took_ms: int) -> None:
        outcome, power = switch.act(self._brain.kernel.name, command.action)
        if command.action != "status":
            power = PowerState.UNKNOWN
        self._report(command, incarnation, outcome, power, switch.identity, took_ms)

    def _report(self, command: RunFence, incarnation: int, outcome: DeviceOutcome, power: PowerState, identity: str, took_ms: int) -> None:
        if incarnation != self._incarnation or not self._brain.kernel.powered:
            return
        report = FenceReported(
            order_id=command.order_id,
            level=command.level,
            device=command.device,
            action=command.action,
            outcome=outcome,
            power=power,
            identity=identity,
            took_ms=took_ms,
            detail="simulated",
            attempt=command.attempt,
        )
        self._brain.post(report, NS_PER_MS)
