"""PURE: what must be equal on both nodes, as one number, and our own terms (see turns.py)."""

from __future__ import annotations

from hashlib import blake2b

from watchdog.config.model import BrainSettings
from watchdog.frames.heartbeat import FrameId, NodeTerms
from watchdog.judgement.turns import OwnTerms

RELEASE = 10
"""Of this product, major * 1000 + minor * 10 (0.1 = 10); told to the peer and shown, nothing is decided by it."""


def settings_digest(settings: BrainSettings) -> int:
    """32 bits over everything in brain.toml that both nodes must have alike. Left out: what is a node's own (interfaces, secrets, what was
    enrolled there), who is paged, and the VRRP daemon beside it."""
    fence = settings.fence
    levels = [
        (target, [(level.name, [(d.name, d.type, d.target, d.deadline_ms) for d in level.devices]) for level in levels])
        for target, levels in fence.levels
    ]
    parts = (
        settings.self_fence,
        settings.cluster,
        sorted((node.name, node.rank, sorted(node.addresses)) for node in settings.nodes),
        [(p.name, p.kind.value, p.medium, p.interval_ms, p.silent_after_ms) for p in settings.paths],
        sorted((r.name, r.address, r.interval_ms, r.silent_after_ms) for r in settings.references),
        settings.policy,
        (fence.enabled, sorted(levels), fence.delay_ms, fence.budget_per_hour, fence.proof_silence_ms),
        settings.witness.shared() if settings.witness is not None else (),
    )
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=4, person=b"brain-terms").digest(), "big")


def own_terms(settings: BrainSettings) -> OwnTerms:
    """This node's."""
    return OwnTerms(settings.policy.mode, settings.me.rank, settings.fence.delay_ms, settings_digest(settings))


def told_terms(terms: OwnTerms, acknowledged: FrameId | None, maintenance_left_s: int) -> NodeTerms:
    """Ours, as a frame carries them."""
    return NodeTerms(terms.mode, terms.rank, terms.delay_ms, terms.digest, RELEASE, maintenance_left_s, acknowledged)


def differences(mine: OwnTerms, theirs: NodeTerms, me: str, peer: str) -> list[str]:
    """What the two nodes do not agree on, each with both values; for people."""
    found = []
    if mine.mode is not theirs.mode:
        found.append(f"mode is {mine.mode.value} on {me} and {theirs.mode.value} on {peer}")
    if mine.delay_ms != theirs.delay_ms:
        found.append(f"fence.delay_ms is {mine.delay_ms} on {me} and {theirs.delay_ms} on {peer}")
    if mine.rank == theirs.rank:
        found.append(f"both nodes have rank {mine.rank}")
    if not found and mine.digest != theirs.settings_digest:
        found.append(f"the settings of {me} have the digest {mine.digest:08x}, those of {peer} {theirs.settings_digest:08x}")
    return found
