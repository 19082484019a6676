"""AgentX (RFC 2741): the protocol between an SNMP sub-agent and its master. Bytes in, values out, no I/O.

We always send network byte order; both orders are read. ``decode`` returns or raises ``DecodeError``, whatever it is fed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

Oid: TypeAlias = "tuple[int, ...]"
"""Sub-identifiers, at most 128, each 0..2**32-1."""

HEADER_BYTES = 20
MAX_PAYLOAD_BYTES = 1 << 20
MAX_SUBIDS = 128
_VERSION = 1
_NON_DEFAULT_CONTEXT = 0x08
_NETWORK_BYTE_ORDER = 0x10
_INTERNET = (1, 3, 6, 1)


class DecodeError(Exception):
    """These bytes are no AgentX PDU."""


class Type(IntEnum):
    """The type of a value (RFC 2741, section 5.4)."""

    INTEGER = 2
    OCTET_STRING = 4
    NULL = 5
    OBJECT_ID = 6
    IP_ADDRESS = 64
    COUNTER32 = 65
    GAUGE32 = 66
    TIME_TICKS = 67
    OPAQUE = 68
    COUNTER64 = 70
    NO_SUCH_OBJECT = 128
    NO_SUCH_INSTANCE = 129
    END_OF_MIB_VIEW = 130


class ErrorCode(IntEnum):
    """Values of ``res.error`` that we send or treat on their own."""

    NO_ERROR = 0
    GENERAL = 5
    NOT_WRITABLE = 17
    OPEN_FAILED = 256
    NOT_OPEN = 257
    DUPLICATE_REGISTRATION = 263
    PARSE = 266
    PROCESSING = 268


_UNSIGNED = (Type.COUNTER32, Type.GAUGE32, Type.TIME_TICKS)
_STRINGS = (Type.OCTET_STRING, Type.IP_ADDRESS, Type.OPAQUE)


@dataclass(frozen=True, slots=True)
class Value:
    """One typed value. ``value`` is an int, bytes (strings, addresses), an Oid, or None (NULL and the exceptions)."""

    type: Type
    value: int | bytes | Oid | None = None


@dataclass(frozen=True, slots=True)
class VarBind:
    """A name and its value."""

    name: Oid
    value: Value


@dataclass(frozen=True, slots=True)
class SearchRange:
    """From ``start`` (itself too if ``include``) up to but not including ``end``; ``end`` () = no end."""

    start: Oid
    end: Oid = ()
    include: bool = False


@dataclass(frozen=True, slots=True)
class Open:
    """Begin a session. ``timeout_s``: how long the master waits for our answers, 0 = its default."""

    oid: Oid
    description: bytes
    timeout_s: int = 0


@dataclass(frozen=True, slots=True)
class Close:
    """End a session; reasons 1 other, 2 parse error, 5 shutdown."""

    reason: int


@dataclass(frozen=True, slots=True)
class Register:
    """Claim a subtree. A smaller ``priority`` number wins."""

    subtree: Oid
    priority: int = 127
    timeout_s: int = 0


@dataclass(frozen=True, slots=True)
class Unregister:
    """Give a subtree back."""

    subtree: Oid
    priority: int = 127


@dataclass(frozen=True, slots=True)
class Get:
    """The values of exactly these names."""

    ranges: tuple[SearchRange, ...]


@dataclass(frozen=True, slots=True)
class GetNext:
    """The first value in each range."""

    ranges: tuple[SearchRange, ...]


@dataclass(frozen=True, slots=True)
class GetBulk:
    """``non_repeaters`` ranges once, the others up to ``max_repetitions`` times."""

    non_repeaters: int
    max_repetitions: int
    ranges: tuple[SearchRange, ...]


@dataclass(frozen=True, slots=True)
class TestSet:
    """May these be written?"""

    __test__ = False  # not a test case, whatever pytest thinks of the name
    variables: tuple[VarBind, ...]


@dataclass(frozen=True, slots=True)
class CommitSet:
    """Write what was tested."""


@dataclass(frozen=True, slots=True)
class UndoSet:
    """Take the write back."""


@dataclass(frozen=True, slots=True)
class CleanupSet:
    """The write is over. Has no answer."""


@dataclass(frozen=True, slots=True)
class Notify:
    """A notification; the first variable is snmpTrapOID.0 (or sysUpTime.0 and then that)."""

    variables: tuple[VarBind, ...]


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there?"""


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to any of the others. ``uptime_cs``: sysUpTime in 1/100 s, only meaningful from the master."""

    uptime_cs: int = 0
    error: int = 0
    index: int = 0
    variables: tuple[VarBind, ...] = ()


Body: TypeAlias = (
    "Open | Close | Register | Unregister | Get | GetNext | GetBulk | TestSet | CommitSet | UndoSet | CleanupSet | Notify | Ping | Response"
)

_NUMBERS: dict[type, int] = {
    Open: 1,
    Close: 2,
    Register: 3,
    Unregister: 4,
    Get: 5,
    GetNext: 6,
    GetBulk: 7,
    TestSet: 8,
    CommitSet: 9,
    UndoSet: 10,
    CleanupSet: 11,
    Notify: 12,
    Ping: 13,
    Response: 18,
}
_MAY_HAVE_CONTEXT = frozenset(range(3, 14))


@dataclass(frozen=True, slots=True)
class Pdu:
    """One PDU. ``context`` None = the default context."""

    body: Body
    session: int = 0
    transaction: int = 0
    packet: int = 0
    context: bytes | None = None


# ---- encoding -------------------------------------------------------------------------------------------------------


def _oid(oid: Oid, *, include: bool = False) -> bytes:
    """RFC 2741, section 5.1: 1.3.6.1.X with X in 1..255 is written as the prefix X."""
    prefix = 0
    if len(oid) >= 5 and oid[:4] == _INTERNET and 0 < oid[4] <= 255:
        prefix, oid = oid[4], oid[5:]
    return struct.pack(f">BBBB{len(oid)}I", len(oid), prefix, include, 0, *oid)


def _octets(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data + bytes(-len(data) % 4)


def _value(value: Value) -> bytes:
    kind, content = value.type, value.value
    if kind is Type.INTEGER:
        return struct.pack(">i", content)
    if kind in _UNSIGNED:
        return struct.pack(">I", content)
    if kind is Type.COUNTER64:
        return struct.pack(">Q", content)
    if kind in _STRINGS:
        assert isinstance(content, bytes)
        return _octets(content)
    if kind is Type.OBJECT_ID:
        assert isinstance(content, tuple)
        return _oid(content)
    return b""


def _variables(variables: tuple[VarBind, ...]) -> bytes:
    return b"".join(struct.pack(">HH", v.value.type, 0) + _oid(v.name) + _value(v.value) for v in variables)


def _ranges(ranges: tuple[SearchRange, ...]) -> bytes:
    return b"".join(_oid(r.start, include=r.include) + _oid(r.end) for r in ranges)


def _payload(body: Body) -> bytes:
    match body:
        case Open(oid, description, timeout_s):
            return struct.pack(">BBBB", timeout_s, 0, 0, 0) + _oid(oid) + _octets(description)
        case Close(reason):
            return struct.pack(">BBBB", reason, 0, 0, 0)
        case Register(subtree, priority, timeout_s):
            return struct.pack(">BBBB", timeout_s, priority, 0, 0) + _oid(subtree)
        case Unregister(subtree, priority):
            return struct.pack(">BBBB", 0, priority, 0, 0) + _oid(subtree)
        case Get(ranges) | GetNext(ranges):
            return _ranges(ranges)
        case GetBulk(non_repeaters, max_repetitions, ranges):
            return struct.pack(">HH", non_repeaters, max_repetitions) + _ranges(ranges)
        case TestSet(variables) | Notify(variables):
            return _variables(variables)
        case Response(uptime_cs, error, index, variables):
            return struct.pack(">IHH", uptime_cs, error, index) + _variables(variables)
        case _:
            return b""


def encode(pdu: Pdu) -> bytes:
    """The bytes of one PDU. ``struct.error`` if a number is out of the range of its field."""
    flags, payload = _NETWORK_BYTE_ORDER, _payload(pdu.body)
    number = _NUMBERS[type(pdu.body)]
    if pdu.context is not None and number in _MAY_HAVE_CONTEXT:
        flags |= _NON_DEFAULT_CONTEXT
        payload = _octets(pdu.context) + payload
    header = struct.pack(">BBBBIIII", _VERSION, number, flags, 0, pdu.session, pdu.transaction, pdu.packet, len(payload))
    return header + payload


# ---- decoding -------------------------------------------------------------------------------------------------------


class _Reader:
    """Takes values off the front of a payload."""

    def __init__(self, data: bytes, order: str) -> None:
        self._data = data
        self._order = order
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def numbers(self, layout: str) -> tuple[int, ...]:
        """Unpack a struct layout (without its byte order)."""
        layout = self._order + layout
        size = struct.calcsize(layout)
        if size > self.left:
            raise DecodeError(f"{size} bytes wanted, {self.left} left")
        self._at += size
        return struct.unpack_from(layout, self._data, self._at - size)

    def octets(self) -> bytes:
        (length,) = self.numbers("I")
        padded = length + -length % 4
        if padded > self.left:
            raise DecodeError(f"a string of {length} bytes, {self.left} left")
        start = self._at
        self._at += padded
        return self._data[start : start + length]

    def oid(self) -> tuple[Oid, bool]:
        count, prefix, include, _reserved = self.numbers("BBBB")
        if count + (5 if prefix else 0) > MAX_SUBIDS:
            raise DecodeError(f"an object identifier of {count} parts")
        rest = self.numbers(f"{count}I")
        return ((*_INTERNET, prefix, *rest) if prefix else rest), bool(include)

    def value(self, kind: Type) -> Value:
        if kind is Type.INTEGER:
            return Value(kind, self.numbers("i")[0])
        if kind in _UNSIGNED:
            return Value(kind, self.numbers("I")[0])
        if kind is Type.COUNTER64:
            return Value(kind, self.numbers("Q")[0])
        if kind in _STRINGS:
            return Value(kind, self.octets())
        if kind is Type.OBJECT_ID:
            return Value(kind, self.oid()[0])
        return Value(kind)

    def variables(self) -> tuple[VarBind, ...]:
        found = []
        while self.left:
            number, _reserved = self.numbers("HH")
            try:
                kind = Type(number)
            except ValueError:
                raise DecodeError(f"a value of type {number}") from None
            name, _include = self.oid()
            found.append(VarBind(name, self.value(kind)))
        return tuple(found)

    def ranges(self) -> tuple[SearchRange, ...]:
        found = []
        while self.left:
            start, include = self.oid()
            end, _include = self.oid()
            found.append(SearchRange(start, end, include))
        return tuple(found)


def _body(number: int, reader: _Reader) -> Body:
    match number:
        case 1:
            timeout_s = reader.numbers("BBBB")[0]
            return Open(reader.oid()[0], reader.octets(), timeout_s)
        case 2:
            return Close(reader.numbers("BBBB")[0])
        case 3 | 4:
            timeout_s, priority, range_subid, _reserved = reader.numbers("BBBB")
            subtree = reader.oid()[0]
            if range_subid:
                raise DecodeError("a registration of a range")
            return Register(subtree, priority, timeout_s) if number == 3 else Unregister(subtree, priority)
        case 5:
            return Get(reader.ranges())
        case 6:
            return GetNext(reader.ranges())
        case 7:
            non_repeaters, max_repetitions = reader.numbers("HH")
            return GetBulk(non_repeaters, max_repetitions, reader.ranges())
        case 8:
            return TestSet(reader.variables())
        case 9:
            return CommitSet()
        case 10:
            return UndoSet()
        case 11:
            return CleanupSet()
        case 12:
            return Notify(reader.variables())
        case 13:
            return Ping()
        case 18:
            uptime_cs, error, index = reader.numbers("IHH")
            return Response(uptime_cs, error, index, reader.variables())
    raise DecodeError(f"a PDU of type {number}")


def payload_length(header: bytes) -> int:
    """How many bytes follow the first ``HEADER_BYTES``; raises DecodeError for what no master sends."""
    if len(header) < HEADER_BYTES:
        raise DecodeError(f"{len(header)} bytes are no header")
    order = ">" if header[2] & _NETWORK_BYTE_ORDER else "<"
    (length,) = struct.unpack_from(order + "I", header, 16)
    if header[0] != _VERSION:
        raise DecodeError(f"version {header[0]}")
    if length > MAX_PAYLOAD_BYTES or length % 4:
        raise DecodeError(f"a payload of {length} bytes")
    return int(length)


def decode(data: bytes) -> Pdu:
    """One whole PDU, header and payload; raises DecodeError."""
    if payload_length(data) != len(data) - HEADER_BYTES:
        raise DecodeError(f"{len(data)} bytes, the header says otherwise")
    number, flags = data[1], data[2]
    order = ">" if flags & _NETWORK_BYTE_ORDER else "<"
    session, transaction, packet, _length = struct.unpack_from(order + "IIII", data, 4)
    reader = _Reader(data[HEADER_BYTES:], order)
    context = None
    if flags & _NON_DEFAULT_CONTEXT and number in _MAY_HAVE_CONTEXT:
        context = reader.octets()
    body = _body(number, reader)
    if reader.left:
        raise DecodeError(f"{reader.left} bytes too many")
    return Pdu(body, session, transaction, packet, context)
