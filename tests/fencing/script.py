"""A virtual device shop and owner for fence sessions: obeys commands in virtual time, so that tests say only what differs."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from base.core import NS_PER_MS
from fencing.plan.commands import (
    FenceCommand,
    FenceFinished,
    FenceState,
    PersistIntent,
    ProbeTarget,
    RecordState,
    RunDevice,
    SecondLookNeeded,
)
from fencing.plan.events import (
    ChannelHeard,
    ControlHeard,
    DeviceOutcome,
    DeviceReported,
    FenceEvent,
    FenceRequested,
    IntentDurable,
    PowerState,
    SecondLook,
)
from fencing.plan.session import FenceSession
from fencing.plan.settings import FenceDevice, FenceLevel
from fencing.plan.times import FenceTimes

MS = NS_PER_MS
TIMES = FenceTimes()


def device(name: str, *, identity: str = "id", kind: str = "agent", deadline_ms: int = 20_000, **parameters: str) -> FenceDevice:
    return FenceDevice(name, kind, "b", (("worth", "power"), *parameters.items()), deadline_ms, identity and f"{identity}-{name}")


def levels(*names: str, identity: str = "id") -> tuple[FenceLevel, ...]:
    """One level a word; devices of a level are joined by "+"."""
    return tuple(FenceLevel(f"l-{word}", tuple(device(n, identity=identity) for n in word.split("+"))) for word in names)


@dataclass
class VirtualDevice:
    """``acts``: off really kills the target. ``says``: outcome of off. ``reads``: power by status (None = the truth)."""

    says: DeviceOutcome = DeviceOutcome.SUCCESS
    acts: bool = True
    reads: PowerState | None = None
    status: DeviceOutcome = DeviceOutcome.SUCCESS
    identity: str | None = None
    off_ms: int = 300
    status_ms: int = 50
    answers: bool = True


@dataclass
class World:
    """Drives one session. ``channels``: name → (medium, interval_ms), heard while the target lives and the medium is whole."""

    session: FenceSession
    configured: tuple[FenceLevel, ...]
    devices: dict[str, VirtualDevice] = field(default_factory=dict)
    channels: dict[str, tuple[str, int]] = field(default_factory=dict)
    controls: dict[str, int] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    look: Callable[[SecondLookNeeded], SecondLook] = lambda needed: SecondLook(needed.level, True)
    persist_ms: int = 5
    now_ns: int = 1_000 * MS
    target_alive: bool = True
    log: list[tuple[int, FenceCommand]] = field(default_factory=list)
    before_command: Callable[[World, FenceCommand], None] = lambda _world, _command: None
    _queue: list[tuple[int, int, Callable[[], FenceEvent | None]]] = field(default_factory=list)
    _order: int = 0

    def at(self, delay_ms: int, make: Callable[[], FenceEvent | None]) -> None:
        self._order += 1
        heapq.heappush(self._queue, (self.now_ns + delay_ms * MS, self._order, make))

    def give(self, event: FenceEvent) -> None:
        for command in self.session.handle(self.now_ns, event):
            self._obey(command)

    def start(self) -> World:
        for name in self.channels:
            self._beat(name)
        for medium in self.controls:
            self._answer(medium)
        self.at(500, lambda: FenceRequested())
        return self

    def run(self, limit_ms: int = 300_000) -> World:
        end_ns = self.now_ns + limit_ms * MS
        for _ in range(200_000):
            if self.session.finished:
                return self
            due_ns = self._queue[0][0] if self._queue else None
            deadline_ns = self.session.next_deadline()
            if due_ns is None and deadline_ns is None:
                raise AssertionError(f"stuck in {self.session.snapshot()}")
            if deadline_ns is not None and (due_ns is None or deadline_ns < due_ns):
                self.now_ns = max(self.now_ns, deadline_ns)
                for command in self.session.on_deadline(self.now_ns):
                    self._obey(command)
            else:
                assert due_ns is not None
                self.now_ns = max(self.now_ns, due_ns)
                event = heapq.heappop(self._queue)[2]()
                if event is not None:
                    self.give(event)
            assert self.now_ns <= end_ns, f"not finished in time: {self.session.snapshot()}"
        raise AssertionError("too many steps")

    # --- what came of it ---

    @property
    def state(self) -> FenceState:
        return self.session.state

    def commands(self, kind: type) -> list[FenceCommand]:
        return [command for _, command in self.log if isinstance(command, kind)]

    @property
    def acts(self) -> list[str]:
        return [c.device for _, c in self.log if isinstance(c, RunDevice) and c.action == "off"]

    @property
    def level_states(self) -> dict[int, FenceState]:
        return {c.level: c.state for _, c in self.log if isinstance(c, RecordState) and c.level}

    @property
    def finish(self) -> FenceFinished:
        (command,) = self.commands(FenceFinished)
        assert isinstance(command, FenceFinished)
        return command

    # --- the world ---

    def _beat(self, name: str) -> None:
        medium, interval_ms = self.channels[name]

        def beat() -> FenceEvent | None:
            self._beat(name)
            if not self.target_alive or medium in self.broken:
                return None
            return ChannelHeard(name, medium, self.now_ns, interval_ms)

        self.at(interval_ms, beat)

    def _answer(self, medium: str) -> None:
        def answer() -> FenceEvent | None:
            self._answer(medium)
            return None if medium in self.broken else ControlHeard(medium, self.now_ns)

        self.at(self.controls[medium], answer)

    def _obey(self, command: FenceCommand) -> None:
        self.before_command(self, command)
        self.log.append((self.now_ns, command))
        match command:
            case PersistIntent():
                self.at(self.persist_ms, lambda: IntentDurable(command.level))
            case SecondLookNeeded():
                self.at(1, lambda: self.look(command))
            case RunDevice():
                self._run_device(command)
            case ProbeTarget() | RecordState() | FenceFinished():
                pass

    def _run_device(self, order: RunDevice) -> None:
        virtual = self.devices.setdefault(order.device, VirtualDevice())
        if not virtual.answers:
            return
        configured = next(d for level in self.configured for d in level.devices if d.name == order.device)
        identity = configured.identity if virtual.identity is None else virtual.identity

        def off() -> FenceEvent:
            if virtual.acts:
                self.target_alive = False
            return DeviceReported(order.level, order.device, "off", order.attempt, virtual.says)

        def status() -> FenceEvent:
            truth = PowerState.ON if self.target_alive else PowerState.OFF
            power = truth if virtual.reads is None else virtual.reads
            return DeviceReported(order.level, order.device, "status", order.attempt, virtual.status, power, identity)

        self.at(virtual.off_ms if order.action == "off" else virtual.status_ms, off if order.action == "off" else status)


def world(*names: str, identity: str = "id", times: FenceTimes = TIMES, recover_level: int | None = None, **options: object) -> World:
    """A world with these levels (see ``levels``)."""
    configured = levels(*names, identity=identity)
    session = FenceSession("o1", "b", configured, times, recover_level=recover_level)
    return World(session, configured, **options)  # type: ignore[arg-type]
