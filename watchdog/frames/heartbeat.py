"""PURE: what one heartbeat says (DESIGN section 7). The codec beside it puts it on a wire; every path carries the same
meaning."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

from watchdog.config.model import GroupKey


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
    sender's CLOCK_BOOTTIME (0 on serial). ``episode`` (u16, wraps) is the highest episode number the sender knows: incident
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
