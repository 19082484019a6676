"""``braind``: the watcher process. Assembles senses, core, hands and children, and runs the pump.

Everything here is plumbing: what happened becomes an event for the core (watchdog/judgement/watcher.py), what the core answers is carried
out in order.
The watcher does no disk I/O and imports nothing heavy after it has started; the recorder, the fence runner and the delivery are its
children (watchdog/children.py).
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from base.clock import boot_id, now_ns, wall_ns
from base.control import Client, ControlServer, RequestError
from base.core import NS_PER_MS, NS_PER_S
from base.diagnostics import ConfigError
from base.journal import Journal
from base.log import Log
from base.pump import Pump
from base.secrets import SecretError, read_secret_file
from base.signals import SignalReader
from base.systemd import ServiceManager
from base.turn_meter import TurnMeter
from watchdog import observer
from watchdog.children import Children
from watchdog.config.load import LoadedBrain, load_brain
from watchdog.config_watch import ConfigWatch
from watchdog.durable import LastRun, read_last_run, write_run
from watchdog.enrolled import with_enrolment
from watchdog.gate import Gate, VrrpdGate
from watchdog.groups import LoadedGroups, read_groups
from watchdog.hardware_watchdog import HardwareWatchdog, HardwareWatchdogError
from watchdog.judgement.commands import (
    AcknowledgeAlerts,
    Announce,
    BridgeAdvert,
    OperateWatchdog,
    Persist,
    ProbeOwners,
    ProbeReference,
    PublishStatus,
    ReleaseLease,
    RemoveAddress,
    RequestLease,
    RowKind,
    RunFence,
    SendFrame,
    SetGate,
    WatcherCommand,
)
from watchdog.judgement.durable_facts import durable_facts
from watchdog.judgement.events import (
    CommandFailed,
    GroupsChanged,
    LoopStalled,
    OperatorActed,
    OperatorAction,
    Started,
    Stopping,
    WatchdogChanged,
    WatcherEvent,
)
from watchdog.judgement.self_fence import WatchdogOrder
from watchdog.judgement.watcher import WatcherCore
from watchdog.keepalived_gate import KeepalivedGate
from watchdog.record.messages import Restored
from watchdog.senses import Senses
from watchdog.service import Service, machine_goes_down
from watchdog.witness.child import WitnessChild

RESTORE_TIMEOUT_NS = 10 * NS_PER_S
STOP_GRACE_NS = 500 * NS_PER_MS
MAX_INBOX = 10_000
CoreFactory = Callable[..., WatcherCore]


def parser() -> argparse.ArgumentParser:
    """The command line of braind."""
    p = argparse.ArgumentParser(prog="braind", description="Watches this node and its peer for split brain. Stays in the foreground.")
    p.add_argument("--config", help="brain.toml, or watch.toml with --watch-only (in /etc/brainctl)")
    p.add_argument("--node", help="name of this node (default: the host name)")
    p.add_argument("--run-dir", default="/run/brainctl", help="control socket and gate (%(default)s)")
    p.add_argument("--state-dir", default="/var/lib/brainctl", help="record and durable state (%(default)s)")
    p.add_argument("--log-json", action="store_true", help="log one JSON object a line")
    p.add_argument("--test", action="store_true", help="check the configuration and exit")
    p.add_argument("--watch-only", action="store_true", help="a third host: judge the pairs of watch.toml, page, act on nobody")
    return p


class Daemon:
    """One running watcher."""

    def __init__(
        self, options: argparse.Namespace, loaded: LoadedBrain, groups: LoadedGroups, key: bytes, log: Log, core_factory: CoreFactory
    ) -> None:
        self.options, self.log = options, log
        self._core_factory = core_factory
        self._inbox: deque[WatcherEvent] = deque()
        self._busy = False
        self._started = False
        self._reloading = False
        self._stop_at_ns: int | None = None
        self._run = LastRun()
        self._subscribers: list[Client] = []
        self.hardware: HardwareWatchdog | None = None
        self.started_ns = now_ns()
        brain = loaded.settings
        self.pump = Pump(
            next_deadline=self._next_deadline,
            on_deadline=self._on_deadline,
            on_stall=self._on_stall,
            stall_ns=brain.policy.stall_ms * NS_PER_MS,
        )
        self.children = Children(self.pump, brain, brain.fence, options.state_dir, self.feed, log)
        self.service = Service(ServiceManager())
        self._build(loaded, groups, key)
        self.control = ControlServer(
            self.pump,
            os.path.join(options.run_dir, "braind.sock"),
            {
                "status": (self._op_status, False),
                "subscribe": (self._op_subscribe, False),
                "journal": (self._op_journal, True),
                "operate": (self._op_operate, True),
            },
        )

    def _build(self, loaded: LoadedBrain, groups: LoadedGroups, key: bytes) -> None:
        """Everything that a configuration makes: core, senses, gate, witness. The children and the control socket outlive a reload."""
        brain = self.brain = loaded.settings
        self.groups = groups
        self.core = self._core_factory(brain, key=key)
        self.journal = Journal()
        self.meter = self.pump.meter = TurnMeter(self._on_slow_turn)
        self.gate: Gate = (
            VrrpdGate(self.pump, brain.gate, self.feed)
            if brain.gate.daemon == "vrrpd"
            else KeepalivedGate(brain.gate, brain.policy.mode, self.feed)
        )
        self.senses = Senses(self.pump, brain, groups, self.feed, self.log)
        self.config_watch = ConfigWatch(brain.gate.config, groups, self._groups_changed, self._groups_refused)
        self.witness = WitnessChild(self.pump, brain, self.feed, self.log)
        self._parts = (self.gate, self.senses, self.children, self.witness, self.config_watch, self.service)
        self._hands: dict[type, Callable[[Any], None]] = {
            SendFrame: self.senses.send_frame,
            ProbeOwners: self.senses.probe_owners,
            ProbeReference: self.senses.probe_reference,
            Announce: self.senses.announce,
            RemoveAddress: self.senses.remove_address,
            SetGate: self.gate.set_gate,
            BridgeAdvert: self.gate.bridge,
            Persist: self._persist,
            RunFence: self.children.run_fence,
            AcknowledgeAlerts: lambda command: self.children.acknowledged(command.incident, command.who),
            RequestLease: self.witness.request,
            ReleaseLease: self.witness.release,
            OperateWatchdog: self._operate_watchdog,
            PublishStatus: self._publish,
        }

    # ---- events in, commands out --------------------------------------------------------------------------------------

    def feed(self, event: WatcherEvent) -> None:
        """Queue an event; it is handled before the pump goes on. Executing a command may cause further events: they wait their turn."""
        if len(self._inbox) >= MAX_INBOX:
            self.log.limited("inbox", "event dropped: the inbox is full", event=type(event).__name__)
            return
        self._inbox.append(event)
        if not self._busy and self._started:
            self._work()

    def _work(self) -> None:
        self._busy = True
        try:
            while self._inbox:
                event = self._inbox.popleft()
                at_ns = now_ns()
                self._carry_out(at_ns, event, self.core.handle(at_ns, event))
        finally:
            self._busy = False

    def _carry_out(self, at_ns: int, event: WatcherEvent | None, commands: list[WatcherCommand]) -> None:
        self.journal.note(at_ns, event, commands)
        for command in commands:
            self._hands[type(command)](command)

    def _next_deadline(self) -> int | None:
        deadlines = [d for part in (*self._parts, self.senses.capture) if (d := part.next_deadline()) is not None]
        if self._started and (own := self.core.next_deadline()) is not None:
            deadlines.append(own)
        if self._stop_at_ns is not None:
            deadlines.append(self._stop_at_ns)
        return min(deadlines, default=None)

    def _on_deadline(self, at_ns: int) -> None:
        for part in self._parts:
            self.meter.call(part.on_deadline, at_ns)
        for message in self.senses.capture.due(at_ns):
            self.children.record_packets(message)
        if self._stop_at_ns is not None and at_ns >= self._stop_at_ns:
            self.pump.stop()
            return
        due = self.core.next_deadline() if self._started else None
        if due is not None and due <= at_ns and not self._busy:
            self._busy = True
            try:
                self._carry_out(at_ns, None, self.core.on_deadline(at_ns))
            finally:
                self._busy = False
            self._work()

    def _on_slow_turn(self, handler: str, took_ns: int) -> None:
        self.log.limited("slow turn", "a turn of the loop took long", handler=handler, took_ms=took_ns // NS_PER_MS)

    def _on_stall(self, _at_ns: int, stalled_ns: int) -> None:
        self.log.warning("this process did not run", stalled_ms=stalled_ns // NS_PER_MS)
        self.feed(LoopStalled(stalled_ns))

    def _persist(self, command: Persist) -> None:
        self.children.persist(command)
        for row in command.rows:
            fields = dict(row.fields)
            if row.kind is RowKind.INCIDENT and fields.get("state") == "open":
                self.children.record_packets(self.senses.capture.open_incident(str(fields.get("id"))))

    def _operate_watchdog(self, command: OperateWatchdog) -> None:
        """Promise 3c. An open device stays open over a reload in place: closing it would not stop its clock."""
        if command.order is WatchdogOrder.DISARM:
            if self.hardware is not None:
                self.hardware.disarm()
                self.hardware = None
            return
        try:
            if self.hardware is not None and (self.hardware.path, self.hardware.timeout_s) != (command.device, command.timeout_s):
                self.hardware.disarm()
                self.hardware = None
            if self.hardware is None:
                self.hardware = HardwareWatchdog(command.device, command.timeout_s)
            self.hardware.feed()
        except (HardwareWatchdogError, OSError) as error:
            self.log.error("hardware watchdog", error=str(error))
            self.feed(WatchdogChanged(False, str(error)))
            return
        if command.order is WatchdogOrder.ARM:
            self.feed(WatchdogChanged(True))

    def _publish(self, command: PublishStatus) -> None:
        self.log.info(command.summary)
        for client in list(self._subscribers):
            if not client.push({"event": "status", "summary": command.summary}):
                self._subscribers.remove(client)

    # ---- configuration ------------------------------------------------------------------------------------------------

    def _groups_changed(self, loaded: LoadedGroups) -> None:
        self.log.info("keepalived.conf changed", groups=len(loaded.groups))
        self.groups = loaded
        self.senses.watch_groups(loaded)
        self.gate.watch_groups(loaded)
        self.feed(GroupsChanged(loaded.groups))

    def _groups_refused(self, diagnostics: tuple[Any, ...]) -> None:
        for diagnostic in diagnostics[:20]:
            self.log.error(f"keepalived.conf: {diagnostic}")
        self.feed(CommandFailed("read keepalived.conf", str(diagnostics[0]) if diagnostics else "unreadable"))

    def reload(self) -> None:
        """SIGHUP: a valid new brain.toml puts a new watcher in this one's place; an invalid one changes nothing.

        The old watcher goes on until the recorder has told what is durable; then it says that it restarts, and within some ms the new one
        speaks. The recorder and its open database stay. A new *version* of the program takes a restart of the service.
        """
        if self._reloading or self._stop_at_ns is not None:
            return
        try:
            prepared = prepare(self.options)
        except (ConfigError, SecretError) as error:
            self.log.error(f"reload refused, nothing changed: {error}")
            return
        if self.children.fence_underway:
            self.log.error("reload refused: a fence is under way; try again when it has ended")
            return
        self.log.info("configuration is valid; taking it over")
        self.service.reloading()
        self._reloading = True
        self.children.restore_again(
            self._run.incarnation + 1, lambda restored: self.pump.call_soon(lambda: self._swap(*prepared, restored))
        )

    def _swap(self, loaded: LoadedBrain, groups: LoadedGroups, key: bytes, restored: Restored) -> None:
        """The new watcher in the place of the old one; the peer hears RESTARTING last from the old one."""
        self._reloading = False
        if self._stop_at_ns is not None or not restored.durable or self.children.fence_underway:
            self.log.error(f"reload refused, nothing changed: {restored.problem or 'a fence or a stop came between'}")
            self.service.started(now_ns())
            return
        self.feed(Stopping(restarting=True))
        self._started = False
        self._close_watch()
        self._inbox.clear()
        self._run = LastRun(max(self._run.incarnation + 1, restored.incarnation), self._run.boot_id, False)
        try:
            write_run(self.options.state_dir, self._run)
        except OSError as error:
            self.log.error(f"the number of this run could not be written: {error}")  # the record has it too
        self.pump.set_stall_ns(loaded.settings.policy.stall_ms * NS_PER_MS)
        self.children.reload(loaded.settings, self._run.incarnation)
        gc.unfreeze()
        self._build(loaded, groups, key)
        try:
            self._begin(restored, same_boot=True)
        except OSError as error:
            self.log.error(f"the new configuration cannot be started: {error}")
            self.pump.stop()

    # ---- control socket -----------------------------------------------------------------------------------------------

    def _op_status(self, _client: Client, _request: dict[str, Any]) -> dict[str, Any]:
        return {
            "status": self.core.snapshot(),
            "daemon": {
                "pid": os.getpid(),
                "up_ms": (now_ns() - self.started_ns) // NS_PER_MS,
                "now_ns": now_ns(),
                "wall_ns": wall_ns(),
                "node": self.brain.self_name,
                "state_dir": self.options.state_dir,
                "receivers": len(self.brain.alerts),
                "children": {**self.children.snapshot(), "witness": self.witness.snapshot()},
                "senses": self.senses.snapshot(),
                "journal_dropped": self.journal.dropped,
                "loop": self.meter.snapshot(),
            },
        }

    def _op_subscribe(self, client: Client, _request: dict[str, Any]) -> dict[str, Any]:
        client.subscribed = True
        self._subscribers.append(client)
        return {"subscribed": True}

    def _op_journal(self, _client: Client, request: dict[str, Any]) -> dict[str, Any]:
        lines = self.journal.lines()
        start = request.get("from", 0)
        if not isinstance(start, int) or start < 0:
            raise RequestError("argument", "from", "a line number from 0")
        page = lines[start : start + 200]
        return {"lines": page, "total": len(lines), "dropped": self.journal.dropped, "node": self.brain.self_name}

    def _op_operate(self, client: Client, request: dict[str, Any]) -> dict[str, Any]:
        try:
            action = OperatorAction(request.get("action"))
        except ValueError:
            raise RequestError("argument", "action", f"one of {', '.join(a.value for a in OperatorAction)}") from None
        until_ms, subject, note = request.get("until_ms", 0), request.get("subject", ""), request.get("note", "")
        if not isinstance(until_ms, int) or not isinstance(subject, str) or not isinstance(note, str) or len(subject) + len(note) > 2000:
            raise RequestError("argument", "until_ms, subject or note", "a number and two short texts")
        self.log.info("operator", action=action.value, uid=client.peer.uid, subject=subject)
        before = self.core.last_answer
        self.feed(OperatorActed(action, f"uid {client.peer.uid}", subject, until_ms, note))
        answer = self.core.last_answer
        if answer is None or answer is before:
            raise RequestError("not_ready", action.value, "braind is starting: try again")
        if not answer.taken:
            raise RequestError("refused", f"{action.value} {subject}".strip(), answer.outcome)
        return {"message": f"{action.value}: {answer.outcome}", "order_id": answer.order_id, "status": self.core.snapshot()}

    # ---- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Read what is durable, start the children, tell the core where it is. Raises OSError when the state directory cannot be used."""
        os.makedirs(self.options.state_dir, mode=0o700, exist_ok=True)
        last, damage = read_last_run(self.options.state_dir)
        if damage:
            self.log.error(damage)
        self._run = LastRun(last.incarnation + 1, boot_id(), False)
        write_run(self.options.state_dir, self._run)
        restored = self.children.start(self._run.incarnation, RESTORE_TIMEOUT_NS)
        self._begin(restored, same_boot=last.boot_id == self._run.boot_id)

    def _begin(self, restored: Restored, *, same_boot: bool) -> None:
        """Open the senses and tell the core where it is; from now on the watcher watches."""
        self.senses.start()
        self.witness.start(self._run.incarnation)
        boot = bytes.fromhex(boot_id().replace("-", ""))[:8]
        event = Started(
            wall_ns=wall_ns(),
            boot=boot,
            nonce=os.urandom(8),
            incarnation=max(self._run.incarnation, restored.incarnation),
            groups=self.groups.groups,
            held=self.senses.held(),
            quarantined=restored.quarantined,
            latched=restored.latched,
            open_fences=restored.open_fences,
            recent_fence_wall_ns=restored.recent_fence_wall_ns,
            seen_peer_before=restored.seen_peer,
            same_boot=same_boot,
            macs=self.senses.own_macs(),
            links=self.senses.link_macs(),
            open_incidents=restored.open_incidents,
            durable=durable_facts(restored.facts),
            watchdog_armed=self.hardware is not None,
        )
        self._inbox.appendleft(event)
        self._started = True
        self._work()
        self.senses.report_surroundings()
        self.gate.watch_groups(self.groups)
        self.children.report_state()
        gc.collect()
        gc.freeze()
        self.service.started(now_ns())

    def request_stop(self) -> None:
        """SIGTERM: tell the peer, write the last rows, then leave."""
        if self._stop_at_ns is None:
            self.service.stopping(self._held_words())
            self.feed(Stopping(shutdown=machine_goes_down()))
            self._stop_at_ns = now_ns() + STOP_GRACE_NS

    def _held_words(self) -> str:
        """What stays held when this watcher ends: the gate keeps what it says, and whoever stops braind must know it."""
        status = self.core.snapshot()
        groups = status.get("groups") if isinstance(status, dict) else None
        held = []
        for group in groups if isinstance(groups, list) else []:
            if isinstance(group, dict) and isinstance(gate := group["gate"], dict) and gate["state"] == "held":
                held.append(f"{group['name']} ({group['group']}): {gate['reason']}")
        if not held:
            return ""
        text = f"stopping while this node is held: {'; '.join(held)}; {self.brain.gate.daemon} stays held until braind runs again"
        self.log.warning(f"{text}, see docs/UPGRADE.md")
        return text

    def _close_watch(self) -> None:
        self.senses.close()
        self.gate.close()
        self.witness.stop()

    def shut_down(self, *, clean: bool) -> None:
        """Close everything; with ``clean`` the next start knows that this end was orderly."""
        self.control.close()
        self._close_watch()
        self.children.stop()
        if clean:
            try:
                write_run(self.options.state_dir, LastRun(self._run.incarnation, self._run.boot_id, True))
            except OSError as error:
                self.log.error(f"could not write the clean end: {error}")


def prepare(options: argparse.Namespace) -> tuple[LoadedBrain, LoadedGroups, bytes]:
    """Read and check everything before anything is started; raises ConfigError or SecretError."""
    loaded = load_brain(options.config, options.node)
    brain, problem = with_enrolment(loaded.settings, options.state_dir)
    if problem:
        raise SecretError(problem)
    loaded = replace(loaded, settings=brain)
    key = read_secret_file(loaded.settings.key_file).strip()
    if len(key) < 32:
        raise SecretError(f"{loaded.settings.key_file} holds {len(key)} bytes; at least 32 are needed, brainctl init makes a key")
    groups = read_groups(loaded.settings.gate.config, tolerant=loaded.settings.gate.daemon == "keepalived")
    if not groups.groups:
        raise SecretError(f"{loaded.settings.gate.config} has no vrrp_instance; name the right file in [gate] config")
    return loaded, groups, key


_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _install_signals(daemon: Daemon) -> None:
    actions = {signal.SIGTERM: daemon.request_stop, signal.SIGINT: daemon.request_stop, signal.SIGHUP: daemon.reload}
    SignalReader(daemon.pump, _SIGNALS, lambda number: actions[signal.Signals(number)]())


def main(argv: list[str] | None = None, core_factory: CoreFactory = WatcherCore) -> int:
    """Run braind; 0 after SIGTERM, 2 when the configuration or the state directory was refused.

    ``core_factory`` exists for the demo's negative controls, which run altered cores; the product always runs WatcherCore.
    """
    options = parser().parse_args(sys.argv[1:] if argv is None else argv)
    log = Log("braind", 2, options.log_json)
    options.config = options.config or f"/etc/brainctl/{'watch' if options.watch_only else 'brain'}.toml"
    if options.watch_only:
        return observer.run(options, log)
    try:
        loaded, groups, key = prepare(options)
    except (ConfigError, SecretError) as error:
        print(error, file=sys.stderr)
        return 2
    for diagnostic in (*loaded.diagnostics, *groups.diagnostics):
        log.warning(str(diagnostic))
    if options.test:
        print("the configuration is valid")
        return 0
    daemon = None
    try:
        daemon = Daemon(options, loaded, groups, key, log, core_factory)
        _install_signals(daemon)
        daemon.start()
    except OSError as error:
        log.error(f"cannot start: {error}")
        if daemon is not None:
            daemon.witness.stop()
            daemon.children.stop()
        return 2
    log.info("watching", node=options.node or loaded.settings.self_name, mode=loaded.settings.policy.mode.value)
    try:
        daemon.pump.run()
    finally:
        daemon.shut_down(clean=daemon._stop_at_ns is not None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
