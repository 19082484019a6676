"""Any ``fence_*`` agent of ClusterLabs' fence-agents, or one that keeps their API.

Parameters go on stdin, never in argv or the environment; stdin is never empty (an agent without ``action=`` reboots
its target). Only ``off``, ``on``, ``status``, ``list`` and ``metadata`` are used: ``reboot`` and ``method=cycle``
report success without a verified off. Exit codes: off and on 0 = done; status 0 = on, 2 = off; everything else failed.
An agent's "off" is a claim, its "off, identity as enrolled" a reading; nothing it says is a proof by itself.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import replace

from base.clock import now_ns
from base.secrets import Secret
from fencing.devices import identity as identities
from fencing.devices.child import ChildResult, run_child
from fencing.devices.device import (
    ACTIONS,
    NEVER_NS,
    DeviceConfigError,
    DeviceResult,
    clean_detail,
    elapsed_ms,
    is_stale,
    resolve_parameters,
    retry_while_busy,
    stale_result,
)
from fencing.devices.exit_status import plain_outcome, power_state, violent_end
from fencing.devices.identity import IdentityAnswer
from fencing.devices.metadata import AgentMetadata, find_agent, read_metadata
from fencing.plan.events import NOT_CARRIED_OUT, DeviceOutcome
from fencing.plan.settings import FenceDevice

OWN_PARAMETERS = frozenset({"agent", "worth", "effect_ms", "settle_ms", "identity_from", "identity_command"})

_DENIED = re.compile(
    r"permission denied|authentication fail|auth fail|login denied|login failed|(invalid|incorrect|wrong) (user|password|credential)"
    r"|access denied|unauthori[sz]ed|\b401\b|\b403\b|does not have the correct privileges|RAKP 2|unknown user name|wrong digest",
    re.IGNORECASE,
)
_UNREACHABLE = re.compile(
    r"connection refused|no route to host|(network|host) is (unreachable|down)|name or service not known|could not resolve|unknown host",
    re.IGNORECASE,
)
_NO_ANSWER = re.compile(r"timed out|timeout|no response", re.IGNORECASE)
_UNKNOWN_TARGET = re.compile(
    r"no ?such ?(instance|object|name|plug|outlet|port|system)|unknown (plug|outlet)|can('t|not| not) find", re.IGNORECASE
)
_NO_REASON = re.compile(r"waiting to power|connection lost", re.IGNORECASE)
_UNTRUSTED = re.compile(
    r"certificate verify failed|self.signed certificate|SSL certificate problem|host key verification failed", re.IGNORECASE
)
_BUSY = re.compile(
    r"node busy|\b0xc0\b|(too many|maximum number of|insufficient resources for|no more) sessions?|session limit", re.IGNORECASE
)


def build_stdin(action: str, plain: dict[str, str], secrets: dict[str, Secret]) -> bytes:
    """The lines for the agent. Raises DeviceConfigError for a value that would be two lines, or a key that would change the action."""
    lines = [f"action={action}"]
    for key, value in [*plain.items(), *((key, secret.reveal()) for key, secret in secrets.items())]:
        if key in OWN_PARAMETERS:
            continue
        if key in ("action", "option"):
            raise DeviceConfigError(f"{key!r} is decided by brainctl; remove it from the device")
        if any(c in text for text in (key, value) for c in "\n\r\0"):
            raise DeviceConfigError(f"{key!r} holds a line break; it cannot be given to an agent")
        lines.append(f"{key}={value}")
    return ("\n".join(lines) + "\n").encode()


def classify(action: str, result: ChildResult) -> DeviceOutcome:
    """What an agent's end means; the reason of a failed reading comes from its text where the text tells it, else FAILURE.

    For ``off`` and ``on`` no text counts as "not carried out": an agent logs in several times (before, to act, to look), and what it prints
    at its end may be about the last time (a BMC that obeys and then refuses connections). Whoever must know reads before the act.
    """
    plain = plain_outcome(action, result)
    if plain is not None:
        return plain
    if action not in ("status", "list"):
        return DeviceOutcome.FAILURE
    text = result.stderr + "\n" + result.stdout
    for pattern, outcome in _REASONS:
        if pattern.search(text):
            return outcome
    return DeviceOutcome.FAILURE


_REASONS = (
    (_NO_REASON, DeviceOutcome.FAILURE),
    (_BUSY, DeviceOutcome.BUSY),
    (_UNTRUSTED, DeviceOutcome.UNTRUSTED),
    (_DENIED, DeviceOutcome.DENIED),
    (_UNREACHABLE, DeviceOutcome.UNREACHABLE),
    (_UNKNOWN_TARGET, DeviceOutcome.UNKNOWN_TARGET),
    (_NO_ANSWER, DeviceOutcome.UNREACHABLE),
)


class AgentDevice:
    """One agent with its parameters, armed. Raises DeviceConfigError or SecretError."""

    def __init__(self, settings: FenceDevice) -> None:
        self.settings = settings
        self._plain, self._secrets = resolve_parameters(settings)
        self.path = find_agent(self._plain.get("agent", ""))
        self.metadata = read_metadata(self.path)
        problems = parameter_problems(self.path, self.metadata, {*self._plain, *self._secrets})
        if problems:
            raise DeviceConfigError("; ".join(problems))
        self._set_defaults()
        self._stdin = {action: build_stdin(action, self._plain, self._secrets) for action in (*ACTIONS, "list")}
        self.plug = next((self._plain[key] for key in ("plug", "port") if self._plain.get(key)), "")
        self.identity_source = self._choose_identity_source()

    def _set_defaults(self) -> None:
        if self._plain.get("method", "onoff") != "onoff":
            raise DeviceConfigError('method = "cycle" reports success without a verified off; use method = "onoff" or remove it')
        if "method" in self.metadata.parameters:
            self._plain["method"] = "onoff"

    def _choose_identity_source(self) -> str:
        chosen = self._plain.get("identity_from", "")
        if chosen:
            return chosen
        if self._plain.get("identity_command"):
            return "command"
        if os.path.basename(self.path) in identities.IPMI_AGENTS:
            return "ipmi"
        return "list" if self.plug and lists_outlets(self.metadata) else "none"

    def perform(self, action: str, deadline_ns: int, valid_until_ns: int = NEVER_NS) -> DeviceResult:
        """See Device.perform."""
        started_ns = now_ns()
        if is_stale(action, valid_until_ns):
            return stale_result(started_ns)
        if action != "status":
            return self._switch(action, started_ns, deadline_ns, valid_until_ns)
        result = retry_while_busy(lambda: self._read(started_ns, deadline_ns), deadline_ns)
        return replace(result, took_ms=elapsed_ms(started_ns))

    def _switch(self, action: str, started_ns: int, deadline_ns: int, valid_until_ns: int) -> DeviceResult:
        """The act. An enrolled device was read right before, by the session; of another one only a reading of ours can tell that the login,
        the outlet or the way is wrong, since the act's own words cannot."""
        if not self.settings.identity and self.identity_source in ("ipmi", "list"):
            before = retry_while_busy(lambda: self._identify(deadline_ns).as_result(0), deadline_ns, valid_until_ns)
            if before.outcome in NOT_CARRIED_OUT:
                return replace(before, took_ms=elapsed_ms(started_ns))
            if is_stale(action, valid_until_ns):
                return stale_result(started_ns)
        result = self._run(action, deadline_ns)
        return DeviceResult(classify(action, result), detail=self._detail(result), took_ms=elapsed_ms(started_ns))

    def _read(self, started_ns: int, deadline_ns: int) -> DeviceResult:
        answer = self._identify(deadline_ns)
        if answer.outcome is not DeviceOutcome.SUCCESS:
            return answer.as_result(elapsed_ms(started_ns))
        result = self._run("status", deadline_ns)
        outcome = classify("status", result)
        detail = "; ".join(text for text in (self._detail(result), answer.detail) if text)
        return DeviceResult(outcome, power_state("status", outcome, result), answer.identity, detail, elapsed_ms(started_ns))

    def _run(self, action: str, deadline_ns: int) -> ChildResult:
        stdin = self._stdin[action]
        assert stdin.startswith(b"action=" + action.encode() + b"\n")
        return run_child([self.path], stdin, deadline_ns)

    def _identify(self, deadline_ns: int) -> IdentityAnswer:
        match self.identity_source:
            case "command":
                return identities.from_command(self._plain["identity_command"], self._secrets, deadline_ns)
            case "ipmi":
                return identities.from_ipmi(self._plain, self._secrets, deadline_ns)
            case "list":
                result = self._run("list", deadline_ns)
                outcome = classify("status", result)
                if outcome is not DeviceOutcome.SUCCESS:
                    return IdentityAnswer(outcome, detail=self._detail(result))
                return identities.from_list(result.stdout, self.plug, self._plain.get("ip", self._plain.get("ipaddr", "")))
        return IdentityAnswer(DeviceOutcome.SUCCESS)

    def _detail(self, result: ChildResult) -> str:
        return violent_end(result, "agent") or clean_detail(
            result.stderr if result.stderr.strip() and result.exit_code else result.stdout, self._secrets
        )


def parameter_problems(path: str, metadata: AgentMetadata, given: set[str]) -> list[str]:
    """Keys that the agent's own metadata does not know, with the nearest spelling, and required ones that are missing. An agent ignores a
    key that it does not know: a misspelt plug would be its default plug."""
    agent = os.path.basename(path)
    names = {key.replace("-", "_") for key in given - OWN_PARAMETERS}
    problems = []
    for key in sorted(names - metadata.parameters - {"nodename"}):
        close = difflib.get_close_matches(key, sorted(metadata.parameters), n=1)
        problems.append(f"{agent} does not know {key!r}; " + (f"did you mean {close[0]!r}?" if close else f"see {agent} -h"))
    # Some agents that speak to a device say that its address is not required (fence_ipmilan), and then fail without one.
    for key in sorted((metadata.required | ({"ip"} & metadata.parameters - metadata.defaulted)) - {"action"}):
        if not names & {key, *metadata.aliases.get(key, ())}:
            problems.append(f"{agent} needs {key!r}; write {key} = …")
    return problems


def lists_outlets(metadata: AgentMetadata) -> bool:
    """Whether the agent controls several outlets and can list them."""
    return "list" in metadata.actions and bool(metadata.parameters & {"plug", "port"})
