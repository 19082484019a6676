"""What `brainctl demo` plays, and how it is shared between two laboratories."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from brainctl.demo.command import Part, add_arguments, programme, second_laboratory
from brainctl.demo.setup import DAEMONS


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


def names(parts: list[Part]) -> list[tuple[str, str]]:
    return [(part.scenario.name, part.setup.mode) for part in parts]


@pytest.mark.parametrize("options", [(), ("--all",), ("--mode", "strict"), ("--scenario", "local-node")], ids=" ".join)
@pytest.mark.parametrize("daemon", DAEMONS)
def test_the_second_laboratory_plays_what_it_is_given_and_nothing_else(daemon: str, options: tuple[str, ...]) -> None:
    """It played every mode of its scenarios: the usual demo had more results than parts, took longer than it may, and failed."""
    args = parsed("--daemon", daemon, *options)
    beside = [part for part in programme(args) if part.scenario.beside]
    assert beside
    assert names(programme(parsed(*second_laboratory(args, beside, 1, Path("kept"))))) == names(beside)


def test_a_mode_may_be_named_with_its_scenario() -> None:
    parts = programme(parsed("--scenario", "hang:strict", "--scenario", "port-dead", "--scenario", "quiet:observe"))
    assert names(parts) == [("hang", "strict"), ("port-dead", "resolve"), ("port-dead", "strict"), ("quiet", "observe")]


def test_an_unknown_mode_is_named() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        programme(parsed("--scenario", "hang:nonsense"))
