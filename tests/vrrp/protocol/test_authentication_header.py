"""Authentication headers: layout, scapy-free vectors of RFC 2202's HMAC-MD5, and everything a forger might change."""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrrp.protocol.authentication_header import HEADER_BYTES, MAX_SEQUENCE, Authenticator
from vrrp.protocol.packet import DecodeError, RejectReason, build_ipv4_header

SOURCE, GROUP = IPv4Address("10.0.0.1"), IPv4Address("224.0.0.18")
KEY = b"geheimes"
PAYLOAD = b"\x21\x33\x96\x01\x02\x01\x00\x00" + bytes(12)


def sealed(key: bytes = KEY, *, sequence: int = 1, unicast: bool = False, payload: bytes = PAYLOAD) -> bytes:
    header = bytearray(build_ipv4_header(SOURCE, GROUP, HEADER_BYTES + len(payload), identification=7, ttl=255))
    header[9] = 51
    return Authenticator(key, unicast=unicast).seal(header, payload, sequence)


def refusal(data: bytes, receiver: Authenticator | None = None) -> RejectReason:
    with pytest.raises(DecodeError) as caught:
        (receiver or Authenticator(KEY, unicast=False)).open(data)
    return caught.value.reason


def hmac_md5(key: bytes, text: bytes) -> bytes:
    """RFC 2104 written out, as an oracle."""
    block = key.ljust(64, b"\0")
    inner = hashlib.md5(bytes(b ^ 0x36 for b in block) + text).digest()
    return hashlib.md5(bytes(b ^ 0x5C for b in block) + inner).digest()


def test_layout_and_value() -> None:
    packet = sealed(sequence=0x01020304)
    assert packet[20:32].hex() == "70040000" + "0a000001" + "01020304"
    covered = bytearray(packet)
    covered[1] = 0
    covered[6:8] = covered[10:12] = b"\0\0"
    covered[32:44] = bytes(12)
    assert packet[32:44] == hmac_md5(KEY, bytes(covered))[:12]
    assert packet[44:] == PAYLOAD


def test_open_gives_the_advert_back() -> None:
    datagram = Authenticator(KEY, unicast=False).open(sealed())
    assert (datagram.source, datagram.destination, datagram.ttl) == (SOURCE, GROUP, 255)
    assert datagram.payload == PAYLOAD
    assert datagram.authenticated


def test_ethernet_padding_is_not_covered() -> None:
    assert Authenticator(KEY, unicast=False).open(sealed() + bytes(6)).payload == PAYLOAD


@pytest.mark.parametrize("at", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, *range(12, 64)])
def test_no_bit_can_be_changed(at: int) -> None:
    packet = bytearray(sealed())
    packet[at] ^= 1
    if at in (1, 6):
        assert at == 6 or Authenticator(KEY, unicast=False).open(bytes(packet)), "TOS may change on the way"
    else:
        refusal(bytes(packet))


def test_ttl_may_change_between_routed_peers_only() -> None:
    packet = bytearray(sealed(unicast=True))
    packet[8] = 250
    assert Authenticator(KEY, unicast=True).open(bytes(packet)).ttl == 250
    multicast = bytearray(sealed())
    multicast[8] = 250
    assert refusal(bytes(multicast)) is RejectReason.AUTHENTICATION


def test_what_is_wrong_is_named() -> None:
    assert refusal(sealed(b"other")) is RejectReason.AUTHENTICATION
    packet = bytearray(sealed())
    packet[24] ^= 1
    assert refusal(bytes(packet)) is RejectReason.AUTHENTICATION_HEADER
    assert refusal(build_ipv4_header(SOURCE, GROUP, 20, identification=1, ttl=255) + PAYLOAD) is RejectReason.PROTOCOL


def test_nothing_is_taken_twice_and_a_forgery_uses_nothing_up() -> None:
    receiver = Authenticator(KEY, unicast=False)
    receiver.open(sealed(sequence=5))
    assert refusal(sealed(sequence=5), receiver) is RejectReason.REPLAY
    assert refusal(sealed(sequence=4), receiver) is RejectReason.REPLAY
    assert refusal(sealed(b"other", sequence=900), receiver) is RejectReason.AUTHENTICATION
    receiver.open(sealed(sequence=6))


def test_a_successor_goes_on_above_what_it_heard() -> None:
    first, second = Authenticator(KEY, unicast=False), Authenticator(KEY, unicast=False)
    for _ in range(3):
        second.open(sealed(sequence=first.next_sequence()))
    assert second.next_sequence() == 4
    first.sequence = MAX_SEQUENCE
    assert first.next_sequence() == MAX_SEQUENCE
    assert first.open(sealed(sequence=MAX_SEQUENCE)).authenticated, "at its end the counter no longer protects, but nobody is cut off"


@given(st.binary(max_size=120))
def test_anything_else_is_a_decode_error(data: bytes) -> None:
    refusal(data)


@given(st.binary(min_size=1, max_size=8), st.binary(max_size=200), st.integers(1, MAX_SEQUENCE), st.booleans())
def test_what_is_sealed_opens(key: bytes, payload: bytes, sequence: int, unicast: bool) -> None:
    receiver = Authenticator(key, unicast=unicast)
    assert receiver.open(sealed(key, sequence=sequence, unicast=unicast, payload=payload)).payload == payload
    assert receiver.sequence == sequence
