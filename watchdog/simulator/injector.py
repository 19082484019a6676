"""Lets things go wrong in a world, and repairs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from base.core import NS_PER_MS, NS_PER_S
from watchdog.judgement.events import OperatorActed, OperatorAction
from watchdog.simulator.faults import ON_FENCE, ON_INTENT, Fault
from watchdog.simulator.network import Impairment
from watchdog.simulator.options import NODES, VIPS, switch_name
from watchdog.simulator.power import Habit
from watchdog.simulator.process import Life, Process
from watchdog.simulator.strikes import Strikes

if TYPE_CHECKING:
    from watchdog.simulator.world import World

PASSING = ("device", "device-time", "step-clock", "reload", "handover", "vouch", "clear", "order-off", "turn-on")
"""Verbs that hold nothing down by themselves while the pair is in order."""
OPERATOR_AFTER_NS = 3 * NS_PER_S
"""How long after the repair a person turns machines on and clears quarantine, latch and maintenance."""
MOMENT_NS = {ON_FENCE: 400 * NS_PER_MS, ON_INTENT: 100 * NS_PER_MS}
"""How long after the moment such a fault may strike."""
OPERATOR_AGAIN_NS = 8 * NS_PER_S
OPERATOR_ROUNDS = 3


class FaultInjector:
    """Applies the faults of a run at their time; each knows how it ends."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._undo: list[Callable[[], None]] = []
        self.active = 0
        self.lasting: list[Fault] = []
        """Faults that hold something down right now."""
        self._strikes = Strikes(world)
        self._waiting = [fault for fault in world.options.faults if fault.at_ns < 0]

    def schedule(self) -> None:
        """Put every fault that has a time on the clock."""
        for fault in self._world.options.faults:
            if fault.at_ns >= 0:
                self._world.scheduler.story(fault.at_ns, self.apply, fault)

    def moment(self, moment_ns: int, node: str) -> None:
        """ON_FENCE or ON_INTENT has come: the faults that waited for it strike the node that fences, whichever was named."""
        due = [fault for fault in self._waiting if fault.at_ns == moment_ns]
        self._waiting = [fault for fault in self._waiting if fault.at_ns != moment_ns]
        rng = self._world.streams.of("moment")
        for fault in due:
            fitted = replace(fault, at_ns=self._world.scheduler.now_ns, node=node)
            self._world.scheduler.after(int(rng.random() * MOMENT_NS[moment_ns]), self.apply, fitted)

    def apply(self, fault: Fault) -> None:
        """Let it go wrong, and arrange for its end."""
        if self._world.healing:
            return
        self._world.note("fault", str(fault))
        for checker in self._world.checkers:
            checker.fault(fault)
        undo = self._begin(fault)
        lasts = fault.verb not in PASSING
        self.active += lasts
        if lasts:
            self.lasting.append(fault)
        done = [False]

        def end() -> None:
            if not done[0]:
                done[0] = True
                self.active -= lasts
                if lasts:
                    self.lasting.remove(fault)
                self._world.note("fault", f"over: {fault.text}")
                undo()
                self._world.owners_may_have_changed()

        self._undo.append(end)
        if fault.for_ns:
            self._world.scheduler.after(fault.for_ns, end)
        self._world.owners_may_have_changed()

    def _begin(self, fault: Fault) -> Callable[[], None]:
        match fault.verb:
            case "cut":
                return self._cut(fault)
            case "cut-management":
                return self._count_up(self._world.management_cut, fault.node)
            case "pull":
                self._world.machines[fault.node].kernel.set_carrier(fault.link, False)
                return lambda: self._world.machines[fault.node].kernel.set_carrier(fault.link, True)
            case "drop-vrrp" | "lose" | "duplicate" | "corrupt" | "reorder" | "delay":
                return self._impair(fault)
            case "pause" | "kill" | "stop" | "reload" | "crash":
                return self._strike(fault)
            case "heal":
                return self._heal_briefly(fault)
            case "drop-path":
                return self._drop_path(fault)
            case "turn-on":
                self._world.power_on(fault.node)
            case "stall-disk":
                self._world.brains[fault.node].recorder.stall()
                return self._world.brains[fault.node].recorder.unstall
            case "silence":
                for gateway in self._world.gateways.values():
                    gateway.silent += 1
                return self._gateways_speak
            case "device":
                return self._spoil(fault)
            case "foreign":
                self._world.stranger.claim(VIPS[0])
                return self._world.stranger.addresses.clear
            case "handover" | "maintenance":
                return self._operate(fault)
            case "step-clock":
                self._world.wall_offset_ns[fault.node] += fault.value * NS_PER_S
            case _:
                return self._strikes.begin(fault)
        return lambda: None

    def _gateways_speak(self) -> None:
        for gateway in self._world.gateways.values():
            gateway.silent -= 1

    @staticmethod
    def _count_up(counts: dict[str, int], key: str) -> Callable[[], None]:
        counts[key] += 1

        def down() -> None:
            counts[key] -= 1

        return down

    def _links(self, fault: Fault) -> list[Impairment]:
        """The directions between the nodes that a fault means."""
        if fault.link == "everything":
            names: tuple[str, ...] = (*self._world.options.networks, "serial")
        else:
            names = (fault.link,) if fault.link else self._world.options.lan_names
        names = tuple(name for name in names if name == "serial" or name in self._world.segments)
        ways = [(fault.source, fault.target)] if fault.source else [("A", "B"), ("B", "A")]
        return [
            self._world.serial.links[s] if name == "serial" else self._world.segments[name].links[s, t] for name in names for s, t in ways
        ]

    def _cut(self, fault: Fault) -> Callable[[], None]:
        if fault.node and fault.link in self._world.segments:
            port = self._world.segments[fault.link].ports[fault.node]
            port.blocked += 1

            def unblock() -> None:
                port.blocked -= 1

            return unblock
        links = self._links(fault)
        for link in links:
            link.cut += 1

        def mend() -> None:
            for link in links:
                link.cut -= 1

        return mend

    def _heal_briefly(self, fault: Fault) -> Callable[[], None]:
        """Every cut of these links ends, and is there again afterwards if its own end has not come meanwhile."""
        was_cut = [(link, link.cut) for link in self._links(fault)]
        for link, cut in was_cut:
            link.cut -= cut

        def cut_again() -> None:
            for link, cut in was_cut:
                link.cut += cut

        return cut_again

    def _drop_path(self, fault: Fault) -> Callable[[], None]:
        """A firewall drops one kind of traffic on every network, one way or both."""
        links = self._links(replace(fault, link="everything"))
        for link in links:
            link.drop[fault.link] = link.drop.get(fault.link, 0) + 1

        def mend() -> None:
            for link in links:
                link.drop[fault.link] -= 1

        return mend

    def _impair(self, fault: Fault) -> Callable[[], None]:
        attribute, amount = {
            "drop-vrrp": ("drop_vrrp", 1),
            "lose": ("lose_pm", fault.value * 10),
            "duplicate": ("duplicate_pm", fault.value * 10),
            "corrupt": ("corrupt_pm", fault.value * 10),
            "reorder": ("reorder_pm", fault.value * 10),
            "delay": ("delay_ns", fault.value * NS_PER_MS),
        }[fault.verb]
        links = self._links(fault)
        for link in links:
            setattr(link, attribute, getattr(link, attribute) + amount)

        def mend() -> None:
            for link in links:
                setattr(link, attribute, getattr(link, attribute) - amount)

        return mend

    def _processes(self, fault: Fault) -> list[Process]:
        everything: dict[str, list[Process]] = {
            "vrrp": [self._world.vrrp[fault.node]],
            "braind": [self._world.brains[fault.node]],
            "all": [self._world.vrrp[fault.node], self._world.brains[fault.node]],
        }
        return everything[fault.link]

    def _strike(self, fault: Fault) -> Callable[[], None]:
        match fault.verb:
            case "pause":
                return self._pause(fault)
            case "kill":
                processes = self._processes(fault)
                for process in processes:
                    process.stop()

                def start_again() -> None:
                    for process in processes:
                        process.start()

                return start_again
            case "stop":
                for process in self._processes(fault):
                    process.stop(graceful=True)
                return lambda: self._start_again(fault)
            case "crash":
                self._world.power_off(fault.node, "crash")
                return lambda: self._world.power_on(fault.node)
        if fault.link == "braind":
            self._strikes.restart_braind(fault.node)
        else:
            self._world.vrrp[fault.node].reload()
        return lambda: None

    def _start_again(self, fault: Fault) -> None:
        for process in self._processes(fault):
            process.start()

    def _pause(self, fault: Fault) -> Callable[[], None]:
        processes = [process for process in self._processes(fault) if process.life is not Life.DEAD]
        boots = self._world.machines[fault.node].kernel.boots
        brain = self._world.brains[fault.node]
        if fault.link == "all":
            brain.hung = True
        starts = [process.starts for process in processes]
        for process in processes:
            process.pause()

        def resume() -> None:
            if fault.link == "all" and self._world.machines[fault.node].kernel.boots == boots:
                brain.hung = False
                brain.recorder.wake()
            for process, start in zip(processes, starts, strict=True):
                if process.starts == start:
                    process.resume()

        return resume

    def _spoil(self, fault: Fault) -> Callable[[], None]:
        switch = self._world.switches.get(switch_name(fault.node, fault.value))
        if switch is None:
            return lambda: None
        switch.habit = Habit(fault.link)
        return switch.forget

    def _operate(self, fault: Fault) -> Callable[[], None]:
        brain = self._world.brains[fault.node]
        if fault.verb == "handover":
            for group in brain.groups:
                brain.operator(OperatorActed(OperatorAction.HANDOVER, "simulated operator", str(group.key)))
            return lambda: None
        span_ms = (fault.for_ns or self._world.options.safety_ns) // NS_PER_MS
        brain.operator(OperatorActed(OperatorAction.MAINTENANCE_ON, "simulated operator", until_ms=span_ms))
        return lambda: brain.operator(OperatorActed(OperatorAction.MAINTENANCE_OFF, "simulated operator"))

    def heal(self) -> None:
        """Repair everything; a little later a person comes and does what only a person may do."""
        for end in self._undo:
            end()
        self._world.healing = True
        self._waiting.clear()
        self._world.note("fault", "everything is repaired")
        for switch in self._world.switches.values():
            switch.forget()
        for name in NODES:
            self._world.brains[name].hung = False
            self._world.brains[name].recorder.full = 0
            for process in (self._world.vrrp[name], self._world.brains[name]):
                process.resume()
                process.start()
        scheduler = self._world.scheduler
        scheduler.story(scheduler.told_ns + OPERATOR_AFTER_NS, self._operator_comes, OPERATOR_ROUNDS)

    def _operator_comes(self, rounds: int) -> None:
        """Machines that are off are turned on; latch, quarantine and maintenance are cleared; and the person looks once more later:
        a fence that had begun before the repair may have ended after it."""
        for name in NODES:
            self._world.power_on(name)
            for action in (OperatorAction.MAINTENANCE_OFF, OperatorAction.CLEAR_LATCH, OperatorAction.CLEAR_QUARANTINE):
                self._world.brains[name].operator(OperatorActed(action, "simulated operator"))
        if rounds > 1:
            scheduler = self._world.scheduler
            scheduler.story(scheduler.told_ns + OPERATOR_AGAIN_NS, self._operator_comes, rounds - 1)
