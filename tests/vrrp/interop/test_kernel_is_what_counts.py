"""What the kernel holds is what counts: whatever form an address has there, it goes when we go; after a reload the kernel is what the new
file says, for every word that an address, route or rule line may have."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable

import pytest

from tests.lab import Daemon, Lab, Node
from tests.vrrp.interop.vrrp_conf import VIP, conf
from tests.vrrp.interop.vrrpd_status import instance, is_in, reload
from vrrp.config.address_lines import _OPTIONS as ADDRESS_WORDS
from vrrp.config.route_lines import _ROUTE_WORDS as ROUTE_WORDS
from vrrp.config.route_lines import _RULE_WORDS as RULE_WORDS

pytestmark = pytest.mark.system
FORMS = {
    "twice": f"{VIP}\n{VIP}",
    "two lengths": f"{VIP}/24\n{VIP}",
    "with and without a label": f"{VIP}\n{VIP} label eth0:1",
    "a label": f"{VIP}/24 label eth0:1",
    "two lengths of IPv6": "fe80::77:100/64\nfd77::100/64\nfd77::100/128",
}
ENDS: dict[str, Callable[[Lab, Daemon], object]] = {
    "stop": lambda _lab, ours: ours.stop(),
    "kill -9 of all": lambda _lab, ours: ours.kill(),
    "kill -9 of the vrrp process": lambda _lab, ours: kill_vrrp_process(ours),
    "fault": lambda lab, _ours: lab.cut("a"),
}


def kill_vrrp_process(ours: Daemon) -> None:
    os.kill(int((ours.directory / "vrrp.pid").read_text()), signal.SIGKILL)


def forms(node: Node, address: str = VIP) -> list[str]:
    """Every length and label with which ``address`` is on eth0."""
    text = node.run("ip", "addr", "show", "dev", "eth0")
    return [line.strip() for line in text.splitlines() if re.match(rf"\s*inet6? {re.escape(address)}/", line)]


@pytest.mark.parametrize("end", list(ENDS))
@pytest.mark.parametrize("listed", list(FORMS))
def test_an_address_goes_in_every_form_that_it_is_listed_in(listed: str, end: str) -> None:
    address = "fd77::100" if "IPv6" in listed else VIP
    with Lab("a") as lab:
        node = lab.nodes["a"]
        ours = lab.vrrpd("a", conf(150, vip=FORMS[listed], interval="0.5"))
        lab.until(lambda: is_in(ours, "MASTER"))
        assert forms(node, address)
        ENDS[end](lab, ours)
        lab.until(lambda: not forms(node, address), 2, "nothing of it is left")


@pytest.mark.parametrize("end", list(ENDS))
def test_what_somebody_added_in_another_form_goes_too(end: str) -> None:
    with Lab("a") as lab:
        node = lab.nodes["a"]
        node.run("ip", "addr", "add", f"{VIP}/24", "dev", "eth0", "label", "eth0:old")
        ours = lab.vrrpd("a", conf(150, vip=f"{VIP}/32", interval="0.5"))
        lab.until(lambda: is_in(ours, "BACKUP"))
        assert not forms(node), "as BACKUP we have it in no form"
        lab.until(lambda: is_in(ours, "MASTER"))
        node.run("ip", "addr", "add", f"{VIP}/25", "dev", "eth0")
        lab.until(lambda: len(forms(node)) == 2)
        ENDS[end](lab, ours)
        lab.until(lambda: not forms(node), 2, "nothing of it is left")


def test_a_takeover_brings_a_left_over_form_in_line() -> None:
    with Lab("a") as lab:
        node = lab.nodes["a"]
        ours = lab.vrrpd("a", conf(150, vip="10.70.0.1/24 label eth0:new brd +", interval="1.0"))
        lab.until(lambda: is_in(ours, "BACKUP"))
        node.run("ip", "addr", "add", "10.70.0.1/24", "dev", "eth0", "label", "eth0:old", "scope", "link")
        lab.until(lambda: is_in(ours, "MASTER"))
        lab.until(lambda: forms(node, "10.70.0.1") == ["inet 10.70.0.1/24 brd 10.70.0.255 scope global eth0:new"])


# ---- reload -------------------------------------------------------------------------------------------------------

ADDRESS_CHANGES: dict[str, tuple[str, str]] = {
    "brd": ("10.70.1.1/24", "10.70.1.1/24 brd +"),
    "broadcast": ("10.70.2.1/24 broadcast 10.70.2.255", "10.70.2.1/24 broadcast 10.70.2.0"),
    "dev": ("10.70.3.1/24", "10.70.3.1/24 dev up0"),
    "scope": ("10.70.4.1/24", "10.70.4.1/24 scope link"),
    "label": ("10.70.5.1/24 label eth0:1", "10.70.5.1/24 label eth0:2"),
    "peer": ("10.70.6.1/32", "10.70.6.1 peer 10.70.6.2/32"),
    "preferred_lft": ("fd70:7::1/64", "fd70:7::1/64 preferred_lft 0"),
    "no_track": ("10.70.8.1/24", "10.70.8.1/24 no_track"),
    "noprefixroute": ("10.70.9.1/24", "10.70.9.1/24 noprefixroute"),
    "home": ("fd70:1::1/64", "fd70:1::1/64 home"),
    "-nodad": ("fd70:2::1/64", "fd70:2::1/64 -nodad"),
    "mngtmpaddr": ("fd70:3::1/64", "fd70:3::1/64 mngtmpaddr"),
    "autojoin": ("239.70.10.1/32", "239.70.10.1/32 autojoin"),
    "length": ("10.70.11.1/24", "10.70.11.1/25"),
    "length of IPv6": ("fd70:4::1/64", "fd70:4::1/112"),
    "new": ("", "10.70.12.1/24"),
    "gone": ("10.70.13.1/24", ""),
    "preferred_lft of IPv6": ("fd70:5::1/64", "fd70:5::1/64 preferred_lft 0"),
}
NOT_IN_ADDRESSES = {"use_vmac": "test_vmac.py", "track_group": "static addresses only"}
VIA = "via 10.77.0.9 dev eth0"
ROUTE_CHANGES: dict[str, tuple[str, str]] = {
    "to": (f"10.71.1.0/24 {VIA}", f"to 10.71.1.0/25 {VIA}"),
    "src": (f"10.71.2.0/24 {VIA}", f"10.71.2.0/24 {VIA} src {VIP}"),
    "via": (f"10.71.3.0/24 {VIA}", "10.71.3.0/24 via 10.77.0.8 dev eth0"),
    "dev": ("10.71.4.0/24 dev eth0", "10.71.4.0/24 dev up0"),
    "oif": ("10.71.5.0/24 oif eth0", "10.71.5.0/24 oif up0"),
    "scope": ("10.71.6.0/24 dev eth0", "10.71.6.0/24 dev eth0 scope link"),
    "table": (f"10.71.7.0/24 {VIA}", f"10.71.7.0/24 {VIA} table 77"),
    "metric": (f"10.71.8.0/24 {VIA}", f"10.71.8.0/24 {VIA} metric 7"),
    "priority": (f"10.71.9.0/24 {VIA} priority 8", f"10.71.9.0/24 {VIA} priority 9"),
    "preference": (f"10.71.10.0/24 {VIA} preference 8", f"10.71.10.0/24 {VIA} preference 9"),
    "tos": (f"10.71.11.0/24 {VIA}", f"10.71.11.0/24 {VIA} tos 0x10"),
    "dsfield": (f"10.71.12.0/24 {VIA} dsfield 0x08", f"10.71.12.0/24 {VIA} dsfield 0x10"),
    "protocol": (f"10.71.13.0/24 {VIA} no_track", f"10.71.13.0/24 {VIA} no_track protocol static"),
    "proto": (f"10.71.14.0/24 {VIA} no_track", f"10.71.14.0/24 {VIA} no_track proto boot"),
    "nexthop": (
        "10.71.15.0/24 nexthop via 10.77.0.9 dev eth0 weight 2 nexthop via 10.77.0.8 dev eth0",
        "10.71.15.0/24 nexthop via 10.77.0.9 dev eth0 weight 3 nexthop via 10.77.0.7 dev eth0",
    ),
    "weight": (
        "10.71.16.0/24 nexthop via 10.77.0.9 dev eth0 weight 2 nexthop via 10.77.0.8 dev eth0",
        "10.71.16.0/24 nexthop via 10.77.0.9 dev eth0 weight 3 nexthop via 10.77.0.8 dev eth0",
    ),
    "encap": ("10.71.17.0/24 dev eth0", "10.71.17.0/24 encap ip id 100 dst 10.77.0.3 dev eth0"),
    "inet": (f"10.71.18.0/24 {VIA}", "inet 10.71.18.0/24 via inet6 fe80::9 dev eth0"),
    "inet6": ("inet6 fd71:18::/64 dev eth0", "inet6 fd71:18::/64 dev up0"),
    "no_track": (f"10.71.19.0/24 {VIA}", f"10.71.19.0/24 {VIA} no_track"),
    "unicast": (f"10.71.20.0/24 {VIA}", f"unicast 10.71.20.0/24 {VIA} metric 3"),
    "local": ("local 10.71.21.0/24 dev eth0 table 70", "local 10.71.21.0/24 dev up0 table 70"),
    "broadcast": ("10.71.22.0/24 dev eth0", "broadcast 10.71.22.0/24 dev eth0"),
    "multicast": ("10.71.23.0/24 dev eth0", "multicast 10.71.23.0/24 dev eth0"),
    "throw": (f"10.71.24.0/24 {VIA}", "throw 10.71.24.0/24"),
    "unreachable": (f"10.71.25.0/24 {VIA}", "unreachable 10.71.25.0/24"),
    "prohibit": ("unreachable 10.71.26.0/24", "prohibit 10.71.26.0/24"),
    "blackhole": ("prohibit 10.71.27.0/24", "blackhole 10.71.27.0/24"),
    "anycast": ("10.71.28.0/24 dev eth0", "anycast 10.71.28.0/24 dev eth0"),
    **{
        word: (f"10.72.{at}.0/24 {VIA} {word} 20", f"10.72.{at}.0/24 {VIA} {word} 30")
        for at, word in enumerate(
            ("hoplimit", "advmss", "rtt", "rttvar", "reordering", "window", "cwnd", "ssthresh", "rto_min", "initcwnd", "initrwnd")
        )
    },
    "mtu": (f"10.71.29.0/24 {VIA}", f"10.71.29.0/24 {VIA} mtu lock 1400"),
    "quickack": (f"10.71.30.0/24 {VIA}", f"10.71.30.0/24 {VIA} quickack 1"),
    "fastopen_no_cookie": (f"10.71.31.0/24 {VIA}", f"10.71.31.0/24 {VIA} fastopen_no_cookie 1"),
    "realms": (f"10.71.32.0/24 {VIA} realms 3", f"10.71.32.0/24 {VIA} realms 4"),
    "features": (f"10.71.33.0/24 {VIA}", f"10.71.33.0/24 {VIA} features ecn"),
    "congctl": (f"10.71.34.0/24 {VIA}", f"10.71.34.0/24 {VIA} congctl reno"),
    "pref": ("fd71:35::/64 via fe80::9 dev eth0 pref low", "fd71:35::/64 via fe80::9 dev eth0 pref high"),
    "ttl-propagate": (f"10.71.37.0/24 {VIA}", f"10.71.37.0/24 {VIA} ttl-propagate enabled"),
    "onlink": ("10.71.38.0/24 via 10.77.0.9 dev eth0", "10.71.38.0/24 via 10.9.0.9 dev eth0 onlink"),
    "add": (f"add 10.71.39.0/24 {VIA}", f"10.71.39.0/24 {VIA} metric 4"),
    "prepend": (f"prepend 10.71.40.0/24 {VIA}", f"10.71.40.0/24 {VIA} metric 4"),
    "append": (f"append 10.71.41.0/24 {VIA}", f"10.71.41.0/24 {VIA} metric 4"),
    "metric of IPv6": ("fd71:42::/64 via fe80::9 dev eth0", "fd71:42::/64 via fe80::9 dev eth0 mtu 1400"),
    "new": ("", f"10.71.43.0/24 {VIA}"),
    "gone": (f"10.71.44.0/24 {VIA}", ""),
}
NOT_IN_ROUTES = {
    "gw": "via under an old name",
    "or": "a second gateway under an old name",
    "expires": "it runs down: two looks differ",
    "vrf": "the kernel wants a VRF",
    "nat": "the kernel has none since 2.6",
    "track_group": "static routes only",
}
RULE_CHANGES: dict[str, tuple[str, str]] = {
    "from": ("from 10.73.1.0/24 table 7 preference 601", "from 10.73.1.0/25 table 7 preference 601"),
    "to": ("to 10.73.2.0/24 table 7 preference 602", "to 10.73.2.0/25 table 7 preference 602"),
    "iif": ("iif eth0 table 7 preference 603", "iif up0 table 7 preference 603"),
    "dev": ("dev eth0 table 7 preference 604", "dev up0 table 7 preference 604"),
    "oif": ("oif eth0 table 7 preference 605", "oif up0 table 7 preference 605"),
    "tos": ("from 10.73.6.0/24 tos 0x08 table 7 preference 606", "from 10.73.6.0/24 tos 0x10 table 7 preference 606"),
    "dsfield": ("from 10.73.7.0/24 dsfield 0x08 table 7 preference 607", "from 10.73.7.0/24 dsfield 0x10 table 7 preference 607"),
    "fwmark": ("fwmark 5 table 7 preference 608", "fwmark 5/0xff table 7 preference 608"),
    "realms": ("from 10.73.9.0/24 realms 3 table 7 preference 609", "from 10.73.9.0/24 realms 4 table 7 preference 609"),
    "suppress_prefixlength": (
        "from 10.73.10.0/24 suppress_prefixlength 0 table 7 preference 610",
        "from 10.73.10.0/24 suppress_prefixlength 1 table 7 preference 610",
    ),
    "suppress_ifgroup": (
        "from 10.73.11.0/24 suppress_ifgroup 3 table 7 preference 611",
        "from 10.73.11.0/24 suppress_ifgroup 4 table 7 preference 611",
    ),
    "tunnel-id": ("tunnel-id 3 table 7 preference 612", "tunnel-id 4 table 7 preference 612"),
    "uidrange": ("uidrange 3-4 table 7 preference 613", "uidrange 3-5 table 7 preference 613"),
    "protocol": (
        "from 10.73.14.0/24 no_track protocol static table 7 preference 614",
        "from 10.73.14.0/24 no_track protocol boot table 7 preference 614",
    ),
    "ipproto": ("ipproto tcp table 7 preference 615", "ipproto udp table 7 preference 615"),
    "ip_proto": ("ip_proto 6 table 7 preference 616", "ip_proto 17 table 7 preference 616"),
    "sport": ("sport 80 table 7 preference 617", "sport 80-81 table 7 preference 617"),
    "dport": ("dport 80 table 7 preference 618", "dport 80-81 table 7 preference 618"),
    "table": ("from 10.73.19.0/24 table 7 preference 619", "from 10.73.19.0/24 table 8 preference 619"),
    "lookup": ("from 10.73.20.0/24 lookup 7 preference 620", "from 10.73.20.0/24 lookup 8 preference 620"),
    "goto": ("from 10.73.21.0/24 goto 32766 preference 621", "from 10.73.21.0/24 goto 32767 preference 621"),
    "nop": ("from 10.73.22.0/24 table 7 preference 622", "from 10.73.22.0/24 nop preference 622"),
    "l3mdev": ("from 10.73.23.0/24 table 7 preference 623", "from 10.73.23.0/24 l3mdev preference 623"),
    "throw": ("", ""),
    "unreachable": ("from 10.73.24.0/24 table 7 preference 624", "from 10.73.24.0/24 unreachable preference 624"),
    "prohibit": ("from 10.73.25.0/24 table 7 preference 625", "from 10.73.25.0/24 prohibit preference 625"),
    "blackhole": ("from 10.73.26.0/24 table 7 preference 626", "from 10.73.26.0/24 blackhole preference 626"),
    "type": ("from 10.73.27.0/24 type blackhole preference 627", "from 10.73.27.0/24 type prohibit preference 627"),
    "not": ("from 10.73.28.0/24 table 7 preference 628", "not from 10.73.28.0/24 table 7 preference 628"),
    "preference": ("from 10.73.29.0/24 table 7 preference 629", "from 10.73.29.0/24 table 7 preference 729"),
    "priority": ("from 10.73.30.0/24 table 7 priority 630", "from 10.73.30.0/24 table 7 priority 730"),
    "order": ("from 10.73.31.0/24 table 7 order 631", "from 10.73.31.0/24 table 7 order 731"),
    "inet": ("inet from all table 7 preference 632", "inet from all table 8 preference 632"),
    "inet6": ("inet6 from all table 7 preference 633", "inet6 from all table 8 preference 633"),
    "no_track": ("from 10.73.34.0/24 table 7 preference 634", "from 10.73.34.0/24 table 7 preference 634 no_track"),
    "new": ("", "from 10.73.35.0/24 table 7 preference 635"),
    "gone": ("from 10.73.36.0/24 table 7 preference 636", ""),
    "no preference": ("from 10.73.37.0/24 table 7", "from 10.73.37.0/24 table 8"),
}
NOT_IN_RULES = {"nat": "the kernel has none", "map-to": "the kernel has none", "track_group": "static rules only"}


def test_every_word_of_every_line_is_played() -> None:
    assert set(ADDRESS_WORDS) <= ADDRESS_CHANGES.keys() | NOT_IN_ADDRESSES.keys()
    assert set(ROUTE_WORDS) <= ROUTE_CHANGES.keys() | NOT_IN_ROUTES.keys()
    assert set(RULE_WORDS) <= RULE_CHANGES.keys() | NOT_IN_RULES.keys()


def configuration(at: int) -> str:
    blocks = [
        (name, [pair[at] for pair in changes.values() if pair[at]])
        for name, changes in (
            ("virtual_ipaddress_excluded", ADDRESS_CHANGES),
            ("virtual_routes", ROUTE_CHANGES),
            ("virtual_rules", RULE_CHANGES),
        )
    ]
    return conf(150, instance="\n".join(f"{name} {{\n" + "\n".join(lines) + "\n}" for name, lines in blocks))


def kernel(node: Node) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for family in ("-4", "-6"):
        text = node.run("ip", "-d", family, "route", "show", "table", "all").replace("\n\t", " ")
        found[f"routes {family}"] = sorted(line.strip() for line in text.splitlines() if "proto kernel" not in line)
        found[f"rules {family}"] = sorted(line.strip() for line in node.run("ip", "-d", family, "rule").splitlines())
    text = "\n".join(node.run("ip", "addr", "show", "dev", device) for device in ("eth0", "up0"))
    text = text.replace(" secondary", "").replace("\n       valid_lft", " valid_lft")
    found["addresses"] = sorted(line.strip() for line in text.splitlines() if re.match(r"\s+inet", line) and "fe80" not in line)
    return found


def second_link(node: Node) -> None:
    node.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
    for name in ("up0", "up1"):
        node.run("ip", "link", "set", name, "up")


def started(at: int) -> dict[str, list[str]]:
    """The kernel under a daemon that began with this configuration."""
    with Lab("a") as lab:
        second_link(lab.nodes["a"])
        ours = lab.vrrpd("a", configuration(at))
        lab.until(lambda: is_in(ours, "MASTER"))
        return kernel(lab.nodes["a"])


def test_after_a_reload_the_kernel_is_what_the_new_file_says() -> None:
    wanted = {at: started(at) for at in (0, 1)}
    assert all(len(wanted[0][part]) > 2 and wanted[0][part] != wanted[1][part] for part in ("routes -4", "rules -4", "addresses"))
    with Lab("a") as lab:
        node = lab.nodes["a"]
        second_link(node)
        clean = kernel(node)
        ours = lab.vrrpd("a", configuration(0))
        lab.until(lambda: is_in(ours, "MASTER"))
        since = instance(ours)["since_ns"]
        for at in (1, 0, 1):
            lines = ours.text().count("Reload complete")
            reload(ours, configuration(at))
            lab.until(lambda lines=lines: ours.text().count("Reload complete") > lines)
            found = kernel(node)
            for part, lines in wanted[at].items():
                assert (set(found[part]) - set(lines), set(lines) - set(found[part])) == (set(), set()), part
            assert instance(ours)["since_ns"] == since
        ours.stop()
        assert kernel(node) == clean
