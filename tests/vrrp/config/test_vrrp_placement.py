"""How macvlans and ipvlans are called and what lives on them, without a kernel; the kernel's part is in interop/test_vmac.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from base.core import NS_PER_S
from tests.vrrp.config.reading import read
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.links import LinkKind
from vrrp.conversion import instance_parameters, node_parameters
from vrrp.placement import place
from vrrp.protocol.trackers import TrackKind

MAC = bytes.fromhex("00005e000133")
VIP = "virtual_ipaddress {\n 10.0.0.100/24\n}"


def router(name: str, lines: str, *, vrid: int = 51, interface: str = "eth0") -> str:
    return f"vrrp_instance {name} {{\n interface {interface}\n virtual_router_id {vrid}\n {lines}\n}}\n"


def config(directory: Path, *blocks: str) -> VrrpConfig:
    loaded = read(directory, "\n".join(blocks))
    assert not loaded.errors, [str(error) for error in loaded.errors]
    return loaded.config


def names(placed: VrrpConfig) -> dict[str, tuple[str, str]]:
    return {link.name: (link.base, link.mac.hex()) for link in placed.links}


def test_without_use_vmac_nothing_is_placed(tmp_path: Path) -> None:
    plain = config(tmp_path, router("A", VIP))
    assert place(plain, {"eth0": b"\2" * 6}) == plain


def test_the_virtual_mac_and_the_names_of_both_families(tmp_path: Path) -> None:
    v6 = "use_vmac\nvirtual_ipaddress {\n fe80::1/64\n}"
    placed = place(config(tmp_path, router("A", f"use_vmac\n{VIP}"), router("B", v6), router("C", v6, interface="eth1")), {})
    assert names(placed) == {
        "vrrp.51": ("eth0", "00005e000133"),
        "vrrp6.51": ("eth0", "00005e000233"),
        "vrrp1.51": ("eth1", "00005e000233"),
    }
    assert [address.interface for model in placed.instances for address in model.addresses] == ["vrrp.51", "vrrp6.51", "vrrp1.51"]
    assert [link.ipv6 for link in placed.links] == [False, True, True]


def test_a_name_that_somebody_uses_is_not_taken_and_a_fitting_macvlan_is(tmp_path: Path) -> None:
    plain = config(tmp_path, router("A", f"use_vmac\n{VIP}"))
    assert list(names(place(plain, {"vrrp.51": b"\2" * 6}))) == ["vrrp1.51"]
    assert list(names(place(plain, {"vrrp.51": MAC}))) == ["vrrp.51"]
    assert list(names(place(plain, {"other": MAC}))) == ["other"], "keepalived: found matching interface"


def test_a_reload_keeps_the_names_whatever_comes_before(tmp_path: Path) -> None:
    one, first = router("A", f"use_vmac\n{VIP}"), router("B", f"use_vmac\n{VIP}", interface="eth1")
    before = place(config(tmp_path, one), {})
    after = place(config(tmp_path, first, one), {"vrrp.51": MAC}, before.links)
    assert names(after)["vrrp.51"][0] == "eth0" and names(after)["vrrp1.51"][0] == "eth1"
    renamed = place(config(tmp_path, router("A", f"use_vmac new0\n{VIP}")), {"vrrp.51": MAC}, before.links)
    assert list(names(renamed)) == ["new0"]


@pytest.mark.parametrize(
    ("lines", "link"),
    [
        ("use_vmac mac0 02:00:00:00:00:05", ("mac0", "020000000005")),
        ("use_vmac 02:00:00:00:00", ("vrrp.51", "020000000033")),
        ("use_vmac name mac0 group 7", ("mac0", "00005e000133")),
    ],
)
def test_what_the_line_says(tmp_path: Path, lines: str, link: tuple[str, str]) -> None:
    placed = place(config(tmp_path, router("A", f"{lines}\n{VIP}")), {})
    assert [(made.name, made.mac.hex()) for made in placed.links] == [link]
    assert placed.links[0].group == (7 if "group" in lines else 0)


def test_use_vmac_addr_gives_other_interfaces_and_the_other_family_a_macvlan(tmp_path: Path) -> None:
    lines = "use_vmac_addr\nvirtual_ipaddress {\n 10.0.0.100\n 10.1.0.100 dev eth1\n}\nvirtual_ipaddress_excluded {\n fd00::1/64\n}"
    placed = place(config(tmp_path, router("A", lines)), {})
    (model,) = placed.instances
    assert [a.interface for a in (*model.addresses, *model.excluded_addresses)] == ["eth0", "vrrp.51", "vrrp6.51"]
    assert names(placed) == {"vrrp.51": ("eth1", "00005e000133"), "vrrp6.51": ("eth0", "00005e000233")}
    tracked = [track.name for track in node_parameters(placed).tracks["A"] if track.kind is TrackKind.INTERFACE]
    assert tracked == ["eth0", "vrrp.51", "vrrp6.51"], "a macvlan that is down is a fault"


def test_an_ipvlan_takes_no_address_and_speaks_with_its_own(tmp_path: Path) -> None:
    placed = place(config(tmp_path, router("A", f"use_ipvlan ipv0 10.0.0.7/24 private\n{VIP}")), {})
    (link,), (model,) = placed.links, placed.instances
    assert (link.name, link.kind, link.mac, link.ipvlan_mode, str(link.address)) == ("ipv0", LinkKind.IPVLAN, b"", "private", "10.0.0.7/24")
    assert (str(model.source), model.addresses[0].interface) == ("10.0.0.7", "eth0")
    assert (model.speaks_on_link, model.hears_on_link) == (True, False)


def test_unicast_leaves_by_the_interface_itself(tmp_path: Path) -> None:
    (model,) = place(config(tmp_path, router("A", f"use_vmac\nunicast_peer {{\n 10.0.0.2\n}}\n{VIP}")), {}).instances
    assert (model.virtual_interface, model.speaks_on_link, model.hears_on_link) == ("vrrp.51", False, False)


@pytest.mark.shows("vrrp_instance/vmac_garp_intvl", "global_defs/vrrp_garp_extra_if", "global_defs/vrrp_vmac_garp_intvl")
@pytest.mark.parametrize("word", ["garp_extra_if", "vmac_garp_intvl", "vrrp_garp_extra_if", "vrrp_vmac_garp_intvl"])
def test_every_spelling_of_garp_extra_if_arms_the_same_timer(tmp_path: Path, word: str) -> None:
    """What the timer does: tests/conformance/recordings/announcements-elsewhere.txt and interop/test_vmac.py."""
    line, head = (f"{word} all 3", "") if not word.startswith("vrrp_") else ("", f"global_defs {{\n {word} all 3\n}}")
    elsewhere = "virtual_ipaddress_excluded {\n 10.1.0.1 dev eth1\n}"
    (model,) = config(tmp_path, head, router("A", f"{line}\n{VIP}\n{elsewhere}")).instances
    assert instance_parameters(model).garp_extra_ns == 3 * NS_PER_S and model.garp.extra_interface_all
    (at_home,) = config(tmp_path, head, router("A", f"{line}\n{VIP}")).instances
    assert instance_parameters(at_home).garp_extra_ns == 0, "there is no such interface"
