"""PURE: which servers of a virtual server take traffic, and who is told.

- A real server is alive iff all its checkers are up. Its weight is the configured one plus what MISC_CHECK (misc_dynamic)
  and FILE_CHECK add, never below 0. Weight 0 means drained: it serves no new client and counts 0 towards the quorum.
- Quorum: lost when the weights of the living add up to 0 or to less than ``quorum - hysteresis``; gained at
  ``quorum + hysteresis`` or more. Between the two nothing changes.
- Without quorum a sorry server, if there is one, replaces all real servers. Without one they stay.
- inhibit_on_failure: instead of being removed a server stays with weight 0.
- A gated service (``only_while_master``) is in the kernel only while its VRRP instance is MASTER; its servers are probed
  all the time, so that the new MASTER knows them.

One event is decided as a whole: first what the pool becomes, then who is told. Additions come before removals, so that
no client meets an empty service in between.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from base.core import JsonValue
from vrrp.config.model.common import IpAddress, ScriptCommand
from vrrp.lvs.model.desired import Destination, DestinationKey, Entry, ServiceKey, destination_key, service_key, service_of
from vrrp.lvs.model.settings import Forwarding, Listen, RealServerSettings, VirtualServerSettings

SORRY_ID = "sorry"
MAX_WEIGHT = 2**31 - 1


# ---- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """The daemon has begun (or a reload brought this service): put the first pool in place. The first event of all."""


@dataclass(frozen=True, slots=True)
class CheckerUp:
    """A checker's verdict turned to up."""

    real_server: str
    checker: str


@dataclass(frozen=True, slots=True)
class CheckerDown:
    """A checker's verdict turned to down."""

    real_server: str
    checker: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WeightAdded:
    """A checker's contribution to the weight is now ``amount`` (0 = none)."""

    real_server: str
    checker: str
    amount: int


@dataclass(frozen=True, slots=True)
class DrainRequested:
    """An operator drains a server, or takes that back."""

    real_server: str
    drained: bool


@dataclass(frozen=True, slots=True)
class MasterChanged:
    """The VRRP instance that gates this service is MASTER, or no more."""

    is_master: bool


@dataclass(frozen=True, slots=True)
class AddressPresenceChanged:
    """An address of this service is on one of our interfaces, or no more (for ha_suspend)."""

    present: bool


@dataclass(frozen=True, slots=True)
class ShutdownRequested:
    """The daemon ends. The shell removes the services afterwards, unless told to leave them."""


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A reload removed this virtual server: whoever was told that it is up hears that it is down, with or without omega."""


Ending: TypeAlias = "ShutdownRequested | Withdrawn"
Event: TypeAlias = "Started | CheckerUp | CheckerDown | WeightAdded | DrainRequested | MasterChanged | AddressPresenceChanged | Ending"


# ---- commands ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SetDestination:
    """Have this server in the pool with this weight, in every kernel service of the virtual server."""

    server: str
    weight: int
    reason: str


@dataclass(frozen=True, slots=True)
class RemoveDestination:
    """Have this server out of the pool."""

    server: str
    reason: str


@dataclass(frozen=True, slots=True)
class ProgramServices:
    """Make the kernel services (``present``) or remove them with all destinations."""

    present: bool
    reason: str


class Subject(Enum):
    """Whom a notification is about; the value is the word in FIFO lines."""

    REAL_SERVER = "RS"
    VIRTUAL_SERVER = "VS"


@dataclass(frozen=True, slots=True)
class RunNotify:
    """Tell scripts and FIFOs. ``script`` None: only FIFOs. ``server``: the real server's id, "" for the service."""

    subject: Subject
    server: str
    up: bool
    script: ScriptCommand | None


@dataclass(frozen=True, slots=True)
class MailAlert:
    """Send a mail. ``subject`` is as in keepalived, without the ``[router_id]`` in front."""

    subject: str
    body: str


@dataclass(frozen=True, slots=True)
class SuspendCheckers:
    """Stop (or go on with) probing the servers of this service."""

    suspended: bool


@dataclass(frozen=True, slots=True)
class QuorumChanged:
    """For VRRP: an instance may track the quorum of a service."""

    up: bool
    weight: int


Command: TypeAlias = "SetDestination | RemoveDestination | ProgramServices | RunNotify | MailAlert | SuspendCheckers | QuorumChanged"


REMOVED = "a reload removed it"
NOT_CHECKED = "not checked yet (alpha)"

# ---- state ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class RealServerState:
    """What is known of one real server. ``down``: failed checkers and why. ``leaves_ns``: end of the removal delay."""

    settings: RealServerSettings
    down: dict[str, str] = field(default_factory=dict)
    added: dict[str, int] = field(default_factory=dict)
    drained: bool = False
    leaves_ns: int | None = None

    @property
    def alive(self) -> bool:
        """All checkers are up."""
        return not self.down

    @property
    def weight(self) -> int:
        """The weight it has while alive."""
        if self.drained:
            return 0
        return max(0, min(MAX_WEIGHT, self.settings.weight + sum(self.added.values())))

    @property
    def why(self) -> str:
        """Why it is in or out, for people."""
        if self.down:
            return "; ".join(f"{checker}: {reason or 'failed'}" for checker, reason in sorted(self.down.items()))
        if self.drained:
            return "drained by the operator"
        return "all checks pass" if self.weight else "weight 0"


class VirtualServerCore:
    """One virtual server. Drive it with ``handle``; ``entries`` is the wanted state of the kernel."""

    def __init__(self, settings: VirtualServerSettings, *, is_master: bool = False, address_present: bool = True) -> None:
        self.settings = settings
        self.real_servers = {server.id: RealServerState(server) for server in settings.real_servers}
        for state in self.real_servers.values():
            for checker in state.settings.checkers:
                if checker.timing.alpha:
                    state.down[checker.id] = NOT_CHECKED
        self.has_quorum = False
        self.is_master = is_master
        self.suspended = settings.ha_suspend and not address_present
        self._inherited = False
        self._gone: list[RealServerState] = []
        """Living real servers that a reload took away."""
        self._started = False
        self._stopped = False
        self._in_kernel = False
        self._pool: dict[str, int] = {}

    def inherit(self, before: VirtualServerCore) -> None:
        """After a reload: keep what is known about servers and checkers that are in both, and the quorum.

        Role and address presence are not inherited: the constructor was told what they are now.
        """
        for identity, state in self.real_servers.items():
            old = before.real_servers.get(identity)
            if old is None:
                continue
            state.drained = old.drained
            for checker in state.settings.checkers:
                was_there = any(checker.asks_the_same_as(other) for other in old.settings.checkers)
                if was_there and checker.id in old.down:
                    state.down[checker.id] = old.down[checker.id]
                elif was_there:
                    state.down.pop(checker.id, None)
                if was_there and checker.id in old.added:
                    state.added[checker.id] = old.added[checker.id]
        self._inherited = True
        self.has_quorum = before.has_quorum
        self._gone = [state for identity, state in before.real_servers.items() if identity not in self.real_servers and state.alive]

    # ---- the core's interface -------------------------------------------------------------------------------------

    def handle(self, now_ns: int, event: Event) -> list[Command]:
        """Take in one event; unknown servers are ignored (they left with a reload)."""
        if self._stopped:
            return []
        match event:
            case Started():
                return self._start(now_ns)
            case CheckerUp(server, checker):
                return self._checker_up(now_ns, server, checker)
            case CheckerDown(server, checker, reason):
                return self._checker_down(now_ns, server, checker, reason)
            case WeightAdded(server, checker, amount):
                state = self.real_servers.get(server)
                if state is None or state.added.get(checker, 0) == amount:
                    return []
                state.added[checker] = amount
                return self._decide(f"{checker} sets the weight of {server} to {state.weight}")
            case DrainRequested(server, drained):
                state = self.real_servers.get(server)
                if state is None or state.drained == drained:
                    return []
                state.drained = drained
                return self._decide(f"{server} is {'drained' if drained else 'no longer drained'} by the operator")
            case MasterChanged(is_master):
                self.is_master = is_master
                return self._decide(f"{self.settings.only_while_master} {'became MASTER' if is_master else 'left MASTER'}")
            case AddressPresenceChanged(present):
                return self._presence(present)
            case ShutdownRequested():
                return self._end("the daemon ends", told=self.settings.omega)
            case Withdrawn():
                return self._end(REMOVED, told=True)

    def on_deadline(self, now_ns: int) -> list[Command]:
        """End removal delays that are over."""
        over = [state for state in self.real_servers.values() if state.leaves_ns is not None and state.leaves_ns <= now_ns]
        for state in over:
            state.leaves_ns = None
        return self._decide("its connections had time to end") if over else []

    def next_deadline(self) -> int | None:
        """When the next removal delay is over."""
        return min((state.leaves_ns for state in self.real_servers.values() if state.leaves_ns is not None), default=None)

    def snapshot(self) -> JsonValue:
        """Service, quorum and every server with its weight and the reason."""
        return {
            "id": self.settings.id,
            "quorum": self.has_quorum,
            "weight": self.live_weight,
            "in_kernel": self._in_kernel,
            "sorry_server": SORRY_ID in self._pool and self._pool[SORRY_ID] > 0,
            "suspended": self.suspended,
            "real_servers": [
                {
                    "id": identity,
                    "alive": state.alive,
                    "in_pool": identity in self._pool,
                    "weight": self._pool.get(identity, 0),
                    "drained": state.drained,
                    "reason": state.why,
                }
                for identity, state in self.real_servers.items()
            ],
        }

    # ---- wanted state ---------------------------------------------------------------------------------------------

    @property
    def has_removal_delay(self) -> bool:
        """Whether ``next_deadline`` can ever be other than None."""
        return any(server.removal_delay_ns for server in self.settings.real_servers)

    @property
    def live_weight(self) -> int:
        """The weights of the living, added up."""
        return sum(state.weight for state in self.real_servers.values() if state.alive)

    @property
    def uses_sorry_server(self) -> bool:
        """The sorry server stands in for the real servers."""
        return self.settings.sorry_server is not None and not self.has_quorum

    def pool(self) -> dict[str, int]:
        """Wanted weights by server id; the sorry server is SORRY_ID."""
        wanted: dict[str, int] = {}
        for identity, state in self.real_servers.items():
            if state.alive and not self.uses_sorry_server:
                wanted[identity] = state.weight
            elif state.settings.inhibit_on_failure or state.leaves_ns is not None:
                wanted[identity] = 0
        sorry = self.settings.sorry_server
        if sorry is not None and (self.uses_sorry_server or sorry.inhibit):
            wanted[SORRY_ID] = 1 if self.uses_sorry_server else 0
        return wanted

    def entries(self) -> dict[ServiceKey, Entry]:
        """Wanted kernel services with their destinations; empty while the service is gated or the daemon has ended."""
        if not self._in_kernel:
            return {}
        return {
            service_key(listen, self.settings.transport): Entry(
                service_of(self.settings, listen),
                {self.destination(listen, server): self.destination_value(server, weight) for server, weight in self._pool.items()},
            )
            for listen in self.settings.listen
        }

    def service_keys(self) -> list[ServiceKey]:
        """The kernel services of this virtual server, whether they are wanted now or not."""
        return [service_key(listen, self.settings.transport) for listen in self.settings.listen]

    def destination(self, listen: Listen, server: str) -> DestinationKey:
        """The kernel's identity of ``server`` (or SORRY_ID) behind ``listen``."""
        address, port, forwarding = self._target(server)
        return destination_key(listen, address, port, forwarding)

    def destination_value(self, server: str, weight: int) -> Destination:
        """The kernel's options of ``server`` (or SORRY_ID) with this weight."""
        if server == SORRY_ID:
            return Destination(weight, self._target(server)[2])
        settings = self.real_servers[server].settings
        return Destination(weight, settings.forwarding, settings.upper_threshold, settings.lower_threshold)

    def _target(self, server: str) -> tuple[IpAddress, int, Forwarding]:
        sorry = self.settings.sorry_server
        if server == SORRY_ID:
            assert sorry is not None
            return sorry.address, sorry.port, sorry.forwarding
        settings = self.real_servers[server].settings
        return settings.address, settings.port, settings.forwarding

    # ---- decisions ------------------------------------------------------------------------------------------------

    def _start(self, now_ns: int) -> list[Command]:
        assert not self._started
        self._started = True
        commands = self._decide("start", [news for state in self._gone for news in self._real_news(state, False, REMOVED)], at_start=True)
        self._gone = []
        if self.settings.init_notifies and not self._inherited:
            commands += [self._real_notify(state, True) for state in self.real_servers.values() if state.alive]
        if self.suspended:
            commands.append(SuspendCheckers(True))
        return commands

    def _checker_up(self, now_ns: int, server: str, checker: str) -> list[Command]:
        state = self.real_servers.get(server)
        if state is None or checker not in state.down:
            return []
        del state.down[checker]
        if not state.alive:
            return self._checker_mail(state, f"{checker} passes")
        state.leaves_ns = None
        return self._decide(f"{server} is up: {checker} passes", self._real_news(state, True, f"{checker} passes"))

    def _checker_down(self, now_ns: int, server: str, checker: str, reason: str) -> list[Command]:
        state = self.real_servers.get(server)
        if state is None:
            return []
        was_alive = state.alive
        before = state.down.get(checker)
        state.down[checker] = reason
        if not was_alive:
            if before not in (None, NOT_CHECKED):
                return []  # another answer, the same verdict
            told: list[Command] = [] if before is None else [self._real_notify(state, False)]
            return [*told, *self._checker_mail(state, f"{checker}: {reason}" if reason else checker)]
        if state.settings.removal_delay_ns and not state.settings.inhibit_on_failure:
            state.leaves_ns = now_ns + state.settings.removal_delay_ns
        why = f"{checker}: {reason}" if reason else checker
        return self._decide(f"{server} is down: {why}", self._real_news(state, False, why))

    def _presence(self, present: bool) -> list[Command]:
        if not self.settings.ha_suspend or self.suspended is not present:
            return []
        self.suspended = not present
        return [SuspendCheckers(self.suspended)]

    def _end(self, why: str, *, told: bool) -> list[Command]:
        commands: list[Command] = []
        if told:
            for state in self.real_servers.values():
                if state.alive:
                    commands += self._real_news(state, False, why)
            if self.has_quorum:
                commands += self._quorum_news(False, why)
        self._stopped = True
        self._in_kernel = False
        self._pool = {}
        return [*commands, ProgramServices(False, why)]

    def _decide(self, reason: str, news: list[Command] | None = None, *, at_start: bool = False) -> list[Command]:
        """Bring quorum and pool up to date; ``news`` is told after the pool has changed, the quorum's news last."""
        if not self._started:
            return []
        quorum_news = self._update_quorum(reason, at_start)
        return [*self._update_pool(reason), *(news or []), *quorum_news]

    def _update_quorum(self, reason: str, at_start: bool) -> list[Command]:
        weight, settings = self.live_weight, self.settings
        if not self.has_quorum and weight > 0 and weight >= settings.quorum + settings.hysteresis:
            self.has_quorum = True
            return self._quorum_news(True, reason)
        if self.has_quorum and (weight == 0 or weight < settings.quorum - settings.hysteresis):
            self.has_quorum = False
            return self._quorum_news(False, reason)
        if at_start and not self.has_quorum and not self._inherited:
            told = self._quorum_news(False, reason)
            return told if settings.sorry_server is not None else [news for news in told if isinstance(news, QuorumChanged)]
        return []

    def _update_pool(self, reason: str) -> list[Command]:
        program = not self.settings.only_while_master or self.is_master
        commands: list[Command] = []
        if program != self._in_kernel:
            self._in_kernel = program
            self._pool = {}
            commands.append(ProgramServices(program, reason))
        if not program:
            return commands
        before, wanted = self._pool, self.pool()
        commands += [SetDestination(server, weight, reason) for server, weight in wanted.items() if before.get(server) != weight]
        commands += [RemoveDestination(server, reason) for server in before if server not in wanted]
        self._pool = wanted
        return commands

    # ---- news -----------------------------------------------------------------------------------------------------

    def _real_notify(self, state: RealServerState, up: bool) -> RunNotify:
        return RunNotify(Subject.REAL_SERVER, state.settings.id, up, state.settings.notify_up if up else state.settings.notify_down)

    def _checker_mail(self, state: RealServerState, why: str) -> list[Command]:
        """A checker of a dead server changed, the server did not."""
        if not (state.settings.smtp_alert and state.settings.mail_each_checker and self._started):
            return []
        return [MailAlert(f"Realserver {state.settings.id} of virtual server {self.settings.id} - DOWN", why)]

    def _real_news(self, state: RealServerState, up: bool, why: str) -> list[Command]:
        news: list[Command] = [self._real_notify(state, up)]
        if state.settings.smtp_alert:
            subject = f"Realserver {state.settings.id} of virtual server {self.settings.id} - {'UP' if up else 'DOWN'}"
            news.append(MailAlert(subject, why))
        return news

    def _quorum_news(self, up: bool, why: str) -> list[Command]:
        settings = self.settings
        news: list[Command] = [
            QuorumChanged(up, self.live_weight),
            RunNotify(Subject.VIRTUAL_SERVER, "", up, settings.quorum_up if up else settings.quorum_down),
        ]
        if settings.smtp_alert:
            news.append(MailAlert(f"Virtualserver {settings.id} - {'UP' if up else 'DOWN'}", why))
        return news
