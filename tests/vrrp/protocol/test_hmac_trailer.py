"""The HMAC trailer against its description, byte by byte; there is no keepalived here that knows it."""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrrp.protocol.hmac_session import HmacPolicy, HmacSession, clock_sequence
from vrrp.protocol.hmac_trailer import TRAILER_BYTES, make_trailer, verify_trailer
from vrrp.protocol.packet import Advert, AuthType, Datagram, DecodeError, Family, IPAddress, RejectReason, decode_advert, encode_advert

KEY = bytes(range(32))
SEQUENCE = 0x01020304_0506_0708
V4, V6 = IPv4Address("10.0.0.1"), IPv6Address("fe80::1")
NOW_NS = 1_750_000_000_500_000_000
SECOND = 1_000_000_000


def payload(source: IPAddress = V4, version: int = 3) -> bytes:
    vip, group = (
        (IPv4Address("10.0.0.9"), IPv4Address("224.0.0.18")) if source.version == 4 else (IPv6Address("fe80::9"), IPv6Address("ff02::12"))
    )
    return encode_advert(Advert(version, Family(source.version), 51, 100, (vip,), 100, AuthType.NONE), source, group)


def rfc2104(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA256 from its definition, for an independent value."""
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + message).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).digest()


def datagram(data: bytes, source: IPAddress = V4) -> Datagram:
    return Datagram(source, IPv4Address("224.0.0.18") if source.version == 4 else IPv6Address("ff02::12"), 255, data)


def signed(session: HmacSession, wall_ns: int = NOW_NS, source: IPAddress = V4) -> bytes:
    advert = payload(source)
    return advert + session.trailer(advert, source, session.next_sequence(wall_ns))


def session(**more: object) -> HmacSession:
    return HmacSession(HmacPolicy(**{"keys": {7: KEY}, "active_key": 7, **more}))  # type: ignore[arg-type]


def refusal(receiver: HmacSession, data: bytes, wall_ns: int = NOW_NS, source: IPAddress = V4, **more: object) -> RejectReason:
    with pytest.raises(DecodeError) as caught:
        receiver.open(datagram(data, source), wall_ns, more.get("peers"))  # type: ignore[arg-type]
    return caught.value.reason


@pytest.mark.parametrize("source", [V4, V6])
@pytest.mark.parametrize("version", [2, 3])
def test_layout_and_value(source: IPAddress, version: int) -> None:
    if (source.version, version) == (6, 2):
        return
    advert = payload(source, version)
    trailer = make_trailer(advert, source, 7, KEY, SEQUENCE)
    assert len(trailer) == TRAILER_BYTES == 28
    assert trailer[:12].hex() == "01070000" + "0102030405060708"
    context = bytes([source.version, version, 51, 0]) + source.packed.ljust(16, b"\0")
    covered = context + advert[:6] + b"\0\0" + advert[8:] + trailer[:12] + bytes(16)
    assert trailer[12:] == rfc2104(KEY, covered)[:16]
    verify_trailer(advert, trailer, source, {7: KEY})


def test_one_fixed_vector() -> None:
    """Worked out by hand once, with sha256sum over the two blocks of RFC 2104; an IPv4 v3 advert of VRID 51, one address."""
    advert = bytes.fromhex("31336401006400000a000009")
    trailer = make_trailer(advert, V4, 1, b"k" * 32, 0x6851E7E0_8000_0001)
    message = bytes.fromhex("04033300" + "0a000001" + "00" * 12) + advert + bytes.fromhex("010100006851e7e080000001") + bytes(16)
    assert trailer[12:] == rfc2104(b"k" * 32, message)[:16]


@pytest.mark.parametrize("at", [at for at in range(12 + TRAILER_BYTES) if at not in (6, 7)])
def test_no_bit_but_the_checksum_s_can_be_changed(at: int) -> None:
    data = bytearray(signed(session()))
    data[at] ^= 1
    with pytest.raises(DecodeError):
        verify_trailer(bytes(data[:12]), bytes(data[12:]), V4, {7: KEY})


class TestRefusals:
    def test_each_has_its_reason(self) -> None:
        good = signed(session())
        malformed = good[:12] + b"\x02" + good[13:]
        reserved = good[:14] + b"\x01" + good[15:]
        assert refusal(session(), payload()) is RejectReason.HMAC_MISSING
        assert refusal(session(), malformed) is RejectReason.HMAC_MALFORMED
        assert refusal(session(), reserved) is RejectReason.HMAC_MALFORMED
        assert refusal(session(keys={8: KEY}, active_key=8), good) is RejectReason.HMAC_UNKNOWN_KEY
        assert refusal(session(keys={7: KEY[::-1]}), good) is RejectReason.HMAC_INVALID
        assert refusal(session(), good, source=IPv4Address("10.0.0.2")) is RejectReason.HMAC_INVALID
        assert refusal(session(), good, NOW_NS + 7 * SECOND) is RejectReason.HMAC_STALE
        assert refusal(session(), good, NOW_NS - 7 * SECOND) is RejectReason.HMAC_STALE
        assert refusal(session(), good, peers=frozenset()) is RejectReason.UNKNOWN_PEER

    def test_the_same_twice_is_a_replay(self) -> None:
        sender, receiver = session(), session()
        first, second = signed(sender), signed(sender)
        assert receiver.open(datagram(second), NOW_NS, None).payload == payload()
        assert refusal(receiver, second) is RejectReason.HMAC_REPLAY
        assert refusal(receiver, first) is RejectReason.HMAC_REPLAY

    def test_a_forged_one_does_not_move_the_mark(self) -> None:
        sender, receiver = session(), session()
        first = signed(sender)
        later = bytearray(signed(sender, NOW_NS + SECOND))
        later[-1] ^= 1
        assert refusal(receiver, bytes(later)) is RejectReason.HMAC_INVALID
        receiver.open(datagram(first), NOW_NS, None)

    @pytest.mark.parametrize("required", [True, False])
    def test_without_a_trailer(self, required: bool) -> None:
        receiver = session(required=required)
        if required:
            assert refusal(receiver, payload()) is RejectReason.HMAC_MISSING
        else:
            assert receiver.open(datagram(payload()), NOW_NS, None) == datagram(payload())

    def test_a_wrong_trailer_is_refused_also_where_none_is_needed(self) -> None:
        assert refusal(session(required=False, signs=False, keys={7: KEY[::-1]}), signed(session())) is RejectReason.HMAC_INVALID


class TestTime:
    def test_monotonic_takes_old_ones_but_only_once(self) -> None:
        sender, receiver = session(timed=False), session(timed=False)
        data = signed(sender)
        receiver.open(datagram(data), NOW_NS + 3600 * SECOND, None)
        assert refusal(receiver, data, NOW_NS + 3600 * SECOND) is RejectReason.HMAC_REPLAY

    def test_a_restarted_sender_is_above_what_it_said_before(self) -> None:
        receiver = session()
        receiver.open(datagram(signed(session())), NOW_NS, None)
        receiver.open(datagram(signed(session(), NOW_NS + 1_000_000)), NOW_NS, None)

    def test_a_sender_whose_clock_was_put_right_is_heard_again(self) -> None:
        sender, receiver = session(), session()
        ahead_ns = NOW_NS + 4 * SECOND
        receiver.open(datagram(signed(sender, ahead_ns)), NOW_NS, None)
        # Put back by 100 s: it follows its clock at once, since nobody takes what is further ahead than the window.
        ahead = session()
        ahead.next_sequence(NOW_NS + 100 * SECOND)
        assert ahead.next_sequence(NOW_NS) == clock_sequence(NOW_NS)
        # The mark of 4 s ahead is in force until it is older than the window.
        assert refusal(receiver, signed(session())) is RejectReason.HMAC_REPLAY
        later_ns = ahead_ns + 6 * SECOND
        receiver.open(datagram(signed(session(), later_ns)), later_ns, None)

    def test_the_difference_of_clocks_is_known_before_it_is_too_large(self) -> None:
        receiver = session(window_s=6)
        receiver.open(datagram(signed(session())), NOW_NS + 4 * SECOND, None)
        assert (receiver.skew_s, receiver.clock_doubtful) == (4, True)

    @given(st.lists(st.integers(-3 * SECOND, 3 * SECOND), max_size=30), st.booleans())
    def test_numbers_only_grow_whatever_small_steps_the_clock_makes(self, steps: list[int], timed: bool) -> None:
        sender, wall, last = session(timed=timed, window_s=300), NOW_NS, 0
        for step in steps:
            wall += step
            number = sender.next_sequence(wall)
            assert number > last
            last = number

    def test_over_the_end_of_the_32_bit_clock(self) -> None:
        sender, receiver = session(), session()
        end_ns = (1 << 32) * SECOND
        receiver.open(datagram(signed(sender, end_ns - SECOND)), end_ns - SECOND, None)
        receiver.open(datagram(signed(sender, end_ns + SECOND)), end_ns + SECOND, None)


def test_keys_are_changed_without_a_gap_and_nothing_is_forgotten() -> None:
    """Add the new key everywhere, then sign with it node by node, then take the old one out."""
    other = KEY[::-1]
    old, both_old, both_new = {7: KEY}, session(keys={7: KEY, 8: other}), session(keys={7: KEY, 8: other}, active_key=8)
    receiver, sender = session(keys=old), session(keys=old)
    data = signed(sender)
    receiver.open(datagram(data), NOW_NS, None)
    both_old.adopt(receiver)
    assert refusal(both_old, data) is RejectReason.HMAC_REPLAY
    both_new.adopt(sender)
    data = signed(both_new)
    assert data[13] == 8
    both_old.open(datagram(data), NOW_NS, None)


@given(st.binary(max_size=90))
def test_anything_else_is_a_decode_error(data: bytes) -> None:
    receiver = session()
    try:
        result = receiver.open(datagram(data), NOW_NS, None)
    except DecodeError:
        return
    assert result == datagram(data)
    with pytest.raises(DecodeError):  # it is of no length that an advert has
        decode_advert(result.payload, Family.IPV4)
