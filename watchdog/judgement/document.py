"""PURE: the verdict tables as the page docs/VERDICTS.md (a test holds it current; ``BRAIN_UPDATE=1`` rewrites it)."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator

from watchdog.config.model import Mode
from watchdog.judgement.events import DaemonState
from watchdog.judgement.evidence import EvidenceKind
from watchdog.judgement.ladder import Rung, Situation, rungs
from watchdog.judgement.verdict import (
    GROUP_TABLE,
    PAIR_PAGES,
    PAIR_TABLE,
    Contact,
    Fitness,
    GroupFacts,
    Isolation,
    PairFacts,
    Rule,
    Verdict,
    judge_group,
    judge_pair,
    severity,
)

CLAIM_KINDS = (EvidenceKind.K2_NEIGHBOUR, EvidenceKind.K3_ADVERT, EvidenceKind.K4_REPORT, EvidenceKind.K5_WITNESS)

_MEANING = {
    Verdict.HEALTHY: "One owner, and both watchers hear each other where it matters.",
    Verdict.PATH_DEGRADED: "The peer lives, but not every heartbeat path (or not its watcher) is heard.",
    Verdict.NO_STANDBY: "The group is served, and the other node could not take over; the page says why.",
    Verdict.UNFIT_OWNER: "The owner's port is dead while the other node's lives: clients are not served. The page names the port.",
    Verdict.MISCONFIGURED: "Adverts arrive that a VRRP daemon drops: wrong VRID, version, password, interval or VIP list.",
    Verdict.UNKNOWN: "Too little is known to judge: settling, or silence that could be ours as well as the peer's.",
    Verdict.NO_OWNER: "Neither node holds the VIP for longer than any election.",
    Verdict.ORPHAN_VIP: "Our kernel holds a VIP that no working local VRRP daemon tends.",
    Verdict.FOREIGN_OWNER: "A third host or router claims the VIP. Never a fence, never a yield: neither node is at fault.",
    Verdict.ISOLATED: "This node is cut off. It never fences; from resolve on it gives its addresses up.",
    Verdict.PEER_DEAD: "The peer is dead or cut off; silence does not tell which. A fence, proved, makes it certain.",
    Verdict.PEER_HUNG: "The peer's processes are silent while its kernel still answers for a VIP.",
    Verdict.SPLIT_BRAIN: "Two fresh kinds of evidence name two owners.",
}

_RUNGS = {
    Rung.ANNOUNCE: "re-announce",
    Rung.REMOVE_ORPHAN: "remove the orphan",
    Rung.ASK_PEER: "ask the peer to yield",
    Rung.GIVE_UP: "give up own addresses",
    Rung.FENCE: "fence",
    Rung.PAGE: "page",
}


def all_pair_facts() -> Iterator[PairFacts]:
    """Every possible input of the pair's table."""
    for settled, contact, isolation, left in itertools.product((False, True), Contact, Isolation, (False, True)):
        yield PairFacts(settled, contact, isolation, left)


def all_claims() -> Iterator[frozenset[EvidenceKind]]:
    """Every set of kinds that can name the peer as owner."""
    for size in range(len(CLAIM_KINDS) + 1):
        for kinds in itertools.combinations(CLAIM_KINDS, size):
            yield frozenset(kinds)


def all_group_facts() -> Iterator[GroupFacts]:
    """Every possible input of a group's table."""
    both = (False, True)
    daemons = (None, *DaemonState)
    for values in itertools.product(both, both, all_claims(), both, both, daemons, both, both, Contact, Isolation, Fitness):
        yield GroupFacts(*values)


def all_situations() -> Iterator[Situation]:
    """Every possible input of the ladder."""
    both = (False, True)
    for values in itertools.product(Mode, Verdict, both, both, both, (None, *both), both, (None, *DaemonState), both, both, both, both):
        yield Situation(*values)


def _strongest() -> dict[tuple[Mode, Verdict], str]:
    """Per mode and confirmed verdict: the rungs that some situation allows (an orphan's removal only where the verdict says so)."""
    allowed: dict[tuple[Mode, Verdict], set[Rung]] = {(mode, verdict): set() for mode in Mode for verdict in Verdict}
    for situation in all_situations():
        if situation.confirmed:
            orphan = {Rung.REMOVE_ORPHAN} if situation.verdict is not Verdict.ORPHAN_VIP else set()
            allowed[situation.mode, situation.verdict] |= rungs(situation) - orphan
    return {key: ", ".join(_RUNGS[rung] for rung in Rung if rung in found) or "nothing" for key, found in allowed.items()}


def _lines(rules: Iterable[Rule[PairFacts]] | Iterable[Rule[GroupFacts]], counts: Counter[int]) -> list[str]:
    lines = ["| # | when (first match decides) | verdict | reason given | combinations |", "|---|---|---|---|---|"]
    for number, (verdict, when, reason) in enumerate([(r.verdict.value, r.when, r.reason) for r in rules], 1):
        lines.append(f"| {number} | {when} | **{verdict}** | {reason} | {counts[number - 1]} |")
    return lines


def verdicts_page() -> str:
    """The whole page."""
    pair_rules, group_rules = list(PAIR_TABLE), list(GROUP_TABLE)
    pair_counts = Counter(pair_rules.index(judge_pair(facts)) for facts in all_pair_facts())
    group_counts = Counter(group_rules.index(judge_group(facts)) for facts in all_group_facts())
    strongest = _strongest()
    lines = [
        "# Verdicts",
        "",
        "Generated from watchdog/judgement/verdict.py and ladder.py;",
        "`BRAIN_UPDATE=1 pytest tests/watchdog/judgement/test_verdict.py` rewrites it.",
        "",
        "Every VIP group and the pair have a verdict. It is *suspected* as soon as it is true, and *confirmed* when it is still true after",
        "`policy.confirm_ms` and one active census. Only a confirmed verdict pages, asks or fences.",
        "",
        "| verdict | severity | meaning | observe | resolve and strict, when confirmed |",
        "|---|---|---|---|---|",
    ]
    for verdict in Verdict:
        scope = " (paged by the pair)" if verdict in PAIR_PAGES else ""
        loud = "" if verdict is Verdict.HEALTHY else severity(verdict) + scope
        quiet, acting = strongest[Mode.OBSERVE, verdict], strongest[Mode.RESOLVE, verdict]
        lines.append(f"| **{verdict.value}** | {loud} | {_MEANING[verdict]} | {quiet} | {acting} |")
    lines += ["", "## The pair", "", f"{sum(pair_counts.values())} combinations of facts, each decided by exactly one rule.", ""]
    lines += _lines(PAIR_TABLE, pair_counts)
    lines += ["", "## A group", "", f"{sum(group_counts.values())} combinations of facts, each decided by exactly one rule.", ""]
    lines += _lines(GROUP_TABLE, group_counts)
    lines += [
        "",
        "## Evidence",
        "",
        "K1 our kernel's own address · K2 ARP/NA answers and claims of another MAC, passive and active · K3 VRRP adverts · K4 the",
        "peer's authenticated report · K5 a witness. Two facts of one kind are one kind. A fact is fresh for: K1 until the kernel says",
        "otherwise; K2 two census intervals and a window; K3 two and a half advert intervals; K4 the `silent_after_ms` of the path that",
        "brought it. The peer's authenticated *no* supersedes what was heard of it before; a whole census window without an answer takes",
        "K2 back; an own stall voids everything but K1.",
        "",
    ]
    return "\n".join(lines)
