"""No text in the database or in the file of the last run ends a daemon: what cannot be meant is damage, and said."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlite_utils import Database

from watchdog.durable import MAX_INCARNATION, read_last_run
from watchdog.record.restore import node_facts, read_restored
from watchdog.record.store import Store

NASTY = ["", "null", "[" * 5_000, "9" * 5_000, "-1", '"x"', "{}", '{"incarnation": 1e400}', '{"incarnation": true}', "nan", "\x00"]


@pytest.mark.parametrize("text", [*NASTY, '{"incarnation": 99999999999, "boot_id": "b", "clean_end": true}'])
def test_a_strange_file_of_the_last_run_is_set_aside(text: str, tmp_path: Path) -> None:
    (tmp_path / "incarnation").write_text(text)
    run, damage = read_last_run(str(tmp_path))
    assert run.incarnation == 0 and not run.clean_end
    assert "damaged" in damage and (tmp_path / "incarnation.damaged").exists()


@pytest.mark.parametrize("key", ["run", "latch", "quarantine", "seen_peer", "clean_stop", "maintenance", "acknowledged", "handover"])
def test_strange_facts_are_read_as_what_they_can_be(key: str, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "brain.db"))
    store.open()
    assert store.db is not None
    for number, text in enumerate([*NASTY, '{"incarnation": 99999999999}', "[[[1]]]", '{"until_wall_ns": 1e999, "boot": 3}']):
        _insert(store.db, key, text, number)
        assert key in node_facts(store.db)
        restored = read_restored(store.db, asked_incarnation=1, boot="b", wall_ns=10**18)
        assert 0 < restored.incarnation < MAX_INCARNATION
        assert type(restored).from_message(restored.to_message()["restored"]) == restored
    store.close()


def _insert(db: Database, key: str, text: str, number: int) -> None:
    stamp = {"node": "A", "boot": "b", "incarnation": 1, "wall_ns": number, "boottime_ns": number, "extra": "{}"}
    columns = {c.name for c in db["node_facts"].columns}
    row = {name: value for name, value in {**stamp, "key": key, "value": text}.items() if name in columns}
    db["node_facts"].insert(row)
