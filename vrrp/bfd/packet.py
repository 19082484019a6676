"""The BFD Control packet of RFC 5880 section 4.1 as bytes and as a value. Intervals are whole microseconds, as on the wire."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum, IntEnum

BFD_VERSION = 1
MIN_LENGTH = 24
MIN_AUTHENTICATED_LENGTH = 26
MAX_INTERVAL_US = 0xFFFFFFFF
_FORMAT = struct.Struct("!BBBBIIIII")
_POLL, _FINAL, _CONTROL_PLANE, _AUTHENTICATION, _DEMAND, _MULTIPOINT = 0x20, 0x10, 0x08, 0x04, 0x02, 0x01


class SessionState(IntEnum):
    """State of a session, with its number on the wire."""

    ADMIN_DOWN = 0
    DOWN = 1
    INIT = 2
    UP = 3


class Diagnostic(IntEnum):
    """Why the sender's session last left Up (RFC 5880 section 4.1, RFC 6428)."""

    NONE = 0
    DETECTION_TIME_EXPIRED = 1
    ECHO_FAILED = 2
    NEIGHBOR_SIGNALED_DOWN = 3
    FORWARDING_PLANE_RESET = 4
    PATH_DOWN = 5
    CONCATENATED_PATH_DOWN = 6
    ADMINISTRATIVELY_DOWN = 7
    REVERSE_CONCATENATED_PATH_DOWN = 8
    MISCONNECTIVITY_DEFECT = 9


class RejectReason(Enum):
    """Why a received packet was dropped: the list of RFC 5880 section 6.8.6 and the checks of RFC 5881 section 5."""

    TOO_SHORT = "too_short"
    VERSION = "version"
    LENGTH_TOO_SMALL = "length_too_small"
    LENGTH_TOO_LARGE = "length_too_large"
    DETECT_MULTIPLIER_ZERO = "detect_multiplier_zero"
    MULTIPOINT = "multipoint"
    MY_DISCRIMINATOR_ZERO = "my_discriminator_zero"
    YOUR_DISCRIMINATOR_ZERO = "your_discriminator_zero"
    UNKNOWN_DISCRIMINATOR = "unknown_discriminator"
    AUTHENTICATION = "authentication"
    HOP_LIMIT = "hop_limit"
    UNKNOWN_NEIGHBOR = "unknown_neighbor"

    @property
    def remedy(self) -> str:
        """What an operator can do about it."""
        return _REMEDIES.get(self, "somebody sends broken BFD packets: find the sender")


_REMEDIES = {
    RejectReason.VERSION: "the neighbor speaks another BFD version; only version 1 is supported",
    RejectReason.AUTHENTICATION: "switch BFD authentication off at the neighbor; keepalived.conf has no keyword for it",
    RejectReason.HOP_LIMIT: "the packet crossed a router or is forged; if routers are meant to be between, set max_hops",
    RejectReason.UNKNOWN_NEIGHBOR: "add a bfd_instance with this neighbor_ip (and the right source_ip), or stop the sender",
    RejectReason.UNKNOWN_DISCRIMINATOR: "normal for a moment after a restart of either side; else two hosts share an address",
}


class DecodeError(Exception):
    """The bytes are not a packet that this end may act on."""

    def __init__(self, reason: RejectReason, detail: str = "") -> None:
        super().__init__(f"{reason.value}{': ' if detail else ''}{detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class ControlPacket:
    """One BFD Control packet without authentication. ``diagnostic`` is a plain int: codes 10 to 31 are unassigned but legal."""

    state: SessionState
    my_discriminator: int
    your_discriminator: int = 0
    desired_min_tx_us: int = 1_000_000
    required_min_rx_us: int = 1_000_000
    required_min_echo_rx_us: int = 0
    detect_multiplier: int = 3
    diagnostic: int = 0
    poll: bool = False
    final: bool = False
    control_plane_independent: bool = False
    demand: bool = False


def encode(packet: ControlPacket) -> bytes:
    """24 bytes."""
    flags = (
        packet.state << 6
        | (_POLL if packet.poll else 0)
        | (_FINAL if packet.final else 0)
        | (_CONTROL_PLANE if packet.control_plane_independent else 0)
        | (_DEMAND if packet.demand else 0)
    )
    return _FORMAT.pack(
        BFD_VERSION << 5 | packet.diagnostic,
        flags,
        packet.detect_multiplier,
        MIN_LENGTH,
        packet.my_discriminator,
        packet.your_discriminator,
        packet.desired_min_tx_us,
        packet.required_min_rx_us,
        packet.required_min_echo_rx_us,
    )


def decode(data: bytes) -> ControlPacket:
    """Every check of RFC 5880 section 6.8.6 that needs no session. Raises DecodeError and nothing else."""
    if len(data) < MIN_LENGTH:
        raise DecodeError(RejectReason.TOO_SHORT, f"{len(data)} bytes")
    first, flags, multiplier, length, mine, yours, tx_us, rx_us, echo_us = _FORMAT.unpack_from(data)
    if first >> 5 != BFD_VERSION:
        raise DecodeError(RejectReason.VERSION, str(first >> 5))
    authenticated = bool(flags & _AUTHENTICATION)
    if length < (MIN_AUTHENTICATED_LENGTH if authenticated else MIN_LENGTH):
        raise DecodeError(RejectReason.LENGTH_TOO_SMALL, str(length))
    if length > len(data):
        raise DecodeError(RejectReason.LENGTH_TOO_LARGE, f"{length} of {len(data)} bytes")
    if not multiplier:
        raise DecodeError(RejectReason.DETECT_MULTIPLIER_ZERO)
    if flags & _MULTIPOINT:
        raise DecodeError(RejectReason.MULTIPOINT)
    if not mine:
        raise DecodeError(RejectReason.MY_DISCRIMINATOR_ZERO)
    state = SessionState(flags >> 6)
    if not yours and state not in (SessionState.DOWN, SessionState.ADMIN_DOWN):
        raise DecodeError(RejectReason.YOUR_DISCRIMINATOR_ZERO, f"in state {state.name}")
    if authenticated:
        raise DecodeError(RejectReason.AUTHENTICATION)
    return ControlPacket(
        state=state,
        my_discriminator=mine,
        your_discriminator=yours,
        desired_min_tx_us=tx_us,
        required_min_rx_us=rx_us,
        required_min_echo_rx_us=echo_us,
        detect_multiplier=multiplier,
        diagnostic=first & 0x1F,
        poll=bool(flags & _POLL),
        final=bool(flags & _FINAL),
        control_plane_independent=bool(flags & _CONTROL_PLANE),
        demand=bool(flags & _DEMAND),
    )
