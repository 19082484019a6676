"""What unit tests and seeds once let live when it was altered (cases under J): a second look, a confirmation, a stall, a silence."""

from __future__ import annotations

import copy
from dataclasses import replace

from base.core import NS_PER_MS
from tests.watchdog.judgement.lab import Lab
from watchdog.config.model import BrainSettings
from watchdog.judgement import events as e
from watchdog.judgement.hooks import NO_REFERENCE_LATELY
from watchdog.judgement.judging import contact_of
from watchdog.judgement.stages import Stage
from watchdog.judgement.verdict import Contact, Isolation, Verdict


def cut_for(seconds: float) -> Lab:
    lab = Lab(fence=False)
    lab.run(10)
    lab.cut_everything()
    lab.run(seconds)
    return lab


def test_the_second_look_needs_a_reference_that_answered_lately() -> None:
    lab = cut_for(4)
    core = lab.nodes["a"].core
    assert core.second_look(lab.now, False) == ""
    lab.nodes["a"].reference = False
    lab.run(2)
    assert core.state.isolation(lab.now) is Isolation.NO, "it is not silent yet"
    assert core.second_look(lab.now, False) == NO_REFERENCE_LATELY


def test_the_second_look_needs_the_recorder() -> None:
    lab = cut_for(4)
    core = lab.nodes["a"].core
    assert core.second_look(lab.now, False) == ""
    lab.tell(lab.nodes["a"], e.RecorderChanged(False))
    assert core.second_look(lab.now, False) == "the recorder is gone"


def test_the_second_look_sees_a_frame_that_cannot_answer_yet() -> None:
    lab = cut_for(4)
    core = lab.nodes["a"].core
    core.state.contact.life_ns = lab.now
    assert "it lives" in core.second_look(lab.now, False)


def test_nothing_is_confirmed_while_this_node_distrusts_itself() -> None:
    lab = Lab(fence=False)
    lab.run(10)
    a = lab.nodes["a"]
    lab.cut("path eth1", "path tty", "arp", "adverts a>b", "adverts b>a")
    lab.run_until(lambda: a.core.state.pair.verdict is Verdict.PEER_DEAD, 5)
    a.core.state.trusted_from_ns = lab.now + 10_000 * NS_PER_MS
    lab.run(5)
    assert a.core.state.pair.stage is not Stage.CONFIRMED
    lab.run(10)
    assert a.core.state.pair.stage is Stage.CONFIRMED


def test_a_stall_forgets_what_was_believed_before_it() -> None:
    lab = Lab(fence=False)
    lab.run(10)
    a = lab.nodes["a"]
    scope = next(iter(a.core.state.groups.values())).scope
    b = lab.nodes["b"].core.state
    assert list(b.ledger.fresh(lab.now, scope)), "the peer's ownership is known"
    lab.tell(lab.nodes["b"], e.LoopStalled(5_000 * NS_PER_MS))
    assert not list(b.ledger.fresh(lab.now, scope)), "and void after a stall"
    assert not b.trusted(lab.now)
    assert all(view.heard is None and view.report is None for view in b.groups.values())


def test_a_peer_that_never_answered_is_not_silent() -> None:
    """Nothing fell silent: it is not known to be dead."""

    def without_addresses(settings: BrainSettings) -> BrainSettings:
        return replace(settings, nodes=tuple(replace(node, addresses=()) for node in settings.nodes))  # type: ignore[arg-type]

    lab = Lab(fence=False, tweak=without_addresses)
    lab.cut("arp")
    lab.run(10)
    lab.cut_everything()
    lab.run(10)
    assert contact_of(lab.nodes["a"].core.state, lab.now) is Contact.UNREACHED
    answered = cut_for(10)
    assert contact_of(answered.nodes["a"].core.state, answered.now) is Contact.SILENT


def test_a_core_can_be_copied_and_goes_on_alike() -> None:
    """Search tries every event from a copy."""
    lab = cut_for(2)
    core = lab.nodes["a"].core
    twin = copy.deepcopy(core)
    for _ in range(50):
        due = core.next_deadline()
        assert due == twin.next_deadline() and due is not None
        assert core.on_deadline(due) == twin.on_deadline(due)
    assert core.snapshot() == twin.snapshot()
