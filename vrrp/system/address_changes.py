"""PURE: which messages bring the addresses of an interface from what the kernel holds to what the file says.

Without a gap: what is new comes before what is wrong goes. An IPv4 address may have several lengths at a time, so the next form of it is
added first; where only label, scope or broadcast differ (the kernel changes none of them in place), a third length holds the address while
its entry is made anew. An IPv6 address has one length: another one costs the microseconds between two messages of one send.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from vrrp.config.model.addresses import AddressFlag, VirtualAddress
from vrrp.system.kernel_addresses import FOREVER_S, IFA_F_DEPRECATED, IFA_F_NODAD, KernelAddress, Place, addition, removal
from vrrp.system.netlink import address_message

_SETTABLE = 0
for _flag in AddressFlag:
    _SETTABLE |= int(_flag)
_IN_PLACE = int(AddressFlag.NODAD | AddressFlag.HOMEADDRESS | AddressFlag.MANAGETEMPADDR | AddressFlag.NOPREFIXROUTE)
"""What NLM_F_REPLACE changes of an IPv6 address."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One address line on the interface where it lives. ``fresh``: the line was not in the file before."""

    index: int
    interface: str
    line: VirtualAddress
    fresh: bool = True

    @property
    def place(self) -> Place:
        """Interface and address."""
        return self.index, self.line.address.packed

    def message(self, *, add: bool = True, replace: bool = False) -> bytes:
        """Adds (or gives new times and flags), or removes this very form."""
        line = self.line
        return address_message(
            add=add,
            index=self.index,
            address=line.address,
            prefix_length=line.prefix_length,
            broadcast=line.broadcast,
            scope=line.scope,
            label=line.label,
            peer=line.peer,
            flags=int(line.flags),
            preferred_lft_s=line.preferred_lft_s,
            replace=replace,
        )


def distinct(wanted: Iterable[Wanted]) -> tuple[Wanted, ...]:
    """Without lines that the kernel would refuse as the same once more (keepalived's first line wins, too)."""
    found: dict[tuple[Place, int], Wanted] = {}
    for item in wanted:
        length = item.line.prefix_length if item.line.address.version == 4 else 0
        found.setdefault((item.place, length), item)
    return tuple(found.values())


@dataclass(slots=True)
class _Messages:
    first: list[bytes] = field(default_factory=list)
    removals: list[bytes] = field(default_factory=list)
    again: list[bytes] = field(default_factory=list)
    last: list[bytes] = field(default_factory=list)


def changes(wanted: Collection[Wanted], held: Iterable[KernelAddress], former: Collection[Place] = ()) -> tuple[bytes, bool]:
    """Messages for the kernel, b"" if it is all in place, and whether something is removed: then a secondary address may go with it.

    ``held``: everything that the kernel has; only the places of ``wanted`` and ``former`` (no more wanted) are touched.
    """
    forms: dict[Place, list[KernelAddress]] = {item.place: [] for item in wanted}
    messages = _Messages()
    for entry in held:
        if entry.place in forms:
            forms[entry.place].append(entry)
        elif entry.place in former:
            messages.removals.append(_removal(entry))
    for place, entries in forms.items():
        _one_place([item for item in wanted if item.place == place], entries, messages)
    blob = b"".join((*messages.first, *messages.removals, *messages.again, *messages.last))
    return blob, bool(messages.removals)


def _removal(entry: KernelAddress) -> bytes:
    return removal(entry.interface, entry.packed, entry.length, entry.peer)


def _one_place(lines: list[Wanted], entries: list[KernelAddress], messages: _Messages) -> None:
    by_length = {entry.length: entry for entry in entries}
    stays, replaced = False, list[Wanted]()
    for item in lines:
        entry = by_length.pop(item.line.prefix_length, None)
        if entry is None and item.line.address.version == 6 and by_length:
            messages.again.append(item.message())
        elif entry is None:
            messages.first.append(item.message())
            stays = True
        elif _can_stay(item, entry):
            stays = True
            if not _same_times(item, entry) or _flags(item) != entry.flags & _SETTABLE:
                messages.first.append(item.message(replace=True))
        else:
            messages.removals.append(_removal(entry))
            replaced.append(item)
    messages.removals += [_removal(entry) for entry in by_length.values()]
    if replaced and not stays and replaced[0].line.address.version == 4:
        bridge = next(length for length in range(32, 0, -1) if length not in {entry.length for entry in entries})
        first = replaced[0]
        messages.first.append(addition(first.index, first.line.address.packed, bridge, flags=int(AddressFlag.NOPREFIXROUTE)))
        messages.last.append(removal(first.index, first.line.address.packed, bridge))
    messages.again += [item.message() for item in replaced]


def _flags(item: Wanted) -> int:
    return int(item.line.flags) | (IFA_F_NODAD if item.line.address.version == 6 else 0)


def _can_stay(item: Wanted, entry: KernelAddress) -> bool:
    """Is the entry what the line wants, but for what can be changed in place?"""
    line = item.line
    if entry.peer != (line.peer or line.address).packed:
        return False
    different = (_flags(item) ^ entry.flags) & _SETTABLE
    if line.address.version == 6:
        return not different & ~_IN_PLACE
    broadcast = b"" if line.broadcast is None else line.broadcast.packed
    label = (line.label or item.interface).encode()
    return not different and (entry.scope, entry.label, entry.broadcast) == (line.scope, label, broadcast)


def _same_times(item: Wanted, entry: KernelAddress) -> bool:
    """A finite time runs down in the kernel, and of an IPv4 address it cannot be read back; a line that is new sets it."""
    deprecated = bool(entry.flags & IFA_F_DEPRECATED)
    return not item.fresh and entry.valid_s == FOREVER_S and (deprecated or item.line.preferred_lft_s != 0)
