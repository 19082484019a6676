"""``vrrpd -t``: what is printed and what the exit status says.

keepalived 2.2.7 ends ``-t`` with 4 for an unreadable file, 5 for anything it complains about (also where it would run
all the same), 6 where scripts run as root without enable_script_security, and so do we. Remarks that keepalived does
not make (notes, "not acted on yet") do not change the status.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from base.diagnostics import Diagnostic, Severity
from vrrp.config.script_check import SECURITY

EXIT_OK = 0
EXIT_UNREADABLE = 4
EXIT_CONFIG = 5
EXIT_SECURITY = 6

OUR_OWN_REMARKS = frozenset({"not-acted-on", "advice", "extra-word"})
"""Codes of warnings that keepalived does not share; they leave the exit status alone."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Exit status of ``-t`` and the lines to print."""

    status: int
    lines: tuple[str, ...]


def exit_status(diagnostics: Iterable[Diagnostic]) -> int:
    """The status of ``-t``; security comes before other errors, as in keepalived."""
    status = EXIT_OK
    for diagnostic in diagnostics:
        if diagnostic.code == "unreadable":
            return EXIT_UNREADABLE
        if diagnostic.severity is Severity.NOTE or diagnostic.code in OUR_OWN_REMARKS:
            continue
        status = max(status, EXIT_SECURITY if diagnostic.code == SECURITY else EXIT_CONFIG)
    return status


def report(diagnostics: Iterable[Diagnostic], path: str) -> Verdict:
    """Every finding in the order of the file, then one line that sums up."""
    found = tuple(diagnostics)
    status = exit_status(found)
    errors = sum(d.severity is Severity.ERROR for d in found)
    warnings = sum(d.severity is Severity.WARNING for d in found)
    if errors:
        summary = f"{path}: refused: {_count(errors, 'error')}, {_count(warnings, 'warning')}"
    elif status:
        summary = f"{path}: accepted with {_count(warnings, 'warning')}; vrrpd starts, 'keepalived -t' would fail (status {status})"
    elif warnings:
        summary = f"{path}: good, {_count(warnings, 'warning')}"
    else:
        summary = f"{path}: good"
    return Verdict(status, (*(str(d) for d in found), summary))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
