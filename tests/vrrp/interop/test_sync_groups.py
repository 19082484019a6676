"""Sync groups on the wire: all members or none, also beside keepalived, and no quarrel without end (#2190)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import Lab
from tests.vrrp.interop.test_vrrpd_features import script
from tests.vrrp.interop.vrrpd_status import instance, is_in

pytestmark = pytest.mark.system

VIPS = ("10.77.0.101", "10.77.0.102")


def group(priorities: tuple[int, int], *, lines: str = "", members: tuple[str, str] = ("", ""), blocks: str = "") -> str:
    """Two virtual routers on eth0, VRID 61 and 62, in one group."""
    text = [blocks, "vrrp_sync_group G {\n group {\n V1\n V2\n }\n" + lines + "\n}"]
    for number, (priority, more, vip) in enumerate(zip(priorities, members, VIPS, strict=True), 1):
        text.append(
            f"vrrp_instance V{number} {{\n state BACKUP\n interface eth0\n virtual_router_id {60 + number}\n priority {priority}\n"
            f" version 3\n advert_int 0.1\n {more}\n virtual_ipaddress {{\n {vip}/24\n }}\n}}"
        )
    return "\n".join([*text, ""])


def owners(lab: Lab) -> dict[str, tuple[bool, bool]]:
    return {name: (VIPS[0] in held, VIPS[1] in held) for name in ("a", "b") for held in [lab.nodes[name].addresses()]}


def one_owner(lab: Lab) -> bool:
    return sorted(owners(lab).values()) == [(False, False), (True, True)]


@pytest.mark.parametrize("second", ["vrrpd", "keepalived"])
def test_crossed_priorities_settle(second: str) -> None:
    """Each node is better on one member. Two keepalived can drive each other out again and again."""
    with Lab("a", "b") as lab:
        lab.vrrpd("a", group((150, 100)))
        (lab.vrrpd if second == "vrrpd" else lab.keepalived)("b", group((100, 150)))
        lab.until(lambda: one_owner(lab), what="one owner of both addresses")
        settled = [""]

        def stays() -> bool:
            now = str(owners(lab))
            settled.append(now)
            return len(settled) > 40 and len(set(settled[-40:])) == 1 and one_owner(lab)

        lab.until(stays, 40, "and he stays")


@pytest.mark.parametrize("other", ["vrrpd", "keepalived"])
def test_a_fault_of_one_member_moves_all(tmp_path: Path, other: str) -> None:
    value, notes = tmp_path / "value", tmp_path / "notes"
    value.write_text("0")
    note = script(tmp_path / "note", f'echo "$1 $2 $3 $4" >> {notes}')
    blocks = f"track_file f {{\nfile {value}\n}}"
    text = group((150, 150), blocks=blocks, lines=f"notify {note}", members=("", "track_file {\nf weight 0\n}"))
    with Lab("a", "b") as lab:
        a = lab.vrrpd("a", text)
        lab.until(lambda: owners(lab)["a"] == (True, True))
        (lab.vrrpd if other == "vrrpd" else lab.keepalived)("b", group((100, 100)))
        value.write_text("1")
        lab.until(lambda: owners(lab) == {"a": (False, False), "b": (True, True)}, what="both addresses move")
        assert is_in(a, "FAULT") and is_in(a, "FAULT", "V2")
        assert instance(a)["counters"]["priority_zero_sent"] == 1, "the dragged member says goodbye, too"
        value.write_text("0")
        lab.until(lambda: owners(lab) == {"a": (True, True), "b": (False, False)}, what="both come back")
        lab.until(lambda: notes.read_text().split("\n")[-2] == "GROUP G MASTER 0")
        assert "GROUP G FAULT 0" in notes.read_text().split("\n")


@pytest.mark.shows("vrrp_sync_group/track_file", "vrrp_sync_group/sync_group_tracking_weight", "vrrp_sync_group/global_tracking")
@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("word", ["", "sync_group_tracking_weight", "global_tracking"])
def test_weights(tmp_path: Path, word: str, ours: bool) -> None:
    """A weight in the group moves every member; that of a member counts only with the word. Without it the failure of a file with the
    default weight is a FAULT of all, and a weighted script is not tracked. The adverts show it, for both daemons."""
    group_value, member_value = tmp_path / "g", tmp_path / "m"
    group_value.write_text("0")
    member_value.write_text("0")
    blocks = f"track_file g {{\nfile {group_value}\n}}\ntrack_file m {{\nfile {member_value}\n}}\n"
    blocks += 'vrrp_script failing {\nscript "/bin/false"\nweight 2\n}'
    member = "track_file {\nm weight 1\n}\ntrack_script {\nfailing\n}"
    text = group((150, 150), blocks=blocks, lines=f"track_file {{\ng weight 1\n}}\n{word}", members=(member, ""))
    with Lab("a") as lab:
        (lab.vrrpd if ours else lab.keepalived)("a", text)
        lab.until(lambda: VIPS[0] in lab.nodes["a"].addresses())
        capture = lab.capture()

        def said() -> dict[int, int]:
            frames = capture.read()
            return {f[35]: f[36] for _, f in frames if f[12:14] == b"\x08\x00" and f[23] == 112}

        group_value.write_text("-20")
        lab.until(lambda: said().items() >= {61: 130, 62: 130}.items())
        member_value.write_text("-10")
        expected = {61: 120, 62: 130} if word else {61: 0, 62: 0}
        heard: dict[int, int] = {}
        lab.until(lambda: (heard.update(said()), heard == expected)[1])
        lab.always(lambda: (VIPS[0] in lab.nodes["a"].addresses()) == bool(word), 0.5)


@pytest.mark.parametrize("ours", [True, False])
def test_an_owner_tracks_without_weight(tmp_path: Path, ours: bool) -> None:
    value = tmp_path / "m"
    value.write_text("0")
    text = group((255, 150), blocks=f"track_file m {{\nfile {value}\n}}", members=("track_file {\nm weight 1\n}", ""))
    alone = text.replace("vrrp_sync_group G {\n group {\n V1\n V2\n }\n\n}", "")
    with Lab("a") as lab:
        (lab.vrrpd if ours else lab.keepalived)("a", alone)
        lab.until(lambda: lab.nodes["a"].addresses() >= set(VIPS))
        value.write_text("-10")
        lab.until(lambda: VIPS[0] not in lab.nodes["a"].addresses() and VIPS[1] in lab.nodes["a"].addresses(), what="a FAULT of the owner")
