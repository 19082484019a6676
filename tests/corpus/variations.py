"""Configuration files of our own, one for each thing that can be said in a vrrp_instance or in global_defs, and for some that go together.

Each is a whole file for a node with eth0 and eth1 (192.168.200.1/24, 192.168.201.1/24), such as the tests of ``-t`` and the corpus runner
have. What varies stands in ``instance-lines.txt`` and ``global-lines.txt``, `` ; `` being the end of a line; ``write`` makes files.
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
INSTANCE = (HERE / "instance-lines.txt").read_text().splitlines()
GLOBAL = (HERE / "global-lines.txt").read_text().splitlines()


def instance(line: str) -> str:
    """A file whose vrrp_instance has this line."""
    head = "vrrp_instance V {\n interface eth0\n virtual_router_id 9\n priority 100\n"
    return head + f" {line}\n virtual_ipaddress {{\n 192.168.200.9\n }}\n}}\n".replace(" ; ", "\n ")


def files() -> dict[str, tuple[str, str]]:
    """Name → what varies, and the whole text."""
    found = {f"instance-{number:03}": (line, instance(line)) for number, line in enumerate(INSTANCE)}
    for number, line in enumerate(GLOBAL):
        lines = line.replace(" ; ", "\n ")
        found[f"global-{number:03}"] = line, f"global_defs {{\n {lines}\n}}\n{instance('')}"
    return found


def write(directory: Path) -> dict[Path, str]:
    """Into ``directory``, as NAME.conf; path → what varies."""
    paths = {}
    for name, (line, text) in files().items():
        path = directory / f"{name}.conf"
        path.write_text(text)
        paths[path] = line
    return paths
