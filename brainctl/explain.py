"""One incident from the record: what was seen, when, by which rule it was judged, what was done, who was told.

brainctl explain                 the newest incident
brainctl explain ID [--pcap]     --pcap decodes the captured packets with scapy, in a process of its own
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from brainctl.options import add_common, database
from brainctl.output import age, paint, table
from watchdog.record.queries import IncidentReport, PacketRow, Record, RecordUnavailable, open_record

BAR_WIDTH = 48


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``brainctl explain``."""
    parser.add_argument("incident", nargs="?", default="", help="incident id (default: the newest)")
    parser.add_argument("--pcap", action="store_true", help="decode the captured packets (needs scapy: pip install brainctl[capture])")
    parser.add_argument("--write-pcap", metavar="FILE", help="write the captured packets to FILE")
    add_common(parser, config=False)


def run(args: argparse.Namespace) -> int:
    """Print the report; 0, 2 when there is no such incident, 3 when the record cannot be read."""
    try:
        with open_record(database(args)) as record:
            report = _find(record, args.incident)
            packets = record.packets(report.incident.incident) if report else []
    except RecordUnavailable as error:
        print(f"{error}; {error.remedy}", file=sys.stderr)
        return 3
    if report is None:
        print(
            f"no incident {args.incident!r} in the record; brainctl log --kind incident lists them"
            if args.incident
            else "no incident was ever recorded"
        )
        return 2 if args.incident else 0
    decoded = _decode(packets) if args.pcap else []
    if args.write_pcap:
        _write_pcap(args.write_pcap, packets)
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


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened: wall time, kind, and a sentence."""

    wall_ns: int
    kind: str
    text: str


def timeline(report: IncidentReport) -> list[Moment]:
    """Everything of the incident in the order of time."""
    return sorted(_moments(report), key=lambda m: m.wall_ns)


def _moments(report: IncidentReport) -> Iterator[Moment]:
    seen: set[tuple[str, str]] = set()
    for e in report.evidence:
        if (e.evidence_id, e.detail) in seen:
            continue  # a fact is recorded anew with every verdict that rests on it
        seen.add((e.evidence_id, e.detail))
        yield Moment(e.wall_ns, "evidence", f"{e.evidence_id} {e.kind} {e.subject}: {e.detail}")
    for v in report.verdicts:
        stage = f" {v.stage}" if v.stage else ""
        yield Moment(v.wall_ns, "verdict", f"{v.scope} {v.verdict}{stage}: {v.reason} (by {', '.join(v.evidence) or 'no evidence'})")
    for h in report.history:
        yield Moment(h.changed_wall_ns, "incident", f"{h.state}: {h.summary}")
    for a in report.actions:
        yield Moment(a.wall_ns, "action", f"{a.action} {a.subject} {a.outcome} {a.detail}".strip())
    for f in report.fences:
        level = f" level {f.level}" if f.level else ""
        yield Moment(f.wall_ns, "fence", f"{f.order_id} {f.target}{level} {f.state}: {f.detail}")
    for alert in report.alerts:
        yield Moment(alert.wall_ns, "alert", f"{alert.action} {alert.severity}: {alert.summary}")
        for t in alert.attempts:
            yield Moment(t.wall_ns, "alert", f"{t.receiver} attempt {t.attempt}: {t.outcome} in {t.took_ms} ms {t.detail}".strip())


_COLOURS = {"evidence": "grey", "verdict": "green", "incident": "magenta", "action": "cyan", "fence": "red", "alert": "yellow"}


def render(report: IncidentReport, decoded: list[str]) -> str:
    """The report with a picture of its times."""
    incident = report.incident
    colour = "green" if incident.state == "closed" else "red"
    opened = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(incident.opened_wall_ns // 1_000_000_000))
    lines = [
        f"{paint(incident.incident, 'bold')}  {paint(incident.state, colour)}  {incident.verdict} of {incident.scope}",
        f"  {incident.summary}",
        f"  opened {opened} on {incident.node}; lasted {age((incident.changed_wall_ns - incident.opened_wall_ns) / 1e6)}"
        + (f"; acknowledged by {incident.acknowledged_by}" if incident.acknowledged_by else ""),
        "",
    ]
    moments = timeline(report)
    lines += _picture(moments)
    lines += ["", *_table(moments, incident.opened_wall_ns)]
    if report.packets:
        lines.append(f"\n{report.packets} captured packet(s); --pcap decodes them")
    lines += ["", *decoded] if decoded else []
    return "\n".join(lines)


def _picture(moments: list[Moment]) -> list[str]:
    """One row per kind, one mark per moment, on a common time axis."""
    if not moments:
        return []
    start, end = moments[0].wall_ns, moments[-1].wall_ns
    span = max(1, end - start)
    lines = []
    for kind in _COLOURS:
        row = [" "] * (BAR_WIDTH + 1)
        for moment in moments:
            if moment.kind == kind:
                row[(moment.wall_ns - start) * BAR_WIDTH // span] = "●"
        if "●" in row:
            lines.append(f"  {kind.ljust(9)}│{paint(''.join(row), _COLOURS[kind])}│")
    lines.append(f"  {' ' * 9}└{'─' * (BAR_WIDTH + 1)}┘ {age(span / 1e6)}")
    return lines


def _table(moments: list[Moment], opened_wall_ns: int) -> list[str]:
    rows = [[f"{(m.wall_ns - opened_wall_ns) / 1e6:+9.0f} ms", paint(m.kind, _COLOURS[m.kind]), m.text] for m in moments]
    return table(rows, indent="  ").splitlines()


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
        done = subprocess.run(argv, input=_pcap_bytes(packets), capture_output=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return ["scapy did not finish in 60 s; --write-pcap and use another tool"]
    if done.returncode:
        return [done.stderr.decode(errors="replace").strip().splitlines()[-1] if done.stderr else "scapy failed"]
    return done.stdout.decode().splitlines()
