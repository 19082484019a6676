"""Values that instances, groups and scripts inherit from global_defs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vrrp.config.model.common import NotifyCommands, ScriptCommand
from vrrp.config.model.daemon import GlobalDefs, NotifyFifo, StartStopScript


@dataclass(frozen=True, slots=True)
class GarpDefaults:
    """Global vrrp_garp_lower_prio_*: None = not given; then an instance takes its own garp_master_* instead."""

    lower_priority_delay_ns: int | None = None
    lower_priority_repeat: int | None = None


def with_default_user(command: ScriptCommand, defs: GlobalDefs) -> ScriptCommand:
    """The command with global script_user where it names no user, set_supplementary_groups and use_symlink_paths."""
    command = replace(command, all_groups=defs.supplementary_groups, real_path=not defs.symlink_paths)
    return command if command.user else replace(command, user=defs.script_user, group=defs.script_group)


def with_default_users(notify: NotifyCommands, defs: GlobalDefs) -> NotifyCommands:
    """All commands with global script_user where they name no user."""

    def filled(command: ScriptCommand | None) -> ScriptCommand | None:
        return None if command is None else with_default_user(command, defs)

    return NotifyCommands(
        master=filled(notify.master),
        backup=filled(notify.backup),
        fault=filled(notify.fault),
        stop=filled(notify.stop),
        deleted=filled(notify.deleted),
        master_rx_lower_priority=filled(notify.master_rx_lower_priority),
        any_state=filled(notify.any_state),
    )


def with_script_users(defs: GlobalDefs) -> GlobalDefs:
    """The scripts of global_defs itself: readers of FIFOs, startup_script and shutdown_script."""

    def fifo(given: NotifyFifo) -> NotifyFifo:
        return given if given.script is None else replace(given, script=with_default_user(given.script, defs))

    def once(given: StartStopScript) -> StartStopScript:
        return given if given.command is None else replace(given, command=with_default_user(given.command, defs))

    return replace(
        defs,
        fifo=fifo(defs.fifo),
        vrrp_fifo=fifo(defs.vrrp_fifo),
        lvs_fifo=fifo(defs.lvs_fifo),
        startup_script=once(defs.startup_script),
        shutdown_script=once(defs.shutdown_script),
    )
