#!/usr/bin/env python3
"""Runs pytest; tests that fail are run once more, alone, and are named.

Many tests drive real daemons against the clock, and the machines that run them are shared. A test that fails twice fails the run; one that
passes alone was disturbed, and the closing lines say which, so that nobody overlooks one that is often disturbed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAST_FAILED = ROOT / ".pytest_cache/v/cache/lastfailed"
MOST_REPEATED = 8
TESTS_FAILED = 1


def failed_tests() -> list[str]:
    """What failed in the last run."""
    try:
        return sorted(json.loads(LAST_FAILED.read_text()))
    except (OSError, ValueError):
        return []


def main() -> int:
    """The exit status of the last pytest that decided."""
    pytest = [sys.executable, "-m", "pytest", *sys.argv[1:]]
    LAST_FAILED.unlink(missing_ok=True)
    status = subprocess.run(pytest, cwd=ROOT, check=False).returncode
    failed = failed_tests()
    if status != TESTS_FAILED or not 0 < len(failed) <= MOST_REPEATED:
        return status
    print(f"\n{len(failed)} failed; running them once more, alone:", flush=True)
    for name in failed:
        print(f"  {name}", flush=True)
    status = subprocess.run([sys.executable, "-m", "pytest", "--last-failed", "-n", "0"], cwd=ROOT, check=False).returncode
    still = failed_tests() if status else []
    for name in failed:
        if name not in still:
            print(f"disturbed (failed beside others, passed alone): {name}")
    return status


if __name__ == "__main__":
    sys.exit(main())
