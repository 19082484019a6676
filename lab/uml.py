"""Runs a command as root inside a throw-away User-Mode Linux guest.

usage: lab/run [options] COMMAND [ARG...]

The guest has its own kernel (IPVS, VLAN, dummy, netem, softdog, ...) and sees the host's files through an overlay: what
it writes vanishes when it ends, except below the working directory and each -w DIR, which are the host's. /run, /dev,
/proc, /sys and /dev/shm are the guest's own; it has no network but the one that COMMAND makes. Environment and working
directory are the caller's; standard input is /dev/null; standard output and error are streamed.

options:
  -t SECONDS   time limit for the whole run (default 300)
  -m SIZE      guest memory, which also holds the overlay (default 1G)
  -w DIR       let the guest write to this host directory too (repeatable)
  -k KERNEL    UML binary (default: $LAB_KERNEL, else lab/kernel/linux if it was built, else Debian's linux.uml); its
               modules are taken from modules/ next to it, else from /usr/lib/uml/modules
  -r N         when the guest reboots (watchdog, reboot -f), start it and COMMAND again, up to N times, with
               LAB_BOOT=2, 3, ... (default 0)
  -a ARG       extra kernel argument (repeatable)
  -v           show the kernel's console on standard error

exit status: COMMAND's (128+N if signal N ended it), or
  120  the guest rebooted more often than -r allows (a watchdog bite)
  124  time limit reached
  125  the guest did not start, or died (kernel panic); the console's end is shown
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
WIDE_XSTATE = HERE / "build/wide_xstate.so"
REBOOTED, TIMEOUT, DIED = 120, 124, 125
REBOOT_MESSAGES = (b"Initiating system reboot", b"reboot: Restarting system", b"sysrq: Resetting")
PR_SET_PDEATHSIG = 1
CONSOLE_KEPT_BYTES = 16384


def fail(text: str) -> None:
    """Say what went wrong and end with DIED."""
    print(f"lab: {text}", file=sys.stderr)
    sys.exit(DIED)


def parse() -> argparse.Namespace:
    """The command line; -h and a missing command end here."""
    parser = argparse.ArgumentParser(prog="lab/run", usage="lab/run [options] COMMAND [ARG...]", add_help=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-t", dest="limit_s", type=float, default=300)
    parser.add_argument("-m", dest="memory", default="1G")
    parser.add_argument("-w", dest="writable", action="append", default=[])
    parser.add_argument("-k", dest="kernel", default=os.environ.get("LAB_KERNEL"))
    parser.add_argument("-r", dest="reboots", type=int, default=0)
    parser.add_argument("-a", dest="extra", action="append", default=[])
    parser.add_argument("-v", dest="verbose", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.command[:1] == ["--"]:
        options.command = options.command[1:]
    if options.help or not options.command:
        print(__doc__)
        sys.exit(0 if options.help else 2)
    return options


def find_kernel(choice: str | None) -> tuple[str, str]:
    """The UML binary and the directory of its modules."""
    for candidate in [choice] if choice else [str(HERE / "kernel/linux"), "linux.uml"]:
        path = shutil.which(candidate)
        if path:
            modules = Path(path).resolve().parent / "modules"
            return path, str(modules) if modules.is_dir() else "/usr/lib/uml/modules"
    fail(f"no User-Mode Linux kernel found{f' at {choice}' if choice else ''}: run `make lab`")
    raise AssertionError


def shell_array(name: str, values: Iterable[str]) -> str:
    """A bash assignment."""
    return f"{name}=({' '.join(map(shlex.quote, values))})\n"


def write_guest_files(directory: Path, options: argparse.Namespace, modules: str) -> None:
    """``init`` for the guest: its parameters, then guest-init.sh."""
    writable = {os.path.realpath(path) for path in [os.getcwd(), *options.writable]}
    for path in sorted(writable):
        if not os.path.isdir(path):
            fail(f"not a directory: {path}")
    parameters = shell_array("WRITABLE", sorted(writable - {"/"})) + shell_array("COMMAND", options.command)
    for name, value in (("CWD", os.getcwd()), ("LAB_DIR", str(directory)), ("MODULES", modules)):
        parameters += f"{name}={shlex.quote(value)}\n"
    init = directory / "init"
    init.write_text(f"#!/bin/bash\n{parameters}{(HERE / 'guest-init.sh').read_text()}")
    init.chmod(0o755)


def write_environment(directory: Path, boot: int) -> None:
    """The caller's environment, to be sourced in the guest."""
    names = {**os.environ, "LAB_BOOT": str(boot)}
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in names.items() if name.isidentifier() and name.isascii()]
    (directory / "env").write_text("".join(lines))


class Guest:
    """One boot of the guest."""

    def __init__(self, options: argparse.Namespace, directory: Path, kernel: str) -> None:
        self._verbose = options.verbose
        self._console = b""
        self._status = b""
        self._rebooted = False
        pipes = [os.pipe() for _ in range(4)]  # console, standard output, standard error, status
        reads, writes = [read for read, _ in pipes], [write for _, write in pipes]
        arguments = [
            *(kernel, f"mem={options.memory}", "seccomp=auto"),
            *("rootfstype=hostfs", "root=/dev/root", "rootflags=/", "rw", f'init="{directory}/init"'),
            *(f"uml_dir={directory}", "umid=uml", "devtmpfs.mount=0", "console=tty0", "con=null"),
            *(f"con{number}=null,fd:{write}" for number, write in enumerate(writes)),
            *options.extra,
        ]
        libc = ctypes.CDLL(None)
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=writes[0],
            stderr=writes[0],
            pass_fds=writes,
            env={**os.environ, "LD_PRELOAD": str(WIDE_XSTATE)} if WIDE_XSTATE.exists() else None,
            start_new_session=True,
            preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )
        for write in writes:
            os.close(write)
        sinks: list[Callable[[bytes], None]] = [self._on_console, copy_to(1), copy_to(2), self._on_status]
        self._threads = [threading.Thread(target=pump, args=pair, daemon=True) for pair in zip(reads, sinks, strict=True)]
        for thread in self._threads:
            thread.start()

    def kill(self) -> None:
        """Pull the plug."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _on_console(self, data: bytes) -> None:
        if self._verbose:
            copy_to(2)(data.replace(b"\r\n", b"\n"))
        self._console = (self._console + data)[-CONSOLE_KEPT_BYTES:]
        # UML's own restart is not used: it crashes when the watchdog asks for it.
        if any(message in self._console for message in REBOOT_MESSAGES):
            self._reboot()

    def _on_status(self, data: bytes) -> None:
        self._status += data
        if self._status.count(b"boot") > 1:
            self._reboot()

    def _reboot(self) -> None:
        self._rebooted = True
        self.kill()

    def wait(self, limit_s: float) -> int | None:
        """Exit status, or None after a reboot."""
        try:
            self._process.wait(max(0.0, limit_s))
        except subprocess.TimeoutExpired:
            print("lab: time limit reached", file=sys.stderr)
            return TIMEOUT
        finally:
            self.kill()
            self._process.wait()
            for thread in self._threads:
                thread.join(5)
        words = self._status.split()
        if self._rebooted:
            return None
        if words and words[-1].isdigit():
            return int(words[-1])
        if not self._verbose:
            sys.stderr.write(self._console[-4000:].decode(errors="replace").replace("\r", ""))
        missing = "" if WIDE_XSTATE.exists() else f"; some processors need {WIDE_XSTATE}: run `make lab`"
        fail(f"the guest died{missing}")
        return DIED


def pump(descriptor: int, sink: Callable[[bytes], None]) -> None:
    """Give what comes from a pipe to ``sink`` until it is closed."""
    while data := os.read(descriptor, 65536):
        sink(data)
    os.close(descriptor)


def copy_to(descriptor: int) -> Callable[[bytes], None]:
    """A sink that writes all of it, also to a pipe that does not block."""

    def sink(data: bytes) -> None:
        while data:
            try:
                data = data[os.write(descriptor, data) :]
            except BlockingIOError:
                time.sleep(0.01)
            except BrokenPipeError:
                return

    return sink


def main() -> int:
    """Boot, run, clean up."""
    options = parse()
    kernel, modules = find_kernel(options.kernel)
    end_s = time.monotonic() + options.limit_s
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    directory = Path(tempfile.mkdtemp(prefix="lab-"))
    guest = None
    try:
        write_guest_files(directory, options, modules)
        for boot in range(1, options.reboots + 2):
            write_environment(directory, boot)
            guest = Guest(options, directory, kernel)
            status = guest.wait(end_s - time.monotonic())
            if status is not None:
                return status
            print("lab: the guest rebooted", file=sys.stderr)
        return REBOOTED
    finally:
        if guest:
            guest.kill()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
