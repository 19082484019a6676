"""brainctl witness and what check says of [witness], on a real disk file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from brainctl.check_witness import check_witness
from brainctl.command import main
from tests.watchdog.config.test_load import GOOD
from watchdog.config.load import parse_brain


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "key").write_bytes(b"k" * 32)
    (tmp_path / "key").chmod(0o600)
    text = GOOD.replace("/etc/brainctl/cluster.key", str(tmp_path / "key"))
    path = tmp_path / "brain.toml"
    path.write_text(text + f'[witness]\ntype = "disk"\ndevice = "{tmp_path / "quorum"}"\n')
    return path


def witness(config: Path, *args: str) -> int:
    return main(["witness", *args, "--config", str(config), "--node", "A"])


def test_a_disk_is_formatted_and_looked_at(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert witness(config, "look") == 2
    assert "No such file" in capsys.readouterr().out
    assert witness(config, "format") == 3
    assert "--yes" in capsys.readouterr().err
    assert not (config.parent / "quorum").exists()
    assert witness(config, "format", "--yes") == 0
    capsys.readouterr()
    assert witness(config, "look", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["answers"], answer["kind"], answer["holder"]) == (True, "disk", "")


def test_without_a_witness_it_says_so(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text().partition("[witness]")[0])
    assert witness(config, "look") == 3
    assert "no [witness]" in capsys.readouterr().err


def test_check_names_a_turn_that_is_too_short_and_a_witness_that_does_not_answer(config: Path) -> None:
    text = config.read_text()
    found = list(check_witness(parse_brain(text, str(config), "A")))
    assert [d.severity.value for d in found] == ["error"]
    assert "does not answer this node" in found[0].message
    assert witness(config, "format", "--yes") == 0
    assert list(check_witness(parse_brain(text, str(config), "A"))) == []
    short = list(check_witness(parse_brain(text + "lease_ms = 20000\n", str(config), "A")))
    assert [d.position.line for d in short] == [text.count("\n") + 1]
    assert short[0].remedy == "write lease_ms = 27000 on both nodes"
    idle = list(check_witness(parse_brain(text.replace("enabled = true", "enabled = false"), str(config), "A")))
    assert [d.severity.value for d in idle] == ["warning"]
