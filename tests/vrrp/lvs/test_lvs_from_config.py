"""From keepalived.conf to resolved settings: defaults, inheritance, repairs and errors."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from base.core import NS_PER_S
from base.diagnostics import Diagnostics, Severity
from tests.vrrp.config.reading import INSTANCE, read
from vrrp.config.model.common import Family
from vrrp.lvs.from_config import virtual_servers
from vrrp.lvs.model.settings import (
    BfdProbe,
    CheckerSettings,
    DnsProbe,
    FileProbe,
    Forwarding,
    HttpProbe,
    Listen,
    Method,
    MiscProbe,
    PingProbe,
    SmtpProbe,
    SorryServer,
    TcpProbe,
    Transport,
    TunnelChecksum,
    TunnelType,
    UdpProbe,
    VirtualServerSettings,
)


def convert(directory: Path, text: str, gates: dict[str, str] | None = None) -> tuple[tuple[VirtualServerSettings, ...], Diagnostics]:
    found = Diagnostics()
    return virtual_servers(read(directory, text).config, found, gates), found


def one(directory: Path, inside: str = "", real: str = "", *, head: str = "", listen: str = "10.0.0.9 80") -> VirtualServerSettings:
    text = f"{head}\nvirtual_server {listen} {{\nprotocol TCP\n{inside}\nreal_server 10.0.0.1 80 {{\n{real}\n}}\n}}\n"
    (server,), found = convert(directory, text)
    assert found.errors == []
    return server


def checker(directory: Path, text: str, inside: str = "", real: str = "", head: str = "") -> CheckerSettings:
    (found,) = one(directory, inside, f"{real}\n{text}", head=head).real_servers[0].checkers
    return found


def test_defaults_are_those_of_keepalived(tmp_path: Path) -> None:
    server = one(tmp_path)
    assert server.id == "[10.0.0.9]:tcp:80"
    assert server.listen == (Listen(Family.IPV4, ip_address("10.0.0.9"), 80),)
    assert (server.scheduler, server.transport, server.quorum, server.hysteresis) == ("wlc", Transport.TCP, 1, 0)
    assert (server.persistence_timeout_s, server.smtp_alert, server.only_while_master) == (0, False, "")
    (real,) = server.real_servers
    assert (real.id, real.weight, real.forwarding, real.smtp_alert) == ("[10.0.0.1]:tcp:80", 1, Forwarding(Method.NAT), True)


@pytest.mark.parametrize(
    ("text", "retry", "delay_s", "loop_s"),
    [
        ("TCP_CHECK {\n}", 1, 1, 60),
        ("HTTP_GET {\nurl {\npath /\n}\n}", 1, 3, 60),
        ("SSL_GET {\nurl {\npath /\n}\n}", 1, 3, 60),
        ("SMTP_CHECK {\n}", 1, 1, 60),
        ("DNS_CHECK {\n}", 3, 60, 60),
        ("UDP_CHECK {\n}", 1, 1, 60),
        ("PING_CHECK {\n}", 1, 1, 60),
        ("MISC_CHECK {\nmisc_path /bin/true\n}", 0, 1, 60),
        ("DNS_CHECK {\ndelay_loop 7\n}", 3, 7, 7),
        ("TCP_CHECK {\nretry 5\ndelay_before_retry 2.5\ndelay_loop 9\nwarmup 0\n}", 5, 2.5, 9),
        ("HTTP_GET {\nnb_get_retry 4\nurl {\npath /\n}\n}", 4, 3, 60),
    ],
)
def test_timing_of_each_kind(tmp_path: Path, text: str, retry: int, delay_s: float, loop_s: int) -> None:
    timing = checker(tmp_path, text).timing
    assert (timing.retry, timing.delay_before_retry_ns, timing.delay_loop_ns) == (retry, int(delay_s * NS_PER_S), loop_s * NS_PER_S)


def test_what_is_nearest_wins(tmp_path: Path) -> None:
    service = "delay_loop 20\nretry 7\nconnect_timeout 4\nalpha\nwarmup 3"
    found = checker(tmp_path, "TCP_CHECK {\n}", service)
    assert (found.timing.retry, found.timing.delay_loop_ns, found.timing.alpha) == (7, 20 * NS_PER_S, True)
    assert isinstance(found.probe, TcpProbe) and found.probe.connection.timeout_ns == 4 * NS_PER_S
    found = checker(tmp_path, "TCP_CHECK {\n}", service, "retry 8\ndelay_loop 30\nalpha off\nconnect_timeout 3")
    assert (found.timing.retry, found.timing.delay_loop_ns, found.timing.alpha) == (8, 30 * NS_PER_S, False)
    found = checker(tmp_path, "TCP_CHECK {\nretry 9\nalpha on\nconnect_timeout 2\n}", service, "retry 8\nalpha off\nconnect_timeout 3")
    assert (found.timing.retry, found.timing.alpha, found.timing.warmup_ns) == (9, True, 3 * NS_PER_S)
    assert isinstance(found.probe, TcpProbe) and found.probe.connection.timeout_ns == 2 * NS_PER_S


def test_weight_inhibit_and_method_are_inherited(tmp_path: Path) -> None:
    server = one(tmp_path, "weight 5\ninhibit_on_failure\nlb_kind TUN type gue port 6080 csum\nlb_algo sh\nsh-port\nsh-fallback")
    real = server.real_servers[0]
    assert (real.weight, real.inhibit_on_failure) == (5, True)
    assert real.forwarding == Forwarding(Method.TUNNEL, TunnelType.GUE, 6080, TunnelChecksum.FULL)
    assert (server.scheduler, server.scheduler_flags) == ("sh", 3)
    real = one(tmp_path, "weight 5\ninhibit_on_failure\nlb_kind TUN", "weight 2\ninhibit_on_failure off\nlvs_method DR").real_servers[0]
    assert (real.weight, real.inhibit_on_failure, real.forwarding.method) == (2, False, Method.DIRECT)


def test_the_virtual_host_comes_from_the_nearest_level(tmp_path: Path) -> None:
    text = "SSL_GET {\n{own}\nenable_sni\nurl {\npath /a\nvirtualhost url.test\n}\nurl {\npath /b\n}\n}"
    nearest = (("", "", "vs.test"), ("", "virtualhost rs.test", "rs.test"), ("virtualhost c.test", "virtualhost rs.test", "c.test"))
    for own, real, expected in nearest:
        probe = checker(tmp_path, text.replace("{own}", own), "virtualhost vs.test", real).probe
        assert isinstance(probe, HttpProbe) and probe.tls is not None
        assert [url.host for url in probe.urls] == ["url.test", expected]
        assert probe.tls.server_name == expected


def test_a_url_with_everything(tmp_path: Path) -> None:
    text = """HTTP_GET {
        connect_ip 10.0.0.77
        connect_port 8080
        bindto 10.0.0.5
        bind_port 5000
        bind_if eth0
        fwmark 3
        http_protocol 1.1
        fast_recovery
        url {
            path /x
            digest 0123456789abcdef0123456789abcdef
            status_code 200 300-302
            regex "ok|fine"
            regex_options caseless
            regex_min_offset 2
            regex_max_offset 9
            regex_no_match
        }
    }"""
    probe = checker(tmp_path, text).probe
    assert isinstance(probe, HttpProbe)
    connection = probe.connection
    assert (str(connection.address), connection.port, str(connection.bind_address), connection.bind_port) == (
        "10.0.0.77",
        8080,
        "10.0.0.5",
        5000,
    )
    assert (connection.bind_interface, connection.fwmark, probe.protocol, probe.fast_recovery) == ("eth0", 3, "1.1", True)
    (url,) = probe.urls
    assert url.digest == bytes.fromhex("0123456789abcdef0123456789abcdef")
    assert [url.accepts(status) for status in (200, 204, 301, 303)] == [True, False, True, False]
    pattern = url.pattern
    assert pattern is not None
    assert (pattern.expression, pattern.inverted, pattern.options) == ("ok|fine", True, ("caseless",))
    assert (pattern.minimum_offset, pattern.maximum_offset) == (2, 9)


def test_the_other_kinds(tmp_path: Path) -> None:
    text = """
        SMTP_CHECK {
            helo_name me.test
        }
        DNS_CHECK {
            type MX
            name example.test
        }
        UDP_CHECK {
            payload 0a 0b
            require_reply "0X ff"
            min_reply_length 2
            max_reply_length 9
        }
        PING_CHECK {
        }
        MISC_CHECK {
            misc_path "/bin/check -a b"
            misc_timeout 4
            misc_dynamic
            user nobody daemon
        }
        FILE_CHECK {
            track_file f
        }
        FILE_CHECK {
            track_file f
            weight -3 reverse
        }
        BFD_CHECK {
            name b
        }"""
    head = "track_file f {\nfile /tmp/f\nweight 2\n}\nbfd_instance b {\nneighbor_ip 10.0.0.1\n}"
    checkers = one(tmp_path, real=text, head=head).real_servers[0].checkers
    probes = {type(found.probe): found.probe for found in checkers}
    smtp, dns, udp, misc = probes[SmtpProbe], probes[DnsProbe], probes[UdpProbe], probes[MiscProbe]
    assert isinstance(smtp, SmtpProbe) and smtp.helo_name == "me.test"
    assert isinstance(dns, DnsProbe) and (dns.record_type, dns.name) == ("MX", "example.test")
    assert isinstance(udp, UdpProbe)
    assert (udp.payload, udp.require_reply, udp.min_reply_length, udp.max_reply_length) == (b"\x0a\x0b", (b"\x00\xff", b"\xf0\xff"), 2, 9)
    assert isinstance(misc, MiscProbe)
    assert (misc.command.arguments, misc.command.user, misc.command.group) == (("/bin/check", "-a", "b"), "nobody", "daemon")
    assert (misc.timeout_ns, misc.dynamic) == (4 * NS_PER_S, True)
    assert PingProbe in probes and probes[BfdProbe] == BfdProbe("b")
    files = [found.probe for found in checkers if isinstance(found.probe, FileProbe)]
    assert files == [FileProbe("f", "/tmp/f", 2), FileProbe("f", "/tmp/f", -3, True)]
    assert len({found.id for found in checkers}) == len(checkers), "ids are unique even for twins"


def test_smtp_hosts_become_checkers_of_their_own(tmp_path: Path) -> None:
    hosts = "host {\nconnect_port 25\n}\nhost {\nconnect_ip 10.0.0.2\nconnect_port 587\n}"
    text = f"SMTP_CHECK {{\nhelo_name me.test\nconnect_timeout 3\n{hosts}\n}}"
    probes = [found.probe for found in one(tmp_path, real=text).real_servers[0].checkers]
    assert [(str(p.connection.address), p.connection.port, p.helo_name) for p in probes if isinstance(p, SmtpProbe)] == [
        ("10.0.0.1", 25, "me.test"),
        ("10.0.0.2", 587, "me.test"),
    ]
    assert all(p.connection.timeout_ns == 3 * NS_PER_S for p in probes if isinstance(p, SmtpProbe))


def test_only_nat_keeps_a_port_of_its_own_but_checks_use_it(tmp_path: Path) -> None:
    text = "virtual_server 10.0.0.9 80 {{\nprotocol TCP\nlb_kind {kind}\nreal_server 10.0.0.1 8080 {{\nTCP_CHECK {{\n}}\n}}\n}}"
    for kind, port in (("NAT", 8080), ("DR", 0), ("TUN", 0)):
        (server,), _ = convert(tmp_path, text.format(kind=kind))
        (real,) = server.real_servers
        assert real.port == port
        probe = real.checkers[0].probe
        assert isinstance(probe, TcpProbe) and probe.connection.port == 8080


def test_firewall_marks_and_their_family(tmp_path: Path) -> None:
    (server,), found = convert(tmp_path, "virtual_server fwmark 5 {\nlb_kind DR\nreal_server 2001:db8::1 80 {\nTCP_CHECK {\n}\n}\n}")
    assert found.errors == []
    assert (server.id, server.transport, server.listen) == ("FWM 5 inet6", Transport.NONE, (Listen(Family.IPV6, fwmark=5),))
    probe = server.real_servers[0].checkers[0].probe
    assert isinstance(probe, TcpProbe) and probe.connection.port == 80


def test_groups_are_spread_out(tmp_path: Path) -> None:
    text = """virtual_server_group G {
        10.0.0.1 80
        10.0.0.4-5 81
        10.0.1.0/30 82
        fwmark 7
    }
    virtual_server group G {
        protocol TCP
        real_server 10.0.0.99 80 {
        }
    }"""
    (server,), found = convert(tmp_path, text)
    assert found.errors == []
    assert [(str(entry.address), entry.port, entry.fwmark) for entry in server.listen] == [
        ("10.0.0.1", 80, 0),
        ("10.0.0.4", 81, 0),
        ("10.0.0.5", 81, 0),
        *((f"10.0.1.{n}", 82, 0) for n in range(4)),
        ("None", 0, 7),
    ]
    assert server.transport is Transport.TCP


def test_sorry_server_quorum_and_the_rest(tmp_path: Path) -> None:
    inside = (
        "sorry_server 10.0.0.200 8080\nsorry_server_inhibit\nquorum 3\nhysteresis 2\nomega\nha_suspend\nsmtp_alert\nweight 4\n"
        "persistence_timeout\npersistence_granularity 255.255.255.0\nquorum_up /bin/up\nquorum_down /bin/down"
    )
    server = one(tmp_path, inside)
    assert server.sorry_server == SorryServer(ip_address("10.0.0.200"), 8080, Forwarding(), True)
    assert (server.quorum, server.hysteresis, server.omega, server.ha_suspend, server.smtp_alert) == (3, 2, True, True, True)
    assert (server.persistence_timeout_s, server.persistence_prefix) == (360, 24)
    assert server.quorum_up is not None and server.quorum_down is not None


def test_global_switches_reach_the_services(tmp_path: Path) -> None:
    server = one(
        tmp_path, real="TCP_CHECK {\n}", head="global_defs {\nsmtp_alert_checker on\nchecker_log_all_failures\nrs_init_notifies\n}"
    )
    assert server.smtp_alert and server.init_notifies
    assert server.real_servers[0].checkers[0].timing.log_all_failures
    server = one(tmp_path, head="global_defs {\nsmtp_alert off\n}")
    assert not server.real_servers[0].smtp_alert


def test_an_unreachable_quorum_is_lowered_with_a_warning(tmp_path: Path) -> None:
    text = "virtual_server 10.0.0.9 80 {\nprotocol TCP\nquorum 9\nhysteresis 5\nreal_server 10.0.0.1 80 {\nweight 2\n}\n}"
    (server,), found = convert(tmp_path, text)
    assert (server.quorum, server.hysteresis) == (2, 1)
    assert [(d.severity, d.position.line) for d in found] == [(Severity.WARNING, 1), (Severity.WARNING, 1)]


def test_services_that_follow_a_vrrp_instance(tmp_path: Path) -> None:
    text = INSTANCE.format(extra="") + "virtual_server 10.0.0.9 80 {\nprotocol TCP\nreal_server 10.0.0.1 80 {\n}\n}"
    (server,), found = convert(tmp_path, text, {"*": "VI_1"})
    assert server.only_while_master == "VI_1" and found.errors == []
    _, found = convert(tmp_path, text, {"[10.0.0.9]:tcp:80": "VI_9"})
    assert [d.code for d in found.errors] == ["reference"]


@pytest.mark.parametrize(
    ("body", "line", "code"),
    [
        ("real_server 10.0.0.1 80 {\nFILE_CHECK {\ntrack_file none\n}\n}", 4, "reference"),
        ("real_server 10.0.0.1 80 {\nBFD_CHECK {\nname none\n}\n}", 4, "reference"),
        ('real_server 10.0.0.1 80 {\nHTTP_GET {\nurl {\npath /\nregex "(a"\n}\n}\n}', 4, "regex"),
        ('real_server 10.0.0.1 80 {\nHTTP_GET {\nurl {\npath /\nregex "a"\nregex_options ungreedy\n}\n}\n}', 4, "regex"),
        ("real_server 10.0.0.1 80 {\nUDP_CHECK {\npayload 0a0\n}\n}", 4, "value"),
        ("real_server 10.0.0.1 80 {\nUDP_CHECK {\nmin_reply_length 9\nmax_reply_length 3\n}\n}", 4, "range"),
        ("real_server 10.0.0.1 80 {\nTCP_CHECK {\nbindto 2001:db8::1\n}\n}", 4, "service"),
        ("real_server 10.0.0.1 80 {\nDNS_CHECK {\nname a..b\n}\n}", 4, "value"),
        ("real_server 2001:db8::1 80 {\n}", 3, "service"),
        ("real_server 10.0.0.1 80 {\nuthreshold 3\nlthreshold 9\n}", 3, "range"),
        ("sorry_server 2001:db8::1 80\nreal_server 10.0.0.1 80", 3, "service"),
    ],
)
def test_what_cannot_work_is_an_error_at_its_place(tmp_path: Path, body: str, line: int, code: str) -> None:
    _, found = convert(tmp_path, f"virtual_server 10.0.0.9 80 {{\nprotocol TCP\n{body}\n}}\n")
    assert [(d.position.line, d.code) for d in found.errors] == [(line, code)]
    assert all(d.remedy for d in found.errors)


def test_twins_and_unknown_groups_are_errors(tmp_path: Path) -> None:
    block = "virtual_server 10.0.0.9 80 {\nprotocol TCP\nreal_server 10.0.0.1 80 {\n}\n}\n"
    servers, found = convert(tmp_path, block * 2)
    assert len(servers) == 1 and [(d.position.line, d.code) for d in found.errors] == [(6, "duplicate")]
    _, found = convert(tmp_path, "virtual_server group none {\nprotocol TCP\nreal_server 10.0.0.1 80 {\n}\n}\n")
    assert [d.code for d in found.errors] == ["reference"]


def test_a_check_without_a_port_is_an_error(tmp_path: Path) -> None:
    _, found = convert(tmp_path, "virtual_server fwmark 5 {\nreal_server 10.0.0.1 {\nTCP_CHECK {\n}\nPING_CHECK {\n}\n}\n}")
    assert [(d.position.line, d.code) for d in found.errors] == [(3, "missing-value")]
