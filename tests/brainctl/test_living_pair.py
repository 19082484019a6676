"""The operator's commands against a living pair: braind beside Debian's keepalived on two nodes, in mode observe."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.watcher import Pair
from tests.listener import Listener

pytestmark = pytest.mark.system
BRAINCTL = [sys.executable, "-m", "brainctl.command"]
Json = dict[str, Any]


def brainctl(pair: Pair, role: str, *args: str, config: bool = False) -> subprocess.CompletedProcess[str]:
    home = pair.directory / role
    options = ["--run-dir", f"{home}/run", "--state-dir", f"{home}/state"]
    if config:
        options += ["--config", f"{home}/brain.toml", "--node", role]
    environment = {**os.environ, "NO_COLOR": "1"}
    argv = [*pair.lab.inside(role), *BRAINCTL, args[0], *args[1:], *options]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, env=environment, check=False)


def status(pair: Pair, role: str) -> Json:
    done = brainctl(pair, role, "status", "--json")
    assert done.stdout, done.stderr
    document: Json = json.loads(done.stdout)
    assert document["exit"] == done.returncode
    return document


def epoch(pair: Pair, role: str) -> int:
    """0 while braind starts or does not answer."""
    found: int = status(pair, role).get("status", {}).get("self", {}).get("epoch", 0)
    return found


def wait(pair: Pair, condition: Callable[[], bool], seconds: float) -> bool:
    for _ in range(int(seconds / 0.5)):
        if condition():
            return True
        pair.observer.run(0.5)
    return condition()


def restart_in_place(pair: Pair, role: str) -> None:
    process = pair.brain[role].process
    assert process is not None
    before = epoch(pair, role)
    process.send_signal(signal.SIGHUP)
    assert wait(pair, lambda: epoch(pair, role) > before, 30)


@pytest.fixture(scope="module")
def systemd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listener]:
    """What the daemons of the pair tell systemd."""
    path = tmp_path_factory.mktemp("systemd") / "notify"
    listener = Listener(path)
    ours = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "2000000"}
    os.environ.update(ours)
    yield listener
    for name in ours:
        del os.environ[name]
    listener.close()


@pytest.fixture(scope="module")
def pair(systemd: Listener) -> Iterator[Pair]:
    with Pair("keepalived") as made:
        yield made


def test_a_healthy_pair_is_ok_and_names_its_owner(pair: Pair) -> None:
    assert wait(pair, lambda: status(pair, "a")["exit"] == 0, 20), status(pair, "a")["problems"]
    document = status(pair, "b")
    (group,) = document["status"]["groups"]
    assert group["owners"] == ["a"]
    assert group["verdict"] == "HEALTHY"
    assert all(path["status"] == "hearing" for path in document["status"]["paths"])
    page = brainctl(pair, "a", "status", "--audit")
    assert page.returncode == 0
    assert "10.66.0.100" in page.stdout


def test_check_finds_no_error_and_gives_the_bounds(pair: Pair) -> None:
    done = brainctl(pair, "a", "check", "--json", config=True)
    findings = json.loads(done.stdout)
    assert findings["errors"] == 0
    assert done.returncode == 1  # nobody is told: no [[alert]]
    assert 0 < findings["bounds"]["detect_ms"] < 5_000


def test_the_journal_replays_byte_for_byte_and_a_changed_one_does_not(pair: Pair, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    assert brainctl(pair, "a", "replay", "--dump", str(journal), config=True).returncode == 0
    done = brainctl(pair, "a", "replay", str(journal), "--json", config=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["inputs"] > 50
    lines = journal.read_text().splitlines()
    for number in range(len(lines) - 1, 0, -1):
        entry = json.loads(lines[number])
        if entry["commands"]:
            entry["commands"] = []
            lines[number] = json.dumps(entry)
            break
    journal.write_text("\n".join(lines) + "\n")
    changed = brainctl(pair, "a", "replay", str(journal), "--json", config=True)
    assert changed.returncode == 1
    assert json.loads(changed.stdout)["line"] == number + 1


def test_maintenance_is_seen_and_ends(pair: Pair) -> None:
    assert brainctl(pair, "a", "maintenance", "on", "--for", "10m", "--why", "test").returncode == 0
    document = status(pair, "a")
    assert document["exit"] == 1
    assert document["status"]["maintenance_ms"] > 500_000
    assert brainctl(pair, "a", "maintenance", "off").returncode == 0
    assert wait(pair, lambda: status(pair, "a")["exit"] == 0, 10)


def test_a_reload_restarts_in_place_and_a_bad_file_changes_nothing(pair: Pair, systemd: Listener) -> None:
    process = pair.brain["b"].process
    assert process is not None
    assert {"READY=1", f"MAINPID={process.pid}", "WATCHDOG=1"} <= set(systemd.read())
    path = pair.directory / "b" / "brain.toml"
    good = path.read_text()
    before = status(pair, "b")
    path.write_text(good.replace('mode = "observe"', 'mode = "observ"'))
    process.send_signal(signal.SIGHUP)
    pair.observer.run(2)
    after_bad = status(pair, "b")
    assert after_bad["daemon"]["up_ms"] > before["daemon"]["up_ms"]
    assert after_bad["status"]["self"]["epoch"] == before["status"]["self"]["epoch"]
    assert "RELOADING=1" not in systemd.read()
    systemd.heard.clear()
    path.write_text(good.replace("settle_ms = 2000", "settle_ms = 2100"))
    process.send_signal(signal.SIGHUP)
    assert wait(pair, lambda: epoch(pair, "b") > before["status"]["self"]["epoch"], 30)
    assert [word for word in systemd.read() if word in ("RELOADING=1", "READY=1")] == ["RELOADING=1", "READY=1"]
    reloaded = status(pair, "b")
    assert reloaded["daemon"]["pid"] == process.pid == before["daemon"]["pid"]
    # The nodes now have different settings, which both say until the files are alike again.
    assert wait(pair, lambda: any("settings differ" in problem for problem in status(pair, "a")["problems"]), 20)
    path.write_text(good)
    process.send_signal(signal.SIGHUP)
    assert wait(pair, lambda: status(pair, "b")["exit"] == 0 and status(pair, "a")["exit"] == 0, 30), status(pair, "a")["problems"]


def test_a_signal_that_comes_while_it_restarts_waits_for_its_turn(pair: Pair) -> None:
    """Ever more signals while one reload is under way: they are dropped or obeyed, and none ends it."""
    process = pair.brain["b"].process
    assert process is not None
    before = epoch(pair, "b")
    assert before > 0
    for _ in range(30):
        process.send_signal(signal.SIGHUP)
        pair.observer.run(0.1)
        assert process.poll() is None
    assert wait(pair, lambda: epoch(pair, "b") > before, 30)
    assert wait(pair, lambda: status(pair, "b")["exit"] == 0 and status(pair, "a")["exit"] == 0, 30), status(pair, "a")["problems"]
    assert status(pair, "b")["daemon"]["pid"] == process.pid


def incidents(pair: Pair, role: str) -> list[tuple[str, str, str]]:
    """Every incident that was opened so far: id, scope, summary. (An older one may be closed while we look.)"""
    query = "SELECT DISTINCT incident, scope, summary FROM incidents WHERE state = 'open' ORDER BY id"
    with sqlite3.connect(pair.directory / role / "state/brain.db") as db:
        return [(incident, scope, summary) for incident, scope, summary in db.execute(query)]


def test_reloads_are_silence_at_the_peer(pair: Pair) -> None:
    """A reload is announced and takes no longer than a beat's patience: no path falls silent, nobody is paged (N8, S7)."""
    before = incidents(pair, "a"), incidents(pair, "b")
    process = pair.brain["b"].process
    assert process is not None
    for _ in range(4):
        number = epoch(pair, "b")
        process.send_signal(signal.SIGHUP)
        assert wait(pair, lambda number=number: epoch(pair, "b") > number, 10)  # type: ignore[misc]
        pair.observer.run(2.5)
    assert (incidents(pair, "a"), incidents(pair, "b")) == before
    paths = status(pair, "a")["status"]["paths"]
    gaps = {path["name"]: path["longest_gap_ms"] for path in paths if path["kind"] != "serial"}
    assert gaps and max(gaps.values()) < 1_000, gaps
    assert wait(pair, lambda: status(pair, "b")["exit"] == 0 and status(pair, "a")["exit"] == 0, 20), status(pair, "a")["problems"]


def test_no_text_in_brain_toml_ends_the_running_daemon(pair: Pair) -> None:
    """Every key of its own file in turn, left out or given what fits nowhere: SIGHUP is refused or obeyed, and braind goes on (A8, J20)."""
    process = pair.brain["b"].process
    assert process is not None
    path = pair.directory / "b" / "brain.toml"
    good = path.read_text()
    number = epoch(pair, "b")
    lines = good.splitlines(keepends=True)
    keys = [i for i, line in enumerate(lines) if re.match(r"\s*\w+ *=", line)]
    values = ["", "[" * 5_000 + "]" * 5_000, "9" * 4_301, '"a\\u0000"', "{ x = [[[]]] }"]
    texts = [
        "".join([*lines[:i], f"{lines[i].partition('=')[0]}= {value}\n" if value else "", *lines[i + 1 :]])
        for at, i in enumerate(keys)
        for value in values[at % len(values) :: len(values)]
    ]
    texts += ["[[path]]\n", "\x00", "a" + ".a" * 5_000 + " = 1\n", good + "[[path]]\nname = 'x'\n"]
    try:
        for text in texts:
            path.write_text(text)
            process.send_signal(signal.SIGHUP)
            pair.observer.run(0.15)
            assert process.poll() is None, text[:300]
    finally:
        path.write_text(good)
    pair.observer.run(1)
    process.send_signal(signal.SIGHUP)
    assert wait(pair, lambda: epoch(pair, "b") > number, 20)
    assert status(pair, "b")["daemon"]["pid"] == process.pid
    assert wait(pair, lambda: status(pair, "b")["exit"] == 0 and status(pair, "a")["exit"] == 0, 30), status(pair, "a")["problems"]


def test_a_split_is_critical_and_explained(pair: Pair) -> None:
    pair.lab.block_adverts()
    try:
        assert wait(pair, lambda: status(pair, "a")["exit"] == 2, 20)
        document = status(pair, "a")
        (group,) = document["status"]["groups"]
        assert sorted(group["owners"]) == ["a", "b"]
        assert group["verdict"] == "SPLIT_BRAIN"
        assert {e["kind"] for e in group["evidence"] if e["fresh"]} >= {"K1", "K4"}
        report = json.loads(brainctl(pair, "a", "explain", "--json").stdout)
        assert report["incident"]["verdict"] == "SPLIT_BRAIN"
        assert len({row["kind"] for row in report["evidence"]}) >= 2
        assert "verdict" in brainctl(pair, "a", "explain").stdout
        pair.observer.run(6)  # the seconds after the opening are captured too
        decoded = json.loads(brainctl(pair, "a", "explain", "--json", "--pcap").stdout)["decoded_packets"]
        assert any("VRRP" in line for line in decoded)
        assert any("ARP" in line and "10.66.0.100" in line for line in decoded)
        lines = [json.loads(line) for line in brainctl(pair, "a", "log", "--json", "--kind", "verdict").stdout.splitlines()]
        assert any("SPLIT_BRAIN (confirmed)" in line["text"] for line in lines)
        (incident,) = (i["id"] for i in status(pair, "a")["status"]["incidents"])
        assert brainctl(pair, "a", "ack", incident, "--note", "on my way").returncode == 0
        assert brainctl(pair, "a", "ack", "I9-nothing").returncode == 2
        restart_in_place(pair, "a")
        assert [i["id"] for i in status(pair, "a")["status"]["incidents"]] == [incident], "a restart makes no second incident of it"
    finally:
        pair.lab.nft("flush chain bridge bb flt")
    assert wait(pair, lambda: status(pair, "a")["exit"] == 0 and not status(pair, "a")["status"]["incidents"], 40)
    assert wait(pair, lambda: status(pair, "a")["record"]["open_incidents"] == 0, 10)
    ended = json.loads(brainctl(pair, "a", "explain", incident, "--json").stdout)
    assert [row["state"] for row in ended["history"]] == ["open", "closed"]
    assert [row["action"] for row in ended["alerts"]] == ["trigger", "resolve"]
    assert [row["detail"] for row in ended["actions"] if row["action"] == "operator:acknowledge"] == ["uid 0 on my way"]


def test_an_order_is_refused_with_its_reason_or_followed_to_its_end(pair: Pair) -> None:
    refused = brainctl(pair, "a", "fence", "off", "b", "--yes", "--json", config=True)
    assert refused.returncode == 2
    assert "no [[fence.level]]" in json.loads(refused.stdout)["error"]["message"]
    assert brainctl(pair, "a", "handover").returncode == 2, "mode observe"
    assert brainctl(pair, "a", "fence", "ack", "b", "--note", "seen", config=True).returncode == 2, "it is heard"
    switch = pair.directory / "a" / "switch"
    switch.write_text("#!/bin/sh\nexit 0\n")  # says done, and on when it is asked: it does nothing
    switch.chmod(0o755)
    path = pair.directory / "a" / "brain.toml"
    device = f'[[fence.level.device]]\nname = "deaf"\ntype = "exec"\ncommand = "{switch}"\n'
    path.write_text(path.read_text() + f'[fence]\nenabled = false\n[[fence.level]]\ntarget = "b"\nname = "one"\n{device}')
    restart_in_place(pair, "a")
    assert wait(pair, lambda: status(pair, "a")["status"]["runner_up"], 20)
    mistyped = brainctl(pair, "a", "fence", "off", "a", "--yes", "--json", config=True)
    assert mistyped.returncode == 2
    assert json.loads(mistyped.stdout)["error"]["message"].endswith("that is b")
    done = brainctl(pair, "a", "fence", "off", "b", "--yes", "--json", config=True)
    assert done.returncode == 2, done.stderr
    assert json.loads(done.stdout)["state"] == "refuted", "b is heard as before"


def test_without_the_daemon_only_the_record_speaks(pair: Pair) -> None:
    pair.brain["b"].kill()
    done = brainctl(pair, "b", "status", "--json")
    assert done.returncode == 3
    document = json.loads(done.stdout)
    assert any(v["scope"] == "pair" for v in document["last_verdicts"])
    text = brainctl(pair, "b", "status")
    assert text.returncode == 3
    assert "does not answer" in text.stdout


def test_a_drain_of_a_real_server_is_in_the_record(pair: Pair) -> None:
    """vrrpd's checker process beside braind: who took a server out, and why, is one question away."""
    home = pair.directory / "a"
    conf = home / "lvs.conf"
    conf.write_text("virtual_server 192.0.2.9 80 {\nlb_algo rr\nlb_kind NAT\nprotocol TCP\nreal_server 192.0.2.1 80\n}\n")
    argv = [*pair.lab.inside("a"), sys.executable, "-m", "vrrp.daemon", "-C", "-n", "-l", "-f", str(conf), "--run-dir", f"{home}/run"]
    vrrpd = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    try:
        assert wait(pair, lambda: (home / "run/vrrpd-lvs.sock").exists(), 30)
        done = brainctl(pair, "a", "lvs", "drain", "192.0.2.9", "192.0.2.1", "--why", "new disk")
        assert done.returncode == 0, done.stderr
        shown = json.loads(brainctl(pair, "a", "lvs", "--json").stdout)
        (server,) = shown["services"][0]["real_servers"]
        assert (server["drained"], server["note"], shown["exit"]) == (True, "new disk", 2), "weight 0 is no quorum"
        wanted = "lvs drain [192.0.2.9]:tcp:80 [192.0.2.1]:tcp:80"
        assert wait(pair, lambda: wanted in brainctl(pair, "a", "log", "--json").stdout, 15)
        assert brainctl(pair, "a", "lvs", "undrain", "192.0.2.9:80", "192.0.2.1:80").returncode == 0
        assert brainctl(pair, "a", "lvs", "drain", "192.0.2.9:80", "192.0.2.7").returncode == 3
        assert brainctl(pair, "a", "lvs", "drain", "192.0.2.9:80").returncode == 3
    finally:
        vrrpd.terminate()
        vrrpd.wait(20)
    silent = brainctl(pair, "a", "lvs", "--json")
    assert silent.returncode == 3 and json.loads(silent.stdout)["error"]["message"], "nobody answers"
