"""An incident as a picture: one lane per thing that lasted or happened, on one time axis, for the terminal and as SVG.

Pauses in which nothing happened are shortened (``//`` on the axis), or an incident that stood open for hours would hide its first second.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from xml.sax.saxutils import escape

from brainctl.output import age, paint
from watchdog.record.queries import IncidentReport

NS_PER_S = 1_000_000_000
LABEL_WIDTH = 18
PAUSE_FACTOR = 4
"""No pause is drawn longer than so many times the third longest."""
TAIL = 12
"""The last state is drawn for so small a part of the whole beyond the last moment."""
_EARLIER_NS = NS_PER_S
"""Evidence older than this before the first verdict stands at the left edge: it was true all along."""

_VERDICT_COLOURS = {"HEALTHY": "green", "PATH_DEGRADED": "yellow", "MISCONFIGURED": "yellow", "UNKNOWN": "magenta"}
_FENCE_COLOURS = {"requested": "yellow", "claimed": "blue", "proved": "green", "refuted": "red", "unknown": "magenta", "not_done": "grey"}
COLOURS = {"evidence": "grey", "verdict": "green", "incident": "magenta", "action": "cyan", "fence": "red", "alert": "yellow"}
"""The colour of each kind of moment."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened: wall time, kind, and a sentence."""

    wall_ns: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """A state that lasted. ``faint``: not certain yet (a suspicion, a claim)."""

    begin_ns: int
    end_ns: int
    label: str
    colour: str
    faint: bool = False


@dataclass(frozen=True, slots=True)
class Lane:
    """One line of the picture."""

    name: str
    spans: tuple[Span, ...] = ()
    marks: tuple[Moment, ...] = ()


def moments(report: IncidentReport) -> list[Moment]:
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


def lanes(report: IncidentReport) -> list[Lane]:
    """What lasted (verdicts, the incident, fences) and what happened (evidence, actions, alerts); empty lanes are left out."""
    happened = moments(report)
    first, last = (happened[0].wall_ns, happened[-1].wall_ns) if happened else (0, 0)
    end_ns = last + max(NS_PER_S // 10, (last - first) // TAIL)  # room for the state that it ended in
    found = [
        *_verdict_lanes(report, end_ns),
        Lane("incident", (_incident_span(report, end_ns),)),
        *_fence_lanes(report, end_ns),
        *(Lane(kind, marks=tuple(m for m in happened if m.kind == kind)) for kind in ("evidence", "action", "alert")),
    ]
    return [lane for lane in found if lane.spans or lane.marks]


def _chained(changes: list[tuple[int, str, str, bool]], end_ns: int) -> tuple[Span, ...]:
    """Spans from (time, label, colour, faint): each lasts until the next."""
    ends = [change[0] for change in changes[1:]] + [end_ns]
    return tuple(Span(begin, end, label, colour, faint) for (begin, label, colour, faint), end in zip(changes, ends, strict=True))


def _verdict_lanes(report: IncidentReport, end_ns: int) -> Iterator[Lane]:
    for scope in dict.fromkeys(v.scope for v in report.verdicts):
        changes = [
            (v.wall_ns, f"{v.verdict} {v.stage}".strip(), _VERDICT_COLOURS.get(v.verdict, "red"), v.stage == "suspected")
            for v in report.verdicts
            if v.scope == scope
        ]
        yield Lane(f"verdict {scope}", _chained(changes, end_ns))


def _incident_span(report: IncidentReport, end_ns: int) -> Span:
    incident = report.incident
    closed = incident.state == "closed"
    end = incident.changed_wall_ns if closed else max(end_ns, incident.changed_wall_ns)
    return Span(incident.opened_wall_ns, end, incident.state, "magenta" if not closed else "grey")


def _fence_lanes(report: IncidentReport, end_ns: int) -> Iterator[Lane]:
    for order, level in dict.fromkeys((f.order_id, f.level) for f in report.fences if f.level):
        rows = [f for f in report.fences if (f.order_id, f.level) == (order, level)]
        changes = [(f.wall_ns, f.state, _FENCE_COLOURS.get(f.state, "red"), f.state in ("requested", "claimed", "unknown")) for f in rows]
        yield Lane(f"fence {rows[0].target} level {level}", _chained(changes, end_ns))


# ---- the axis ---------------------------------------------------------------------------------------------------------


class Axis:
    """Wall time → 0…1, with long pauses shortened. ``cuts``: the places of shortened pauses, as (from, to) in ns."""

    def __init__(self, picture: Iterable[Lane]) -> None:
        times: set[int] = set()
        early: set[int] = set()
        for lane in picture:
            times |= {t for span in lane.spans for t in (span.begin_ns, span.end_ns)}
            (early if lane.name == "evidence" else times).update(mark.wall_ns for mark in lane.marks)
        first = min(times, default=0) - _EARLIER_NS
        self._times = sorted(times | {t for t in early if t >= first}) or [0]
        pauses = [later - sooner for sooner, later in pairwise(self._times)]
        longest = sorted(pauses, reverse=True)
        limit = max(NS_PER_S, PAUSE_FACTOR * longest[2]) if len(longest) > 2 else max(longest, default=0)
        self.cuts = [(s, t) for s, t in pairwise(self._times) if t - s > limit]
        self._places = [0.0]
        for pause in pauses:
            self._places.append(self._places[-1] + min(pause, limit))
        self._length = self._places[-1] or 1.0

    @property
    def begin_ns(self) -> int:
        """The left edge."""
        return self._times[0]

    @property
    def end_ns(self) -> int:
        """The right edge, a little after the last moment."""
        return self._times[-1]

    @property
    def last_ns(self) -> int:
        """The last moment (the right edge lies a little after it)."""
        return self._times[-2] if len(self._times) > 1 else self._times[-1]

    def place(self, wall_ns: int) -> float:
        """Where an instant lies, 0…1; what is outside lies at the edge."""
        index = bisect.bisect_right(self._times, wall_ns)
        if index == 0:
            return 0.0
        if index == len(self._times):
            return 1.0
        before, after = self._times[index - 1], self._times[index]
        share = (wall_ns - before) / (after - before)
        return (self._places[index - 1] + share * (self._places[index] - self._places[index - 1])) / self._length

    def ticks(self, opened_ns: int) -> list[tuple[float, str]]:
        """Places and labels (relative to the opening): the left edge, the opening, the last moment, both ends of every cut."""
        wanted = {self.begin_ns, self.last_ns, opened_ns, *(t for cut in self.cuts for t in cut)} - {self.end_ns}
        return [(self.place(t), since(t, opened_ns)) for t in sorted(wanted)]


def since(wall_ns: int, opened_ns: int) -> str:
    """``+2.3 s`` after the opening, ``-1.0 s`` before it."""
    ms = (wall_ns - opened_ns) / 1e6
    return f"{'-' if ms <= -0.5 else '+'}{age(abs(ms))}"


# ---- for the terminal -------------------------------------------------------------------------------------------------


def draw_text(report: IncidentReport, columns: int) -> list[str]:
    """The picture as lines of at most ``columns`` characters (escape codes apart)."""
    picture = lanes(report)
    axis = Axis(picture)
    width = max(20, columns - LABEL_WIDTH - 6)
    lines = [f"  {lane.name[:LABEL_WIDTH].ljust(LABEL_WIDTH)} │{_row(lane, axis, width)}│" for lane in picture]
    rule = ["─"] * width
    for begin, end in axis.cuts:
        middle = min(_column((axis.place(begin) + axis.place(end)) / 2, width), width - 2)
        rule[middle : middle + 2] = "//"
    labels = [" "] * (width + 8)
    free = 0
    for place, label in axis.ticks(report.incident.opened_wall_ns):
        column = _column(place, width)
        start = min(max(0, column - len(label) // 2), width + 2 - len(label))
        if start < free:
            continue  # the neighbours stand too close for another label
        rule[column] = "┬"
        labels[start : start + len(label)] = label
        free = start + len(label) + 1
    lines.append(f"  {' ' * LABEL_WIDTH} └{''.join(rule)}┘")
    lines.append(f"  {' ' * LABEL_WIDTH}  {''.join(labels).rstrip()}")
    return lines


def _column(place: float, width: int) -> int:
    return min(width - 1, int(place * width))


def _row(lane: Lane, axis: Axis, width: int) -> str:
    cells = [" "] * width
    colours = [""] * width
    for span in lane.spans:
        first, last = _column(axis.place(span.begin_ns), width), _column(axis.place(span.end_ns), width)
        word = span.label if last - first > len(span.label) + 2 else ""
        for column in range(first, last + 1):
            cells[column], colours[column] = "░" if span.faint else "█", span.colour
        for offset, letter in enumerate(f" {word} " if word else ""):
            cells[first + 1 + offset] = letter
    for mark in lane.marks:
        column = _column(axis.place(mark.wall_ns), width)
        cells[column], colours[column] = "◂" if mark.wall_ns < axis.begin_ns else "●", COLOURS[mark.kind]
    parts, begin = [], 0
    for column in range(1, width + 1):
        if column == width or colours[column] != colours[begin]:
            text = "".join(cells[begin:column])
            parts.append(paint(text, colours[begin]) if colours[begin] else text)
            begin = column
    return "".join(parts)


# ---- as SVG -----------------------------------------------------------------------------------------------------------

_HEX = {
    "red": "#c0392b",
    "green": "#27864b",
    "yellow": "#d9a400",
    "blue": "#2f6fb0",
    "magenta": "#8e44ad",
    "cyan": "#1f9ea8",
    "grey": "#8a8f94",
}
_LEFT, _WIDTH, _LANE, _TOP, _LINE = 190, 960, 30, 74, 18
_TOLD = ("verdict", "incident", "action", "fence", "alert")
_MAX_TOLD = 60


def draw_svg(report: IncidentReport) -> str:
    """The picture as one self-contained SVG file: lanes, axis, and the moments in words below. Resting on something tells its text."""
    picture, incident = lanes(report), report.incident
    axis = Axis(picture)
    told = [m for m in moments(report) if m.kind in _TOLD][:_MAX_TOLD]
    bottom = _TOP + _LANE * len(picture)
    height = bottom + 60 + _LINE * len(told) + 20
    total = _LEFT + _WIDTH + 40

    def x(wall_ns: int) -> float:
        return _LEFT + axis.place(wall_ns) * _WIDTH

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{height}" viewBox="0 0 {total} {height}"'
        ' font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="12">',
        f'<rect width="{total}" height="{height}" fill="#ffffff"/>',
        _text(20, 28, f"{incident.incident}: {incident.verdict} of {incident.scope}, {incident.state}", "#111111", size=17),
        _text(20, 50, _short(incident.summary, 170), "#444444"),
    ]
    for number, lane in enumerate(picture):
        top = _TOP + number * _LANE
        out.append(f'<rect x="{_LEFT}" y="{top}" width="{_WIDTH}" height="{_LANE - 6}" fill="#f3f4f5"/>')
        out.append(_text(_LEFT - 10, top + 17, lane.name, "#222222", anchor="end"))
        for span in lane.spans:
            width = max(2.0, x(span.end_ns) - x(span.begin_ns))
            words = f"{span.label}: {since(span.begin_ns, incident.opened_wall_ns)} to {since(span.end_ns, incident.opened_wall_ns)}"
            out.append(
                f'<rect x="{x(span.begin_ns):.1f}" y="{top}" width="{width:.1f}" height="{_LANE - 6}" fill="{_HEX[span.colour]}"'
                f' fill-opacity="{0.4 if span.faint else 0.9}"><title>{escape(words)}</title></rect>'
            )
            if width > 8 * len(span.label):
                out.append(_text(x(span.begin_ns) + 6, top + 17, span.label, "#111111" if span.faint else "#ffffff"))
        out += [
            f'<circle cx="{x(mark.wall_ns):.1f}" cy="{top + 12}" r="5" fill="{_HEX[COLOURS[mark.kind]]}" stroke="#ffffff">'
            f"<title>{escape(since(mark.wall_ns, incident.opened_wall_ns) + '  ' + mark.text)}</title></circle>"
            for mark in lane.marks
        ]
    out += _svg_axis(axis, incident.opened_wall_ns, bottom)
    for number, moment in enumerate(told):
        y = bottom + 64 + number * _LINE
        out.append(_text(100, y, since(moment.wall_ns, incident.opened_wall_ns), "#222222", anchor="end"))
        out.append(_text(115, y, moment.kind, _HEX[COLOURS[moment.kind]]))
        out.append(_text(_LEFT - 10, y, _short(moment.text, 150), "#222222"))
    return "\n".join([*out, "</svg>", ""])


def _svg_axis(axis: Axis, opened_ns: int, bottom: int) -> Iterator[str]:
    yield f'<line x1="{_LEFT}" y1="{bottom + 4}" x2="{_LEFT + _WIDTH}" y2="{bottom + 4}" stroke="#444444"/>'
    for begin, end in axis.cuts:
        middle = _LEFT + (axis.place(begin) + axis.place(end)) / 2 * _WIDTH
        yield f'<rect x="{middle - 5:.1f}" y="{_TOP}" width="10" height="{bottom - _TOP + 8}" fill="#ffffff"/>'
        yield _text(middle, bottom + 9, "//", "#444444", anchor="middle", size=14)
    free = 0.0
    for place, label in axis.ticks(opened_ns):
        at = _LEFT + place * _WIDTH
        yield f'<line x1="{at:.1f}" y1="{bottom}" x2="{at:.1f}" y2="{bottom + 8}" stroke="#444444"/>'
        if at >= free:
            yield _text(at, bottom + 24, label, "#444444", anchor="middle")
            free = at + 8 * len(label) + 10


def _text(x: float, y: float, words: str, colour: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'


def _short(words: str, longest: int) -> str:
    return words if len(words) <= longest else words[: longest - 1] + "…"
