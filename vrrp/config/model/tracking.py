"""What can be tracked (scripts, files, processes, BFD sessions) and the references to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from base.core import NS_PER_S
from base.diagnostics import Position
from vrrp.config.model.common import NOWHERE, IpAddress, ScriptCommand


@dataclass(frozen=True, slots=True)
class Track:
    """One line of track_interface, track_script, track_file, track_process or track_bfd.

    ``weight``: resolved (the line's weight, else that of the tracked object, else 0). 0 means that a failure is a
    FAULT; otherwise a positive weight is added while up and a negative one subtracted while down; ``reverse`` swaps
    the direction (weight 0 reverse: FAULT while up). For files the weight multiplies the number in the file.
    """

    name: str
    weight: int = 0
    reverse: bool = False
    position: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class TrackSet:
    """Everything that an instance or a sync group tracks."""

    interfaces: tuple[Track, ...] = ()
    scripts: tuple[Track, ...] = ()
    files: tuple[Track, ...] = ()
    processes: tuple[Track, ...] = ()
    bfds: tuple[Track, ...] = ()


NO_TRACKS = TrackSet()


@dataclass(frozen=True, slots=True)
class VrrpScript:
    """``vrrp_script NAME``. ``timeout_ns``: = interval unless set. ``rise``/``fall``: consecutive results needed. ``fail_open``: one that
    cannot be started (missing, not executable, no such user) counts as a success."""

    name: str
    command: ScriptCommand
    interval_ns: int = NS_PER_S
    timeout_ns: int = NS_PER_S
    weight: int = 0
    reverse: bool = False
    rise: int = 1
    fall: int = 1
    init_fail: bool = False
    fail_open: bool = False
    position: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class TrackFile:
    """``track_file NAME``: a file whose number is multiplied by ``weight``. ``initial_value`` None = never created by us."""

    name: str
    path: str
    weight: int = 1
    reverse: bool = False
    initial_value: int | None = None
    overwrite: bool = False
    position: Position = field(default=NOWHERE, compare=False)


class ParameterMatch(Enum):
    """How the parameters of a tracked process are compared."""

    NONE = "none"
    EXACT = "exact"
    PARTIAL = "partial"
    INITIAL = "initial"


@dataclass(frozen=True, slots=True)
class TrackProcess:
    """``vrrp_track_process NAME``: up while quorum <= running processes <= quorum_max (None = no upper bound)."""

    name: str
    process: str
    parameters: tuple[str, ...] = ()
    match: ParameterMatch = ParameterMatch.NONE
    weight: int = 1
    reverse: bool = False
    quorum: int = 1
    quorum_max: int | None = None
    terminate_delay_ns: int = 0
    fork_delay_ns: int = 0
    full_command: bool = False
    position: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class BfdInstance:
    """``bfd_instance NAME``: one RFC 5880 session. ``hop_limit``: TTL or hop limit of what we send."""

    name: str
    neighbor: IpAddress
    source: IpAddress | None = None
    min_rx_ns: int = 10_000_000
    min_tx_ns: int = 10_000_000
    idle_tx_ns: int = NS_PER_S
    multiplier: int = 5
    passive: bool = False
    hop_limit: int = 255
    max_hops: int = 0
    multihop: bool = False
    weight: int = 0
    reverse: bool = False
    for_vrrp: bool = True
    for_checker: bool = True
    position: Position = field(default=NOWHERE, compare=False)
