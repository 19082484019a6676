"""The small parts: ledger, census, neighbours, surroundings, episodes and incidents."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from base.core import NS_PER_MS
from watchdog.config.model import GroupKey, GroupSettings, LinkAddress, PerNode, ReferenceSettings
from watchdog.judgement.census import Census
from watchdog.judgement.commands import Row, RowKind
from watchdog.judgement.events import ProbeFinished
from watchdog.judgement.evidence import MAX_FACTS_PER_SCOPE, EvidenceKind, Ledger, Owner
from watchdog.judgement.incidents import EPISODE_LIMIT, EPISODE_NS, Episodes, IncidentBook
from watchdog.judgement.neighbours import Neighbours, is_virtual
from watchdog.judgement.surroundings import Surroundings
from watchdog.judgement.verdict import Isolation, Verdict

MS = NS_PER_MS
K1, K2, K4 = EvidenceKind.K1_KERNEL, EvidenceKind.K2_NEIGHBOUR, EvidenceKind.K4_REPORT
GROUP = GroupSettings(
    GroupKey(51, 4), "VI_1", "eth0", (LinkAddress("eth0", "10.0.0.100"), LinkAddress("eth0", "10.0.0.101")), 100, 2, 1_000
)


# --- ledger ---


def test_a_repeated_fact_keeps_its_id_and_a_stale_one_gets_a_new_one() -> None:
    ledger = Ledger(7)
    first, news = ledger.note(0, "51/4", K4, Owner.PEER, "b", "held", 1_000 * MS)
    assert news and first.id.startswith("E7.")
    again, news = ledger.note(500 * MS, "51/4", K4, Owner.PEER, "b", "held", 1_000 * MS)
    assert again.id == first.id and not news
    assert ledger.kinds(1_500 * MS, "51/4", Owner.PEER) == {K4}
    assert ledger.kinds(1_501 * MS, "51/4", Owner.PEER) == frozenset()
    later, news = ledger.note(9_000 * MS, "51/4", K4, Owner.PEER, "b", "held", 1_000 * MS)
    assert news and later.id != first.id


def test_two_sources_of_one_kind_are_one_kind() -> None:
    ledger = Ledger()
    for mac in ("x", "y", "z"):
        ledger.note(0, "51/4", K2, Owner.PEER, mac, "", 1_000 * MS)
    assert ledger.kinds(0, "51/4", Owner.PEER) == {K2}


def test_a_stall_voids_everything_but_our_own_kernel() -> None:
    """Promise 8."""
    ledger = Ledger()
    ledger.note(0, "51/4", K1, Owner.SELF, "a", "", 0)
    ledger.note(0, "51/4", K2, Owner.PEER, "m", "", 1_000 * MS)
    ledger.void()
    assert [f.kind for f in ledger.fresh(0, "51/4")] == [K1]


def test_the_ledger_is_bounded_and_never_drops_our_own_kernel() -> None:
    ledger = Ledger()
    ledger.note(0, "51/4", K1, Owner.SELF, "a", "", 0)
    for number in range(1_000):
        ledger.note(number, "51/4", K2, Owner.OTHER, f"mac{number}", "", 1_000 * MS)
    facts = list(ledger.fresh(1_000, "51/4"))
    assert len(facts) <= MAX_FACTS_PER_SCOPE
    assert K1 in {f.kind for f in facts}
    assert ledger.dropped > 900


# --- census ---


def test_a_round_is_complete_when_every_window_is_over() -> None:
    census = Census(1_000, 200, 0)
    probes = census.start_round(10 * MS, GROUP, ("10.0.0.2", "fe80::2"))
    assert [p.address for p in probes] == ["10.0.0.100", "10.0.0.101", "10.0.0.2"], "only addresses of the family"
    assert census.start_round(11 * MS, GROUP, ()) == [], "a running round is not doubled"
    for probe in probes:
        assert not census.complete_since("51/4", 0)
        census.finished(220 * MS, ProbeFinished(probe.probe_id, "eth0", probe.address, 3))
    assert census.complete_since("51/4", 10 * MS) and not census.complete_since("51/4", 11 * MS)


def test_a_window_whose_end_is_never_reported_is_given_up_as_not_sent() -> None:
    census = Census(1_000, 200, 0)
    census.start_round(0, GROUP, ())
    census.give_up_late(699 * MS)
    assert census.running("51/4")
    census.give_up_late(700 * MS)
    assert census.complete_since("51/4", 0) and not census.rounds["51/4"].heard_segment


def test_the_slow_tick_comes_to_every_vip_in_turn() -> None:
    census = Census(1_000, 200, 0)
    asked = {p.address for step in range(6) for p in census.tick(step, (GROUP,), ("10.0.0.2",))}
    assert asked == {"10.0.0.100", "10.0.0.101", "10.0.0.2"}


@given(st.integers(min_value=1, max_value=300))
def test_the_slow_tick_is_bounded(groups: int) -> None:
    census = Census(1_000, 200, 0)
    many = tuple(
        GroupSettings(GroupKey(n % 256, 4), "", "eth0", (LinkAddress("eth0", f"10.1.{n // 256}.{n % 256}"),), 1, 2, 1_000)
        for n in range(groups)
    )
    assert len(census.tick(0, many, ("10.0.0.2",))) <= 17


# --- neighbours ---


def test_whose_mac_is_it() -> None:
    neighbours = Neighbours(("02:00:00:00:00:0A",))
    virtual = "00:00:5e:00:01:33"
    assert is_virtual(virtual)
    assert neighbours.owner_of("02:00:00:00:00:0a", "02:00:00:00:00:0a") is Owner.SELF
    assert neighbours.owner_of("02:00:00:00:00:0b", "02:00:00:00:00:0b") is Owner.OTHER
    neighbours.seen("02:00:00:00:00:0b", virtual, "02:00:00:00:00:0a")
    assert neighbours.owner_of("02:00:00:00:00:0b", "02:00:00:00:00:0b") is Owner.PEER
    assert neighbours.peer_macs() == ["02:00:00:00:00:0b"], "neither a virtual MAC nor our own is learnt"
    assert neighbours.owner_of(virtual, virtual) is Owner.PEER
    assert neighbours.owner_of(virtual, "02:00:00:00:00:0b") is Owner.PEER
    assert neighbours.owner_of(virtual, "02:00:00:00:00:0a") is Owner.SELF
    assert neighbours.owner_of(virtual, "02:ff:00:00:00:01") is Owner.OTHER


# --- surroundings ---


def surroundings() -> Surroundings:
    return Surroundings((ReferenceSettings("gw", "10.0.0.254", PerNode((("a", "eth0"),))),), 0, "a")


def test_a_reference_that_was_not_asked_long_enough_says_nothing() -> None:
    around = surroundings()
    assert around.isolation(0, ("eth0",), False, False) is Isolation.UNKNOWN
    around.due_references(0)
    assert around.isolation(2_000 * MS, ("eth0",), False, False) is Isolation.UNKNOWN
    assert around.isolation(3_001 * MS, ("eth0",), False, False) is Isolation.YES
    assert around.isolation(3_001 * MS, ("eth0",), True, False) is Isolation.NO, "the peer is heard"
    assert around.isolation(3_001 * MS, ("eth0",), False, True) is Isolation.NO, "somebody answered our census"
    around.answered(3_002 * MS, "gw", "gw-mac", True)
    assert around.isolation(3_003 * MS, ("eth0",), False, False) is Isolation.NO


def test_only_the_learnt_mac_of_a_reference_counts_and_one_answer_after_a_silence_is_in_doubt() -> None:
    """Case A6: a stranger on the side of a node that is cut off answers for the gateway."""
    around = surroundings()
    around.due_references(0)
    assert around.answered(100 * MS, "gw", "gw-mac", False) == (False, False), "nothing is learnt while something is wrong"
    assert around.isolation(4_000 * MS, ("eth0",), False, False) is Isolation.YES
    assert around.answered(4_100 * MS, "gw", "gw-mac", True) == (True, True)
    for second in range(8, 20):
        assert around.answered(second * 1_000 * MS, "gw", "stranger", False) == (False, False)
    assert around.isolation(20_000 * MS, ("eth0",), False, False) is Isolation.YES
    around.answered(20_000 * MS, "gw", "gw-mac", False)
    assert around.isolation(20_000 * MS, ("eth0",), False, False) is Isolation.UNKNOWN, "one answer does not end an isolation"
    around.answered(21_000 * MS, "gw", "gw-mac", False)
    assert around.isolation(21_000 * MS, ("eth0",), False, False) is Isolation.NO


def test_a_new_gateway_is_learnt_in_good_times_only() -> None:
    around = surroundings()
    around.answered(0, "gw", "old", True)
    for second in range(1, 100):
        around.answered(second * 1_000 * MS, "gw", "old", True)
        around.answered(second * 1_000 * MS, "gw", "new", second != 50)
    assert around.references["gw"].pinned == {"old": None}, "the interruption starts the count again"
    for second in range(100, 115):
        around.answered(second * 1_000 * MS, "gw", "old", True)
        around.answered(second * 1_000 * MS, "gw", "new", True)
    assert list(around.references["gw"].pinned) == ["old", "new"]
    assert around.pinned() == [["gw", "old"], ["gw", "new"]]


def test_a_gateway_that_was_replaced_is_learnt_soon_and_in_doubt_until_then() -> None:
    around = surroundings()
    around.answered(0, "gw", "old", True)
    around.due_references(0)
    for second in range(1, 6):
        around.answered(second * 1_000 * MS, "gw", "new", True)
    assert around.references["gw"].pinned == {"old": None}, "the old one may come back"
    for second in range(6, 12):
        around.answered(second * 1_000 * MS, "gw", "new", False)
        assert around.isolation(second * 1_000 * MS, ("eth0",), False, False) is Isolation.UNKNOWN, "it answered in good times"
        around.answered(second * 1_000 * MS, "gw", "stranger", False)
    for second in range(12, 19):
        around.answered(second * 1_000 * MS, "gw", "new", True)
    assert list(around.references["gw"].pinned) == ["old", "new"]


def test_carrier_isolates_whatever_else_is_true() -> None:
    around = surroundings()
    around.set_carrier("eth0", False)
    assert around.isolation(0, ("eth0",), True, True) is Isolation.YES
    assert around.isolation(0, ("eth1",), True, True) is Isolation.NO


def test_without_references_isolation_is_unknown() -> None:
    assert Surroundings((), 0, "a").isolation(10**12, ("eth0",), False, True) is Isolation.UNKNOWN


def test_after_a_stall_a_reference_is_asked_anew_before_its_silence_counts() -> None:
    around = surroundings()
    around.due_references(0)
    around.void()
    assert around.isolation(10_000 * MS, ("eth0",), False, False) is Isolation.UNKNOWN


# --- incidents ---


def fields(row: Row) -> dict[str, object]:
    return dict(row.fields)


def alerts(rows: list[Row]) -> list[dict[str, object]]:
    return [fields(r) for r in rows if r.kind is RowKind.ALERT]


def test_both_nodes_give_one_incident_one_id_without_hearing_each_other() -> None:
    a, b = IncidentBook("c"), IncidentBook("c")
    a.episodes.heard(0, 41)
    b.episodes.heard(0, 41)
    at_ns = EPISODE_NS + 1
    a.raise_(at_ns, "pair", Verdict.PEER_DEAD, "", "", (3, 5), True)
    b.raise_(at_ns + 400 * MS, "pair", Verdict.PEER_DEAD, "", "", (3, 5), True)
    assert a.id_of("pair") == b.id_of("pair") != ""


def test_the_second_node_joins_the_episode_it_heard_of() -> None:
    a, b = IncidentBook("c"), IncidentBook("c")
    at_ns = 10 * EPISODE_NS
    a.raise_(at_ns, "51/4", Verdict.ORPHAN_VIP, "", "", (1, 1), True)
    b.episodes.heard(at_ns + 1, a.episodes.number)
    b.raise_(at_ns + 3_000 * MS, "51/4", Verdict.SPLIT_BRAIN, "", "", (1, 1), True)
    assert a.id_of("51/4") == b.id_of("51/4")


def test_scopes_of_one_episode_differ_and_a_later_incident_gets_a_new_id() -> None:
    book = IncidentBook("c")
    book.raise_(0, "51/4", Verdict.SPLIT_BRAIN, "", "", (1, 1), True)
    book.raise_(0, "52/4", Verdict.SPLIT_BRAIN, "", "", (1, 1), True)
    first = book.id_of("51/4")
    assert first != book.id_of("52/4")
    book.clear(1, "51/4", 0)
    book.raise_(2, "51/4", Verdict.SPLIT_BRAIN, "", "", (1, 1), True)
    assert book.id_of("51/4") != first, "even within the episode"


def test_one_page_per_incident_and_another_only_when_it_grows_worse() -> None:
    book = IncidentBook("c")
    assert len(alerts(book.raise_(0, "51/4", Verdict.ORPHAN_VIP, "", "", (1, 1), True))) == 1
    assert not book.raise_(1, "51/4", Verdict.ORPHAN_VIP, "", "", (1, 1), True)
    assert not book.raise_(1, "51/4", Verdict.NO_OWNER, "", "", (1, 1), True)
    assert len(alerts(book.raise_(2, "51/4", Verdict.SPLIT_BRAIN, "", "", (1, 1), True))) == 1
    assert not book.clear(3, "51/4", 100)
    rows = book.clear(103, "51/4", 100)
    assert [r["action"] for r in alerts(rows)] == ["resolve"]
    assert book.of("51/4") is None


def test_what_was_never_paged_is_not_resolved() -> None:
    book = IncidentBook("c")
    book.raise_(0, "pair", Verdict.PATH_DEGRADED, "", "", (1, 1), False)
    assert not alerts(book.clear(1, "pair", 0))


def test_doubt_starts_the_time_of_being_clear_anew() -> None:
    book = IncidentBook("c")
    book.raise_(0, "51/4", Verdict.SPLIT_BRAIN, "", "", (1, 1), True)
    book.clear(1, "51/4", 100)
    book.not_clear("51/4")
    assert not book.clear(150, "51/4", 100)
    assert book.of("51/4") is not None


@given(st.integers(0, EPISODE_LIMIT - 1), st.integers(1, EPISODE_LIMIT // 2 - 1))
def test_episode_numbers_wrap(number: int, ahead: int) -> None:
    episodes = Episodes()
    episodes.number = number
    episodes.heard(0, (number + ahead) % EPISODE_LIMIT)
    assert episodes.number == (number + ahead) % EPISODE_LIMIT
    episodes.heard(0, number)
    assert episodes.number == (number + ahead) % EPISODE_LIMIT, "an older number changes nothing"


def test_a_reference_that_does_not_answer_is_asked_again_at_once_and_is_soon_suspect() -> None:
    near = surroundings()
    asked = []
    for at_ms in range(0, 1_500, 10):
        asked += [at_ms] if near.due_references(at_ms * NS_PER_MS) else []
    assert asked[:5] == [0, 250, 500, 750, 1_000]
    assert not near.suspect(999 * NS_PER_MS, ("eth9",)), "no reference is asked there"
    again = surroundings()
    for at_ms in (0, 250, 500, 750):
        assert again.due_references(at_ms * NS_PER_MS) == ["gw"]
    assert again.suspect(999 * NS_PER_MS, ("eth0",)) == ()
    assert again.suspect(1_000 * NS_PER_MS, ("eth0",)) == ("eth0",)
    assert again.references_ok(1_000 * NS_PER_MS) is None, "too soon to give anything up for it"
    again.answered(1_001 * NS_PER_MS, "gw", "02:00:00:00:00:fe", True)
    assert again.suspect(1_001 * NS_PER_MS, ("eth0",)) == ()
    assert not again.due_references(1_700 * NS_PER_MS), "it answers: its own interval counts"


def test_a_segment_is_silent_only_by_readings() -> None:
    near = surroundings()
    for at_s in range(4):
        near.counted(at_s * 1_000 * NS_PER_MS, "eth0", 17)
        assert near.segment_silent(at_s * 1_000 * NS_PER_MS, ("eth0",)) == (at_s == 3)
    assert not near.segment_silent(3_000 * NS_PER_MS, ("eth1",)), "nobody counts there"
    assert not near.segment_silent(6_000 * NS_PER_MS, ("eth0",)), "nobody has counted for a while"
    near.counted(3_500 * NS_PER_MS, "eth0", 18)
    assert not near.segment_silent(3_500 * NS_PER_MS, ("eth0",))
    near.counted(9_000 * NS_PER_MS, "eth0", 18)
    assert not near.segment_silent(9_000 * NS_PER_MS, ("eth0",)), "what was between two readings far apart is not known"
