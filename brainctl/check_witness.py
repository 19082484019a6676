"""What ``brainctl check`` finds out about [witness]: is it reached from this node, and is a turn long enough for an act?"""

from __future__ import annotations

from collections.abc import Iterator

from base.diagnostics import Diagnostic, Severity
from fencing.plan.delay import act_ms
from fencing.plan.settings import FenceSettings
from watchdog.config.load import LoadedBrain
from watchdog.witness.engine import WitnessSilentError

PREPARING_MS = 5_000
"""Winning the turn, making the intent durable, reading the devices, the second look: what passes between the grant and the act."""


def longest_act_ms(fence: FenceSettings) -> int:
    """F: what bounds the act of the slowest level, its devices one after the other."""
    return max((act_ms(level.devices) for _, levels in fence.levels for level in levels), default=0)


def check_witness(loaded: LoadedBrain) -> Iterator[Diagnostic]:
    """Errors and warnings with their places."""
    brain, at = loaded.settings, loaded.positions
    if brain.witness is None:
        return
    needed_ms = longest_act_ms(brain.fence) + PREPARING_MS
    if brain.fence.enabled and brain.witness.lease_ms < needed_ms:
        seconds = -(-needed_ms // 1_000)
        yield Diagnostic(
            at.of(("witness", "lease_ms")),
            Severity.ERROR,
            f"a turn of {brain.witness.lease_ms} ms is shorter than an act may take ({needed_ms - PREPARING_MS} ms by the deadlines "
            f"of the devices, and {PREPARING_MS} ms before it): no fence would ever begin",
            f"write lease_ms = {seconds * 1_000} on both nodes",
        )
    if not brain.fence.enabled:
        yield Diagnostic(
            at.of(("witness",)),
            Severity.WARNING,
            "a witness without fencing decides nothing",
            "it gives turns to fence; see [fence] in docs/FENCING.md",
        )
    from brainctl.witness import look  # aiohttp is slow to import, and most pairs have no witness

    try:
        look(brain)
    except WitnessSilentError as error:
        yield Diagnostic(
            at.of(("witness",)), Severity.ERROR, f"the witness does not answer this node: {error}", "brainctl witness look asks it alone"
        )
