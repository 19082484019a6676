"""What stands behind the four console scripts: put our packages first on ``sys.path``, then run.

In the wheel the packages `base`, `vrrp`, `fencing`, `alerts` and `watchdog` live in ``brainctl/_lib``, because a top-level ``watchdog``
would silently overwrite PyPI's package of that name. In a checkout and in an editable install they lie beside ``brainctl``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

_HERE = Path(__file__).resolve().parent


def library_root() -> Path:
    """The directory that holds our packages: ``brainctl/_lib`` in a wheel, else the repository root."""
    private = _HERE / "_lib"
    return private if private.is_dir() else _HERE.parent


def _run(module: str) -> int:
    root = str(library_root())
    if sys.path[:1] != [root]:
        sys.path.insert(0, root)
    result: int = import_module(module).main()
    return result


def vrrpd() -> int:
    """Console script ``vrrpd``."""
    return _run("vrrp.daemon")


def braind() -> int:
    """Console script ``braind``."""
    return _run("watchdog.daemon")


def brainctl() -> int:
    """Console script ``brainctl``."""
    return _run("brainctl.command")


def fence_brainctl() -> int:
    """Console script ``fence_brainctl``."""
    return _run("brainctl.fence_agent")
