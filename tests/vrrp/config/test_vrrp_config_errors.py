"""Every error names the line and the column that has to be changed, and says how."""

from __future__ import annotations

from pathlib import Path

import pytest

from base.diagnostics import ConfigError
from tests.vrrp.config.reading import INSTANCE, findings, only_error, read, read_instance
from vrrp.config.load import load_config, read_config

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.conf"))


@pytest.mark.parametrize(
    ("extra", "column", "code", "remedy"),
    [
        ("priorty 5", 5, "unknown-keyword", "priority"),
        ("virtual_ipadress {\n}", 5, "unknown-keyword", "virtual_ipaddress"),
        ("priority 256", 14, "out-of-range", "1 to 255"),
        ("priority -1", 14, "out-of-range", "1 to 255"),
        ("priority many", 14, "value", "1 to 255"),
        ("priority", 5, "missing-value", "priority"),
        ("advert_int 0", 16, "out-of-range", "0.01"),
        ("preempt_delay 1001", 19, "out-of-range", "1000"),
        ("version 4", 13, "out-of-range", "3"),
        ("track_script {\n chk\n}", 2, "unknown-name", "vrrp_script chk"),
        ("track_interface { eth9\n }", 23, "interface", "eth9"),
        ("track_interface { eth1 weight 300\n }", 35, "out-of-range", "253"),
        ("unicast_peer { 10.0.0\n }", 20, "value", "192.0.2.1"),
        ("unicast_src_ip fe80::1", 5, "family", "IPv4"),
        ("mcast_dst_ip 10.0.0.1", 18, "value", "224.0.0.0/4"),
        ("nopreempt {\n}", 5, "brace", "nopreempt"),
        ("authentication", 5, "brace", "authentication"),
        ("notify_master", 5, "missing-value", "notify_master"),
        ("smtp_alert maybe", 16, "value", "off"),
        ("use_vmac averyveryverylongname", 14, "value", "15"),
        ("auth_hmac {\n key 1 file:/etc/key\n}", 5, "missing-value", "active_key 1"),
    ],
)
def test_one_error_one_finding(tmp_path: Path, extra: str, column: int, code: str, remedy: str) -> None:
    _, loaded = read_instance(tmp_path, extra)
    error = only_error(loaded)
    expected = 5 if column <= 2 else 4
    assert (error.position.line, error.position.column, error.code) == (expected, column, code)
    assert remedy in error.remedy + error.message


def test_all_errors_of_a_file_in_one_run(tmp_path: Path) -> None:
    text = "vrrp_instance A {\n interface eth9\n virtual_router_id 300\n priority x\n foo\n virtual_ipaddress {\n 10.0.0\n }\n}\nbar\n}\n"
    loaded = read(tmp_path, text)
    assert [line for line, _, _ in findings(loaded)] == [2, 3, 4, 5, 7, 10, 11]


def test_an_unknown_block_is_skipped_as_a_whole(tmp_path: Path) -> None:
    text = "vrrp_instence A {\n interface eth9\n foo {\n }\n}\n" + INSTANCE.format(extra="")
    loaded = read(tmp_path, text)
    assert findings(loaded) == [(1, 1, "unknown-keyword")]
    assert "vrrp_instance" in only_error(loaded).remedy
    assert [instance.name for instance in loaded.config.instances] == ["VI_1"]


def test_a_keyword_of_another_block_names_its_home(tmp_path: Path) -> None:
    text = "global_defs {\n priority 5\n}\nvrrp_version 3\n"
    errors = read(tmp_path, text).errors
    assert [(d.position.line, d.code) for d in errors] == [(2, "unknown-keyword"), (4, "unknown-keyword")]
    assert ["vrrp_instance" in errors[0].remedy, "global_defs" in errors[1].remedy] == [True, True]


def test_an_undefined_macro_is_named(tmp_path: Path) -> None:
    _, loaded = read_instance(tmp_path, "priority $PRIO")
    assert "$PRIO=" in only_error(loaded).remedy


@pytest.mark.parametrize(
    "lines",
    ["track_script {\n s\n}", "virtual_ipaddress_excluded {\n 10.0.0\n}", "unicast_peer {\n 10.0.0\n}"],
)
def test_one_mistake_is_reported_once(tmp_path: Path, lines: str) -> None:
    loaded = read_instance(tmp_path, lines, "vrrp_script s {\n interval 2\n}\n" if "script" in lines else "")[1]
    assert len(loaded.errors) == 1


def test_an_invalid_script_does_not_make_its_users_wrong_too(tmp_path: Path) -> None:
    loaded = read_instance(tmp_path, "track_script {\n s\n}", "vrrp_script s {\n script /bin/true\n fall x\n}\n")[1]
    assert findings(loaded) == [(3, 7, "value")]


def test_duplicates_name_both_places(tmp_path: Path) -> None:
    text = INSTANCE.format(extra="") + INSTANCE.format(extra="").replace("VI_1", "VI_2").replace(".100", ".101")
    error = only_error(read(tmp_path, text))
    assert (error.position.line, error.code) == (11, "duplicate")
    assert "line 3" in error.message
    error = only_error(read(tmp_path, INSTANCE.format(extra="") + INSTANCE.format(extra="").replace("51", "52")))
    assert (error.position.line, error.code) == (9, "duplicate")


@pytest.mark.parametrize(
    "change",
    ["interface eth1", "mcast_dst_ip 224.0.0.77", "unicast_src_ip 192.0.2.1\n unicast_peer {\n 192.0.2.2\n }"],
)
def test_a_vrid_may_be_used_again_on_another_medium(tmp_path: Path, change: str) -> None:
    second = INSTANCE.format(extra=change).replace("VI_1", "VI_2")
    if change.startswith("interface"):
        second = second.replace("    interface eth0\n", "")
    assert not read(tmp_path, INSTANCE.format(extra="") + second).errors


@pytest.mark.shows("global_defs/dynamic_interfaces")
def test_an_interface_may_come_later_if_the_file_says_so(tmp_path: Path) -> None:
    text = INSTANCE.format(extra="").replace("eth0", "bond7")
    assert findings(read(tmp_path, text)) == [(2, 5, "interface")]
    assert not read(tmp_path, "global_defs {\n dynamic_interfaces\n}\n" + text).errors


def test_a_macro_that_swallows_itself_is_found(tmp_path: Path) -> None:
    loaded = read(tmp_path, "$V= \\\n$V= \\\nglobal_defs { \\\n}\n$V\n")
    assert findings(loaded) == [(2, 1, "macro")]


@pytest.mark.shows("net_namespace")
def test_interfaces_of_another_namespace_are_not_looked_for_here(tmp_path: Path) -> None:
    path = tmp_path / "k.conf"
    path.write_text("net_namespace high\n" + INSTANCE.format(extra="").replace("eth0", "nosuch0"))
    assert not read_config(str(path)).errors
    path.write_text(INSTANCE.format(extra="").replace("eth0", "nosuch0"))
    assert [d.code for d in read_config(str(path)).errors] == ["interface"]


def test_a_file_with_an_error_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.conf"
    path.write_text("nonsense\n")
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), interface_exists=lambda name: True)
    assert [d.code for d in caught.value.diagnostics] == ["unknown-keyword"]


@pytest.mark.parametrize("name", ["missing.conf", "."])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(str(tmp_path / name), interface_exists=lambda name: True)
    assert [d.code for d in caught.value.diagnostics] == ["unreadable"]


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_every_finding_of_the_corpus_has_a_place_in_its_file(path: Path, tmp_path: Path) -> None:
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    loaded = read(tmp_path, text)
    lines = text.split("\n")
    for finding in loaded.diagnostics:
        assert 1 <= finding.position.line <= len(lines)
        assert 1 <= finding.position.column <= len(lines[finding.position.line - 1]) + 1
        assert finding.remedy or finding.code == "not-acted-on"
