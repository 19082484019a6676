"""A second look in doubt for a moment (an unanswered probe on a busy machine) is repeated: it must not end the only fence of an outage."""

from __future__ import annotations

import pytest

from tests.watchdog.judgement.lab import Lab
from watchdog.judgement.hooks import NO_REFERENCE_LATELY, UNSURE_ISOLATION
from watchdog.judgement.watcher import WatcherCore


class Doubtful(WatcherCore):
    """In doubt for its first looks."""

    doubts = 0
    doubt = ""
    looks = 0

    def second_look(self, now_ns: int, refuted: bool) -> str:
        self.looks += 1
        return self.doubt if self.looks <= self.doubts else super().second_look(now_ns, refuted)


def cut(doubt: str, doubts: int) -> Lab:
    core = type("Core", (Doubtful,), {"doubt": doubt, "doubts": doubts})
    lab = Lab(core=core)
    lab.run(10)
    lab.cut_everything()
    lab.run(20)
    return lab


@pytest.mark.parametrize("doubt", [NO_REFERENCE_LATELY, UNSURE_ISOLATION])
def test_a_passing_doubt_is_looked_at_again(doubt: str) -> None:
    a = cut(doubt, 2).nodes["a"]
    assert len(a.offs()) == 1 and a.fences()[-1] == "proved"
    assert isinstance(a.core, Doubtful) and a.core.looks == 3


def test_a_doubt_that_stays_ends_the_fence_with_its_reason_and_nothing_done() -> None:
    a = cut(NO_REFERENCE_LATELY, 1_000).nodes["a"]
    assert not a.offs()
    assert a.fences()[-1] == "not_done"
    assert any(NO_REFERENCE_LATELY in str(page["summary"]) for page in a.alerts())


def test_a_reason_that_does_not_pass_ends_the_attempt_at_once_and_a_new_one_is_made_while_the_turn_lasts() -> None:
    """Case J5: one hiccup must not end the only attempt of an outage."""
    a = cut("quarantine, maintenance or a planned stop", 2).nodes["a"]
    assert isinstance(a.core, Doubtful) and a.core.looks == 3
    assert len(a.offs()) == 1 and a.fences()[-1] == "proved"
