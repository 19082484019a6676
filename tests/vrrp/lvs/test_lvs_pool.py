"""VirtualServerCore: the rules one by one, then every rule at once under random events."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base.core import NS_PER_S
from tests.vrrp.lvs.services import VIP, real_server, virtual_server
from vrrp.config.model.common import ScriptCommand
from vrrp.lvs.model.desired import apply, diff
from vrrp.lvs.model.settings import RealServerSettings, VirtualServerSettings
from vrrp.lvs.model.virtual_server import (
    SORRY_ID,
    AddressPresenceChanged,
    CheckerDown,
    CheckerUp,
    Command,
    DrainRequested,
    Event,
    MailAlert,
    MasterChanged,
    ProgramServices,
    QuorumChanged,
    RemoveDestination,
    RunNotify,
    SetDestination,
    ShutdownRequested,
    Started,
    Subject,
    SuspendCheckers,
    VirtualServerCore,
    WeightAdded,
)

DOWN1, UP1 = CheckerDown("rs1", "C0", "refused"), CheckerUp("rs1", "C0")
DOWN2, UP2 = CheckerDown("rs2", "C0", "refused"), CheckerUp("rs2", "C0")


def started(configured: VirtualServerSettings, *events: Event) -> tuple[VirtualServerCore, list[Command]]:
    """A core after Started and ``events``, and what the last event caused."""
    core = VirtualServerCore(configured)
    commands = core.handle(0, Started())
    for event in events:
        commands = core.handle(0, event)
    return core, commands


def changes(commands: list[Command]) -> list[object]:
    """Only what happens to the pool, as (server, weight or None)."""
    return [
        (c.server, c.weight if isinstance(c, SetDestination) else None)
        for c in commands
        if isinstance(c, SetDestination | RemoveDestination)
    ]


def notified(commands: list[Command]) -> list[tuple[Subject, str, bool]]:
    return [(c.subject, c.server, c.up) for c in commands if isinstance(c, RunNotify)]


def test_without_alpha_every_server_serves_from_the_start() -> None:
    core, commands = started(virtual_server(real_server(1), real_server(2, weight=3)))
    assert core.pool() == {"rs1": 1, "rs2": 3}
    assert notified(commands) == [(Subject.VIRTUAL_SERVER, "", True)]


def test_with_alpha_a_server_serves_after_its_checks_passed() -> None:
    core, commands = started(virtual_server(real_server(1, alpha=True, checkers=2)))
    assert core.pool() == {} and not core.has_quorum
    assert notified(commands) == []
    assert changes(core.handle(0, UP1)) == []
    assert changes(core.handle(0, CheckerUp("rs1", "C1"))) == [("rs1", 1)]


def test_a_server_is_alive_only_if_all_its_checkers_are() -> None:
    for failed in itertools.product((False, True), repeat=3):
        core, _ = started(virtual_server(real_server(1, checkers=3), real_server(2)))
        for index, down in enumerate(failed):
            if down:
                core.handle(0, CheckerDown("rs1", f"C{index}"))
        assert ("rs1" in core.pool()) is not any(failed)


def test_a_failed_server_is_removed_and_its_people_are_told() -> None:
    script = ScriptCommand(("/bin/down",))
    core, commands = started(virtual_server(real_server(1, notify_down=script), real_server(2)), DOWN1)
    assert commands == [
        RemoveDestination("rs1", "rs1 is down: C0: refused"),
        RunNotify(Subject.REAL_SERVER, "rs1", False, script),
        MailAlert("Realserver rs1 of virtual server vs - DOWN", "C0: refused"),
    ]
    assert core.pool() == {"rs2": 1}


def test_a_second_failed_checker_is_no_news() -> None:
    core, commands = started(virtual_server(real_server(1, checkers=2), real_server(2)), DOWN1, CheckerDown("rs1", "C1"))
    assert commands == []
    assert core.handle(0, UP1) == []
    assert changes(core.handle(0, CheckerUp("rs1", "C1"))) == [("rs1", 1)]


def test_inhibit_on_failure_keeps_the_server_with_weight_0() -> None:
    core, commands = started(virtual_server(real_server(1, inhibit_on_failure=True), real_server(2)), DOWN1)
    assert changes(commands) == [("rs1", 0)]
    assert changes(core.handle(0, UP1)) == [("rs1", 1)]


def test_the_sorry_server_comes_before_the_last_server_goes() -> None:
    core, commands = started(virtual_server(real_server(1), sorry=True), DOWN1)
    assert changes(commands) == [(SORRY_ID, 1), ("rs1", None)]
    assert notified(commands) == [(Subject.REAL_SERVER, "rs1", False), (Subject.VIRTUAL_SERVER, "", False)]
    commands = core.handle(0, UP1)
    assert changes(commands) == [("rs1", 1), (SORRY_ID, None)]


def test_the_living_step_aside_when_the_quorum_is_lost() -> None:
    core, commands = started(virtual_server(real_server(1), real_server(2), sorry=True, quorum=2), DOWN1)
    assert changes(commands) == [(SORRY_ID, 1), ("rs1", None), ("rs2", None)]
    assert changes(core.handle(0, UP1)) == [("rs1", 1), ("rs2", 1), (SORRY_ID, None)]


def test_without_a_sorry_server_the_living_stay() -> None:
    core, commands = started(virtual_server(real_server(1), real_server(2), quorum=2), DOWN1)
    assert changes(commands) == [("rs1", None)]
    assert core.pool() == {"rs2": 1} and not core.has_quorum


def test_an_inhibited_sorry_server_stays_with_weight_0() -> None:
    core, _ = started(virtual_server(real_server(1), sorry_inhibit=True))
    assert core.pool() == {"rs1": 1, SORRY_ID: 0}
    assert changes(core.handle(0, DOWN1)) == [(SORRY_ID, 1), ("rs1", None)]


@pytest.mark.parametrize("quorum", [1, 2, 3, 5])
@pytest.mark.parametrize("hysteresis", [0, 1, 2, 4])
def test_hysteresis_holds_the_state_between_its_borders(quorum: int, hysteresis: int) -> None:
    """Every walk over weights 0..7: up only at quorum+hysteresis, down only below quorum-hysteresis or at 0."""
    if hysteresis >= quorum:
        hysteresis = quorum - 1
    for first, second in itertools.product(range(8), repeat=2):
        core, _ = started(virtual_server(real_server(1, weight=0), quorum=quorum, hysteresis=hysteresis))
        state = False
        for weight in (first, second):
            core.handle(0, WeightAdded("rs1", "C0", weight))
            if weight and weight >= quorum + hysteresis:
                state = True
            elif weight == 0 or weight < quorum - hysteresis:
                state = False
            assert core.has_quorum is state


def test_weight_0_drains_and_counts_nothing() -> None:
    core, _ = started(virtual_server(real_server(1), sorry=True), WeightAdded("rs1", "C0", -1))
    assert core.pool() == {SORRY_ID: 1}
    core, _ = started(virtual_server(real_server(1), real_server(2)), WeightAdded("rs1", "C0", -7))
    assert core.pool() == {"rs1": 0, "rs2": 1}


def test_several_adjustments_add_up() -> None:
    core, _ = started(virtual_server(real_server(1, weight=10, checkers=2)), WeightAdded("rs1", "C0", 5), WeightAdded("rs1", "C1", -3))
    assert core.pool() == {"rs1": 12}


def test_an_operator_drains_and_undrains() -> None:
    core, commands = started(virtual_server(real_server(1), real_server(2)), DrainRequested("rs1", True))
    assert changes(commands) == [("rs1", 0)]
    assert core.handle(0, DrainRequested("rs1", True)) == []
    assert changes(core.handle(0, DrainRequested("rs1", False))) == [("rs1", 1)]


def test_a_removal_delay_first_drains() -> None:
    core, commands = started(virtual_server(real_server(1, removal_delay_ns=5 * NS_PER_S), real_server(2)), DOWN1)
    assert changes(commands) == [("rs1", 0)]
    assert core.next_deadline() == 5 * NS_PER_S
    assert core.on_deadline(5 * NS_PER_S - 1) == []
    assert changes(core.on_deadline(5 * NS_PER_S)) == [("rs1", None)]
    assert core.next_deadline() is None
    core.handle(6 * NS_PER_S, UP1)
    core.handle(7 * NS_PER_S, DOWN1)
    assert changes(core.handle(8 * NS_PER_S, UP1)) == [("rs1", 1)]
    assert core.next_deadline() is None


def test_a_gated_service_is_programmed_only_while_master() -> None:
    core, commands = started(virtual_server(real_server(1), real_server(2), only_while_master="VI_1"))
    assert core.entries() == {} and changes(commands) == []
    core.handle(0, DOWN1)
    commands = core.handle(0, MasterChanged(True))
    assert commands[0] == ProgramServices(True, "VI_1 became MASTER")
    assert changes(commands) == [("rs2", 1)]
    assert core.handle(0, MasterChanged(False)) == [ProgramServices(False, "VI_1 left MASTER")]
    assert core.entries() == {}


def test_ha_suspend_stops_the_checks_and_leaves_the_pool_alone() -> None:
    core, commands = started(virtual_server(real_server(1), ha_suspend=True), AddressPresenceChanged(False))
    assert commands == [SuspendCheckers(True)]
    assert core.handle(0, AddressPresenceChanged(False)) == []
    assert core.pool() == {"rs1": 1}
    assert core.handle(0, AddressPresenceChanged(True)) == [SuspendCheckers(False)]
    core, commands = started(virtual_server(real_server(1)), AddressPresenceChanged(False))
    assert commands == []


def test_omega_tells_the_living_at_the_end_and_only_then() -> None:
    core, commands = started(virtual_server(real_server(1), real_server(2), omega=True), DOWN1, ShutdownRequested())
    assert notified(commands) == [(Subject.REAL_SERVER, "rs2", False), (Subject.VIRTUAL_SERVER, "", False)]
    assert commands[-1] == ProgramServices(False, "the daemon ends") and core.entries() == {}
    _, commands = started(virtual_server(real_server(1)), ShutdownRequested())
    assert notified(commands) == []


def test_mail_about_a_service_only_when_asked_for() -> None:
    _, commands = started(virtual_server(real_server(1, smtp_alert=False), smtp_alert=True), DOWN1)
    assert [c.subject for c in commands if isinstance(c, MailAlert)] == ["Virtualserver vs - DOWN"]
    _, commands = started(virtual_server(real_server(1, smtp_alert=False)), DOWN1)
    assert [c for c in commands if isinstance(c, MailAlert)] == []


def test_a_reload_keeps_what_is_known_of_unchanged_checkers() -> None:
    before, _ = started(virtual_server(real_server(1), real_server(2)), DOWN1, DrainRequested("rs2", True))
    after = VirtualServerCore(virtual_server(real_server(1, weight=5), real_server(2), real_server(3)))
    after.inherit(before)
    after.handle(0, Started())
    assert after.pool() == {"rs2": 0, "rs3": 1}
    alpha = VirtualServerCore(virtual_server(real_server(1, alpha=True), real_server(2)))
    alpha.inherit(started(virtual_server(real_server(1, alpha=True)), UP1)[0])
    assert alpha.real_servers["rs1"].alive


# ---- all rules at once ------------------------------------------------------------------------------------------------

SERVERS = st.lists(
    st.tuples(st.integers(0, 3), st.booleans(), st.booleans(), st.integers(1, 2), st.sampled_from([0, NS_PER_S])), min_size=1, max_size=4
)


@st.composite
def services(draw: st.DrawFn) -> VirtualServerSettings:
    reals: list[RealServerSettings] = []
    for number, (weight, inhibit, alpha, checkers, delay) in enumerate(draw(SERVERS), 1):
        reals.append(real_server(number, weight=weight, inhibit_on_failure=inhibit, alpha=alpha, checkers=checkers, removal_delay_ns=delay))
    quorum = draw(st.integers(1, 4))
    return dataclasses.replace(
        virtual_server(*reals, sorry=draw(st.booleans())),
        quorum=quorum,
        hysteresis=draw(st.integers(0, quorum - 1)),
        only_while_master=draw(st.sampled_from(["", "VI_1"])),
        ha_suspend=draw(st.booleans()),
    )


SERVER = st.sampled_from(["rs1", "rs2", "rs3", "rs4", "gone"])
CHECKER = st.sampled_from(["C0", "C1"])
EVENTS = st.one_of(
    st.builds(CheckerUp, SERVER, CHECKER),
    st.builds(CheckerDown, SERVER, CHECKER, st.just("x")),
    st.builds(WeightAdded, SERVER, CHECKER, st.integers(-3, 3)),
    st.builds(DrainRequested, SERVER, st.booleans()),
    st.builds(MasterChanged, st.booleans()),
    st.builds(AddressPresenceChanged, st.booleans()),
)


@settings(max_examples=300, deadline=None)
@given(services(), st.lists(st.tuples(st.integers(0, NS_PER_S), EVENTS), max_size=30))
def test_invariants_under_random_events(configured: VirtualServerSettings, events: list[tuple[int, Event]]) -> None:
    core = VirtualServerCore(configured)
    now = 0
    believed: dict[str, int] = {}
    programmed = False
    quorum_told: list[bool] = []
    for wait, event in [(0, Started()), *events]:
        now += wait
        had_quorum, weight_before = core.has_quorum, core.live_weight
        commands = [*core.on_deadline(now), *core.handle(now, event)]
        for command in commands:
            if isinstance(command, ProgramServices):
                programmed, believed = command.present, {}
            elif isinstance(command, SetDestination):
                assert programmed
                believed[command.server] = command.weight
            elif isinstance(command, RemoveDestination):
                del believed[command.server]
            elif isinstance(command, QuorumChanged):
                quorum_told.append(command.up)
        for entry in core.entries().values():
            assert len(entry.destinations) == len(believed)
        assert believed == (core.pool() if programmed else {})
        for identity, state in core.real_servers.items():
            weight = believed.get(identity)
            if weight is not None and not state.alive:
                assert weight == 0 and (state.settings.inhibit_on_failure or state.leaves_ns is not None)
        sorry_serves = believed.get(SORRY_ID, 0) > 0
        assert not (sorry_serves and core.has_quorum)
        assert not (sorry_serves and any(weight for server, weight in believed.items() if server != SORRY_ID))
        if programmed and not core.has_quorum and configured.sorry_server is not None:
            assert sorry_serves
        if core.has_quorum != had_quorum:
            border = configured.hysteresis if core.has_quorum else -configured.hysteresis
            if core.has_quorum:
                assert core.live_weight >= configured.quorum + border
            else:
                assert core.live_weight == 0 or core.live_weight < configured.quorum + border
            assert weight_before != core.live_weight or isinstance(event, Started)
    assert all(one != two for one, two in itertools.pairwise(quorum_told)), "a change that is none was told"


@settings(max_examples=200, deadline=None)
@given(services(), services(), st.lists(EVENTS, max_size=8), st.lists(EVENTS, max_size=8))
def test_the_difference_of_two_tables_turns_one_into_the_other(
    one: VirtualServerSettings, two: VirtualServerSettings, first: list[Event], second: list[Event]
) -> None:
    tables = []
    for configured, events in ((one, first), (two, second)):
        core, _ = started(dataclasses.replace(configured, listen=(VIP, dataclasses.replace(VIP, port=81 + len(events)))), *events)
        tables.append(core.entries())
    changes = diff(tables[1], tables[0])
    assert apply(tables[0], changes) == tables[1]
    assert diff(tables[1], tables[1]) == ()
