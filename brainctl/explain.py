"""One incident from the record: what was seen, when, by which rule it was judged, what was done, who was told.

brainctl explain                 the newest incident
brainctl explain ID [--pcap]     --pcap decodes the captured packets with scapy, in a process of its own
brainctl explain ID --svg FILE   the picture as a file
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from brainctl.options import add_common, database
from brainctl.output import age, complain, paint, waiting
from brainctl.timeline import COLOURS, draw_svg, draw_text, moments
from watchdog.record.queries import IncidentReport, PacketRow, Record, RecordUnavailable, open_record

WIDEST = 160
"""Columns of the picture, however wide the terminal is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``brainctl explain``."""
    parser.add_argument("incident", nargs="?", default="", help="incident id (default: the newest)")
    parser.add_argument("--pcap", action="store_true", help="decode the captured packets (needs scapy: pip install brainctl[capture])")
    parser.add_argument("--svg", metavar="FILE", help="write the picture to FILE, for a report or a browser")
    parser.add_argument("--write-pcap", metavar="FILE", help="write the captured packets to FILE")
    add_common(parser, config=False)


def run(args: argparse.Namespace) -> int:
    """Print the report; 0, 2 when there is no such incident, 3 when the record cannot be read."""
    try:
        with open_record(database(args)) as record:
            report = _find(record, args.incident)
            packets = record.packets(report.incident.incident) if report else []
    except RecordUnavailable as error:
        complain(str(error), error.remedy, as_json=args.json)
        return 3
    if report is None:
        if args.incident:
            complain(f"no incident {args.incident!r} in the record", "brainctl log --kind incident lists them", as_json=args.json)
            return 2
        print(json.dumps({"incident": None}) if args.json else "no incident was ever recorded")
        return 0
    try:
        if args.write_pcap:
            _write_pcap(args.write_pcap, packets)
        if args.svg:
            Path(args.svg).write_text(draw_svg(report), encoding="utf-8")
    except OSError as error:
        complain(f"{error.filename}: cannot be written: {error.strerror}", "name another file", as_json=args.json)
        return 3
    decoded = _decode(packets) if args.pcap else []
    if args.json:
        print(json.dumps({**report.to_json(), "decoded_packets": decoded}, default=str))
    else:
        print(render(report, decoded))
    return 0


def _find(record: Record, name: str) -> IncidentReport | None:
    if name:
        return record.incident(name)
    newest = record.incidents(limit=1)
    return record.incident(newest[0].incident) if newest else None


def render(report: IncidentReport, decoded: list[str]) -> str:
    """The report with a picture of its times."""
    incident = report.incident
    colour = "green" if incident.state == "closed" else "red"
    opened = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(incident.opened_wall_ns // 1_000_000_000))
    until_ns = incident.changed_wall_ns if incident.state == "closed" else time.time_ns()
    lasted = f"{'lasted' if incident.state == 'closed' else 'open for'} {age((until_ns - incident.opened_wall_ns) / 1e6)}"
    columns = shutil.get_terminal_size((120, 40)).columns
    lines = [
        f"{paint(incident.incident, 'bold')}  {paint(incident.state, colour)}  {incident.verdict} of {incident.scope}",
        f"  {incident.summary}",
        f"  opened {opened} on {incident.node}; {lasted}"
        + (f"; acknowledged by {incident.acknowledged_by}" if incident.acknowledged_by else ""),
        "",
    ]
    lines += draw_text(report, min(columns, WIDEST))
    lines += ["", *_told(report, columns)]
    if report.packets:
        lines.append(f"\n{report.packets} captured packet(s); --pcap decodes them")
    lines += ["", *decoded] if decoded else []
    return "\n".join(lines)


def _told(report: IncidentReport, columns: int) -> list[str]:
    """Every moment as a line; on a terminal wrapped below its own beginning."""
    lines = []
    for moment in moments(report):
        head = f"  {(moment.wall_ns - report.incident.opened_wall_ns) / 1e6:+9.0f} ms  "
        text = moment.text
        if sys.stdout.isatty():
            text = textwrap.fill(text, columns, initial_indent=" " * 26, subsequent_indent=" " * 26, break_on_hyphens=False)[26:]
        lines.append(f"{head}{paint(moment.kind.ljust(8), COLOURS[moment.kind])}  {text}".replace(" -0 ms", " +0 ms"))
    return lines


def _pcap_bytes(packets: list[PacketRow]) -> bytes:
    """A classic little-endian pcap with ns time stamps (magic a1b23c4d)."""
    import struct

    link_type = packets[0].link_type if packets else 1
    out = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, link_type)]
    for packet in packets:
        heard_wall_ns = packet.wall_ns - (packet.boottime_ns - packet.at_ns)  # rows of one batch share their wall time
        seconds, nanoseconds = divmod(heard_wall_ns, 1_000_000_000)
        out.append(struct.pack("<IIII", seconds, nanoseconds, len(packet.data), len(packet.data)) + packet.data)
    return b"".join(out)


def _write_pcap(path: str, packets: list[PacketRow]) -> None:
    with open(path, "wb") as f:
        f.write(_pcap_bytes(packets))


def _decode(packets: list[PacketRow]) -> list[str]:
    """Summaries by scapy in its own process: it is GPL-2.0-only and slow, so it never shares one with the record's library."""
    if not packets:
        return ["no packet was captured for this incident"]
    argv = [sys.executable, "-m", "brainctl.pcap_decoder"]
    try:
        with waiting(f"scapy decodes {len(packets)} packets"):
            done = subprocess.run(argv, input=_pcap_bytes(packets), capture_output=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return ["scapy did not finish in 60 s; --write-pcap and use another tool"]
    if done.returncode:
        return [done.stderr.decode(errors="replace").strip().splitlines()[-1] if done.stderr else "scapy failed"]
    return done.stdout.decode().splitlines()
