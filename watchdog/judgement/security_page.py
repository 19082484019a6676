"""PURE: the table of docs/SECURITY.md, printed from what the deciding code asks (open_evidence.py); a test holds it current
(``BRAIN_UPDATE=1`` rewrites it)."""

from __future__ import annotations

from watchdog.config.model import Mode
from watchdog.judgement.open_evidence import TABLE, Effect, OpenKind, allows

BEGIN, END = "<!-- generated: open evidence -->", "<!-- end of the generated part -->"


def open_evidence_table() -> str:
    """What each kind may bring about in each mode, and what none of them ever may."""
    effects = [effect for effect in Effect if any(effect in TABLE[kind] for kind in OpenKind)]
    lines = [BEGIN, "", "o = in observe, r = in resolve, s = in strict, – = never.", ""]
    lines += [f"{number}. {effect.value}" for number, effect in enumerate(effects, 1)]
    lines += ["", f"| what a stranger sends or keeps away | {' | '.join(str(n) for n in range(1, len(effects) + 1))} |"]
    lines += ["|---|" + "---|" * len(effects)]
    for kind in OpenKind:
        lines.append(f"| {kind.value} | {' | '.join(_modes(kind, effect) for effect in effects)} |")
    never = [effect for effect in Effect if not any(allows(kind, effect, mode) for kind in OpenKind for mode in Mode)]
    careful = [
        effect
        for effect in Effect
        if any(allows(k, effect, m) and not allows(k, effect, m, require_authenticated=True) for k in OpenKind for m in Mode)
    ]
    lines += ["", f"Nothing open ever {'; '.join(effect.value for effect in never)}.", ""]
    lines += [f"With `fence.require_authenticated = true` nothing open {', nor '.join(effect.value for effect in careful)}.", "", END]
    return "\n".join(lines)


def _modes(kind: OpenKind, effect: Effect) -> str:
    return " ".join(mode.value[0] for mode in (Mode.OBSERVE, Mode.RESOLVE, Mode.STRICT) if allows(kind, effect, mode)) or "–"
