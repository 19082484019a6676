"""One virtual router: the VRRP state machine (RFC 5798 section 6, RFC 3768 section 6) with keepalived's extensions.

Pure: it owns no socket and no clock. ``handle`` takes an event, ``on_deadline`` fires what is due, both return the commands for
the shell in the order in which they must be executed. Every (state, event) pair stands in ``EVENT_TABLE`` and every (state,
timer) pair in ``TIMER_TABLE``; a pair that means nothing says ``_ignore`` there.

Differences from keepalived, on purpose (docs/adr/0104-heal-always-reannounces.md):
only accepted packets move a timer · the advert timer is re-armed from its deadline, not from "now" · after a heal the winner always
re-announces · at most one unscheduled advert and one set of announcements per interval, however many adverts a hang left in the
queue · one refresh timer, cancelled on leaving MASTER · an address that somebody removed is put back at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from vrrp.protocol.address_lists import difference
from vrrp.protocol.belief import Belief
from vrrp.protocol.commands import (
    AddAddresses,
    AnnounceElsewhere,
    AnnounceSource,
    InstanceCommand,
    ProbeEgress,
    RefitAddresses,
    RemoveAddresses,
    Report,
    ReportKind,
    RunNotify,
    SendAdvert,
    SendGarp,
)
from vrrp.protocol.events import (
    AddressFailed,
    AddressLost,
    AdvertBridged,
    AdvertOutdated,
    AdvertReceived,
    AdvertRepeated,
    AdvertUnsent,
    FaultCleared,
    FaultRaised,
    InstanceEvent,
    LocalAddressChanged,
    ParametersChanged,
    PriorityChanged,
    ProcessStalled,
    Stopped,
    TakeoverGranted,
    YieldRequested,
)
from vrrp.protocol.instance_tables import event_table, timer_table
from vrrp.protocol.packet import CS_NS, Advert, IPAddress
from vrrp.protocol.parameters import InstanceParameters
from vrrp.protocol.restoring import RestorePace
from vrrp.protocol.snapshot import snapshot_of
from vrrp.protocol.states import Counters, Master, State, Timer

if TYPE_CHECKING:
    from base.core import JsonValue

ADDRESS_RETRY_NS = 10_000_000_000
"""After the kernel refused our addresses the instance tries again so much later."""
REANNOUNCE_GAP_NS = 1_000_000_000
"""Unscheduled announcements of one instance are at least so far apart, or one advert interval if that is longer."""
ADDRESS_FAULT = "virtual address"
EGRESS_PROBE_NS = 1_000_000_000
"""An instance in FAULT because its adverts cannot leave tries so often whether they could now."""
UNHEARD_FAULT = "nobody hears us"
NO_END_MS = 365 * 24 * 3_600_000
"""A yield of a year or more is one until it is cancelled."""

_TIMER_ORDER = tuple(Timer)
_BACKUP_TIMERS = (Timer.MASTER_DOWN, Timer.PREEMPT_DELAY)
_SPEAKING_TIMERS = (Timer.RESTORE, Timer.GARP_AGAIN, Timer.GARP_LOWER_AGAIN, Timer.REANNOUNCE, Timer.GARP_REFRESH, Timer.GARP_EXTRA)
_MASTER_TIMERS = (Timer.ADVERT, *_SPEAKING_TIMERS)
Commands: TypeAlias = list[InstanceCommand]


class VrrpInstance:
    """One virtual router as a ``base.core.Core[InstanceEvent, InstanceCommand]``.

    ``local_address`` is the source of its adverts and breaks ties of priority. With ``gate_closed`` it does not become MASTER
    without a valid ``TakeoverGranted`` (strict mode).
    """

    def __init__(self, parameters: InstanceParameters, *, local_address: IPAddress | None, gate_closed: bool = False) -> None:
        self.parameters = parameters
        self.local_address = local_address
        self.gate_closed = gate_closed
        self.state = State.INIT
        self.priority = parameters.priority
        """The effective priority: configured plus trackers."""
        self.master: Master | None = None
        self.master_interval_ns = parameters.interval_ns
        """Master_Adver_Interval: ours, or the one a VRRPv3 BACKUP learned from its master."""
        self.faults: dict[str, None] = {}
        self.reason = "not started"
        self.since_ns = 0
        self.last_heard_ns = 0
        self.unsent_in_a_row = 0
        """Adverts that could not leave, since the last one that did. A MASTER with some is heard by nobody."""
        self.wants_master = False
        """In a sync group: ready to be MASTER, waits for the other members."""
        self.waiting_for_fence = False
        self.grant_epoch = 0
        self.grant_expires_ns = 0
        self.counters = Counters()
        self.deadline_ns: int | None = None
        self._timers: dict[Timer, int] = {}
        self._last_accepted_addresses: tuple[IPAddress, ...] | None = None
        self._last_unscheduled_advert_ns = -(1 << 62)
        self._last_announce_ns = -(1 << 62)
        self._restore_pace = RestorePace()
        self._listening = False
        self._repeatable = False
        self._master_down_ns = 0
        self._send_cache: SendAdvert | None = None
        self._belief = Belief()
        self._differing: IPAddress | None = None
        self._rival: IPAddress | None = None
        self._preempt_delay_over = False
        self._bridging = False
        self._bridged_due_ns = -1
        """Master down as a bridged advert set it last; what the timer said before is ``_unbridged_due_ns``."""
        self._unbridged_due_ns = 0
        self._released_ns: int | None = None
        """When the master said priority 0; None: it or another one was heard since."""

    # ---- Core -----------------------------------------------------------------------------------------------------

    def handle(self, now_ns: int, event: InstanceEvent) -> Commands:
        """Take one event in; see ``base.core.Core``."""
        self._repeatable = self._repeatable and type(event) is AdvertRepeated
        commands: Commands = []
        EVENT_TABLE[self.state, type(event)](self, now_ns, event, commands)
        self._settle()
        return commands

    def on_deadline(self, now_ns: int) -> Commands:
        """Fire every timer that is due, in the order of ``Timer``."""
        commands: Commands = []
        for timer in _TIMER_ORDER:
            due_ns = self._timers.get(timer)
            if due_ns is not None and due_ns <= now_ns:
                del self._timers[timer]
                self._repeatable = False
                TIMER_TABLE[self.state, timer](self, now_ns, due_ns, commands)
        self._settle()
        return commands

    def rehearse(self, now_ns: int) -> Commands:
        """What ``on_deadline`` will do, on a copy that is thrown away: the second walk of a way is several times faster."""
        twin = object.__new__(VrrpInstance)
        twin.__dict__.update(self.__dict__, _timers=dict(self._timers), faults=dict(self.faults), counters=replace(self.counters))
        twin._restore_pace = replace(self._restore_pace)
        return twin.on_deadline(now_ns)

    def next_deadline(self) -> int | None:
        """The earliest armed timer (ns), or None."""
        return self.deadline_ns

    def snapshot(self) -> JsonValue:
        """The whole state as JSON; times are CLOCK_BOOTTIME ns."""
        return snapshot_of(self, self._timers)

    # ---- the hot path ---------------------------------------------------------------------------------------------

    def repeat_accepted(self, now_ns: int) -> bool:
        """The last accepted advert came again, byte for byte: move the master-down deadline, nothing else.

        The same as ``handle(now_ns, AdvertRepeated())`` when that is possible; False if the advert must be looked at in full.
        """
        if not self._repeatable:
            return False
        deadline_ns = now_ns + self._master_down_ns
        self._timers[Timer.MASTER_DOWN] = deadline_ns
        if len(self._timers) == 1:
            self.deadline_ns = deadline_ns
        else:
            self._settle()
        self.last_heard_ns = now_ns
        self.counters.adverts_received += 1
        return True

    @property
    def repeatable(self) -> bool:
        """True if the advert taken last was accepted and nothing happened since: its repetition needs no second look."""
        return self._repeatable

    def _settle(self) -> None:
        self.deadline_ns = min(self._timers.values(), default=None)

    # ---- timers and priorities ------------------------------------------------------------------------------------

    def skew_ns(self) -> int:
        """Skew_Time: RFC 3768 section 6.1 (of a second), RFC 5798 section 6.1 (of the master's interval)."""
        unit_ns = 1_000_000_000 if self.parameters.version == 2 else self.master_interval_ns
        return (256 - self.priority) * unit_ns // 256

    def master_down_ns(self) -> int:
        """Master_Down_Interval."""
        return self.parameters.down_timer_adverts * self.master_interval_ns + self.skew_ns()

    def _change(self, now_ns: int, state: State, reason: str, notify: str | None, commands: Commands) -> None:
        self.state = state
        self.reason = reason
        self.since_ns = now_ns
        self.waiting_for_fence = False
        self.wants_master = False
        self._listening = False
        self._differing = None
        self._rival = None
        self._preempt_delay_over = False
        self._bridging = False
        if notify is not None:
            commands.append(RunNotify(self.parameters.name, notify, self.priority, reason))

    def _report(self, kind: ReportKind, detail: str, commands: Commands) -> None:
        commands.append(Report(self.parameters.name, kind, detail))

    def _wins_against(self, source: IPAddress, priority: int) -> bool:
        """Does a MASTER with our priority and address stay MASTER when it hears this one (RFC 5798 section 6.4.3)?"""
        if priority != self.priority:
            return self.priority > priority
        return self.local_address is not None and int(self.local_address) > int(source)

    # ---- entering and leaving MASTER: the only places ---------------------------------------------------------------

    def _enter_master(self, now_ns: int, reason: str, commands: Commands) -> None:
        p = self.parameters
        for timer in _BACKUP_TIMERS:
            self._timers.pop(timer, None)
        self.master = None
        self.master_interval_ns = p.interval_ns
        self._send_advert(commands)
        commands.append(AddAddresses(p.name))
        if p.garp_repeat:
            commands.append(SendGarp(p.name, p.garp_repeat))
        self._last_announce_ns = now_ns
        self._timers[Timer.ADVERT] = now_ns + p.interval_ns
        if p.garp_delay_ns and p.garp_repeat:
            self._timers[Timer.GARP_AGAIN] = now_ns + p.garp_delay_ns
        if p.garp_refresh_ns:
            self._timers[Timer.GARP_REFRESH] = now_ns + p.garp_delay_ns + p.garp_refresh_ns
        if p.garp_extra_ns:
            self._timers[Timer.GARP_EXTRA] = now_ns + p.garp_delay_ns + p.garp_extra_ns
        self.counters.become_master += 1
        self._change(now_ns, State.MASTER, reason, "MASTER", commands)

    def _leave_master(self, now_ns: int, state: State, reason: str, notify: str, commands: Commands, *, say_zero: bool) -> None:
        if say_zero:
            self._send_zero(commands)
        commands.append(RemoveAddresses(self.parameters.name))
        for timer in _MASTER_TIMERS:
            self._timers.pop(timer, None)
        self.counters.release_master += 1
        self._change(now_ns, state, reason, notify, commands)

    def _enter_backup(self, now_ns: int, reason: str, commands: Commands) -> None:
        """From INIT or FAULT; the instance holds no address there."""
        self.master_interval_ns = self.parameters.interval_ns
        self._change(now_ns, State.BACKUP, reason, "BACKUP", commands)
        self._arm_master_down(now_ns)

    def _arm_master_down(self, now_ns: int) -> None:
        self._master_down_ns = self.master_down_ns()
        self._timers[Timer.MASTER_DOWN] = now_ns + self._master_down_ns

    def _try_master(self, now_ns: int, reason: str, commands: Commands) -> None:
        """Become MASTER if neither a yield, nor the gate, nor the sync group holds us."""
        if Timer.YIELD_END in self._timers:
            return  # its end arms a fresh master-down interval
        if self.gate_closed and now_ns >= self.grant_expires_ns:
            if not self.waiting_for_fence:
                self.waiting_for_fence = True
                self._report(ReportKind.WAITING_FOR_FENCE, reason, commands)
            return
        self.waiting_for_fence = False
        if self.parameters.in_sync_group:
            if not self.wants_master:
                self.wants_master = True
                self._report(ReportKind.WAITING_FOR_GROUP, reason, commands)
            self.reason = reason
            self._arm_master_down(now_ns)
            return
        self._enter_master(now_ns, reason, commands)

    # ---- sending --------------------------------------------------------------------------------------------------

    def advert(self, priority: int) -> Advert:
        """The advert of this instance with any priority (0 = "I am leaving")."""
        p = self.parameters
        return Advert(p.version, p.family, p.vrid, priority, p.addresses, p.interval_ns // CS_NS, p.auth_type, p.auth_data)

    def _send_advert(self, commands: Commands) -> None:
        self.counters.adverts_sent += 1
        commands.append(self.next_advert())

    def next_advert(self) -> SendAdvert:
        """The command with which this instance would speak now; the same object until something changes."""
        if self._send_cache is None or self._send_cache.advert.priority != self.priority:
            self._send_cache = SendAdvert(self.parameters.name, self.advert(self.priority))
        return self._send_cache

    def _send_zero(self, commands: Commands) -> None:
        self.counters.adverts_sent += 1
        self.counters.priority_zero_sent += 1
        commands.append(SendAdvert(self.parameters.name, self.advert(0)))

    def _send_unscheduled(self, now_ns: int, commands: Commands) -> None:
        """An advert out of turn, at most one per interval: a hang may have queued hundreds of reasons for one."""
        if now_ns - self._last_unscheduled_advert_ns < self.parameters.interval_ns:
            return
        self._last_unscheduled_advert_ns = now_ns
        self._send_advert(commands)
        self._timers[Timer.ADVERT] = now_ns + self.parameters.interval_ns

    def _announce(self, now_ns: int, repeat: int, commands: Commands) -> None:
        self._last_announce_ns = now_ns
        self._timers.pop(Timer.REANNOUNCE, None)
        commands.append(SendGarp(self.parameters.name, repeat))

    def _announce_bounded(self, now_ns: int, commands: Commands) -> None:
        """Win the neighbours' caches back: now, or as soon as the last announcement is old enough. Never forgotten."""
        if not self.parameters.garp_lower_prio_repeat:
            return
        earliest_ns = self._last_announce_ns + max(REANNOUNCE_GAP_NS, self.parameters.interval_ns)
        if now_ns < earliest_ns:
            self._timers.setdefault(Timer.REANNOUNCE, earliest_ns)
            return
        self._reannounce(now_ns, now_ns, commands)

    # ---- INIT -----------------------------------------------------------------------------------------------------

    def _ignore(self, now_ns: int, event: object, commands: Commands) -> None:
        """This pair means nothing."""

    def _impossible(self, now_ns: int, due_ns: int, commands: Commands) -> None:
        """A timer that is never armed in this state."""
        raise AssertionError(f"{self.parameters.name}: stray timer in state {self.state.value}")

    def _start(self, now_ns: int, event: object, commands: Commands) -> None:
        # Whatever a dead predecessor left in the kernel goes before anything else is decided.
        commands.append(RemoveAddresses(self.parameters.name))
        self.since_ns = now_ns
        self.reason = "starting"
        begin_ns = max(now_ns + self.parameters.startup_delay_ns, self.parameters.not_before_ns)
        if begin_ns > now_ns:
            self.reason = f"startup delay of {(begin_ns - now_ns) // 1_000_000} ms"
            self._timers[Timer.STARTUP] = begin_ns
        else:
            self._leave_init(now_ns, now_ns, commands)

    def _leave_init(self, now_ns: int, _due_ns: int, commands: Commands) -> None:
        if self.faults:
            self._change(now_ns, State.FAULT, ", ".join(self.faults), "FAULT", commands)
        elif self.parameters.is_owner and self.parameters.start_as_master:
            self._change(now_ns, State.BACKUP, "started as address owner", None, commands)
            self._try_master(now_ns, "address owner", commands)
        else:
            self._enter_backup(now_ns, "started", commands)

    def _stop_init(self, now_ns: int, event: Stopped, commands: Commands) -> None:
        self._timers.clear()

    def _stop_idle(self, now_ns: int, event: Stopped, commands: Commands) -> None:
        self._timers.clear()
        self._change(now_ns, State.INIT, "stopped", event.notify, commands)

    def _stop_master(self, now_ns: int, event: Stopped, commands: Commands) -> None:
        self._leave_master(now_ns, State.INIT, "stopped", event.notify, commands, say_zero=True)
        self._timers.clear()

    # ---- BACKUP ---------------------------------------------------------------------------------------------------

    def _believes(self, event: AdvertReceived, commands: Commands) -> bool:
        """False for a stranger's advert: it moves no timer and deposes nobody."""
        self.counters.adverts_received += 1
        doubt = self._belief.doubt(event.source, event.advert, self.parameters)
        self.counters.strangers_heard += doubt is not None
        if doubt:
            self._report(ReportKind.STRANGER_HEARD, doubt, commands)
        return doubt is None

    def _backup_advert(self, now_ns: int, event: AdvertReceived, commands: Commands) -> None:
        if not self._believes(event, commands):
            return
        advert = event.advert
        if advert.priority == 0:
            self.counters.priority_zero_received += 1
            self._timers[Timer.MASTER_DOWN] = now_ns + self.skew_ns()
            self._released_ns = now_ns
            self._clear_wait()
            return
        self._released_ns = None
        if advert.priority >= self.priority:
            self._timers.pop(Timer.PREEMPT_DELAY, None)
            self._preempt_delay_over = False
            self._accept(now_ns, event, commands)
            self._repeatable = True
        elif not self.parameters.preempt:
            self._accept(now_ns, event, commands)
            self._repeatable = True
        elif self._preempt_delay_holds(now_ns):
            self._accept(now_ns, event, commands)
        elif self.master is not None and event.source == self.master.source:
            self.master = Master(event.source, advert.priority)

    def _preempt_delay_holds(self, now_ns: int) -> bool:
        """keepalived: the delay starts at the first lower advert; when it is over the remaining master-down time runs out."""
        if not self.parameters.preempt_delay_ns:
            return False
        if Timer.PREEMPT_DELAY not in self._timers:
            if self._preempt_delay_over:
                return False
            self._timers[Timer.PREEMPT_DELAY] = now_ns + self.parameters.preempt_delay_ns
        return True

    def _accept(self, now_ns: int, event: AdvertReceived, commands: Commands) -> None:
        advert = event.advert
        if self.parameters.version == 3:
            self.master_interval_ns = advert.interval_ns
        self.master = Master(event.source, advert.priority)
        self.last_heard_ns = now_ns
        self._bridging = False
        self._clear_wait()
        self._compare_addresses(event, commands)
        self._arm_master_down(now_ns)

    def _clear_wait(self) -> None:
        self.waiting_for_fence = False
        self.wants_master = False

    def _compare_addresses(self, event: AdvertReceived, commands: Commands) -> None:
        p = self.parameters
        if not p.check_addresses or event.advert.addresses == self._last_accepted_addresses:
            return
        self._last_accepted_addresses = event.advert.addresses
        if set(event.advert.addresses) == set(p.addresses):
            self._differing = None
            return
        self.counters.addresses_differ += 1
        if self._differing != event.source:
            self._differing = event.source
            detail = f"{event.source}: {difference(p.addresses, event.advert.addresses)}"
            self._report(ReportKind.ADDRESSES_DIFFER, detail, commands)

    def _repeated(self, now_ns: int, event: object, commands: Commands) -> None:
        self.repeat_accepted(now_ns)

    def _master_down(self, now_ns: int, _due_ns: int, commands: Commands) -> None:
        self._try_master(now_ns, "no advert from a master within the master down interval", commands)

    def _preempt_delay_ended(self, _now_ns: int, _due_ns: int, _commands: Commands) -> None:
        self._preempt_delay_over = True

    def _backup_priority(self, now_ns: int, event: PriorityChanged, commands: Commands) -> None:
        before_ns = self.skew_ns()
        self._set_priority(event.priority, commands)
        due_ns = self._timers.get(Timer.MASTER_DOWN)
        if due_ns is not None:
            self._timers[Timer.MASTER_DOWN] = due_ns + self.skew_ns() - before_ns
        self._master_down_ns = self.master_down_ns()

    def _set_priority(self, priority: int, commands: Commands) -> None:
        if priority != self.priority:
            self._report(ReportKind.PRIORITY_CHANGED, f"{self.priority} to {priority}", commands)
            self.priority = priority

    def _other_priority(self, now_ns: int, event: PriorityChanged, commands: Commands) -> None:
        self._set_priority(event.priority, commands)

    def _backup_bridged(self, now_ns: int, event: AdvertBridged, commands: Commands) -> None:
        """Only ever postpones a takeover, never beyond ``valid_ns`` from now (DESIGN section 6), and never against a newer word of the
        peer: what it sent before a priority 0 that was heard here counts for nothing. Priority 0 takes back what was bridged before."""
        if event.priority == 0:
            self._withdraw_bridge(now_ns)
            return
        if event.priority < self.priority and self.parameters.preempt:
            return
        if self._released_ns is not None and now_ns - event.age_ns <= self._released_ns:
            return
        due_ns = min(now_ns - event.age_ns + self.master_down_ns(), now_ns + event.valid_ns)
        if due_ns <= now_ns:
            return
        self.counters.adverts_bridged += 1
        before_ns = self._timers.get(Timer.MASTER_DOWN, now_ns)
        if before_ns < due_ns:
            if before_ns != self._bridged_due_ns:
                self._unbridged_due_ns = before_ns
            self._timers[Timer.MASTER_DOWN] = self._bridged_due_ns = due_ns
            if not self._bridging and now_ns - self.last_heard_ns > self.master_interval_ns + self.skew_ns():
                self._bridging = True
                self._report(ReportKind.ADVERT_BRIDGED, f"priority {event.priority}, {event.age_ns // 1_000_000} ms old", commands)
        self._clear_wait()

    def _withdraw_bridge(self, now_ns: int) -> None:
        """The takeover is due when it would have been without any bridge."""
        if self._timers.get(Timer.MASTER_DOWN) == self._bridged_due_ns:
            self._timers[Timer.MASTER_DOWN] = max(now_ns, self._unbridged_due_ns)
        self._bridging = False

    def _backup_stalled(self, now_ns: int, event: ProcessStalled, commands: Commands) -> None:
        """A silence that we slept through is no silence: give a living master one interval to be heard."""
        due_ns = self._timers.get(Timer.MASTER_DOWN)
        if due_ns is None or event.stalled_ns < self.master_interval_ns:
            return
        self._timers[Timer.MASTER_DOWN] = max(due_ns, now_ns + self.master_interval_ns + self.skew_ns())

    def _granted_waiting(self, now_ns: int, event: TakeoverGranted, commands: Commands) -> None:
        if self._note_grant(now_ns, event, commands) and self.waiting_for_fence:
            self._try_master(now_ns, f"takeover granted (epoch {event.epoch})", commands)

    def _granted(self, now_ns: int, event: TakeoverGranted, commands: Commands) -> None:
        self._note_grant(now_ns, event, commands)

    def _backup_granted(self, now_ns: int, event: TakeoverGranted, commands: Commands) -> None:
        """Nobody else may own it: not the interval since the end of a yield is waited for, only that since the last advert."""
        if self.waiting_for_fence:
            self._granted_waiting(now_ns, event, commands)
        elif self._note_grant(now_ns, event, commands) and self.gate_closed and Timer.MASTER_DOWN in self._timers:
            heard_due_ns = self.last_heard_ns + self.master_down_ns() if self.master is not None else now_ns
            if self._released_ns is not None:
                heard_due_ns = self._released_ns + self.skew_ns()
            self._timers[Timer.MASTER_DOWN] = min(self._timers[Timer.MASTER_DOWN], max(now_ns, heard_due_ns))

    def _note_grant(self, now_ns: int, event: TakeoverGranted, commands: Commands) -> bool:
        if event.epoch < self.grant_epoch or event.expires_ns <= now_ns:
            self._report(ReportKind.GRANT_REFUSED, f"epoch {event.epoch}, newest seen {self.grant_epoch}", commands)
            return False
        if event.epoch > self.grant_epoch:
            self._report(ReportKind.GRANT_ACCEPTED, f"epoch {event.epoch}", commands)
        self.grant_epoch, self.grant_expires_ns = event.epoch, event.expires_ns
        return True

    def _promoted(self, now_ns: int, event: object, commands: Commands) -> None:
        if Timer.YIELD_END not in self._timers:
            self._enter_master(now_ns, self.reason if self.wants_master else "sync group became MASTER", commands)

    # ---- yield: in every state ------------------------------------------------------------------------------------

    def _yield_idle(self, now_ns: int, event: YieldRequested, commands: Commands) -> None:
        if event.until_ns <= now_ns:
            return
        if Timer.YIELD_END not in self._timers:
            for_ms = (event.until_ns - now_ns) // 1_000_000
            self._report(ReportKind.YIELDING, f"for {for_ms} ms" if for_ms < NO_END_MS else "until it is cancelled", commands)
        self._timers[Timer.YIELD_END] = event.until_ns
        # A request to yield ends whatever was granted; the next grant may come from a watcher that counts anew.
        self.grant_epoch, self.grant_expires_ns = 0, 0
        self._clear_wait()

    def _yield_master(self, now_ns: int, event: YieldRequested, commands: Commands) -> None:
        if event.until_ns <= now_ns:
            return
        self._leave_master(now_ns, State.BACKUP, "asked to yield", "BACKUP", commands, say_zero=True)
        self._yield_idle(now_ns, event, commands)
        self._arm_master_down(now_ns)

    def _unyield(self, now_ns: int, event: object, commands: Commands) -> None:
        if self._timers.pop(Timer.YIELD_END, None) is not None:
            self._yield_ended(now_ns, now_ns, commands)

    def _yield_ended(self, now_ns: int, _due_ns: int, commands: Commands) -> None:
        self._report(ReportKind.YIELD_ENDED, "", commands)
        if self.state is State.BACKUP:
            if self._released_ns is not None:  # the master released it meanwhile, and nobody was heard since
                self._timers[Timer.MASTER_DOWN] = max(now_ns, self._released_ns + self.skew_ns())
                return
            # Nothing was decided while we yielded: whoever is MASTER now gets a whole interval to be heard.
            self._timers[Timer.MASTER_DOWN] = max(self._timers.get(Timer.MASTER_DOWN, 0), now_ns + self.master_down_ns())

    # ---- MASTER ---------------------------------------------------------------------------------------------------

    def _advert_due(self, now_ns: int, due_ns: int, commands: Commands) -> None:
        next_ns = due_ns + self.parameters.interval_ns
        self._timers[Timer.ADVERT] = next_ns if next_ns > now_ns else now_ns + self.parameters.interval_ns
        self._send_advert(commands)
        if self._listening:
            self._listening = False
            self._announce_bounded(now_ns, commands)

    def _master_advert(self, now_ns: int, event: AdvertReceived, commands: Commands) -> None:
        advert = event.advert
        if not self._believes(event, commands):
            return
        if advert.priority == 0:
            # A second MASTER that leaves: the neighbours may still know its address only.
            self.counters.priority_zero_received += 1
            self._send_unscheduled(now_ns, commands)
            self._announce_bounded(now_ns, commands)
        elif self._listening and (self.gate_closed or not self.parameters.preempt):
            # Nobody is deposed who took over with good reason; in strict mode, only with a proof that we were off.
            self._lose_to(now_ns, event, "another master took over while this node stood still", commands)
        elif self._wins_against(event.source, advert.priority):
            self._keep_against(now_ns, event, commands)
        else:
            word = "higher" if advert.priority > self.priority else "equal"
            self._lose_to(now_ns, event, f"heard {word} priority {advert.priority} from {event.source}", commands)

    def _keep_against(self, now_ns: int, event: AdvertReceived, commands: Commands) -> None:
        self.counters.lower_priority_heard += 1
        self._listening = False
        if event.source != self._rival:
            self._rival = event.source
            detail = f"priority {event.advert.priority} from {event.source}"
            self._report(ReportKind.LOWER_PRIORITY_MASTER_HEARD, detail, commands)
        if not self.parameters.lower_prio_no_advert:
            self._send_unscheduled(now_ns, commands)
        self._announce_bounded(now_ns, commands)

    def _outdated_rival(self, now_ns: int, event: AdvertOutdated, commands: Commands) -> None:
        """After a split both masters have counted on, and the one that took over later is behind: it loses, but the neighbours may know it.
        A replay can bring about no more than that."""
        if self._wins_against(event.source, event.advert.priority):
            if not self.parameters.lower_prio_no_advert:
                self._send_unscheduled(now_ns, commands)
            self._announce_bounded(now_ns, commands)

    def _lose_to(self, now_ns: int, event: AdvertReceived, reason: str, commands: Commands) -> None:
        if self.parameters.higher_prio_send_advert and not self._wins_against(event.source, event.advert.priority):
            # The last word: the winner hears that there were two and announces itself (keepalived and we answer it so).
            self._send_advert(commands)
        self._leave_master(now_ns, State.BACKUP, reason, "BACKUP", commands, say_zero=False)
        self._accept(now_ns, event, commands)

    def _reannounce(self, now_ns: int, _due_ns: int, commands: Commands) -> None:
        p = self.parameters
        self._announce(now_ns, p.garp_lower_prio_repeat, commands)
        if p.garp_lower_prio_delay_ns:
            self._timers.setdefault(Timer.GARP_LOWER_AGAIN, now_ns + p.garp_lower_prio_delay_ns)

    def _garp_lower_again(self, now_ns: int, _due_ns: int, commands: Commands) -> None:
        self._rival = None
        self._announce(now_ns, self.parameters.garp_lower_prio_repeat, commands)

    def _garp_again(self, now_ns: int, _due_ns: int, commands: Commands) -> None:
        self._announce(now_ns, self.parameters.garp_repeat, commands)

    def _again(self, timer: Timer, now_ns: int, due_ns: int, interval_ns: int) -> None:
        self._timers[timer] = max(due_ns, now_ns - interval_ns) + interval_ns

    def _garp_refresh(self, now_ns: int, due_ns: int, commands: Commands) -> None:
        self._again(Timer.GARP_REFRESH, now_ns, due_ns, self.parameters.garp_refresh_ns)
        self._announce(now_ns, self.parameters.garp_refresh_repeat, commands)

    def _garp_extra(self, now_ns: int, due_ns: int, commands: Commands) -> None:
        self._again(Timer.GARP_EXTRA, now_ns, due_ns, self.parameters.garp_extra_ns)
        commands.append(AnnounceElsewhere(self.parameters.name))

    def _announce_asked(self, now_ns: int, event: object, commands: Commands) -> None:
        self._announce(now_ns, max(1, self.parameters.garp_lower_prio_repeat), commands)

    def _address_lost(self, now_ns: int, event: AddressLost, commands: Commands) -> None:
        earliest_ns = self._restore_pace.earliest_ns
        if now_ns >= earliest_ns:
            self._restore(now_ns, now_ns, commands)
        else:
            self._timers.setdefault(Timer.RESTORE, earliest_ns)

    def _restore(self, now_ns: int, _due_ns: int, commands: Commands) -> None:
        self.counters.addresses_restored += 1
        self._report(ReportKind.ADDRESS_RESTORED, self._restore_pace.restored(now_ns), commands)
        commands.append(AddAddresses(self.parameters.name))
        self._announce(now_ns, max(1, self.parameters.garp_repeat), commands)

    def _address_failed(self, now_ns: int, event: AddressFailed, commands: Commands) -> None:
        """A MASTER that advertises without its addresses is worse than none: hand over, try again later."""
        self._timers[Timer.FAULT_RETRY] = now_ns + ADDRESS_RETRY_NS
        self._fault_master(now_ns, FaultRaised(f"{ADDRESS_FAULT}: {event.error}"), commands)

    def _fault_retry(self, now_ns: int, _due_ns: int, commands: Commands) -> None:
        for cause in [cause for cause in self.faults if cause.startswith(ADDRESS_FAULT)]:
            if self.state is State.FAULT:
                self._fault_cleared(now_ns, FaultCleared(cause), commands)
            else:
                del self.faults[cause]

    def _others_took_over(self, stalled_ns: int) -> bool:
        """timer_expired_backup: have the others not heard us for long enough that one of them is MASTER now?

        keepalived's limit, counted from the last advert: three intervals and the skew of the highest other priority. An advert was due
        when the sleep began or within one interval after.
        """
        p = self.parameters
        if not p.late_backup_priority or p.preempt:
            return False
        unit_ns = 1_000_000_000 if p.version == 2 else p.interval_ns
        return stalled_ns + p.interval_ns >= 3 * p.interval_ns + (256 - p.late_backup_priority) * unit_ns // 256

    def _master_stalled(self, now_ns: int, event: ProcessStalled, commands: Commands) -> None:
        """After a sleep longer than the others' patience: listen for one interval before speaking."""
        if self._others_took_over(event.stalled_ns):
            reason = f"stood still for {event.stalled_ns // 1_000_000} ms (timer_expired_backup)"
            self._leave_master(now_ns, State.BACKUP, reason, "BACKUP", commands, say_zero=False)
            self._arm_master_down(now_ns)
            return
        if event.stalled_ns < self.parameters.down_timer_adverts * self.parameters.interval_ns:
            return
        detail = f"stood still for {event.stalled_ns // 1_000_000} ms"
        self._listening = True
        until_ns = self._timers[Timer.ADVERT] = now_ns + self.parameters.interval_ns
        for timer in _SPEAKING_TIMERS:  # an announcement would take the addresses from whoever is MASTER now
            if timer in self._timers:
                self._timers[timer] = max(self._timers[timer], until_ns)
        self._report(ReportKind.LISTENING_AFTER_STALL, detail, commands)

    def _demoted(self, now_ns: int, event: object, commands: Commands) -> None:
        self._leave_master(now_ns, State.BACKUP, "sync group went to BACKUP", "BACKUP", commands, say_zero=False)
        self._arm_master_down(now_ns)

    # ---- a MASTER that nobody can hear (#1934) ----------------------------------------------------------------------

    def _unsent_idle(self, now_ns: int, event: AdvertUnsent, commands: Commands) -> None:
        self.counters.adverts_unsent += 1

    def _unsent_master(self, now_ns: int, event: AdvertUnsent, commands: Commands) -> None:
        self.counters.adverts_unsent += 1
        self.unsent_in_a_row += 1
        if self.unsent_in_a_row == 1:
            detail = f"{event.error}: our adverts leave to nobody; the others will take this node for dead and become MASTER too"
            self._report(ReportKind.UNHEARD, detail, commands)
        if 0 < self.parameters.unheard_limit <= self.unsent_in_a_row:
            self._timers[Timer.EGRESS_PROBE] = now_ns + EGRESS_PROBE_NS
            self._fault_master(now_ns, FaultRaised(f"{UNHEARD_FAULT}: {event.error}"), commands)

    def _sent_again(self, now_ns: int, event: object, commands: Commands) -> None:
        if self.unsent_in_a_row:
            self._report(ReportKind.HEARD_AGAIN, f"after {self.unsent_in_a_row} adverts", commands)
            self.unsent_in_a_row = 0

    def _sent_again_fault(self, now_ns: int, event: object, commands: Commands) -> None:
        self._sent_again(now_ns, event, commands)
        self._timers.pop(Timer.EGRESS_PROBE, None)
        for cause in [cause for cause in self.faults if cause.startswith(UNHEARD_FAULT)]:
            self._fault_cleared(now_ns, FaultCleared(cause), commands)

    def _probe_egress(self, now_ns: int, _due_ns: int, commands: Commands) -> None:
        if any(cause.startswith(UNHEARD_FAULT) for cause in self.faults):
            self._timers[Timer.EGRESS_PROBE] = now_ns + EGRESS_PROBE_NS
            commands.append(ProbeEgress(self.parameters.name))

    # ---- FAULT ----------------------------------------------------------------------------------------------------

    def _note_fault(self, now_ns: int, event: FaultRaised, commands: Commands) -> None:
        self.faults[event.cause] = None

    def _forget_fault(self, now_ns: int, event: FaultCleared, commands: Commands) -> None:
        self.faults.pop(event.cause, None)

    def _fault_backup(self, now_ns: int, event: FaultRaised, commands: Commands) -> None:
        self.faults[event.cause] = None
        for timer in _BACKUP_TIMERS:
            self._timers.pop(timer, None)
        self._change(now_ns, State.FAULT, event.cause, "FAULT", commands)

    def _fault_master(self, now_ns: int, event: FaultRaised, commands: Commands) -> None:
        self.faults[event.cause] = None
        self._leave_master(now_ns, State.FAULT, event.cause, "FAULT", commands, say_zero=True)

    def _fault_cleared(self, now_ns: int, event: FaultCleared, commands: Commands) -> None:
        self.faults.pop(event.cause, None)
        if self.faults:
            self.reason = ", ".join(self.faults)
            return
        if self.parameters.announces_source:
            commands.append(AnnounceSource(self.parameters.name))
        self._enter_backup(now_ns, f"fault cleared: {event.cause}", commands)
        if self.parameters.is_owner and self.parameters.start_as_master:
            self._timers[Timer.MASTER_DOWN] = now_ns + self.parameters.interval_ns + self.skew_ns()

    # ---- configuration --------------------------------------------------------------------------------------------

    def _address_set(self, now_ns: int, event: LocalAddressChanged, commands: Commands) -> None:
        self.local_address = event.address

    def _reload(self, now_ns: int, event: ParametersChanged, commands: Commands) -> None:
        """Not MASTER: what is virtual from now on must not be here, however it came."""
        if event.parameters.carried != self.parameters.carried:
            commands.append(RemoveAddresses(event.parameters.name))
        self._replace_parameters(event.parameters)

    def _reload_backup(self, now_ns: int, event: ParametersChanged, commands: Commands) -> None:
        before_ns = self.master_down_ns()
        # Version 2 learns no interval from its master.
        learned = self.master is not None and self.parameters.version == event.parameters.version == 3
        self._reload(now_ns, event, commands)
        if not learned:
            self.master_interval_ns = event.parameters.interval_ns
        self._master_down_ns = self.master_down_ns()
        due_ns = self._timers.get(Timer.MASTER_DOWN)
        if due_ns is not None:
            self._timers[Timer.MASTER_DOWN] = due_ns + self._master_down_ns - before_ns
        if not event.parameters.preempt_delay_ns:
            self._timers.pop(Timer.PREEMPT_DELAY, None)

    def _reload_master(self, now_ns: int, event: ParametersChanged, commands: Commands) -> None:
        """Stay MASTER. The kernel gets what the file says now, whatever changed of it; what is new is announced."""
        before = self.parameters
        self._replace_parameters(event.parameters)
        p = self.parameters
        if p.interval_ns != before.interval_ns:
            self._timers[Timer.ADVERT] = min(self._timers[Timer.ADVERT], now_ns + p.interval_ns)
        for timer, old_ns, new_ns in (
            (Timer.GARP_REFRESH, before.garp_refresh_ns, p.garp_refresh_ns),
            (Timer.GARP_EXTRA, before.garp_extra_ns, p.garp_extra_ns),
        ):
            if new_ns != old_ns:
                self._timers.pop(timer, None)
                if new_ns:
                    self._timers[timer] = now_ns + new_ns
        commands.append(RefitAddresses(p.name))
        if (p.carried, p.virtual_mac) != (before.carried, before.virtual_mac) and p.garp_repeat:
            self._announce(now_ns, p.garp_repeat, commands)

    def _replace_parameters(self, parameters: InstanceParameters) -> None:
        """The effective priority follows by its own event, from the trackers; an untracked one is set here."""
        if parameters == self.parameters:
            return
        if self.priority == self.parameters.priority:
            self.priority = parameters.priority
        self.parameters = replace(parameters)
        self._send_cache = None
        self._last_accepted_addresses = None


EVENT_TABLE, TIMER_TABLE = event_table(VrrpInstance), timer_table(VrrpInstance)
