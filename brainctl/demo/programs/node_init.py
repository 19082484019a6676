"""Process 1 of a laboratory node: makes the node's own file tree, starts what it is told, reaps, and takes the node with it when it dies.

Run by ``unshare --net --mount --pid --uts --ipc --fork --mount-proc``. Reads one JSON object per line from standard input::

    {"op": "spawn", "id": 7, "argv": […], "env": {…}, "log": "/path"}

and writes ``{"event": "ready"}``, ``{"event": "spawned", "id": 7, "pid": 12}``, ``{"event": "exited", "pid": 12, "status": -9}``.
The node has its own /run and /tmp (memory, lost with the power), boot id, /etc/brainctl, /etc/keepalived and /var/lib (its disk).
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path

MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2); OSError names the target."""
    if _libc.mount(source.encode(), target.encode(), kind.encode() or None, flags, options.encode() or None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)


def private_tree(disk: Path, keep: list[str]) -> None:
    """Give this mount namespace its own /run, /tmp, /var/lib and /etc. ``keep``: paths that must stay reachable (programs, logs)."""
    hidden = ("/run", "/tmp", "/var/lib")  # noqa: S108
    kept = [(path, os.open(path, os.O_PATH)) for path in keep if path.startswith(tuple(h + "/" for h in hidden))]
    disk_fds = {name: os.open(disk / name, os.O_PATH) for name in ("var-lib", "etc-brainctl", "etc-keepalived")}
    etc = os.open("/etc", os.O_PATH)
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")  # noqa: S108
    mount(f"/proc/self/fd/{disk_fds['var-lib']}", "/var/lib", "", MS_BIND)
    for path, fd in kept:
        target = Path(path)
        if target.is_dir() or not target.exists():
            target.mkdir(parents=True, exist_ok=True)
        mount(f"/proc/self/fd/{fd}", path, "", MS_BIND | MS_REC)
        os.close(fd)
    os.mkdir("/run/host-etc")
    mount(f"/proc/self/fd/{etc}", "/run/host-etc", "", MS_BIND | MS_REC)
    mount("tmpfs", "/etc", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    for entry in os.listdir("/run/host-etc"):
        if entry not in ("brainctl", "keepalived"):
            os.symlink(f"/run/host-etc/{entry}", f"/etc/{entry}")
    for name in ("brainctl", "keepalived"):
        os.mkdir(f"/etc/{name}")
        mount(f"/proc/self/fd/{disk_fds[f'etc-{name}']}", f"/etc/{name}", "", MS_BIND)
    for fd in (etc, *disk_fds.values()):
        os.close(fd)
    mount("sysfs", "/sys", "sysfs")
    os.makedirs("/run/lab", mode=0o755)
    Path("/run/lab/boot_id").write_text(f"{uuid.uuid4()}\n")
    mount("/run/lab/boot_id", "/proc/sys/kernel/random/boot_id", "", MS_BIND)


def reap() -> None:
    """Collect every child that ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        say({"event": "exited", "pid": pid, "status": os.waitstatus_to_exitcode(status)})


def say(message: dict[str, object]) -> None:
    """One line to the laboratory."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def start(order: dict[str, object]) -> None:
    """Start what an order asks for; a program that cannot be started is reported as exited with 127."""
    argv, env = order["argv"], order.get("env") or {}
    assert isinstance(argv, list)
    assert isinstance(env, dict)
    with open(str(order["log"]), "ab") as log:
        try:
            child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **env}, start_new_session=True, cwd="/"
            )
        except OSError as error:
            log.write(f"{argv[0]}: {error}\n".encode())
            say({"event": "spawned", "id": order["id"], "pid": 0})
            return
    child.returncode = 0  # reaped by reap(), never by the Popen object
    say({"event": "spawned", "id": order["id"], "pid": child.pid})


def main() -> int:
    """Arguments: node name, disk directory, serial tty ("" if none), then the paths to keep."""
    name, disk, tty, *keep = sys.argv[1:]
    private_tree(Path(disk), keep)
    socket.sethostname(name)
    for where in ("all", "default"):
        path = Path(f"/proc/sys/net/ipv6/conf/{where}/disable_ipv6")
        if path.exists():
            path.write_text("1\n")
    if tty:
        os.symlink(tty, "/run/lab/ttyS0")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
    say({"event": "ready"})
    pending = b""
    while True:
        readable, _, _ = select.select([0, wake_read], [], [], 1.0)
        if wake_read in readable:
            os.read(wake_read, 4096)
        reap()
        if 0 not in readable:
            continue
        chunk = os.read(0, 65536)
        if not chunk:
            return 0
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            start(json.loads(line))


if __name__ == "__main__":
    sys.exit(main())
