"""What a vrrp_instance means: values, defaults and what is inherited."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from base.core import NS_PER_MS, NS_PER_S
from base.diagnostics import Severity
from tests.vrrp.config.reading import findings, read, read_instance
from vrrp.config.model.addresses import AddressFlag, VirtualAddress
from vrrp.config.model.common import Family, InitialState, ScriptCommand
from vrrp.config.model.instance import AuthKind, GarpSettings, UnicastPeer, VmacSettings
from vrrp.config.model.tracking import Track

TUTORIAL = """\
global_defs {
    router_id LVS_01
    vrrp_mcast_group4 234.6.6.6
}
vrrp_script chk_nginx {
    script "/usr/bin/killall -0 nginx"
    interval 0.5
    weight -30
    fall 3
    rise 5
    timeout 2
    user nobody
}
vrrp_instance VI_1 {
    state MASTER
    interface eth0
    virtual_router_id 51
    priority 100
    advert_int 1
    authentication {
        auth_type PASS
        auth_pass 1111
    }
    virtual_ipaddress {
        192.168.91.188/24 dev eth0 label eth0:1
        192.168.91.189
    }
    track_script {
        chk_nginx
    }
    notify_master "/etc/keepalived/notify.sh master" root
}
"""


def test_the_tutorial(tmp_path: Path) -> None:
    config = read(tmp_path, TUTORIAL).config
    assert config.global_defs.router_id == "LVS_01"
    script = config.scripts[0]
    assert script.command.arguments == ("/usr/bin/killall", "-0", "nginx")
    assert (script.command.user, script.weight, script.rise, script.fall) == ("nobody", -30, 5, 3)
    assert (script.interval_ns, script.timeout_ns) == (500 * NS_PER_MS, 2 * NS_PER_S)
    instance = config.instances[0]
    assert (instance.name, instance.interface, instance.vrid, instance.priority) == ("VI_1", "eth0", 51, 100)
    assert (instance.version, instance.family, instance.advert_interval_ns) == (2, Family.IPV4, NS_PER_S)
    assert instance.initial_state is InitialState.MASTER
    assert (instance.authentication.kind, instance.authentication.password) == (AuthKind.PASS, b"1111")
    assert instance.multicast_group == IPv4Address("234.6.6.6")
    assert instance.addresses == (
        VirtualAddress(IPv4Address("192.168.91.188"), 24, "eth0", True, label="eth0:1"),
        VirtualAddress(IPv4Address("192.168.91.189"), 32, "eth0"),
    )
    assert instance.track.scripts == (Track("chk_nginx", -30),)
    assert instance.notify.master == ScriptCommand(("/etc/keepalived/notify.sh", "master"), "root")
    assert instance.position.line == 14
    assert instance.position_of("priority").line == 18
    assert instance.addresses[1].position.line == 26


def test_defaults(tmp_path: Path) -> None:
    instance, loaded = read_instance(tmp_path)
    assert not loaded.diagnostics
    assert (instance.priority, instance.initial_state, instance.nopreempt) == (100, InitialState.BACKUP, False)
    assert (instance.down_timer_adverts, instance.preempt_delay_ns, instance.accept) == (3, 0, True)
    assert instance.garp == GarpSettings(5 * NS_PER_S, 5, 0, 1, 5 * NS_PER_S, 5)
    assert instance.multicast_group == IPv4Address("224.0.0.18")
    assert instance.source is None
    assert instance.track_primary


@pytest.mark.parametrize(
    ("extra", "field", "value"),
    [
        ("nopreempt", "nopreempt", True),
        ("preempt_delay 30.5", "preempt_delay_ns", 30_500 * NS_PER_MS),
        ("version 3", "version", 3),
        ("version 3\nadvert_int 0.05", "advert_interval_ns", 50 * NS_PER_MS),
        ("dont_track_primary", "track_primary", False),
        ("skip_check_adv_addr off", "skip_check_adv_addr", False),
        ("skip_check_adv_addr", "skip_check_adv_addr", True),
        ("lower_prio_no_advert yes", "lower_prio_no_advert", True),
        ("down_timer_adverts 5", "down_timer_adverts", 5),
        ("mcast_src_ip 192.0.2.7", "source", IPv4Address("192.0.2.7")),
        ("mcast_dst_ip 224.0.0.99", "multicast_group", IPv4Address("224.0.0.99")),
        ("use_vmac vrrp.51 02:00:00:00:00", "vmac", VmacSettings(name="vrrp.51", mac=bytes([2, 0, 0, 0, 0]))),
        ("no_accept", "accept", False),
        ("preempt", "nopreempt", False),
        ("state MASTER", "priority", 255),
        (
            "unicast_peer { 192.0.2.2 min_ttl 250 \n 192.0.2.3 }",
            "unicast_peers",
            (UnicastPeer(IPv4Address("192.0.2.2"), 250), UnicastPeer(IPv4Address("192.0.2.3"))),
        ),
        ("garp_master_delay 9\ngarp_master_repeat 2", "garp", GarpSettings(9 * NS_PER_S, 2, 0, 1, 9 * NS_PER_S, 2)),
        ("garp_lower_prio_repeat 0", "garp", GarpSettings(lower_priority_repeat=0)),
        (
            "track_interface {\neth1 weight -5\neth2 weight 5 reverse\neth3 }",
            "track.interfaces",
            (Track("eth1", -5), Track("eth2", 5, True), Track("eth3")),
        ),
    ],
)
def test_one_keyword(tmp_path: Path, extra: str, field: str, value: object) -> None:
    instance, loaded = read_instance(tmp_path, extra)
    assert not loaded.errors
    found: object = instance
    for name in field.split("."):
        found = getattr(found, name)
    assert found == value


@pytest.mark.parametrize(
    ("head", "extra", "field", "value"),
    [
        ("vrrp_version 3", "", "version", 3),
        ("vrrp_version 3", "version 2", "version", 2),
        ("vrrp_garp_master_delay 7", "", "garp", GarpSettings(master_delay_ns=7 * NS_PER_S, lower_priority_delay_ns=7 * NS_PER_S)),
        (
            "vrrp_garp_lower_prio_delay 3",
            "garp_master_delay 9",
            "garp",
            GarpSettings(master_delay_ns=9 * NS_PER_S, lower_priority_delay_ns=3 * NS_PER_S),
        ),
        ("vrrp_min_garp", "", "garp", GarpSettings(0, 1, 0, 1, 0, 1)),
        ("vrrp_skip_check_adv_addr", "", "skip_check_adv_addr", True),
        ("vrrp_skip_check_adv_addr", "skip_check_adv_addr off", "skip_check_adv_addr", False),
        ("vrrp_down_timer_adverts 4", "", "down_timer_adverts", 4),
        ("vrrp_higher_prio_send_advert", "", "higher_prio_send_advert", True),
        ("smtp_alert\nsmtp_alert_vrrp off", "", "smtp_alert", False),
    ],
)
@pytest.mark.parametrize("globals_first", [True, False])
def test_inherited_from_global_defs_wherever_they_stand(
    tmp_path: Path, head: str, extra: str, field: str, value: object, globals_first: bool
) -> None:
    defs = f"global_defs {{\n{head}\n}}\n"
    _, loaded = read_instance(tmp_path, extra, head=defs if globals_first else "")
    if not globals_first:
        loaded = read(tmp_path, (tmp_path / "keepalived.conf").read_text() + defs)
    assert not loaded.errors
    assert getattr(loaded.config.instances[0], field) == value


@pytest.mark.shows("global_defs/script_user")
def test_script_user_is_inherited(tmp_path: Path) -> None:
    head = "global_defs {\n script_user nobody nogroup\n}\nvrrp_script s {\n script /bin/true\n}\n"
    instance, loaded = read_instance(tmp_path, "notify /bin/a\nnotify_stop /bin/b daemon\ntrack_script {\n s\n}", head)
    assert loaded.config.scripts[0].command == ScriptCommand(("/bin/true",), "nobody", "nogroup")
    assert loaded.config.scripts[0].timeout_ns == loaded.config.scripts[0].interval_ns == NS_PER_S
    assert instance.notify.any_state == ScriptCommand(("/bin/a",), "nobody", "nogroup")
    assert instance.notify.stop == ScriptCommand(("/bin/b",), "daemon")


def test_ipv6_is_version_3(tmp_path: Path) -> None:
    text = "vrrp_instance A {\n interface eth0\n virtual_router_id 1\n virtual_ipaddress {\n fe80::1/64\n 2001:db8::1\n }\n}\n"
    instance = read(tmp_path, text).config.instances[0]
    assert (instance.family, instance.version, instance.multicast_group) == (Family.IPV6, 3, IPv6Address("ff02::12"))
    assert [address.preferred_lft_s for address in instance.addresses] == [None, 0]


def test_address_options(tmp_path: Path) -> None:
    text = """\
vrrp_instance A {
    interface eth0
    virtual_router_id 1
    virtual_ipaddress {
        10.0.0.1/24 brd + dev eth1 scope link no_track
        10.0.0.2/255.255.0.0 brd -
        10.0.0.3 peer 10.0.0.4/30 home
        10.0.0.5 use_vmac preferred_lft 77 noprefixroute autojoin
    }
    virtual_ipaddress_excluded {
        2001:db8::5/64 -nodad mngtmpaddr
    }
    virtual_ipaddress {
        10.0.0.6
    }
}
"""
    loaded = read(tmp_path, text)
    assert not loaded.errors
    first, second, third, fourth, fifth = loaded.config.instances[0].addresses
    assert (first.broadcast, first.interface, first.scope, first.no_track) == (IPv4Address("10.0.0.255"), "eth1", 253, True)
    assert (second.prefix_length, second.broadcast) == (16, IPv4Address("10.0.0.0"))
    assert (third.peer, third.prefix_length, third.flags) == (IPv4Address("10.0.0.4"), 30, AddressFlag.HOMEADDRESS)
    assert (fourth.use_vmac, fourth.preferred_lft_s, fourth.flags) == (True, 77, AddressFlag.NOPREFIXROUTE | AddressFlag.MCAUTOJOIN)
    assert str(fifth) == "10.0.0.6/32"
    excluded = loaded.config.instances[0].excluded_addresses
    assert [(str(a), a.flags) for a in excluded] == [("2001:db8::5/64", AddressFlag.NODAD | AddressFlag.MANAGETEMPADDR)]


@pytest.mark.shows("vrrp_sync_group/sync_group_tracking_weight")
def test_a_member_of_a_sync_group_tracks_without_weights(tmp_path: Path) -> None:
    head = "vrrp_sync_group G {\n group {\n VI_1 VI_2\n }\n track_interface {\n eth3\n }\n}\n"
    instance, loaded = read_instance(tmp_path, "track_interface {\n eth1 weight 5\n eth2\n}", head)
    assert instance.track.interfaces == (Track("eth1", 0), Track("eth2"))
    assert instance.sync_group == "G"
    assert loaded.config.sync_groups[0].track.interfaces == (Track("eth3"),)
    allowed, _ = read_instance(
        tmp_path, "track_interface {\n eth1 weight 5\n}", head.replace(" group {", " sync_group_tracking_weight\n group {")
    )
    assert allowed.track.interfaces == (Track("eth1", 5),)


@pytest.mark.parametrize(("ipv6", "count", "room"), [(True, 100, 89), (False, 300, 255)])
def test_what_does_not_fit_into_an_advert_is_excluded(tmp_path: Path, ipv6: bool, count: int, room: int) -> None:
    """keepalived's numbers (it counts the Ethernet header, too): IPv6 is limited by the MTU, IPv4 by the byte that counts."""
    lines = "\n".join(f"fd00::{n:x}" if ipv6 else f"10.0.{n >> 8}.{n & 255}" for n in range(1, count + 1))
    text = f"vrrp_instance V {{\n interface eth0\n virtual_router_id 51\n virtual_ipaddress {{\n{lines}\n }}\n}}\n"
    loaded = read(tmp_path, text)
    instance = loaded.config.instances[0]
    assert (len(instance.addresses), len(instance.excluded_addresses)) == (room, count - room)
    assert not loaded.errors


TRACKED = """
vrrp_script s {
 script /bin/true
}
vrrp_script w {
 script /bin/true
 weight 2
}
track_file d {
 file /tmp/d
}
track_file f {
 file /tmp/f
 weight 3
}
vrrp_track_process p {
 process x
 weight 4
}
bfd_instance b {
 neighbor_ip 10.0.0.2
 weight 5
}
"""
EVERY_KIND = """
track_interface {
 eth1 weight -5
}
track_script {
 s
 w
}
track_file {
 d
 f
}
track_process {
 p
}
track_bfd {
 b
}
"""


def test_weights_where_priorities_may_not_float(tmp_path: Path) -> None:
    """As keepalived 2.2.7: ignoring a weighted script is not the same as a FAULT when it fails, which would be an outage."""
    member, loaded = read_instance(tmp_path, EVERY_KIND, TRACKED + "vrrp_sync_group G {\n group {\n VI_1 VI_2\n }\n}\n")
    track = member.track
    assert (track.interfaces, track.scripts) == ((Track("eth1", 0),), (Track("s"),))
    assert (track.files, track.processes, track.bfds) == ((Track("d", 0),), (Track("p", 4),), ())
    assert len([d for d in loaded.diagnostics if d.code == "weight"]) == 5
    owner, _ = read_instance(tmp_path, "priority 255" + EVERY_KIND, TRACKED)
    track = owner.track
    assert (track.interfaces, track.scripts, track.files, track.bfds) == ((), (Track("s"),), (Track("d", 0),), ())


@pytest.mark.parametrize(
    ("extra", "field", "value"),
    [
        ("state MASTER\npriority 100\nnopreempt", "nopreempt", False),
        ("priority 255\nnopreempt", "nopreempt", False),
        ("state MASTER\npriority 100\npreempt_delay 5", "preempt_delay_ns", 0),
        ("nopreempt\npreempt_delay 5", "preempt_delay_ns", 0),
        ("advert_int 1.4", "advert_interval_ns", NS_PER_S),
        ("advert_int 0.2", "advert_interval_ns", NS_PER_S),
        ("version 3\nadvert_int 0.256", "advert_interval_ns", 260 * NS_PER_MS),
        ("version 3\nadvert_int 50", "advert_interval_ns", 40_950 * NS_PER_MS),
        ("garp_master_repeat 0", "garp.master_repeat", 1),
        ("authentication {\n auth_type PASS\n auth_pass 123456789\n}", "authentication.password", b"12345678"),
        ("version 3\nauthentication {\n auth_type PASS\n auth_pass 1\n}", "authentication.kind", AuthKind.NONE),
        ("strict_mode\nstate MASTER\npriority 100", "initial_state", InitialState.BACKUP),
        ("strict_mode\npreempt_delay 3", "preempt_delay_ns", 0),
        ("strict_mode\nauthentication {\n auth_type PASS\n auth_pass 1\n}", "authentication.kind", AuthKind.NONE),
        ("notify_master /bin/a\nnotify_master /bin/b", "notify.master", ScriptCommand(("/bin/a",))),
    ],
)
def test_what_keepalived_corrects_is_corrected_with_a_warning(tmp_path: Path, extra: str, field: str, value: object) -> None:
    instance, loaded = read_instance(tmp_path, extra)
    found: object = instance
    for name in field.split("."):
        found = getattr(found, name)
    assert found == value
    assert not loaded.errors
    assert findings(loaded, Severity.WARNING)


def test_strict_mode_closes_the_addresses(tmp_path: Path) -> None:
    instance, loaded = read_instance(tmp_path, head="global_defs {\n vrrp_strict\n}\n")
    assert not instance.accept
    assert instance.lower_prio_no_advert
    assert instance.garp.lower_priority_repeat == 0
    assert "strict" in {code for _, _, code in findings(loaded, Severity.NOTE)}
    owner, _ = read_instance(tmp_path, "priority 255\nstate MASTER", head="global_defs {\n vrrp_strict\n}\n")
    assert owner.accept


def test_passwords_do_not_show(tmp_path: Path) -> None:
    loaded = read(tmp_path, TUTORIAL)
    assert "1111" not in repr(loaded.config)


def test_with_ah_a_node_begins_as_backup(tmp_path: Path) -> None:
    block = "authentication {\n auth_type AH\n auth_pass 1234\n}\nstate MASTER\npriority 150"
    instance, loaded = read_instance(tmp_path, block)
    assert instance.initial_state is InitialState.BACKUP
    assert instance.authentication.kind is AuthKind.AH
    assert not loaded.errors
