"""Heartbeats survive every wire; whatever else arrives becomes a DecodeError with a reason."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchdog.config.model import GroupKey, PathKind
from watchdog.frames.cobs import MAX_FRAME_BYTES, Deframer, stuff, unstuff
from watchdog.frames.codec import MAX_DATAGRAM_BYTES, DatagramCodec, open_codec
from watchdog.frames.errors import DecodeError, RejectReason
from watchdog.frames.group_fields import COARSE_AGES, MAX_COARSE_AGE_MS, state_digest
from watchdog.frames.heartbeat import GroupReport, GroupState, Heartbeat, NodeFlags, YieldAnswer
from watchdog.frames.peer_groups import PeerGroups
from watchdog.frames.serial_codec import MAX_GROUPS, SerialCodec

KEY = b"k" * 32
U32 = st.integers(0, 2**32 - 1)
AGES = st.none() | st.integers(0, 0xFFFF)


@st.composite
def reports(draw: st.DrawFn) -> GroupReport:
    answer = draw(st.sampled_from(YieldAnswer))
    heard = draw(AGES)
    return GroupReport(
        key=GroupKey(draw(st.integers(1, 255)), draw(st.sampled_from([4, 6]))),
        state=draw(st.sampled_from(GroupState)),
        held=draw(st.booleans()),
        priority=draw(st.integers(0, 255)),
        advert_sent_age_ms=draw(AGES),
        advert_heard_age_ms=heard,
        advert_heard_priority=None if heard is None else draw(st.integers(0, 255)),
        yield_request=draw(st.just(0) | U32),
        yield_answer_to=0 if answer is YieldAnswer.NONE else draw(U32),
        yield_answer=answer,
    )


def heartbeats(max_groups: int) -> st.SearchStrategy[Heartbeat]:
    return st.builds(
        Heartbeat,
        node=st.just("alpha"),
        boot=st.binary(min_size=8, max_size=8),
        epoch=U32,
        sequence=U32,
        nonce=st.binary(min_size=8, max_size=8),
        receiver_nonce=st.binary(min_size=8, max_size=8),
        hears=st.integers(0, 255),
        health=st.integers(0, 255),
        flags=st.integers(0, 255).map(NodeFlags),
        groups=st.lists(reports(), max_size=max_groups, unique_by=lambda r: r.key).map(tuple),
        sent_ns=st.integers(0, 2**64 - 1),
        episode=st.integers(0, 0xFFFF),
    )


def beat(groups: tuple[GroupReport, ...] = (), sequence: int = 1, **changes: object) -> Heartbeat:
    base = Heartbeat("alpha", b"bootboot", 3, sequence, b"noncenon", bytes(8), 1, 200, NodeFlags.VRRP_RUNNING, groups, 77)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def group(vrid: int, **changes: object) -> GroupReport:
    return dataclasses.replace(GroupReport(GroupKey(vrid, 4), GroupState.BACKUP, False, 100), **changes)  # type: ignore[arg-type]


def serial_pair() -> tuple[SerialCodec, SerialCodec]:
    return SerialCodec(KEY, "c", "s0", node="alpha", peer="beta"), SerialCodec(KEY, "c", "s0", node="beta", peer="alpha")


@given(heartbeats(20))
def test_datagram_round_trip(heartbeat: Heartbeat) -> None:
    data = DatagramCodec(KEY, "c", "eth").encode(heartbeat)
    assert len(data) <= MAX_DATAGRAM_BYTES
    expected = dataclasses.replace(heartbeat, digest=state_digest(heartbeat.groups))
    assert DatagramCodec(KEY, "c", "eth").decode(data) == expected


@given(heartbeats(12), st.integers(1, 12))
def test_serial_round_trip_fits_64_bytes_and_rounds_ages_up(heartbeat: Heartbeat, frames: int) -> None:
    sender, receiver = serial_pair()
    sent = {report.key: report for report in heartbeat.groups}
    for index in range(frames):
        wire = sender.encode(heartbeat)
        assert len(wire) <= MAX_FRAME_BYTES and wire.index(0) == len(wire) - 1
        got = receiver.decode(wire[:-1])
        assert (got.node, got.boot, got.epoch, got.nonce) == ("alpha", heartbeat.boot, heartbeat.epoch, heartbeat.nonce)
        assert (got.sequence, got.hears, got.health, got.flags) == (
            heartbeat.sequence,
            heartbeat.hears,
            heartbeat.health,
            heartbeat.flags,
        )
        assert got.receiver_nonce[:4] == heartbeat.receiver_nonce[:4] and got.sent_ns == 0
        assert got.episode == heartbeat.episode and got.digest == state_digest(heartbeat.groups)
        assert len(got.groups) <= MAX_GROUPS and (got.partial or len(got.groups) == len(sent)), index
        for report in got.groups:
            original = sent[report.key]
            ages = (report.advert_sent_age_ms, original.advert_sent_age_ms), (report.advert_heard_age_ms, original.advert_heard_age_ms)
            for wire_age, age in ages:
                assert (wire_age is None) == (age is None)
                assert wire_age is None or wire_age >= min(age, MAX_COARSE_AGE_MS)
            same_ages = {"advert_sent_age_ms": None, "advert_heard_age_ms": None}
            assert dataclasses.replace(report, **same_ages) == dataclasses.replace(original, **same_ages)


@pytest.mark.parametrize("make", [lambda: DatagramCodec(KEY, "c", "p"), lambda: SerialCodec(KEY, "c", "p", node="alpha", peer="beta")])
def test_pages_reassemble_to_everything(make) -> None:  # type: ignore[no-untyped-def]
    codec, known = make(), PeerGroups()
    decoder = serial_pair()[1] if isinstance(codec, SerialCodec) else codec
    decoder = SerialCodec(KEY, "c", "p", node="beta", peer="alpha") if isinstance(codec, SerialCodec) else codec
    groups = tuple(group(v, priority=v, advert_sent_age_ms=10 * v) for v in range(1, 256))
    for sequence in range(1, 120):
        wire = codec.encode(beat(groups, sequence))
        known.update(sequence, decoder.decode(wire), "p")
        if known.complete:
            break
    assert known.complete and {held.report.key for held in known.reports.values()} == {g.key for g in groups}
    changed = (*groups[:200], group(201, held=True, state=GroupState.MASTER), *groups[201:])
    for sequence in (121, 122):
        known.update(sequence, decoder.decode(codec.encode(beat(changed, sequence))), "p")
    assert known.reports[GroupKey(201, 4)].report.held, "a change goes before the rotation"


def test_a_yield_goes_first_and_in_every_state_frame() -> None:
    sender, receiver = serial_pair()
    groups = tuple(group(v, advert_heard_age_ms=5, advert_heard_priority=9) for v in range(1, 40))
    groups = (*groups, group(40, yield_request=7), group(41, yield_answer_to=70_000, yield_answer=YieldAnswer.DONE))
    seen = 0
    for sequence in range(12):
        got = receiver.decode(sender.encode(beat(groups, sequence)))
        if got.groups:
            seen += 1
            assert [r.key.vrid for r in got.groups[:2]] == [40, 41]
            assert got.groups[0].yield_request == 7 and got.groups[1].yield_answer_to == 70_000
    assert seen >= 9


def test_serial_needs_a_session_frame_first_and_learns_it_soon() -> None:
    sender, receiver = serial_pair()
    sender.encode(beat())  # the session frame, lost on the line
    with pytest.raises(DecodeError) as lost:
        receiver.decode(sender.encode(beat(sequence=2)))
    assert lost.value.reason is RejectReason.UNKNOWN_SESSION
    receiver.decode(sender.encode(beat(sequence=3)))
    assert receiver.decode(sender.encode(beat(sequence=4))).nonce == b"noncenon"


def test_serial_echo_is_the_whole_nonce_or_none_of_ours() -> None:
    alpha, beta = serial_pair()
    beta.encode(beat(nonce=b"betanonc"))
    assert beta.decode(alpha.encode(beat(receiver_nonce=b"betanonc"))).receiver_nonce == b"betanonc"
    assert beta.decode(alpha.encode(beat(receiver_nonce=b"otheroth"))).receiver_nonce != b"otheroth"[:4] + b"nonc"
    assert beta.decode(alpha.encode(beat())).receiver_nonce == bytes(8)


@pytest.mark.parametrize("kind", [PathKind.UNICAST, PathKind.SERIAL])
def test_what_is_not_ours_is_refused_with_its_reason(kind: PathKind) -> None:
    def codec(key: bytes = KEY, cluster: str = "c", path: str = "p", node: str = "beta") -> object:
        peer = "alpha" if node == "beta" else "beta"
        return open_codec(kind, key, cluster, path, node=node, peer=peer)

    def reason(decoder: object, data: bytes) -> RejectReason:
        with pytest.raises(DecodeError) as error:
            decoder.decode(data)  # type: ignore[attr-defined]
        assert error.value.reason.remedy
        return error.value.reason

    frame = codec(node="alpha").encode(beat((group(1),)))  # type: ignore[attr-defined]
    assert codec().decode(frame).node == "alpha"  # type: ignore[attr-defined]
    assert reason(codec(key=b"other"), frame) is RejectReason.BAD_TAG
    assert reason(codec(path="q"), frame) is RejectReason.BAD_TAG, "a frame of one path proves nothing on another"
    assert reason(codec(), b"") is (RejectReason.LENGTH if kind is PathKind.UNICAST else RejectReason.FRAMING)
    assert reason(codec(), frame + b"\1" * 1400) is RejectReason.LENGTH
    if kind is PathKind.UNICAST:
        assert reason(codec(cluster="d"), frame) is RejectReason.WRONG_CLUSTER
        assert reason(codec(), frame[:2] + b"\x09" + frame[3:]) is RejectReason.VERSION
    else:
        assert reason(codec(cluster="d"), frame) is RejectReason.BAD_TAG
        assert reason(codec(node="alpha"), frame) is RejectReason.OWN_FRAME


@settings(max_examples=300)
@given(st.binary(max_size=1500))
def test_random_bytes_only_raise_decode_error(data: bytes) -> None:
    for codec in (DatagramCodec(KEY, "c", "p"), serial_pair()[1]):
        with pytest.raises(DecodeError):
            codec.decode(data)


@settings(max_examples=300)
@given(st.data(), st.booleans())
def test_a_mutated_frame_is_never_accepted(data: st.DataObject, serial: bool) -> None:
    sender, receiver = serial_pair() if serial else (DatagramCodec(KEY, "c", "p"), DatagramCodec(KEY, "c", "p"))
    groups = (group(1, held=True), group(2, yield_request=3))
    if serial:
        receiver.decode(sender.encode(beat(groups)))
    frame = bytearray(sender.encode(beat(groups)))
    good = bytes(frame)
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(frame)))
    mutated = bytes(frame[:cut])
    if mutated in (good, good[:-1]):
        return
    with pytest.raises(DecodeError):
        receiver.decode(mutated)


@given(st.binary(max_size=254))
def test_cobs_round_trip(data: bytes) -> None:
    wire = stuff(data)
    assert 0 not in wire and len(wire) == len(data) + 1 and unstuff(wire) == data


@given(st.binary(max_size=300))
def test_unstuff_is_total_and_exact(data: bytes) -> None:
    plain = unstuff(data)
    if plain is not None and len(plain) <= 253:
        assert stuff(plain) == data


@given(st.lists(st.binary(min_size=1, max_size=60).filter(lambda b: 0 not in b), max_size=8), st.randoms())
def test_deframer_does_not_care_how_bytes_are_cut(frames: list[bytes], random) -> None:  # type: ignore[no-untyped-def]
    stream = b"".join(frame + b"\0" for frame in frames)
    deframer, got = Deframer(), []
    while stream:
        cut = random.randint(1, len(stream))
        got += deframer.feed(stream[:cut])
        stream = stream[cut:]
    assert got == frames and deframer.overlong == 0


def test_deframer_is_bounded_and_finds_its_way_after_noise() -> None:
    deframer = Deframer()
    for _ in range(1000):
        assert deframer.feed(b"\xff" * 1000) == []
    assert deframer.overlong == 1
    assert deframer.feed(b"\xff\0good\0") == [b"good"]


def test_coarse_ages_never_look_fresher() -> None:
    for age_ms in range(20_000):
        assert COARSE_AGES.unpack(COARSE_AGES.pack(age_ms)) >= min(age_ms, MAX_COARSE_AGE_MS)
    assert COARSE_AGES.unpack(COARSE_AGES.pack(1230)) == 1230
