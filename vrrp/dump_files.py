"""Where dumps go and how they are written: keepalived's names, whole or not at all."""

from __future__ import annotations

import os
import tempfile

from vrrp.commandline import Options
from vrrp.config.model.configuration import VrrpConfig

DATA, STATS, JSON = "keepalived.data", "keepalived.stats", "keepalived.json"
PRIVATE_MODE = 0o600


def dump_path(config: VrrpConfig, name: str) -> str:
    """The path of the dump ``name``: in $TMPDIR or /tmp, or where the file's keyword says.

    A keyword's path without a leading / lies in that directory, too; one that ends in / keeps the name. ``data_use_instance`` puts
    namespace and instance into keepalived.data's name, as in keepalived into no other: keepalived.NAMESPACE_INSTANCE.data.
    """
    defs, daemon = config.global_defs, config.daemon
    given = {DATA: defs.state_dump_file, STATS: defs.stats_dump_file, JSON: defs.json_dump_file}.get(name, "")
    directory, _, file_name = given.rpartition("/")
    if not given.startswith("/"):
        directory = os.environ.get("TMPDIR") or tempfile.gettempdir()
    file_name = file_name or name
    marks = "_".join(word for word in (daemon.net_namespace, daemon.instance) if word)
    if name == DATA and defs.data_use_instance and marks:
        stem, dot, suffix = file_name.rpartition(".")
        file_name = f"{stem}.{marks}.{suffix}" if dot else f"{file_name}.{marks}"
    return os.path.join(directory or "/", file_name)


def dump_mode(options: Options, config: VrrpConfig) -> int:
    """Of dumps: only their owner reads them, unless a umask is given (keyword, or -u, which wins)."""
    mask = config.global_defs.umask if options.umask is None else options.umask
    return PRIVATE_MODE if mask is None else 0o666 & ~mask


def write_atomically(path: str, text: str, mode: int = PRIVATE_MODE) -> None:
    """Replace ``path`` (a symlink of that name is replaced, not followed). Raises OSError."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".vrrpd-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.chmod(temporary, mode)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
