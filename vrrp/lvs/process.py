"""The checker process: drives checkers and virtual servers, and keeps IPVS as they want it.

Nothing timing critical lives here, so it runs on asyncio. One heap holds the deadlines of all checkers; a probe that is due
becomes a task of its own. There is no limit on how many run at a time (a queue would let a hundred dead servers delay the
checks of ten thousand good ones); each probe bounds its own memory and time.

The backend is asked for the kernel's table every ``RECONCILE_S``: what someone else changed is put right and told.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import resource
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Protocol

from base.clock import now_ns
from base.core import NS_PER_S, JsonValue
from base.log import Log
from vrrp.lvs.checkers.bfd import BfdFollowers
from vrrp.lvs.checkers.file import LOOK_EVERY_S, look
from vrrp.lvs.checkers.http import tls_context
from vrrp.lvs.checkers.run import run_probe
from vrrp.lvs.drains import Drains
from vrrp.lvs.model.checker import (
    FIRST_PROBE_NS,
    CheckerCommand,
    CheckerCore,
    ReportDown,
    ReportFailure,
    ReportUp,
    ReportWeight,
    Resumed,
    StartProbe,
    Suspended,
)
from vrrp.lvs.model.desired import Change, Entry, ServiceKey, Table, diff, united
from vrrp.lvs.model.settings import BfdProbe, CheckerSettings, FileProbe, VirtualServerSettings
from vrrp.lvs.model.virtual_server import (
    AddressPresenceChanged,
    CheckerDown,
    CheckerUp,
    Command,
    DrainRequested,
    Event,
    MailAlert,
    MasterChanged,
    ProgramServices,
    QuorumChanged,
    RemoveDestination,
    RunNotify,
    SetDestination,
    ShutdownRequested,
    Started,
    SuspendCheckers,
    VirtualServerCore,
    WeightAdded,
    Withdrawn,
)

RECONCILE_S = 5.0
RECONCILE_SHARE = 50
"""Looking at a large table takes time from the checks: at most one part in so many."""
MAX_STARTS_PER_TURN = 256
SPARE_DESCRIPTORS = 256


class Backend(Protocol):
    """IPVS (vrrp.lvs.ipvs.kernel.IpvsKernel), or what stands for it in a test. Both calls may raise OSError."""

    def services(self) -> Table:
        """The whole table, with services that others made."""
        ...

    def apply(self, changes: Iterable[Change]) -> Sequence[object]:
        """Execute ``changes`` in order; answers the failures, whose ``str`` says what went wrong."""
        ...


class News(Protocol):
    """Where decisions are told: scripts, FIFOs, mail, VRRP, the record."""

    def notify(self, service: str, notice: RunNotify) -> None:
        """A server or quorum changed; run its script, write its FIFO line."""
        ...

    def mail(self, service: str, alert: MailAlert) -> None:
        """Send a mail."""
        ...

    def quorum(self, service: str, change: QuorumChanged) -> None:
        """Tell VRRP."""
        ...

    def repaired(self, changes: Sequence[Change]) -> None:
        """Someone else had changed IPVS; these changes put it right."""
        ...


@dataclass(slots=True)
class RunningChecker:
    """One active checker and where its verdict belongs."""

    service: str
    server: str
    configured_weight: int
    core: CheckerCore
    task: asyncio.Task[None] | None = None
    retired: bool = False


@dataclass(slots=True)
class RunningFile:
    """One FILE_CHECK: looked at every second."""

    service: str
    server: str
    settings: CheckerSettings
    probe: FileProbe
    up: bool = True
    amount: int = 0


@dataclass(slots=True)
class CheckerProcess:
    """``draw``: a random number in [0, 1) for the warm-up. Call ``configure``, then ``run`` (or ``start`` in a running loop)."""

    backend: Backend
    news: News
    log: Log
    draw: Callable[[], float]
    reconcile_s: float = RECONCILE_S
    services: dict[str, VirtualServerCore] = field(default_factory=dict)
    checkers: dict[tuple[str, str, str], RunningChecker] = field(default_factory=dict)
    files: list[RunningFile] = field(default_factory=list)
    bfd: BfdFollowers = field(default_factory=BfdFollowers)
    probes_started: int = 0
    backend_errors: int = 0
    kernel_problem: str = ""
    drains: Drains = field(default_factory=dict)
    """Real servers that the operator drained; set before ``configure``, changed together with ``drain``."""
    _heap: list[tuple[int, int, RunningChecker]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _masters: dict[str, bool] = field(default_factory=dict)
    _present: frozenset[str] | None = None
    _stopped: bool = False
    _quiet: bool = False
    _delayed: list[VirtualServerCore] = field(default_factory=list)
    _known: dict[ServiceKey, Entry] | None = None
    _owned: set[ServiceKey] = field(default_factory=set)
    _sharers: dict[str, list[VirtualServerCore]] = field(default_factory=dict)
    """Virtual server → those on the same kernel services, itself among them, in the order of the file; only where there are others."""

    # ---- configuration --------------------------------------------------------------------------------------------

    def configure(self, wanted: Sequence[VirtualServerSettings]) -> None:
        """Take on settings, at start or by a reload. Unchanged checkers keep verdict and rhythm, unchanged services stay."""
        at_ns = now_ns()
        self._owned.update(key for core in self.services.values() for key in core.service_keys())
        before, old_checkers = self.services, self.checkers
        self.services, self.checkers, self.files = {}, {}, []
        self.bfd.forget(self.bfd.states)
        self._quiet = True
        tls_context.cache_clear()  # certificates may have been renewed
        for settings in wanted:
            is_master = self._masters.get(settings.only_while_master, False)
            core = VirtualServerCore(settings, is_master=is_master, address_present=self._is_present(settings))
            if settings.id in before:
                core.inherit(before[settings.id])
            for server in core.real_servers:
                core.real_servers[server].drained = (settings.id, server) in self.drains
            self.services[settings.id] = core
        self._delayed = [core for core in self.services.values() if core.has_removal_delay]
        self._sharers = _sharers(self.services.values())
        first = [(core, core.handle(at_ns, Started())) for core in self.services.values()]
        for core in self.services.values():
            self._add_checkers(core, old_checkers, at_ns)
        for running in old_checkers.values():
            if self.checkers.get((running.service, running.server, running.core.settings.id)) is not running:
                self._retire(running)
        _allow_descriptors(len(self.checkers))
        self._look_at_files()
        self.reconcile(told=False)
        for core in before.values():
            if core.settings.id not in self.services:
                self._execute(core, core.handle(at_ns, Withdrawn()))
        for core, commands in first:
            self._execute(core, commands)
        self._quiet = False
        self._wake.set()

    def _add_checkers(self, core: VirtualServerCore, old: dict[tuple[str, str, str], RunningChecker], at_ns: int) -> None:
        for real in core.settings.real_servers:
            for checker in real.checkers:
                place = (core.settings.id, real.id, checker.id)
                if isinstance(checker.probe, FileProbe):
                    state = core.real_servers[real.id]
                    up, amount = checker.id not in state.down, state.added.get(checker.id, 0)
                    self.files.append(RunningFile(place[0], real.id, checker, checker.probe, up, amount))
                elif isinstance(checker.probe, BfdProbe):
                    self.bfd.follow(checker.probe, self._bfd_reporter(place))
                else:
                    self._add_active(place, real.weight, checker, old.get(place), at_ns, core.suspended)

    def _add_active(
        self,
        place: tuple[str, str, str],
        weight: int,
        checker: CheckerSettings,
        before: RunningChecker | None,
        at_ns: int,
        suspended: bool,
    ) -> None:
        if before is not None and before.core.settings == checker and before.configured_weight == weight:
            before.core.handle(at_ns, Suspended() if suspended else Resumed())
            self.checkers[place] = before
            self._schedule(before)
            return
        first_ns = at_ns + FIRST_PROBE_NS + int(self.draw() * checker.timing.warmup_ns)
        running = RunningChecker(place[0], place[1], weight, CheckerCore(checker, first_ns))
        if (
            before is not None
            and before.core.settings.asks_the_same_as(checker)
            and (before.core.has_run or before.core.settings == checker)
        ):
            running.core.inherit(before.core)
            if running.core.weight is not None:
                self._tell(place[0], WeightAdded(place[1], place[2], running.core.weight - weight))
        running.core.handle(at_ns, Suspended() if suspended else Resumed())
        self.checkers[place] = running
        self._schedule(running)

    def _bfd_reporter(self, place: tuple[str, str, str]) -> Callable[[bool, str], None]:
        service, server, checker = place

        def report(up: bool, reason: str) -> None:
            self._tell(service, CheckerUp(server, checker) if up else CheckerDown(server, checker, reason))

        return report

    def _retire(self, running: RunningChecker) -> None:
        running.retired = True
        if running.task is not None:
            running.task.cancel()

    # ---- events from outside --------------------------------------------------------------------------------------

    def master_changed(self, instance: str, is_master: bool) -> None:
        """A VRRP instance became MASTER or left it."""
        self._masters[instance] = is_master
        for core in self.services.values():
            if core.settings.only_while_master == instance:
                self._tell(core.settings.id, MasterChanged(is_master))

    def addresses_changed(self, present: frozenset[str]) -> None:
        """The addresses on our interfaces, as text; for ha_suspend. Until the first call all count as present."""
        self._present = present
        for core in self.services.values():
            self._tell(core.settings.id, AddressPresenceChanged(self._is_present(core.settings)))

    def _is_present(self, settings: VirtualServerSettings) -> bool:
        if self._present is None or any(str(listen.address) in self._present for listen in settings.listen):
            return True
        ranges = [(int(each.first), int(each.last), each.first.version) for each in settings.marked]
        here = [ip_address(text) for text in self._present] if ranges else []
        return any(first <= int(own) <= last and own.version == version for first, last, version in ranges for own in here)

    def drain(self, service: str, server: str, drained: bool, note: str = "") -> bool:
        """An operator's wish, kept over reloads; False if there is no such server."""
        if not self.knows(service, server):
            return False
        self.drains.pop((service, server), None)
        if drained:
            self.drains[service, server] = note
        self._tell(service, DrainRequested(server, drained))
        return True

    def knows(self, service: str, server: str) -> bool:
        """Is there such a real server?"""
        core = self.services.get(service)
        return core is not None and server in core.real_servers

    def checkers_of(self, service: str) -> dict[str, list[JsonValue]]:
        """Real server → what its checkers say, with the last answer of each."""
        found: dict[str, list[JsonValue]] = {}
        core = self.services.get(service)
        for real in () if core is None else core.settings.real_servers:
            state = core.real_servers[real.id] if core is not None else None
            for checker in real.checkers:
                running = self.checkers.get((service, real.id, checker.id))
                if running is not None:
                    found.setdefault(real.id, []).append(running.core.snapshot())
                elif state is not None:
                    reason = state.down.get(checker.id, "")
                    follower: JsonValue = {"id": checker.id, "up": checker.id not in state.down, "reason": reason or "passes"}
                    found.setdefault(real.id, []).append(follower)
        return found

    def bfd_changed(self, name: str, up: bool, reason: str = "") -> None:
        """A BFD session went up or down."""
        self.bfd.session_changed(name, up, reason)

    def snapshot(self) -> JsonValue:
        """Everything that ``brainctl lvs`` shows, but for the kernel's counters."""
        services: list[JsonValue] = [core.snapshot() for core in self.services.values()]
        checkers: list[JsonValue] = [
            {"service": running.service, "server": running.server, "checker": running.core.snapshot()} for running in self.checkers.values()
        ]
        return {"services": services, "checkers": checkers, "probes": self.probes_started, "backend_errors": self.backend_errors}

    # ---- the loop -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until ``stop``."""
        helpers = [asyncio.create_task(self._every(LOOK_EVERY_S, self._look_at_files)), asyncio.create_task(self._reconcile_for_ever())]
        try:
            while not self._stopped:
                await self._turn()
        finally:
            tasks = [*helpers, *(running.task for running in self.checkers.values() if running.task is not None)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def stop(self, *, keep_ipvs: bool = False) -> None:
        """End: tell those whom omega tells, remove our services unless they shall stay (keepalived's -I)."""
        at_ns = now_ns()
        self._quiet = True  # the table is dealt with once, below
        for core in self.services.values():
            self._execute(core, core.handle(at_ns, ShutdownRequested()))
        self._quiet = False
        self._stopped = True
        self._wake.set()
        if not keep_ipvs:
            self.reconcile(told=False)

    async def _turn(self) -> None:
        self._wake.clear()
        self._start_due(now_ns())
        for core in self._delayed:
            due = core.next_deadline()
            if due is not None and due <= now_ns():
                self._execute(core, core.on_deadline(now_ns()))
        deadlines = [due for core in self._delayed if (due := core.next_deadline()) is not None]
        if self._heap:
            deadlines.append(self._heap[0][0])
        wait_s = max(0.0, (min(deadlines) - now_ns()) / NS_PER_S) if deadlines else None
        if wait_s == 0:
            await asyncio.sleep(0)  # many are due: let answers be heard between two batches
            return
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _start_due(self, at_ns: int) -> None:
        for _ in range(MAX_STARTS_PER_TURN):
            if not self._heap or self._heap[0][0] > at_ns:
                return
            due_ns, _, running = heapq.heappop(self._heap)
            if running.retired or running.core.next_deadline() != due_ns:
                continue  # suspended, or put off since
            self._obey(running, running.core.on_deadline(at_ns))

    def _schedule(self, running: RunningChecker) -> None:
        due = running.core.next_deadline()
        if due is not None and not running.retired:
            heapq.heappush(self._heap, (due, next(self._numbers), running))
            if self._heap[0][2] is running:
                self._wake.set()

    async def _probe(self, running: RunningChecker, step: int) -> None:
        probe = running.core.settings.probe
        assert not isinstance(probe, FileProbe | BfdProbe)
        result = await run_probe(probe, step)
        running.task = None
        if not running.retired and not self._stopped:
            self._obey(running, running.core.handle(now_ns(), result))
            self._schedule(running)

    def _obey(self, running: RunningChecker, commands: Sequence[CheckerCommand]) -> None:
        checker = running.core.settings
        for command in commands:
            match command:
                case StartProbe(step):
                    self.probes_started += 1
                    running.task = asyncio.get_running_loop().create_task(self._probe(running, step))
                case ReportUp(detail):
                    self.log.info(f"{checker.id} of {running.server} for {running.service} passes: {detail}")
                    self._tell(running.service, CheckerUp(running.server, checker.id))
                case ReportDown(reason):
                    self.log.warning(f"{checker.id} of {running.server} for {running.service} fails: {reason}")
                    self._tell(running.service, CheckerDown(running.server, checker.id, reason))
                case ReportWeight(weight):
                    amount = 0 if weight is None else weight - running.configured_weight
                    self._tell(running.service, WeightAdded(running.server, checker.id, amount))
                case ReportFailure(reason, tries_left):
                    if not running.core.is_up:
                        self._tell(running.service, CheckerDown(running.server, checker.id, reason))
                    if checker.timing.log_all_failures:
                        self.log.info(f"{checker.id} of {running.server} failed ({tries_left} tries left): {reason}")

    def _tell(self, service: str, event: Event) -> None:
        core = self.services.get(service)
        if core is not None:
            self._execute(core, core.handle(now_ns(), event))
            self._wake.set()

    def _execute(self, core: VirtualServerCore, commands: Sequence[Command]) -> None:
        if any(isinstance(command, SetDestination | RemoveDestination | ProgramServices) for command in commands) and not self._quiet:
            self._apply(core)
        for command in commands:
            match command:
                case RunNotify():
                    self.news.notify(core.settings.id, command)
                case MailAlert():
                    self.news.mail(core.settings.id, command)
                case QuorumChanged():
                    self.news.quorum(core.settings.id, command)
                case SuspendCheckers(suspended):
                    self._suspend(core.settings.id, suspended)
                case SetDestination(server, weight, reason):
                    self.log.info(f"{core.settings.id}: {server} gets weight {weight}: {reason}")
                case RemoveDestination(server, reason):
                    self.log.info(f"{core.settings.id}: {server} is removed: {reason}")
                case ProgramServices(present, reason):
                    self.log.info(f"{core.settings.id} is {'programmed' if present else 'removed'}: {reason}")

    def _suspend(self, service: str, suspended: bool) -> None:
        for running in self.checkers.values():
            if running.service == service:
                running.core.handle(now_ns(), Suspended() if suspended else Resumed())
                self._schedule(running)

    # ---- IPVS -----------------------------------------------------------------------------------------------------

    def desired(self) -> dict[ServiceKey, Entry]:
        """What IPVS should hold."""
        return self._wanted_of(self.services.values())

    def _wanted_of(self, cores: Iterable[VirtualServerCore]) -> dict[ServiceKey, Entry]:
        """Several virtual servers may stand on one kernel service: it gets the servers of all."""
        found: dict[ServiceKey, list[Entry]] = {}
        for core in cores:
            for key, entry in core.entries().items():
                found.setdefault(key, []).append(entry)
        return {key: united(entries) for key, entries in found.items()}

    def _apply(self, core: VirtualServerCore) -> None:
        """Bring one service up to date, from what we know of the kernel since the last look."""
        if self._known is None:
            self.reconcile(told=False)
            return
        ours = core.service_keys()
        sharers = self._sharers.get(core.settings.id)
        wanted = core.entries() if sharers is None else {k: e for k, e in self._wanted_of(sharers).items() if k in ours}
        changes = diff(wanted, {key: self._known[key] for key in ours if key in self._known})
        if not self._change(changes):
            self.reconcile()  # the kernel's table is not what we thought it was
            return
        for key in ours:
            if key in wanted:
                self._known[key] = wanted[key]
                self._owned.add(key)
            else:
                self._known.pop(key, None)

    def reconcile(self, *, told: bool = True) -> None:
        """Read the kernel's table and put our part of it right. ``told``: a difference is somebody else's doing."""
        self._known = None
        wanted = self.desired()
        ours = self._owned | wanted.keys()
        try:
            actual = {key: entry for key, entry in self.backend.services().items() if key in ours}
        except OSError as error:
            self._complain(error.strerror or str(error))
            return
        changes = diff(wanted, actual)
        self._owned |= wanted.keys()  # one by one: if the kernel refuses one of them, the others are ours all the same
        if not self._change(changes):
            return
        self._known = wanted
        self._owned = set(wanted)
        self.kernel_problem = ""
        if changes and told:
            self.news.repaired(changes)

    def _change(self, changes: Sequence[Change]) -> bool:
        """Apply; False (and a complaint) if anything failed."""
        if not changes:
            return True
        try:
            failures = self.backend.apply(changes)
        except OSError as error:
            failures = [error]
        if failures:
            first = failures[0]
            self._complain(first.strerror or str(first) if isinstance(first, OSError) else str(first))
        return not failures

    def _complain(self, reason: str) -> None:
        self.backend_errors += 1
        self.kernel_problem = reason
        self.log.limited("ipvs", f"IPVS: {reason}; trying again in {self.reconcile_s:g} s at the latest")

    async def _every(self, period_s: float, action: Callable[[], None]) -> None:
        while not self._stopped:
            await asyncio.sleep(period_s)
            if not self._stopped:
                action()

    async def _reconcile_for_ever(self) -> None:
        pause_s = self.reconcile_s
        while not self._stopped:
            await asyncio.sleep(pause_s)
            if self._stopped:
                return  # what -I leaves in the kernel stays there
            started_ns = now_ns()
            self.reconcile(told=self._known is not None)
            pause_s = max(self.reconcile_s, RECONCILE_SHARE * (now_ns() - started_ns) / NS_PER_S)

    # ---- files ----------------------------------------------------------------------------------------------------

    def _look_at_files(self) -> None:
        for running in self.files:
            verdict = look(running.probe)
            if verdict.up is not running.up:
                running.up = verdict.up
                name = running.settings.id
                down = CheckerDown(running.server, name, f"{running.probe.path} holds {verdict.value}")
                self._tell(running.service, CheckerUp(running.server, name) if verdict.up else down)
            if verdict.amount != running.amount:
                running.amount = verdict.amount
                self._tell(running.service, WeightAdded(running.server, running.settings.id, verdict.amount))


def _sharers(cores: Iterable[VirtualServerCore]) -> dict[str, list[VirtualServerCore]]:
    on_key: dict[ServiceKey, list[VirtualServerCore]] = {}
    for core in cores:
        for key in dict.fromkeys(core.service_keys()):
            on_key.setdefault(key, []).append(core)
    found: dict[str, list[VirtualServerCore]] = {}
    for together in on_key.values():
        for core in together if len(together) > 1 else ():
            found[core.settings.id] = list({other.settings.id: other for other in (*found.get(core.settings.id, ()), *together)}.values())
    return found


def _allow_descriptors(checkers: int) -> None:
    """Every probe may hold a socket (MISC_CHECK: a pidfd): raise our limit as far as it goes. A unit may forbid even that (its
    LimitNOFILE= counts then): probes that find no descriptor wait for one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = checkers * 2 + SPARE_DESCRIPTORS
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
        except (OSError, ValueError):
            return
