"""brain.toml: a good file in full, and every error with its line and remedy in one run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.diagnostics import ConfigError
from watchdog.config.load import parse_brain
from watchdog.config.model import Mode, PathKind, WitnessKind

GOOD = """\
version = 1
[cluster]
name = "web"
key_file = "/etc/brainctl/cluster.key"
[node.A]
rank = 1
addresses = ["10.0.0.1"]
[node.B]
rank = 2
[policy]
mode = "resolve"
confirm_ms = 800
[gate]
daemon = "vrrpd"
[[path]]
name = "lan"
type = "ethernet"
interface = "eth0"
[[path]]
name = "hb"
type = "unicast"
interface = { A = "eth1", B = "ens4" }
address = { A = "10.9.0.1", B = "10.9.0.2" }
[[path]]
type = "serial"
device = "/dev/ttyS0"
[[reference]]
address = "10.0.0.254"
interface = "eth0"
[fence]
enabled = true
delay_ms = 30000
[[fence.level]]
target = "B"
name = "power"
[[fence.level.device]]
type = "agent"
agent = "fence_ipmilan"
lanplus = true
password_secret = "file:/etc/brainctl/ipmi"
[[fence.level]]
target = "B"
[[fence.level.device]]
type = "ssh"
host = "10.9.0.2"
[[alert]]
type = "email"
to = ["a@example.com", "b@example.com"]
"""


def test_a_good_file_becomes_typed_settings() -> None:
    loaded = parse_brain(GOOD, "brain.toml", "A")
    brain = loaded.settings
    assert brain.me.name == "A"
    assert brain.peer.rank == 2
    assert brain.policy.mode is Mode.RESOLVE
    assert brain.policy.confirm_ms == 800
    assert [p.kind for p in brain.paths] == [PathKind.ETHERNET, PathKind.UNICAST, PathKind.SERIAL]
    assert brain.paths[1].interface.of("B") == "ens4"
    assert brain.paths[2].name == "serial"
    assert [level.name for level in brain.fence.levels_for("B")] == ["power", "level2"]
    assert dict(brain.fence.levels_for("B")[0].devices[0].parameters)["lanplus"] == "1"
    assert dict(brain.alerts[0].parameters)["to"] == "a@example.com,b@example.com"
    assert loaded.diagnostics == ()


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("version = 1", "version = 2", 1, "version must be 1"),
        ('mode = "resolve"', 'mode = "resolv"', 11, "did you mean 'resolve'"),
        ("confirm_ms = 800", "confirm_mss = 800", 12, "did you mean 'confirm_ms'"),
        ("confirm_ms = 800", 'confirm_ms = "800"', 12, "whole number"),
        ("confirm_ms = 800", "confirm_ms = true", 12, "whole number"),
        ("rank = 2", "rank = 1", 9, "same rank"),
        ('"10.9.0.2" }', '"10.9.0.299" }', 23, "not an IP address"),
        ('ens4" }', 'ens4", C = "x" }', 22, "not a node"),
        ('device = "/dev/ttyS0"', "", 24, "device is missing"),
        ('password_secret = "file:/etc/brainctl/ipmi"', 'password = "hunter2"', 40, "put a secret into this file"),
        ('type = "email"', 'type = "emial"', 47, "did you mean 'email'"),
        ('target = "B"\nname', 'target = "Q"\nname', 34, "'Q' is not known"),
    ],
)
def test_an_error_names_its_line_and_a_remedy(old: str, new: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_brain(GOOD.replace(old, new, 1), "brain.toml", "A")
    assert "hunter2" not in str(refused.value)
    (diagnostic,) = [d for d in refused.value.diagnostics if d.severity.value == "error"]
    assert words in str(diagnostic)
    assert diagnostic.position.line == line
    assert diagnostic.remedy


def test_all_errors_come_in_one_run() -> None:
    text = GOOD.replace("rank = 2", "rank = 9").replace("800", "-1").replace('"unicast"', '"uniast"')
    with pytest.raises(ConfigError) as refused:
        parse_brain(text, "brain.toml", "Z")
    assert len(refused.value.diagnostics) >= 4


def test_weak_set_ups_are_accepted_with_a_warning() -> None:
    text = 'version = 1\n[cluster]\nname = "x"\n[node.A]\n[node.B]\n[[path]]\ntype = "ethernet"\ninterface = "eth0"\n'
    warnings = [str(d) for d in parse_brain(text, "f", "A").diagnostics]
    assert any("one medium" in w for w in warnings)
    assert any("[[reference]]" in w for w in warnings)
    assert any("nobody will be told" in w for w in warnings)


@given(st.text(max_size=300))
def test_any_text_is_accepted_or_refused_with_diagnostics(text: str) -> None:
    try:
        parse_brain(text, "f", "A")
    except ConfigError as error:
        assert error.diagnostics


@given(st.integers(0, len(GOOD) - 1), st.sampled_from(['"', "]", "[", "=", "\n", "9", "\x00", "{"]))
def test_one_damaged_character_never_crashes_the_reader(at: int, character: str) -> None:
    try:
        parse_brain(GOOD[:at] + character + GOOD[at + 1 :], "f", "A")
    except ConfigError as error:
        assert all(d.message for d in error.diagnostics)


@pytest.mark.parametrize(("text", "line", "column"), [("version = = 1\n", 1, 11), ("version = 1\nx = [", 2, 6), ('a = """', 1, 8)])
def test_a_mistake_of_syntax_is_named_with_its_place(text: str, line: int, column: int) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_brain(text, "brain.toml")
    (finding,) = caught.value.diagnostics
    assert (finding.position.line, finding.position.column) == (line, column)


# --- [witness] ---

ETCD = """\
[witness]
type = "etcd"
endpoints = ["https://e1:2379", "https://e2:2379/", "https://[fd00::3]:2379"]
ca_file = "/etc/brainctl/etcd-ca.pem"
user = "brainctl"
password_secret = "file:/etc/brainctl/etcd"
lease_ms = 45000
"""
DISK = """\
[witness]
type = "disk"
device = { A = "/dev/disk/by-id/wwn-1", B = "/dev/mapper/quorum" }
"""


def test_an_etcd_witness_becomes_typed_settings() -> None:
    witness = parse_brain(GOOD + ETCD, "brain.toml", "A").settings.witness
    assert witness is not None
    assert witness.kind is WitnessKind.ETCD
    assert witness.endpoints == ("https://e1:2379", "https://e2:2379", "https://[fd00::3]:2379")
    assert (witness.user, witness.password_secret, witness.lease_ms) == ("brainctl", "file:/etc/brainctl/etcd", 45_000)


def test_a_disk_witness_has_a_device_on_each_node() -> None:
    witness = parse_brain(GOOD + DISK, "brain.toml", "B").settings.witness
    assert witness is not None
    assert witness.kind is WitnessKind.DISK
    assert witness.device.of("B") == "/dev/mapper/quorum"
    assert parse_brain(GOOD, "brain.toml", "A").settings.witness is None


@pytest.mark.parametrize(
    ("before", "after", "line", "words"),
    [
        ('type = "etcd"', 'type = "ectd"', 2, "did you mean 'etcd'"),
        ('"https://e1:2379"', '"e1:2379"', 3, "no URL of an etcd member"),
        ('"https://e1:2379"', '"http://e1:2379"', 3, "some endpoints are encrypted"),
        ('"https://e1:2379"', '"https://u:p@e1:2379"', 3, "no URL of an etcd member"),
        ('"https://e1:2379"', '"https://e1:99999999"', 3, "no URL of an etcd member"),
        ("/etc/brainctl/etcd-ca.pem", "etcd-ca.pem", 4, "absolute path"),
        ("password_secret", "password", 6, "would put a secret into this file"),
        ("lease_ms = 45000", "lease_ms = 45500", 7, "write lease_ms = 46000"),
        ("lease_ms = 45000", "silent_after_ms = 1500", 7, "≥ 2 × poll_ms = 2000"),
        ("lease_ms = 45000", 'device = "/dev/sdq"', 7, "unknown key 'device'"),
    ],
)
def test_a_wrong_witness_is_named_with_line_and_remedy(before: str, after: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_brain(GOOD + ETCD.replace(before, after), "brain.toml", "A")
    first = GOOD.count("\n")
    found = [d for d in error.value.diagnostics if d.position.line == first + line]
    assert any(words in f"{d.message}; {d.remedy}" for d in found), [str(d) for d in error.value.diagnostics]


@pytest.mark.parametrize("text", ["witness = 3\n", "[[witness]]\n", "[witness]\n", '[witness]\ntype = "disk"\n', "[witness]\ntype = 5\n"])
def test_half_a_witness_is_an_error_and_no_crash(text: str) -> None:
    whole = text + GOOD if text.startswith("witness") else GOOD + text
    with pytest.raises(ConfigError):
        parse_brain(whole, "brain.toml", "A")
