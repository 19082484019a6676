"""Which real servers the operator drained: a small file in the run directory, so that a restart of the daemon keeps it in mind."""

from __future__ import annotations

import json
import os
import tempfile

Drains = dict[tuple[str, str], str]
"""(service, real server) → who and why, for the status."""


class DrainFile:
    """``path``: written as a whole and renamed. A file that cannot be read counts as empty; ``problem`` says so."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.problem = ""

    def read(self) -> Drains:
        """What was drained when the file was written last."""
        try:
            with open(self.path, encoding="utf-8") as file:
                entries = json.load(file)
            return {(str(entry["service"]), str(entry["server"])): str(entry.get("note", "")) for entry in entries}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            self.problem = f"{self.path} cannot be read ({error}): nothing counts as drained"
            return {}

    def write(self, drains: Drains) -> None:
        """Replace the file. Raises OSError."""
        entries = [{"service": service, "server": server, "note": note} for (service, server), note in sorted(drains.items())]
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(self.path), prefix=".drained-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(entries, file, indent=1)
        os.rename(temporary, self.path)
