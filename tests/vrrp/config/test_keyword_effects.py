"""What a line of keepalived.conf changes in what the daemon's parts are given: core, receive checks, BFD process, notifier.

What those parts make of it is shown by their own tests (tests/conformance for the core). Every case is compared with the same file without
the line, so that none can pass by a default.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest

from base.core import NS_PER_MS, NS_PER_S
from tests.vrrp.config.reading import read
from vrrp.bfd.settings import Peering, peering
from vrrp.config.model.common import ScriptCommand
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.daemon import NotifyFifo
from vrrp.config.model.instance import VrrpInstance
from vrrp.conversion import expectations, instance_parameters, node_parameters
from vrrp.lvs.sync import wanted_daemons
from vrrp.protocol.node import NodeParameters
from vrrp.protocol.packet import ChecksumStyle, Expectations
from vrrp.protocol.parameters import InstanceParameters
from vrrp.protocol.trackers import TrackKind, TrackReference

shows = pytest.mark.shows
S = NS_PER_S
OURS, PEER = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
SCRIPT = ScriptCommand(("/bin/true",))
UNICAST = "unicast_src_ip 10.0.0.1\nunicast_peer {\n 10.0.0.2\n}"


@dataclass(frozen=True)
class Parts:
    """What a file becomes. ``model``, ``core`` and ``expected`` are of the first instance."""

    config: VrrpConfig
    node: NodeParameters
    model: VrrpInstance
    core: InstanceParameters
    expected: Expectations
    bfd: Peering | None

    def get(self, path: str) -> Any:
        """A value by its dotted path; numbers are indices and words after a dict are keys."""
        found: Any = self
        for step in path.split("."):
            found = found[int(step)] if step.isdigit() else found[step] if isinstance(found, dict) else getattr(found, step)
        return found


def parts(directory: Path, head: str, extra: str, tail: str) -> Parts:
    text = f"{head}\nvrrp_instance V {{\n interface eth0\n virtual_router_id 51\n {extra}\n virtual_ipaddress {{\n 10.0.0.100\n }}\n}}\n"
    loaded = read(directory, text + tail + "\n")
    assert not loaded.errors, [str(error) for error in loaded.errors]
    config = loaded.config
    model = config.instances[0]
    node = node_parameters(config)
    bfd = peering(config.bfd_instances[0]) if config.bfd_instances else None
    return Parts(config, node, model, instance_parameters(model), expectations(model, OURS), bfd)


@pytest.mark.parametrize(
    ("line", "path", "value"),
    [
        pytest.param("vrrp_mcast_group6 ff02::77", "config.global_defs.vrrp.multicast_group6", IPv6Address("ff02::77"),
                     marks=shows("global_defs/vrrp_mcast_group6")),
        pytest.param("vrrp_skip_check_adv_addr", "core.check_addresses", False, marks=shows("global_defs/vrrp_skip_check_adv_addr")),
        pytest.param("vrrp_garp_master_delay 7", "core.garp_delay_ns", 7 * S, marks=shows("global_defs/vrrp_garp_master_delay")),
        pytest.param("vrrp_garp_master_repeat 3", "core.garp_repeat", 3, marks=shows("global_defs/vrrp_garp_master_repeat")),
        pytest.param("vrrp_garp_master_refresh 60", "core.garp_refresh_ns", 60 * S, marks=shows("global_defs/vrrp_garp_master_refresh")),
        pytest.param("vrrp_garp_master_refresh_repeat 2", "core.garp_refresh_repeat", 2,
                     marks=shows("global_defs/vrrp_garp_master_refresh_repeat")),
        pytest.param("vrrp_garp_lower_prio_delay 9", "core.garp_lower_prio_delay_ns", 9 * S,
                     marks=shows("global_defs/vrrp_garp_lower_prio_delay")),
        pytest.param("vrrp_garp_lower_prio_repeat 2", "core.garp_lower_prio_repeat", 2,
                     marks=shows("global_defs/vrrp_garp_lower_prio_repeat")),
        pytest.param("vrrp_garp_interval 0.5", "config.global_defs.vrrp.garp_interval_ns", 500 * NS_PER_MS,
                     marks=shows("global_defs/vrrp_garp_interval")),
        pytest.param("vrrp_gna_interval 0.25", "config.global_defs.vrrp.gna_interval_ns", 250 * NS_PER_MS,
                     marks=shows("global_defs/vrrp_gna_interval")),
        pytest.param("vrrp_min_garp", "core.garp_repeat", 1, marks=shows("global_defs/vrrp_min_garp")),
        pytest.param("vrrp_lower_prio_no_advert", "core.lower_prio_no_advert", True, marks=shows("global_defs/vrrp_lower_prio_no_advert")),
        pytest.param("vrrp_higher_prio_send_advert", "model.higher_prio_send_advert", True,
                     marks=shows("global_defs/vrrp_higher_prio_send_advert")),
        pytest.param("vrrp_down_timer_adverts 5", "core.down_timer_adverts", 5, marks=shows("global_defs/vrrp_down_timer_adverts")),
        pytest.param("vrrp_startup_delay 12", "node.instances.0.startup_delay_ns", 12 * S, marks=shows("global_defs/vrrp_startup_delay")),
        pytest.param("nftables_priority -5", "config.global_defs.firewall.nft_priority", -5, marks=shows("global_defs/nftables_priority")),
        pytest.param("smtp_connect_timeout 7", "config.global_defs.mail.connect_timeout_ns", 7 * S,
                     marks=shows("global_defs/smtp_connect_timeout")),
        pytest.param("smtp_alert_vrrp", "model.smtp_alert", True, marks=shows("global_defs/smtp_alert_vrrp")),
        pytest.param("default_interface eth2", "config.global_defs.default_interface", "eth2",
                     marks=shows("global_defs/default_interface")),
        pytest.param("enable_snmp_rfc", "config.global_defs.snmp.rfc_v3", True, marks=shows("global_defs/enable_snmp_rfc")),
        pytest.param("enable_snmp_keepalived", "config.global_defs.snmp.vrrp", True, marks=shows("global_defs/enable_snmp_keepalived")),
        pytest.param("dbus_service_name org.x.Y", "config.global_defs.dbus.service_name", "org.x.Y",
                     marks=shows("global_defs/dbus_service_name")),
        pytest.param("dbus_no_interface_name", "config.global_defs.dbus.no_interface_name", True,
                     marks=shows("global_defs/dbus_no_interface_name")),
        pytest.param("reload_check_config", "config.global_defs.reload.check", True, marks=shows("global_defs/reload_check_config")),
        pytest.param("json_version 2", "config.global_defs.json_version", 2, marks=shows("global_defs/json_version")),
        pytest.param("notify_fifo /run/x\nnotify_fifo_script /bin/true", "config.global_defs.fifo", NotifyFifo("/run/x", script=SCRIPT),
                     marks=shows("global_defs/notify_fifo", "global_defs/notify_fifo_script")),
        pytest.param("vrrp_notify_fifo /run/x\nvrrp_notify_fifo_script /bin/true", "config.global_defs.vrrp_fifo",
                     NotifyFifo("/run/x", script=SCRIPT), marks=shows("global_defs/vrrp_notify_fifo_script")),
    ],
)  # fmt: skip
def test_global_defs(tmp_path: Path, line: str, path: str, value: object) -> None:
    assert parts(tmp_path, f"global_defs {{\n {line}\n}}", "", "").get(path) == value
    assert parts(tmp_path, "", "", "").get(path) != value


@pytest.mark.parametrize(
    ("before", "line", "path", "value"),
    [
        pytest.param("priority 255", "state MASTER", "core.start_as_master", True, marks=shows("vrrp_instance/state")),
        pytest.param("", "dont_track_primary", "node.tracks.V", (), marks=shows("vrrp_instance/dont_track_primary")),
        pytest.param("", "mcast_src_ip 10.0.0.7", "model.source", IPv4Address("10.0.0.7"), marks=shows("vrrp_instance/mcast_src_ip")),
        pytest.param("", "mcast_dst_ip 224.0.0.99", "expected.group", IPv4Address("224.0.0.99"),
                     marks=shows("vrrp_instance/mcast_dst_ip")),
        pytest.param("", "version 3", "expected.version", 3, marks=shows("vrrp_instance/version")),
        pytest.param("version 3", "v3_checksum_as_v2", "expected.checksum", ChecksumStyle.PLAIN,
                     marks=shows("vrrp_instance/v3_checksum_as_v2")),
        pytest.param("", "strict_mode", "core.lower_prio_no_advert", True, marks=shows("vrrp_instance/strict_mode")),
        pytest.param("", "skip_check_adv_addr", "core.check_addresses", False, marks=shows("vrrp_instance/skip_check_adv_addr")),
        pytest.param(UNICAST, "check_unicast_src off", "expected.only_peers", False, marks=shows("vrrp_instance/check_unicast_src")),
        pytest.param("", "garp_master_delay 7", "core.garp_delay_ns", 7 * S, marks=shows("vrrp_instance/garp_master_delay")),
        pytest.param("", "garp_master_repeat 3", "core.garp_repeat", 3, marks=shows("vrrp_instance/garp_master_repeat")),
        pytest.param("", "garp_master_refresh 60", "core.garp_refresh_ns", 60 * S, marks=shows("vrrp_instance/garp_master_refresh")),
        pytest.param("", "garp_master_refresh_repeat 2", "core.garp_refresh_repeat", 2,
                     marks=shows("vrrp_instance/garp_master_refresh_repeat")),
        pytest.param("", "garp_lower_prio_delay 9", "core.garp_lower_prio_delay_ns", 9 * S,
                     marks=shows("vrrp_instance/garp_lower_prio_delay")),
        pytest.param("", "garp_lower_prio_repeat 2", "core.garp_lower_prio_repeat", 2,
                     marks=shows("vrrp_instance/garp_lower_prio_repeat")),
        pytest.param("", "lower_prio_no_advert", "core.lower_prio_no_advert", True, marks=shows("vrrp_instance/lower_prio_no_advert")),
        pytest.param("", "higher_prio_send_advert off", "core.higher_prio_send_advert", False,
                     marks=shows("vrrp_instance/higher_prio_send_advert")),
        pytest.param("", "down_timer_adverts 5", "core.down_timer_adverts", 5, marks=shows("vrrp_instance/down_timer_adverts")),
        pytest.param("state MASTER\npriority 255", "owner_ignore_adverts", "expected.owner_ignores", True,
                     marks=shows("vrrp_instance/owner_ignore_adverts", "global_defs/vrrp_owner_ignore_adverts")),
        pytest.param("", "notify_backup /bin/true", "model.notify.backup", SCRIPT, marks=shows("vrrp_instance/notify_backup")),
        pytest.param("", "notify_deleted /bin/true", "node.stop_words.V", "DELETED", marks=shows("vrrp_instance/notify_deleted")),
        pytest.param("", "notify_master_rx_lower_pri /bin/true", "model.notify.master_rx_lower_priority", SCRIPT,
                     marks=shows("vrrp_instance/notify_master_rx_lower_pri")),
        pytest.param("", "smtp_alert", "model.smtp_alert", True, marks=shows("vrrp_instance/smtp_alert")),
    ],
)  # fmt: skip
def test_vrrp_instance(tmp_path: Path, before: str, line: str, path: str, value: object) -> None:
    assert parts(tmp_path, "", f"{before}\n{line}", "").get(path) == value
    assert parts(tmp_path, "", before, "").get(path) != value


@pytest.mark.parametrize(
    ("line", "before", "path", "value"),
    [
        pytest.param("vrrp_check_unicast_src off", UNICAST, "expected.only_peers", False,
                     marks=shows("global_defs/vrrp_check_unicast_src")),
        pytest.param("vrrp_owner_ignore_adverts", "state MASTER\npriority 255", "expected.owner_ignores", True,
                     marks=shows("global_defs/vrrp_owner_ignore_adverts")),
        pytest.param("v3_checksum_as_v2", "version 3", "expected.checksum", ChecksumStyle.PLAIN,
                     marks=shows("global_defs/v3_checksum_as_v2")),
    ],
)  # fmt: skip
def test_global_defs_for_some_instances(tmp_path: Path, line: str, before: str, path: str, value: object) -> None:
    assert parts(tmp_path, f"global_defs {{\n {line}\n}}", before, "").get(path) == value
    assert parts(tmp_path, "", before, "").get(path) != value


@shows("vrrp_instance/preempt")
def test_preempt_takes_nopreempt_back(tmp_path: Path) -> None:
    assert not parts(tmp_path, "", "nopreempt", "").core.preempt
    assert parts(tmp_path, "", "nopreempt\npreempt", "").core.preempt


@shows("vrrp_instance/no_virtual_ipaddress")
def test_an_instance_without_addresses_is_meant(tmp_path: Path) -> None:
    text = "vrrp_instance V {{\n interface eth0\n virtual_router_id 51\n {}\n}}\n"
    assert not read(tmp_path, text.format("no_virtual_ipaddress")).diagnostics
    assert read(tmp_path, text.format("")).diagnostics


@shows("child_wait_time")
def test_how_long_children_may_take(tmp_path: Path) -> None:
    assert parts(tmp_path, "child_wait_time 9", "", "").config.daemon.child_wait_ns == 9 * S


GROUP = "vrrp_sync_group G {{\n group {{\n V\n }}\n {}\n}}"
THINGS = (
    "vrrp_script s {\n script /bin/true\n}\nvrrp_track_process p {\n process x\n weight 0\n}\ntrack_file f {\n file /tmp/x\n weight 0\n}\n"
    "bfd_instance b {\n neighbor_ip 10.0.0.2\n}\n"
)


@pytest.mark.parametrize(
    ("line", "track"),
    [
        pytest.param("track_interface {\n eth3\n}", TrackReference(TrackKind.INTERFACE, "eth3"),
                     marks=shows("vrrp_sync_group/track_interface")),
        pytest.param("track_script {\n s\n}", TrackReference(TrackKind.SCRIPT, "s"), marks=shows("vrrp_sync_group/track_script")),
        pytest.param("track_file {\n f\n}", TrackReference(TrackKind.FILE, "f"), marks=shows("vrrp_sync_group/track_file")),
        pytest.param("track_process {\n p\n}", TrackReference(TrackKind.PROCESS, "p"), marks=shows("vrrp_sync_group/track_process")),
        pytest.param("track_bfd {\n b\n}", TrackReference(TrackKind.BFD, "b"), marks=shows("vrrp_sync_group/track_bfd")),
    ],
)  # fmt: skip
def test_what_a_group_tracks_its_members_track(tmp_path: Path, line: str, track: TrackReference) -> None:
    assert track in parts(tmp_path, THINGS, "", GROUP.format(line)).node.tracks["V"]
    assert track not in parts(tmp_path, THINGS, "", GROUP.format("")).node.tracks["V"]


@pytest.mark.parametrize(
    ("line", "path", "value"),
    [
        pytest.param("notify_master /bin/true", "config.sync_groups.0.notify.master", SCRIPT, marks=shows("vrrp_sync_group/notify_master")),
        pytest.param("notify_backup /bin/true", "config.sync_groups.0.notify.backup", SCRIPT, marks=shows("vrrp_sync_group/notify_backup")),
        pytest.param("notify_fault /bin/true", "config.sync_groups.0.notify.fault", SCRIPT, marks=shows("vrrp_sync_group/notify_fault")),
        pytest.param("notify_stop /bin/true", "config.sync_groups.0.notify.stop", SCRIPT, marks=shows("vrrp_sync_group/notify_stop")),
        pytest.param("smtp_alert", "config.sync_groups.0.smtp_alert", True, marks=shows("vrrp_sync_group/smtp_alert")),
    ],
)  # fmt: skip
def test_vrrp_sync_group(tmp_path: Path, line: str, path: str, value: object) -> None:
    assert parts(tmp_path, "", "", GROUP.format(line)).get(path) == value
    assert parts(tmp_path, "", "", GROUP.format("notify /bin/x")).get(path) != value


@pytest.mark.parametrize("block", ["track_file", "vrrp_track_file"])
@shows("track_file/weight", "track_file/init_file")
@shows("vrrp_track_file", "vrrp_track_file/file", "vrrp_track_file/weight", "vrrp_track_file/init_file")
def test_a_tracked_file(tmp_path: Path, block: str) -> None:
    tracks = "track_file {\n f\n}"
    found = parts(tmp_path, f"{block} f {{\n file /tmp/x\n weight 3\n init_file 5 overwrite\n}}", tracks, "")
    assert TrackReference(TrackKind.FILE, "f", 3) in found.node.tracks["V"]
    (file,) = found.config.track_files
    assert (file.path, file.initial_value, file.overwrite) == ("/tmp/x", 5, True)


@shows("vrrp_track_process/delay")
def test_one_delay_for_both_directions(tmp_path: Path) -> None:
    found = parts(tmp_path, "vrrp_track_process p {\n process x\n delay 2.5\n}", "", "").config.track_processes[0]
    assert (found.terminate_delay_ns, found.fork_delay_ns) == (2_500 * NS_PER_MS, 2_500 * NS_PER_MS)


@pytest.mark.parametrize(
    ("line", "path", "value"),
    [
        pytest.param("idle_tx 4000", "bfd.session.idle_tx_ns", 4 * S, marks=shows("bfd_instance/idle_tx")),
        pytest.param("ttl 200", "bfd.hop_limit", 200, marks=shows("bfd_instance/ttl")),
        pytest.param("hoplimit 190", "bfd.hop_limit", 190, marks=shows("bfd_instance/hoplimit")),
        pytest.param("weight -7", "node.tracks.V", (TrackReference(TrackKind.INTERFACE, "eth0"), TrackReference(TrackKind.BFD, "b", -7)),
                     marks=shows("bfd_instance/weight")),
        pytest.param("checker", "config.bfd_instances.0.for_vrrp", False, marks=shows("bfd_instance/checker")),
        pytest.param("vrrp", "config.bfd_instances.0.for_checker", False, marks=shows("bfd_instance/vrrp")),
    ],
)  # fmt: skip
def test_bfd_instance(tmp_path: Path, line: str, path: str, value: object) -> None:
    tracks = "" if line == "checker" else "track_bfd {\n b\n}"
    block = "bfd_instance b {{\n neighbor_ip {}\n {}\n}}"
    neighbor = "2001:db8::9" if "hoplimit" in line else "10.0.0.2"
    assert parts(tmp_path, block.format(neighbor, line), tracks, "").get(path) == value
    assert parts(tmp_path, block.format(neighbor, ""), tracks, "").get(path) != value


@shows("bfd_instance/neighbour_ip")
def test_both_spellings_of_neighbour(tmp_path: Path) -> None:
    found = parts(tmp_path, "bfd_instance b {\n neighbour_ip 10.0.0.9\n}", "", "").bfd
    assert found is not None
    assert found.neighbor == IPv4Address("10.0.0.9")


@shows("vrrp_instance/native_ipv6")
def test_native_ipv6_decides_the_family(tmp_path: Path) -> None:
    """As keepalived 2.2.7: IPv4 addresses do not fit into such an instance."""
    text = "vrrp_instance V {{\n interface eth0\n virtual_router_id 51\n {}\n}}\n"
    assert read(tmp_path, text.format("native_ipv6")).config.instances[0].family == 6
    assert read(tmp_path, text.format("")).config.instances[0].family == 4
    wrong = read(tmp_path, text.format("native_ipv6\n virtual_ipaddress {\n 10.0.0.100\n }"))
    assert [error.code for error in wrong.errors] == ["family"]


@shows("vrrp_instance/lvs_sync_daemon_interface")
def test_the_old_place_of_the_sync_daemon(tmp_path: Path) -> None:
    """What IPVS is told is the same as with lvs_sync_daemon in global_defs; there, or in an earlier instance, it wins."""
    old = parts(tmp_path, "", "lvs_sync_daemon_interface eth1", "").config
    new = parts(tmp_path, "global_defs {\n lvs_sync_daemon eth1 V\n}", "", "").config
    for masters in ((), ("V",)):
        assert wanted_daemons(old, masters) == wanted_daemons(new, masters) != ()
    both = parts(tmp_path, "global_defs {\n lvs_sync_daemon eth2 V\n}", "lvs_sync_daemon_interface eth1", "").config
    assert [daemon.interface for daemon in wanted_daemons(both, ())] == ["eth2"]


@shows("track_group", "track_group/group")
def test_what_the_static_entries_of_a_group_need_its_instances_track(tmp_path: Path) -> None:
    group = "track_group TG {\n group {\n V\n }\n}\n"
    for statics in (
        "static_ipaddress {\n 10.8.0.9/24 dev eth3 track_group TG\n}",
        "static_routes {\n 10.9.0.0/24 via 10.8.0.1 dev eth3 track_group TG\n}",
        "static_rules {\n from 10.9.0.0/24 iif eth3 table 100 priority 500 track_group TG\n}",
    ):
        wanted = TrackReference(TrackKind.INTERFACE, "eth3")
        assert wanted in parts(tmp_path, group, "", statics).node.tracks["V"]
        assert wanted not in parts(tmp_path, group, "", statics.replace("track_group TG", "track_group TG no_track")).node.tracks["V"]
        unknown = read(tmp_path, "vrrp_instance V {\n interface eth0\n virtual_router_id 51\n}\n" + statics)
        assert [error.code for error in unknown.errors] == ["unknown-name"]
