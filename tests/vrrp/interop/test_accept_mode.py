"""no_accept, strict's accept rule and promote_secondaries, beside Debian's keepalived."""

from __future__ import annotations

import re

import pytest

from tests.lab import Lab, Node
from tests.vrrp.interop.test_vrrpd_features import is_in, rewrite
from tests.vrrp.interop.vrrp_conf import VIP, conf

pytestmark = pytest.mark.system

EXCLUDED = "virtual_ipaddress_excluded {\n 10.77.0.120/24\n 2001:db8::5/64\n fe80::77/64\n}"
NO_ACCEPT = conf(150, instance_extra="no_accept", global_extra="nftables", instance=EXCLUDED)


def answers(node: Node, address: str) -> bool:
    return " 0% packet loss" in node.run("ping", "-n", "-c", "2", "-i", "0.2", "-W", "0.5", address, check=False)


def sets(node: Node) -> dict[str, str]:
    """ "table set" → its elements; the tables; how many rules drop."""
    found: dict[str, str] = {}
    rules = node.run("nft", "list", "ruleset")
    for table, body in re.findall(r"table (\S+ \S+) \{(.*?)\n\}", rules, re.S):
        for name, text in re.findall(r"set (vips\w*) \{[^{}]*elements = \{(.*?)\}", body, re.S):
            found[f"{table} {name}"] = " ".join(text.split())
    return found | {"tables": " ".join(re.findall(r"table (\S+ \S+) \{", rules)), "drops": str(rules.count("drop"))}


class TestNoAccept:
    @pytest.mark.shows("vrrp_instance/no_accept", "global_defs/nftables")
    def test_the_same_addresses_are_guarded_as_by_keepalived(self) -> None:
        seen = []
        for daemon in ("keepalived", "vrrpd"):
            with Lab("a", "b") as lab:
                node = lab.nodes["a"]
                running = getattr(lab, daemon)("a", NO_ACCEPT)
                lab.until(lambda node=node: node.holds("10.77.0.120") and node.holds(VIP))
                lab.until(lambda node=node: "ip6 keepalived vips_link_local" in sets(node))
                seen.append(sets(node))
                assert not answers(lab.nodes["b"], VIP)
                assert not answers(lab.nodes["b"], "10.77.0.120")
                assert answers(lab.nodes["b"], node.address)
                neighbour = lab.nodes["b"].run("ip", "neigh", "show", VIP)
                assert "lladdr" in neighbour, "only the packets are dropped: the address itself is resolved"
                running.stop()
                assert node.run("nft", "list", "ruleset") == ""
        assert seen[0] == seen[1]

    @pytest.mark.shows("global_defs/nftables_ifindex")
    def test_link_local_addresses_are_guarded_by_interface_index_as_by_keepalived(self) -> None:
        text = NO_ACCEPT.replace("nftables", "nftables\n nftables_ifindex")
        seen = []
        for daemon in ("keepalived", "vrrpd"):
            with Lab("a") as lab:
                node = lab.nodes["a"]
                getattr(lab, daemon)("a", text)
                lab.until(lambda node=node: "ip6 keepalived vips_link_local" in sets(node))
                rules = node.run("nft", "list", "ruleset")
                assert "type ipv6_addr . iface_index" in rules
                assert {"daddr . iif @vips_link_local", "saddr . oif @vips_link_local"} <= set(
                    re.findall(r"\w+ \. \w+ @vips_link_local", rules)
                )
                seen.append(sets(node))
        assert seen[0] == seen[1]

    @pytest.mark.shows("global_defs/vrrp_iptables", "global_defs/vrrp_ipsets")
    def test_rules_asked_for_by_the_words_of_iptables_are_nft_rules(self) -> None:
        """As keepalived's where ``iptables`` is the nf_tables one, as on Debian; a build without iptables does not know the words."""
        with Lab("a", "b") as lab:
            node = lab.nodes["a"]
            iptables = NO_ACCEPT.replace("nftables", "vrrp_iptables keepalived_in keepalived_out\n vrrp_ipsets vips4 vips6")
            ours = lab.vrrpd("a", iptables)
            lab.until(lambda: is_in(ours, "MASTER"))
            assert not answers(lab.nodes["b"], VIP) and not answers(lab.nodes["b"], "10.77.0.120")
            assert answers(lab.nodes["b"], node.address)
            assert sets(node)["ip keepalived vips"] == f"{VIP}, 10.77.0.120"
            ours.stop()
            assert node.run("nft", "list", "ruleset") == ""

    def test_a_firewall_that_is_flushed_or_emptied_is_put_back(self) -> None:
        with Lab("a") as lab:
            node = lab.nodes["a"]
            ours = lab.vrrpd("a", NO_ACCEPT)
            lab.until(lambda: is_in(ours, "MASTER"))
            whole = sets(node)
            for script in ("flush ruleset", "flush set ip keepalived vips", "delete table ip6 keepalived"):
                node.nft(script)
                lab.until(lambda: sets(node) == whole, what=f"the rules are back after: {script}")
            node.nft("table ip mine {\n chain c { type filter hook input priority 0; counter; }\n}\n")
            handle = node.run("nft", "-a", "list", "table", "ip", "keepalived")
            lab.always(
                lambda: node.run("nft", "-a", "list", "table", "ip", "keepalived") == handle, 1.0, "others' changes move nothing of ours"
            )
            rewrite(ours, conf(150))
            lab.until(lambda: sets(node) == {"tables": "ip mine", "drops": "0"})
            lab.always(lambda: sets(node) == {"tables": "ip mine", "drops": "0"}, 0.7, "nothing is put back that is not wanted")

    @pytest.mark.shows("vrrp_instance/accept")
    def test_without_the_word_everybody_is_let_in_and_a_reload_changes_that(self) -> None:
        with Lab("a", "b") as lab:
            ours = lab.vrrpd("a", conf(150))
            lab.until(lambda: is_in(ours, "MASTER"))
            lab.until(lambda: answers(lab.nodes["b"], VIP))
            assert lab.nodes["a"].run("nft", "list", "ruleset") == ""
            rewrite(ours, NO_ACCEPT)
            lab.until(lambda: not answers(lab.nodes["b"], VIP))
            rewrite(ours, conf(150))
            lab.until(lambda: answers(lab.nodes["b"], VIP))
            assert lab.nodes["a"].run("nft", "list", "ruleset") == ""

    @pytest.mark.shows("global_defs/nftables_counters")
    def test_rules_that_a_killed_daemon_left_are_replaced_and_others_stay(self) -> None:
        with Lab("a") as lab:
            node = lab.nodes["a"]
            node.nft("table ip mine {\n chain c { type filter hook input priority 0; counter; }\n}\n")
            first = lab.vrrpd("a", NO_ACCEPT)
            lab.until(lambda: is_in(first, "MASTER"))
            first.kill()
            assert "ip keepalived vips" in sets(node)
            second = lab.vrrpd("a", NO_ACCEPT.replace("10.77.0.120", "10.77.0.121").replace("nftables", "nftables\n nftables_counters"))
            lab.until(lambda: is_in(second, "MASTER"))
            assert sets(node)["ip keepalived vips"] == f"{VIP}, 10.77.0.121"
            assert "counter packets" in node.run("nft", "list", "table", "ip", "keepalived")
            second.stop()
            assert sets(node) == {"tables": "ip mine", "drops": "0"}

    @pytest.mark.shows("global_defs/vrrp_strict")
    def test_an_owner_always_accepts_and_strict_does_not(self) -> None:
        with Lab("a", "b") as lab:
            owner = lab.vrrpd("a", conf(255, instance_extra="no_accept", global_extra="nftables").replace("state BACKUP", "state MASTER"))
            lab.until(lambda: is_in(owner, "MASTER"))
            lab.until(lambda: answers(lab.nodes["b"], VIP))
            owner.stop()
            strict = lab.vrrpd("a", conf(150, global_extra="vrrp_strict\n nftables other"))
            lab.until(lambda: is_in(strict, "MASTER"))
            assert not answers(lab.nodes["b"], VIP)
            assert sets(lab.nodes["a"])["tables"] == "ip other"


@pytest.mark.shows("vrrp_instance/promote_secondaries")
def test_promote_secondaries_is_set_and_given_back() -> None:
    def value(node: Node) -> str:
        return node.run("cat", "/proc/sys/net/ipv4/conf/eth0/promote_secondaries").strip()

    for daemon in ("keepalived", "vrrpd"):
        with Lab("a") as lab:
            node = lab.nodes["a"]
            assert value(node) == "0"
            running = getattr(lab, daemon)("a", conf(150, instance_extra="promote_secondaries"))
            lab.until(lambda node=node: node.holds(VIP))
            assert value(node) == "1"
            running.stop()
            assert value(node) == "0"
