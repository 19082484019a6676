"""brainctl init from a keepalived.conf, and what wrong usage says."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from watchdog.config.load import load_brain
from watchdog.config.model import Mode, PathKind

LINK = "ip link add eth0 type dummy 2>/dev/null || ip link add eth0 type veth peer name eth9"
ROOT = Path(__file__).resolve().parents[2]
CONNECT = """
import sys
sys.path.insert(0, ".")
from base.control import ControlClient
from brainctl.options import no_daemon
try:
    ControlClient(sys.argv[1])
except OSError as error:
    print(*no_daemon(sys.argv[1], error))
"""
KEEPALIVED = """\
global_defs {
    router_id web
}
vrrp_instance VI_1 {
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority 150
    advert_int 1
    virtual_ipaddress {
        192.0.2.100/24
    }
}
"""


def brainctl(*args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "brainctl.command", *args], capture_output=True, text=True, timeout=60, env=environment, check=False
    )


def init(tmp_path: Path, *extra: str) -> subprocess.CompletedProcess[str]:
    source = tmp_path / "keepalived.conf"
    source.write_text(KEEPALIVED)
    return brainctl(
        "init", "--from", str(source), "--out", str(tmp_path / "out"), "--node", "web-a", "--peer", "web-b",
        "--heartbeat", "eth1=10.9.0.1,10.9.0.2", "--serial", "/dev/ttyS0", "--reference", "192.0.2.1", "--mode", "resolve", *extra,
    )  # fmt: skip


def test_init_writes_a_file_that_the_loader_accepts(tmp_path: Path) -> None:
    done = init(tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    brain = load_brain(str(out / "brain.toml"), "web-b").settings
    assert brain.policy.mode is Mode.RESOLVE
    assert [p.kind for p in brain.paths] == [PathKind.ETHERNET, PathKind.UNICAST, PathKind.SERIAL]
    assert brain.paths[1].address.of("web-b") == "10.9.0.2"
    assert brain.references[0].address == "192.0.2.1"
    key = out / "cluster.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(key.read_text().strip()) == 64
    assert "hold-51" in (out / "keepalived-stanza.conf").read_text()
    assert "10.9.0.1" in (out / "firewall-web-b.nft").read_text()


@pytest.mark.parametrize("daemon", ["keepalived", "vrrpd"])
def test_init_writes_units_whose_programs_exist(tmp_path: Path, daemon: str) -> None:
    assert init(tmp_path, "--daemon", daemon, "--mode", "strict").returncode == 0
    out = tmp_path / "out"
    units = sorted(path.name for path in out.glob("*.service"))
    assert units == (["braind.service"] if daemon == "keepalived" else ["braind.service", "vrrpd.service"])
    for name in units:
        commands = [line.partition("=")[2].split() for line in (out / name).read_text().splitlines() if line.startswith("ExecStart")]
        assert commands
        for argv in commands:
            assert os.access(argv[0], os.X_OK), argv[0]
            needed = (Path(argv[0]), Path(sys.executable).resolve())
            in_a_home = any(path.is_relative_to(home) for path in needed for home in ("/home", "/root", "/run/user"))
            assert ("ProtectHome=read-only" if in_a_home else "ProtectHome=yes") in (out / name).read_text().splitlines()
    assert f"--config {out}/brain.toml" in (out / "braind.service").read_text()
    if daemon == "vrrpd":
        assert f"--gate closed -f {tmp_path}/keepalived.conf" in (out / "vrrpd.service").read_text()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--heartbeat", "eth1=10.9.0.1,web-b"], "web-b"),
        (["--heartbeat", "eth1"], "IFACE=OWN_IP"),
        (["--reference", "gateway"], "gateway"),
        (["--peer", "web-a"], "--peer"),
        (["--out", "/proc/nowhere"], "/proc/nowhere"),
        (["--from", "/nonexistent"], "/nonexistent"),
    ],
)
def test_what_init_cannot_use_is_named_and_nothing_is_written(tmp_path: Path, options: list[str], word: str) -> None:
    done = init(tmp_path, *options)
    assert done.returncode == 2
    assert word in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    assert word in json.loads(init(tmp_path, *options, "--json").stdout)["error"]["message"]


def test_a_second_init_overwrites_nothing_and_never_the_key(tmp_path: Path) -> None:
    assert init(tmp_path).returncode == 0
    out = tmp_path / "out"
    key = (out / "cluster.key").read_text()
    (out / "brain.toml").write_text("precious")
    assert init(tmp_path).returncode == 2
    assert (out / "brain.toml").read_text() == "precious"
    assert init(tmp_path, "--force").returncode == 0
    assert (out / "brain.toml").read_text() != "precious"
    assert (out / "cluster.key").read_text() == key


def test_the_generated_stanza_is_accepted_by_keepalived_and_satisfies_check(tmp_path: Path) -> None:
    from brainctl.check import check_gate_and_groups
    from brainctl.stanza import instance_lines, track_file_blocks
    from watchdog.config.model import GateSettings, GroupKey

    assert init(tmp_path).returncode == 0
    for mode in (Mode.RESOLVE, Mode.STRICT):
        stanza = track_file_blocks([GroupKey(51, 4)], mode, GateSettings())
        text = KEEPALIVED.replace("vrrp_instance", stanza + "vrrp_instance", 1).replace(
            "    virtual_ipaddress", instance_lines(GroupKey(51, 4)) + "    virtual_ipaddress"
        )
        conf = tmp_path / f"keepalived-{mode.value}.conf"
        conf.write_text(text)
        argv = [
            "unshare",
            "-n",
            "sh",
            "-c",
            f"{LINK}; ip link set eth0 up; exec keepalived -t -f {conf}",
        ]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        brain = tmp_path / "out/brain.toml"
        toml = brain.read_text()
        changed = toml.replace(str(tmp_path / "keepalived.conf"), str(conf)).replace('mode = "resolve"', f'mode = "{mode.value}"')
        (tmp_path / "brain.toml").write_text(changed)
        loaded = load_brain(str(tmp_path / "brain.toml"), "web-a")
        assert not [d for d in check_gate_and_groups(loaded) if "does not track" in d.message]


def test_check_names_every_mistake_with_its_line(tmp_path: Path) -> None:
    assert init(tmp_path).returncode == 0
    path = tmp_path / "out/brain.toml"
    path.write_text(path.read_text().replace('mode = "resolve"', 'mode = "resolvee"').replace("rank = 2", "rank = 1"))
    done = brainctl("check", "--config", str(path), "--node", "web-a", "--json")
    assert done.returncode == 2
    findings = json.loads(done.stdout)["findings"]
    assert len([f for f in findings if f["severity"] == "error"]) == 2
    assert all(f["line"] > 0 and f["remedy"] for f in findings if f["severity"] == "error")


def test_status_without_a_daemon_is_unknown_and_one_sentence(tmp_path: Path) -> None:
    done = brainctl("status", "--run-dir", str(tmp_path), "--state-dir", str(tmp_path))
    assert done.returncode == 3
    assert "braind does not answer" in done.stdout
    as_json = brainctl("status", "--json", "--run-dir", str(tmp_path), "--state-dir", str(tmp_path))
    assert as_json.returncode == 3
    assert json.loads(as_json.stdout)["word"] == "UNKNOWN"


@pytest.mark.parametrize("command", ["log", "explain", "maintenance on", "fence off b --yes", "ack I1", "handover", "replay --dump x"])
def test_what_cannot_be_done_is_an_object_for_programs(tmp_path: Path, command: str) -> None:
    (tmp_path / "brain.toml").write_text("")
    options = ["--config", str(tmp_path / "brain.toml")] if command.startswith(("fence", "replay")) else []
    done = brainctl(*command.split(), *options, "--run-dir", str(tmp_path), "--state-dir", str(tmp_path), "--json")
    assert done.returncode == 3
    error = json.loads(done.stdout)["error"]
    assert error["message"] and error["remedy"]


def test_a_user_who_may_not_ask_is_told_so() -> None:
    """Being refused is not being dead: systemctl status would show a healthy daemon."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as server:
        os.chmod(directory, 0o755)
        path = f"{directory}/braind.sock"
        server.bind(path)
        server.listen(1)
        os.chmod(path, 0o660)
        argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", CONNECT, path]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert "group brainctl" in done.stdout, done.stderr


def test_wrong_usage_is_unknown_not_critical() -> None:
    for args in (["status", "--nonsense"], ["nonsense"], []):
        assert brainctl(*args).returncode == 3
    assert brainctl("--help").returncode == 0


def test_every_subcommand_has_help() -> None:
    from brainctl.command import SUBCOMMANDS

    for name in SUBCOMMANDS:
        done = brainctl(name, "--help")
        assert done.returncode == 0, f"{name}: {done.stderr}"
        assert "usage: brainctl " + name in done.stdout
