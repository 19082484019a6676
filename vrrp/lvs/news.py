"""What the checker process tells the others: scripts, FIFOs and mail by way of the parent, events to whoever subscribed.

Lines of FIFOs are those of Debian's keepalived 2.2.7, byte for byte (tests/vrrp/lvs/guest_mail.py); its later sources seem to add a NUL.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from base.channel import JsonObject
from base.clock import now_ns
from base.core import NS_PER_S
from base.log import Log
from vrrp.config.model.common import ScriptCommand
from vrrp.lvs.ipvs.translation import describe_destination, describe_service
from vrrp.lvs.model.desired import AddDestination, Change, DropDestination, EditDestination
from vrrp.lvs.model.virtual_server import MailAlert, QuorumChanged, RunNotify

KEPT_EVENTS = 200
AUDIT_EVERY_NS = 60 * NS_PER_S
"""Another program that fights for the table must not fill the record."""
TOLD_CHANGES = 20
"""Changes of one repair that are told one by one; the rest is a number."""


def fifo_line(message: JsonObject) -> bytes:
    """``RS [192.0.2.1]:tcp:80 [192.0.2.9]:tcp:80 DOWN`` or ``VS [192.0.2.9]:tcp:80 UP``."""
    names = [message["server"], message["name"]] if message["server"] else [message["name"]]
    return f"{message['subject']} {' '.join(names)} {'UP' if message['up'] else 'DOWN'}\n".encode()


def script_of(message: JsonObject) -> ScriptCommand | None:
    """The script of an ``lvs_notify`` message."""
    given = message["script"]
    return None if given is None else ScriptCommand(tuple(given["arguments"]), given["user"], given["group"])


def describe(change: Change) -> str:
    """One change of the kernel's table, for people: ``RemoveService 192.0.2.9:80 tcp``."""
    words = [type(change).__name__]
    if isinstance(change, AddDestination | EditDestination | DropDestination):
        words.append(f"{describe_destination(change.destination)} of")
    return " ".join([*words, describe_service(change.key)])


class Newsroom:
    """``to_parent`` and ``publish`` take one message each. ``events``: the last ones, oldest first. ``names``: keepalived's, by ours."""

    def __init__(
        self,
        log: Log,
        to_parent: Callable[[JsonObject], object],
        publish: Callable[[JsonObject], None],
        audit: Callable[[str, str], None] = lambda _subject, _text: None,
    ) -> None:
        self._audit = audit
        self._audit_after_ns = 0
        self._log = log
        self._to_parent = to_parent
        self._publish = publish
        self.events: deque[JsonObject] = deque(maxlen=KEPT_EVENTS)
        self.repairs = 0
        self.names: Mapping[str, str] = {}

    def event(self, kind: str, **fields: object) -> None:
        """Keep and publish one event."""
        message: JsonObject = {"event": kind, "at_ns": now_ns(), **fields}
        self.events.append(message)
        self._publish(message)

    def notify(self, service: str, notice: RunNotify) -> None:
        """A server or quorum changed: its script, FIFO lines, trap."""
        script = notice.script
        given = None if script is None else {"arguments": list(script.arguments), "user": script.user, "group": script.group}
        told = {"subject": notice.subject.value, "service": service, "server": notice.server, "up": notice.up}
        self._to_parent({"op": "lvs_notify", **told, "name": self.names.get(service, service), "script": given})
        self.event("lvs", **told)

    def mail(self, service: str, alert: MailAlert) -> None:
        """By way of the parent to the outside process."""
        subject = alert.subject.replace(service, self.names.get(service, service))
        self._to_parent({"op": "mail", "service": service, "subject": subject, "body": alert.body})

    def quorum(self, service: str, change: QuorumChanged) -> None:
        """By way of the parent to VRRP."""
        self._log.info(f"{service} {'has its quorum' if change.up else 'has lost its quorum'}: live weight {change.weight}")
        self._to_parent({"op": "quorum", "service": service, "up": change.up})
        self.event("quorum", service=service, up=change.up, weight=change.weight)

    def repaired(self, changes: Sequence[Change]) -> None:
        """Somebody else had changed IPVS."""
        self.repairs += 1
        told = [describe(change) for change in changes[:TOLD_CHANGES]]
        more = f" and {len(changes) - len(told)} more" if len(changes) > len(told) else ""
        self._log.warning(f"IPVS was changed by somebody else; put right: {', '.join(told)}{more}")
        self.event("repaired", changes=told, count=len(changes))
        if now_ns() >= self._audit_after_ns:
            self._audit_after_ns = now_ns() + AUDIT_EVERY_NS
            self._audit("IPVS was changed by somebody else", f"put right: {', '.join(told)}{more}")
