"""Heartbeats survive every wire; whatever else arrives becomes a DecodeError with a reason."""

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchdog.config.model import GroupKey, Mode, PathKind
from watchdog.frames.cobs import MAX_FRAME_BYTES, Deframer, stuff, unstuff
from watchdog.frames.codec import MAX_DATAGRAM_BYTES, DatagramCodec, open_codec
from watchdog.frames.errors import DecodeError, RejectReason
from watchdog.frames.group_fields import COARSE_AGES, MAX_COARSE_AGE_MS, state_digest
from watchdog.frames.heartbeat import (
    MAX_PATHS,
    FrameId,
    GroupReport,
    GroupState,
    Heartbeat,
    LinkMac,
    NodeFlags,
    NodeTerms,
    YieldAnswer,
)
from watchdog.frames.keys import split_keys
from watchdog.frames.peer_groups import PeerGroups
from watchdog.frames.serial_codec import MACS_EVERY, MAX_GROUPS, TERMS_EVERY, SerialCodec
from watchdog.judgement.delays import serial_round_ms

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
        health=draw(st.integers(0, 255)),
        can_take=draw(st.booleans()),
        yield_request=draw(st.just(0) | U32),
        yield_answer_to=0 if answer is YieldAnswer.NONE else draw(U32),
        yield_answer=answer,
    )


TERMS = st.builds(
    NodeTerms,
    mode=st.sampled_from(Mode),
    rank=st.integers(0, 255),
    delay_ms=U32,
    settings_digest=U32,
    release=st.integers(0, 0xFFFF),
    maintenance_left_s=U32,
    acknowledged=st.none() | st.builds(FrameId, path=st.integers(0, MAX_PATHS - 1), sequence=U32),
)
MACS = st.builds(
    LinkMac,
    interface=st.text(st.characters(codec="ascii", exclude_categories=["C", "Z"]), min_size=1, max_size=15),
    mac=st.binary(min_size=6, max_size=6).map(lambda data: data.hex(":")),
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
        flags=st.integers(0, 0x3FFF).map(NodeFlags),
        groups=st.lists(reports(), max_size=max_groups, unique_by=lambda r: r.key).map(tuple),
        sent_ns=st.integers(0, 2**64 - 1),
        episode=st.integers(0, 0xFFFF),
        terms=st.none() | TERMS,
        macs=st.lists(MACS, max_size=5).map(tuple),
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


@given(heartbeats(20))
def test_datagram_round_trip_in_version_1_loses_only_what_it_does_not_know(heartbeat: Heartbeat) -> None:
    old = dataclasses.replace(heartbeat, version=1)
    got = DatagramCodec(KEY, "c", "eth").decode(DatagramCodec(KEY, "c", "eth").encode(old))
    groups = tuple(
        dataclasses.replace(report, health=old.health, can_take=report.state in (GroupState.BACKUP, GroupState.MASTER))
        for report in old.groups
    )
    assert got == dataclasses.replace(old, groups=groups, digest=state_digest(groups, 1), terms=None, macs=())


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
        assert got.terms in (None, heartbeat.terms) and set(got.macs) <= set(heartbeat.macs)


@pytest.mark.parametrize("make", [lambda: DatagramCodec(KEY, "c", "p"), lambda: SerialCodec(KEY, "c", "p", node="alpha", peer="beta")])
def test_pages_reassemble_to_everything(make) -> None:  # type: ignore[no-untyped-def]
    codec, known = make(), PeerGroups()
    decoder = serial_pair()[1] if isinstance(codec, SerialCodec) else codec
    decoder = SerialCodec(KEY, "c", "p", node="beta", peer="alpha") if isinstance(codec, SerialCodec) else codec
    groups = tuple(group(v, priority=v, advert_sent_age_ms=10 * v) for v in range(1, 256))
    for sequence in range(1, 160):
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
    assert seen >= 7


@given(heartbeats(0))
def test_a_serial_line_tells_terms_and_link_addresses_in_turn(heartbeat: Heartbeat) -> None:
    sender, receiver = serial_pair()
    told, macs = [], set()
    for sequence in range(5 * MACS_EVERY):
        got = receiver.decode(sender.encode(dataclasses.replace(heartbeat, sequence=sequence, nonce=b"alphanon")))
        told += [sequence] if got.terms is not None else []
        macs |= set(got.macs)
        receiver_frame = receiver.encode(beat(node="beta", nonce=b"betanonc", receiver_nonce=b"alphanon", sequence=sequence))
        sender.decode(receiver_frame)
    if heartbeat.terms is not None:
        gaps = [later - earlier for earlier, later in itertools.pairwise(told)]
        assert max(gaps) <= 2 * TERMS_EVERY
    assert macs == set(heartbeat.macs)


def many(count: int, **changes: object) -> tuple[GroupReport, ...]:
    return tuple(group(vrid, priority=100 + vrid % 2, **changes) for vrid in range(1, count + 1))


def test_one_frame_names_a_hundred_groups_and_asks_for_them_all() -> None:
    """Case J18: a page of at most six groups told a switch of 120 in twenty frames and more."""
    sender, receiver = serial_pair()
    known = PeerGroups()
    receiver.encode(beat(many(120), node="beta"))
    quiet, asking = many(120, held=True, state=GroupState.MASTER), many(120, held=True, state=GroupState.MASTER, yield_request=77)
    for sequence in range(1, 17):
        known.update(sequence, receiver.decode(sender.encode(beat(quiet, sequence))), "p")
    assert known.complete, "two descriptions, two maps each, every other frame"
    frames = 0
    while not known.complete or frames == 0:
        frames += 1
        known.update(20 + frames, receiver.decode(sender.encode(beat(asking, 20 + frames))), "p")
    assert frames <= 8 and all(held.report.yield_request == 77 for held in known.reports.values())


@pytest.mark.parametrize(("count", "priorities"), [(30, 1), (60, 2), (120, 1), (120, 2), (120, 4), (255, 2)])
def test_a_serial_line_tells_news_of_every_group_within_the_time_that_check_prints(count: int, priorities: int) -> None:
    """Case J18."""
    sender, receiver = serial_pair()

    def groups(**changes: object) -> tuple[GroupReport, ...]:
        common = {"advert_sent_age_ms": 40, "advert_heard_age_ms": 900, "advert_heard_priority": 99}
        return tuple(group(vrid, priority=100 + vrid % priorities, **common, **changes) for vrid in range(1, count + 1))

    known, sequence = PeerGroups(), 0
    receiver.encode(beat(groups(), node="beta", nonce=b"betanonc"))
    before: tuple[GroupReport, ...] = ()
    for news in (groups(held=True, state=GroupState.MASTER), groups(held=True, yield_request=7), groups(yield_request=7, held=False)):
        frames = 0
        while frames == 0 or sender.behind or not known.complete:
            frames += 1
            sequence += 1
            wire = sender.encode(beat(news, sequence, receiver_nonce=b"betanonc"))
            known.update(sequence, receiver.decode(wire), "p")
            assert frames < 500
        limit = serial_round_ms(9600, count, priorities) + 4 * 67 * (not before)
        assert frames * 67 <= limit, f"{frames} frames"
        before = news


def test_maps_mean_nothing_between_nodes_with_other_groups_and_pages_go_on() -> None:
    sender, receiver = serial_pair()
    known = PeerGroups()
    receiver.encode(beat(many(119), node="beta"))
    receiver.decode(sender.encode(beat(many(120), 0)))
    for sequence in range(1, 400):
        sender.decode(receiver.encode(beat(many(119), sequence, node="beta", nonce=b"betanonc")))
        known.update(sequence, receiver.decode(sender.encode(beat(many(120), sequence))), "p")
    assert known.complete


def test_a_second_key_is_accepted_and_never_used_to_send() -> None:
    old, new = b"1" * 64, b"2" * 64
    assert split_keys(old) == (old,) and split_keys(old + b"\n" + new + b"\n") == (old, new)
    assert split_keys(b"x" * 10 + b"\n" + b"y" * 40) == (b"x" * 10 + b"\n" + b"y" * 40,), "a binary key that holds a newline stays one"
    for kind in (PathKind.UNICAST, PathKind.SERIAL):
        alpha = {key: open_codec(kind, key, "c", "p", node="alpha", peer="beta") for key in (old, new, old + b"\n" + new)}
        beta = open_codec(kind, new + b"\n" + old, "c", "p", node="beta", peer="alpha")
        assert beta.decode(alpha[new].encode(beat())).node == "alpha" and not beta.peer_uses_second_key
        assert beta.decode(alpha[old + b"\n" + new].encode(beat())).node == "alpha" and beta.peer_uses_second_key
        with pytest.raises(DecodeError):
            alpha[old].decode(beta.encode(beat(node="beta")))


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
