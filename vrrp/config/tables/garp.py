"""The value of garp_extra_if, in global_defs and in vrrp_instance."""

from __future__ import annotations

from base.core import NS_PER_S
from vrrp.config.keyword import Fields, Reading, Rejected, Value
from vrrp.config.syntax import Statement
from vrrp.config.values import read_time

_DAY_NS = 86_400 * NS_PER_S


def extra_interface(prefix: str) -> Value:
    """``[all] SECONDS`` of garp_extra_if; ``prefix``: where the GarpSettings are."""

    def read(reading: Reading, statement: Statement) -> object:
        arguments = list(statement.arguments)
        everywhere = bool(arguments) and arguments[0].text == "all"
        if everywhere:
            arguments.pop(0)
        if not arguments:
            return reading.error(
                statement, f"{statement.keyword} has no time", f"write: {statement.keyword} [all] SECONDS", "missing-value"
            )
        interval = read_time(reading, arguments[0], statement.keyword, 0, _DAY_NS, NS_PER_S, NS_PER_S)
        if isinstance(interval, Rejected):
            return interval
        return Fields({f"{prefix}garp.extra_interface_ns": interval, f"{prefix}garp.extra_interface_all": everywhere})

    return Value("[all] 0..86400 s", read)
