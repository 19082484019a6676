"""PURE: why a received heartbeat frame counts for nothing."""

from __future__ import annotations

from enum import Enum


class RejectReason(Enum):
    """Why a frame was refused. The codec gives the first seven, the path's state the rest."""

    LENGTH = "length"
    FRAMING = "framing"
    VERSION = "version"
    WRONG_CLUSTER = "wrong_cluster"
    UNKNOWN_SESSION = "unknown_session"
    BAD_TAG = "bad_tag"
    MALFORMED = "malformed"
    OWN_FRAME = "own_frame"
    UNKNOWN_NODE = "unknown_node"
    OLD_SESSION = "old_session"
    REPLAYED = "replayed"

    @property
    def remedy(self) -> str:
        """What an operator who sees this counter grow should look at."""
        return _REMEDIES[self]


_REMEDIES: dict[RejectReason, str] = {
    RejectReason.LENGTH: "something else sends to this path; look at the sender",
    RejectReason.FRAMING: "noise on the line: check baud rate, cable and grounding on both nodes",
    RejectReason.VERSION: "the nodes run different releases of braind, or something else sends to this path",
    RejectReason.WRONG_CLUSTER: "another cluster shares this medium: give it its own multicast group, port or VLAN",
    RejectReason.UNKNOWN_SESSION: "normal for a second after the peer's start; otherwise frames are lost on the serial line",
    RejectReason.BAD_TAG: "the nodes have different cluster keys (or path names), or somebody forges frames; compare key files",
    RejectReason.MALFORMED: "the peer runs another release of braind",
    RejectReason.OWN_FRAME: "the medium sends our own frames back: a loop in the switch or an echoing serial line",
    RejectReason.UNKNOWN_NODE: "a third node uses this cluster's name and key; each pair needs its own",
    RejectReason.OLD_SESSION: "frames of a dead incarnation of the peer: a replay, or a clone of the peer's machine is running",
    RejectReason.REPLAYED: "frames arrive twice: a loop in the network, or somebody replays them",
}


class DecodeError(Exception):
    """A frame was refused; the only exception that decoding raises."""

    def __init__(self, reason: RejectReason, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
