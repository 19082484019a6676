"""The AgentX codec and the answers to requests: round trips, garbage, order of a walk."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrrp.outside import agentx
from vrrp.outside.agentx import DecodeError, Oid, Pdu, SearchRange, Type, Value, VarBind
from vrrp.outside.mib_tree import MibTree, integer

U8, U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
OIDS = st.one_of(
    st.lists(U32, max_size=20).map(tuple),
    st.lists(U32, max_size=20).map(lambda rest: (1, 3, 6, 1, *rest)),
    st.lists(U8, max_size=12).map(lambda rest: (1, 3, 6, 1, 4, 1, *rest)),
)
OCTETS = st.binary(max_size=70)
VALUES = st.one_of(
    st.builds(Value, st.just(Type.INTEGER), st.integers(-(2**31), 2**31 - 1)),
    st.builds(Value, st.sampled_from([Type.COUNTER32, Type.GAUGE32, Type.TIME_TICKS]), U32),
    st.builds(Value, st.just(Type.COUNTER64), U64),
    st.builds(Value, st.sampled_from([Type.OCTET_STRING, Type.IP_ADDRESS, Type.OPAQUE]), OCTETS),
    st.builds(Value, st.just(Type.OBJECT_ID), OIDS),
    st.builds(Value, st.sampled_from([Type.NULL, Type.NO_SUCH_OBJECT, Type.NO_SUCH_INSTANCE, Type.END_OF_MIB_VIEW])),
)
VARIABLES = st.lists(st.builds(VarBind, OIDS, VALUES), max_size=5).map(tuple)
RANGES = st.lists(st.builds(SearchRange, OIDS, OIDS, st.booleans()), max_size=5).map(tuple)
CONTEXT_FREE = st.one_of(
    st.builds(agentx.Open, OIDS, OCTETS, U8),
    st.builds(agentx.Close, U8),
    st.builds(agentx.Response, U32, U16, U16, VARIABLES),
)
IN_CONTEXT = st.one_of(
    st.builds(agentx.Register, OIDS, U8, U8),
    st.builds(agentx.Unregister, OIDS, U8),
    st.builds(agentx.Get, RANGES),
    st.builds(agentx.GetNext, RANGES),
    st.builds(agentx.GetBulk, U16, U16, RANGES),
    st.builds(agentx.TestSet, VARIABLES),
    st.builds(agentx.Notify, VARIABLES),
    st.sampled_from([agentx.CommitSet(), agentx.UndoSet(), agentx.CleanupSet(), agentx.Ping()]),
)
PDUS = st.one_of(
    st.builds(Pdu, CONTEXT_FREE, U32, U32, U32),
    st.builds(Pdu, IN_CONTEXT, U32, U32, U32, st.none() | OCTETS),
)


@given(PDUS)
def test_what_is_encoded_is_decoded(pdu: Pdu) -> None:
    data = agentx.encode(pdu)
    assert agentx.decode(data) == pdu
    assert agentx.payload_length(data[: agentx.HEADER_BYTES]) == len(data) - agentx.HEADER_BYTES


@given(st.binary(max_size=200), st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 18, 255]), U8)
def test_garbage_in_a_good_header_is_refused_or_read(payload: bytes, number: int, flags: int) -> None:
    order = ">" if flags & 0x10 else "<"
    header = struct.pack(order + "BBBBIIII", 1, number, flags, 0, 1, 2, 3, len(payload))
    try:
        pdu = agentx.decode(header + payload)
    except DecodeError:
        return
    assert agentx.decode(agentx.encode(pdu)) == pdu


@given(PDUS, st.data())
def test_a_damaged_pdu_is_refused_or_read(pdu: Pdu, data: st.DataObject) -> None:
    raw = bytearray(agentx.encode(pdu))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    del raw[data.draw(st.integers(0, len(raw))) :]
    try:
        agentx.decode(bytes(raw))
    except DecodeError:
        pass


def test_the_other_byte_order_is_read() -> None:
    payload = struct.pack("<BBBBI BBBB", 1, 4, 1, 0, 9586, 0, 0, 0, 0)
    header = struct.pack("<BBBBIIII", 1, 6, 0, 0, 7, 8, 9, len(payload))
    assert agentx.decode(header + payload) == Pdu(agentx.GetNext((SearchRange((1, 3, 6, 1, 4, 9586), (), True),)), 7, 8, 9)


def test_the_example_of_the_rfc() -> None:
    """RFC 2741, section 5.1: sysDescr.0 has 4 parts after the prefix 2 (mgmt)."""
    encoded = agentx.encode(Pdu(agentx.Unregister((1, 3, 6, 1, 2, 1, 1, 1, 0))))
    assert encoded[24:] == bytes.fromhex("04020000 00000001 00000001 00000001 00000000")


SMALL = st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple)


@given(st.sets(SMALL, max_size=25), SMALL, SMALL | st.just(()), st.booleans())
def test_next_is_the_smallest_name_in_the_range(names: set[Oid], start: Oid, end: Oid, include: bool) -> None:
    tree = MibTree((name, integer(1)) for name in names)
    found = tree.next(SearchRange(start, end, include))
    inside = sorted(n for n in names if (n > start or (include and n == start)) and (not end or n < end))
    assert found == (VarBind(inside[0], integer(1)) if inside else VarBind(start, Value(Type.END_OF_MIB_VIEW)))


@given(st.sets(SMALL, max_size=25), st.integers(1, 7))
def test_a_bulk_walk_sees_what_a_walk_by_next_sees(names: set[Oid], repetitions: int) -> None:
    tree = MibTree((name, integer(sum(name))) for name in names)
    seen: list[Oid] = []
    start: Oid = (0,)
    include = True
    for _ in range(len(names) + 2):
        answer = tree.answer(agentx.GetBulk(0, repetitions, (SearchRange(start, (), include),)))
        assert answer is not None and len(answer.variables) <= repetitions
        fresh = [v.name for v in answer.variables if v.value.type is Type.INTEGER]
        if not fresh:
            break
        seen += fresh
        start, include = fresh[-1], False
    assert seen == sorted(names)


def test_bulk_treats_the_first_ranges_once_and_the_others_row_by_row() -> None:
    tree = MibTree(((column, row), integer(10 * column + row)) for column in (1, 2, 3) for row in (1, 2))
    ranges = (SearchRange((1,)), SearchRange((2,), (3,)), SearchRange((3,)))
    answer = tree.answer(agentx.GetBulk(1, 3, ranges))
    assert answer is not None
    assert [(v.name, v.value.value) for v in answer.variables] == [
        ((1, 1), 11),
        ((2, 1), 21),
        ((3, 1), 31),
        ((2, 2), 22),
        ((3, 2), 32),
        ((2, 2), None),
        ((3, 2), None),
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [((1, 2, 3), Type.INTEGER), ((1, 2, 9), Type.NO_SUCH_INSTANCE), ((1, 7, 1), Type.NO_SUCH_OBJECT), ((9, 1), Type.NO_SUCH_OBJECT)],
)
def test_get_tells_a_missing_row_from_a_missing_object(name: Oid, kind: Type) -> None:
    assert MibTree([((1, 2, 3), integer(1))]).get(name).type is kind


def test_nothing_can_be_written() -> None:
    answer = MibTree([]).answer(agentx.TestSet((VarBind((1, 2), integer(1)),)))
    assert answer is not None
    assert answer.error == agentx.ErrorCode.NOT_WRITABLE
