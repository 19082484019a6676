"""How soon a virtual address that somebody removed is put back. Pure."""

from __future__ import annotations

from dataclasses import dataclass

RESTORE_GAP_NS = 1_000_000_000
LONGEST_RESTORE_GAP_NS = 60 * RESTORE_GAP_NS
RESTORE_CALM_NS = 2 * LONGEST_RESTORE_GAP_NS


@dataclass(slots=True)
class RestorePace:
    """At once, then after pauses that double from the first to the longest gap; after so much calm the first one counts again. Two programs
    that fight for an address at full speed help nobody."""

    last_ns: int = -(1 << 62)
    gap_ns: int = RESTORE_GAP_NS

    @property
    def earliest_ns(self) -> int:
        """When it may be put back again."""
        return self.last_ns + self.gap_ns

    def restored(self, now_ns: int) -> str:
        """It is put back now; for people."""
        calm = now_ns - self.last_ns > RESTORE_CALM_NS
        self.gap_ns = RESTORE_GAP_NS if calm else min(2 * self.gap_ns, LONGEST_RESTORE_GAP_NS)
        self.last_ns = now_ns
        detail = "somebody removed a virtual address; it is put back"
        if self.gap_ns > RESTORE_GAP_NS:
            detail += f", but the next time not before {self.gap_ns // 1_000_000_000} s have passed"
        return detail
