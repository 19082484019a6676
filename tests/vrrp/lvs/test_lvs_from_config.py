"""From keepalived.conf to resolved settings: defaults, inheritance, repairs and errors."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from base.core import NS_PER_S
from base.diagnostics import Diagnostics, Severity
from tests.vrrp.config.reading import INSTANCE, read
from vrrp.config.model.common import Family, ScriptCommand
from vrrp.config.model.daemon import FlushOnStop
from vrrp.conversion import node_parameters
from vrrp.lvs.from_config import virtual_servers
from vrrp.lvs.ipvs.values import SyncRole
from vrrp.lvs.model.settings import (
    BfdProbe,
    BodyPattern,
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
    TlsSettings,
    Transport,
    TunnelChecksum,
    TunnelType,
    UdpProbe,
    Url,
    VirtualServerSettings,
)
from vrrp.lvs.sync import wanted_daemons
from vrrp.protocol.node import NodeStarted, TrackChanged, VrrpNode
from vrrp.protocol.trackers import TrackKind


def convert(directory: Path, text: str) -> tuple[tuple[VirtualServerSettings, ...], Diagnostics]:
    found = Diagnostics()
    return virtual_servers(read(directory, text).config, found), found


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
@pytest.mark.shows("virtual_server/real_server/HTTP_GET/nb_get_retry")
def test_timing_of_each_kind(tmp_path: Path, text: str, retry: int, delay_s: float, loop_s: int) -> None:
    timing = checker(tmp_path, text).timing
    assert (timing.retry, timing.delay_before_retry_ns, timing.delay_loop_ns) == (retry, int(delay_s * NS_PER_S), loop_s * NS_PER_S)


@pytest.mark.shows(
    "virtual_server/delay_loop",
    "virtual_server/retry",
    "virtual_server/connect_timeout",
    "virtual_server/alpha",
    "virtual_server/warmup",
    "virtual_server/real_server/retry",
    "virtual_server/real_server/delay_loop",
    "virtual_server/real_server/alpha",
    "virtual_server/real_server/connect_timeout",
)
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


@pytest.mark.shows(
    "virtual_server/weight",
    "virtual_server/inhibit_on_failure",
    "virtual_server/lb_kind",
    "virtual_server/real_server/weight",
    "virtual_server/real_server/inhibit_on_failure",
    "virtual_server/real_server/lvs_method",
)
def test_weight_inhibit_and_method_are_inherited(tmp_path: Path) -> None:
    server = one(tmp_path, "weight 5\ninhibit_on_failure\nlb_kind TUN type gue port 6080 csum\nlb_algo sh\nsh-port\nsh-fallback")
    real = server.real_servers[0]
    assert (real.weight, real.inhibit_on_failure) == (5, True)
    assert real.forwarding == Forwarding(Method.TUNNEL, TunnelType.GUE, 6080, TunnelChecksum.FULL)
    assert (server.scheduler, server.scheduler_flags) == ("sh", 3)
    real = one(tmp_path, "weight 5\ninhibit_on_failure\nlb_kind TUN", "weight 2\ninhibit_on_failure off\nlvs_method DR").real_servers[0]
    assert (real.weight, real.inhibit_on_failure, real.forwarding.method) == (2, False, Method.DIRECT)


@pytest.mark.shows(
    "virtual_server/virtualhost",
    "virtual_server/real_server/virtualhost",
    "virtual_server/real_server/SSL_GET/virtualhost",
    "virtual_server/real_server/SSL_GET/enable_sni",
    "virtual_server/real_server/SSL_GET/url",
    "virtual_server/real_server/SSL_GET/url/path",
    "virtual_server/real_server/SSL_GET/url/virtualhost",
)
def test_the_virtual_host_comes_from_the_nearest_level(tmp_path: Path) -> None:
    text = "SSL_GET {\n{own}\nenable_sni\nurl {\npath /a\nvirtualhost url.test\n}\nurl {\npath /b\n}\n}"
    nearest = (("", "", "vs.test"), ("", "virtualhost rs.test", "rs.test"), ("virtualhost c.test", "virtualhost rs.test", "c.test"))
    for own, real, expected in nearest:
        probe = checker(tmp_path, text.replace("{own}", own), "virtualhost vs.test", real).probe
        assert isinstance(probe, HttpProbe) and probe.tls is not None
        assert [url.host for url in probe.urls] == ["url.test", expected]
        assert probe.tls.server_name == expected


@pytest.mark.shows(
    "virtual_server/real_server/HTTP_GET/http_protocol",
    "virtual_server/real_server/HTTP_GET/fast_recovery",
    "virtual_server/real_server/HTTP_GET/url",
    "virtual_server/real_server/HTTP_GET/url/path",
    "virtual_server/real_server/HTTP_GET/url/digest",
    "virtual_server/real_server/HTTP_GET/url/status_code",
    "virtual_server/real_server/HTTP_GET/url/regex",
    "virtual_server/real_server/HTTP_GET/url/regex_options",
    "virtual_server/real_server/HTTP_GET/url/regex_min_offset",
    "virtual_server/real_server/HTTP_GET/url/regex_max_offset",
    "virtual_server/real_server/HTTP_GET/url/regex_no_match",
)
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


@pytest.mark.shows(
    "virtual_server/real_server/SMTP_CHECK/helo_name",
    "virtual_server/real_server/DNS_CHECK/type",
    "virtual_server/real_server/DNS_CHECK/name",
    "virtual_server/real_server/UDP_CHECK/payload",
    "virtual_server/real_server/UDP_CHECK/require_reply",
    "virtual_server/real_server/UDP_CHECK/min_reply_length",
    "virtual_server/real_server/UDP_CHECK/max_reply_length",
    "virtual_server/real_server/MISC_CHECK/misc_path",
    "virtual_server/real_server/MISC_CHECK/misc_timeout",
    "virtual_server/real_server/MISC_CHECK/misc_dynamic",
    "virtual_server/real_server/MISC_CHECK/user",
    "virtual_server/real_server/FILE_CHECK/track_file",
    "virtual_server/real_server/FILE_CHECK/weight",
    "virtual_server/real_server/BFD_CHECK/name",
)
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


@pytest.mark.shows("virtual_server/real_server/SMTP_CHECK/host")
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


@pytest.mark.shows("virtual_server/persistence_timeout", "virtual_server/persistence_granularity", "virtual_server/smtp_alert")
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


@pytest.mark.shows("global_defs/smtp_alert_checker", "global_defs/checker_log_all_failures", "global_defs/rs_init_notifies")
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


@pytest.mark.shows("global_defs/lvs_only_while_master", "virtual_server/only_while_master")
def test_services_that_follow_a_vrrp_instance(tmp_path: Path) -> None:
    service = "virtual_server 10.0.0.9 80 {{\nprotocol TCP\n{}\nreal_server 10.0.0.1 80 {{\n}}\n}}"
    for head, own in (("global_defs {\nlvs_only_while_master VI_1\n}\n", ""), ("", "only_while_master VI_1")):
        (server,), found = convert(tmp_path, head + INSTANCE.format(extra="") + service.format(own))
        assert server.only_while_master == "VI_1" and found.errors == []
    _, found = convert(tmp_path, service.format("only_while_master VI_9"))
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


@pytest.mark.shows(
    "virtual_server/omega",
    "virtual_server/ha_suspend",
    "virtual_server/hysteresis",
    "virtual_server/quorum_up",
    "virtual_server/quorum_down",
    "virtual_server/smtp_alert",
    "virtual_server/retry",
    "virtual_server/delay_before_retry",
    "virtual_server/removal_delay",
    "virtual_server/real_server/smtp_alert",
    "virtual_server/real_server/removal_delay",
    "virtual_server/real_server/delay_before_retry",
    "virtual_server/real_server/warmup",
    "virtual_server/real_server/retry",
    "global_defs/no_checker_emails",
)
def test_one_line_each(tmp_path: Path) -> None:
    plain = one(tmp_path, real="TCP_CHECK {\n}")
    services: dict[str, tuple[str, object]] = {
        "omega": ("omega", True),
        "ha_suspend": ("ha_suspend", True),
        "quorum 1\nhysteresis 0\nsmtp_alert": ("smtp_alert", True),
        "quorum_up /bin/up": ("quorum_up", ScriptCommand(("/bin/up",))),
        "quorum_down /bin/down": ("quorum_down", ScriptCommand(("/bin/down",))),
    }
    for line, (name, value) in services.items():
        assert getattr(one(tmp_path, line, "TCP_CHECK {\n}"), name) == value != getattr(plain, name), line
    assert one(tmp_path, "quorum 3\nhysteresis 2\nweight 9").hysteresis == 2
    for line, name, value in (
        ("retry 9", "retry", 9),
        ("delay_before_retry 5", "delay_before_retry_ns", 5 * NS_PER_S),
        ("warmup 7", "warmup_ns", 7 * NS_PER_S),
    ):
        assert getattr(checker(tmp_path, "TCP_CHECK {\n}", line).timing, name) == value
        assert getattr(checker(tmp_path, "TCP_CHECK {\n}", real=line).timing, name) == value
    assert one(tmp_path, "removal_delay 30").real_servers[0].removal_delay_ns == 30 * NS_PER_S
    assert one(tmp_path, "removal_delay 30", "removal_delay 5").real_servers[0].removal_delay_ns == 5 * NS_PER_S
    assert not one(tmp_path, real="smtp_alert off").real_servers[0].smtp_alert and plain.real_servers[0].smtp_alert
    assert plain.real_servers[0].mail_each_checker
    assert not one(tmp_path, head="global_defs {\nno_checker_emails\n}").real_servers[0].mail_each_checker


@pytest.mark.shows(
    "SSL",
    "SSL/password",
    "SSL/ca",
    "SSL/certificate",
    "SSL/key",
    "virtual_server/real_server/SSL_GET/verify_certificate",
    "virtual_server/real_server/SSL_GET/sni_name",
    "virtual_server/real_server/SSL_GET/http_protocol",
    "virtual_server/real_server/SSL_GET/fast_recovery",
    "virtual_server/real_server/SSL_GET/nb_get_retry",
    "virtual_server/real_server/SSL_GET/url/digest",
    "virtual_server/real_server/SSL_GET/url/status_code",
    "virtual_server/real_server/SSL_GET/url/regex",
    "virtual_server/real_server/SSL_GET/url/regex_options",
    "virtual_server/real_server/SSL_GET/url/regex_min_offset",
    "virtual_server/real_server/SSL_GET/url/regex_max_offset",
    "virtual_server/real_server/SSL_GET/url/regex_no_match",
    "virtual_server/real_server/SSL_GET/url/tls_compliant",
)
def test_ssl_get_with_everything(tmp_path: Path) -> None:
    head = "SSL {\npassword secret\nca /ca.pem\ncertificate /c.pem\nkey /k.pem\n}"
    url = (
        "url {\npath /\ndigest 0123456789abcdef0123456789abcdef\nstatus_code 204\nregex x\nregex_options caseless\n"
        "regex_min_offset 2\nregex_max_offset 9\nregex_no_match\ntls_compliant off\n}"
    )
    own = "tls_compliant\nsni_name a.test\nverify_certificate\nhttp_protocol 1.1\nfast_recovery\nnb_get_retry 4"
    found = checker(tmp_path, f"SSL_GET {{\n{own}\n{url}\n}}", head=head)
    assert isinstance(found.probe, HttpProbe) and found.timing.retry == 4
    assert found.probe.tls == TlsSettings("a.test", True, "/ca.pem", "/c.pem", "/k.pem", "secret")
    assert (found.probe.protocol, found.probe.fast_recovery) == ("1.1", True)
    pattern = BodyPattern("x", True, ("caseless",), 2, 9)
    assert found.probe.urls == (Url("/", "", bytes.fromhex("0123456789abcdef0123456789abcdef"), ((204, 204),), pattern, False),)
    unverified = checker(tmp_path, "SSL_GET {\nurl {\npath /\n}\n}").probe
    assert isinstance(unverified, HttpProbe) and unverified.tls == TlsSettings() and not unverified.urls[0].close_notify
    inherited = checker(tmp_path, "SSL_GET {\ntls_compliant\nurl {\npath /\n}\n}").probe
    assert isinstance(inherited, HttpProbe) and inherited.urls[0].close_notify


@pytest.mark.shows("virtual_server/real_server/HTTP_GET/virtualhost", "virtual_server/real_server/HTTP_GET/url/virtualhost")
def test_the_host_of_http_get(tmp_path: Path) -> None:
    probe = checker(tmp_path, "HTTP_GET {\nvirtualhost c.test\nurl {\npath /\n}\nurl {\npath /\nvirtualhost u.test\n}\n}").probe
    assert isinstance(probe, HttpProbe) and [url.host for url in probe.urls] == ["c.test", "u.test"]


@pytest.mark.shows("virtual_server/real_server/BFD_CHECK/alpha")
def test_bfd_alpha(tmp_path: Path) -> None:
    head = "bfd_instance b {\nneighbor_ip 10.0.0.1\n}"
    assert checker(tmp_path, "BFD_CHECK {\nname b\nalpha\n}", head=head).timing.alpha
    assert not checker(tmp_path, "BFD_CHECK {\nname b\n}", "alpha", "alpha off", head=head).timing.alpha


@pytest.mark.shows("virtual_server/quorum_lowers_priority")
def test_a_lost_quorum_lowers_the_priority_of_an_instance(tmp_path: Path) -> None:
    text = (
        INSTANCE.format(extra="") + "virtual_server 10.0.0.9 80 {\nprotocol TCP\nquorum_lowers_priority VI_1 30\nreal_server 10.0.0.1 80\n}"
    )
    config = read(tmp_path, text).config
    node = VrrpNode(node_parameters(config), local_addresses={"VI_1": ip_address("10.0.0.5")})
    node.handle(0, NodeStarted())
    name = virtual_servers(config, Diagnostics())[0].id
    assert node.instances["VI_1"].priority == 100
    node.handle(1, TrackChanged(TrackKind.QUORUM, name, 0))
    assert node.instances["VI_1"].priority == 70
    node.handle(2, TrackChanged(TrackKind.QUORUM, name, 1))
    assert node.instances["VI_1"].priority == 100
    _, found = convert(tmp_path, text.replace("priority VI_1", "priority VI_9"))
    assert [d.code for d in found.errors] == ["reference"]


def test_a_service_without_real_servers_is_left_out_as_by_keepalived(tmp_path: Path) -> None:
    servers, found = convert(tmp_path, "virtual_server 10.0.0.9 80 {\nprotocol TCP\nsorry_server 10.0.0.3 80\n}")
    assert servers == () and found.errors == []


def test_port_0_is_every_port(tmp_path: Path) -> None:
    named = one(tmp_path, "persistence_timeout 9", listen="10.0.0.9 0")
    assert named == one(tmp_path, "persistence_timeout 9", listen="10.0.0.9")


def test_own_keywords_can_be_hidden_from_keepalived(tmp_path: Path) -> None:
    own = "virtual_server 10.0.0.9 80 {{\nprotocol TCP\nlb_algo rr\nlb_kind NAT\n{}removal_delay 9\nreal_server 10.0.0.1 80\n}}"
    open_, hidden = read(tmp_path, own.format("")), read(tmp_path, own.format("@vrrpd "))
    assert [d.code for d in open_.diagnostics] == ["only-vrrpd"] and hidden.diagnostics == ()
    assert open_.config == hidden.config
    other = read(tmp_path, own.format("@^vrrpd "))
    assert virtual_servers(other.config, Diagnostics())[0].real_servers[0].removal_delay_ns == 0


@pytest.mark.shows("global_defs/lvs_flush_onstop")
def test_the_old_spelling_of_lvs_flush_on_stop(tmp_path: Path) -> None:
    lvs = read(tmp_path, "global_defs {\nlvs_flush_onstop\n}").config.global_defs.lvs
    assert lvs.flush_on_stop is FlushOnStop.ALL


@pytest.mark.shows("global_defs/lvs_sync_daemon")
def test_the_sync_daemon_follows_its_instance(tmp_path: Path) -> None:
    def daemons(line: str, masters: set[str]) -> list[tuple[SyncRole, str, int]]:
        config = read(tmp_path, f"global_defs {{\nlvs_sync_daemon {line}\n}}\n" + INSTANCE.format(extra="")).config
        return [(daemon.role, daemon.interface, daemon.sync_id) for daemon in wanted_daemons(config, masters)]

    assert daemons("eth0 VI_1", set()) == [(SyncRole.BACKUP, "eth0", 51)]
    assert daemons("eth0 inst VI_1 id 7", {"VI_1", "other"}) == [(SyncRole.MASTER, "eth0", 7)]
    assert daemons("eth0 id 7", set()) == [(SyncRole.MASTER, "eth0", 7), (SyncRole.BACKUP, "eth0", 7)]
    assert wanted_daemons(read(tmp_path, "").config, {"VI_1"}) == ()


def test_a_digit_alone_is_a_byte(tmp_path: Path) -> None:
    probe = checker(tmp_path, "UDP_CHECK {\npayload a 0b\nrequire_reply 0a X 7\n}").probe
    assert isinstance(probe, UdpProbe)
    assert (probe.payload, probe.require_reply) == (b"\x0a\x0b", (b"\x0a\x00\x07", b"\xff\x00\xff"))
