"""docs/SECURITY.md says what the deciding code does."""

from __future__ import annotations

import os
from pathlib import Path

from watchdog.judgement.security_page import BEGIN, END, open_evidence_table

PAGE = Path(__file__).parents[3] / "docs" / "SECURITY.md"


def test_the_page_is_current() -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _old, after = rest.split(END)
    wanted = before + open_evidence_table() + after
    if os.environ.get("BRAIN_UPDATE"):
        PAGE.write_text(wanted, encoding="utf-8")
    assert text == wanted, "BRAIN_UPDATE=1 .venv/bin/python -m pytest tests/watchdog/judgement/test_security_page.py writes it anew"
