"""The ladder over every situation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from watchdog.config.model import Mode
from watchdog.judgement.document import all_situations
from watchdog.judgement.events import DaemonState
from watchdog.judgement.ladder import Rung, Situation, rungs
from watchdog.judgement.verdict import Verdict

ALL = [(situation, rungs(situation)) for situation in all_situations()]
ACTS = {Rung.ASK_PEER, Rung.GIVE_UP, Rung.FENCE, Rung.REMOVE_ORPHAN}


def when(condition: Callable[[Situation], bool]) -> list[frozenset[Rung]]:
    found = [allowed for situation, allowed in ALL if condition(situation)]
    assert found
    return found


def test_observe_acts_on_nobody() -> None:
    assert not any(ACTS & allowed for allowed in when(lambda s: s.mode is Mode.OBSERVE))


def test_only_confirmed_verdicts_page_ask_give_up_or_fence() -> None:
    forbidden = {Rung.PAGE, Rung.ASK_PEER, Rung.FENCE, Rung.ANNOUNCE}
    assert not any(forbidden & allowed for allowed in when(lambda s: not s.confirmed))


@pytest.mark.parametrize(
    "verdict", [v for v in Verdict if v not in (Verdict.SPLIT_BRAIN, Verdict.PEER_DEAD, Verdict.PEER_HUNG)], ids=lambda v: v.value
)
def test_harmless_verdicts_never_fence(verdict: Verdict) -> None:
    assert not any(Rung.FENCE in allowed for allowed in when(lambda s: s.verdict is verdict))


def test_a_peer_that_can_be_asked_is_not_fenced_before_it_was_asked_in_vain() -> None:
    for situation, allowed in ALL:
        if Rung.FENCE in allowed and situation.on_a_path:
            assert situation.verdict is Verdict.SPLIT_BRAIN and situation.asked_in_vain and situation.keeps is True


def test_quarantined_or_excused_never_fences() -> None:
    assert not any(Rung.FENCE in allowed for allowed in when(lambda s: s.quarantined or s.peer_excused or s.maintenance))


def test_only_the_keeper_asks() -> None:
    assert not any(Rung.ASK_PEER in allowed for allowed in when(lambda s: s.keeps is not True))


def test_an_isolated_owner_that_hears_the_peer_gives_up_only_if_it_loses() -> None:
    for situation, allowed in ALL:
        if situation.verdict is Verdict.ISOLATED and Rung.GIVE_UP in allowed and situation.on_a_path:
            assert situation.keeps is False


def test_an_isolated_owner_alone_gives_up() -> None:
    found = when(
        lambda s: (
            s.mode is not Mode.OBSERVE and s.verdict is Verdict.ISOLATED and s.confirmed and s.own and not s.on_a_path and not s.maintenance
        )
    )
    assert all(Rung.GIVE_UP in allowed for allowed in found)


def test_the_last_possible_owner_never_gives_up() -> None:
    """Promise 4: not to a peer that certainly cannot serve, and not to one that says that it cannot take."""
    for situation, allowed in ALL:
        if situation.verdict is Verdict.ISOLATED and Rung.GIVE_UP in allowed:
            if situation.on_a_path:
                assert Rung.GIVE_UP not in rungs(replace(situation, peer_can_take=False))
                assert Rung.GIVE_UP in rungs(replace(situation, peer_is_gone=True)), "it is heard: it is not gone"
            else:
                assert Rung.GIVE_UP not in rungs(replace(situation, peer_is_gone=True))
                assert Rung.GIVE_UP in rungs(replace(situation, peer_can_take=False)), "nobody can tell"


def test_removal_needs_a_dead_daemon_and_its_grace() -> None:
    for situation, allowed in ALL:
        if Rung.REMOVE_ORPHAN in allowed:
            assert situation.daemon is DaemonState.STOPPED and situation.orphan_grace_over and situation.own


def test_maintenance_is_silent() -> None:
    assert not any(allowed & {Rung.PAGE, Rung.FENCE, Rung.ASK_PEER} for allowed in when(lambda s: s.maintenance))
