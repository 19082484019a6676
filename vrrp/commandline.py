"""keepalived's command line, and ours on top of it."""

from __future__ import annotations

import argparse
import os
import signal
from dataclasses import dataclass

DEFAULT_CONFIG = "/etc/keepalived/keepalived.conf"
SIGNAL_NUMBERS = {
    "STOP": int(signal.SIGTERM),
    "RELOAD": int(signal.SIGHUP),
    "DATA": int(signal.SIGUSR1),
    "STATS": int(signal.SIGUSR2),
    "STATS_CLEAR": int(signal.SIGRTMAX) - 1,
    "JSON": int(signal.SIGRTMIN) + 2,
}
NO_EFFECT = {
    "all_children": "--all: a child is only started if the file has something for it",
    "core_pattern": "-M/--core-dump-pattern: the system's core pattern is left alone",
    "address_monitoring": "-a/--address-monitoring: not reported yet",
}
"""Options that are accepted and have no effect yet, and what to say about them."""


@dataclass(slots=True)
class Options:
    """What was asked for on the command line; names follow the long options."""

    config: str = DEFAULT_CONFIG
    config_id: str = ""
    foreground: bool = False
    log_console: bool = False
    log_detail: bool = False
    log_facility: str = "daemon"
    no_syslog: bool = False
    log_file: str = ""
    log_json: bool = False
    test: bool = False
    test_log: str = ""
    dump_config: bool = False
    pid_file: str = ""
    vrrp_pid_file: str = ""
    bfd_pid_file: str = ""
    checker_pid_file: str = ""
    vrrp_only: bool = False
    checker_only: bool = False
    keep_ipvs: bool = False
    no_bfd: bool = False
    keep_vips: bool = False
    no_respawn: bool = False
    core_dump: bool = False
    umask: int | None = None
    namespace: str = ""
    all_config: bool = False
    run_dir: str = "/run/brainctl"
    gate: str = "open"
    snmp: bool = False
    snmp_socket: str = ""
    without_effect: tuple[str, ...] = ()

    def as_arguments(self) -> list[str]:
        """The options that a test child needs to read the same file."""
        return ["-f", self.config, *(["-i", self.config_id] if self.config_id else [])]


def build_parser() -> argparse.ArgumentParser:
    """The parser; ``-h`` prints it."""
    parser = argparse.ArgumentParser(prog="vrrpd", description="VRRP daemon; reads keepalived.conf.", add_help=True)
    add = parser.add_argument
    add("-f", "--use-file", dest="config", metavar="FILE", default=DEFAULT_CONFIG, help="configuration (%(default)s)")
    add("-i", "--config-id", metavar="ID", default="", help="for configuration lines beginning with @ID (default: the node name)")
    add("-t", "--config-test", nargs="?", const="-", default=None, metavar="LOG", help="check the configuration and exit")
    add("-n", "--dont-fork", dest="foreground", action="store_true", help="stay in the foreground")
    add("-l", "--log-console", action="store_true", help="log to stderr")
    add("-D", "--log-detail", action="store_true", help="log more")
    add("-S", "--log-facility", default="daemon", metavar="0-7|localN|user|daemon", help="syslog facility")
    add("-G", "--no-syslog", action="store_true", help="do not log to syslog")
    add("--log-file", "-g", nargs="?", const="/tmp/keepalived.log", default="", metavar="FILE", help="log to a file")  # noqa: S108
    add("--log-json", action="store_true", help="log one JSON object a line")
    add("--flush-log-file", action="store_true", help="accepted; the log file is never buffered")
    add("-d", "--dump-conf", dest="dump_config", action="store_true", help="print the configuration as it was understood")
    add("-p", "--pid", dest="pid_file", default="", metavar="FILE", help="pid file of the parent process (RUN_DIR/vrrpd.pid)")
    add("-r", "--vrrp_pid", dest="vrrp_pid_file", default="", metavar="FILE", help="pid file of the vrrp process (RUN_DIR/vrrpd_vrrp.pid)")
    add("-c", "--checkers_pid", dest="checker_pid_file", default="", metavar="FILE", help="pid file of the checker process")
    add("-b", "--bfd_pid", dest="bfd_pid_file", default="", metavar="FILE", help="pid file of the BFD process")
    add("-P", "--vrrp", dest="vrrp_only", action="store_true", help="no checker process: virtual servers are not acted on")
    add("-C", "--check", dest="checker_only", action="store_true", help="only the checker process: no VRRP")
    add("-B", "--no_bfd", action="store_true", help="no BFD process; every bfd_instance counts as down")
    add("--all", dest="all_children", action="store_true", help="accepted")
    add("-V", "--dont-release-vrrp", dest="keep_vips", action="store_true", help="leave the addresses in place when stopping")
    add("-I", "--dont-release-ipvs", dest="keep_ipvs", action="store_true", help="leave the virtual servers in IPVS when stopping")
    add("-X", "--release-vips", action="store_true", help="remove the addresses when stopping (the default)")
    add("-R", "--dont-respawn", dest="no_respawn", action="store_true", help="end when the vrrp process dies")
    add("-m", "--core-dump", action="store_true", help="allow core files")
    add("-M", "--core-dump-pattern", dest="core_pattern", nargs="?", const="core", default="", metavar="PATTERN", help="accepted")
    add("-u", "--umask", default="", metavar="MASK", help="umask for files")
    add("-s", "--namespace", default="", metavar="NAME", help="run in this network namespace")
    add("-e", "--all-config", action="store_true", help="a missing include file is an error")
    add("-x", "--snmp", action="store_true", help="show KEEPALIVED-MIB, as enable_snmp_vrrp in the file does")
    add("-A", "--snmp-agent-socket", dest="snmp_socket", default="", metavar="ADDRESS", help="AgentX socket, if the file names none")
    add("-a", "--address-monitoring", action="store_true", help="accepted")
    add("--signum", choices=sorted(SIGNAL_NUMBERS), default=None, help="print the number of a signal")
    add("--run-dir", default="/run/brainctl", metavar="DIR", help="where vrrpd.sock lies (%(default)s)")
    add("--gate", choices=("open", "closed"), default="open", help="closed: never MASTER without a grant from braind")
    add("-v", "--version", action="store_true", help="print the version")
    return parser


def version_text() -> str:
    """What ``-v`` prints."""
    return f"vrrpd {_version()} (reads keepalived.conf)"


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # slow to import, rarely wanted

    try:
        return version("brainctl")
    except PackageNotFoundError:
        return "of a checkout"


def parse(argv: list[str]) -> tuple[Options, str | None]:
    """Options, and the signal name if only its number is wanted. Exits as argparse does on a mistake."""
    parser = build_parser()
    given = parser.parse_args(argv)
    if given.version:
        parser.exit(0, version_text() + "\n")
    if given.umask:
        try:
            given.umask = int(given.umask, 0)
        except ValueError:
            parser.error(f"argument -u/--umask: {given.umask!r} is not a number")
    options = Options(
        config=os.path.abspath(given.config),
        config_id=given.config_id,
        foreground=given.foreground,
        log_console=given.log_console,
        log_detail=given.log_detail,
        log_facility=given.log_facility,
        no_syslog=given.no_syslog,
        log_file=given.log_file,
        log_json=given.log_json,
        test=given.config_test is not None,
        test_log="" if given.config_test in (None, "-") else given.config_test,
        dump_config=given.dump_config,
        pid_file=given.pid_file,
        vrrp_pid_file=given.vrrp_pid_file,
        bfd_pid_file=given.bfd_pid_file,
        checker_pid_file=given.checker_pid_file,
        vrrp_only=given.vrrp_only and not given.checker_only,
        checker_only=given.checker_only and not given.vrrp_only,
        keep_ipvs=given.keep_ipvs,
        no_bfd=given.no_bfd,
        keep_vips=given.keep_vips,
        no_respawn=given.no_respawn,
        core_dump=given.core_dump,
        umask=given.umask if given.umask != "" else None,
        namespace=given.namespace,
        all_config=given.all_config,
        run_dir=given.run_dir,
        gate=given.gate,
        snmp=given.snmp,
        snmp_socket=given.snmp_socket,
        without_effect=tuple(text for name, text in NO_EFFECT.items() if getattr(given, name)),
    )
    return options, given.signum
