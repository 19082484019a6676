"""What one virtual router remembers to sign its adverts and to refuse old ones (``auth_hmac`` of keepalived 2.4).

The sequence number is the sender's wall clock: seconds in the high 32 bits, a fraction of 1/65536 s below, and a counter for adverts
within one such tick. A restarted sender goes on above what it said before without having written anything down. With ``anti_replay
time`` a receiver also refuses what is further than ``time_window`` from its own clock. Pure: wall-clock time is an argument (ns since
the epoch, UTC). Numbers are compared as RFC 1982 serial numbers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace

from vrrp.protocol.hmac_trailer import TRAILER_BYTES, make_trailer, sequence_of, verify_trailer
from vrrp.protocol.packet import Datagram, DecodeError, IPAddress, RejectReason, advert_bytes

NS_PER_S = 1_000_000_000
MAX_SENDERS = 64
"""Senders whose last number is remembered; only one who knows a key gets into the table."""
_MASK = (1 << 64) - 1
_HALF = 1 << 63


@dataclass(frozen=True, slots=True)
class HmacPolicy:
    """``auth_hmac { }``. ``signs`` False = mode receive-only; ``required`` True = mode enforce; ``timed`` = anti_replay time."""

    keys: Mapping[int, bytes] = field(repr=False)
    active_key: int
    signs: bool = True
    required: bool = True
    timed: bool = True
    window_s: int = 5


def _after(number: int, other: int) -> bool:
    return 0 < (number - other) & _MASK < _HALF


def _difference_s(seconds: int, other: int) -> int:
    """Signed difference of two 32-bit clocks."""
    return ((seconds - other + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def clock_sequence(wall_ns: int) -> int:
    """The sequence number of an instant, counter 0."""
    seconds, rest = divmod(wall_ns, NS_PER_S)
    return (seconds & 0xFFFFFFFF) << 32 | (rest << 16) // NS_PER_S << 16


class HmacSession:
    """Signs and opens the adverts of one virtual router."""

    def __init__(self, policy: HmacPolicy) -> None:
        self.policy = policy
        self.skew_s = 0
        """Our clock minus that of the last accepted sender."""
        self._sent = 0
        self._last: OrderedDict[IPAddress, int] = OrderedDict()

    def adopt(self, before: HmacSession) -> None:
        """A reload: other keys perhaps, but nothing that was said or heard is forgotten."""
        self._sent, self._last, self.skew_s = before._sent, before._last, before.skew_s

    @property
    def clock_doubtful(self) -> bool:
        """The senders' clock and ours are more than half a window apart: soon we would not understand each other."""
        return self.policy.timed and abs(self.skew_s) > self.policy.window_s // 2

    def next_sequence(self, wall_ns: int) -> int:
        """The number of the next advert (one for all its destinations); grows also while the clock stands or steps back a little.

        A clock that was put back by more than a window: with ``timed`` we follow it, because receivers no longer take what is ahead of
        theirs; otherwise growth is all that counts.
        """
        clock = clock_sequence(wall_ns)
        ahead_s = _difference_s(self._sent >> 32, clock >> 32)
        follows = not self._sent or _after(clock, self._sent) or (self.policy.timed and ahead_s > self.policy.window_s)
        self._sent = clock if follows else (self._sent + 1) & _MASK
        return self._sent

    def trailer(self, advert: bytes, source: IPAddress, sequence: int) -> bytes:
        """The 28 bytes that go after ``advert``."""
        policy = self.policy
        return make_trailer(advert, source, policy.active_key, policy.keys[policy.active_key], sequence)

    def open(self, datagram: Datagram, wall_ns: int, peers: Container[IPAddress] | None) -> Datagram:
        """Check and take off the trailer. ``peers``: the unicast peers, None in multicast mode.

        A datagram without one comes back as it is if the mode allows it. Raises DecodeError HMAC_* or UNKNOWN_PEER.
        """
        end = advert_bytes(datagram.payload, datagram.source.version)
        if len(datagram.payload) != end + TRAILER_BYTES:
            if self.policy.required and len(datagram.payload) == end:
                raise DecodeError(RejectReason.HMAC_MISSING, f"from {datagram.source}")
            return datagram  # a wrong length is found by decode_advert
        if peers is not None and datagram.source not in peers:
            raise DecodeError(RejectReason.UNKNOWN_PEER, f"from {datagram.source}, TTL {datagram.ttl}")
        advert, trailer = datagram.payload[:end], datagram.payload[end:]
        sequence = sequence_of(trailer)[1]
        skew_s = _difference_s((wall_ns // NS_PER_S) & 0xFFFFFFFF, sequence >> 32)
        if self.policy.timed and abs(skew_s) > self.policy.window_s:
            detail = f"from {datagram.source}: its clock and ours differ by {skew_s} s, at most {self.policy.window_s} s are allowed"
            raise DecodeError(RejectReason.HMAC_STALE, detail)
        verify_trailer(advert, trailer, datagram.source, self.policy.keys)
        self._count(datagram.source, sequence, wall_ns)
        self.skew_s = skew_s
        return replace(datagram, payload=advert, trailer=trailer)

    def _count(self, source: IPAddress, sequence: int, wall_ns: int) -> None:
        last = self._last.get(source)
        if last is not None and self.policy.timed:
            age_s = _difference_s((wall_ns // NS_PER_S) & 0xFFFFFFFF, last >> 32)
            if abs(age_s) > self.policy.window_s:
                last = None  # what it could still refuse is stale anyway; a sender whose clock was put right is heard again
        if last is not None and not _after(sequence, last):
            raise DecodeError(RejectReason.HMAC_REPLAY, f"from {source}")
        self._last[source] = sequence
        self._last.move_to_end(source)
        if len(self._last) > MAX_SENDERS:
            self._last.popitem(last=False)
