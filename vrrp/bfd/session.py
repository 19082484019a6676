"""One BFD session in asynchronous mode (RFC 5880 section 6.8), as a ``base.core.Core``.

Pure. The packets that come in have passed ``packet.decode`` and the shell's checks of addresses and hop limit. Echo and authentication are
not offered (keepalived.conf has no words for them); a neighbor that asks for demand mode is obeyed (section 6.6).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from base.core import NS_PER_MS, NS_PER_S, NS_PER_US
from vrrp.bfd.packet import MAX_INTERVAL_US, ControlPacket, Diagnostic, SessionState

if TYPE_CHECKING:
    from base.core import JsonValue

INITIAL_REMOTE_MIN_RX_NS = NS_PER_US
"""RFC 5880 section 6.8.1: bfd.RemoteMinRxInterval starts as 1 µs."""
SLOWEST_NOT_UP_NS = NS_PER_S
"""RFC 5880 section 6.8.3: while not Up, one packet a second at most."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What the operator chose. ``idle_tx_ns``: interval while not Up, at least one second. ``passive``: speak only when spoken to."""

    name: str
    min_tx_ns: int = 10 * NS_PER_MS
    min_rx_ns: int = 10 * NS_PER_MS
    idle_tx_ns: int = NS_PER_S
    multiplier: int = 5
    passive: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """The socket is open."""


@dataclass(frozen=True, slots=True)
class PacketReceived:
    """A packet of this session's neighbor."""

    packet: ControlPacket


@dataclass(frozen=True, slots=True)
class AdministrativelyDisabled:
    """The operator, or the end of the daemon, takes the session down."""


@dataclass(frozen=True, slots=True)
class AdministrativelyEnabled:
    """And lets it come up again."""


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """A reload; the session stays up and negotiates the new timers by a Poll Sequence."""

    settings: SessionSettings


@dataclass(frozen=True, slots=True)
class SendPacket:
    """To the neighbor, now."""

    packet: ControlPacket


@dataclass(frozen=True, slots=True)
class ReportState:
    """The session entered ``state``; ``reason`` is for people."""

    state: SessionState
    diagnostic: Diagnostic
    reason: str


SessionEvent: TypeAlias = Started | PacketReceived | AdministrativelyDisabled | AdministrativelyEnabled | SettingsChanged
SessionCommand: TypeAlias = SendPacket | ReportState


class BfdSession:
    """``Core[SessionEvent, SessionCommand]``. ``local_discriminator``: not 0, unique on this node. ``rng()``: uniform in [0, 1)."""

    def __init__(self, settings: SessionSettings, local_discriminator: int, rng: Callable[[], float]) -> None:
        self.settings = settings
        self.local_discriminator = local_discriminator
        self.state = SessionState.DOWN
        self.diagnostic = Diagnostic.NONE
        self.remote_state = SessionState.DOWN
        self.remote_diagnostic = 0
        self.remote_discriminator = 0
        self.detection_time_ns = 0
        self.transitions = 0
        self._rng = rng
        self._remote_min_rx_ns = INITIAL_REMOTE_MIN_RX_NS
        self._remote_demand = False
        self._running = False
        self._desired_tx_ns = self._slow_tx_ns  # what our packets say
        self._tx_in_force_ns = self._desired_tx_ns  # lags behind an increase until the neighbor has agreed
        self._rx_in_force_ns = settings.min_rx_ns  # lags behind a decrease until the neighbor has agreed
        self._polling = False
        self._sent_ns: int | None = None
        self._send_due_ns: int | None = None
        self._heard_ns: int | None = None

    # ---- Core -----------------------------------------------------------------------------------------------------

    def handle(self, now_ns: int, event: SessionEvent) -> list[SessionCommand]:
        """Take one event in; see ``base.core.Core``."""
        match event:
            case PacketReceived(packet):
                return self._received(now_ns, packet)
            case Started():
                self._running = True
                self._send_due_ns = now_ns + int(self._rng() * self._slow_tx_ns / 4) if self._may_transmit() else None
                return []
            case AdministrativelyDisabled():
                if self.state is SessionState.ADMIN_DOWN:
                    return []
                return self._enter(now_ns, SessionState.ADMIN_DOWN, Diagnostic.ADMINISTRATIVELY_DOWN, "switched off here")
            case AdministrativelyEnabled():
                if self.state is not SessionState.ADMIN_DOWN:
                    return []
                return self._enter(now_ns, SessionState.DOWN, Diagnostic.NONE, "switched on here")
            case SettingsChanged(settings):
                return self._adopt(now_ns, settings)

    def on_deadline(self, now_ns: int) -> list[SessionCommand]:
        """Detection time first, then the periodic packet."""
        commands: list[SessionCommand] = []
        silent_ns = self._detection_due_ns()
        if silent_ns is not None and silent_ns <= now_ns:
            commands += self._neighbor_silent(now_ns)
        if self._send_due_ns is not None and self._send_due_ns <= now_ns:
            commands += self._transmit(now_ns)
        return commands

    def next_deadline(self) -> int | None:
        """The earlier of the next packet and the end of the detection time."""
        return min((due for due in (self._send_due_ns, self._detection_due_ns()) if due is not None), default=None)

    def snapshot(self) -> JsonValue:
        """The whole state as JSON."""
        return {
            "name": self.settings.name,
            "state": self.state.name,
            "diagnostic": self.diagnostic.name,
            "remote_state": self.remote_state.name,
            "remote_diagnostic": self.remote_diagnostic,
            "local_discriminator": self.local_discriminator,
            "remote_discriminator": self.remote_discriminator,
            "tx_interval_us": self.transmit_interval_ns // NS_PER_US,
            "detection_time_us": self.detection_time_ns // NS_PER_US,
            "polling": self._polling,
            "transitions": self.transitions,
        }

    # ---- timers (sections 6.8.2 to 6.8.4 and 6.8.7) -----------------------------------------------------------------

    @property
    def transmit_interval_ns(self) -> int:
        """The agreed interval before jitter; 0 while the neighbor wants no periodic packets."""
        return 0 if not self._remote_min_rx_ns else max(self._tx_in_force_ns, self._remote_min_rx_ns)

    @property
    def _slow_tx_ns(self) -> int:
        return max(SLOWEST_NOT_UP_NS, self.settings.idle_tx_ns, self.settings.min_tx_ns)

    def _may_transmit(self) -> bool:
        if not self._running or not self._remote_min_rx_ns or (self.settings.passive and not self.remote_discriminator):
            return False
        both_up = self.state is SessionState.UP and self.remote_state is SessionState.UP
        return not (self._remote_demand and both_up and not self._polling)

    def _jittered_ns(self) -> int:
        """75 to 100 % of the interval; to 90 % with a multiplier of 1, where one late packet would end the session."""
        width = 0.15 if self.settings.multiplier == 1 else 0.25
        return int(self.transmit_interval_ns * (0.75 + width * self._rng()))

    def _schedule(self, now_ns: int) -> None:
        """After anything that may change the interval: never later than the interval in force allows."""
        if not self._may_transmit():
            self._send_due_ns = None
        elif self._sent_ns is None:
            self._send_due_ns = now_ns
        elif self._send_due_ns is None or self._send_due_ns > self._sent_ns + self.transmit_interval_ns:
            self._send_due_ns = max(now_ns, self._sent_ns + self._jittered_ns())

    def _detection_due_ns(self) -> int | None:
        if self._heard_ns is None or not self.detection_time_ns:
            return None
        return self._heard_ns + self.detection_time_ns

    def _transmit(self, now_ns: int) -> list[SessionCommand]:
        self._sent_ns = now_ns
        self._send_due_ns = now_ns + self._jittered_ns() if self._may_transmit() else None
        return [SendPacket(self._packet(poll=self._polling))]

    def _packet(self, *, poll: bool = False, final: bool = False) -> ControlPacket:
        return ControlPacket(
            state=self.state,
            my_discriminator=self.local_discriminator,
            your_discriminator=self.remote_discriminator,
            desired_min_tx_us=min(MAX_INTERVAL_US, self._desired_tx_ns // NS_PER_US),
            required_min_rx_us=min(MAX_INTERVAL_US, self.settings.min_rx_ns // NS_PER_US),
            detect_multiplier=self.settings.multiplier,
            diagnostic=self.diagnostic,
            poll=poll,
            final=final,
        )

    def _want_tx(self, interval_ns: int) -> None:
        """Announce another DesiredMinTxInterval: a decrease holds at once, an increase while Up only after the Poll Sequence."""
        if interval_ns == self._desired_tx_ns:
            return
        self._desired_tx_ns = interval_ns
        if self.state is SessionState.UP:
            self._polling = True
            self._tx_in_force_ns = min(self._tx_in_force_ns, interval_ns)
        else:
            self._tx_in_force_ns = interval_ns

    def _poll_answered(self) -> None:
        self._polling = False
        self._tx_in_force_ns = self._desired_tx_ns
        self._rx_in_force_ns = self.settings.min_rx_ns

    # ---- reception (section 6.8.6) ----------------------------------------------------------------------------------

    def _received(self, now_ns: int, packet: ControlPacket) -> list[SessionCommand]:
        if not self._running:
            return []
        self.remote_discriminator = packet.my_discriminator
        self.remote_state = packet.state
        self.remote_diagnostic = packet.diagnostic
        self._remote_demand = packet.demand
        self._remote_min_rx_ns = packet.required_min_rx_us * NS_PER_US
        if packet.final and self._polling:
            self._poll_answered()
        commands: list[SessionCommand] = []
        if self.state is not SessionState.ADMIN_DOWN:
            self._heard_ns = now_ns
            commands = self._follow(now_ns, packet.state)
            self._detect_with(packet)
        self._schedule(now_ns)
        if packet.poll:
            # Whatever was said on entering a state is said again here, with the Final bit: one packet less.
            commands = [c for c in commands if not isinstance(c, SendPacket)]
            self._sent_ns = now_ns
            commands.append(SendPacket(self._packet(final=True)))
        return commands

    def _detect_with(self, packet: ControlPacket) -> None:
        self.detection_time_ns = packet.detect_multiplier * max(self._rx_in_force_ns, packet.desired_min_tx_us * NS_PER_US)

    def _follow(self, now_ns: int, remote: SessionState) -> list[SessionCommand]:
        """The state machine of section 6.2."""
        down = Diagnostic.NEIGHBOR_SIGNALED_DOWN
        match self.state, remote:
            case SessionState.INIT | SessionState.UP, SessionState.ADMIN_DOWN:
                return self._enter(now_ns, SessionState.DOWN, down, "the neighbor was switched off by its administrator")
            case SessionState.DOWN, SessionState.DOWN:
                return self._enter(now_ns, SessionState.INIT, self.diagnostic, "the neighbor is there")
            case SessionState.DOWN, SessionState.INIT:
                return self._enter(now_ns, SessionState.UP, Diagnostic.NONE, "both sides hear each other")
            case SessionState.INIT, SessionState.INIT | SessionState.UP:
                return self._enter(now_ns, SessionState.UP, Diagnostic.NONE, "both sides hear each other")
            case SessionState.UP, SessionState.DOWN:
                return self._enter(now_ns, SessionState.DOWN, down, "the neighbor says that it does not hear us")
            case _:
                return []

    def _neighbor_silent(self, now_ns: int) -> list[SessionCommand]:
        silent_ms = self.detection_time_ns / NS_PER_MS
        self._heard_ns = None
        self.detection_time_ns = 0
        self.remote_discriminator = 0
        self.remote_state = SessionState.DOWN
        self._remote_min_rx_ns = INITIAL_REMOTE_MIN_RX_NS
        self._remote_demand = False
        if self.state in (SessionState.INIT, SessionState.UP):
            reason = f"nothing heard from the neighbor for {silent_ms:g} ms"
            return self._enter(now_ns, SessionState.DOWN, Diagnostic.DETECTION_TIME_EXPIRED, reason)
        self._schedule(now_ns)
        return []

    def _enter(self, now_ns: int, state: SessionState, diagnostic: Diagnostic, reason: str) -> list[SessionCommand]:
        """Change the state and say so at once: the neighbor need not wait for the next interval."""
        self.state, self.diagnostic = state, diagnostic
        self.transitions += 1
        if state is SessionState.UP:
            self._want_tx(self.settings.min_tx_ns)
        else:
            self._polling = False
            self._want_tx(self._slow_tx_ns)
            self._tx_in_force_ns = self._desired_tx_ns
            self._rx_in_force_ns = self.settings.min_rx_ns
        if state is SessionState.ADMIN_DOWN:
            self._heard_ns, self.detection_time_ns = None, 0
        self._send_due_ns = None
        commands: list[SessionCommand] = self._transmit(now_ns) if self._may_transmit() else []
        return [*commands, ReportState(state, diagnostic, reason)]

    # ---- reload -----------------------------------------------------------------------------------------------------

    def _adopt(self, now_ns: int, settings: SessionSettings) -> list[SessionCommand]:
        if settings == self.settings:
            return []
        before, self.settings = self.settings, settings
        up = self.state is SessionState.UP
        self._want_tx(settings.min_tx_ns if up else self._slow_tx_ns)
        if settings.min_rx_ns != before.min_rx_ns:
            self._polling = self._polling or up
            # A decrease counts for the detection time only once the neighbor knows it.
            self._rx_in_force_ns = max(before.min_rx_ns, settings.min_rx_ns) if up else settings.min_rx_ns
        self._send_due_ns = None
        return self._transmit(now_ns) if self._may_transmit() else []
