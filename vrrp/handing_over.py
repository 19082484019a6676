"""How the parent hands a configuration to a child process: pickled, in messages that a channel carries.

Not foreign data: both ends are ours, over a socketpair that the child inherited.
"""

from __future__ import annotations

import base64
import pickle

from base.channel import JsonObject
from vrrp.config.model.configuration import VrrpConfig

PART_BYTES = 512 * 1024
"""A channel takes lines of at most 1 MiB; a configuration may be larger."""


def configuration_messages(config: VrrpConfig) -> list[JsonObject]:
    """What the parent sends: ``{"op": "configure", "part": …, "last": …}``."""
    blob = base64.b64encode(pickle.dumps(config)).decode("ascii")
    parts = [blob[at : at + PART_BYTES] for at in range(0, len(blob), PART_BYTES)]
    return [{"op": "configure", "part": part, "last": number == len(parts)} for number, part in enumerate(parts, 1)]


class ArrivingConfiguration:
    """The child's side: collects the parts."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def take(self, message: JsonObject) -> VrrpConfig | None:
        """The configuration when its last part has come."""
        self._parts.append(message["part"])
        if not message["last"]:
            return None
        blob = base64.b64decode("".join(self._parts))
        self._parts = []
        config: VrrpConfig = pickle.loads(blob)  # noqa: S301
        return config
