"""PURE: our heartbeats: one a path and interval, and at once when something changed that the peer must know."""

from __future__ import annotations

from dataclasses import replace

from base.core import NS_PER_MS, NS_PER_S
from watchdog.config.model import PathKind, PathSettings
from watchdog.frames.heartbeat import OLDEST_VERSION, VERSION, Heartbeat, NodeFlags
from watchdog.judgement.arbitration import health
from watchdog.judgement.commands import SendFrame
from watchdog.judgement.state import WatcherState
from watchdog.judgement.terms import told_terms

LINE_BITS = 64 * 10
"""The longest frame on a serial line, with start and stop bits."""


def gap_ms(path: PathSettings) -> int:
    """How soon after a frame the next one may follow: the time that the longest one takes on the wire."""
    return 1 + (LINE_BITS * 1_000 // max(1, path.baud) if path.kind is PathKind.SERIAL else 0)


class Beats:
    """When each path sends next."""

    def __init__(self, state: WatcherState, now_ns: int) -> None:
        self._state = state
        self._flags = NodeFlags.NONE
        self._beats = {path.name: now_ns for path in state.settings.paths}
        self._beat_sent: dict[str, int] = {}

    def on_deadline(self, now_ns: int) -> None:
        """Send what is due."""
        for name, due_ns in self._beats.items():
            if now_ns >= due_ns:
                self._send_beat(now_ns, name)

    def conclude(self, now_ns: int) -> None:
        """At the end of a call: has something changed that cannot wait for the next beat?"""
        self._flags_changed(now_ns)
        if self._state.beat_wanted:
            self._state.beat_wanted = False
            for name in self._beats:
                self._send_urgent_beat(now_ns, name)

    def next_deadline(self) -> int | None:
        """The next beat."""
        return min(self._beats.values(), default=None)

    def _flags_changed(self, now_ns: int) -> None:
        """Our flags changed: the peer is told at once."""
        flags = self._state.flags(now_ns)
        if flags != self._flags:
            self._flags = flags
            self._state.beat_wanted = True

    def _send_urgent_beat(self, now_ns: int, name: str) -> None:
        """Something changed: tell it now, or as soon as the line is free again (the shell drops what a busy serial line cannot take)."""
        path = self._state.contact.settings[name]
        free_ns = self._beat_sent.get(name, -gap_ms(path) * NS_PER_MS) + gap_ms(path) * NS_PER_MS
        if now_ns >= free_ns:
            self._send_beat(now_ns, name)
        else:
            self._beats[name] = min(self._beats[name], free_ns)

    def _send_beat(self, now_ns: int, name: str) -> None:
        """One frame on one path, and when the next is due."""
        state = self._state
        self._beat_sent[name] = now_ns
        path = state.contact.settings[name]
        frame = state.contact.next_frame(now_ns, name)
        turns = state.contact.turns
        nonce, acknowledged = state.contact.answer(now_ns)
        left_ns = max(0, (state.maintenance_until_ns or 0) - now_ns)
        beat = Heartbeat(
            node=state.settings.self_name,
            boot=state.started.boot,
            epoch=state.started.incarnation,
            sequence=frame.sequence,
            nonce=state.started.nonce,
            receiver_nonce=nonce,
            hears=state.contact.hears_mask(),
            health=health(state.health_facts(now_ns)),
            flags=state.flags(now_ns),
            groups=state.reports(now_ns),
            sent_ns=now_ns,
            episode=state.incidents.episodes.number,
            terms=told_terms(turns.terms, acknowledged, left_ns // NS_PER_S),
            macs=state.link_macs,
        )
        for version in self._versions(path, frame.sequence):
            state.out.append(SendFrame(name, state.contact.encode(name, replace(beat, version=version))))
        wait_ms = gap_ms(path) if state.contact.behind(name) else path.interval_ms
        self._beats[name] = now_ns + wait_ms * NS_PER_MS

    def _versions(self, path: PathSettings, sequence: int) -> tuple[int, ...]:
        """The newest first: its receiver then knows the other for a copy. A serial line has no time for both, so they take turns."""
        if not self._state.contact.speaks_old:
            return (VERSION,)
        if path.kind is PathKind.SERIAL:
            return (VERSION if sequence % 2 else OLDEST_VERSION,)
        return (VERSION, OLDEST_VERSION)
