"""A path believes only what answers this session, forgets nothing of what it refused, and does not flap its status."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from watchdog.frames.errors import RejectReason
from watchdog.frames.heartbeat import NO_NONCE, Heartbeat, NodeFlags
from watchdog.frames.path_state import FLAP_CALM_NS, FRAMES_TO_RECOVER, PathState, PathStatus, PeerSession, Receipt

MS = 1_000_000
SILENT_AFTER = 1_000 * MS
MINE, PEERS = b"mynonce!", b"peernonc"


class Listener:
    """A path and its session, fed with the peer's beats."""

    def __init__(self) -> None:
        self.now = 10**12
        self.session = PeerSession("beta", "alpha", MINE, SILENT_AFTER)
        self.path = PathState("p", SILENT_AFTER, self.now)
        self.sequence = 0

    def hear(self, after_ms: int = 200, **changes: object) -> Receipt:
        self.now += after_ms * MS
        self.path.on_deadline(self.now)
        self.sequence += 1
        beat = Heartbeat("alpha", b"bootboot", 3, self.sequence, PEERS, MINE, 1, 200, NodeFlags.NONE, (), self.now - 5)
        beat = dataclasses.replace(beat, **changes)  # type: ignore[arg-type]
        return self.path.accept(self.now, beat, self.session.admit(self.now, beat), bit=0)

    def wait(self, ms: int) -> None:
        self.now += ms * MS
        self.path.on_deadline(self.now)


def test_hears_at_the_first_proven_frame_and_falls_silent_on_time() -> None:
    it = Listener()
    assert it.path.status is PathStatus.WAITING
    assert it.hear().proven and it.path.status is PathStatus.HEARING
    assert it.path.next_deadline() == it.now + SILENT_AFTER
    it.wait(999)
    assert it.path.hears
    it.wait(1)
    assert it.path.status is PathStatus.SILENT and it.path.next_deadline() is None
    assert it.path.silence_ns(it.now) == SILENT_AFTER


def test_nothing_ever_heard_becomes_silent_too() -> None:
    it = Listener()
    it.wait(1_000)
    assert it.path.status is PathStatus.SILENT


def test_recovery_takes_some_frames_in_a_row_but_each_is_evidence() -> None:
    it = Listener()
    it.hear()
    it.wait(1_000)
    for index in range(1, FRAMES_TO_RECOVER + 1):
        it.hear()
        assert it.path.last_proven_ns == it.now
        assert it.path.hears is (index == FRAMES_TO_RECOVER)
    it.wait(1_000)
    for _ in range(10):  # one frame in two seconds is no recovery
        it.hear(2_000)
        assert not it.path.hears


def test_flapping_is_named_and_ends_when_it_was_calm() -> None:
    it = Listener()
    for _ in range(3):
        for _ in range(3):
            it.hear()
        it.wait(1_000)
    for _ in range(3):
        it.hear()
    assert it.path.status is PathStatus.FLAPPING and it.path.hears
    started = it.now
    while it.path.status is PathStatus.FLAPPING:
        it.hear()
        assert it.now - started <= FLAP_CALM_NS + 200 * MS
    assert it.path.status is PathStatus.HEARING and it.now - started > FLAP_CALM_NS / 2


def test_a_frame_without_my_nonce_proves_nothing() -> None:
    it = Listener()
    receipt = it.hear(receiver_nonce=b"oldnonce")
    assert receipt.authentic and not receipt.proven and not it.path.hears
    assert it.path.status is PathStatus.UNPROVEN and it.session.echo(it.now) == PEERS, "but I learn whom to answer"
    assert it.session.nonce == NO_NONCE, "and adopt nobody"
    assert it.hear().proven and it.path.hears
    for _ in range(6):
        it.hear(receiver_nonce=b"oldnonce")
    assert it.path.status is PathStatus.UNPROVEN, "alive, but it stopped hearing us"
    it.wait(1_000)
    assert it.path.status is PathStatus.SILENT


def test_replays_of_this_and_of_former_sessions_are_refused_and_counted() -> None:
    it = Listener()
    for _ in range(100):
        it.hear()
    before = it.path.last_authentic_ns
    for sequence in range(1, 101):
        assert it.hear(sequence=sequence).reject is RejectReason.REPLAYED
    assert it.path.last_authentic_ns == before and it.path.rejects[RejectReason.REPLAYED] == 100
    assert it.hear(nonce=b"restart!", epoch=4, sequence=1).new_session
    assert it.hear(sequence=500).reject is RejectReason.OLD_SESSION
    assert it.hear(nonce=b"ancient!", epoch=2, sequence=9).reject is RejectReason.OLD_SESSION
    assert it.hear(nonce=b"restart!", epoch=4, sequence=2).proven


def test_a_peer_that_lost_its_state_is_believed_once_the_old_one_is_gone() -> None:
    it = Listener()
    it.hear()
    assert it.hear(epoch=1, nonce=b"reborn!!").reject is RejectReason.OLD_SESSION
    assert it.hear(epoch=1, nonce=b"reborn!!", after_ms=1_001).new_session
    assert it.hear(epoch=3, nonce=PEERS).reject is RejectReason.OLD_SESSION


def test_own_and_foreign_nodes_are_refused() -> None:
    it = Listener()
    assert it.hear(node="beta").reject is RejectReason.OWN_FRAME
    assert it.hear(node="gamma").reject is RejectReason.UNKNOWN_NODE
    assert it.path.status is PathStatus.WAITING and it.path.rejects.total() == 2


def test_after_a_stall_silence_starts_to_count_anew() -> None:
    it = Listener()
    it.hear()
    it.now += 30_000 * MS
    it.path.restart_listening(it.now)
    assert not it.path.on_deadline(it.now) and it.path.silence_ns(it.now) == 0
    it.wait(999)
    assert it.path.status is not PathStatus.SILENT
    it.wait(1)
    assert it.path.status is PathStatus.SILENT
    it.path.restart_listening(it.now)
    assert it.path.status is PathStatus.WAITING


def test_an_unusable_path_is_not_silent_it_says_nothing() -> None:
    it = Listener()
    it.hear()
    it.path.set_usable(it.now, False, "carrier lost")
    it.wait(5_000)
    assert (it.path.status, it.path.reason, it.path.silence_ns(it.now)) == (PathStatus.UNUSABLE, "carrier lost", None)
    it.path.set_usable(it.now, True)
    assert it.path.silence_ns(it.now) == 0 and it.path.next_deadline() == it.now + SILENT_AFTER


def test_loss_and_delay_figures() -> None:
    it = Listener()
    for index in range(64):
        if index % 4 == 3:
            it.sequence += 1
            it.now += 200 * MS
        else:
            it.hear()
    snapshot = it.path.snapshot(it.now)
    assert snapshot["loss_percent"] in range(23, 28)
    assert snapshot["longest_gap_ms"] == 400.0
    it.hear(sent_ns=it.now - 30 * MS)
    assert 220 < float(it.path.snapshot(it.now)["delay_ms"]) < 240  # type: ignore[arg-type]


@given(st.lists(st.integers(1, 300), max_size=200))
def test_no_sequence_number_is_ever_accepted_twice(sequences: list[int]) -> None:
    it, accepted = Listener(), []
    for sequence in sequences:
        if it.hear(sequence=sequence).authentic:
            accepted.append(sequence)
    assert len(accepted) == len(set(accepted))
    assert 0 <= int(it.path.snapshot(it.now)["loss_percent"] if accepted else 0) <= 100  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.integers(0, 3_000), st.sampled_from(["hear", "wait", "unproven", "stall", "down", "up"])), max_size=60))
def test_status_is_consistent_under_any_history(history: list[tuple[int, str]]) -> None:
    it = Listener()
    for ms, what in history:
        match what:
            case "hear":
                it.hear(ms)
            case "unproven":
                it.hear(ms, receiver_nonce=bytes(8))
            case "wait":
                it.wait(ms)
            case "stall":
                it.now += ms * MS
                it.path.restart_listening(it.now)
            case _:
                it.path.set_usable(it.now, what == "up", "pulled")
        status, deadline = it.path.status, it.path.next_deadline()
        if status.hears:
            assert deadline is not None and it.path.last_proven_ns is not None
        if deadline is not None and deadline <= it.now:
            it.path.on_deadline(it.now)
            after = it.path.next_deadline()
            assert after is None or after > it.now
