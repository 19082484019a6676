"""What every engine of the witness offers to process.py."""

from __future__ import annotations

from typing import Protocol


class WitnessSilentError(Exception):
    """The witness did not answer, or what it said is no use; the message says which part and why. Nothing is ours by it."""


class TurnTakenError(Exception):
    """Somebody has the turn: ``holder`` is the node's name (our own name: an earlier run of this node)."""

    def __init__(self, holder: str, detail: str = "") -> None:
        super().__init__(detail or f"{holder} holds the turn")
        self.holder = holder


class TurnLostError(Exception):
    """A turn that was ours is ours no more."""


class Engine(Protocol):
    """One key under a lease. Times are CLOCK_BOOTTIME in ns, leases in ms. One call of take, give_back at a time; look beside them."""

    async def look(self) -> str:
        """Who has the turn, "" for nobody. Raises WitnessSilentError."""
        ...

    async def take(self, request: int, lease_ms: int) -> int:
        """Take the turn for ``request``, or renew it when ``request`` has it: until when it is ours at the earliest. Raises TurnTakenError,
        TurnLostError (renewal only), WitnessSilentError."""
        ...

    async def give_back(self, request: int) -> None:
        """Give the turn of ``request`` back, whether or not it was granted. Raises WitnessSilentError: it then runs out by itself."""
        ...

    async def close(self) -> None:
        """The process ends."""
        ...
