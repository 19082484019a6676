"""What each keyword of a checker does to its settings, block by block: where a probe goes, where it comes from, and when."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from base.core import NS_PER_S
from tests.vrrp.lvs.test_lvs_from_config import checker
from vrrp.lvs.model.settings import CheckerSettings

shows = pytest.mark.shows

CONNECTION: dict[str, Any] = {
    "connect_ip 10.0.0.77": ("address", ip_address("10.0.0.77")),
    "bindto 10.0.0.5": ("bind_address", ip_address("10.0.0.5")),
    "bind_if eth0": ("bind_interface", "eth0"),
    "connect_timeout 2.5": ("timeout_ns", 2_500_000_000),
    "fwmark 3": ("fwmark", 3),
}
PORTS: dict[str, Any] = {"connect_port 8080": ("port", 8080), "bind_port 5000": ("bind_port", 5000)}
TIMING: dict[str, Any] = {
    "retry 9": ("retry", 9),
    "delay_before_retry 0.5": ("delay_before_retry_ns", NS_PER_S // 2),
    "warmup 7": ("warmup_ns", 7 * NS_PER_S),
    "delay_loop 11": ("delay_loop_ns", 11 * NS_PER_S),
    "alpha": ("alpha", True),
    "log_all_failures": ("log_all_failures", True),
}


def written(directory: Path, block: str, line: str, needed: str) -> CheckerSettings:
    """The checker of ``block`` ("SMTP_CHECK/host": a block in a block) with one line in it."""
    kind, _, inner = block.partition("/")
    body = f"{inner} {{\n{line}\n}}" if inner else f"{line}\n{needed}"
    return checker(directory, f"{kind} {{\n{body}\n}}")


def obeys(directory: Path, block: str, needed: str = "", *, connection: bool = True, ports: bool = True) -> None:
    """Each line changes what it names, and nothing else of it."""
    plain = written(directory, block, "", needed)
    for line, (name, value) in {**(CONNECTION if connection else {}), **(PORTS if connection and ports else {})}.items():
        told: Any = written(directory, block, line, needed).probe
        assert getattr(told.connection, name) == value != getattr(plain.probe.connection, name), f"{line} in {block}"
    for line, (name, value) in TIMING.items():
        assert getattr(written(directory, block, line, needed).timing, name) == value != getattr(plain.timing, name), f"{line} in {block}"


@shows(
    "virtual_server/real_server/HTTP_GET/connect_ip",
    "virtual_server/real_server/HTTP_GET/connect_port",
    "virtual_server/real_server/HTTP_GET/bindto",
    "virtual_server/real_server/HTTP_GET/bind_port",
    "virtual_server/real_server/HTTP_GET/bind_if",
    "virtual_server/real_server/HTTP_GET/connect_timeout",
    "virtual_server/real_server/HTTP_GET/fwmark",
    "virtual_server/real_server/HTTP_GET/retry",
    "virtual_server/real_server/HTTP_GET/delay_before_retry",
    "virtual_server/real_server/HTTP_GET/warmup",
    "virtual_server/real_server/HTTP_GET/delay_loop",
    "virtual_server/real_server/HTTP_GET/alpha",
    "virtual_server/real_server/HTTP_GET/log_all_failures",
)
def test_http_get(tmp_path: Path) -> None:
    obeys(tmp_path, "HTTP_GET", "url {\npath /\n}")


@shows(
    "virtual_server/real_server/SSL_GET/connect_ip",
    "virtual_server/real_server/SSL_GET/connect_port",
    "virtual_server/real_server/SSL_GET/bindto",
    "virtual_server/real_server/SSL_GET/bind_port",
    "virtual_server/real_server/SSL_GET/bind_if",
    "virtual_server/real_server/SSL_GET/connect_timeout",
    "virtual_server/real_server/SSL_GET/fwmark",
    "virtual_server/real_server/SSL_GET/retry",
    "virtual_server/real_server/SSL_GET/delay_before_retry",
    "virtual_server/real_server/SSL_GET/warmup",
    "virtual_server/real_server/SSL_GET/delay_loop",
    "virtual_server/real_server/SSL_GET/alpha",
    "virtual_server/real_server/SSL_GET/log_all_failures",
)
def test_ssl_get(tmp_path: Path) -> None:
    obeys(tmp_path, "SSL_GET", "url {\npath /\n}")


@shows(
    "virtual_server/real_server/TCP_CHECK/connect_ip",
    "virtual_server/real_server/TCP_CHECK/connect_port",
    "virtual_server/real_server/TCP_CHECK/bindto",
    "virtual_server/real_server/TCP_CHECK/bind_port",
    "virtual_server/real_server/TCP_CHECK/bind_if",
    "virtual_server/real_server/TCP_CHECK/connect_timeout",
    "virtual_server/real_server/TCP_CHECK/fwmark",
    "virtual_server/real_server/TCP_CHECK/retry",
    "virtual_server/real_server/TCP_CHECK/delay_before_retry",
    "virtual_server/real_server/TCP_CHECK/warmup",
    "virtual_server/real_server/TCP_CHECK/delay_loop",
    "virtual_server/real_server/TCP_CHECK/alpha",
    "virtual_server/real_server/TCP_CHECK/log_all_failures",
)
def test_tcp_check(tmp_path: Path) -> None:
    obeys(tmp_path, "TCP_CHECK")


@shows(
    "virtual_server/real_server/SMTP_CHECK/connect_ip",
    "virtual_server/real_server/SMTP_CHECK/connect_port",
    "virtual_server/real_server/SMTP_CHECK/bindto",
    "virtual_server/real_server/SMTP_CHECK/bind_port",
    "virtual_server/real_server/SMTP_CHECK/bind_if",
    "virtual_server/real_server/SMTP_CHECK/connect_timeout",
    "virtual_server/real_server/SMTP_CHECK/fwmark",
    "virtual_server/real_server/SMTP_CHECK/retry",
    "virtual_server/real_server/SMTP_CHECK/delay_before_retry",
    "virtual_server/real_server/SMTP_CHECK/warmup",
    "virtual_server/real_server/SMTP_CHECK/delay_loop",
    "virtual_server/real_server/SMTP_CHECK/alpha",
    "virtual_server/real_server/SMTP_CHECK/log_all_failures",
)
def test_smtp_check(tmp_path: Path) -> None:
    obeys(tmp_path, "SMTP_CHECK")


@shows(
    "virtual_server/real_server/SMTP_CHECK/host/connect_ip",
    "virtual_server/real_server/SMTP_CHECK/host/connect_port",
    "virtual_server/real_server/SMTP_CHECK/host/bindto",
    "virtual_server/real_server/SMTP_CHECK/host/bind_port",
    "virtual_server/real_server/SMTP_CHECK/host/bind_if",
    "virtual_server/real_server/SMTP_CHECK/host/connect_timeout",
    "virtual_server/real_server/SMTP_CHECK/host/fwmark",
    "virtual_server/real_server/SMTP_CHECK/host/retry",
    "virtual_server/real_server/SMTP_CHECK/host/delay_before_retry",
    "virtual_server/real_server/SMTP_CHECK/host/warmup",
    "virtual_server/real_server/SMTP_CHECK/host/delay_loop",
    "virtual_server/real_server/SMTP_CHECK/host/alpha",
    "virtual_server/real_server/SMTP_CHECK/host/log_all_failures",
)
def test_smtp_check_host(tmp_path: Path) -> None:
    obeys(tmp_path, "SMTP_CHECK/host")


@shows(
    "virtual_server/real_server/DNS_CHECK/connect_ip",
    "virtual_server/real_server/DNS_CHECK/connect_port",
    "virtual_server/real_server/DNS_CHECK/bindto",
    "virtual_server/real_server/DNS_CHECK/bind_port",
    "virtual_server/real_server/DNS_CHECK/bind_if",
    "virtual_server/real_server/DNS_CHECK/connect_timeout",
    "virtual_server/real_server/DNS_CHECK/fwmark",
    "virtual_server/real_server/DNS_CHECK/retry",
    "virtual_server/real_server/DNS_CHECK/delay_before_retry",
    "virtual_server/real_server/DNS_CHECK/warmup",
    "virtual_server/real_server/DNS_CHECK/delay_loop",
    "virtual_server/real_server/DNS_CHECK/alpha",
    "virtual_server/real_server/DNS_CHECK/log_all_failures",
)
def test_dns_check(tmp_path: Path) -> None:
    obeys(tmp_path, "DNS_CHECK")


@shows(
    "virtual_server/real_server/UDP_CHECK/connect_ip",
    "virtual_server/real_server/UDP_CHECK/connect_port",
    "virtual_server/real_server/UDP_CHECK/bindto",
    "virtual_server/real_server/UDP_CHECK/bind_port",
    "virtual_server/real_server/UDP_CHECK/bind_if",
    "virtual_server/real_server/UDP_CHECK/connect_timeout",
    "virtual_server/real_server/UDP_CHECK/fwmark",
    "virtual_server/real_server/UDP_CHECK/retry",
    "virtual_server/real_server/UDP_CHECK/delay_before_retry",
    "virtual_server/real_server/UDP_CHECK/warmup",
    "virtual_server/real_server/UDP_CHECK/delay_loop",
    "virtual_server/real_server/UDP_CHECK/alpha",
    "virtual_server/real_server/UDP_CHECK/log_all_failures",
)
def test_udp_check(tmp_path: Path) -> None:
    obeys(tmp_path, "UDP_CHECK")


@shows(
    "virtual_server/real_server/PING_CHECK/connect_ip",
    "virtual_server/real_server/PING_CHECK/bindto",
    "virtual_server/real_server/PING_CHECK/bind_if",
    "virtual_server/real_server/PING_CHECK/connect_timeout",
    "virtual_server/real_server/PING_CHECK/fwmark",
    "virtual_server/real_server/PING_CHECK/retry",
    "virtual_server/real_server/PING_CHECK/delay_before_retry",
    "virtual_server/real_server/PING_CHECK/warmup",
    "virtual_server/real_server/PING_CHECK/delay_loop",
    "virtual_server/real_server/PING_CHECK/alpha",
    "virtual_server/real_server/PING_CHECK/log_all_failures",
)
def test_ping_check(tmp_path: Path) -> None:
    obeys(tmp_path, "PING_CHECK", ports=False)


@shows(
    "virtual_server/real_server/MISC_CHECK/retry",
    "virtual_server/real_server/MISC_CHECK/delay_before_retry",
    "virtual_server/real_server/MISC_CHECK/warmup",
    "virtual_server/real_server/MISC_CHECK/delay_loop",
    "virtual_server/real_server/MISC_CHECK/alpha",
    "virtual_server/real_server/MISC_CHECK/log_all_failures",
)
def test_misc_check(tmp_path: Path) -> None:
    obeys(tmp_path, "MISC_CHECK", "misc_path /bin/true", connection=False)
