"""The picture of an incident: lanes, a shortened axis, text for the terminal, SVG for a report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from brainctl.timeline import LABEL_WIDTH, Axis, draw_svg, draw_text, lanes
from watchdog.record.queries import IncidentReport, open_record
from watchdog.record.rows import Stamp, table_row
from watchdog.record.store import Store

ROOT = Path(__file__).resolve().parents[2]
T0 = 1_790_000_000_000_000_000
SECOND = 10**9
HOUR_S = 3600.0
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record of a split that was fenced by the second level and closed an hour later."""
    directory = tmp_path_factory.mktemp("state")
    store = Store(str(directory / "brain.db"))
    store.open()
    verdict = {"scope": "51/4", "verdict": "SPLIT_BRAIN", "reason": "two <kinds> & more", "evidence": ["e1"]}
    incident = {"id": "I1-ab", "scope": "51/4", "verdict": "SPLIT_BRAIN", "summary": "two owners"}
    fence = {"order_id": "o1", "incident": "I1-ab", "target": "B"}
    rows: list[tuple[float, str, dict[str, object]]] = [
        (-600, "evidence", {"id": "e1", "kind": "K1", "subject": "51/4", "detail": "our kernel holds it"}),
        (-1, "verdict", {**verdict, "id": "v1", "stage": "suspected"}),
        (0, "verdict", {**verdict, "id": "v2", "stage": "confirmed", "incident": "I1-ab"}),
        (0, "incident", {**incident, "state": "open"}),
        (0, "alert", {"dedup_key": "k", "incident": "I1-ab", "severity": "critical", "action": "trigger", "summary": "two owners"}),
        (1, "action", {"id": "a1", "incident": "I1-ab", "action": "yield", "subject": "B", "outcome": "no answer"}),
        (2, "fence", {**fence, "level": 1, "state": "requested"}),
        (3, "fence", {**fence, "level": 1, "state": "refuted", "detail": "heard"}),
        (3, "fence", {**fence, "level": 2, "state": "requested"}),
        (4, "fence", {**fence, "level": 2, "state": "proved"}),
        (4, "fence", {**fence, "level": 0, "state": "proved"}),
        (HOUR_S, "incident", {**incident, "state": "closed"}),
    ]
    for at_s, kind, fields in rows:
        stamp = Stamp("A", "boot", 1, T0 + int(at_s * SECOND), int((at_s + 1000) * SECOND))
        store.write([table_row(kind, fields, stamp)])  # type: ignore[arg-type]
    store.close()
    return directory


@pytest.fixture(scope="module")
def report(state_dir: Path) -> IncidentReport:
    with open_record(str(state_dir / "brain.db")) as record:
        found = record.incident("I1-ab")
    assert found is not None
    return found


def explain(state_dir: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    argv = [sys.executable, "-m", "brainctl.command", "explain", "--state-dir", str(state_dir), *options]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, env=environment, check=False)


def test_every_thing_has_its_lane_and_states_last_until_the_next(report: IncidentReport) -> None:
    picture = {lane.name: lane for lane in lanes(report)}
    assert list(picture) == ["verdict 51/4", "incident", "fence B level 1", "fence B level 2", "evidence", "action", "alert"]
    suspected, confirmed = picture["verdict 51/4"].spans
    assert (suspected.begin_ns - T0, suspected.end_ns - T0, suspected.faint) == (-SECOND, 0, True)
    assert confirmed.begin_ns == T0 and not confirmed.faint
    (opened,) = picture["incident"].spans
    assert (opened.begin_ns, opened.end_ns) == (T0, T0 + int(HOUR_S) * SECOND)
    assert [span.label for span in picture["fence B level 2"].spans] == ["requested", "proved"]


def test_a_long_pause_is_shortened_and_old_evidence_stands_at_the_edge(report: IncidentReport) -> None:
    axis = Axis(lanes(report))
    assert axis.begin_ns == T0 - SECOND, "what was true ten minutes before does not stretch the picture"
    assert axis.place(T0 - 600 * SECOND) == 0.0
    places = [axis.place(T0 + int(s * SECOND)) for s in (-1, 0, 1, 2, 3, 4, HOUR_S)]
    assert places == sorted(places)
    assert places[5] - places[0] > 0.3, "five seconds beside an hour are still to be seen"
    assert (T0 + 4 * SECOND, T0 + int(HOUR_S) * SECOND) in axis.cuts


@pytest.mark.parametrize("columns", [60, 100, 160])
def test_the_text_fits_its_columns(report: IncidentReport, columns: int) -> None:
    lines = draw_text(report, columns)
    assert max(len(line) for line in lines) <= columns
    row = next(line for line in lines if line.strip().startswith("fence B level 2"))
    assert {"░", "█"} <= set(row[LABEL_WIDTH:])
    assert any("//" in line for line in lines)


def test_the_svg_is_well_formed_and_tells_everything(report: IncidentReport) -> None:
    root = ElementTree.fromstring(draw_svg(report))
    words = " ".join(node.text or "" for node in root.iter() if node.tag in (f"{SVG}text", f"{SVG}title"))
    for wanted in ("I1-ab", "two <kinds> & more", "proved: +4.0 s", "yield B no answer", "+1 h"):
        assert wanted in words
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for node in root.iter(f"{SVG}text"):
        assert 0 <= float(node.attrib["x"]) <= width and 0 <= float(node.attrib["y"]) <= height


def test_explain_draws_and_writes_it(state_dir: Path, tmp_path: Path) -> None:
    done = explain(state_dir, "--svg", str(tmp_path / "i.svg"))
    assert done.returncode == 0, done.stderr
    assert "SPLIT_BRAIN confirmed" in done.stdout and "lasted 1 h" in done.stdout and "\x1b[" not in done.stdout
    assert ElementTree.parse(tmp_path / "i.svg").getroot().tag == f"{SVG}svg"


@pytest.mark.parametrize("option", ["--svg", "--write-pcap"])
def test_a_file_that_cannot_be_written_is_named(state_dir: Path, option: str) -> None:
    done = explain(state_dir, option, "/nonexistent/file", "--json")
    assert done.returncode == 3
    assert "/nonexistent/file" in json.loads(done.stdout)["error"]["message"]
    assert not done.stderr


def test_an_unknown_incident_is_an_error_for_programs_too(state_dir: Path) -> None:
    done = explain(state_dir, "nosuch", "--json")
    assert done.returncode == 2
    assert "nosuch" in json.loads(done.stdout)["error"]["message"]
