"""vrrpd's parent process: reads the configuration, supervises the vrrp process, runs scripts, writes log, pid files and dumps.

It is not in the path of an election: a slow disk, a slow script or a long configuration never delays an advert. Signals as
keepalived: HUP reload, TERM/INT stop, USR1 / USR2 / RTMIN+2 dumps in /tmp in its own forms, RTMAX-1 statistics and then counting anew.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import syslog
from collections.abc import Callable
from dataclasses import replace

from base.channel import JsonObject
from base.clock import now_ns, wall_ns
from base.core import NS_PER_MS, NS_PER_S
from base.diagnostics import Diagnostic, Severity
from base.log import JSON_ENV, Log, SyslogSocket
from base.pump import Pump
from base.signals import STOP_SIGNALS, SignalReader
from base.supervise import Child, leave
from base.systemd import ServiceManager
from vrrp.bfd.supervision import BfdChild
from vrrp.commandline import SIGNAL_NUMBERS, Options, parse
from vrrp.config.model.common import NO_NOTIFY, NotifyCommands
from vrrp.config.model.configuration import VrrpConfig
from vrrp.dump_files import DATA, JSON, STATS, dump_mode, dump_path, write_atomically
from vrrp.dump_text import keepalived_data, keepalived_stats
from vrrp.dumps import keepalived_json, without_secrets
from vrrp.handing_over import configuration_messages
from vrrp.heartbeat import Heartbeat
from vrrp.loading import Refused, judge, load
from vrrp.lvs.news import fifo_line, script_of
from vrrp.lvs.supervision import CheckerChild
from vrrp.outside.supervision import OutsideChild
from vrrp.placement import place
from vrrp.reload_files import ConfigCopies, ReloadMarker, with_unchangeable
from vrrp.scheduled_reload import ScheduledReload
from vrrp.system.files import TrackedFiles
from vrrp.system.firewall import Firewall
from vrrp.system.firewall_guard import FirewallGuard
from vrrp.system.guard import Guard
from vrrp.system.link_macs import interface_macs
from vrrp.system.notify import Change, Fifo, Notifier
from vrrp.system.pid_files import pid_files, running_already, write_pid_file
from vrrp.system.process_events import TrackedProcesses
from vrrp.system.process_name import PARENT, name_of, set_name
from vrrp.system.scripts import Outcome, ScriptRunner, TrackedScripts, run_to_end
from vrrp.system.sysctls import Sysctls, wanted_sysctls
from vrrp.system.timers import Timers
from vrrp.system.will import LastWill

EXIT_OK, EXIT_FATAL, EXIT_UNREADABLE, EXIT_CONFIG = 0, 1, 4, 5
STOP_PATIENCE_NS = 3 * NS_PER_S
_OUR_SIGNALS = (signal.SIGINT, *SIGNAL_NUMBERS.values())
"""How long the vrrp process may take to say priority 0 and remove the addresses. Stop scripts get child_wait_time (5 s) on top."""


class VrrpDaemon:
    """The parent; ``run`` returns the exit status."""

    def __init__(self, options: Options, config: VrrpConfig, log: Log) -> None:
        self.options = options
        self.config = config
        self._former = config
        """What a reload replaces, until the vrrp process has changed over."""
        self._placed = config
        """The same as ``config``, with the macvlans and ipvlans that it needs."""
        self.log = log
        self.timers = Timers()
        self.pump = Pump(next_deadline=self._next_deadline, on_deadline=self._on_deadline)
        self.runner = ScriptRunner(self.pump, self.timers, log)
        self.scripts = TrackedScripts(self.runner, self.timers, log, self._script_ended)
        self.files = TrackedFiles(self.pump, self.timers, log, self._file_changed)
        self.processes = TrackedProcesses(self.pump, self.timers, log, self._process_changed)
        self.notifier = Notifier(self.runner, self.timers, log)
        self.guard = Guard()
        self.will = LastWill(self.guard)
        self.firewall = Firewall()
        self.firewall_guard = FirewallGuard(self.pump, self.timers, self.firewall, log)
        self.sysctls = Sysctls()
        self.masters: set[str] = set()
        self.fifos: list[Fifo] = []
        self._child_log_r, self._child_log_w = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._child_log_r, False)
        self.child = Child(
            self.pump,
            "vrrp process",
            [sys.executable, "-m", "vrrp.process"],
            self._on_child,
            on_up=self._child_up,
            on_down=self._child_down,
            env={"PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(__file__)))},
            stderr=self._child_log_w,
        )
        self.bfd = BfdChild(self.pump, log, self._bfd_changed, stderr=self._child_log_w)
        self.checkers = CheckerChild(self.pump, options, log, self._on_checkers, stderr=self._child_log_w)
        self.outside = OutsideChild(self.pump, options, log, self._asked_from_outside, stderr=self._child_log_w)
        self.exit_code = EXIT_OK
        self._stopping = False
        self._child_said_goodbye = False
        self._ready = False
        self._children_started = False
        self._changing_over = 0
        """Reloads on their way: the vrrp process has not said yet that it lives with the new configuration."""
        self._reload_wanted = False
        self._pid_files = pid_files(options, config.daemon)
        self._service = ServiceManager()
        self._heartbeat = Heartbeat(self.timers, self._service, lambda: self.child.send({"op": "ping"}))
        self._schedule = ScheduledReload(self.timers, log, self.reload)
        self._marker = ReloadMarker(log)
        self._copies = ConfigCopies(log)
        self._dumped: list[JsonObject] = []
        self._dumps: dict[str, tuple[str, Callable[[JsonObject], str]]] = {
            "data": (DATA, lambda status: keepalived_data(status, self.config, wall_ns(), self.processes.running())),
            "stats": (STATS, keepalived_stats),
            "json": (JSON, self._json_dump),
        }

    # ---- running --------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Until a signal says stop."""
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signals = SignalReader(self.pump, _OUR_SIGNALS, self._on_signal)
        self.pump.add_reader(self._child_log_r, self._relay_child_log)
        set_name(name_of(self.config.global_defs, PARENT))
        write_pid_file(self._pid_files.parent, os.getpid())
        startup = self.config.global_defs.startup_script
        if startup.command is None:
            self._start_children()
        else:
            self.runner.run(startup.command, (), self._startup_script_ended, timeout_ns=startup.timeout_ns)
        try:
            self.pump.run()
        finally:
            signals.close()
            self.child.stop()
            self._execute_will()
            self.checkers.stop()
            self.firewall_guard.close()
            if problem := self.firewall.remove():
                self.log.error(f"the firewall rules of no_accept are still there: {problem}")
            self.sysctls.restore()
            self.outside.stop()
            self.bfd.stop()
            self._relay_child_log()
            self.processes.close()
            self.runner.kill_all(signal.SIGKILL)
            for fifo in self.fifos:
                fifo.close()
            self._run_shutdown_script()
            self._pid_files.remove()
        return self.exit_code

    def _startup_script_ended(self, outcome: Outcome) -> None:
        """Whatever became of it, as with keepalived: the children start now."""
        if not outcome.success:
            self.log.error(f"the startup_script {outcome.detail}")
        if not self._stopping:
            self._start_children()
            if self._reload_wanted:
                self.reload()

    def _start_children(self) -> None:
        self._children_started = True
        self._open_fifos()
        self._prepare_kernel()
        if self.options.checker_only:
            self._configure_bfd()
        else:
            self.child.start()
            self._guard_addresses()
        self._configure_checkers()
        self.outside.configure(self.config)
        self._schedule.configure(self.config.global_defs.reload)
        if self.options.checker_only:
            self._service.ready()

    def _run_shutdown_script(self) -> None:
        script = self.config.global_defs.shutdown_script
        if script.command is not None and self._children_started:
            outcome = run_to_end(script.command, script.timeout_ns)
            if not outcome.success:
                self.log.error(f"the shutdown_script {outcome.detail}")

    def _next_deadline(self) -> int | None:
        due = [self.timers.next_deadline()]
        if not self._stopping:
            due += [self.child.next_deadline(), self.bfd.next_deadline(), self.outside.next_deadline(), self.checkers.next_deadline()]
        return min((d for d in due if d is not None), default=None)

    def _on_deadline(self, at_ns: int) -> None:
        if not self._stopping:
            self.child.on_deadline(at_ns)
            self.outside.on_deadline(at_ns)
            self.bfd.on_deadline(at_ns)
            self.checkers.on_deadline(at_ns)
        self.timers.on_deadline(at_ns)

    def _on_signal(self, number: int) -> None:
        if number in STOP_SIGNALS:
            self.stop()
        elif number == SIGNAL_NUMBERS["RELOAD"]:
            self.reload()
        elif number == SIGNAL_NUMBERS["DATA"]:
            self.child.send({"op": "dump", "what": "data"})
        elif number == SIGNAL_NUMBERS["STATS"]:
            self.child.send({"op": "dump", "what": "stats"})
        elif number == SIGNAL_NUMBERS["JSON"]:
            self.child.send({"op": "dump", "what": "json"})
        elif number == SIGNAL_NUMBERS["STATS_CLEAR"]:
            self._dump_and_clear()

    def _dump_and_clear(self) -> None:
        self.child.send({"op": "dump", "what": "stats"})
        self.child.send({"op": "clear"})

    def _asked_from_outside(self, what: str) -> None:
        """A method of the D-Bus interface."""
        if what == "reload":
            self.reload()
        elif what == "stats_clear":
            self._dump_and_clear()
        else:
            self.child.send({"op": "dump", "what": "data" if what == "data" else "stats"})

    # ---- the child ------------------------------------------------------------------------------------------------

    def _guard_addresses(self) -> None:
        """A guardian removes the addresses if every process of ours is killed. Without one it is as with keepalived: they stay."""
        if self.options.keep_vips:
            return
        try:
            self.guard.start()
        except (OSError, subprocess.SubprocessError) as error:
            self.log.warning(f"no guardian: if every process of vrrpd is killed at once, virtual addresses stay behind ({error})")
        if self.child.pid is not None:
            self.guard.process(self.child.pid)

    def _child_up(self) -> None:
        self._ready = False
        self._child_said_goodbye = False
        if self.child.pid is not None:
            write_pid_file(self._pid_files.vrrp, self.child.pid)
            self.guard.process(self.child.pid)
        settings = {
            "gate_closed": self.options.gate == "closed",
            "run_dir": self.options.run_dir,
            "keep_addresses": self.options.keep_vips,
        }
        self.child.send({"op": "settings", "settings": settings})
        self._send_configuration()

    def _send_configuration(self) -> None:
        for message in configuration_messages(self._placed):
            self.child.send(message)

    def _child_down(self, reason: str) -> None:
        self._relay_child_log()
        if self._child_said_goodbye and self._stopping:
            return  # only the stop scripts are waited for now
        self.log.error(f"the vrrp process is gone ({reason}); its addresses are removed and its peers told")
        self._execute_will()
        for name in sorted(self.masters):
            self._notify("INSTANCE", name, "BACKUP", 0)
        self.masters.clear()
        self.checkers.tell_roles(self.masters)
        if self._changing_over and not self._stopping:
            self._roll_back()
        if self.options.no_respawn or self._stopping:
            self.exit_code = EXIT_FATAL
            self._finish()

    def _collect_dump(self, message: JsonObject) -> None:
        status = message["status"]
        status["instances"] = self._dumped + status["instances"]
        self._dumped = [] if message["last"] else status["instances"]
        if message["last"]:
            name, content = self._dumps[message["what"]]
            try:
                write_atomically(dump_path(self.config, name), content(status), dump_mode(self.options, self.config))
            except OSError as error:
                self.log.error(f"cannot write {name}: {error.strerror}")

    def _json_dump(self, status: JsonObject) -> str:
        return json.dumps(keepalived_json(status, self.config, wall_ns(), self.processes.running()), indent=1) + "\n"

    def _execute_will(self) -> None:
        """Empty after a clean goodbye."""
        for problem in self.will.execute(sorted(self.masters)):
            self.log.error(f"last will: {problem}")
        self.will.clear()

    def _on_child(self, message: JsonObject) -> None:
        match message.get("op"):
            case "ready":
                self._child_ready(message)
            case "notify":
                self._notify(message["kind"], message["name"], message["state"], message["priority"])
            case "report":
                self._report(message)
            case "pong":
                self._heartbeat.answered()
            case "will_begins":
                self.will.clear()
            case "will":
                self.will.note(message)
            case "dump":
                self._collect_dump(message)
            case "fatal":
                self.log.error(message["reason"])
                self.exit_code = EXIT_FATAL
                self._stopping = True
                self._finish()
            case "stopped":
                self._child_said_goodbye = True
                self.will.clear()
                self._if_all_said_goodbye()

    def _child_ready(self, message: JsonObject) -> None:
        if self._ready and self.config.global_defs.fifo_write_states_on_reload:
            for fifo in self._vrrp_fifos():
                for state in message["states"]:
                    fifo.changed(Change(*state))
        if not self._ready:
            self.scripts.repeat_results()
            self.files.repeat()
            self.processes.repeat()
            self.bfd.repeat()
            self.checkers.repeat()
        self.log.info("Reload complete" if self._ready else "Startup complete")
        self._service.ready()
        self._heartbeat.start()
        if self._ready:
            self._copies.after(self.config)
        self._changing_over = max(0, self._changing_over - 1)
        if not self._changing_over:
            self._former = self.config
        self._ready = True
        tracks = [i.track for i in self.config.instances] + [g.track for g in self.config.sync_groups]
        scripts = {t.name for track in tracks for t in track.scripts}
        files = {t.name for track in tracks for t in track.files}
        self.scripts.configure([script for script in self.config.scripts if script.name in scripts])
        self.files.configure([file for file in self.config.track_files if file.name in files])
        processes = {t.name for track in tracks for t in track.processes}
        self.processes.configure(
            [process for process in self.config.track_processes if process.name in processes],
            self.config.global_defs.buffers.process_monitor,
        )
        self._configure_bfd()

    def _configure_bfd(self) -> None:
        self.bfd.configure(self.config, run=not self.options.no_bfd)
        write_pid_file(self._pid_files.bfd, self.bfd.pid)

    def _configure_checkers(self) -> None:
        self.checkers.configure(self.config)
        write_pid_file(self._pid_files.checker, self.checkers.pid)

    def _on_checkers(self, message: JsonObject) -> None:
        match message.get("op"):
            case "lvs_notify":
                line = fifo_line(message)
                for fifo in self._lvs_fifos():
                    fifo.write(line)
                script = script_of(message)
                if script is not None:
                    script = replace(script, all_groups=self.config.global_defs.supplementary_groups)
                    self.notifier.run(message["subject"], f"{message['service']} {message['server']}", [(script, ())])
                self.outside.tell(message)
            case "mail":
                self.outside.tell(message)
            case "quorum":
                self.child.send(message)
            case "stopped":
                self._if_all_said_goodbye()

    def _if_all_said_goodbye(self) -> None:
        if self._stopping and self.checkers.ended and (self._child_said_goodbye or self.child.pid is None):
            self._await_scripts(now_ns() + self.config.daemon.child_wait_ns)

    def _script_ended(self, name: str, success: bool) -> None:
        self.child.send({"op": "script", "name": name, "success": success})

    def _file_changed(self, name: str, value: int) -> None:
        self.child.send({"op": "file", "name": name, "value": value})

    def _process_changed(self, name: str, up: bool, running: int) -> None:
        self.log.info(f"vrrp_track_process {name} is {'up' if up else 'down'}: {running} running")
        self.child.send({"op": "process", "name": name, "up": up})

    def _bfd_changed(self, name: str, up: bool) -> None:
        self.log.info(f"bfd_instance {name} is {'up' if up else 'down'}")
        session = next((model for model in self.config.bfd_instances if model.name == name), None)
        if session is None or session.for_vrrp:
            self.child.send({"op": "bfd", "name": name, "up": up})
        if session is None or session.for_checker:
            self.checkers.tell_bfd(name, up)

    def _relay_child_log(self) -> None:
        """The child's lines go where ours go; it never waits for a disk."""
        while True:
            try:
                data = os.read(self._child_log_r, 65536)
            except BlockingIOError:
                return
            if not data:
                return
            self.log.relay(data)

    # ---- notifies -------------------------------------------------------------------------------------------------

    def _commands_of(self, kind: str, name: str) -> NotifyCommands:
        """Also of what a reload has just removed: its last scripts run."""
        for config in (self.config, self._former):
            found = config.sync_groups if kind == "GROUP" else config.instances
            for model in found:
                if model.name == name:
                    return model.notify
        return NO_NOTIFY

    def _notify(self, kind: str, name: str, state: str, priority: int) -> None:
        if kind == "INSTANCE":
            (self.masters.add if state == "MASTER" else self.masters.discard)(name)
            self.checkers.tell_roles(self.masters)
        change = Change(kind, name, state, priority)
        self.notifier.changed(self._commands_of(kind, name), change)
        for fifo in self._vrrp_fifos():
            fifo.changed(change)

    def _vrrp_fifos(self) -> list[Fifo]:
        """Those for VRRP events; with the same path for both kinds one FIFO takes both."""
        paths = {self.config.global_defs.fifo.path, self.config.global_defs.vrrp_fifo.path}
        return [fifo for fifo in self.fifos if fifo.path in paths]

    def _lvs_fifos(self) -> list[Fifo]:
        paths = {self.config.global_defs.fifo.path, self.config.global_defs.lvs_fifo.path}
        return [fifo for fifo in self.fifos if fifo.path in paths]

    def _report(self, message: JsonObject) -> None:
        """FIFO-only events of keepalived."""
        instance = self.config.instance(message["name"])
        if message["kind"] == "priority_changed" and instance is not None and instance.notify_priority_changes:
            word = "MASTER_PRIORITY" if message["state"] == "MASTER" else "BACKUP_PRIORITY"
            for fifo in self._vrrp_fifos():
                fifo.changed(Change("INSTANCE", message["name"], word, message["priority"]))
        elif message["kind"] == "lower_priority_master_heard":
            change = Change("INSTANCE", message["name"], "MASTER_RX_LOWER_PRI", 0 if instance is None else instance.priority)
            self.notifier.changed(self._commands_of("INSTANCE", message["name"]), change)
            for fifo in self._vrrp_fifos():
                fifo.changed(change)

    def _prepare_kernel(self) -> None:
        """Names of macvlans, firewall rules and sysctls, before the vrrp process may become MASTER."""
        self._placed = place(self.config, interface_macs(), self._placed.links)
        if problem := self.firewall.apply(self._placed):
            self.log.error(f"no_accept has no effect, packets to the virtual addresses are let in: {problem}")
        self.firewall_guard.watch()
        for problem in self.sysctls.apply(wanted_sysctls(self._placed, self.sysctls.in_force)):
            self.log.error(problem)

    def _open_fifos(self) -> None:
        given = self.config.global_defs
        wanted = {f.path: f for f in (given.fifo, given.vrrp_fifo, given.lvs_fifo) if f.path}
        for fifo in [fifo for fifo in self.fifos if fifo.path not in wanted]:
            fifo.close()
            self.fifos.remove(fifo)
        for path, settings in wanted.items():
            if not any(fifo.path == path for fifo in self.fifos):
                self.fifos.append(Fifo(settings, self.log))
                if settings.script is not None:
                    self.runner.run(
                        settings.script, (path,), lambda outcome: self.log.warning(f"the reader of a notify FIFO {outcome.detail}")
                    )

    # ---- reload and stop --------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Read the file again; a bad one changes nothing."""
        if self._stopping:
            return
        if not self._children_started:
            self._reload_wanted = True
            return
        self._service.reloading()
        self._reopen_log()
        with self._marker.beside(self.config, self.options):
            config = self._read_again()
        self._schedule.configure((self.config if config is None else config).global_defs.reload)
        if config is None:
            self._service.ready()
            return
        self.log.info("Reloading")
        self._copies.before(self.config)
        if not self._changing_over:
            self._former = self.config
        self.config = config
        set_name(name_of(config.global_defs, PARENT))
        self._open_fifos()
        self._prepare_kernel()
        self._configure_checkers()
        if self.options.checker_only:
            self._configure_bfd()
            self._service.ready()
        else:
            self._changing_over += 1
            self._send_configuration()
        self.outside.configure(config)

    def _reopen_log(self) -> None:
        """Whoever moved the log file (logrotate) sends SIGHUP, so that a new one is written."""
        if not self.options.log_file:
            return
        try:
            fresh = open_log_file(self.options.log_file)
        except OSError as error:
            self.log.error(f"cannot open {self.options.log_file} again: {error.strerror}; the log goes on where it went")
            return
        os.dup2(fresh, self.log.fd, inheritable=False)
        os.close(fresh)

    def _roll_back(self) -> None:
        """The vrrp process died before it had changed over to the new configuration: it comes back with the one that worked."""
        self._changing_over = 0
        self.config = self._former
        self.log.error("the vrrp process did not survive the new configuration; the former one is in force again")
        self._open_fifos()
        self._prepare_kernel()
        self._configure_checkers()
        self.outside.configure(self.config)
        self._schedule.configure(self.config.global_defs.reload)

    def _read_again(self) -> VrrpConfig | None:
        """None after saying what is wrong with the file."""
        try:
            config, remarks = load(self.options)
        except Refused as refused:
            for diagnostic in refused.diagnostics:
                log_diagnostic(self.log, diagnostic)
            self.log.error("the new configuration is refused; the running one stays in force")
            return None
        for diagnostic in remarks:
            log_diagnostic(self.log, diagnostic)
        return with_unchangeable(config, self.config, self.log)

    def stop(self) -> None:
        """Priority 0 and addresses out first, then stop scripts, then the end."""
        if self._stopping:
            return
        self._stopping = True
        self._service.stopping()
        self.log.info("Stopping")
        self.scripts.stop()
        self.runner.kill_all(signal.SIGTERM)
        self.checkers.say_stop()
        if not self.child.send({"op": "stop"}):
            self._if_all_said_goodbye()
        self.timers.call_at(now_ns() + STOP_PATIENCE_NS, self._child_is_stuck)

    def _child_is_stuck(self) -> None:
        for name, ended in (("vrrp", self._child_said_goodbye or self.child.pid is None), ("checker", self.checkers.ended)):
            if not ended:
                self.log.error(f"the {name} process does not answer; it is killed")
                self._finish()

    def _await_scripts(self, until_ns: int) -> None:
        if self.notifier.idle or now_ns() >= until_ns:
            self._finish()
        else:
            self.timers.call_at(now_ns() + 5 * NS_PER_MS, lambda: self._await_scripts(until_ns))

    def _finish(self) -> None:
        self.pump.stop()


def log_diagnostic(log: Log, diagnostic: Diagnostic) -> None:
    """One finding of the configuration reader as a log line."""
    write = {Severity.ERROR: log.error, Severity.WARNING: log.warning}.get(diagnostic.severity, log.info)
    write(str(diagnostic))


def open_log_file(path: str) -> int:
    """A descriptor that appends to it. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)


def open_log(options: Options) -> Log:
    """Where the command line wants the log: stderr, a file, syslog."""
    descriptor = -1
    if options.log_file:
        descriptor = open_log_file(options.log_file)
    elif options.log_console or options.foreground:
        descriptor = 2
    to_syslog = None
    if not options.no_syslog and not options.log_console:
        word = options.log_facility.upper()
        name = f"LOG_LOCAL{word[-1]}" if word[-1:].isdigit() else f"LOG_{word}"
        to_syslog = SyslogSocket("vrrpd", getattr(syslog, name, syslog.LOG_DAEMON))
    if options.log_json:
        os.environ[JSON_ENV] = "1"
    return Log("vrrpd", descriptor, options.log_json, to_syslog)


def test_configuration(options: Options) -> int:
    """``-t``: every finding and a summary, to stderr or a file; then the exit status of ``keepalived -t``."""
    verdict = judge(options)
    text = "".join(f"{line}\n" for line in verdict.lines)
    if options.test_log:
        with open(options.test_log, "w", encoding="utf-8") as out:
            out.write(text)
    else:
        sys.stderr.write(text)
    return verdict.status


def enter_namespace(name: str) -> None:
    """Run in a named network namespace (``-s``). Raises OSError."""
    import ctypes

    descriptor = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, 0x40000000):
        code = ctypes.get_errno()
        raise OSError(code, f"cannot enter network namespace {name}: {os.strerror(code)}")
    os.close(descriptor)


def daemonize() -> None:
    """To the background; the caller's process ends here."""
    if os.fork():
        os._exit(0)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


def main(argv: list[str] | None = None) -> int:
    """Entry of the ``vrrpd`` program."""
    options, wanted_signal = parse(sys.argv[1:] if argv is None else argv)
    if wanted_signal is not None:
        print(SIGNAL_NUMBERS[wanted_signal])
        return EXIT_OK
    if options.test:
        return test_configuration(options)
    try:
        config, remarks = load(options)
    except Refused as refused:
        for diagnostic in refused.diagnostics:
            print(diagnostic, file=sys.stderr)
        print("vrrpd: the configuration is refused; nothing was started", file=sys.stderr)
        return EXIT_UNREADABLE if refused.unreadable else EXIT_CONFIG
    if options.dump_config:
        print(json.dumps(without_secrets(config), indent=1))
    own_pid_file = pid_files(options, config.daemon).parent
    if (pid := running_already(own_pid_file)) is not None:
        print(f"vrrpd: process {pid} of {own_pid_file} lives; stop it first or use another -p FILE", file=sys.stderr)
        return EXIT_FATAL
    try:
        if namespace := options.namespace or config.daemon.net_namespace:
            enter_namespace(namespace)
        umask = options.umask if options.umask is not None else config.global_defs.umask
        if umask is not None:
            os.umask(umask)
        if options.core_dump:
            resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if not options.foreground:
            daemonize()
        log = open_log(options)
    except OSError as error:
        print(f"vrrpd: {error.strerror}", file=sys.stderr)
        return EXIT_FATAL
    for diagnostic in remarks:
        log_diagnostic(log, diagnostic)
    for text in options.without_effect:
        log.warning(text)
    return leave(VrrpDaemon(options, config, log).run())
