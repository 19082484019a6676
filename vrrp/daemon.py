"""Entry of ``vrrpd``: nothing is imported before the signals wait.

A SIGHUP in the first half second, while the program is still loading, would end the daemon (the kernel's default for it), and with it
whatever a package manager or an impatient script wanted to reload. ``base.signals.SignalReader`` lets them in when everything stands.
"""

from __future__ import annotations

import signal
import sys

WAITING_SIGNALS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGRTMIN + 2, signal.SIGRTMAX - 1)
"""All that mean something to a running daemon but its end."""


def main(argv: list[str] | None = None) -> int:
    """Entry of the ``vrrpd`` program."""
    signal.pthread_sigmask(signal.SIG_BLOCK, WAITING_SIGNALS)
    from vrrp.parent import main as run  # loading it is what takes so long

    return run(argv)


if __name__ == "__main__":
    sys.exit(main())
