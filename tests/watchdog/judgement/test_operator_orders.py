"""What a person orders is done, or refused with the reason; a mistyped node never costs another one its power."""

from __future__ import annotations

import pytest

from tests.watchdog.judgement.lab import Lab, Node
from watchdog.config.model import Mode
from watchdog.judgement import events as e


def settled(mode: Mode = Mode.RESOLVE) -> Lab:
    lab = Lab(mode)
    lab.run(12)
    return lab


def a(lab: Lab) -> Node:
    return lab.nodes["a"]


def b(lab: Lab) -> Node:
    return lab.nodes["b"]


def ordered(lab: Lab, action: e.OperatorAction, subject: str) -> tuple[bool, str]:
    lab.tell(a(lab), e.OperatorActed(action, "root", subject=subject))
    answer = a(lab).core.last_answer
    assert answer is not None
    return answer.taken, answer.outcome


@pytest.mark.parametrize("action", [e.OperatorAction.FENCE_OFF, e.OperatorAction.FENCE_ON, e.OperatorAction.CONFIRM_OFF])
@pytest.mark.parametrize("subject", ["a", "c", "B"])
def test_only_the_peer_is_fenced_or_vouched_for(action: e.OperatorAction, subject: str) -> None:
    lab = settled()
    taken, why = ordered(lab, action, subject)
    assert not taken and subject in why and why.endswith(" b")
    lab.run(10)
    assert not a(lab).offs() and not a(lab).fences()


def test_an_order_names_its_fence() -> None:
    lab = settled()
    assert ordered(lab, e.OperatorAction.FENCE_OFF, "b") == (True, "ordered")
    answer = a(lab).core.last_answer
    assert answer is not None and answer.order_id
    assert ordered(lab, e.OperatorAction.FENCE_OFF, "b") == (False, "a fence is already running")
    lab.run(10)
    status = a(lab).core.snapshot()
    assert isinstance(status, dict) and isinstance(status["fence"], dict) and isinstance(status["fence"]["last"], dict)
    assert status["fence"]["last"]["order_id"] == answer.order_id


def test_a_handover_of_what_is_not_there_is_refused_with_what_there_is() -> None:
    lab = settled(Mode.RESOLVE)
    taken, why = ordered(lab, e.OperatorAction.HANDOVER, "52/4")
    assert not taken and "51/4" in why
    taken, why = ordered(settled(Mode.OBSERVE), e.OperatorAction.HANDOVER, "51/4")
    assert not taken and "observe" in why
    lab.tell(b(lab), e.OperatorActed(e.OperatorAction.HANDOVER, "root", subject="51/4"))
    answer = b(lab).core.last_answer
    assert answer is not None and not answer.taken


def test_an_incident_that_is_not_open_cannot_be_acknowledged() -> None:
    assert ordered(settled(), e.OperatorAction.ACKNOWLEDGE, "I9-nothing") == (False, "no such open incident")
