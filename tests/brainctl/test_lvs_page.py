"""``brainctl lvs`` as a person sees it: who serves, why the others do not, and which name is meant. No daemon, no kernel."""

from __future__ import annotations

from typing import Any

import pytest

from brainctl.lvs import Unclear, grade, pick, render
from tests.vrrp.lvs.services import real_server, virtual_server
from vrrp.lvs.ipvs.values import Counters, DestinationStatistics, ServiceStatistics
from vrrp.lvs.model.virtual_server import CheckerDown, DrainRequested, Event, Started, VirtualServerCore
from vrrp.lvs.status import service_status

NOW_NS = 10**15


def status(**more: Any) -> dict[str, Any]:
    """What the checker process says of itself."""
    quiet = {"now_ns": NOW_NS, "kernel_problem": "", "events": [], "pid": 77, "probes": 1234, "repairs": 0, "sync_daemons": []}
    return {**quiet, **more}


def service(*events: Event, drains: dict[tuple[str, str], str] | None = None, sorry: bool = False) -> dict[str, Any]:
    """Two servers after ``events``, the first with a connection."""
    configured = virtual_server(real_server(1), real_server(2), sorry=sorry)
    core = VirtualServerCore(configured)
    for event in (Started(), *events):
        core.handle(0, event)
    key = core.service_keys()[0]
    target = core.destination(configured.listen[0], "rs1")
    counters = Counters(connections=7, connections_per_s=3, bytes_in_per_s=4096)
    statistics = {key: ServiceStatistics(counters, {target: DestinationStatistics(counters, 5, 2)})}
    checkers = {"rs1": [{"id": "TCP_CHECK(a)", "up": True, "reason": "connected", "failures": 0}]}
    return service_status(core, checkers, drains or {}, statistics)


def page(*services: dict[str, Any], brief: bool = False, **more: Any) -> tuple[int, list[list[str]]]:
    """Exit status, and the words of each line."""
    said = status(**more)
    code, problems = grade(said, list(services))
    return code, [line.split() for line in render(said, list(services), code, problems, brief=brief).splitlines()]


def row(lines: list[list[str]], first: str) -> list[str]:
    return next(words for words in lines if words and words[0] == first)


def test_all_is_well() -> None:
    code, lines = page(service())
    assert code == 0
    assert lines[0][:8] == ["OK", "lvs:", "1", "services,", "2", "real", "servers,", "all"]
    assert row(lines, "rs1")[:11] == ["rs1", "in", "1", "5", "2", "7", "conns,", "3/s,", "4", "kB/s", "in"]
    assert row(lines, "TCP_CHECK(a)")[:3] == ["TCP_CHECK(a)", "passes", "connected"]
    assert page(service(), brief=True)[1] != lines


def test_a_dead_and_a_drained_server_say_why() -> None:
    down = CheckerDown("rs1", "C0", "connection refused")
    code, lines = page(service(down))
    assert code == 1
    assert row(lines, "rs1")[:3] == ["rs1", "down", "–"] and row(lines, "rs1")[-2:] == ["connection", "refused"]
    drained = service(DrainRequested("rs2", True), drains={(service()["id"], "rs2"): "new disk"})
    code, lines = page(drained)
    assert code == 1
    assert row(lines, "rs2")[:3] == ["rs2", "drained", "0"] and row(lines, "rs2")[-2:] == ["new", "disk"]


def test_a_lost_quorum_is_critical_and_the_sorry_server_has_its_row() -> None:
    dead = (CheckerDown("rs1", "C0", "refused"), CheckerDown("rs2", "C0", "refused"))
    code, lines = page(service(*dead, sorry=True))
    assert code == 2
    assert "quorum:" in lines[0] and "sorry" in lines[0]
    assert next(words for words in lines if words[-2:] == ["sorry", "server"])[1] == "in"
    waiting = page(service(sorry=True))[1]
    assert next(words for words in waiting if words[-2:] == ["sorry", "server"])[1] == "waits"


def test_the_kernel_and_other_peoples_hands_are_problems() -> None:
    assert page(service(), kernel_problem="this kernel has no IPVS")[0] == 2
    event = {"event": "repaired", "at_ns": NOW_NS - 60 * 10**9, "count": 1, "changes": ["AddService 192.0.2.9:80 tcp"]}
    code, lines = page(service(), events=[event])
    assert code == 1 and "AddService" in lines[0]
    assert page(service(), events=[{**event, "at_ns": NOW_NS - 2 * 3600 * 10**9}])[0] == 0, "long ago"


NAMES = ["[192.0.2.1]:tcp:80", "[192.0.2.1]:tcp:443", "[2001:db8::1]:udp:53", "FWM 5", "shop"]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("[192.0.2.1]:tcp:80", 0),
        ("192.0.2.1:443", 1),
        ("192.0.2.1:80/tcp", 0),
        ("2001:db8::1", 2),
        ("[2001:db8::1]:53", 2),
        ("FWM 5", 3),
        ("shop", 4),
    ],
)
def test_a_name_as_people_write_it(word: str, meant: int) -> None:
    assert pick(word, NAMES, "service") == NAMES[meant]


@pytest.mark.parametrize("word", ["192.0.2.1", "192.0.2.9", "sho"])
def test_a_name_that_is_not_clear_changes_nothing(word: str) -> None:
    with pytest.raises(Unclear):
        pick(word, NAMES, "service")
