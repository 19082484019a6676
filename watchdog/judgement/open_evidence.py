"""PURE: what evidence that anybody on the segment can send, or jam, may bring about (Promise 11). docs/SECURITY.md is printed from here.

What starts, holds back or refutes a fence, and what vouches for this node, asks ``allows`` and ``sufficient`` (judging.py, wire_intake.py,
fence_control.py, surroundings.py). A kind of evidence that is not
in the table of an effect cannot bring it about, alone or many times over.
"""

from __future__ import annotations

from enum import Enum, IntEnum

from watchdog.config.model import Mode


class Strength(IntEnum):
    """How hard it is to say this for somebody who is not the peer."""

    OPEN = 0
    """Anybody on the segment can send it: adverts, claims that nobody asked for, answers from a MAC that nobody told us."""
    ANSWERED = 1
    """An answer to a probe of ours while it is out, from a MAC that the peer told us in an authenticated frame."""
    AUTHENTICATED = 2
    """Our own kernel, a frame under the cluster key, a witness."""


class OpenKind(Enum):
    """What a stranger without the key can put on the segment, or keep from it. The value is the sentence of the document."""

    ADVERT = "a VRRP advert in the peer's name, any priority"
    CLAIM = "an ARP or NA claim that answers no probe of ours, or that comes from a MAC the peer never told us"
    PINNED_ANSWER = "an answer to a probe of ours from the MAC that the peer told us (its own kernel, or a stranger who forges that MAC)"
    STRANGERS_REFERENCE = "an answer in the name of a reference, from another MAC than the learnt one"
    PINNED_REFERENCE = "an answer of a reference from the MAC that was learnt while all was well"
    OPEN_SILENCE = "no adverts, no ARP or NA answers of the peer any more"
    RECORDED_FRAME = "an authenticated frame of an earlier session, recorded and sent again"


class Effect(Enum):
    """What evidence can bring about. The value is the sentence of the document."""

    PROBE = "asks the segment who owns the address"
    PAGE = "opens an incident and pages"
    ANNOUNCE = "has the owner announce its address again"
    HOLD_BACK = "keeps a fence from starting while it lasts, and says so"
    CONTRADICT = "stands in the page of a fence as a contradiction"
    REFUTE = "refutes what a fence device claims but cannot read, so that the next level acts"
    VOUCH = "shows that this node is not isolated"
    START_FENCE = "counts as the second owner, or as the hung peer, of a fence"
    GIVE_UP = "has this node give its addresses up"
    PROVE = "counts towards the proof of a fence"


_ALL, _ACTING = frozenset(Mode), frozenset({Mode.RESOLVE, Mode.STRICT})

TABLE: dict[OpenKind, dict[Effect, frozenset[Mode]]] = {
    OpenKind.ADVERT: {
        Effect.PROBE: _ALL,
        Effect.PAGE: _ALL,
        Effect.ANNOUNCE: _ALL,
        Effect.HOLD_BACK: _ALL,
    },
    OpenKind.CLAIM: {
        Effect.PROBE: _ALL,
        Effect.PAGE: _ALL,
        Effect.ANNOUNCE: _ALL,
        Effect.HOLD_BACK: _ALL,
        Effect.CONTRADICT: _ALL,
    },
    OpenKind.PINNED_ANSWER: {
        Effect.PROBE: _ALL,
        Effect.PAGE: _ALL,
        Effect.ANNOUNCE: _ALL,
        Effect.HOLD_BACK: _ALL,
        Effect.CONTRADICT: _ALL,
        Effect.REFUTE: _ALL,
        Effect.VOUCH: _ALL,
        Effect.START_FENCE: _ACTING,
    },
    OpenKind.STRANGERS_REFERENCE: {},
    OpenKind.PINNED_REFERENCE: {Effect.VOUCH: _ALL, Effect.PROVE: _ALL},
    OpenKind.OPEN_SILENCE: {Effect.PROBE: _ALL, Effect.PAGE: _ALL},
    OpenKind.RECORDED_FRAME: {},
}
"""Kind → what it may bring about → in which modes. What is missing is forbidden."""


def allows(kind: OpenKind, effect: Effect, mode: Mode, *, require_authenticated: bool = False) -> bool:
    """Whether evidence of this kind may bring the effect about. ``require_authenticated`` is ``fence.require_authenticated``: then no fence
    rests on an address or MAC that somebody may have forged."""
    if require_authenticated and effect in (Effect.START_FENCE, Effect.REFUTE):
        return False
    return mode in TABLE[kind].get(effect, frozenset())


def kind_of_claim(strength: Strength) -> OpenKind:
    """The kind of an ARP or NA claim of this strength."""
    return OpenKind.PINNED_ANSWER if strength >= Strength.ANSWERED else OpenKind.CLAIM


def sufficient(strength: Strength | None, effect: Effect, mode: Mode, *, require_authenticated: bool = False) -> bool:
    """Whether the strongest evidence of a claim is enough for the effect. None = there is no evidence at all."""
    if strength is None:
        return False
    if strength is Strength.AUTHENTICATED:
        return True
    return allows(kind_of_claim(strength), effect, mode, require_authenticated=require_authenticated)
