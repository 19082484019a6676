"""What a reload changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vrrp.config.reading import INSTANCE, read
from vrrp.config.diff import compare
from vrrp.config.model.configuration import VrrpConfig

SECOND = INSTANCE.format(extra="").replace("VI_1", "VI_2").replace("51", "52").replace(".100", ".101")
UNICAST = "unicast_src_ip 192.0.2.1\n unicast_peer {\n 192.0.2.2\n }"


def config(directory: Path, text: str) -> VrrpConfig:
    loaded = read(directory, text)
    assert not loaded.errors
    return loaded.config


def test_nothing_changed_even_if_the_lines_moved(tmp_path: Path) -> None:
    old = config(tmp_path, INSTANCE.format(extra="") + SECOND)
    new = config(tmp_path, "# moved\n\n" + SECOND + INSTANCE.format(extra=""))
    difference = compare(old, new)
    assert difference.nothing
    assert {instance.name for instance in difference.kept} == {"VI_1", "VI_2"}


def test_added_and_removed(tmp_path: Path) -> None:
    one, two = config(tmp_path, INSTANCE.format(extra="")), config(tmp_path, SECOND)
    difference = compare(one, two)
    assert [instance.name for instance in difference.added] == ["VI_2"]
    assert [instance.name for instance in difference.removed] == ["VI_1"]
    assert not difference.kept


@pytest.mark.parametrize(
    ("extra", "changed"),
    [
        ("priority 90", {"priority"}),
        ("advert_int 2", {"advert_interval_ns"}),
        ("authentication {\n auth_type PASS\n auth_pass x\n }", {"authentication"}),
        ("notify /bin/true", {"notify"}),
        ("virtual_ipaddress {\n 10.0.0.7\n }", {"addresses"}),
        ("version 3", {"version"}),
    ],
)
def test_changed_settings_keep_the_router(tmp_path: Path, extra: str, changed: set[str]) -> None:
    difference = compare(config(tmp_path, INSTANCE.format(extra="")), config(tmp_path, INSTANCE.format(extra=extra)))
    assert not difference.added
    assert not difference.removed
    assert set(difference.changed[0].changed) == changed


def test_the_name_is_not_part_of_the_identity(tmp_path: Path) -> None:
    text = INSTANCE.format(extra="")
    difference = compare(config(tmp_path, text), config(tmp_path, text.replace("VI_1", "WEB")))
    assert [(change.old.name, change.new.name) for change in difference.changed] == [("VI_1", "WEB")]


@pytest.mark.parametrize("extra", [UNICAST, "mcast_dst_ip 224.0.0.99", "use_vmac"])
def test_another_transport_is_another_router(tmp_path: Path, extra: str) -> None:
    difference = compare(config(tmp_path, INSTANCE.format(extra="")), config(tmp_path, INSTANCE.format(extra=extra)))
    assert len(difference.added) == len(difference.removed) == 1


def test_another_unicast_source_is_another_router_but_another_peer_is_not(tmp_path: Path) -> None:
    old = config(tmp_path, INSTANCE.format(extra=UNICAST))
    assert compare(old, config(tmp_path, INSTANCE.format(extra=UNICAST.replace("2.1", "2.9")))).added
    assert compare(old, config(tmp_path, INSTANCE.format(extra=UNICAST.replace("2.2", "2.8")))).changed[0].changed == ("unicast_peers",)


def test_scripts_and_settings_of_the_daemon(tmp_path: Path) -> None:
    old = config(tmp_path, "vrrp_script a {\n script /bin/a\n}\nvrrp_script b {\n script /bin/b\n}\n")
    new = config(
        tmp_path,
        "net_namespace x\nglobal_defs {\n router_id y\n}\nvrrp_script b {\n script /bin/bb\n}\nvrrp_script c {\n script /bin/c\n}\n",
    )
    difference = compare(old, new)
    assert (difference.scripts.added, difference.scripts.removed, difference.scripts.changed) == (("c",), ("a",), ("b",))
    assert difference.global_defs_changed
    assert difference.frozen == ("net_namespace",)
    assert not difference.nothing
