"""HTTP_GET and SSL_GET against servers that behave, and that do not."""

from __future__ import annotations

import asyncio
import hashlib
import http.server
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vrrp.lvs.servers import Handler, get, saying, self_signed, serving, to, unused_port
from vrrp.lvs.checkers import http as http_check
from vrrp.lvs.checkers.run import run_probe
from vrrp.lvs.model.checker import ProbeFailed, ProbePassed
from vrrp.lvs.model.settings import BodyPattern, HttpProbe, TlsSettings, Url

PAGE = b"<html>It works, \xc3\xa9l\xc3\xa8ve!</html>\n"
OK = b"HTTP/1.0 200 OK\r\n\r\n"
RIGHT = hashlib.md5(PAGE).digest()


def check(handler: Handler, *urls: Url, timeout_ms: int = 3000, protocol: str = "1.0", step: int = 0) -> ProbePassed | ProbeFailed:
    async def main() -> ProbePassed | ProbeFailed:
        async with serving(handler) as port:
            return await run_probe(get(port, *urls, timeout_ms=timeout_ms, protocol=protocol), step)

    return asyncio.run(main())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Python's own web server with one page."""
    directory = tmp_path_factory.mktemp("site")
    (directory / "index.html").write_bytes(PAGE)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(directory))  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("url", "good"),
    [
        (Url("/index.html"), True),
        (Url("/index.html", digest=RIGHT), True),
        (Url("/index.html", digest=bytes(16)), False),
        (Url("/missing"), False),
        (Url("/missing", status_codes=((200, 200), (400, 404))), True),
        (Url("/index.html", pattern=BodyPattern("It w.rks")), True),
        (Url("/index.html", pattern=BodyPattern("it works")), False),
        (Url("/index.html", pattern=BodyPattern("it works", options=("caseless",))), True),
        (Url("/index.html", pattern=BodyPattern("It works", inverted=True)), False),
        (Url("/index.html", pattern=BodyPattern("élève", options=("utf",))), True),
        (Url("/index.html", pattern=BodyPattern("html", maximum_offset=3)), True),
        (Url("/index.html", pattern=BodyPattern("html", minimum_offset=3, maximum_offset=10)), False),
        (Url("/index.html", pattern=BodyPattern("x", minimum_offset=4000)), False),
        (Url("/index.html", pattern=BodyPattern(r"</html>\Z")), True),
        (Url("/index.html", pattern=BodyPattern(r"</html>\z")), False),
    ],
)
@pytest.mark.shows("virtual_server/real_server/HTTP_GET")
def test_against_a_web_server(site: int, url: Url, good: bool) -> None:
    result = asyncio.run(run_probe(get(site, url)))
    assert isinstance(result, ProbePassed) is good, result


@pytest.mark.parametrize("protocol", ["1.0", "1.0C", "1.1"])
@pytest.mark.parametrize("host", ["", "www.example.test"])
def test_the_request_is_that_of_keepalived(protocol: str, host: str) -> None:
    """Byte for byte what Debian's genhash sends to the same server."""

    async def main() -> list[bytes]:
        heard: list[bytes] = []
        async with serving(saying(OK, PAGE, heard=heard)) as port:
            assert isinstance(await run_probe(get(port, Url("/a?b=c", host), protocol=protocol)), ProbePassed)
            command = ["genhash", "-s", "127.0.0.1", "-p", str(port), "-u", "/a?b=c", "-P", protocol.lower()]
            process = await asyncio.create_subprocess_exec(*command, *(["-V", host] if host else []), stdout=subprocess.DEVNULL)
            assert await process.wait() == 0
        return heard

    ours, theirs = asyncio.run(main())
    assert ours == theirs


def test_urls_are_asked_for_by_number() -> None:
    heard: list[bytes] = []
    result = check(saying(OK, PAGE, heard=heard), Url("/a"), Url("/b"), step=1)
    assert isinstance(result, ProbePassed)
    assert heard[0].startswith(b"GET /b HTTP/1.0\r\n")


# ---- servers that misbehave: the right verdict, in bounded time and memory ---------------------------------------------


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def drip_header(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.0 200 OK\r\n")
    while True:
        writer.write(b"X-A: b\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def endless_header(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.0 200 OK\r\n")
    while True:
        writer.write(b"X-Header: " + b"y" * 1000 + b"\r\n")
        await writer.drain()


async def half_open(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\nabc")
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.mark.parametrize("handler", [drip, drip_header, endless_header, half_open], ids=lambda handler: handler.__name__)
@pytest.mark.parametrize("digest", [b"", RIGHT], ids=["status", "digest"])
def test_a_server_that_never_finishes_fails_in_time(handler: Handler, digest: bytes) -> None:
    started = time.monotonic()
    assert isinstance(check(handler, Url("/", digest=digest), timeout_ms=700), ProbeFailed)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.0 200 OK\r\nX: y\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.0 2oo OK\r\n\r\n",
        b"HTTP/1.0 20000 OK\r\n\r\n",
        b"\x16\x03\x01\x02\x00" * 40 + b"\r\n\r\n",
        b"HTTP/1.0 302 Found\r\nLocation: /\r\n\r\n",
        b"HTTP/1.0 500 Oops\r\n\r\n",
    ],
)
def test_an_answer_that_is_none_fails(said: bytes) -> None:
    assert isinstance(check(saying(said)), ProbeFailed)


def test_a_redirect_loop_is_not_followed() -> None:
    heard: list[bytes] = []
    assert isinstance(check(saying(b"HTTP/1.0 301 Moved\r\nLocation: /\r\n\r\n", heard=heard)), ProbeFailed)
    assert len(heard) == 1


def test_a_reset_within_the_body_fails() -> None:
    result = check(reset)
    assert isinstance(result, ProbeFailed), result


def test_a_body_shorter_than_its_length_passes_as_in_keepalived_and_says_so() -> None:
    result = check(saying(b"HTTP/1.0 200 OK\r\nContent-Length: 500\r\n\r\n", PAGE), Url("/", digest=RIGHT))
    assert isinstance(result, ProbePassed) and "500" in result.detail


def test_a_body_longer_than_its_length_is_hashed_up_to_it() -> None:
    head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(PAGE)}\r\n\r\n".encode()
    assert isinstance(check(saying(head, PAGE + b"more"), Url("/", digest=RIGHT)), ProbePassed)


def test_a_server_that_keeps_the_connection_open_behind_its_body_passes() -> None:
    async def keeps(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(PAGE)}\r\n\r\n".encode() + PAGE)
        await asyncio.sleep(60)

    assert isinstance(check(keeps, Url("/", digest=RIGHT), protocol="1.1"), ProbePassed)


HUGE = 100 << 20
BLOCK = bytes(1 << 18)


def flood(declared: bool, total: int | None) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n" + (f"Content-Length: {total}\r\n".encode() if declared else b"") + b"\r\n")
        sent = 0
        while total is None or sent < total:
            writer.write(BLOCK)
            await writer.drain()
            sent += len(BLOCK)
        writer.close()
        await writer.wait_closed()

    return handler


@pytest.mark.parametrize("digest", [True, False])
def test_a_reply_of_100_mb_is_judged_in_little_memory(digest: bool) -> None:
    hasher = hashlib.md5()
    for _ in range(HUGE // len(BLOCK)):
        hasher.update(BLOCK)
    url = Url("/", digest=hasher.digest() if digest else b"")
    tracemalloc.start()
    try:
        result = check(flood(True, HUGE), url, timeout_ms=60_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(result, ProbePassed), result
    assert peak < 16 << 20


def test_a_body_without_an_end_fails_in_time() -> None:
    started = time.monotonic()
    assert isinstance(check(flood(False, None), timeout_ms=1000), ProbeFailed)
    assert time.monotonic() - started < 10


def test_a_page_that_makes_the_regex_run_for_ever_fails_and_blocks_nobody() -> None:
    evil = Url("/", pattern=BodyPattern("(a|aa)+$"))

    async def main() -> tuple[ProbePassed | ProbeFailed, float]:
        longest, running = 0.0, True

        async def feel() -> None:
            nonlocal longest
            while running:
                before = time.monotonic()
                await asyncio.sleep(0.01)
                longest = max(longest, time.monotonic() - before)

        async with serving(saying(OK, b"a" * 60_000 + b"b")) as port:
            feeler = asyncio.create_task(feel())
            result = await run_probe(get(port, evil, timeout_ms=5000))
            running = False
            await feeler
        return result, longest

    result, longest = asyncio.run(main())
    assert isinstance(result, ProbeFailed) and "regex" in result.reason
    assert longest < 0.9, "the event loop stood still for as long as the match ran"


def test_nobody_listens() -> None:
    assert asyncio.run(run_probe(get(unused_port()))) == ProbeFailed("connection refused")


# ---- TLS --------------------------------------------------------------------------------------------------------------


def check_tls(directory: Path, tls: TlsSettings, url: Url, *, names: list[str | None] | None = None) -> ProbePassed | ProbeFailed:
    context, _ = self_signed(directory)
    if names is not None:
        context.sni_callback = lambda _socket, name, _context: names.append(name)

    async def main() -> ProbePassed | ProbeFailed:
        async with serving(saying(OK, PAGE), context=context) as port:
            return await run_probe(get(port, url, tls=tls))

    return asyncio.run(main())


@pytest.mark.shows("virtual_server/real_server/SSL_GET")
def test_ssl_get_takes_a_self_signed_certificate_and_sends_the_name(tmp_path: Path) -> None:
    names: list[str | None] = []
    url = Url("/", digest=RIGHT)
    assert isinstance(check_tls(tmp_path, TlsSettings("www.example.test"), url, names=names), ProbePassed)
    assert isinstance(check_tls(tmp_path, TlsSettings(), url, names=names), ProbePassed)
    assert names == ["www.example.test", None]


def test_verification_is_an_option(tmp_path: Path) -> None:
    _, certificate = self_signed(tmp_path)
    ours = tmp_path / "ca.pem"
    ours.write_bytes(Path(certificate).read_bytes())
    url = Url("/")
    stranger = check_tls(tmp_path, TlsSettings("www.example.test", verify=True), url)
    assert isinstance(stranger, ProbeFailed) and "certificate" in stranger.reason

    context, certificate = self_signed(tmp_path)

    async def main(name: str) -> ProbePassed | ProbeFailed:
        async with serving(saying(OK, PAGE), context=context) as port:
            return await run_probe(get(port, url, tls=TlsSettings(name, verify=True, ca=certificate)))

    assert isinstance(asyncio.run(main("www.example.test")), ProbePassed)
    assert isinstance(asyncio.run(main("other.example.test")), ProbeFailed)


def test_tls_garbage_and_silence_fail(tmp_path: Path) -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x15\x03\x01" + b"\xff" * 500)
        await writer.drain()
        await reader.read(100)

    for handler in (garbage, half_open):

        async def main(handler: Handler = handler) -> ProbePassed | ProbeFailed:
            async with serving(handler) as port:
                return await run_probe(get(port, tls=TlsSettings(), timeout_ms=700))

        started = time.monotonic()
        assert isinstance(asyncio.run(main()), ProbeFailed)
        assert time.monotonic() - started < 5


@pytest.mark.shows("virtual_server/real_server/SSL_GET/tls_compliant")
@pytest.mark.parametrize(("close_notify", "ending"), [(True, "close_notify"), (False, "cut off")])
def test_the_connection_ends_by_tls_if_asked_for(tmp_path: Path, close_notify: bool, ending: str) -> None:
    """A server that keeps the connection open hears how we leave it."""
    context, _ = self_signed(tmp_path)
    endings: list[str] = []

    def serve(listener: socket.socket) -> None:
        accepted, _ = listener.accept()
        with accepted, context.wrap_socket(accepted, server_side=True, suppress_ragged_eofs=False) as stream:
            stream.settimeout(20)
            stream.recv(4096)
            stream.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(PAGE) + PAGE)
            try:
                endings.append("close_notify" if stream.recv(1) == b"" else "more")
            except (ssl.SSLEOFError, ConnectionError):
                endings.append("cut off")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,), daemon=True)
        server.start()
        port = listener.getsockname()[1]
        result = asyncio.run(run_probe(get(port, Url("/", digest=RIGHT, close_notify=close_notify), tls=TlsSettings())))
        server.join(30)
    assert isinstance(result, ProbePassed) and endings == [ending]


def test_an_unreadable_ca_fails_with_a_reason(tmp_path: Path) -> None:
    result = asyncio.run(run_probe(get(unused_port(), tls=TlsSettings(ca=str(tmp_path / "none.pem")))))
    assert isinstance(result, ProbeFailed) and "SSL" in result.reason


def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    context, certificate = self_signed(tmp_path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificate)

    async def main(tls: TlsSettings) -> ProbePassed | ProbeFailed:
        async with serving(saying(OK, PAGE), context=context) as port:
            return await run_probe(get(port, tls=tls))

    shown = TlsSettings(certificate=certificate, key=str(tmp_path / "key.pem"))
    assert isinstance(asyncio.run(main(shown)), ProbePassed)
    assert isinstance(asyncio.run(main(TlsSettings())), ProbeFailed)


# ---- genhash ----------------------------------------------------------------------------------------------------------


def run(*command: str) -> tuple[int, str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout


@pytest.mark.parametrize("options", [(), ("-V", "www.example.test"), ("-P", "1.1"), ("-P", "1.0c")])
@pytest.mark.parametrize("path", ["/index.html", "/missing"])
def test_genhash_prints_what_keepalived_prints(site: int, options: tuple[str, ...], path: str) -> None:
    arguments = ("-s", "127.0.0.1", "-p", str(site), "-u", path, *options)
    ours = run(sys.executable, "-m", "vrrp.lvs.genhash", *arguments)
    assert ours == run("genhash", *arguments)
    assert ours[0] == 0 and len(ours[1].strip()) == 32


def test_verbose_genhash_shows_the_same_dumps() -> None:
    """In one segment: where header and body come apart, keepalived's leaves the title above the body out."""

    async def main() -> list[list[str]]:
        sides = []
        async with serving(saying(b"HTTP/1.0 200 OK\r\nServer: test\r\n\r\n" + PAGE)) as port:
            for command in ((sys.executable, "-m", "vrrp.lvs.genhash"), ("genhash",)):
                arguments = ("-v", "-s", "127.0.0.1", "-p", str(port), "-u", "/index.html")
                process = await asyncio.create_subprocess_exec(*command, *arguments, stdout=subprocess.PIPE)
                printed, _ = await process.communicate()
                sides.append([line.rstrip() for line in printed.decode().splitlines() if line.strip() and "usecs" not in line])
        return sides

    ours, theirs = asyncio.run(main())
    assert ours == theirs
    assert RIGHT.hex() in ours


def test_genhash_of_a_tls_server(tmp_path: Path) -> None:
    context, _ = self_signed(tmp_path)

    async def main() -> tuple[bytes, int]:
        async with serving(saying(OK, PAGE), context=context) as port:
            command = (sys.executable, "-m", "vrrp.lvs.genhash", "-S", "-s", "127.0.0.1", "-p", str(port), "-u", "/")
            process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
            printed, _ = await process.communicate()
            assert process.returncode is not None
            return printed, process.returncode

    assert asyncio.run(main()) == (RIGHT.hex().encode() + b"\n", 0)


def test_genhash_without_a_server_fails() -> None:
    assert run(sys.executable, "-m", "vrrp.lvs.genhash", "-s", "127.0.0.1", "-p", str(unused_port()), "-u", "/") == (1, "")


def test_the_source_of_a_probe_is_as_configured() -> None:
    peers: list[tuple[str, int]] = []

    async def noting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername"))
        await saying(OK, PAGE)(reader, writer)

    source = unused_port()

    async def main() -> ProbePassed | ProbeFailed:
        async with serving(noting) as port:
            connection = to(
                port, bind_address=http_check.ipaddress.ip_address("127.0.0.77"), bind_port=source, bind_interface="lo", fwmark=7
            )
            return await run_probe(HttpProbe(connection, (Url("/"),)))

    assert isinstance(asyncio.run(main()), ProbePassed)
    assert peers == [("127.0.0.77", source)]
