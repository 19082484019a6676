"""A MASTER that nobody can hear, and sources and peers that are missing; keepalived in the same place."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.vrrp.interop.test_vrrpd_features import script
from tests.vrrp.interop.vrrp_conf import VIP, conf
from tests.vrrp.interop.vrrpd_status import instance, is_in, reload

pytestmark = pytest.mark.system

DROP = "table ip lab { chain out { type filter hook output priority 0; ip protocol 112 drop; }; }"


@contextlib.contextmanager
def fifo(path: Path) -> Iterator[list[str]]:
    """The lines of a notify FIFO; ``in`` reads what is there before it looks."""
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    lines = _Lines(descriptor)
    try:
        yield lines
    finally:
        os.close(descriptor)


class _Lines(list[str]):
    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def __contains__(self, line: object) -> bool:
        with contextlib.suppress(BlockingIOError):
            self += os.read(self._descriptor, 65536).decode().replace("\0", "").splitlines()
        return super().__contains__(line)


class TestUnheard:
    def test_it_is_said_and_counted(self) -> None:
        with Lab("a", "b") as lab:
            a, b = lab.vrrpd("a", conf(150)), lab.vrrpd("b", conf(100))
            lab.until(lambda: is_in(a, "MASTER") and is_in(b, "BACKUP"))
            lab.nodes["a"].nft(DROP)
            lab.until(lambda: instance(a)["unsent_in_a_row"] > 3 and instance(a)["egress_errors"].get("EPERM", 0) > 3)
            lab.until(lambda: is_in(b, "MASTER"), what="the other takes over")
            assert is_in(a, "MASTER"), "without the option nobody steps down, as with keepalived"
            lab.nodes["a"].run("nft", "delete", "table", "ip", "lab")
            lab.until(lambda: instance(a)["unsent_in_a_row"] == 0 and is_in(b, "BACKUP"))

    @pytest.mark.shows("vrrp_instance/unheard_fault")
    @pytest.mark.parametrize("unicast", [False, True])
    def test_it_hands_over_where_that_is_asked_for(self, unicast: bool) -> None:
        with Lab("a", "b") as lab:
            a_ip, b_ip = lab.nodes["a"].address, lab.nodes["b"].address
            more = ({"source": a_ip, "peer": b_ip}, {"source": b_ip, "peer": a_ip}) if unicast else ({}, {})
            a = lab.vrrpd("a", conf(150, instance_extra="unheard_fault", **more[0]))
            b = lab.keepalived("b", conf(100, **more[1]))
            lab.until(lambda: lab.nodes["a"].holds(VIP))
            capture = lab.capture()
            lab.nodes["a"].nft(DROP)
            lab.until(lambda: is_in(a, "FAULT") and not lab.nodes["a"].holds(VIP) and lab.nodes["b"].holds(VIP))
            lab.always(lambda: lab.nodes["b"].holds(VIP) and not lab.nodes["a"].holds(VIP), 2.5, "one owner for as long as it lasts")
            lab.nodes["a"].run("nft", "delete", "table", "ip", "lab")
            lab.until(lambda: is_in(a, "MASTER") and not lab.nodes["b"].holds(VIP))
            capture.read()
            probes = [f for p, f in capture.frames if p == "p1" and f[12:14] == b"\x08\x00" and f[23] == 112 and f[35] == 0]
            assert probes, "what left first was the probe that no router takes for an advert"
            b.stop()

    def test_keepalived_stays_master_beside_another_one(self) -> None:
        with Lab("a", "b") as lab:
            lab.keepalived("a", conf(150))
            lab.until(lambda: lab.nodes["a"].holds(VIP))
            lab.keepalived("b", conf(100))
            lab.nodes["a"].nft(DROP)
            lab.until(lambda: lab.nodes["b"].holds(VIP))
            lab.always(lambda: lab.nodes["a"].holds(VIP) and lab.nodes["b"].holds(VIP), 1.5, "two owners")


@pytest.mark.shows("vrrp_instance/track_src_ip")
@pytest.mark.parametrize("ours", [True, False])
def test_track_src_ip(ours: bool) -> None:
    """keepalived 2.2.7 does not see that the address goes (measured here), although it is documented."""
    extra, source = "track_src_ip", "10.77.0.55"
    with Lab("a") as lab:
        node = lab.nodes["a"]
        node.run("ip", "addr", "add", f"{source}/24", "dev", "eth0")
        text = conf(150, instance_extra=f"mcast_src_ip {source}\n{extra}")
        (lab.vrrpd if ours else lab.keepalived)("a", text)
        lab.until(lambda: node.holds(VIP))
        node.run("ip", "addr", "del", f"{source}/24", "dev", "eth0")
        if not ours:
            lab.always(lambda: node.holds(VIP), 1.5, "keepalived stays MASTER")
            return
        lab.until(lambda: not node.holds(VIP), what="FAULT without the source address")
        node.run("ip", "addr", "add", f"{source}/24", "dev", "eth0")
        lab.until(lambda: node.holds(VIP))


@pytest.mark.shows("vrrp_instance/unicast_fault_no_peer")
def test_unicast_fault_no_peer(tmp_path: Path) -> None:
    """keepalived says FAULT at start, too; without the keyword both fall back to multicast."""
    with Lab("a", "b") as lab:
        text = conf(150, instance_extra="unicast_fault_no_peer")
        ours = lab.vrrpd("a", text)
        lab.until(lambda: is_in(ours, "FAULT"))
        record = tmp_path / "states"
        lab.keepalived("b", conf(150, instance_extra=f"unicast_fault_no_peer\nnotify {script(tmp_path / 'note', f'echo $3 >> {record}')}"))
        lab.until(lambda: record.exists() and "FAULT" in record.read_text())
        assert not lab.nodes["a"].holds(VIP) and not lab.nodes["b"].holds(VIP)
        reload(ours, conf(150, source=lab.nodes["a"].address))
        lab.until(lambda: is_in(ours, "MASTER"))


@pytest.mark.shows("vrrp_instance/notify_priority_changes", "global_defs/vrrp_notify_priority_changes")
@pytest.mark.shows("vrrp_sync_group/notify_priority_changes", "global_defs/fifo_write_vrrp_states_on_reload")
@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("place", ["instance", "group", "global", "nowhere"])
def test_priorities_and_states_in_the_fifo(tmp_path: Path, ours: bool, place: str) -> None:
    """The same lines from both daemons, for the same file."""
    value, path = tmp_path / "value", tmp_path / "fifo"
    value.write_text("0")
    word = "notify_priority_changes"
    text = conf(
        150,
        blocks=f"track_file f {{\nfile {value}\n}}\nvrrp_sync_group G {{\ngroup {{\nV1\n}}\nsync_group_tracking_weight\n"
        f"{word + ' on' if place == 'group' else ''}\n}}",
        instance_extra=f"track_file {{\nf weight 1\n}}\n{word + ' on' if place == 'instance' else ''}",
        global_extra=f"vrrp_notify_fifo {path}\nfifo_write_vrrp_states_on_reload\n{'vrrp_' + word if place == 'global' else ''}",
    )
    with Lab("a") as lab, fifo(path) as lines:
        daemon = (lab.vrrpd if ours else lab.keepalived)("a", text)
        lab.until(lambda: 'GROUP "G" MASTER 0' in lines)
        value.write_text("-30")
        if place == "nowhere":
            lab.always(lambda: 'INSTANCE "V1" MASTER_PRIORITY 120' not in lines, 1)
        else:
            lab.until(lambda: 'INSTANCE "V1" MASTER_PRIORITY 120' in lines)
        value.write_text("0")
        lab.until(lambda: place == "nowhere" or 'INSTANCE "V1" MASTER_PRIORITY 150' in lines)
        if place == "nowhere":
            del lines[:]
            reload(daemon, text)
            lab.until(lambda: 'GROUP "G" MASTER 0' in lines, what="the state of the group again after the reload")
            assert len(lines) == 1, "and not those of its members"


SOURCES = [
    ("10.77.0.55/24", "unicast_src_ip 10.77.0.55\nunicast_peer {\n10.77.0.2\n}", False),
    ("10.77.0.55/24", "mcast_src_ip 10.77.0.55", False),
    ("fd77::55/64", "unicast_src_ip fd77::55\nunicast_peer {\nfd77::2\n}", True),
    ("fe80::55/64", "mcast_src_ip fe80::55", True),
]


@pytest.mark.parametrize(("address", "lines", "ipv6"), SOURCES)
def test_a_source_that_is_not_ours_is_a_fault_that_ends_by_itself(address: str, lines: str, ipv6: bool) -> None:
    """MASTER beside a living MASTER, and deaf: that was the answer to a typing error or an address that a DHCP client took away (F2)."""
    with Lab("a", "b") as lab:
        node = lab.nodes["a"]
        ours = lab.vrrpd("a", conf(150, instance=lines, ipv6=ipv6))
        lab.until(lambda: is_in(ours, "FAULT"), what="missing at the start")
        assert any(address.split("/")[0] in cause for cause in instance(ours)["faults"])
        for _ in range(2):
            node.run("ip", "addr", "add", address, "dev", "eth0", *(["nodad"] if ipv6 else []))
            lab.until(lambda: is_in(ours, "MASTER"), what="it came")
            node.run("ip", "addr", "del", address, "dev", "eth0")
            lab.until(lambda: is_in(ours, "FAULT"), what="it is taken away")
            assert not node.holds("fd77::100" if ipv6 else VIP)
        node.run("ip", "link", "set", "eth0", "down")
        node.run("ip", "link", "set", "eth0", "up")
        node.run("ip", "addr", "add", address, "dev", "eth0", *(["nodad"] if ipv6 else []))
        lab.until(lambda: is_in(ours, "MASTER"), what="after the link was down")
