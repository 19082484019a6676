"""Which session of the peer is believed: only one that answers ours. Case A2, case J6, recordings, other releases."""

from __future__ import annotations

from dataclasses import replace

from base.core import NS_PER_MS
from tests.watchdog.judgement.lab import KEY, Lab, Node, make_settings
from watchdog.config.model import Mode, PathKind, PathSettings
from watchdog.frames.codec import DatagramCodec
from watchdog.frames.heartbeat import NO_NONCE, Heartbeat, NodeFlags
from watchdog.frames.path_state import PathStatus
from watchdog.judgement import commands as c
from watchdog.judgement.contact import PeerContact
from watchdog.judgement.events import BytesReceived
from watchdog.judgement.terms import own_terms, told_terms
from watchdog.judgement.turns import TurnRefusal

MS = NS_PER_MS
MINE, LIVE, OLD, NEW = b"a" * 8, b"live" * 2, b"old." * 2, b"new." * 2
PATHS = (PathSettings("eth1", PathKind.ETHERNET, "hb"), PathSettings("udp", PathKind.UNICAST, "lan"))
SETTINGS = {node: replace(make_settings(node), paths=PATHS) for node in "ab"}


class Ear:
    """Node a, hearing frames that are said to come from b."""

    def __init__(self) -> None:
        self.contact = PeerContact(SETTINGS["a"], KEY, MINE, 0)
        self.now = 0
        self.sequences: dict[tuple[str, bytes], int] = {}

    def make(self, nonce: bytes, epoch: int, echo: bytes = MINE, path: str = "eth1", **changes: object) -> bytes:
        key = (path, nonce)
        self.sequences[key] = self.sequences.get(key, 0) + 1
        terms = told_terms(own_terms(SETTINGS["b"]), None, 0)
        beat = Heartbeat("b", b"boot" * 2, epoch, self.sequences[key], nonce, echo, 3, 255, NodeFlags.NONE, (), self.now, terms=terms)
        return DatagramCodec(KEY, "lab", path).encode(replace(beat, **changes))  # type: ignore[arg-type]

    def hear(self, data: bytes, path: str = "eth1", after_ms: int = 200) -> bool:
        """Whether it proved itself."""
        self.now += after_ms * MS
        self.contact.on_deadline(self.now)
        receipt, _ = self.contact.receive(self.now, path, data)
        return receipt is not None and receipt.proven


def test_a_recording_of_a_higher_epoch_takes_nothing_over() -> None:
    """Case A2: b lost its state directory, so its epoch is 1; somebody plays one frame of its earlier life."""
    ear = Ear()
    assert ear.hear(ear.make(LIVE, epoch=1))
    recording = ear.make(OLD, epoch=50, echo=b"whoever.")
    assert not ear.hear(recording)
    assert ear.contact.session.nonce == LIVE and ear.contact.session.epoch == 1
    for _ in range(10):
        assert ear.hear(ear.make(LIVE, epoch=1)), "the live session goes on"
        ear.hear(recording, after_ms=1)
    assert ear.contact.paths["eth1"].status is PathStatus.HEARING
    echoes = [ear.contact.session.echo(ear.now) for _ in range(10)]
    assert echoes.count(LIVE) >= 5, "and goes on being answered, whatever is played"


def test_a_recording_is_a_sign_of_life_once_and_no_more() -> None:
    ear = Ear()
    ear.hear(ear.make(LIVE, epoch=1))
    recording = ear.make(OLD, epoch=50, echo=b"whoever.")
    ear.hear(recording, after_ms=5_000)
    assert ear.contact.lives(ear.now)
    for _ in range(20):
        ear.hear(recording, after_ms=100)
    assert not ear.contact.lives(ear.now), "the same frame again is a replay"
    ear.hear(ear.make(b"older...", epoch=0, echo=b"whoever."), after_ms=5_000)
    assert not ear.contact.lives(ear.now), "an epoch that is known to be over is none"


def test_a_new_session_lives_before_it_is_proved_and_is_adopted_when_it_answers() -> None:
    """Case J6."""
    ear = Ear()
    ear.hear(ear.make(LIVE, epoch=1))
    assert not ear.hear(ear.make(NEW, epoch=2, echo=NO_NONCE), after_ms=3_000)
    assert ear.contact.lives(ear.now) and not ear.contact.on_a_path(ear.now)
    assert ear.contact.session.nonce == LIVE
    assert ear.contact.answer(ear.now) == (NEW, None), "it is offered an echo, and told of no frame: those are numbered anew"
    assert ear.hear(ear.make(NEW, epoch=2))
    assert ear.contact.session.nonce == NEW and not ear.contact.session.went_back
    assert not ear.hear(ear.make(LIVE, epoch=1)), "the old one is over, whatever it echoes"


def test_a_lower_epoch_that_proves_itself_is_adopted_when_the_higher_one_is_silent() -> None:
    for before in (9, 1):  # a machine that was replaced soon after its first start has the very epoch of the new one
        ear = Ear()
        ear.hear(ear.make(LIVE, epoch=before))
        assert not ear.hear(ear.make(NEW, epoch=1)), "two machines of one name: the one that is heard stays"
        assert ear.hear(ear.make(NEW, epoch=1), after_ms=1_500)
        assert ear.contact.session.epoch == 1 and ear.contact.session.went_back


def test_frames_of_both_versions_are_one_session_and_the_older_copies_count_for_nothing() -> None:
    ear = Ear()
    assert ear.contact.speaks_old, "before anything is heard the peer may be of today's release"
    new = ear.make(LIVE, epoch=1)
    ear.sequences["eth1", LIVE] -= 1
    old = ear.make(LIVE, epoch=1, version=1, terms=None)
    assert ear.hear(new) and not ear.hear(old, after_ms=0)
    assert not ear.contact.speaks_old and not ear.contact.paths["eth1"].rejects
    assert ear.hear(ear.make(NEW, epoch=2, version=1, terms=None)), "a downgrade is a new session"
    assert ear.contact.speaks_old and ear.contact.turns.peer_version == 1


class Mixed(Lab):
    """Frames of version 2 mean nothing to either node: what a pair of today's release and the one before has in common."""

    def frame(self, node: Node, command: c.SendFrame) -> None:
        if command.data[2] == 1:
            super().frame(node, command)


def test_during_a_rolling_upgrade_the_old_node_is_watched_and_nobody_is_fenced_or_paged() -> None:
    lab = Mixed(serial=False)
    lab.run(20)
    for node in lab.nodes.values():
        assert node.core.state.contact.on_every_path() and not node.alerts() and not node.offs()
    lab.cut_everything()
    lab.run(60)
    for node in lab.nodes.values():
        assert not node.offs(), "who cannot take turns is not fenced"
        assert node.core.turn_refusal(lab.now, 1) is TurnRefusal.PEER_TOO_OLD


def test_a_proof_ends_when_the_target_is_heard_again() -> None:
    """Mutant: an old proof is kept when the peer is heard. A later hold must not be granted on it (J19)."""
    lab = Lab(Mode.STRICT)
    lab.run(10)
    lab.cut_everything()
    lab.run(30)
    a, b = lab.nodes["a"], lab.nodes["b"]
    assert a.core.state.peer_proved_off and not b.kernel
    lab.heal()
    b.kernel = b.powered = True
    b.vrrp.state, b.gate = "backup", None
    lab.restart_braind(b, same_boot=False)
    lab.run(1)
    assert not a.core.state.peer_proved_off


def test_one_frame_that_proves_nothing_ends_a_proof_too() -> None:
    lab = Lab(Mode.STRICT)
    lab.run(10)
    lab.cut_everything()
    lab.run(30)
    a = lab.nodes["a"]
    assert a.core.state.peer_proved_off
    beat = Heartbeat("b", b"reboot..", 7, 1, NEW, NO_NONCE, 0, 255, NodeFlags.NONE, (), lab.now)
    lab.tell(a, BytesReceived("eth1", DatagramCodec(KEY, "lab", "eth1").encode(beat)))
    assert not a.core.state.peer_proved_off
