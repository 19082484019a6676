"""Promise 11 on the real cores: what a stranger without the key can bring about (cases A1, A4, A5, A6, J7, N1)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.watchdog.judgement.lab import GROUP, IPS, MACS, VIP, Lab, Node
from watchdog.config.model import BrainSettings, Mode
from watchdog.judgement import commands as c
from watchdog.judgement import events as e
from watchdog.judgement.evidence import MAX_FACTS_PER_SCOPE, MAX_STRANGERS_PER_SCOPE, EvidenceKind, Ledger, Owner
from watchdog.judgement.judging import contact_of
from watchdog.judgement.open_evidence import TABLE, Effect, OpenKind, Strength, allows, sufficient
from watchdog.judgement.verdict import Contact, Verdict

STRANGER = "02:00:00:00:00:66"
ACTING = [Mode.RESOLVE, Mode.STRICT]


def settled(mode: Mode = Mode.RESOLVE, **options: object) -> Lab:
    lab = Lab(mode, **options)  # type: ignore[arg-type]
    lab.run(40)
    return lab


def forge(lab: Lab, node: Node, seconds: float, *events: e.WatcherEvent) -> None:
    """The stranger sends these ten times a second."""
    for _ in range(round(seconds * 10)):
        for event in events:
            lab.tell(node, event)
        lab.run(0.1)


def advert(name: str, priority: int = 1, mac: str = STRANGER) -> e.AdvertHeard:
    return e.AdvertHeard("eth0", GROUP, priority, IPS[name], mac, False, 1_000, (VIP,))


def claim(address: str, mac: str = STRANGER, **how: object) -> e.OwnerClaimed:
    return e.OwnerClaimed("eth0", address, mac, mac, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ACTING)
@pytest.mark.parametrize(
    "forged",
    [
        (advert("b"),),
        (advert("b", 255, MACS["b"]),),
        (claim(IPS["b"]), claim(VIP)),
        (claim(VIP, MACS["b"], gratuitous=True),),
        (claim(IPS["b"], MACS["b"]), claim(VIP, MACS["b"])),
        (advert("b"), claim(IPS["b"]), claim(VIP), claim(VIP, MACS["b"], gratuitous=True)),
    ],
    ids=["adverts", "adverts, its mac", "claims", "its mac, unasked", "claims in its mac", "everything"],
)
def test_a_crashed_watcher_and_a_forger_do_not_get_the_node_fenced(mode: Mode, forged: tuple[e.WatcherEvent, ...]) -> None:
    """Case A1: B's braind is killed; then 80 forged frames at 10/s."""
    lab = settled(mode)
    a, b = lab.nodes["a"], lab.nodes["b"]
    b.braind = False
    lab.run(1)
    forge(lab, a, 8, *forged)
    lab.run(100)
    assert not a.offs()
    assert b.kernel, "healthy B was fenced"
    assert VIP in a.held, "the owner goes on"


def test_a_frozen_node_is_still_fenced_by_its_proven_answers() -> None:
    """No case may be mended by making braind do less: hang-all."""
    lab = settled(Mode.RESOLVE)
    lab.freeze(lab.nodes["a"], True)
    lab.run(90)
    assert lab.nodes["b"].offs() and not lab.nodes["a"].kernel


def test_with_require_authenticated_no_fence_rests_on_a_mac() -> None:
    def careful(settings: BrainSettings) -> BrainSettings:
        return replace(settings, fence=replace(settings.fence, require_authenticated=True))

    lab = settled(Mode.RESOLVE, tweak=careful)
    lab.freeze(lab.nodes["a"], True)
    lab.run(90)
    assert not lab.nodes["b"].offs() and lab.nodes["a"].kernel
    assert lab.nodes["b"].alerts(), "but a person is told"


@pytest.mark.parametrize("addresses", [True, False], ids=["with addresses", "without addresses"])
def test_a_standby_whose_watcher_crashed_is_not_dead(addresses: bool) -> None:
    """Cases J7 and N1: B was master once and answered for the VIP; it gave it away in order, and later its braind crashes."""

    def bare(settings: BrainSettings) -> BrainSettings:
        if addresses:
            return settings
        first, second = (replace(node, addresses=()) for node in settings.nodes)
        return replace(settings, nodes=(first, second))

    lab = settled(Mode.RESOLVE, tweak=bare)
    a, b = lab.nodes["a"], lab.nodes["b"]
    lab.release(a)
    lab.run(20)
    assert lab.owner_names() == "b"
    lab.daemon(a, e.DaemonState.RUNNING)
    lab.run(20)
    assert lab.owner_names() == "a", "it preempts"
    b.braind = False
    lab.run(100)
    assert not a.offs() and b.kernel
    assert a.core.state.pair.verdict is not Verdict.PEER_DEAD


def test_a_dead_peer_is_still_fenced() -> None:
    lab = settled(Mode.RESOLVE)
    a, b = lab.nodes["a"], lab.nodes["b"]
    lab.crash(a)
    lab.run(90)
    assert b.offs(), "what answered until the end and fell silent is dead"


def test_an_isolated_node_is_not_talked_out_of_it() -> None:
    """Case A6: A is cut off from everything; a stranger beside it answers for the gateway and for everybody else."""
    lab = settled(Mode.RESOLVE)
    a = lab.nodes["a"]
    a.reference = False
    lab.cuts |= {"path eth1", "path tty", "arp", "adverts a>b", "adverts b>a"}
    for _ in range(600):
        lab.tell(a, e.ReferenceAnswered("gateway", STRANGER))
        lab.tell(a, claim(VIP))
        lab.tell(a, claim(IPS["b"]))
        lab.run(0.1)
    assert not a.offs()
    assert VIP not in a.held, "it knows that it is isolated"


def test_a_flood_hides_no_second_owner() -> None:
    """Case A4: two owners while a stranger claims the address with random MACs."""
    lab = settled(Mode.RESOLVE)
    a, b = lab.nodes["a"], lab.nodes["b"]
    lab.cuts |= {"adverts a>b", "adverts b>a"}
    seen = 0
    rows = len(a.rows)
    for step in range(200):
        for n in range(10):
            lab.tell(a, claim(VIP, f"06:00:00:00:{step & 255:02x}:{n:02x}"))
        lab.run(0.01)
    lab.hold(b, True)
    for step in range(100):
        for n in range(15):
            lab.tell(a, claim(VIP, f"0a:00:00:00:{step & 255:02x}:{n:02x}"))
        lab.run(0.01)
        seen += a.core.state.ledger.strength(lab.now, "51/4", Owner.PEER) is Strength.AUTHENTICATED
    assert seen > 90, "the peer's authenticated word is never displaced"
    assert len(a.rows) - rows < 400, "what a flood writes is bounded"
    assert any(verdict == "SPLIT_BRAIN" for _, verdict, _ in a.verdicts())


def test_strangers_displace_only_strangers() -> None:
    ledger = Ledger()
    ledger.note(0, "51/4", EvidenceKind.K4_REPORT, Owner.PEER, "b", "", 10**12)
    ledger.note(0, "51/4", EvidenceKind.K2_NEIGHBOUR, Owner.PEER, MACS["b"], "", 10**12)
    for n in range(1_000):
        ledger.note(n, "51/4", EvidenceKind.K2_NEIGHBOUR, Owner.OTHER, f"m{n}", "", 10**12)
    facts = list(ledger.fresh(1_000, "51/4"))
    assert len(facts) == MAX_STRANGERS_PER_SCOPE + 2
    assert ledger.kinds(1_000, "51/4", Owner.PEER) == {EvidenceKind.K4_REPORT, EvidenceKind.K2_NEIGHBOUR}
    for n in range(1_000):
        ledger.note(n, "51/4", EvidenceKind.K2_NEIGHBOUR, Owner.PEER, f"p{n}", "", 10**12)
    assert EvidenceKind.K4_REPORT in ledger.kinds(1_000, "51/4", Owner.PEER)
    assert len(list(ledger.fresh(1_000, "51/4"))) <= MAX_FACTS_PER_SCOPE


@pytest.mark.parametrize(
    "forged", [advert("a"), claim(VIP), claim(IPS["a"]), claim(IPS["a"], MACS["a"]), claim(VIP, MACS["a"], gratuitous=True)]
)
def test_a_forged_word_refutes_no_reading(forged: e.WatcherEvent) -> None:
    """Case A5: the owner is dead, the device reads OFF twice, and somebody speaks in the dead node's name."""
    lab = settled(Mode.STRICT)
    a, b = lab.nodes["a"], lab.nodes["b"]
    lab.crash(a)
    lab.run_until(lambda: bool(b.offs()), 90)
    forge(lab, b, 20, forged)
    assert "proved" in b.fences() and "refuted" not in b.fences()
    lab.run(20)
    assert lab.owner_names() == "b"


def test_the_contact_is_what_is_proven() -> None:
    lab = settled(Mode.RESOLVE)
    a, b = lab.nodes["a"], lab.nodes["b"]
    b.braind = False
    lab.run(5)
    assert contact_of(a.core.state, lab.now) is Contact.WATCHER_SILENT, "its kernel answers for its own address"
    forge(lab, a, 2, claim(VIP, MACS["b"], gratuitous=True))
    assert contact_of(a.core.state, lab.now) is Contact.WATCHER_SILENT
    b.held.add(VIP)
    lab.run_until(lambda: contact_of(a.core.state, lab.now) is Contact.KERNEL_ONLY, 3)


def test_the_table_is_total_and_what_it_does_not_name_is_forbidden() -> None:
    assert set(TABLE) == set(OpenKind)
    for mode in Mode:
        for kind in OpenKind:
            for effect in (Effect.GIVE_UP, Effect.START_FENCE):
                may = allows(kind, effect, mode)
                assert may == (kind is OpenKind.PINNED_ANSWER and effect is Effect.START_FENCE and mode is not Mode.OBSERVE)
                assert not allows(kind, effect, mode, require_authenticated=True)
        assert not sufficient(None, Effect.PAGE, mode)
        assert sufficient(Strength.AUTHENTICATED, Effect.START_FENCE, mode, require_authenticated=True)
        assert not sufficient(Strength.OPEN, Effect.START_FENCE, mode)


def test_pins_survive_a_restart_and_follow_the_peers_word() -> None:
    lab = settled(Mode.RESOLVE)
    a = lab.nodes["a"]
    written = {dict(row.fields)["key"]: dict(row.fields)["value"] for _, row in a.rows if row.kind is c.RowKind.NODE}
    assert written["peer_macs"] == [["eth0", MACS["b"]]]
    assert written["reference_macs"] == [["gateway", "02:00:00:00:00:fe"]]
    assert not a.core.state.neighbours.is_peer(STRANGER)
