"""The packet codec, against RFC layouts, scapy as an independent oracle, and every receive check."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.vrrp import VRRP, VRRPv3

from vrrp.protocol.packet import (
    Advert,
    AuthType,
    ChecksumStyle,
    Datagram,
    DecodeError,
    Expectations,
    Family,
    RejectReason,
    build_ipv4_header,
    decode_advert,
    encode_advert,
    has_old_checksum,
    next_identification,
    parse_ipv4,
    pass_auth_data,
    receive_advert,
)

SOURCE, GROUP, PEER = IPv4Address("10.0.0.1"), IPv4Address("224.0.0.18"), IPv4Address("10.0.0.2")
SOURCE6, GROUP6 = IPv6Address("fe80::1"), IPv6Address("ff02::12")
VIPS = (IPv4Address("10.0.0.100"), IPv4Address("10.0.0.101"))
V3 = Advert(3, Family.IPV4, 51, 150, VIPS, 100)
V2 = Advert(2, Family.IPV4, 51, 150, VIPS, 100, AuthType.PASS, pass_auth_data(b"secret"))
V2_PLAIN = replace(V2, auth_type=AuthType.NONE, auth_data=bytes(8))
V6 = Advert(3, Family.IPV6, 51, 150, (IPv6Address("fe80::100"), IPv6Address("2001:db8::1")), 100)


def expect(advert: Advert, **changes: Any) -> Expectations:
    group = GROUP6 if advert.family is Family.IPV6 else GROUP
    base = Expectations(
        advert.version, advert.family, advert.vrid, advert.interval_cs, group=group, auth_type=advert.auth_type, auth_data=advert.auth_data
    )
    return replace(base, **changes)


def datagram(advert: Advert, *, ttl: int = 255, to: Any = None, checksum: ChecksumStyle = ChecksumStyle.PSEUDO_HEADER) -> Datagram:
    source, group = (SOURCE6, GROUP6) if advert.family is Family.IPV6 else (SOURCE, GROUP)
    destination = to or group
    return Datagram(source, destination, ttl, encode_advert(advert, source, destination, checksum))


def rejected(packet: Datagram, expected: Expectations) -> RejectReason:
    with pytest.raises(DecodeError) as caught:
        receive_advert(packet, expected)
    assert caught.value.reason.remedy
    return caught.value.reason


@pytest.mark.parametrize("advert", [V2, V2_PLAIN, V3, V6])
def test_what_is_sent_is_received(advert: Advert) -> None:
    assert receive_advert(datagram(advert), expect(advert)) == advert


def test_v2_layout_of_rfc_3768() -> None:
    payload = encode_advert(replace(V2, addresses=VIPS[:1], interval_cs=300), SOURCE, GROUP)
    assert payload[:6].hex() == "21339601" + "01" + "03"
    assert payload[8:12] == VIPS[0].packed
    assert payload[12:] == b"secret\0\0"


def test_v3_layout_of_rfc_5798() -> None:
    payload = encode_advert(replace(V3, interval_cs=0xABC), SOURCE, GROUP)
    assert payload[:6].hex() == "313396020abc"
    assert len(payload) == 16


@pytest.mark.parametrize(("advert", "layer", "carrier"), [(V2, VRRP, IP), (V3, VRRPv3, IP), (V6, VRRPv3, IPv6)])
def test_scapy_builds_the_same_bytes(advert: Advert, layer: Any, carrier: Any) -> None:
    fields: dict[str, Any] = {"vrid": advert.vrid, "priority": advert.priority, "addrlist": [str(a) for a in advert.addresses]}
    if advert.version == 2:
        halves = (int.from_bytes(advert.auth_data[:4], "big"), int.from_bytes(advert.auth_data[4:], "big"))
        fields |= {"authtype": 1, "adv": 1, "auth1": halves[0], "auth2": halves[1]}
    else:
        fields |= {"adv": advert.interval_cs}
    packet = datagram(advert)
    lower = carrier(src=str(packet.source), dst=str(packet.destination), **({"proto": 112} if carrier is IP else {"nh": 112}))
    assert bytes(lower / layer(**fields))[len(lower) :] == packet.payload


def test_checksum_without_pseudo_header_is_a_plain_one() -> None:
    payload = encode_advert(V3, SOURCE, GROUP, ChecksumStyle.PLAIN)
    total = sum(int.from_bytes(payload[at : at + 2], "big") for at in range(0, len(payload), 2))
    assert (total >> 16) + (total & 0xFFFF) == 0xFFFF


CHECKS: list[tuple[str, Datagram, Expectations, RejectReason]] = [
    ("ttl", datagram(V3, ttl=254), expect(V3), RejectReason.TTL),
    ("version", datagram(V3), expect(V3, version=2), RejectReason.VERSION),
    ("vrid", datagram(V3), expect(V3, vrid=52), RejectReason.VRID),
    ("auth type", datagram(V2), expect(V2, auth_type=AuthType.NONE), RejectReason.AUTH_TYPE),
    ("no AH", datagram(replace(V2, auth_type=AuthType.AH)), expect(replace(V2, auth_type=AuthType.AH)), RejectReason.AUTH_TYPE),
    ("AH", replace(datagram(V2), authenticated=True), expect(V2), RejectReason.AUTH_TYPE),
    ("password", datagram(V2), expect(V2, auth_data=pass_auth_data(b"other")), RejectReason.PASSWORD),
    ("v2 interval", datagram(V2), expect(V2, interval_cs=200), RejectReason.INTERVAL),
    ("checksum", replace(datagram(V3), payload=datagram(V3).payload[:-1] + b"\0"), expect(V3), RejectReason.CHECKSUM),
    ("checksum style", datagram(V3, checksum=ChecksumStyle.PLAIN), expect(V3), RejectReason.CHECKSUM_STYLE),
    ("unicast", datagram(V3, to=PEER), expect(V3), RejectReason.UNICAST_UNEXPECTED),
    ("multicast", datagram(V3), expect(V3, group=None), RejectReason.MULTICAST_UNEXPECTED),
    ("group", datagram(V3, to=IPv4Address("224.0.0.99")), expect(V3), RejectReason.WRONG_GROUP),
    ("own address", datagram(V3), expect(V3, local_address=SOURCE), RejectReason.OWN_ADDRESS),
    ("owner", datagram(V3), expect(V3, owner_ignores=True), RejectReason.OWNER_IGNORES),
    ("stranger", datagram(V3, to=PEER), expect(V3, group=None, peers=frozenset([PEER])), RejectReason.UNKNOWN_PEER),
    (
        "linked peer's TTL",
        datagram(V3, to=PEER, ttl=254),
        expect(V3, group=None, peers=frozenset([SOURCE]), linked_peers=frozenset([SOURCE])),
        RejectReason.PEER_TTL,
    ),
    (
        "peer's TTL",
        datagram(V3, to=PEER, ttl=250),
        expect(V3, group=None, peers=frozenset([SOURCE]), peer_ttl={SOURCE: (252, 255)}),
        RejectReason.PEER_TTL,
    ),
    ("family", datagram(V6), expect(V3), RejectReason.IP_HEADER),
]


@pytest.mark.parametrize(("packet", "expected", "reason"), [c[1:] for c in CHECKS], ids=[c[0] for c in CHECKS])
def test_receive_checks(packet: Datagram, expected: Expectations, reason: RejectReason) -> None:
    assert rejected(packet, expected) is reason


def test_every_reason_is_reached_by_some_test() -> None:
    structural = {
        RejectReason.IP_HEADER,
        RejectReason.IP_LENGTH,
        RejectReason.PROTOCOL,
        RejectReason.FRAGMENT,
        RejectReason.TRUNCATED,
        RejectReason.LENGTH,
        RejectReason.TYPE,
    }
    with_header = {RejectReason.AUTHENTICATION_HEADER, RejectReason.AUTHENTICATION, RejectReason.REPLAY}
    """In test_authentication_header.py."""
    with_trailer = {reason for reason in RejectReason if reason.value.startswith("hmac_")}
    """In test_hmac_trailer.py."""
    assert structural | with_header | with_trailer | {c[3] for c in CHECKS} == set(RejectReason)


def test_v3_interval_may_differ() -> None:
    assert receive_advert(datagram(V3), expect(V3, interval_cs=10)).interval_cs == 100


def test_v3_checksum_as_v2_accepts_both_styles_but_no_garbage() -> None:
    """keepalived accepts garbage here."""
    lenient = expect(V3, checksum=ChecksumStyle.PLAIN)
    for style in ChecksumStyle:
        assert receive_advert(datagram(V3, checksum=style), lenient) == V3
    damaged = datagram(V3)
    assert rejected(replace(damaged, payload=damaged.payload[:6] + b"\1\1" + damaged.payload[8:]), lenient) is RejectReason.CHECKSUM


def test_a_unicast_peer_on_our_link_must_send_255_and_a_routed_one_need_not() -> None:
    routed = expect(V3, group=None, peers=frozenset([SOURCE]))
    linked = replace(routed, linked_peers=frozenset([SOURCE]))
    assert receive_advert(datagram(V3, to=PEER, ttl=3), routed) == V3
    assert receive_advert(datagram(V3, to=PEER, ttl=255), linked) == V3
    assert receive_advert(datagram(V3, to=PEER, ttl=64), replace(linked, link_ttls=frozenset({255, 64}))) == V3
    assert receive_advert(datagram(V3, to=PEER, ttl=64), replace(linked, peer_ttl={SOURCE: (60, 70)})) == V3
    assert rejected(datagram(V3, to=PEER, ttl=255), replace(linked, peer_ttl={SOURCE: (60, 70)})) is RejectReason.PEER_TTL


def test_a_stranger_is_heard_only_where_that_is_asked_for() -> None:
    expected = expect(V3, group=None, peers=frozenset([PEER]))
    assert rejected(datagram(V3, to=PEER), expected) is RejectReason.UNKNOWN_PEER
    assert receive_advert(datagram(V3, to=PEER, ttl=3), replace(expected, only_peers=False)) == V3


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", RejectReason.TRUNCATED),
        (b"\x31\x33\x96\x00\x00\x64\x00", RejectReason.TRUNCATED),
        (datagram(V3).payload[:-1], RejectReason.LENGTH),
        (datagram(V3).payload + b"\0", RejectReason.LENGTH),
        (datagram(V2).payload[:-8], RejectReason.LENGTH),
        (b"\x41" + datagram(V3).payload[1:], RejectReason.VERSION),
        (b"\x32" + datagram(V3).payload[1:], RejectReason.TYPE),
        (b"\x31\x00" + datagram(V3).payload[2:], RejectReason.VRID),
        (datagram(V3).payload[:4] + b"\0\0" + datagram(V3).payload[6:], RejectReason.INTERVAL),
        (datagram(V2).payload[:4] + b"\x09" + datagram(V2).payload[5:], RejectReason.AUTH_TYPE),
    ],
)
def test_structure(payload: bytes, reason: RejectReason) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_advert(payload, Family.IPV4)
    assert caught.value.reason is reason


GOOD_PACKET = build_ipv4_header(SOURCE, GROUP, 16, identification=7, ttl=255) + datagram(V3).payload


def test_ip_header_is_keepaliveds() -> None:
    packet = IP(GOOD_PACKET)
    assert (packet.tos, packet.ttl, packet.proto, packet.id, packet.frag, packet.len) == (0xC0, 255, 112, 7, 0, 36)
    assert parse_ipv4(GOOD_PACKET) == datagram(V3)


def test_ip_options_are_skipped() -> None:
    options = b"\x94\x04\0\0"
    packet = b"\x46" + GOOD_PACKET[1:2] + (40).to_bytes(2, "big") + GOOD_PACKET[4:20] + options + GOOD_PACKET[20:]
    assert parse_ipv4(packet) == datagram(V3)


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"", RejectReason.IP_HEADER),
        (b"\x60" + GOOD_PACKET[1:], RejectReason.IP_HEADER),
        (b"\x41" + GOOD_PACKET[1:], RejectReason.IP_HEADER),
        (b"\x4f" + GOOD_PACKET[1:], RejectReason.IP_HEADER),
        (GOOD_PACKET[:-1], RejectReason.IP_LENGTH),
        (GOOD_PACKET[:2] + b"\0\0" + GOOD_PACKET[4:], RejectReason.IP_LENGTH),
        (GOOD_PACKET[:9] + b"\x11" + GOOD_PACKET[10:], RejectReason.PROTOCOL),
        (GOOD_PACKET[:6] + b"\x20\0" + GOOD_PACKET[8:], RejectReason.FRAGMENT),
    ],
)
def test_broken_ip_headers(packet: bytes, reason: RejectReason) -> None:
    with pytest.raises(DecodeError) as caught:
        parse_ipv4(packet)
    assert caught.value.reason is reason


def test_ethernet_padding_behind_the_packet_is_ignored() -> None:
    assert parse_ipv4(GOOD_PACKET + bytes(10)) == datagram(V3)


def test_identification_skips_zero() -> None:
    assert [next_identification(n) for n in (1, 0xFFFE, 0xFFFF)] == [2, 0xFFFF, 1]


@pytest.mark.parametrize(
    "advert",
    [replace(V3, vrid=0), replace(V3, priority=256), replace(V3, interval_cs=4096), replace(V2, interval_cs=50), replace(V3, version=4)],
)
def test_what_does_not_fit_is_not_sent(advert: Advert) -> None:
    with pytest.raises(ValueError):
        encode_advert(advert, SOURCE, GROUP)


v4 = st.integers(0, 2**32 - 1).map(IPv4Address)
v6 = st.integers(0, 2**128 - 1).map(IPv6Address)


@st.composite
def adverts(draw: st.DrawFn) -> Advert:
    family = draw(st.sampled_from(Family))
    version = 3 if family is Family.IPV6 else draw(st.sampled_from([2, 3]))
    addresses = tuple(draw(st.lists(v4 if family is Family.IPV4 else v6, max_size=20)))
    interval = draw(st.integers(1, 255)) * 100 if version == 2 else draw(st.integers(1, 4095))
    auth = draw(st.sampled_from([AuthType.NONE, AuthType.PASS])) if version == 2 else AuthType.NONE
    data = draw(st.binary(min_size=8, max_size=8)) if version == 2 else b""
    return Advert(version, family, draw(st.integers(1, 255)), draw(st.integers(0, 255)), addresses, interval, auth, data)


@given(adverts(), st.sampled_from(ChecksumStyle))
def test_round_trip(advert: Advert, style: ChecksumStyle) -> None:
    packet = datagram(advert, checksum=style)
    assert decode_advert(packet.payload, advert.family) == advert
    assert receive_advert(packet, expect(advert, checksum=style)) == advert


@given(st.binary(max_size=120))
@settings(max_examples=500)
def test_random_bytes_only_ever_raise_decode_error(data: bytes) -> None:
    try:
        receive_advert(parse_ipv4(data), expect(V3))
    except DecodeError:
        return
    raise AssertionError("random bytes were taken for an advert")


@given(st.integers(0, len(GOOD_PACKET) - 1), st.integers(1, 255), st.sampled_from([V2, V3]))
def test_one_damaged_byte_is_never_taken_for_the_original(at: int, change: int, advert: Advert) -> None:
    payload = datagram(advert).payload
    packet = build_ipv4_header(SOURCE, GROUP, len(payload), identification=7, ttl=255) + payload
    damaged = packet[:at] + bytes([packet[at] ^ change]) + packet[at + 1 :]
    untouched_by_vrrp = at in (1, 4, 5, 10, 11) or (at in (6, 7) and not int.from_bytes(damaged[6:8], "big") & 0x3FFF)
    source_of_v2 = advert.version == 2 and 12 <= at < 16  # RFC 3768 does not cover the addresses of the IP header
    try:
        got = receive_advert(parse_ipv4(damaged), expect(advert))
    except DecodeError:
        assert not untouched_by_vrrp
    else:
        assert got == advert
        assert untouched_by_vrrp or source_of_v2


def test_addresses_may_be_any_family_neutral_type() -> None:
    assert ip_address("10.0.0.100") in decode_advert(datagram(V3).payload, Family.IPV4).addresses


def test_old_unicast_checksum_is_taken_where_it_may_be_and_garbage_never() -> None:
    old = Datagram(SOURCE, PEER, 255, encode_advert(V3, SOURCE, GROUP))
    unicast = expect(V3, group=None, peers=frozenset([SOURCE]))
    assert rejected(old, unicast) is RejectReason.CHECKSUM
    assert receive_advert(old, replace(unicast, old_checksum_group=GROUP)) == V3
    assert has_old_checksum(old, GROUP)
    assert not has_old_checksum(datagram(V3, to=PEER), GROUP)
    garbage = replace(old, payload=old.payload[:-1] + b"\0")
    for style in ChecksumStyle:
        assert rejected(garbage, replace(unicast, old_checksum_group=GROUP, checksum=style)) is RejectReason.CHECKSUM
