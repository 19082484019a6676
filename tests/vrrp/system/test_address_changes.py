"""From what the kernel holds to what the file says: the messages, played on a small model of the kernel's rules."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, ip_address

from hypothesis import given
from hypothesis import strategies as st

from vrrp.config.model.addresses import AddressFlag, VirtualAddress
from vrrp.system.address_changes import Wanted, changes, distinct
from vrrp.system.kernel_addresses import FOREVER_S, RTM_DELADDR, KernelAddress

ETH0 = 2
_LOCAL, _PEER, _LABEL, _BROADCAST, _TIMES, _FLAGS = 1, 2, 3, 4, 6, 8
_PERMANENT = 0x80


class Kernel:
    """IPv4 by address and length, IPv6 by address; ``absent``: places that were empty after some message."""

    def __init__(self, entries: list[KernelAddress]) -> None:
        self.entries = entries
        self.absent: set[bytes] = set()

    def play(self, blob: bytes) -> None:
        at = 0
        while at < len(blob):
            size, kind, flags = struct.unpack_from("=IHH", blob, at)
            self._message(kind, flags, blob[at + 16 : at + size])
            at += size + (-size % 4)
            self.absent |= {packed for packed in self._seen if packed not in {e.packed for e in self.entries}}

    @property
    def _seen(self) -> set[bytes]:
        return {address.packed for address in ADDRESSES}

    def _message(self, kind: int, flags: int, body: bytes) -> None:
        _family, length, narrow, scope, index = struct.unpack_from("=BBBBI", body)
        words: dict[int, bytes] = {}
        at = 8
        while at < len(body):
            size, name = struct.unpack_from("=HH", body, at)
            words[name] = body[at + 4 : at + size]
            at += size + (-size % 4)
        packed, peer = words[_LOCAL], words[_PEER]
        here = [e for e in self.entries if e.packed == packed and (e.length == length or (len(packed) == 16 and kind != RTM_DELADDR))]
        if kind == RTM_DELADDR:
            self.entries = [e for e in self.entries if e not in here or e.peer != peer]
            return
        wide = struct.unpack("=I", words[_FLAGS])[0] if _FLAGS in words else narrow
        preferred = struct.unpack_from("=I", words[_TIMES])[0] if _TIMES in words else FOREVER_S
        entry = KernelAddress(
            index, packed, length, peer, scope, wide | _PERMANENT | (0x20 if preferred == 0 else 0),
            words.get(_LABEL, b"eth0\0").rstrip(b"\0") if len(packed) == 4 else b"", words.get(_BROADCAST, b""), FOREVER_S, FOREVER_S,
        )  # fmt: skip
        if here and flags & 0x100:
            same = here[0]
            keep = same._replace(flags=entry.flags if len(packed) == 16 else same.flags & ~0x20 | entry.flags & 0x20)
            self.entries = [keep if e is same else e for e in self.entries]
        elif not here:
            self.entries.append(entry)


ADDRESSES = [ip_address(text) for text in ("10.0.0.100", "fd77::100")]
lines = st.builds(
    lambda address, length, label, scope, broadcast, flags, preferred: VirtualAddress(
        address,
        length if address.version == 4 else 4 * length,
        "eth0",
        scope=scope if address.version == 4 else 0,
        label=label if address.version == 4 else "",
        broadcast=broadcast if address.version == 4 else None,
        flags=flags,
        preferred_lft_s=preferred,
    ),
    st.sampled_from(ADDRESSES),
    st.sampled_from([24, 25, 32]),
    st.sampled_from(["", "eth0:1"]),
    st.sampled_from([0, 253]),
    st.sampled_from([None, IPv4Address("10.0.0.255")]),
    st.sampled_from([AddressFlag.NONE, AddressFlag.NOPREFIXROUTE, AddressFlag.MCAUTOJOIN]),
    st.sampled_from([None, 0, 100]),
)
files = st.lists(lines, max_size=4).map(lambda found: distinct(Wanted(ETH0, "eth0", line) for line in found))


def played(wanted: tuple[Wanted, ...]) -> Kernel:
    kernel = Kernel([])
    kernel.play(changes(wanted, [])[0])
    return kernel


@given(files, files)
def test_the_kernel_becomes_what_it_would_be_from_the_start(before: tuple[Wanted, ...], after: tuple[Wanted, ...]) -> None:
    kernel = played(before)
    blob, _removes = changes(after, kernel.entries, {item.place for item in before})
    kernel.absent = set()
    kernel.play(blob)
    assert sorted(kernel.entries) == sorted(played(after).entries)
    stays = {item.line.address.packed for item in before} & {item.line.address.packed for item in after}
    assert not {packed for packed in stays & kernel.absent if len(packed) == 4}, "an IPv4 address is never away"


@given(files)
def test_what_is_in_place_is_left_alone(wanted: tuple[Wanted, ...]) -> None:
    settled = [Wanted(item.index, item.interface, item.line, fresh=False) for item in wanted]
    assert changes(settled, played(wanted).entries) == (b"", False)
