"""The keyword tables are complete, consistent with the model, and what docs/COMPATIBILITY.md is made of."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from tests.vrrp.config.reading import findings, read
from vrrp.config.compatibility import DOCUMENT, document
from vrrp.config.keyword import Keyword, Status, Table
from vrrp.config.model.common import NO_NOTIFY, ScriptCommand
from vrrp.config.model.daemon import DEFAULT_DAEMON, DEFAULT_GLOBALS, SslSettings
from vrrp.config.model.instance import VrrpInstance
from vrrp.config.model.tracking import TrackFile, TrackProcess, VrrpScript
from vrrp.config.shown_by import shown_slots, slot_name
from vrrp.config.tables.catalogue import ALL_TABLES, SCRIPT_KEYWORDS, TOP_LEVEL_ONLY

SLOTS = [tuple(line.split("\t")) for line in (Path(__file__).parent / "keyword_slots.tsv").read_text().splitlines()]
"""Every block and keyword that keepalived 2.4 knows: taken from its documentation, not from our tables."""

COMMAND = ScriptCommand(("/bin/true",))
MODELS: dict[str, object] = {
    "(top level)": DEFAULT_DAEMON,
    "global_defs": DEFAULT_GLOBALS,
    "vrrp_instance": VrrpInstance("A", "eth0", 1),
    "vrrp_script": VrrpScript("s", COMMAND),
    "vrrp_track_process": TrackProcess("p", "x"),
    "track_file": TrackFile("f", "x"),
    "vrrp_track_file": TrackFile("f", "x"),
    "SSL": SslSettings(),
}
TAKEN_BY_HAND = {
    "garp_lower_prio_delay_ns",
    "garp_lower_prio_repeat",
    "authentication",
    "track_interface",
    "track_script",
    "track_file",
    "track_process",
    "track_bfd",
}


def test_every_keyword_of_keepalived_has_its_line() -> None:
    assert len(SLOTS) == len(set(SLOTS)) == 531
    assert {(table.name, keyword.name) for table in ALL_TABLES for keyword in table.keywords if not keyword.ours} == set(SLOTS)


def test_no_keyword_has_two_lines() -> None:
    for table in ALL_TABLES:
        assert len(table.names()) == len(set(table.names())), table.name


def _fields() -> list[tuple[str, str, object]]:
    return [
        (table.name, keyword.field, MODELS[table.name])
        for table in ALL_TABLES
        if table.name in MODELS
        for keyword in table.keywords
        if keyword.field and keyword.field not in TAKEN_BY_HAND
    ]


@pytest.mark.parametrize(("table", "path", "model"), _fields(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_field_of_a_table_is_in_the_model(table: str, path: str, model: object) -> None:
    for name in path.split("."):
        assert is_dataclass(model)
        assert name in {f.name for f in fields(model)}, f"{table}: {path}"
        model = getattr(model, name)
        model = NO_NOTIFY if model is None and name == "notify" else model


def test_the_compatibility_page_is_current() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "run: python -m vrrp.config.compatibility --write"


def _keywords() -> list[tuple[Table, Keyword]]:
    return [(table, keyword) for table in ALL_TABLES for keyword in table.keywords]


@pytest.mark.parametrize(("table", "keyword"), _keywords(), ids=lambda value: value.name)
def test_the_reader_knows_every_keyword_in_its_block(table: Table, keyword: Keyword, tmp_path: Path) -> None:
    """Bare, each keyword is either complete or misses a value or a block, but is never unknown."""
    path = [] if table.name == "(top level)" else table.name.split("/")
    text = keyword.name
    for block in reversed(path):
        text = f"{block} 10.0.0.1 80 {{\n{text}\n}}" if block in ("virtual_server", "real_server") else f"{block} X {{\n{text}\n}}"
    codes = {code for _, _, code in findings(read(tmp_path, text + "\n"))}
    assert "unknown-keyword" not in codes
    assert (keyword.status is Status.REFUSED) == ("refused" in codes)


def test_script_keywords_are_keywords() -> None:
    known = {keyword.name for table in ALL_TABLES for keyword in table.keywords}
    assert known >= SCRIPT_KEYWORDS


def test_what_proves_a_missing_brace() -> None:
    assert {"vrrp_instance", "vrrp_script", "global_defs", "virtual_server"} <= TOP_LEVEL_ONLY
    assert not {"track_file", "weight", "key"} & TOP_LEVEL_ONLY


def test_a_loss_is_only_claimed_for_what_has_no_effect() -> None:
    assert [keyword.name for _, keyword in _keywords() if keyword.loss and keyword.status is not Status.KEPT] == []


def test_every_implemented_keyword_is_shown_by_a_test() -> None:
    shown = shown_slots()
    missing = [
        slot_name(table, keyword)
        for table, keyword in _keywords()
        if keyword.status is Status.ACTS and slot_name(table, keyword) not in shown
    ]
    assert not missing, (
        f"implemented, but no test shows it: {missing}. Put @pytest.mark.shows({missing[0]!r}) on the test that fails when the keyword "
        "has no effect (write one if there is none), then run: python -m vrrp.config.compatibility --write"
    )


def test_what_tests_claim_to_show_exists_and_is_implemented() -> None:
    standing = {slot_name(table, keyword): keyword.status for table, keyword in _keywords()}
    wrong = {slot: tests for slot, tests in shown_slots().items() if standing.get(slot) not in (Status.ACTS, Status.REFUSED)}
    assert not wrong, f"no implemented keyword has this name (see docs/COMPATIBILITY.md: block/keyword): {wrong}"


def test_a_mark_belongs_to_the_test_below_it(tmp_path: Path) -> None:
    text = (
        "import pytest\nclass TestA:\n    @pytest.mark.shows('a', 'b/c')\n    def test_b(self): ...\npytestmark = pytest.mark.shows('d')\n"
    )
    (tmp_path / "test_x.py").write_text(text)
    (tmp_path / "test_y.py").write_text(text)
    name = "::TestA::test_b"
    both = [f"test_x.py{name}", f"test_y.py{name}"]
    assert shown_slots(tmp_path) == {"a": both, "b/c": both, "d": ["test_x.py", "test_y.py"]}
    (tmp_path / "test_z.py").write_text("import pytest\nSLOT = 'a'\npytestmark = pytest.mark.shows(SLOT)\n")
    with pytest.raises(ValueError, match=r"test_z\.py line 3"):
        shown_slots(tmp_path)
