"""The HMAC trailer against its description, byte by byte; there is no keepalived here that knows it."""

from __future__ import annotations

import hashlib
import hmac
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrrp.protocol.hmac_trailer import TRAILER_BYTES, Stamp, sign, verify
from vrrp.protocol.packet import Advert, DecodeError, Family, IPAddress, RejectReason, encode_advert

KEY = bytes(range(32))
STAMP = Stamp(0x01020304, 0x0506, 0x0708)
V4, V6 = IPv4Address("10.0.0.1"), IPv6Address("fe80::1")


def payload(source: IPAddress) -> bytes:
    vip, group = (
        (IPv4Address("10.0.0.9"), IPv4Address("224.0.0.18")) if source.version == 4 else (IPv6Address("fe80::9"), IPv6Address("ff02::12"))
    )
    return encode_advert(Advert(3, Family(source.version), 51, 100, (vip,), 100), source, group)


def refusal(signed: bytes, source: IPAddress = V4) -> RejectReason:
    with pytest.raises(DecodeError) as caught:
        verify(signed, source, {7: KEY})
    return caught.value.reason


@pytest.mark.parametrize("source", [V4, V6])
def test_layout_and_value(source: IPAddress) -> None:
    advert = payload(source)
    signed = sign(advert, source, 7, KEY, STAMP)
    assert len(signed) == len(advert) + TRAILER_BYTES
    prefix = signed[len(advert) : len(advert) + 12]
    assert prefix.hex() == "01070000" + "01020304" + "0506" + "0708"
    context = bytes([source.version, 3, 51, 0]) + source.packed.ljust(16, b"\0")
    covered = context + advert[:6] + b"\0\0" + advert[8:] + prefix + bytes(16)
    assert signed[-16:] == hmac.new(KEY, covered, hashlib.sha256).digest()[:16]
    assert verify(signed, source, {7: KEY}) == (advert, STAMP)


@pytest.mark.parametrize("at", [at for at in range(12 + TRAILER_BYTES) if at not in (6, 7)])
def test_no_bit_but_the_checksum_s_can_be_changed(at: int) -> None:
    signed = bytearray(sign(payload(V4), V4, 7, KEY, STAMP))
    signed[at] ^= 1
    assert refusal(bytes(signed)) in (RejectReason.AUTHENTICATION, RejectReason.AUTHENTICATION_HEADER)


def test_another_sender_or_key_is_refused() -> None:
    signed = sign(payload(V4), V4, 7, KEY, STAMP)
    assert refusal(signed, IPv4Address("10.0.0.2")) is RejectReason.AUTHENTICATION
    assert refusal(sign(payload(V4), V4, 8, KEY, STAMP)) is RejectReason.AUTHENTICATION_HEADER
    assert refusal(sign(payload(V4), V4, 7, KEY[::-1], STAMP)) is RejectReason.AUTHENTICATION
    assert refusal(payload(V4)) is RejectReason.TRUNCATED


def test_stamps_are_ordered_by_time() -> None:
    assert Stamp(1, 9, 9) < Stamp(2, 0, 0) < Stamp(2, 1, 0) < Stamp(2, 1, 1)


@given(st.binary(max_size=80))
def test_anything_else_is_a_decode_error(data: bytes) -> None:
    refusal(data)
