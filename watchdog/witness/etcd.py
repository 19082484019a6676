"""The turn as a key of etcd under a lease: created only if it is absent.

What every step rests on goes through etcd's log (grant, transaction, linearizable read), so that no member that was cut off can tell
us otherwise. A renewal is a new lease under the same key, not a keep-alive: a leader that does not know yet that it was deposed still
answers keep-alives from memory. The time counts from before the lease was asked for, less what clocks may differ; etcd counts from when
it granted it, and a new leader counts anew.

A late copy of a call does no harm: the key is written under a lease number that is used once, and a transaction whose lease was revoked
or ran out is refused.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

from base.core import NS_PER_MS, NS_PER_S
from watchdog.witness.engine import TurnLostError, TurnTakenError, WitnessSilentError
from watchdog.witness.etcd_client import EtcdClient, EtcdRefusedError, b64, unb64

RATE_PPM = 2_000
"""Our clock and etcd's, 0.1 % each."""
MAX_LEFT = 16
"""Leases whose revocation is still tried; older ones have run out."""


class EtcdWitness:
    """An Engine. ``clock_ns`` is CLOCK_BOOTTIME."""

    def __init__(self, client: EtcdClient, cluster: str, node: str, clock_ns: Callable[[], int]) -> None:
        self._client = client
        self._node = node
        self._clock_ns = clock_ns
        self._key = b64(f"/brainctl/{cluster}/turn")
        self._request: int | None = None
        self._value = ""
        self._leases: list[int] = []
        """What we may have been granted and have not revoked; the last one is the newest."""

    async def look(self) -> str:
        """See Engine."""
        try:
            answer = await self._client.call("kv/range", {"key": self._key})
        except EtcdRefusedError as error:
            raise WitnessSilentError(f"etcd refused to be read: {error}") from None
        return _holder(_first(answer.get("kvs")))

    async def take(self, request: int, lease_ms: int) -> int:
        """See Engine."""
        if self._request is not None and self._request != request:
            await self.give_back(self._request)
        renewing = self._request == request
        if not renewing:
            await self._revoke(list(self._leases))  # a take whose answer never came may have left the key behind
        value = self._value if renewing else json.dumps({"node": self._node, "turn": secrets.token_hex(8)})
        start_ns = self._clock_ns()
        lease = secrets.randbits(62) + 1
        self._leases = [*self._leases[-MAX_LEFT:], lease]
        try:
            seconds = await self._grant(lease, lease_ms)
            if await self._put(value, lease, renewing):
                self._request, self._value = request, value
                await self._revoke(self._leases[:-1])
                return start_ns + min(seconds * NS_PER_S, lease_ms * NS_PER_MS) * (1_000_000 - RATE_PPM) // 1_000_000
            holder = await self.look()
        except EtcdRefusedError as error:
            raise WitnessSilentError(f"etcd refused: {error}") from None
        await self._revoke([lease])
        if renewing:
            self._request = None
            raise TurnLostError(f"{holder or 'nobody'} has the turn now")
        if not holder:
            raise WitnessSilentError("the turn was given back at this moment")
        raise TurnTakenError(holder)

    async def give_back(self, request: int) -> None:
        """See Engine."""
        if self._request not in (None, request):
            return
        self._request, self._value = None, ""
        await self._revoke(list(self._leases))

    async def close(self) -> None:
        """See Engine."""
        await self._client.close()

    async def _grant(self, lease: int, lease_ms: int) -> int:
        try:
            answer = await self._client.call("lease/grant", {"ID": str(lease), "TTL": str(lease_ms // 1_000)})
        except EtcdRefusedError as error:
            if "exists" not in str(error):
                raise
            return lease_ms // 1_000  # a copy of this very call was quicker
        return _number(answer.get("TTL"))

    async def _put(self, value: str, lease: int, renewing: bool) -> bool:
        """Whether the key is ours now, under this lease."""
        absent = {"key": self._key, "target": "CREATE", "result": "EQUAL", "create_revision": "0"}
        ours = {"key": self._key, "target": "VALUE", "result": "EQUAL", "value": b64(value)}
        answer = await self._client.call(
            "kv/txn",
            {
                "compare": [ours if renewing else absent],
                "success": [{"request_put": {"key": self._key, "value": b64(value), "lease": str(lease)}}],
                "failure": [{"request_range": {"key": self._key}}],
            },
        )
        if answer.get("succeeded") is True:
            return True
        found = _first(_dict(_dict(_first(answer.get("responses"))).get("response_range")).get("kvs"))
        # A copy of this very call may have been quicker: then the key is there, and it is ours.
        return unb64(found.get("value")) == value and _number(found.get("lease")) == lease

    async def _revoke(self, leases: list[int]) -> None:
        """What cannot be revoked now is tried again before the next take, and runs out by itself in any case."""
        for lease in leases:
            try:
                await self._client.call("lease/revoke", {"ID": str(lease)})
            except WitnessSilentError:
                return
            except EtcdRefusedError:
                pass  # it is gone already
            self._leases.remove(lease)


def _holder(found: dict[str, Any]) -> str:
    """The node in the key's value. What is no value of ours is somebody all the same."""
    if not found:
        return ""
    text = unb64(found.get("value"))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    node = value.get("node") if isinstance(value, dict) else None
    return node if isinstance(node, str) and node else "an unknown holder"


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _first(value: Any) -> dict[str, Any]:
    return _dict(value[0]) if isinstance(value, list) and value else {}


def _number(value: Any) -> int:
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
