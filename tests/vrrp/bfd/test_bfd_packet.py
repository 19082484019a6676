"""The BFD Control packet against RFC 5880 section 4.1 and the receive checks of section 6.8.6."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.bfd import BFD

from vrrp.bfd.packet import ControlPacket, DecodeError, RejectReason, SessionState, decode, encode

WORDS = st.integers(0, 0xFFFFFFFF)


@st.composite
def packets(draw: st.DrawFn) -> ControlPacket:
    state = draw(st.sampled_from(SessionState))
    unheard = state in (SessionState.DOWN, SessionState.ADMIN_DOWN)
    return ControlPacket(
        state=state,
        my_discriminator=draw(st.integers(1, 0xFFFFFFFF)),
        your_discriminator=draw(st.integers(0 if unheard else 1, 0xFFFFFFFF)),
        desired_min_tx_us=draw(WORDS),
        required_min_rx_us=draw(WORDS),
        required_min_echo_rx_us=draw(WORDS),
        detect_multiplier=draw(st.integers(1, 255)),
        diagnostic=draw(st.integers(0, 31)),
        poll=draw(st.booleans()),
        final=draw(st.booleans()),
        control_plane_independent=draw(st.booleans()),
        demand=draw(st.booleans()),
    )


@given(packets(), st.binary(max_size=8))
def test_what_was_encoded_is_decoded_and_bytes_behind_it_do_not_matter(packet: ControlPacket, rest: bytes) -> None:
    assert decode(encode(packet) + rest) == packet


@given(packets())
def test_scapy_reads_the_same(packet: ControlPacket) -> None:
    seen = BFD(encode(packet))
    assert (seen.version, seen.diag, seen.sta, seen.len) == (1, packet.diagnostic, packet.state, 24)
    assert (seen.my_discriminator, seen.your_discriminator) == (packet.my_discriminator, packet.your_discriminator)
    assert (seen.min_tx_interval, seen.min_rx_interval, seen.echo_rx_interval) == (
        packet.desired_min_tx_us,
        packet.required_min_rx_us,
        packet.required_min_echo_rx_us,
    )
    flags = {"P": packet.poll, "F": packet.final, "C": packet.control_plane_independent, "A": False, "D": packet.demand, "M": False}
    assert {letter: letter in str(seen.flags) for letter in flags} == flags


@given(st.binary(max_size=60))
def test_anything_is_decoded_or_refused(data: bytes) -> None:
    try:
        packet = decode(data)
    except DecodeError as error:
        assert error.reason.remedy
    else:
        assert decode(encode(packet)) == packet


GOOD = encode(ControlPacket(state=SessionState.UP, my_discriminator=7, your_discriminator=9))


def changed(**at: int) -> bytes:
    data = bytearray(GOOD)
    for place, value in at.items():
        data[int(place[1:])] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", RejectReason.TOO_SHORT),
        (GOOD[:23], RejectReason.TOO_SHORT),
        (changed(_0=0 << 5), RejectReason.VERSION),
        (changed(_0=2 << 5), RejectReason.VERSION),
        (changed(_3=23), RejectReason.LENGTH_TOO_SMALL),
        (changed(_1=0xC4, _3=25) + b"..", RejectReason.LENGTH_TOO_SMALL),
        (changed(_3=25), RejectReason.LENGTH_TOO_LARGE),
        (changed(_2=0), RejectReason.DETECT_MULTIPLIER_ZERO),
        (changed(_1=0xC1), RejectReason.MULTIPOINT),
        (changed(_7=0), RejectReason.MY_DISCRIMINATOR_ZERO),
        (changed(_11=0), RejectReason.YOUR_DISCRIMINATOR_ZERO),
        (changed(_1=0x80, _11=0), RejectReason.YOUR_DISCRIMINATOR_ZERO),
        (changed(_1=0xC4, _3=26) + b"..", RejectReason.AUTHENTICATION),
    ],
)
def test_every_receive_check_has_its_reason(data: bytes, reason: RejectReason) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(data)
    assert caught.value.reason is reason


@pytest.mark.parametrize("flags", [0x00, 0x40])
def test_down_and_admin_down_may_not_know_us_yet(flags: int) -> None:
    assert decode(changed(_1=flags, _11=0)).your_discriminator == 0
