"""PURE: what one heartbeat says (DESIGN section 7). The codec beside it puts it on a wire; every path carries the same
meaning."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

from watchdog.config.model import GroupKey

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


class NodeFlags(IntFlag):
    """Things about the sending node."""

    NONE = 0
    ISOLATED = 1
    QUARANTINED = 2
    MAINTENANCE = 4
    STOPPING = 8
    VRRP_RUNNING = 16
    VRRP_HUNG = 32
    REFERENCES_OK = 64
    FENCING = 128


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
    ``yield_answer_to``/``yield_answer``: the answer to a request of the receiver.
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
        and 0 <= heartbeat.flags <= 0xFFFF
        and 0 <= heartbeat.episode <= 0xFFFF
        and 0 <= heartbeat.sent_ns < 1 << 64
    )
    if not fits:
        raise ValueError(f"a field of the heartbeat does not fit on the wire: {heartbeat}")
