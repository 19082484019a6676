"""PURE: takes in what the witness says, keeps the peer informed, and pages when it is lost and when it is back (K5)."""

from __future__ import annotations

from base.core import NS_PER_MS
from watchdog.judgement import events
from watchdog.judgement.evidence import EvidenceKind, Owner
from watchdog.judgement.incidents import Trouble
from watchdog.judgement.state import WatcherState
from watchdog.judgement.troubles import Troubles
from watchdog.judgement.verdict import PAIR_SCOPE


class WitnessIntake:
    """Feeds state.witness; its loss is a trouble of its own, told whatever else is open (Promise 10)."""

    def __init__(self, state: WatcherState, troubles: Troubles) -> None:
        self._state = state
        self._troubles = troubles

    def changed(self, now_ns: int, event: events.WitnessChanged) -> None:
        """A poll of the witness is over."""
        news = self._state.witness.changed(now_ns, event)
        if event.up:
            self._note_holder(now_ns, event.holder)
        if news:
            self._flag_changed(now_ns)

    def granted(self, now_ns: int, event: events.LeaseGranted) -> None:
        """The turn is ours."""
        self._state.witness.granted(now_ns, event)
        self._send(now_ns)

    def refused(self, now_ns: int, event: events.LeaseRefused) -> None:
        """The turn is not ours."""
        self._state.witness.refused(now_ns, event)
        if event.holder:
            self._note_holder(now_ns, event.holder)
        self._send(now_ns)

    def lost(self, now_ns: int, event: events.LeaseLost) -> None:
        """The turn was ours."""
        self._state.witness.lost(now_ns, event)
        self._state.record_action(PAIR_SCOPE, "witness", "lease", event.detail, "lost")
        self._send(now_ns)

    def on_deadline(self, now_ns: int) -> None:
        """The witness fell silent, or is to be asked again."""
        if self._state.witness.on_deadline(now_ns):
            self._flag_changed(now_ns)
        self._state.touch(PAIR_SCOPE)

    def _send(self, now_ns: int) -> None:
        self._state.out.extend(self._state.witness.take_commands())
        self._state.touch(PAIR_SCOPE)

    def _note_holder(self, now_ns: int, holder: str) -> None:
        """K5: whoever has the turn was alive when it asked. It never suffices alone: it says nothing of addresses."""
        state, witness = self._state, self._state.settings.witness
        assert witness is not None
        if holder == state.settings.peer.name:
            detail = f"the witness says that {holder} holds the turn to fence"
            _, news = state.ledger.note(
                now_ns, PAIR_SCOPE, EvidenceKind.K5_WITNESS, Owner.PEER, "witness", detail, 3 * witness.poll_ms * NS_PER_MS
            )
        else:
            news = state.ledger.retract(PAIR_SCOPE, EvidenceKind.K5_WITNESS, "witness")
        if news:
            state.touch(PAIR_SCOPE)

    def _flag_changed(self, now_ns: int) -> None:
        """The peer is told at once: until it has acknowledged it, both rules count (witnessing.py)."""
        state, witness = self._state, self._state.witness
        state.beat_wanted = True
        state.record_action(PAIR_SCOPE, "witness", "reachable", witness.detail, "lost" if witness.out else "back")
        state.publish("the witness is out" if witness.out else "the witness answers again")
        state.touch(PAIR_SCOPE)
        summary = f"{state.settings.self_name} cannot reach the witness: {witness.detail}" if witness.out else ""
        self._troubles.report(
            now_ns,
            PAIR_SCOPE,
            Trouble.WITNESS_OUT,
            summary,
            "turns to fence go by the rules without a witness as soon as both nodes have told each other that it is out; "
            "a node that loses it during a cut cannot fence",
        )
