"""PURE: the whole memory of a running watcher, shared by the parts that judge and the parts that act.

Nothing here decides; see judging.py (facts), group_actor.py and fence_control.py (acts), watcher.py (intake and hooks).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from base.core import NS_PER_MS, JsonValue
from watchdog.config.model import BrainSettings, GroupKey, GroupSettings, LinkAddress, Mode
from watchdog.frames.heartbeat import GroupReport, GroupState, LinkMac, NodeFlags
from watchdog.judgement.arbitration import Defect, GroupHealth, HealthFacts, Standing, defects, flags, keeps
from watchdog.judgement.census import Census
from watchdog.judgement.channels import PeerChannels
from watchdog.judgement.commands import AcknowledgeAlerts, Persist, ProbeOwners, PublishStatus, Row, RowKind, WatcherCommand
from watchdog.judgement.contact import PeerContact
from watchdog.judgement.durable_facts import SavedWindow
from watchdog.judgement.events import DaemonState, Started
from watchdog.judgement.evidence import Ledger
from watchdog.judgement.group_view import GateReason, GroupView
from watchdog.judgement.incidents import IncidentBook
from watchdog.judgement.neighbours import Neighbours
from watchdog.judgement.stages import Track
from watchdog.judgement.surroundings import Surroundings
from watchdog.judgement.verdict import PAIR_SCOPE, Isolation
from watchdog.judgement.witnessing import Witnessing

EXCUSED_MS = 3_600_000
RESTART_MS = 30_000
"""A watcher that restarts itself is back within a second or two; after this it is missed like any other."""


@dataclass(slots=True)
class WatcherState:
    """See the module docstring. ``kernel``: this kernel's addresses (where on a LAN → the interfaces that hold it there);
    ``watched``: the groups of each configured address; ``interfaces`` carry VIPs or adverts, each once; ``out`` are the commands of
    the call in progress, in order; ``dirty`` the scopes to judge before it ends."""

    settings: BrainSettings
    started: Started
    started_ns: int
    ledger: Ledger
    contact: PeerContact
    census: Census
    surroundings: Surroundings
    incidents: IncidentBook
    neighbours: Neighbours
    pair: Track
    witness: Witnessing
    groups: dict[GroupKey, GroupView] = field(default_factory=dict)
    kernel: dict[LinkAddress, tuple[str, ...]] = field(default_factory=dict)
    watched: dict[LinkAddress, tuple[GroupKey, ...]] = field(default_factory=dict)
    interfaces: tuple[str, ...] = ()
    out: list[WatcherCommand] = field(default_factory=list)
    dirty: dict[str, None] = field(default_factory=dict)
    trusted_from_ns: int = 0
    settled_from_ns: int = 0
    recorder_up: bool = False
    runner_up: bool = False
    quarantined: bool = False
    maintenance_until_ns: int | None = None
    peer_maintenance_until_ns: int | None = None
    stopping: bool = False
    restarting: bool = False
    peer_announced: bool = False
    """The peer's last word was that it stops or restarts."""
    peer_returns_ns: int = 0
    """Until when the paths of a peer that announced its restart have time to come back."""
    peer_left: bool = False
    peer_proved_off: str = ""
    self_fencing: bool = False
    """This node's hardware watchdog is armed and fed only while the peer acknowledges (self_fence.py)."""
    peer_stopped: bool = False
    """The peer's watcher stopped in order and nothing of its node was heard since, although we could have heard it (judging.py)."""
    peer_sign_ns: int = 0
    """When anything of the peer, authenticated or open, was known the last time that something was judged."""
    peer_gone_saved: bool = False
    """What the record says of ``peer_is_gone`` (peer_gone.py)."""
    peer_addresses: tuple[str, ...] = ()
    link_macs: tuple[LinkMac, ...] = ()
    channels: PeerChannels = field(default_factory=PeerChannels)
    segment_answered_ns: int | None = None
    announced_fence: bool = False
    suspect: bool = False
    fence_armed: bool = False
    pair_wake_ns: int | None = None
    beat_wanted: bool = False
    rows: int = 0
    barrier: int = 0
    failures: dict[str, int] = field(default_factory=dict)

    def touch(self, scope: str) -> None:
        """Something about this scope changed: judge it before the call ends."""
        self.dirty[scope] = None

    def touch_all(self) -> None:
        """Something about the node or the peer changed: judge everything."""
        self.dirty[PAIR_SCOPE] = None
        for view in self.groups.values():
            self.dirty[view.scope] = None

    # --- small questions ---

    @property
    def mode(self) -> Mode:
        """``policy.mode``."""
        return self.settings.policy.mode

    @property
    def resolves(self) -> bool:
        """Whether this mode acts on anything (resolve and strict)."""
        return self.mode is not Mode.OBSERVE

    def settled(self, now_ns: int) -> bool:
        """After the start we listen for ``settle_ms`` before anything is judged."""
        return now_ns >= self.settled_from_ns

    def trusted(self, now_ns: int) -> bool:
        """Promise 8: after a stall, a silence means something only when we have listened long enough again."""
        return now_ns >= self.trusted_from_ns

    def in_maintenance(self, now_ns: int) -> bool:
        """A person said so, and its time has not run out."""
        return self.maintenance_until_ns is not None and now_ns < self.maintenance_until_ns

    def set_maintenance(self, now_ns: int, until_ns: int | None) -> None:
        """Our own window opens, or ends (None); it is durable."""
        self.maintenance_until_ns = until_ns
        self.record_node("maintenance", self._window(now_ns, until_ns))

    def set_peer_maintenance(self, now_ns: int, until_ns: int | None) -> None:
        """The peer's window, as it told it; durable, so that our own restart does not forget that it is excused."""
        self.peer_maintenance_until_ns = until_ns
        self.record_node("peer_maintenance", self._window(now_ns, until_ns))

    def restore_windows(self, now_ns: int) -> None:
        """What earlier runs left open."""
        started = self.started

        def left(saved: SavedWindow | None) -> int | None:
            return None if saved is None else saved.until(now_ns, started.wall_ns, started.boot.hex())

        self.maintenance_until_ns = left(started.durable.maintenance)
        self.peer_maintenance_until_ns = left(started.durable.peer_maintenance)

    def _window(self, now_ns: int, until_ns: int | None) -> JsonValue:
        if until_ns is None:
            return None
        wall_ns = self.started.wall_ns + now_ns - self.started_ns
        return SavedWindow(wall_ns + until_ns - now_ns, until_ns, self.started.boot.hex()).to_json()

    def peer_excused(self, now_ns: int) -> bool:
        """Promise 6: the peer is in maintenance, or its watcher said that it stops: never fenced nor paged for its silence. The excuse
        holds for EXCUSED_MS after its last word, or a node that never comes back would never be missed."""
        last, last_ns = self.contact.last, self.contact.last_ns
        if last is None:
            # Nothing was heard of it in this run: what it said of its maintenance to the run before still counts.
            return self.peer_maintenance_until_ns is not None and now_ns < self.peer_maintenance_until_ns
        if last_ns is None or now_ns - last_ns > EXCUSED_MS * NS_PER_MS:
            return False
        if last.flags & NodeFlags.RESTARTING and now_ns - last_ns <= RESTART_MS * NS_PER_MS:
            return True
        return bool(last.flags & (NodeFlags.MAINTENANCE | NodeFlags.STOPPING))

    def restart_ends_ns(self, now_ns: int) -> int | None:
        """When the excuse of a peer that announced its restart ends; None if there is none now."""
        last, last_ns = self.contact.last, self.contact.last_ns
        times = [self.peer_returns_ns]
        if last is not None and last_ns is not None and last.flags & NodeFlags.RESTARTING:
            times.append(last_ns + RESTART_MS * NS_PER_MS + 1)
        return min((t for t in times if t > now_ns), default=None)

    @property
    def peer_is_gone(self) -> bool:
        """Promise 4: the peer certainly cannot serve: proved off, acknowledged by a person, or stopped in order."""
        return bool(self.peer_proved_off) or self.peer_stopped

    def segment_answers(self, now_ns: int) -> bool:
        """Somebody answered a census of ours lately: our transmission works."""
        fresh_ns = 3 * self.settings.policy.census_interval_ms * NS_PER_MS
        return self.segment_answered_ns is not None and now_ns - self.segment_answered_ns <= fresh_ns

    def isolation(self, now_ns: int, interfaces: tuple[str, ...] | None = None) -> Isolation:
        """Promise 4, for these interfaces (default: all that carry VIPs)."""
        watched = self.interfaces if interfaces is None else interfaces
        return self.surroundings.isolation(now_ns, watched, self.contact.on_a_path(now_ns), self.segment_answers(now_ns))

    def isolation_at_stake(self, now_ns: int) -> Isolation:
        """The worst over the LANs of all groups. A fence decides about all of them: who cannot be seen on one of them must not switch the
        other node off, which may be the only one that serves there."""
        found = {self.isolation(now_ns, view.settings.interfaces) for view in self.groups.values()} | {self.isolation(now_ns)}
        return next((worst for worst in (Isolation.YES, Isolation.UNKNOWN) if worst in found), Isolation.NO)

    # --- what we tell the peer, and the comparison that both make ---

    def health_facts(self, now_ns: int) -> HealthFacts:
        """Our own fitness now."""
        daemon = self.surroundings.daemon
        return HealthFacts(
            daemon_running=daemon is DaemonState.RUNNING,
            daemon_hung=daemon is DaemonState.HUNG,
            carrier_up=all(self.surroundings.carrier(interface) for interface in self.interfaces),
            references_ok=self.surroundings.references_ok(now_ns),
            isolated=self.isolation(now_ns) is Isolation.YES,
            quarantined=self.quarantined,
            maintenance=self.in_maintenance(now_ns),
            stopping=self.stopping,
        )

    def interfaces_of(self, view: GroupView) -> tuple[str, ...]:
        """Every interface that the group needs; for a member of a sync group those of all members."""
        name = view.settings.sync_group
        if not name:
            return view.settings.interfaces
        members = [v.settings.interfaces for v in self.groups.values() if v.settings.sync_group == name]
        return tuple(dict.fromkeys(interface for interfaces in members for interface in interfaces))

    def group_defects(self, now_ns: int, view: GroupView) -> Defect:
        """What makes this node less fit to own the group, judged on the group's interfaces; members of a sync group are judged together,
        because they can only be owned together."""
        interfaces = self.interfaces_of(view)
        daemon = self.surroundings.daemon
        return defects(
            HealthFacts(
                daemon_running=daemon is DaemonState.RUNNING,
                daemon_hung=daemon is DaemonState.HUNG,
                carrier_up=all(self.surroundings.carrier(interface) for interface in interfaces),
                references_ok=False if self.surroundings.suspect(now_ns, interfaces) else None,
                isolated=self.isolation(now_ns, interfaces) is Isolation.YES,
                quarantined=self.quarantined,
                maintenance=self.in_maintenance(now_ns),
                stopping=self.stopping,
                segment_silent=self.surroundings.segment_silent(now_ns, interfaces),
            )
        )

    def group_health(self, now_ns: int, view: GroupView) -> GroupHealth:
        """How fit this node is to own the group."""
        return GroupHealth(view.settings.interface, self.group_defects(now_ns, view))

    def can_take(self, now_ns: int, view: GroupView) -> bool:
        """Whether this node could serve the group if the peer let go of it now."""
        if self.quarantined or self.stopping or self.in_maintenance(now_ns) or not (self.settled(now_ns) and self.trusted(now_ns)):
            return False
        if self.surroundings.daemon is not DaemonState.RUNNING or view.local_state is GroupState.FAULT:
            return False
        if self.group_defects(now_ns, view) & (Defect.NO_CARRIER | Defect.ISOLATED):
            return False
        return view.gate.why not in (GateReason.HANDOVER, GateReason.UNFIT, GateReason.ISOLATED, GateReason.HUNG, GateReason.QUARANTINED)

    def flags(self, now_ns: int) -> NodeFlags:
        """The flags of our next frame."""
        value = flags(self.health_facts(now_ns))
        for on, flag in (
            (self.announced_fence, NodeFlags.FENCING),
            (self.contact.turns.acting(now_ns), NodeFlags.ACTING),
            (self.suspect, NodeFlags.SUSPECT),
            (self.witness.out, NodeFlags.WITNESS_OUT),
            (self.restarting, NodeFlags.RESTARTING),
            (self.incidents.taken(), NodeFlags.TAKEN),
            (self.self_fencing, NodeFlags.SELF_FENCING),
            (self.fence_armed and self.runner_up and self.recorder_up, NodeFlags.ARMED),
        ):
            value |= flag if on else NodeFlags.NONE
        return value

    def reports(self, now_ns: int) -> tuple[GroupReport, ...]:
        """Our word about every group for the next frame."""
        daemon = self.surroundings.daemon
        return tuple(
            view.make_report(now_ns, daemon, self.group_health(now_ns, view).score, self.can_take(now_ns, view), self.stopping)
            for view in self.groups.values()
        )

    def keeps(self, now_ns: int, view: GroupView) -> bool | None:
        """Whether arbitration gives the group to this node; None if the peer's side of it is not known now."""
        report, last = view.fresh_report(now_ns), self.contact.last
        if report is None or last is None or not self.contact.on_a_path(now_ns):
            return None
        mine = Standing(self.group_health(now_ns, view).score, view.priority(), self.settings.me.rank, view.senior)
        return keeps(mine, Standing(report.health, report.priority, self.settings.peer.rank, report.senior))

    def epochs(self) -> tuple[int, int]:
        """Both nodes' incarnations, in the order of the nodes' names: the same pair on both."""
        mine = (self.settings.self_name, self.started.incarnation)
        theirs = (self.settings.peer.name, max(0, self.contact.session.epoch))
        first, second = sorted((mine, theirs))
        return first[1], second[1]

    # --- commands and rows ---

    def persist(self, *rows: Row) -> None:
        """Rows for the record, without a barrier."""
        if rows:
            self.out.append(Persist(tuple(rows)))

    def next_row_id(self, prefix: str) -> str:
        """An id for a row of ours, unique over restarts."""
        self.rows += 1
        return f"{prefix}{self.started.incarnation}.{self.rows}"

    def record_action(self, scope: str, action: str, subject: str, detail: str, outcome: str = "ordered") -> None:
        """One ACTION row."""
        self.persist(self.action_row(scope, action, subject, detail, outcome))

    def action_row(self, scope: str, action: str, subject: str, detail: str, outcome: str) -> Row:
        """One ACTION row, for whoever needs to know when it is durable."""
        return Row(
            RowKind.ACTION,
            (
                ("id", self.next_row_id("A")),
                ("incident", self.incidents.id_of(scope)),
                ("action", action),
                ("subject", subject),
                ("detail", detail),
                ("outcome", outcome),
            ),
        )

    def record_node(self, key: str, value: JsonValue) -> None:
        """A durable fact about this node."""
        self.persist(Row(RowKind.NODE, (("key", key), ("value", value))))

    def acknowledge(self, incident_id: str, who: str) -> bool:
        """A person has taken an incident; False if it is not open. Durable: a restart must not wake a second person for it."""
        if not self.incidents.acknowledge(incident_id):
            return False
        taken: list[JsonValue] = [incident.id for incident in self.incidents.open.values() if incident.acknowledged]
        self.record_node("acknowledged", taken)
        self.out.append(AcknowledgeAlerts(incident_id, who))
        self.beat_wanted = True
        return True

    def publish(self, summary: str) -> None:
        """Tell subscribers that the status changed."""
        self.out.append(PublishStatus(summary))

    def census_round(self, now_ns: int, group: GroupSettings) -> list[ProbeOwners]:
        """Ask the whole group and the peer now."""
        return self.census.start_round(now_ns, group, self.peer_addresses)

    def scope_track(self, scope: str) -> Track | None:
        """The verdict of a scope."""
        if scope == PAIR_SCOPE:
            return self.pair
        return next((view.track for view in self.groups.values() if view.scope == scope), None)
