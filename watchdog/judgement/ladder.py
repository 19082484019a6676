"""PURE: which rungs of the ladder of action are allowed now, mildest first (DESIGN sections 1 and 7).

The watcher asks this before it does anything about a group; what it does on a rung is in watcher.py and its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from watchdog.config.model import Mode
from watchdog.judgement.events import DaemonState
from watchdog.judgement.verdict import Verdict


class Rung(Enum):
    """The rungs, mildest first."""

    ANNOUNCE = "announce"
    REMOVE_ORPHAN = "remove_orphan"
    ASK_PEER = "ask_peer"
    GIVE_UP = "give_up"
    FENCE = "fence"
    PAGE = "page"


@dataclass(frozen=True, slots=True)
class Situation:
    """What the ladder depends on. ``keeps``: arbitration says that this node keeps the VIP, None = it could not be asked (the peer is
    not heard). ``asked_in_vain``: the peer refused, or its deadline to yield has passed. ``peer_can_take``: it says so in its frames;
    ``peer_is_gone``: it certainly cannot serve (proved off, acknowledged, or stopped in order)."""

    mode: Mode
    verdict: Verdict
    confirmed: bool
    own: bool
    on_a_path: bool
    keeps: bool | None
    asked_in_vain: bool
    daemon: DaemonState | None
    orphan_grace_over: bool
    maintenance: bool
    quarantined: bool
    peer_excused: bool
    peer_can_take: bool = True
    peer_is_gone: bool = False


def rungs(s: Situation) -> frozenset[Rung]:
    """The allowed rungs. ``peer_excused``: the peer is in maintenance or stopped in order (Promise 6)."""
    allowed: set[Rung] = set()
    if s.confirmed and s.verdict is not Verdict.HEALTHY and not s.maintenance:
        allowed.add(Rung.PAGE)  # Promise 1: only confirmed pages, asks or fences
    split = s.confirmed and s.verdict is Verdict.SPLIT_BRAIN
    if split and s.own and s.keeps is not False:
        allowed.add(Rung.ANNOUNCE)
    if s.mode is Mode.OBSERVE:
        return frozenset(allowed)
    if s.own and s.daemon is DaemonState.STOPPED and s.orphan_grace_over:
        allowed.add(Rung.REMOVE_ORPHAN)
    if s.maintenance:
        return frozenset(allowed)
    if split and s.on_a_path and s.keeps is True and not s.quarantined:
        allowed.add(Rung.ASK_PEER)
    if s.own and _must_give_up(s):
        allowed.add(Rung.GIVE_UP)
    if _may_fence(s):
        allowed.add(Rung.FENCE)
    return frozenset(allowed)


def _must_give_up(s: Situation) -> bool:
    """Promise 4: isolated nodes give up, but never the last possible owner; if the peer is heard, only the one that loses the comparison
    does, to a peer that can take."""
    if s.quarantined and s.verdict is Verdict.SPLIT_BRAIN:
        return True
    if s.verdict is not Verdict.ISOLATED or not s.confirmed:
        return False
    return s.keeps is False and s.peer_can_take if s.on_a_path else not s.peer_is_gone


def _may_fence(s: Situation) -> bool:
    """Only on a confirmed verdict that names a dangerous peer, and only when nobody can be asked or asking was in vain."""
    if not s.confirmed or s.quarantined or s.peer_excused:
        return False
    if s.verdict in (Verdict.PEER_DEAD, Verdict.PEER_HUNG):
        return not s.on_a_path
    return s.verdict is Verdict.SPLIT_BRAIN and (not s.on_a_path or (s.keeps is True and s.asked_in_vain))
