"""PURE: keeps on disk which terms both nodes have acknowledged (turns.py): a node that comes back in a cut knows whether they still
hold."""

from __future__ import annotations

from watchdog.judgement.commands import Persist, Row, RowKind
from watchdog.judgement.incidents import Trouble
from watchdog.judgement.state import WatcherState
from watchdog.judgement.terms import differences
from watchdog.judgement.troubles import Troubles
from watchdog.judgement.verdict import PAIR_SCOPE


class Agreement:
    """Call ``note`` after every frame that was accepted."""

    def __init__(self, state: WatcherState, troubles: Troubles) -> None:
        self._state = state
        self._troubles = troubles
        self._turns = state.contact.turns
        self._kept = state.started.durable.turn_terms
        self._barrier: int | None = None
        if self._kept and not self._turns.agreed:
            # Ours are not those that were agreed on. That must be on disk before the peer can learn ours and agree: otherwise a node
            # that goes back to its old settings in the middle of a cut would believe in an agreement that the other one has given up.
            state.barrier += 1
            self._barrier = state.barrier
            self._write()
        else:
            self._turns.old_terms_forgotten()

    def note(self, now_ns: int) -> None:
        """Write down what has changed, and tell a person of settings that stay different: a rollout takes a minute."""
        settings, theirs = self._state.settings, self._turns.peer_terms
        found = differences(self._turns.terms, theirs, settings.self_name, settings.peer.name) if theirs is not None else []
        summary = f"{'; '.join(found)}: neither node fences the other before both are equal" if found else ""
        self._troubles.report(now_ns, PAIR_SCOPE, Trouble.MISCONFIGURED, summary)
        if self._turns.agreed != self._kept and self._barrier is None:
            self._write()

    def persisted(self, barrier: int) -> None:
        """Everything up to ``barrier`` is durable."""
        if self._barrier is not None and barrier >= self._barrier:
            self._barrier = None
            self._turns.old_terms_forgotten()

    def _write(self) -> None:
        self._kept = self._turns.agreed
        self._state.out.append(Persist((Row(RowKind.NODE, (("key", "turn_terms"), ("value", self._kept))),), self._barrier))
