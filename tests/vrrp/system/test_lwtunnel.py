"""The payload of ``encap``: byte for byte what iproute2 6.1 sends (its sendmsg, read by strace); kernels here lack mpls and ila."""

from __future__ import annotations

import pytest

from vrrp.system.lwtunnel import EncapError, encapsulation


@pytest.mark.parametrize(
    ("words", "kind", "payload"),
    [
        ("mpls 100/200 ttl 9", 1, "0c00010000064000000c81000500020009d00100"),
        (
            "ila 5555:5:1:2 csum-mode no-action ident-type luid hook-type input",
            3,
            "0c00010055550005000100020500070002d001000500080001f001000500090001e10100",
        ),
        ("ip id 100 dst 10.0.0.3 ttl 7 tos 4", 2, "0c0001000000000000000064080002000a0000030500040007f001000500050004e10100"),
        ("ip6 id 5 dst 2001:db8::3", 4, "0c00010000000000000000051400020020010db8000000000000000000000003"),
    ],
)
def test_same_bytes_as_iproute2(words: str, kind: int, payload: str) -> None:
    # iproute2 leaves the padding after a value as it was in memory: compared are the attributes.
    sent = attributes(bytes.fromhex(payload))
    number, encoded = encapsulation(words.split())
    assert (number, attributes(encoded)) == (kind, sent)


def attributes(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        length = int.from_bytes(data[:2], "little")
        found.append((int.from_bytes(data[2:4], "little"), data[4:length]))
        data = data[(length + 3) & ~3 :]
    return sorted(found)


@pytest.mark.parametrize(
    "words",
    [
        "",
        "seg6 mode encap",
        "mpls",
        "mpls 1048576",
        "mpls x",
        "ip dst fe80::1",
        "ip6 dst 10.0.0.1",
        "ip id",
        "ip ttl 256",
        "ila 1:2",
        "ila 1:2:3:4 csum-mode no",
    ],
)
def test_what_makes_no_tunnel_is_named(words: str) -> None:
    with pytest.raises(EncapError):
        encapsulation(words.split())
