"""Prints the MD5 of a page for ``digest`` in HTTP_GET and SSL_GET: ``python -m vrrp.lvs.genhash -s ADDRESS -p PORT -u PATH``.

Takes the options of keepalived's genhash and prints what it prints; unlike that one a failure is exit status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import socket
import sys
import time
from collections.abc import Sequence

from base.core import NS_PER_S
from vrrp.lvs.checkers.connect import CheckFailed, describe
from vrrp.lvs.checkers.http import PATTERN_LIMIT, Answer, fetch, request
from vrrp.lvs.model.settings import Connection, TlsSettings, Url


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line. Exits with 2 if it is wrong."""
    parser = argparse.ArgumentParser(prog="genhash", description="Print the MD5 of a page, for 'digest' in keepalived.conf.")
    parser.add_argument("-S", "--use-ssl", action="store_true", help="use TLS")
    parser.add_argument("-I", "--use-sni", action="store_true", help="send the virtual host in the TLS handshake")
    parser.add_argument("-s", "--server", required=True, help="address or name of the server")
    parser.add_argument("-p", "--port", type=int, required=True)
    parser.add_argument("-u", "--url", required=True, help="path of the page")
    parser.add_argument("-V", "--use-virtualhost", default="", metavar="HOST", help="Host header")
    parser.add_argument("-P", "--protocol", default="1.0", choices=("1.0", "1.0c", "1.0C", "1.1"))
    parser.add_argument("-t", "--timeout", type=float, default=5.0, metavar="SECONDS")
    parser.add_argument("-m", "--fwmark", type=int, default=0)
    parser.add_argument("-v", "--verbose", action="store_true", help="show header and page")
    return parser.parse_args(arguments)


def dump(data: bytes) -> str:
    """Sixteen bytes a line with offset in decimal, hexadecimal and ASCII."""
    lines = []
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        left, right = (" ".join(f"{byte:02x}" for byte in half) for half in (row[:8], row[8:]))
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{start:04d}  {left:<23} - {right:<23}   {text:<16}")
    return "\n".join(lines)


def report(options: argparse.Namespace, answer: Answer, elapsed_us: int) -> str:
    """What is printed."""
    if not options.verbose:
        return answer.digest.hex()
    parts = [
        "-----------------------[    HTTP Header Buffer    ]-----------------------",
        dump(answer.header),
        "-----------------------[ HTTP Header Ascii Buffer ]-----------------------",
        answer.header.decode("latin-1").replace("\r\n", "\n"),
        "-----------------------[        HTML Buffer        ]-----------------------",
        dump(answer.body) + ("" if answer.length == len(answer.body) else f"\n... {answer.length} bytes in all"),
        "\n-----------------------[    HTML hash resulting    ]-----------------------",
        dump(answer.digest),
        "-----------------------[ HTML hash final resulting ]-----------------------",
        answer.digest.hex(),
        f"\nGlobal response time for [{options.url}] = {elapsed_us} usecs",
    ]
    return "\n".join(parts)


async def get(options: argparse.Namespace) -> Answer:
    """Fetch the page. Raises OSError, TimeoutError, CheckFailed."""
    found = await asyncio.get_running_loop().getaddrinfo(options.server, options.port, type=socket.SOCK_STREAM)
    address = ipaddress.ip_address(found[0][4][0])
    connection = Connection(address, options.port, fwmark=options.fwmark, timeout_ns=int(options.timeout * NS_PER_S))
    tls = TlsSettings(options.use_virtualhost if options.use_sni else "") if options.use_ssl else None
    message = request(Url(options.url, options.use_virtualhost), connection, options.protocol.upper())
    return await fetch(connection, tls, message, keep=PATTERN_LIMIT if options.verbose else 0, enough=None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0, or 1 if there was no page."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    started = time.monotonic_ns()
    try:
        answer = asyncio.run(get(options))
    except (OSError, CheckFailed) as error:
        reason = str(error) if isinstance(error, CheckFailed) else describe(error)
        sys.stderr.write(f"genhash: {options.server} port {options.port}: {reason}\n")
        return 1
    print(report(options, answer, (time.monotonic_ns() - started) // 1000))
    return 0


if __name__ == "__main__":
    sys.exit(main())
