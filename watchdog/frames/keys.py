"""PURE: keyed tags of heartbeat frames.

One cluster key serves every transport; the tag is bound to the cluster, the transport's frame format and the *path name*, so that
a frame heard on one path can never pass as life on another (two paths bridged by accident, a recorded frame played elsewhere).
"""

from __future__ import annotations

import hmac
from hashlib import blake2b

TAG_BYTES = 16
CLUSTER_TAG_BYTES = 4
LEAST_KEY_BYTES = 32
MAX_KEYS = 2


def cluster_tag(cluster: str) -> bytes:
    """Four bytes that tell clusters apart before any key is used. Not a secret."""
    return blake2b(cluster.encode(), digest_size=CLUSTER_TAG_BYTES, person=b"brain-cluster").digest()


def split_keys(secret: bytes) -> tuple[bytes, ...]:
    """The keys in a key file's bytes. Two lines of at least LEAST_KEY_BYTES printable characters are two keys: the first tags what we
    send, both are accepted (how a key is changed without a gap: docs/UPGRADE.md). Anything else is one key, newlines and all."""
    lines = [line.strip() for line in secret.splitlines()]
    printable = all(line.isascii() and line.decode("ascii", "replace").isprintable() for line in lines)
    several = printable and len(lines) == MAX_KEYS and all(len(line) >= LEAST_KEY_BYTES for line in lines)
    return tuple(lines) if several else (secret,)


class FrameKey:
    """The keys of one path and one frame format. ``secret`` holds one or two (``split_keys``). ``purpose`` is at most 16 ASCII characters.

    Raises ValueError for an empty key.
    """

    __slots__ = ("_keyed", "second_used")

    def __init__(self, secret: bytes, cluster: str, path: str, purpose: str) -> None:
        if not secret:
            raise ValueError("the cluster key is empty")
        label = len(cluster.encode()).to_bytes(2, "big") + cluster.encode() + path.encode()
        self._keyed: list[blake2b] = []
        for key in split_keys(secret):
            strong = blake2b(key, digest_size=64, person=b"brain-key").digest()
            derived = blake2b(label, key=strong, digest_size=32, person=purpose.encode()).digest()
            self._keyed.append(blake2b(key=derived, digest_size=TAG_BYTES))
        self.second_used = False
        """Whether the last frame that fitted was made with the second key: the other node has not changed over yet."""

    def __deepcopy__(self, memo: dict[int, object]) -> FrameKey:
        """The keyed states are only ever copied from: a copy of a core may share them (search, snapshots)."""
        twin = FrameKey.__new__(FrameKey)
        twin._keyed, twin.second_used = self._keyed, self.second_used
        return twin

    def tag(self, data: bytes) -> bytes:
        """The 16-byte tag over ``data`` with the first key."""
        return self._tag(data, 0)

    def fits(self, data: bytes, tag: bytes) -> bool:
        """True if ``tag`` is the tag of ``data`` with any of the keys (compared in constant time)."""
        for number in range(len(self._keyed)):
            if hmac.compare_digest(self._tag(data, number), tag):
                self.second_used = number > 0
                return True
        return False

    def _tag(self, data: bytes, number: int) -> bytes:
        keyed = self._keyed[number].copy()
        keyed.update(data)
        return keyed.digest()
