"""A sorted set of SNMP values and the answers to AgentX requests about it. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from vrrp.outside.agentx import (
    Body,
    CleanupSet,
    CommitSet,
    ErrorCode,
    Get,
    GetBulk,
    GetNext,
    Oid,
    Response,
    SearchRange,
    TestSet,
    Type,
    UndoSet,
    Value,
    VarBind,
)

MAX_BULK_VARIABLES = 2000
"""More does not fit into an SNMP message anyway."""


def integer(number: int) -> Value:
    """INTEGER, -2**31..2**31-1."""
    return Value(Type.INTEGER, number)


def truth(value: object) -> Value:
    """TruthValue and its relatives: 1 = true, enabled, set; 2 = not."""
    return Value(Type.INTEGER, 1 if value else 2)


def gauge(number: int) -> Value:
    """Gauge32 or Unsigned32."""
    return Value(Type.GAUGE32, number & 0xFFFFFFFF)


def counter32(number: int) -> Value:
    """Counter32, which wraps."""
    return Value(Type.COUNTER32, number & 0xFFFFFFFF)


def counter64(number: int) -> Value:
    """Counter64, which wraps."""
    return Value(Type.COUNTER64, number & 0xFFFFFFFFFFFFFFFF)


def ticks(centiseconds: int) -> Value:
    """TimeTicks, 1/100 s."""
    return Value(Type.TIME_TICKS, centiseconds & 0xFFFFFFFF)


def text(string: str) -> Value:
    """DisplayString, at most 255 bytes of it."""
    return Value(Type.OCTET_STRING, string.encode("utf-8", "replace")[:255])


def octets(data: bytes) -> Value:
    """OCTET STRING."""
    return Value(Type.OCTET_STRING, data)


def inet_address(address: IPv4Address | IPv6Address) -> Value:
    """InetAddress: the packed bytes."""
    return Value(Type.OCTET_STRING, address.packed)


def ip_address(address: IPv4Address) -> Value:
    """IpAddress of SMIv1."""
    return Value(Type.IP_ADDRESS, address.packed)


class MibTree:
    """Immutable; made anew for each status document."""

    def __init__(self, values: Iterable[tuple[Oid, Value]]) -> None:
        self._values = dict(values)
        self._names = sorted(self._values)

    def __len__(self) -> int:
        return len(self._names)

    def items(self) -> list[tuple[Oid, Value]]:
        """Everything in the order of a walk."""
        return [(name, self._values[name]) for name in self._names]

    def get(self, name: Oid) -> Value:
        """The value, or noSuchInstance or noSuchObject (RFC 2741, section 7.2.3.1)."""
        value = self._values.get(name)
        if value is not None:
            return value
        at = bisect_left(self._names, name[:-1])
        related = at < len(self._names) and self._names[at][: len(name) - 1] == name[:-1]
        return Value(Type.NO_SUCH_INSTANCE if related else Type.NO_SUCH_OBJECT)

    def next(self, wanted: SearchRange) -> VarBind:
        """The first value in the range, or endOfMibView under the name that was asked for (section 7.2.3.2)."""
        find = bisect_left if wanted.include else bisect_right
        at = find(self._names, wanted.start)
        if at < len(self._names) and (not wanted.end or self._names[at] < wanted.end):
            name = self._names[at]
            return VarBind(name, self._values[name])
        return VarBind(wanted.start, Value(Type.END_OF_MIB_VIEW))

    def _bulk(self, request: GetBulk) -> list[VarBind]:
        """Section 7.2.3.3: row by row; a column that is at its end goes on saying so."""
        variables = [self.next(wanted) for wanted in request.ranges[: request.non_repeaters]]
        repeated = list(request.ranges[request.non_repeaters :])
        for _ in range(request.max_repetitions):
            if not repeated or len(variables) + len(repeated) > MAX_BULK_VARIABLES:
                break
            row = [self.next(wanted) for wanted in repeated]
            variables += row
            if all(found.value.type is Type.END_OF_MIB_VIEW for found in row):
                break
            repeated = [SearchRange(found.name, wanted.end) for found, wanted in zip(row, repeated)]
        return variables

    def answer(self, body: Body) -> Response | None:
        """The answer to a request of the master; None for what has none. Nothing here can be written."""
        match body:
            case Get(ranges):
                return Response(variables=tuple(VarBind(wanted.start, self.get(wanted.start)) for wanted in ranges))
            case GetNext(ranges):
                return Response(variables=tuple(self.next(wanted) for wanted in ranges))
            case GetBulk():
                return Response(variables=tuple(self._bulk(body)))
            case TestSet():
                return Response(error=ErrorCode.NOT_WRITABLE, index=1)
            case CommitSet() | UndoSet():
                return Response()
            case CleanupSet() | Response():
                return None
            case _:
                return Response(error=ErrorCode.PROCESSING)
