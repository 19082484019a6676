"""PURE: everything that can happen to a fence session. Its owner (the watcher, ``brainctl fence``, the simulator) makes these."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


class DeviceOutcome(Enum):
    """What one device call came to.

    ``UNREACHABLE``, ``DENIED``, ``UNTRUSTED`` (its TLS certificate or host key is not the pinned one), ``UNKNOWN_TARGET``,
    ``AMBIGUOUS`` (the name fits several outlets or systems), ``BUSY`` (it has no session for us, and says so), ``REFUSED`` (its
    protocol's completion says that it was not carried out) and ``STALE_ORDER`` are only used when the device certainly did not act;
    ``FAILURE``, ``TIMEOUT`` and ``CRASHED`` leave open whether it acted.
    """

    SUCCESS = "success"
    FAILURE = "failure"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    DENIED = "denied"
    UNTRUSTED = "untrusted"
    UNKNOWN_TARGET = "unknown_target"
    AMBIGUOUS = "ambiguous"
    BUSY = "busy"
    REFUSED = "refused"
    STALE_ORDER = "stale_order"
    CRASHED = "crashed"


NOT_CARRIED_OUT = frozenset(
    {
        DeviceOutcome.UNREACHABLE,
        DeviceOutcome.DENIED,
        DeviceOutcome.UNTRUSTED,
        DeviceOutcome.UNKNOWN_TARGET,
        DeviceOutcome.AMBIGUOUS,
        DeviceOutcome.BUSY,
        DeviceOutcome.REFUSED,
        DeviceOutcome.STALE_ORDER,
    }
)
"""Outcomes after which the target is certainly as it was."""


class PowerState(Enum):
    """What a device says about the target."""

    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class FenceRequested:
    """Begin. Whose turn it is has been decided by the owner, who is asked again by SecondLookNeeded before every act.

    ``read_ahead``: devices that told their enrolled identity a moment ago (fencing/plan/ahead.py); the first level does not ask them again.
    """

    read_ahead: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class FenceWithdrawn:
    """The reason to fence is gone (peer heard again, recorder lost, maintenance). Ends the session unless a device was
    already told; then no further level is tried."""

    reason: str


@dataclass(frozen=True, slots=True)
class IntentDurable:
    """The intent of ``level`` is committed: answer to PersistIntent."""

    level: int


@dataclass(frozen=True, slots=True)
class SecondLook:
    """Answer to SecondLookNeeded: is the act still right, judged on evidence of this moment (stall, peer, epoch)?"""

    level: int
    ok: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DeviceReported:
    """The runner finished one RunDevice. ``power`` only after ``status``; ``identity`` is what the device says the
    outlet belongs to ("" = it cannot tell)."""

    level: int
    device: str
    action: str
    attempt: int
    outcome: DeviceOutcome
    power: PowerState = PowerState.UNKNOWN
    identity: str = ""
    took_ms: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RunnerLost:
    """The runner died or was restarted: what it was doing is unknown."""

    reason: str


class Trust(Enum):
    """How hard it is for somebody else to be heard in the target's name. AUTHENTICATED: under the key. ANSWERED: an answer to a question of
    ours from the MAC that the target told under the key; who forges that MAC can send it. OPEN: anybody can send it."""

    OPEN = "open"
    ANSWERED = "answered"
    AUTHENTICATED = "authenticated"


@dataclass(frozen=True, slots=True)
class ChannelHeard:
    """The target itself was heard, or so it seems: an authenticated frame on a path, or an ARP/NDP answer or claim in its name.

    ``channel`` is unique per (kind, place), e.g. "path/eth1" or "census/eth0/10.0.0.100"; channels and controls with the same
    ``medium`` fail together. ``interval_ms`` is how often it is normally heard: the channel counts as alive at the act only if it was
    heard within twice that. ``solicited``: it speaks only when asked (report each unanswered question as ChannelAsked).
    What is heard with Trust.OPEN is no channel: neither its word nor its silence decides anything.
    """

    channel: str
    medium: str
    at_ns: int
    interval_ms: int
    solicited: bool = False
    trust: Trust = Trust.AUTHENTICATED


@dataclass(frozen=True, slots=True)
class ChannelAsked:
    """A solicited channel was asked at ``at_ns`` and the whole answer window is over."""

    channel: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class ControlHeard:
    """A control target (reference host, third party) answered on ``medium``: the medium and our own receiver work."""

    medium: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class SilenceVoided:
    """We could not hear until ``until_ns`` (own stall, own carrier down): silence before that means nothing."""

    until_ns: int
    reason: str


FenceEvent: TypeAlias = (
    FenceRequested
    | FenceWithdrawn
    | IntentDurable
    | SecondLook
    | DeviceReported
    | RunnerLost
    | ChannelHeard
    | ChannelAsked
    | ControlHeard
    | SilenceVoided
)
