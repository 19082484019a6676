"""The verdict table: total, monotonic, and as documented."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from watchdog.judgement.document import all_claims, all_group_facts, all_pair_facts, verdicts_page
from watchdog.judgement.events import DaemonState
from watchdog.judgement.verdict import (
    GROUP_TABLE,
    ON_A_PATH,
    PAIR_TABLE,
    SEVERITY_ORDER,
    Contact,
    GroupFacts,
    Isolation,
    PairFacts,
    Verdict,
    judge_group,
    judge_pair,
)

PAGE = Path(__file__).parents[3] / "docs" / "VERDICTS.md"
PAIR = list(all_pair_facts())
GROUP = list(all_group_facts())


def group(facts: GroupFacts) -> Verdict:
    return judge_group(facts).verdict


def pair(facts: PairFacts) -> Verdict:
    return judge_pair(facts).verdict


def test_every_combination_has_a_rule_and_every_rule_is_needed() -> None:
    assert {id(judge_pair(facts)) for facts in PAIR} == {id(rule) for rule in PAIR_TABLE}
    assert {id(judge_group(facts)) for facts in GROUP} == {id(rule) for rule in GROUP_TABLE}


def test_every_verdict_is_reachable() -> None:
    assert {group(f) for f in GROUP} | {pair(f) for f in PAIR} == set(Verdict)


def test_nothing_is_judged_while_settling() -> None:
    assert {group(f) for f in GROUP if not f.settled} == {Verdict.UNKNOWN}
    assert {pair(f) for f in PAIR if not f.settled} == {Verdict.UNKNOWN}


def test_split_brain_needs_our_kernel_and_another_kind_and_no_planned_change() -> None:
    for facts in GROUP:
        expected = facts.settled and facts.own and bool(facts.peer_claims) and not facts.planned
        assert (group(facts) is Verdict.SPLIT_BRAIN) == expected


def test_one_more_kind_of_evidence_for_the_peer_never_hides_a_split() -> None:
    claims = list(all_claims())
    for facts in GROUP:
        if group(facts) is Verdict.SPLIT_BRAIN:
            for more in claims:
                assert group(replace(facts, peer_claims=facts.peer_claims | more)) is Verdict.SPLIT_BRAIN


def test_which_kinds_claim_does_not_matter_only_that_one_does() -> None:
    claims = [kinds for kinds in all_claims() if kinds]
    for facts in GROUP:
        if facts.peer_claims == claims[0]:
            assert len({group(replace(facts, peer_claims=kinds)) for kinds in claims}) == 1


def test_an_isolated_node_never_calls_the_peer_dead_or_hung() -> None:
    bad = {Verdict.PEER_DEAD, Verdict.PEER_HUNG}
    assert not bad & {group(f) for f in GROUP if f.isolation is Isolation.YES}
    assert not bad & {pair(f) for f in PAIR if f.isolation is Isolation.YES}


def test_a_peer_that_is_heard_is_never_dead_or_hung() -> None:
    bad = {Verdict.PEER_DEAD, Verdict.PEER_HUNG}
    assert not bad & {group(f) for f in GROUP if f.contact in ON_A_PATH}
    assert not bad & {pair(f) for f in PAIR if f.contact in ON_A_PATH}


def test_dead_needs_a_silence_that_began_and_a_reference_that_answers() -> None:
    for facts in PAIR:
        if pair(facts) is Verdict.PEER_DEAD:
            assert facts.contact is Contact.SILENT and facts.isolation is Isolation.NO and not facts.peer_left
    for entry in GROUP:
        if group(entry) is Verdict.PEER_DEAD:
            assert entry.contact is Contact.SILENT and entry.isolation is Isolation.NO


def test_a_watcher_that_stopped_in_order_is_not_a_dead_peer() -> None:
    assert not {Verdict.PEER_DEAD, Verdict.PEER_HUNG} & {pair(f) for f in PAIR if f.peer_left}


def test_a_planned_change_is_healthy_while_both_hold_it() -> None:
    assert {group(f) for f in GROUP if f.settled and f.own and f.peer_claims and f.planned} == {Verdict.HEALTHY}


def test_a_third_owner_is_never_blamed_on_the_peer() -> None:
    for facts in GROUP:
        if facts.other_claims and not facts.peer_claims and facts.settled:
            assert group(facts) in (Verdict.FOREIGN_OWNER, Verdict.ISOLATED, Verdict.ORPHAN_VIP)


def test_losing_a_path_never_makes_the_pair_look_better() -> None:
    order = (Contact.HEARD, Contact.DEGRADED, Contact.WATCHER_SILENT, Contact.KERNEL_ONLY)
    for facts in PAIR:
        if facts.settled and not facts.peer_left:
            ranks = [SEVERITY_ORDER.index(pair(replace(facts, contact=contact))) for contact in order]
            assert ranks == sorted(ranks)


def test_healthy_means_one_owner_or_a_planned_change() -> None:
    for facts in GROUP:
        if group(facts) is Verdict.HEALTHY:
            assert facts.planned or facts.own != bool(facts.peer_claims)
            assert not (facts.own and facts.daemon in (DaemonState.STOPPED, DaemonState.HUNG)) or facts.planned


def test_no_owner_needs_somebody_who_looked() -> None:
    for facts in GROUP:
        if group(facts) is Verdict.NO_OWNER:
            assert facts.absent and not facts.own and not facts.peer_claims and not facts.other_claims


@pytest.mark.parametrize("rule", [*PAIR_TABLE, *GROUP_TABLE], ids=lambda r: f"{r.verdict.value}: {r.when}"[:60])
def test_every_rule_explains_itself(rule: object) -> None:
    assert rule.when and rule.reason  # type: ignore[attr-defined]


def test_the_printed_page_is_current() -> None:
    page = verdicts_page()
    if os.environ.get("BRAIN_UPDATE"):
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page)
    assert PAGE.read_text() == page, "run BRAIN_UPDATE=1 .venv/bin/python -m pytest tests/watchdog/judgement/test_verdict.py"
