"""``braind --watch-only``: a third host that judges pairs on which it is not installed. It listens, asks, records and pages; it holds no
gate, sends no heartbeat, fences nobody. The loop, the senses and the children are the watcher's own; the cores are judgement/observing.py.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from typing import Any

from base.clock import boot_id, now_ns, wall_ns
from base.control import Client, ControlServer
from base.core import NS_PER_MS
from base.diagnostics import ConfigError
from base.log import Log
from base.pump import Pump
from base.signals import SignalReader
from base.systemd import ServiceManager
from fencing.plan.settings import FenceSettings
from watchdog.children import Children
from watchdog.config.watch import WatchedNode, WatchSettings, load_watch
from watchdog.durable import LastRun, read_last_run, write_run
from watchdog.judgement.commands import Persist, ProbeOwners, PublishStatus
from watchdog.judgement.events import AdvertHeard, CarrierChanged, LoopStalled, OwnerClaimed, ProbeFinished, WatcherEvent
from watchdog.judgement.observing import NodeSeen, ObserverCommand, PairObserver, PairSeen
from watchdog.probing.arp import ArpProber
from watchdog.probing.kernel import KernelMonitor
from watchdog.probing.ndp import NdpProber
from watchdog.probing.sniffer import AdvertSniffer
from watchdog.service import Service

RESTORE_TIMEOUT_NS = 3_000 * NS_PER_MS


class Observer:
    """One running third host."""

    def __init__(self, options: argparse.Namespace, settings: WatchSettings, log: Log) -> None:
        self._options, self._settings, self._log = options, settings, log
        at_ns = self._started_ns = now_ns()
        pairs = settings.pairs
        self._cores = [
            PairObserver(
                PairSeen(p.cluster, _nodes(p.nodes), p.groups, p.references),
                settings.policy,
                settings.name,
                at_ns,
                first_id=i,
                step=len(pairs),
            )
            for i, p in enumerate(pairs)
        ]
        self.pump = Pump(
            next_deadline=self._next_deadline,
            on_deadline=self._on_deadline,
            on_stall=lambda _at_ns, stalled_ns: self.feed(LoopStalled(stalled_ns)),
            stall_ns=settings.policy.stall_ms * NS_PER_MS,
        )
        self._kernel = KernelMonitor(self.pump, self.feed)
        self._arp = ArpProber(self.pump, self._kernel, self.feed)
        self._ndp = NdpProber(self.pump, self._kernel, self.feed)
        self._sniffer = AdvertSniffer(self.pump, self._kernel, self.feed)
        self.children = Children(self.pump, settings.as_owner(), FenceSettings(), options.state_dir, self.feed, log)
        self._service = Service(ServiceManager())
        self._parts = (self._kernel, self._arp, self._ndp, self._sniffer, self.children, self._service)
        self._run = LastRun(0, "", False)
        self._control = ControlServer(self.pump, os.path.join(options.run_dir, "braind.sock"), {"status": (self._op_status, False)})

    # ---- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Raises OSError when the state directory cannot be used."""
        os.makedirs(self._options.state_dir, mode=0o700, exist_ok=True)
        last, damage = read_last_run(self._options.state_dir)
        if damage:
            self._log.error(damage)
        self._run = LastRun(last.incarnation + 1, boot_id(), False)
        write_run(self._options.state_dir, self._run)
        restored = self.children.start(self._run.incarnation, RESTORE_TIMEOUT_NS)
        addresses = [at for p in self._settings.pairs for group in p.groups for at in group.addresses]
        links = sorted({link for p in self._settings.pairs for group in p.groups for link in group.interfaces})
        self._kernel.watch(links)
        self._arp.watch(addresses)
        self._ndp.watch(addresses)
        self._sniffer.watch([i for p in self._settings.pairs for i in p.instances])
        at_ns = now_ns()
        for core in self._cores:
            self._carry_out(core.restore(at_ns, restored.open_incidents))
        self._kernel.report_all()
        gc.collect()
        gc.freeze()
        self._service.started(now_ns())

    def stop(self) -> None:
        """SIGTERM."""
        self._service.stopping()
        self.pump.stop()

    def shut_down(self) -> None:
        """Close everything."""
        self._control.close()
        for part in (self._arp, self._ndp, self._sniffer, self._kernel):
            part.close()
        self.children.stop()
        try:
            write_run(self._options.state_dir, LastRun(self._run.incarnation, self._run.boot_id, True))
        except OSError as error:
            self._log.error(f"could not write the clean end: {error}")

    # ---- events in, commands out --------------------------------------------------------------------------------------

    def feed(self, event: WatcherEvent) -> None:
        """What was heard; the rest is of no interest to somebody who only looks. Several pairs may share a segment: each takes its own."""
        if isinstance(event, OwnerClaimed | ProbeFinished | AdvertHeard | CarrierChanged | LoopStalled):
            at_ns = now_ns()
            for core in self._cores:
                self._carry_out(core.handle(at_ns, event))

    def _carry_out(self, commands: list[ObserverCommand]) -> None:
        for command in commands:
            match command:
                case ProbeOwners():
                    (self._ndp if ":" in command.address else self._arp).probe(command)
                case Persist():
                    self.children.persist(command)
                case PublishStatus():
                    self._log.info(command.summary)

    def _next_deadline(self) -> int | None:
        times = [d for part in self._parts if (d := part.next_deadline()) is not None]
        return min([*times, *(d for core in self._cores if (d := core.next_deadline()) is not None)], default=None)

    def _on_deadline(self, at_ns: int) -> None:
        for part in self._parts:
            due = part.next_deadline()
            if due is not None and due <= at_ns:
                part.on_deadline(at_ns)
        for core in self._cores:
            due = core.next_deadline()
            if due is not None and due <= at_ns:
                self._carry_out(core.on_deadline(at_ns))

    # ---- control socket -----------------------------------------------------------------------------------------------

    def _op_status(self, _client: Client, _request: dict[str, Any]) -> dict[str, Any]:
        at_ns = now_ns()
        return {
            "status": {"started": True, "watch_only": True, "name": self._settings.name, "pairs": [c.snapshot(at_ns) for c in self._cores]},
            "daemon": {
                "pid": os.getpid(),
                "up_ms": (at_ns - self._started_ns) // NS_PER_MS,
                "now_ns": at_ns,
                "wall_ns": wall_ns(),
                "node": self._settings.name,
                "state_dir": self._options.state_dir,
                "receivers": len(self._settings.alerts),
                "children": self.children.snapshot(),
                "senses": {"arp": self._arp.snapshot(), "ndp": self._ndp.snapshot(), "sniffer": self._sniffer.snapshot()},
            },
        }


def _nodes(nodes: tuple[WatchedNode, WatchedNode]) -> tuple[NodeSeen, NodeSeen]:
    first, second = (NodeSeen(n.name, n.addresses, n.macs) for n in nodes)
    return first, second


def run(options: argparse.Namespace, log: Log) -> int:
    """Run until SIGTERM; 2 when the configuration or the state directory was refused. SIGHUP: a valid new file restarts it in place."""
    try:
        loaded = load_watch(options.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    for diagnostic in loaded.diagnostics:
        log.warning(str(diagnostic))
    if options.test:
        print("the configuration is valid")
        return 0
    observer = None
    try:
        observer = Observer(options, loaded.settings, log)
        watching = observer

        def reload() -> None:
            _reload(watching, options, log)

        actions = {signal.SIGTERM: observer.stop, signal.SIGINT: observer.stop, signal.SIGHUP: reload}
        SignalReader(observer.pump, tuple(actions), lambda number: actions[signal.Signals(number)]())
        observer.start()
    except OSError as error:
        log.error(f"cannot start: {error}")
        if observer is not None:
            observer.children.stop()
        return 2
    log.info("watching from outside", name=loaded.settings.name, pairs=len(loaded.settings.pairs))
    try:
        observer.pump.run()
    finally:
        observer.shut_down()
    return 0


def _reload(observer: Observer, options: argparse.Namespace, log: Log) -> None:
    try:
        load_watch(options.config)
    except ConfigError as error:
        log.error(f"reload refused, nothing changed: {error}")
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    observer.shut_down()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  our own interpreter and arguments
