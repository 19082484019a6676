"""Lines of virtual_ipaddress, virtual_ipaddress_excluded and static_ipaddress."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from vrrp.config.keyword import REJECTED, Reading, Rejected, Value, nearest
from vrrp.config.model.addresses import AddressFlag, VirtualAddress
from vrrp.config.model.common import IpAddress
from vrrp.config.syntax import Statement, Word
from vrrp.config.values import UINT32, check_interface, line_list, parse_integer, read_address, read_integer

SCOPES = {"global": 0, "universe": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
_FLAGS = {
    "home": AddressFlag.HOMEADDRESS,
    "-nodad": AddressFlag.NODAD,
    "mngtmpaddr": AddressFlag.MANAGETEMPADDR,
    "noprefixroute": AddressFlag.NOPREFIXROUTE,
    "autojoin": AddressFlag.MCAUTOJOIN,
}
_OPTIONS = ("brd", "broadcast", "dev", "scope", "label", "peer", "preferred_lft", "no_track", "use_vmac", "track_group", *_FLAGS)
MAX_LABEL = 15


def addresses(static: bool = False) -> Value:
    """A block of address lines, as a tuple of VirtualAddress without resolved interfaces."""
    return line_list("ADDRESS[/LENGTH] [OPTION …]", lambda reading, line: read_address_line(reading, line, static))


def split_prefix(reading: Reading, given: Word) -> tuple[IpAddress, int, bool] | Rejected:
    """``ADDRESS[/LENGTH]``: address, length, and whether the length was written."""
    text, slash, length_text = given.text.partition("/")
    value = read_address(reading, Word(text, given.position), "address")
    if isinstance(value, Rejected):
        return REJECTED
    if not slash:
        return value, value.max_prefixlen, False
    length = parse_integer(length_text)
    if length is None and value.version == 4:
        length = _netmask_length(length_text)
    if length is None or not 0 <= length <= value.max_prefixlen:
        return reading.error(given, f"'/{length_text}' is no prefix length", f"write {value}/{24 if value.version == 4 else 64}")
    return value, length, True


def _netmask_length(text: str) -> int | None:
    try:
        return ipaddress.IPv4Network(f"0.0.0.0/{text}").prefixlen
    except ValueError:
        return None


class _AddressLine:
    """One address line while it is read."""

    def __init__(self, reading: Reading, line: Statement, static: bool) -> None:
        self._reading = reading
        self._line = line
        self._static = static
        self._failed = False
        self._broadcast: Word | None = None
        self._interface = ""
        self._scope: int | None = None
        self._label = ""
        self._peer: tuple[IpAddress, int] | None = None
        self._flags = AddressFlag.NONE
        self._preferred: int | None = None
        self._preferred_given = False
        self._no_track = False
        self._use_vmac = False
        self._track_group = ""

    def read(self) -> object:
        """A VirtualAddress or REJECTED."""
        split = split_prefix(self._reading, self._line.words[0])
        if isinstance(split, Rejected):
            return REJECTED
        base, length, written = split
        rest = iter(self._line.words[1:])
        for option in rest:
            self._option(option, rest)
        if self._failed:
            return REJECTED
        self._check_family(base)
        if self._peer is not None:
            if written:
                self._reading.warning(
                    self._line, f"{base} has a peer and a prefix length", "write the length behind the peer address", "address"
                )
            length = self._peer[1]
        if base.version == 6 and length == 128 and not self._preferred_given:
            self._preferred = 0
        if base.version == 4 and self._preferred == 0:
            self._reading.note(self._line, f"preferred_lft 0 deprecates no IPv4 address, as in keepalived ({base})", "remove it", "advice")
            self._preferred = None
        return VirtualAddress(
            address=base,
            prefix_length=length,
            interface=self._interface,
            interface_given=bool(self._interface),
            broadcast=self._broadcast_of(base, length),
            scope=self._scope or 0,
            label=self._label,
            peer=self._peer[0] if self._peer else None,
            flags=self._flags,
            preferred_lft_s=self._preferred,
            no_track=self._no_track,
            use_vmac=self._use_vmac,
            track_group=self._track_group,
            position=self._line.position,
        )

    def _fail(self, where: Word, message: str, remedy: str) -> None:
        self._reading.error(where, message, remedy, "address")
        self._failed = True

    def _value(self, option: Word, rest: Iterator[Word]) -> Word | None:
        value = next(rest, None)
        if value is None:
            self._fail(option, f"'{option.text}' has no value", f"write: {option.text} VALUE")
        return value

    def _option(self, option: Word, rest: Iterator[Word]) -> None:
        name = option.text
        if name in _FLAGS:
            self._flags |= _FLAGS[name]
        elif name == "no_track":
            self._no_track = True
        elif name == "use_vmac" and not self._static:
            self._use_vmac = True
        elif name == "track_group" and not self._static:
            self._fail(option, "track_group only works for static addresses", "use no_track, or remove it")
        elif name in ("brd", "broadcast", "dev", "scope", "label", "peer", "preferred_lft", "track_group"):
            value = self._value(option, rest)
            if value is not None:
                self._valued(name, value)
        else:
            near = nearest(name, _OPTIONS)
            remedy = (
                f"did you mean '{near}'?" if near else "one address stands in each line; its options are brd, dev, scope, label, peer, …"
            )
            self._fail(option, f"'{name}' after the address {self._line.keyword} is unknown", remedy)

    def _valued(self, name: str, value: Word) -> None:
        if name in ("brd", "broadcast"):
            self._broadcast = value
        elif name == "dev":
            checked = check_interface(self._reading, value)
            self._failed |= isinstance(checked, Rejected)
            self._interface = "" if isinstance(checked, Rejected) else checked
        elif name == "scope":
            scope = SCOPES.get(value.text, parse_integer(value.text))
            if scope is None or not 0 <= scope <= 255:
                self._fail(value, f"scope '{value.text}' is unknown", f"write {', '.join(SCOPES)} or 0..255")
            self._scope = scope
        elif name == "label":
            if len(value.text) > MAX_LABEL:
                self._fail(value, f"label '{value.text}' is longer than {MAX_LABEL} characters", "write a shorter one, such as eth0:1")
            self._label = value.text
        elif name == "peer":
            peer = split_prefix(self._reading, value)
            self._failed |= isinstance(peer, Rejected)
            self._peer = None if isinstance(peer, Rejected) else peer[:2]
        elif name == "preferred_lft":
            self._preferred_given = True
            if value.text != "forever":
                number = read_integer(self._reading, value, name, 0, UINT32)
                self._failed |= isinstance(number, Rejected)
                self._preferred = None if isinstance(number, Rejected) else number
        else:
            self._track_group = value.text

    def _check_family(self, base: IpAddress) -> None:
        if base.version == 6 and self._label:
            self._reading.warning(
                self._line, f"an IPv6 address cannot have a label; it is left out for {base}", "remove the label", "address"
            )
            self._label = ""
        if base.version == 6 and self._scope is not None:
            self._reading.warning(
                self._line, f"an IPv6 address cannot have a scope; it is left out for {base}", "remove the scope", "address"
            )
            self._scope = None
        if self._peer is not None and self._peer[0].version != base.version:
            self._fail(self._line.words[0], f"{base} and its peer {self._peer[0]} differ in family", "use two addresses of one family")
        if self._peer is not None and self._broadcast is not None:
            self._reading.warning(
                self._line, f"{base} has a peer and a broadcast address; the broadcast is left out", "remove brd", "address"
            )
            self._broadcast = None

    def _broadcast_of(self, base: IpAddress, length: int) -> ipaddress.IPv4Address | None:
        if self._broadcast is None:
            return None
        if base.version == 6:
            self._reading.warning(self._broadcast, f"an IPv6 address has no broadcast; it is left out for {base}", "remove brd", "address")
            return None
        network = ipaddress.IPv4Network(f"{base}/{length}", strict=False)
        if self._broadcast.text == "+":
            return network.broadcast_address
        if self._broadcast.text == "-":
            return network.network_address
        value = read_address(self._reading, self._broadcast, "broadcast", 4)
        return value if isinstance(value, ipaddress.IPv4Address) else None


def read_address_line(reading: Reading, line: Statement, static: bool = False) -> object:
    """A VirtualAddress or REJECTED; the interface is "" where the line has no ``dev``."""
    return _AddressLine(reading, line, static).read()
