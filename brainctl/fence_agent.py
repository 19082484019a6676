"""``fence_brainctl``: brainctl's own fence as an agent for Pacemaker and whoever else drives ClusterLabs' fence agents.

It gives the order to the local braind, which does it as it does its own: durable intent, levels, proof, record. Exit code 0 only when the
node is *proved* off; a device that merely said "done" is a failure here. Actions: off, on, reboot, status, monitor, list, list-status,
validate-all, metadata; parameters as options (-o, -n) or, without any option, as key=value lines on stdin (FenceAgentAPI.md).

Exit codes: 0 done (status: on), 1 failed or not proved, 2 status: off.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, NoReturn

from base.control import ControlClient, RequestError
from brainctl.following import follow_fence

DEFAULT_RUN_DIR = "/run/brainctl"
ON, FAILED, OFF = 0, 1, 2
ACTIONS = ("off", "on", "reboot", "status", "monitor", "list", "list-status", "validate-all", "metadata")
_NODE_KEYS = ("plug", "port", "nodename")

METADATA = """<?xml version="1.0" ?>
<resource-agent name="fence_brainctl" shortdesc="Fences the peer of an HA pair through braind, and calls it done only when it is proved">
<longdesc>fence_brainctl orders the braind of this node to fence its peer. braind writes the intent to disk, works through the configured
levels of devices and looks for a proof: two readings of an enrolled power device, or the silence of every channel that was alive. Only
then the agent succeeds. It can fence no other node than the peer in brain.toml.</longdesc>
<vendor-url>https://pypi.org/project/brainctl/</vendor-url>
<parameters>
  <parameter name="action" unique="0" required="1"><getopt mixed="-o, --action=[action]" /><content type="string" default="off" />
    <shortdesc lang="en">Fencing action</shortdesc></parameter>
  <parameter name="plug" unique="0" required="0" obsoletes="port"><getopt mixed="-n, --plug=[id]" /><content type="string" />
    <shortdesc lang="en">Name of the node in brain.toml</shortdesc></parameter>
  <parameter name="port" unique="0" required="0" deprecated="1"><getopt mixed="-n, --plug=[id]" /><content type="string" />
    <shortdesc lang="en">Name of the node in brain.toml</shortdesc></parameter>
  <parameter name="run_dir" unique="0" required="0"><getopt mixed="--run-dir=[directory]" />
    <content type="string" default="/run/brainctl" /><shortdesc lang="en">Directory of braind's control socket</shortdesc></parameter>
  <parameter name="delay" unique="0" required="0"><getopt mixed="--delay=[seconds]" /><content type="second" default="0" />
    <shortdesc lang="en">Refused unless 0: braind has its own delay</shortdesc></parameter>
</parameters>
<actions>
  <action name="off" timeout="120s" /><action name="on" automatic="0" timeout="60s" /><action name="reboot" timeout="180s" />
  <action name="status" timeout="10s" /><action name="monitor" timeout="10s" interval="60s" /><action name="list" timeout="10s" />
  <action name="list-status" timeout="10s" /><action name="metadata" timeout="5s" /><action name="validate-all" timeout="10s" />
</actions>
</resource-agent>
"""


class _Failed(Exception):
    """The agent ends with exit code 1 and this sentence."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Failed(f"{message}; see fence_brainctl -o metadata")


def parameters(argv: list[str], stdin: str) -> dict[str, str]:
    """From options, or from stdin when there is none. Raises _Failed: an agent that guesses an action shoots somebody."""
    if argv:
        parser = _Parser(prog="fence_brainctl", add_help=True)
        parser.add_argument("-o", "--action", choices=ACTIONS, default="")
        parser.add_argument("-n", "--plug", default="")
        parser.add_argument("--run-dir", dest="run_dir", default="")
        parser.add_argument("--delay", default="0")
        given = {key: value for key, value in vars(parser.parse_args(argv)).items() if value}
    else:
        given = {}
        for line in stdin.splitlines():
            key, equals, value = line.strip().partition("=")
            if equals and not line.lstrip().startswith("#"):
                given[key.replace("-", "_")] = value.strip().strip('"')
    if given.get("action") not in ACTIONS:
        raise _Failed(f"action {given.get('action', '')!r} is none of {', '.join(ACTIONS)}; without an action nothing is done")
    if given.get("delay", "0") not in ("", "0", "0s"):
        raise _Failed("delay is refused: braind waits as long as brain.toml says; remove it")
    return given


class _Braind:
    """What the agent asks of the daemon."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client
        self.status: dict[str, Any] = client.call("status")["status"]
        if not self.status.get("started"):
            raise _Failed("braind is only starting")
        self.peer: str = self.status["peer"]["name"]

    def off(self) -> int:
        """0 only when it is proved. A node that is proved off already is not fenced again."""
        if self.power() == OFF:
            print(f"{self.peer} is proved off already")
            return 0
        answer = self._client.call("operate", action="fence_off", subject=self.peer, note="fence_brainctl")
        outcome = follow_fence(self._client, answer, lambda step: print(f"{answer['order_id']}: {step}", flush=True))
        print(f"{outcome.order_id}: {outcome.state or 'unknown'}: {outcome.detail}", file=sys.stdout if outcome.proved else sys.stderr)
        return 0 if outcome.proved else FAILED

    def on(self) -> int:
        """0 only when it reads on, or is heard."""
        answer = self._client.call("operate", action="fence_on", subject=self.peer, note="fence_brainctl")
        outcome = follow_fence(self._client, answer, lambda step: print(f"{answer['order_id']}: {step}", flush=True), power_on=True)
        print(f"{outcome.order_id}: {outcome.state or 'unknown'}: {outcome.detail}", file=sys.stdout if outcome.proved else sys.stderr)
        return 0 if outcome.proved else FAILED

    def power(self) -> int:
        """As braind knows it: 2 proved off, 0 heard on a path; raises _Failed when nobody knows."""
        peer = self.status["peer"]
        if self.status["fence"]["peer_proved_off"]:
            return OFF
        if peer["heard_on"]:
            return ON
        raise _Failed(f"{self.peer} is not heard, and nothing proves that it is off")

    def monitor(self) -> int:
        """Whether an order could be carried out now."""
        fence = self.status["fence"]
        if not fence["levels"]:
            raise _Failed(f"no [[fence.level]] with target {self.peer} is configured")
        for up, what in (
            (self.status["runner_up"], "the fence runner is not armed"),
            (self.status["recorder_up"], "the record cannot be written"),
        ):
            if not up:
                raise _Failed(f"{what}; braind's log says why")
        return 0


def act(given: dict[str, str]) -> int:
    """One action; its exit code. Raises _Failed, OSError, RequestError."""
    action = given["action"]
    if action == "metadata":
        print(METADATA, end="")
        return 0
    with ControlClient(os.path.join(given.get("run_dir") or DEFAULT_RUN_DIR, "braind.sock")) as client:
        braind = _Braind(client)
        wanted = next((given[key] for key in _NODE_KEYS if given.get(key)), "")
        if action in ("off", "on", "reboot", "status") and wanted != braind.peer:
            raise _Failed(f"node {wanted!r} cannot be fenced from here, only {braind.peer}" if wanted else "which node? give plug")
        match action:
            case "monitor" | "validate-all":
                return braind.monitor()
            case "list":
                print(f"{braind.peer},")
            case "list-status":
                print(f"{braind.peer},,{ {ON: 'on', OFF: 'off'}.get(_power_or_failed(braind), 'unknown') }")
            case "status":
                power = braind.power()
                print("Status: " + ("OFF" if power == OFF else "ON"))
                return power
            case "off":
                return braind.off()
            case "on":
                return braind.on()
            case "reboot":
                failed = braind.off()
                if not failed:
                    braind.on()  # the off counts: a node that stays off is fenced
                return failed
        return 0


def _power_or_failed(braind: _Braind) -> int:
    try:
        return braind.power()
    except _Failed:
        return FAILED


def main() -> int:
    """Console script ``fence_brainctl``."""
    try:
        return act(parameters(sys.argv[1:], "" if sys.argv[1:] else sys.stdin.read(65536)))
    except _Failed as failed:
        print(f"fence_brainctl: {failed}", file=sys.stderr)
    except RequestError as error:
        print(f"fence_brainctl: refused: {error.where}: {error.remedy}", file=sys.stderr)
    except OSError as error:
        print(f"fence_brainctl: braind does not answer: {error}; is it running on this node?", file=sys.stderr)
    return FAILED
