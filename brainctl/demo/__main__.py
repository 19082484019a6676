"""``python -m brainctl.demo`` is ``brainctl demo``."""

from __future__ import annotations

import argparse
import sys

from brainctl.demo.command import add_arguments, run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="brainctl demo")
    add_arguments(parser)
    sys.exit(run(parser.parse_args()))
