"""PURE: what one heartbeat says (DESIGN section 7). The codec beside it puts it on a wire; every path carries the same
meaning."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

from watchdog.config.model import GroupKey, Mode

VERSION = 2
"""Of the frames that this release sends. A peer that only knows version 1 is watched, and nothing else (docs/adr/0210)."""
OLDEST_VERSION = 1
NONCE_BYTES = 8
BOOT_BYTES = 8
MAX_PATHS = 8
"""``hears`` has one bit for each configured path."""
NO_NONCE = bytes(NONCE_BYTES)
"""``receiver_nonce`` of a sender that has not heard the receiver yet."""


class GroupState(IntEnum):
    """What the sender's local VRRP daemon does for a group, as far as its watcher can see."""

    UNKNOWN = 0
    BACKUP = 1
    MASTER = 2
    FAULT = 3
    HELD = 4
    ABSENT = 5
    OFFERING = 6
    """MASTER, and an operator wants the receiver to take the group over: a hold of the receiver may end."""


class NodeFlags(IntFlag):
    """Things about the sending node. 32 bits on datagrams; a serial line carries the lower 16, so nothing urgent goes above."""

    NONE = 0
    ISOLATED = 1
    QUARANTINED = 2
    MAINTENANCE = 4
    STOPPING = 8
    VRRP_RUNNING = 16
    VRRP_HUNG = 32
    REFERENCES_OK = 64
    FENCING = 128
    ACTING = 1 << 8
    """An act of the sender's against the receiver may still take effect: the sender acknowledges nothing meanwhile."""
    SUSPECT = 1 << 9
    """The sender ended without an orderly stop, or was fenced, and had heard nobody when it said this."""
    ARMED = 1 << 10
    """The sender may fence by itself: enabled, measured, enrolled, its runner armed."""
    RESTARTING = 1 << 11
    """A planned restart or reload of the sender's watcher: its silence pages nobody for a moment."""
    WITNESS_OUT = 1 << 12
    RECORD_SICK = 1 << 13
    SELF_FENCING = 1 << 14
    """The sender feeds its hardware watchdog only while the receiver acknowledges its frames (Promise 3c)."""
    TAKEN = 1 << 15
    """A person has taken every open incident of the frame's ``episode`` at the sender: nobody else is to be woken for it."""


class YieldAnswer(IntEnum):
    """Answer to a yield request."""

    NONE = 0
    ACCEPTED = 1
    DONE = 2
    REFUSED = 3


@dataclass(frozen=True, slots=True)
class GroupReport:
    """One group as the sender sees it.

    ``held``: the kernel of the sender really has at least one VIP of the group. ``advert_sent_age_ms``: age of the
    last advert the sender's daemon really put on the wire (None = none seen);
    ``advert_heard_age_ms``/``advert_heard_priority``: the last real advert heard from another node.
    ``yield_request``: 0, or the id of the sender's request that the receiver gives this group up;
    ``yield_answer_to``/``yield_answer``: the answer to a request of the receiver. ``health`` 0..255: of this group's interface
    and daemon, higher is better. ``can_take``: the sender's daemon runs, is not held, and could serve the group now.
    ``senior``: where the daemons do not preempt, the sender served the group before anybody else claimed it.
    """

    key: GroupKey
    state: GroupState
    held: bool
    priority: int
    advert_sent_age_ms: int | None = None
    advert_heard_age_ms: int | None = None
    advert_heard_priority: int | None = None
    yield_request: int = 0
    yield_answer_to: int = 0
    yield_answer: YieldAnswer = YieldAnswer.NONE
    health: int = 255
    can_take: bool = True
    senior: bool = False


@dataclass(frozen=True, slots=True)
class FrameId:
    """One frame of one session: ``path`` is the number of the path in the configured order, ``sequence`` counts the frames of that path."""

    path: int
    sequence: int


@dataclass(frozen=True, slots=True)
class NodeTerms:
    """What a node tells the other about the rules it lives by (Promise 5). ``delay_ms`` is d; ``rank`` 1 or 2.

    ``settings_digest`` (u32): of everything in brain.toml that must be equal on both nodes. ``release``: the sender's release,
    major * 1000 + minor * 10. ``maintenance_left_s``: how long its maintenance still lasts, 0 = none.
    ``acknowledged``: the newest frame of the *receiver* that the sender has accepted in the sessions that live now; None = none, or the
    sender acknowledges nothing at present.
    """

    mode: Mode
    rank: int
    delay_ms: int
    settings_digest: int
    release: int = 0
    maintenance_left_s: int = 0
    acknowledged: FrameId | None = None


@dataclass(frozen=True, slots=True)
class LinkMac:
    """The link-layer address of one interface of the sender, lower-case colon form: the receiver pins it."""

    interface: str
    mac: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One authenticated frame.

    ``boot`` and ``nonce`` are 8 bytes; ``nonce`` names the sender's session, ``receiver_nonce`` echoes the newest
    nonce heard from the receiver (zeros = none): a frame without my current nonce proves nothing after my restart.
    ``epoch`` counts the sender's incarnations (durable). ``hears`` is a bit mask over the *configured path order*:
    on which paths the sender hears the receiver now. ``health`` 0..255, higher is better. ``sent_ns`` is the
    sender's CLOCK_BOOTTIME (0 on serial). ``sequence`` (u32) counts the frames of one session on *one path*, from 1, so that gaps
    are losses. ``partial``: ``groups`` holds only one page of the sender's groups; the receiver keeps what it knows of
    the others, and ``digest`` (of all of the sender's groups, see codec.state_digest) tells when it knows them all.
    ``episode`` (u16, wraps) is the highest episode number the sender knows: incident
    ids of both nodes derive from it, so that their pages of one incident are one (watchdog/judgement/incidents.py).
    ``version`` of the frame on the wire. ``terms`` and ``macs`` are None and empty where this frame does not carry them: in version 1,
    and in most frames of a serial line, which rotates them.
    """

    node: str
    boot: bytes
    epoch: int
    sequence: int
    nonce: bytes
    receiver_nonce: bytes
    hears: int
    health: int
    flags: NodeFlags
    groups: tuple[GroupReport, ...]
    sent_ns: int = 0
    episode: int = 0
    partial: bool = False
    digest: int = 0
    version: int = VERSION
    terms: NodeTerms | None = None
    macs: tuple[LinkMac, ...] = ()


def check_fields(heartbeat: Heartbeat) -> None:
    """Raise ValueError if a field is out of its range on any wire."""
    fits = (
        len(heartbeat.boot) == BOOT_BYTES
        and len(heartbeat.nonce) == NONCE_BYTES
        and len(heartbeat.receiver_nonce) == NONCE_BYTES
        and 0 <= heartbeat.epoch <= 0xFFFFFFFF
        and 0 <= heartbeat.sequence <= 0xFFFFFFFF
        and 0 <= heartbeat.hears < 1 << MAX_PATHS
        and 0 <= heartbeat.health <= 255
        and 0 <= heartbeat.flags <= 0xFFFFFFFF
        and 0 <= heartbeat.episode <= 0xFFFF
        and 0 <= heartbeat.sent_ns < 1 << 64
        and OLDEST_VERSION <= heartbeat.version <= VERSION
    )
    if not fits:
        raise ValueError(f"a field of the heartbeat does not fit on the wire: {heartbeat}")
