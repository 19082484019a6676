"""PURE: keyed tags of heartbeat frames.

One cluster key serves every transport; the tag is bound to the cluster, the transport's frame format and the *path name*, so that
a frame heard on one path can never pass as life on another (two paths bridged by accident, a recorded frame played elsewhere).
"""

from __future__ import annotations

import hmac
from hashlib import blake2b

TAG_BYTES = 16
CLUSTER_TAG_BYTES = 4


def cluster_tag(cluster: str) -> bytes:
    """Four bytes that tell clusters apart before any key is used. Not a secret."""
    return blake2b(cluster.encode(), digest_size=CLUSTER_TAG_BYTES, person=b"brain-cluster").digest()


class FrameKey:
    """The key of one path and one frame format. ``purpose`` is at most 16 ASCII characters.

    Raises ValueError for an empty key.
    """

    __slots__ = ("_keyed",)

    def __init__(self, key: bytes, cluster: str, path: str, purpose: str) -> None:
        if not key:
            raise ValueError("the cluster key is empty")
        strong = blake2b(key, digest_size=64, person=b"brain-key").digest()
        label = len(cluster.encode()).to_bytes(2, "big") + cluster.encode() + path.encode()
        derived = blake2b(label, key=strong, digest_size=32, person=purpose.encode()).digest()
        self._keyed = blake2b(key=derived, digest_size=TAG_BYTES)

    def tag(self, data: bytes) -> bytes:
        """The 16-byte tag over ``data``."""
        keyed = self._keyed.copy()
        keyed.update(data)
        return keyed.digest()

    def fits(self, data: bytes, tag: bytes) -> bool:
        """True if ``tag`` is the tag of ``data`` (compared in constant time)."""
        return hmac.compare_digest(self.tag(data), tag)
