"""An incident outlives the run that opened it: its page is resolved by whichever run sees the end, and nobody is paged twice for it."""

from __future__ import annotations

import pytest

from tests.watchdog.judgement.lab import Lab, Node
from watchdog.config.model import Mode
from watchdog.judgement import commands as c
from watchdog.judgement import events as e


def a(lab: Lab) -> Node:
    return lab.nodes["a"]


def open_in_record(node: Node) -> tuple[e.OpenIncident, ...]:
    """What the recorder would restore."""
    found: dict[object, dict[str, object]] = {}
    for _, row in node.rows:
        if row.kind is c.RowKind.INCIDENT:
            fields = dict(row.fields)
            found[fields["id"]] = fields
    return tuple(
        e.OpenIncident(str(f["id"]), str(f["scope"]), str(f["verdict"]), str(f["summary"]), True)
        for f in found.values()
        if f["state"] != "closed"
    )


def split() -> Lab:
    """Mode observe, both own the group, a person was paged."""
    lab = Lab(Mode.OBSERVE)
    lab.run(10)
    lab.cut("adverts a>b", "adverts b>a")
    lab.run(10)
    assert open_in_record(a(lab))
    return lab


@pytest.mark.parametrize("healed_meanwhile", [False, True])
def test_the_next_run_resolves_the_page_of_the_last(healed_meanwhile: bool) -> None:
    lab = split()
    (left,) = open_in_record(a(lab))
    pages = len(a(lab).alerts())
    if healed_meanwhile:
        lab.heal()
    lab.restart_braind(a(lab), open_incidents=(left,))
    lab.run(15)
    if not healed_meanwhile:
        assert [i.id for i in open_in_record(a(lab))] == [left.id], "the same incident, not a second one"
        assert not a(lab).alerts("resolve")
        lab.heal()
        lab.run(20)
    assert not open_in_record(a(lab))
    assert len(a(lab).alerts()) == pages, "nobody is woken twice for one incident"
    (resolve,) = a(lab).alerts("resolve")
    assert str(resolve["dedup_key"]).endswith(left.id)


def test_what_is_not_watched_any_more_is_closed_and_of_two_the_newest_goes_on() -> None:
    lab = Lab(Mode.OBSERVE)
    lab.run(10)
    left = tuple(
        e.OpenIncident(name, scope, verdict, "left open", paged)
        for name, scope, verdict, paged in (
            ("I1-gone", "77/4", "SPLIT_BRAIN", True),
            ("I2-old", "pair", "PEER_DEAD", True),
            ("I3-silent", "pair", "A_WORD_OF_A_NEWER_VERSION", False),
        )
    )
    lab.restart_braind(a(lab), open_incidents=left)
    lab.run(0.1)
    status = a(lab).core.snapshot()
    assert isinstance(status, dict) and isinstance(status["incidents"], list)
    assert [i["id"] for i in status["incidents"] if isinstance(i, dict)] == ["I3-silent"]
    assert [str(r["incident"]) for r in a(lab).alerts("resolve")] == ["I1-gone", "I2-old"]
    lab.run(20)
    assert len(a(lab).alerts("resolve")) == 2, "nobody was told of the silent one"
