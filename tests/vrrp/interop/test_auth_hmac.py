"""auth_hmac on the wire: ours beside ours, and an attacker who knows no key. There is no keepalived 2.4 here."""

from __future__ import annotations

import hashlib
import socket
import struct
import time
from pathlib import Path

import pytest

from tests.lab import Daemon, Lab
from tests.vrrp.interop.vrrp_conf import VIP, VRID, conf, priority_of
from tests.vrrp.interop.vrrpd_status import instance, is_in, reload

pytestmark = pytest.mark.system

KEY_1, KEY_2 = "11" * 32, "a passphrase of more than 32 bytes, as text"


def hmac(keys: dict[int, str], active: int, *lines: str) -> str:
    body = "\n".join([*(f"key {number} {text if text.startswith('file:') else _value(text)}" for number, text in keys.items()), *lines])
    return f"auth_hmac {{\n{body}\nactive_key {active}\n}}"


def _value(text: str) -> str:
    return f"hex:{text}" if text == KEY_1 else f'"{text}"'


def trailers(frames: list[tuple[str, bytes]], port: str) -> list[bytes]:
    """The last 28 bytes of every advert with a trailer from this port."""
    found = []
    for come_from, frame in frames:
        if come_from != port or priority_of(frame) is None:
            continue
        payload = frame[34 : 14 + int.from_bytes(frame[16:18], "big")] if frame[12:14] == b"\x08\x00" else frame[54:]
        addresses = payload[3] * (4 if frame[12:14] == b"\x08\x00" else 16) + (8 if payload[0] >> 4 == 2 else 0)
        if len(payload) == 8 + addresses + 28:
            found.append(payload[-28:])
    return found


def icv(key: bytes, family: int, version: int, vrid: int, source: bytes, advert: bytes, prefix: bytes) -> bytes:
    """From RFC 2104 and the description, without our own code."""
    message = bytes([family, version, vrid, 0]) + source.ljust(16, b"\0") + advert[:6] + b"\0\0" + advert[8:] + prefix + bytes(16)
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + message).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).digest()[:16]


@pytest.mark.shows("vrrp_instance/auth_hmac", "vrrp_instance/auth_hmac/key")
@pytest.mark.parametrize(("version", "interval", "ipv6"), [(2, "1", False), (3, "0.1", False), (3, "0.1", True)])
def test_election_failover_and_bytes(version: int, interval: str, ipv6: bool) -> None:
    text = hmac({1: KEY_1}, 1)
    with Lab("a", "b") as lab:
        capture = lab.capture()
        a = lab.vrrpd("a", conf(150, version=version, interval=interval, instance=text, ipv6=ipv6))
        b = lab.vrrpd("b", conf(100, version=version, interval=interval, instance=text, ipv6=ipv6))
        lab.until(lambda: is_in(a, "MASTER") and is_in(b, "BACKUP"))
        lab.until(lambda: instance(b)["counters"]["adverts_received"] > 2)
        lab.always(lambda: is_in(b, "BACKUP"), 0.5)
        assert instance(b)["rejected"] == {}
        capture.read()
        frame = next(f for port, f in capture.frames if port == "p1" and priority_of(f) == 150)
        start = 54 if ipv6 else 34
        payload = frame[start:] if ipv6 else frame[start : 14 + int.from_bytes(frame[16:18], "big")]
        source = frame[22:38] if ipv6 else frame[26:30]
        expected = icv(bytes.fromhex(KEY_1), 6 if ipv6 else 4, version, VRID, source, payload[:-28], payload[-28:-16])
        assert payload[-16:] == expected
        assert checksum_right(frame, payload, ipv6=ipv6, version=version)
        numbers = [t[4:12] for t in trailers(capture.frames, "p1")]
        assert numbers == sorted(numbers) and len(set(numbers)) == len(numbers) > 2
        a.stop()
        lab.until(lambda: is_in(b, "MASTER"))


def checksum_right(frame: bytes, payload: bytes, *, ipv6: bool, version: int) -> bool:
    """IPv4: over the advert without trailer (v3: with pseudo header); IPv6: over everything, as the kernel of a keepalived sees it."""
    if ipv6:
        covered = frame[22:54] + struct.pack("!IHBB", len(payload), 0, 0, 112) + payload
    else:
        advert = payload[:-28]
        covered = advert if version == 2 else frame[26:34] + struct.pack("!BBH", 0, 112, len(advert)) + advert
    total = sum(struct.unpack(f"!{len(covered) // 2}H", covered))
    return total % 0xFFFF == 0


def test_without_the_key_nobody_gets_in() -> None:
    """Adverts of a keepalived without auth_hmac, of a wrong key, and old ones repeated."""
    with Lab("a", "b", "c") as lab:
        a = lab.vrrpd("a", conf(150, instance=hmac({1: KEY_1}, 1)))
        b = lab.vrrpd("b", conf(100, instance=hmac({1: KEY_1}, 1)))
        lab.until(lambda: is_in(a, "MASTER") and is_in(b, "BACKUP"))
        lab.keepalived("c", conf(200).replace("state BACKUP", "state BACKUP\n"))
        lab.until(lambda: instance(a)["rejected"].get("hmac_missing", 0) > 3, what="the bare adverts are counted")
        assert is_in(a, "MASTER") and is_in(b, "BACKUP")
        capture = lab.capture()
        lab.until(lambda: capture.read() is not None and len(trailers(capture.frames, "p1")) > 2)
        old = next(f for port, f in capture.frames if port == "p1" and priority_of(f) == 150)
        a.signal_all(19)
        with lab.nodes["c"].socket(socket.AF_PACKET, socket.SOCK_RAW) as attacker:
            attacker.bind(("eth0", 0))

            def flood() -> bool:
                attacker.send(old)
                return is_in(b, "MASTER")

            lab.until(flood, what="old adverts do not keep the backup down")
        assert instance(b)["rejected"]["hmac_replay"] > 2


@pytest.mark.shows("vrrp_instance/auth_hmac/active_key")
def test_a_key_is_changed_while_the_master_stays_master(tmp_path: Path) -> None:
    secret = tmp_path / "hmac.key"
    secret.write_text(f"hex:{KEY_1}\n")
    secret.chmod(0o600)
    file = f"file:{secret}"
    with Lab("a", "b") as lab:
        a = lab.vrrpd("a", conf(150, instance=hmac({1: file}, 1)))
        b = lab.vrrpd("b", conf(100, instance=hmac({1: KEY_1}, 1)))
        lab.until(lambda: is_in(a, "MASTER") and is_in(b, "BACKUP"))
        since = instance(a)["since_ns"], instance(b)["since_ns"]
        for keys, active in (({1: file, 2: KEY_2}, 1), ({1: file, 2: KEY_2}, 2), ({2: KEY_2}, 2)):
            for daemon, priority in ((b, 100), (a, 150)):
                ready = daemon.text().count("Reload complete")
                reload(
                    daemon, conf(priority, instance=hmac({k: v if v != file or daemon is a else KEY_1 for k, v in keys.items()}, active))
                )
                lab.until(lambda: daemon.text().count("Reload complete") > ready)  # noqa: B023
                received = instance(b)["counters"]["adverts_received"]
                lab.until(lambda: instance(b)["counters"]["adverts_received"] > received + 2, what="adverts are still taken")  # noqa: B023
        assert (instance(a)["since_ns"], instance(b)["since_ns"]) == since
        assert instance(a)["hmac"]["active_key"] == 2
        assert instance(b)["rejected"] == {}


@pytest.mark.shows("vrrp_instance/auth_hmac/mode")
def test_a_pair_is_converted_without_two_masters() -> None:
    """bare → receive-only → permissive → enforce, node by node, with a bare keepalived-like peer at the beginning."""
    steps = ["", hmac({1: KEY_1}, 1, "mode receive-only"), hmac({1: KEY_1}, 1, "mode permissive"), hmac({1: KEY_1}, 1, "mode enforce")]
    with Lab("a", "b") as lab:
        a, b = lab.vrrpd("a", conf(150, instance=steps[0])), lab.vrrpd("b", conf(100, instance=steps[0]))
        lab.until(lambda: is_in(a, "MASTER") and is_in(b, "BACKUP"))
        since = instance(a)["since_ns"], instance(b)["since_ns"]
        for text in steps[1:]:
            for daemon, priority in ((a, 150), (b, 100)):
                ready = daemon.text().count("Reload complete")
                reload(daemon, conf(priority, instance=text))
                lab.until(lambda: daemon.text().count("Reload complete") > ready)  # noqa: B023
                lab.always(lambda: is_in(b, "BACKUP"), 0.5)
        assert (instance(a)["since_ns"], instance(b)["since_ns"]) == since
        assert instance(b)["rejected"] == {} and lab.nodes["a"].holds(VIP)


@pytest.mark.shows("vrrp_instance/auth_hmac/anti_replay", "vrrp_instance/auth_hmac/time_window")
def test_an_old_advert_for_a_node_that_has_just_started() -> None:
    """It has heard nobody yet: only its clock tells that the advert is old."""
    stale: dict[str, bool] = {}
    with Lab("a", "b", "c") as lab:
        capture = lab.capture()
        a = lab.vrrpd("a", conf(150, instance=hmac({1: KEY_1}, 1)))
        lab.until(lambda: capture.read() is not None and len(trailers(capture.frames, "p1")) > 2)
        old = next(f for port, f in capture.frames if port == "p1" and priority_of(f) == 150)
        a.stop()
        time.sleep(2.1)
        with lab.nodes["c"].socket(socket.AF_PACKET, socket.SOCK_RAW) as attacker:
            attacker.bind(("eth0", 0))
            for line in ("time_window 1", "time_window 300", "time_window 1\nanti_replay monotonic"):
                b = lab.vrrpd("b", conf(100, interval="1", instance=hmac({1: KEY_1}, 1, line)))
                lab.until(lambda: is_in(b, "BACKUP"))  # noqa: B023

                def judged(b: Daemon = b) -> bool:
                    attacker.send(old)
                    now = instance(b)
                    return bool(now["rejected"].get("hmac_stale") or now["counters"]["adverts_received"])

                lab.until(judged)
                stale[line] = bool(instance(b)["rejected"].get("hmac_stale"))
                b.stop()
    assert list(stale.values()) == [True, False, False]


def test_unicast_only_peers_may_sign() -> None:
    with Lab("a", "b", "c") as lab:
        text = hmac({1: KEY_1}, 1)
        a_ip, b_ip, c_ip = (lab.nodes[n].address for n in "abc")
        a = lab.vrrpd("a", conf(150, source=a_ip, peer=b_ip, instance=text))
        b = lab.vrrpd("b", conf(100, source=b_ip, peer=a_ip, instance=text))
        lab.vrrpd("c", conf(200, source=c_ip, peer=a_ip, instance=text))
        lab.until(lambda: is_in(a, "MASTER") and is_in(b, "BACKUP"))
        lab.until(lambda: instance(a)["rejected"].get("unknown_peer", 0) > 3)
        assert is_in(a, "MASTER")


@pytest.mark.parametrize(
    ("content", "mode"), [("hex:11", 0o600), (f"hex:{KEY_1}", 0o644), ("hex:zz" + "0" * 62, 0o600), ("x" * 200, 0o600)]
)
def test_a_bad_key_file_refuses_the_configuration(tmp_path: Path, content: str, mode: int) -> None:
    secret = tmp_path / "hmac.key"
    secret.write_text(content)
    secret.chmod(mode)
    with Lab("a") as lab:
        daemon = lab.vrrpd("a", conf(150, instance=hmac({1: f"file:{secret}"}, 1)))
        assert daemon.process.wait(20) == 5
        assert content not in daemon.text()
