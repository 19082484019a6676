"""What some faults do to a machine, its children, its settings, or by a stranger's or a person's hand; each returns how it ends."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from base.core import NS_PER_MS, NS_PER_S
from watchdog.config.model import Mode
from watchdog.frames.keys import FrameKey
from watchdog.judgement.events import OperatorActed, OperatorAction
from watchdog.simulator.faults import Fault
from watchdog.simulator.options import MACS, NODES, VIPS, switch_name
from watchdog.simulator.process import Life

if TYPE_CHECKING:
    from watchdog.simulator.world import World

Undo = Callable[[], None]
RELOAD_NS = 300 * NS_PER_MS
"""How long braind is away when it is restarted in place."""
SHUTDOWN_STEP_NS = 300 * NS_PER_MS
"""Between two units that systemd stops one after the other."""
ACTIONS = {"vouch": OperatorAction.CONFIRM_OFF, "order-off": OperatorAction.FENCE_OFF}


def nothing() -> None:
    """A fault that has no end."""


class Strikes:
    """Carries out one fault after the other."""

    def __init__(self, world: World) -> None:
        self._world = world

    def begin(self, fault: Fault) -> Undo:
        """Let it happen; returns what ends it."""
        match fault.verb:
            case "forge" | "flood" | "replay":
                return self._stranger(fault)
            case "suspend" | "freeze":
                return self._hold_machine(fault)
            case "shutdown":
                return self._shut_down(fault.node)
            case "kill-child" | "fill-disk":
                return self._strike_child(fault)
            case "device-time":
                return self._pace(fault)
            case "hand-address":
                kernel = self._world.machines[fault.node].kernel
                kernel.add(VIPS[:1])
                return lambda: kernel.remove(VIPS[:1])
            case "move-gateway":
                gateway = self._world.gateways["gateway"]
                gateway.mac = "02:00:00:00:01:fe"
                return lambda: setattr(gateway, "mac", MACS["gateway"])
            case "lose-witness" | "slow-witness":
                return self._strike_witness(fault)
            case "set":
                return self._change_settings(fault)
            case "revert":
                self._revert_later(fault)
            case "vouch" | "clear" | "order-off":
                self._operate(fault)
        return nothing

    # ---- a stranger -----------------------------------------------------------------------------------------------------------

    def _stranger(self, fault: Fault) -> Undo:
        stranger, node = self._world.stranger, fault.node
        match fault.verb, fault.link:
            case "flood", _:
                return stranger.repeatedly(stranger.flood)
            case "replay", _:
                return stranger.repeatedly(lambda: stranger.replay(node))
            case _, "arp":
                return stranger.repeatedly(lambda: stranger.forge_arp(node))
            case _, "gateway":
                return stranger.answer_for_gateway(node)
        return stranger.repeatedly(lambda: stranger.forge_adverts(node, 0 if fault.link == "goodbye" else 1))

    # ---- a machine ------------------------------------------------------------------------------------------------------------

    def _hold_machine(self, fault: Fault) -> Undo:
        """Nothing of the machine runs, its kernel neither; a paused VM's CLOCK_BOOTTIME stands still, a sleeping machine's does not."""
        world, node = self._world, fault.node
        kernel, brain = world.machines[node].kernel, world.brains[node]
        boots, since_ns = kernel.boots, world.scheduler.now_ns
        held = [(process, process.starts) for process in (world.vrrp[node], brain) if process.life is not Life.DEAD]
        kernel.frozen += 1
        brain.hung = True
        for process, _ in held:
            process.pause()
        world.owners_may_have_changed()

        def wake() -> None:
            if kernel.boots != boots or not kernel.powered:
                return
            kernel.frozen = max(0, kernel.frozen - 1)
            if fault.verb == "freeze":
                kernel.boot_at_ns += world.scheduler.now_ns - since_ns
            brain.hung = False
            brain.recorder.wake()
            for process, starts in held:
                if process.starts == starts:
                    process.resume()

        return wake

    def _shut_down(self, node: str) -> Undo:
        """systemd stops braind (it is ordered after the VRRP daemon at start), then the VRRP daemon, then the power goes."""
        world = self._world
        world.brains[node].machine_ends = True
        world.brains[node].stop(graceful=True)
        world.scheduler.after(SHUTDOWN_STEP_NS, lambda: world.vrrp[node].stop(graceful=True))
        world.scheduler.after(2 * SHUTDOWN_STEP_NS, world.power_off, node, "shut down in order")
        return lambda: world.power_on(node)

    def _revert_later(self, fault: Fault) -> None:
        """A VM goes back to what it was ``value`` s ago. The snapshot is taken now, the machine goes back that much later."""
        world, node = self._world, fault.node
        kernel, brain, vrrp = world.machines[node].kernel, world.brains[node], world.vrrp[node]
        if brain.core is None or not kernel.powered:
            return
        shared = {id(thing): thing for thing in (brain.settings, *_keys(brain.core))}
        core, instances = copy.deepcopy((brain.core, vrrp.instances), shared)
        rows = list(brain.recorder.rows)
        addresses, wanted, local_ns = dict(kernel.addresses), dict(brain.wanted_gates), kernel.now_ns()
        incarnation, boots = brain.recorder.incarnation, kernel.boots

        def revert() -> None:
            if kernel.boots != boots or not kernel.powered or brain.life is Life.DEAD or vrrp.life is Life.DEAD:
                return
            world.note(node, "reverted to its snapshot")
            kernel.boot_at_ns = world.scheduler.now_ns - local_ns
            brain.revert(core, wanted, rows, incarnation)
            vrrp.revert(instances)
            kernel.addresses = addresses
            world.owners_may_have_changed()

        world.scheduler.after(fault.value * NS_PER_S, revert)

    # ---- braind's children, its devices, its settings ---------------------------------------------------------------------------

    def _strike_child(self, fault: Fault) -> Undo:
        brain = self._world.brains[fault.node]
        if fault.verb == "fill-disk":
            brain.recorder.full += 1
            return lambda: setattr(brain.recorder, "full", max(0, brain.recorder.full - 1))
        child = brain.recorder if fault.link == "recorder" else brain.runner
        child.killed()
        return child.restarted

    def _strike_witness(self, fault: Fault) -> Undo:
        witness = self._world.witness
        nodes = [fault.node] if fault.node else list(NODES)
        if fault.verb == "slow-witness":
            witness.slow += 1
            return lambda: setattr(witness, "slow", witness.slow - 1)
        for node in nodes:
            witness.lost[node] += 1

        def found() -> None:
            for node in nodes:
                witness.lost[node] -= 1

        return found

    def _pace(self, fault: Fault) -> Undo:
        switch = self._world.switches.get(switch_name(fault.node, fault.level))
        if switch is None:
            return nothing
        attribute = "acts_in_ms" if fault.link == "acts" else "reads_in_ms"
        setattr(switch, attribute, fault.value)
        return lambda: setattr(switch, attribute, 0)

    def _change_settings(self, fault: Fault) -> Undo:
        """Somebody edits brain.toml (or the key) of one node and reloads its braind; the healing phase puts the old file back."""
        brain, key = self._world.brains[fault.node], self._world.keys[fault.node]
        before = brain.settings
        match fault.link:
            case "mode":
                brain.settings = replace(before, policy=replace(before.policy, mode=Mode(fault.word)))
            case "rank":
                ranks = {fault.node: int(fault.word), ("B" if fault.node == "A" else "A"): 3 - int(fault.word)}
                nodes = tuple(replace(node, rank=ranks[node.name]) for node in before.nodes)
                brain.settings = replace(before, nodes=(nodes[0], nodes[1]))
            case "delay":
                brain.settings = replace(before, fence=replace(before.fence, delay_ms=int(fault.word)))
            case "key":
                self._world.keys[fault.node] = b"another key of the simulator, 32+ bytes: " + fault.word.encode()
        self.restart_braind(fault.node)

        def put_back() -> None:
            brain.settings = before
            self._world.keys[fault.node] = key
            self.restart_braind(fault.node)

        return put_back

    def restart_braind(self, node: str) -> None:
        """A reload: braind ends in order and is back a moment later."""
        brain = self._world.brains[node]
        if brain.life is Life.DEAD:
            return
        brain.stop(graceful=True)
        self._world.scheduler.after(RELOAD_NS, brain.start)

    # ---- a person -----------------------------------------------------------------------------------------------------------------

    def _operate(self, fault: Fault) -> None:
        brain = self._world.brains[fault.node]
        peer = next(name for name in NODES if name != fault.node)
        if fault.verb == "clear":
            for action in (OperatorAction.CLEAR_LATCH, OperatorAction.CLEAR_QUARANTINE):
                brain.operator(OperatorActed(action, "simulated operator"))
            return
        brain.operator(OperatorActed(ACTIONS[fault.verb], "simulated operator", peer))


def _keys(core: object) -> list[object]:
    """Every FrameKey that a core holds: they cannot be copied, and need not be."""
    found: list[object] = []
    seen: set[int] = set()
    todo = [core]
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, int | str | bytes | float | type(None)):
            continue
        seen.add(id(thing))
        if isinstance(thing, FrameKey):
            found.append(thing)
        elif isinstance(thing, dict):
            todo += [*thing.keys(), *thing.values()]
        elif isinstance(thing, list | tuple | set):
            todo += list(thing)
        elif type(thing).__module__.startswith(("watchdog.", "fencing.")):
            slots = [name for cls in type(thing).__mro__ for name in getattr(cls, "__slots__", ())]
            todo += [getattr(thing, name) for name in slots if hasattr(thing, name)]
            todo += list(getattr(thing, "__dict__", {}).values())
    return found
