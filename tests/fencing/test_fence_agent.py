"""Real fence agents against real emulators, and agents that lie."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from base.clock import now_ns
from base.core import NS_PER_MS
from base.secrets import SecretError
from fencing.devices.agent import AgentDevice, build_stdin
from fencing.devices.device import DeviceConfigError
from fencing.devices.identity import from_ipmi, from_list
from fencing.plan.events import NOT_CARRIED_OUT, DeviceOutcome, PowerState
from fencing.plan.settings import FenceDevice
from tests.fencing.conftest import PASSWORD, Bmc, free_port, wait_for
from tests.fencing.test_fence_child import gone

METADATA = """#!/usr/bin/env python3
import sys, os
given = dict(line.split("=", 1) for line in sys.stdin.read().splitlines() if "=" in line)
if given.get("action") == "metadata":
    names = "plug password ipport username lanplus cipher power_wait".split()
    parameters = "".join(f'<parameter name="{n}"/>' for n in names) + '<parameter name="ip"><content default=""/></parameter>'
    actions = '<action name="off"/><action name="status"/>' + LIST
    parameters += '<parameter name="action" required="1"/>'
    print(f'<resource-agent><parameters>{parameters}</parameters><actions>{actions}</actions></resource-agent>')
    sys.exit(0)
"""


def agent(path: str, **parameters: str) -> FenceDevice:
    return FenceDevice("x", "agent", "b", (("agent", path), *parameters.items()))


def within(ms: int) -> int:
    return now_ns() + ms * NS_PER_MS


# --- fence_dummy ---


def test_fence_dummy_off_and_on(tmp_path: Path):
    status = tmp_path / "status"
    status.write_text("on")
    device = AgentDevice(agent("fence_dummy", status_file=str(status)))
    assert device.perform("status", within(30_000)).power is PowerState.ON
    assert device.perform("off", within(30_000)).outcome is DeviceOutcome.SUCCESS
    assert status.read_text() == "off"
    assert device.perform("status", within(30_000)).power is PowerState.OFF
    assert device.perform("on", within(30_000)).outcome is DeviceOutcome.SUCCESS
    assert status.read_text() == "on"


def test_an_agent_without_identity_has_none(tmp_path: Path):
    device = AgentDevice(agent("fence_dummy", status_file=str(tmp_path / "missing")))
    result = device.perform("status", within(30_000))
    # fence_dummy reads a missing file as "off": without an identity that is worth nothing.
    assert (result.power, result.identity) == (PowerState.OFF, "")


# --- fence_ipmilan and ipmi_sim ---


def test_a_real_bmc(bmc: Bmc, ipmi: Callable[..., FenceDevice]):
    device = AgentDevice(ipmi())
    reading = device.perform("status", within(30_000))
    assert (reading.outcome, reading.power) == (DeviceOutcome.SUCCESS, PowerState.ON)
    assert reading.identity.startswith("guid ")
    assert device.perform("off", within(30_000)).outcome is DeviceOutcome.SUCCESS
    assert not bmc.node_alive
    after = device.perform("status", within(30_000))
    assert (after.power, after.identity) == (PowerState.OFF, reading.identity)
    assert device.perform("on", within(30_000)).outcome is DeviceOutcome.SUCCESS
    assert bmc.node_alive


def test_a_wrong_password_differs_from_a_dead_bmc(bmc: Bmc, ipmi: Callable[..., FenceDevice], secret_file: Callable[[str, str], str]):
    wrong = AgentDevice(ipmi(password_secret=secret_file("not-the-password", "wrong")))
    assert wrong.perform("status", within(30_000)).outcome is DeviceOutcome.DENIED
    dead = AgentDevice(ipmi(ipport=str(free_port(socket.SOCK_DGRAM))))
    assert dead.perform("status", within(8_000)).outcome is DeviceOutcome.UNREACHABLE
    assert bmc.node_alive


def test_a_bmc_that_accepts_and_ignores_is_not_believed(bmc: Bmc, ipmi: Callable[..., FenceDevice]):
    bmc.fault("ignore")
    device = AgentDevice(ipmi(power_timeout="2"))
    assert device.perform("off", within(40_000)).outcome is not DeviceOutcome.SUCCESS
    assert device.perform("status", within(30_000)).power is PowerState.ON


def test_a_frozen_bmc_ends_at_the_deadline_and_leaves_nothing(bmc: Bmc, ipmi: Callable[..., FenceDevice]):
    device = AgentDevice(ipmi(identity="guid as enrolled"))
    bmc.freeze()
    started = time.monotonic()
    result = device.perform("off", within(1_500))
    assert result.outcome is DeviceOutcome.TIMEOUT
    assert time.monotonic() - started < 6
    assert gone(f"-p {bmc.port}")
    assert device.perform("status", within(1_500)).outcome is DeviceOutcome.UNREACHABLE
    bmc.process.send_signal(signal.SIGCONT)
    assert wait_for(lambda: device.perform("status", within(10_000)).outcome is DeviceOutcome.SUCCESS)


def test_our_processes_never_show_the_password(ipmi: Callable[..., FenceDevice], executable: Callable[[str, str], str]):
    """What *we* start: the agent's own children are its own business (fence_ipmilan gives ipmitool -P; docs/FENCING.md)."""
    spy = (
        METADATA.replace("LIST", "''")
        + 'print(open("/proc/self/cmdline").read().replace("\\0", " ") + str(dict(os.environ)))\nsys.exit(0)\n'
    )
    path = executable(spy, "fence_ipmilan")
    device = AgentDevice(ipmi(agent=path))
    result = device.perform("off", within(10_000))
    assert result.outcome is DeviceOutcome.SUCCESS
    assert path in result.detail
    assert PASSWORD not in result.detail
    assert "***" not in result.detail, "the password was there and was only blanked"


def test_a_poller_of_proc_never_catches_the_password_in_what_we_start(
    bmc: Bmc, ipmi: Callable[..., FenceDevice], executable: Callable[[str, str], str]
):
    """Identity by ipmitool and an agent that idles with its parameters: our own children, forty runs, one tight loop over /proc."""
    path = executable(METADATA.replace("LIST", "''") + "import time\ntime.sleep(0.02)\nsys.exit(0)\n", "fence_ipmilan")
    device = AgentDevice(ipmi(agent=path))
    caught: list[bytes] = []
    seen = 0
    over = threading.Event()

    def poll() -> None:
        nonlocal seen
        while not over.is_set():
            for entry in os.listdir("/proc"):
                if not entry.isdigit():
                    continue
                try:
                    line = Path(f"/proc/{entry}/cmdline").read_bytes()
                except OSError:
                    continue
                seen += b"ipmitool" in line or path.encode() in line
                if PASSWORD.encode() in line:
                    caught.append(line)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        for _ in range(40):
            assert device.perform("status", within(20_000)).outcome is DeviceOutcome.SUCCESS
    finally:
        over.set()
        thread.join()
    assert seen > 20, "the poller saw too little to say anything"
    assert caught == []


# --- agents that lie, hang and die ---


def lying(executable: Callable[[str, str], str], body: str, lists: bool = True) -> str:
    return executable(METADATA.replace("LIST", "'<action name=\"list\"/>'" if lists else "''") + body, "fence_lying")


def test_an_outlet_that_is_not_in_the_list_is_unknown_whatever_the_agent_says(executable: Callable[[str, str], str]):
    """Reference: over SNMP v2c fence_apc_snmp and fence_ifmib report "Already OFF" for an outlet that does not exist."""
    path = lying(
        executable,
        'listing = given["action"] == "list"\n'
        'print("1,node-a\\n2,node-b" if listing else "Success: Already OFF")\nsys.exit(0 if listing else 2)\n',
    )
    bogus = AgentDevice(agent(path, plug="99")).perform("status", within(10_000))
    assert (bogus.outcome, bogus.power) == (DeviceOutcome.UNKNOWN_TARGET, PowerState.UNKNOWN)
    real = AgentDevice(agent(path, plug="2", ip="192.0.2.1")).perform("status", within(10_000))
    assert (real.outcome, real.power, real.identity) == (DeviceOutcome.SUCCESS, PowerState.OFF, "2,node-b at 192.0.2.1")


def test_an_agent_that_dies_is_crashed_not_done(executable: Callable[[str, str], str]):
    device = AgentDevice(agent(lying(executable, "os.kill(os.getpid(), 9)\n")))
    result = device.perform("off", within(10_000))
    assert result.outcome is DeviceOutcome.CRASHED
    assert "SIGKILL" in result.detail


SAID = [
    ("Unable to connect/login to fencing device", DeviceOutcome.FAILURE),
    ("ssh: connect to host x port 22: Connection refused", DeviceOutcome.UNREACHABLE),
    ("Permission denied (publickey,password).", DeviceOutcome.DENIED),
    ("Failed: The user does not have the correct privileges to do the requested action.", DeviceOutcome.DENIED),
    ("Connection timed out", DeviceOutcome.UNREACHABLE),
    ("Failed: Timed out waiting to power OFF", DeviceOutcome.FAILURE),
    ("Connection lost", DeviceOutcome.FAILURE),
    ("Error in packet: noSuchName. No Such Instance currently exists", DeviceOutcome.UNKNOWN_TARGET),
    ("SSL certificate problem: self-signed certificate", DeviceOutcome.UNTRUSTED),
    ("Error: Node busy (0xc0)", DeviceOutcome.BUSY),
    ("Traceback (most recent call last): KeyError", DeviceOutcome.FAILURE),
]


@pytest.mark.parametrize(("said", "status"), SAID)
def test_the_reason_of_a_failed_reading_comes_from_its_text(executable: Callable[[str, str], str], said: str, status: DeviceOutcome):
    device = AgentDevice(agent(lying(executable, f"print({said!r}, file=sys.stderr)\nsys.exit(1)\n", lists=False)))
    assert device.perform("status", within(2_000)).outcome is status


@pytest.mark.parametrize("said", [said for said, _ in SAID])
def test_no_text_after_an_act_means_that_nothing_was_done(executable: Callable[[str, str], str], said: str):
    """D3: a BMC that carried the off out and then refuses connections."""
    device = AgentDevice(agent(lying(executable, f"print({said!r}, file=sys.stderr)\nsys.exit(1)\n", lists=False)))
    outcome = device.perform("off", within(10_000)).outcome
    assert outcome is DeviceOutcome.FAILURE
    assert outcome not in NOT_CARRIED_OUT


def test_a_wrong_password_before_the_act_is_certain(bmc: Bmc, ipmi: Callable[..., FenceDevice], secret_file: Callable[[str, str], str]):
    """D3b: the reading before the act finds it, so that the fence was certainly not carried out."""
    wrong = AgentDevice(ipmi(password_secret=secret_file("not-the-password", "wrong")))
    assert wrong.perform("off", within(30_000)).outcome is DeviceOutcome.DENIED
    assert bmc.node_alive


def test_a_busy_device_is_asked_again_within_the_deadline(executable: Callable[[str, str], str], tmp_path: Path):
    """D5: the session limit is reached twice, then there is a session."""
    count = tmp_path / "count"
    body = (
        f"n = len(open({str(count)!r}).read()) if os.path.exists({str(count)!r}) else 0\n"
        f"open({str(count)!r}, 'a').write('x')\n"
        "print('Error: session limit reached', file=sys.stderr) if n < 2 else None\nsys.exit(1 if n < 2 else 0)\n"
    )
    device = AgentDevice(agent(lying(executable, body, lists=False)))
    assert device.perform("status", within(20_000)).power is PowerState.ON
    count.unlink()
    assert device.perform("status", within(200)).outcome is DeviceOutcome.BUSY


def test_a_plug_that_is_one_outlets_number_and_anothers_name_is_ambiguous(executable: Callable[[str, str], str]):
    """D13: identity of 3, off of 5."""
    path = lying(
        executable,
        'listing = given["action"] == "list"\nprint("3,5\\n5,node-b" if listing else "done")\nsys.exit(0)\n',
    )
    device = AgentDevice(agent(path, plug="5", ip="192.0.2.1"))
    assert device.perform("status", within(10_000)).outcome is DeviceOutcome.AMBIGUOUS
    assert device.perform("off", within(10_000)).outcome is DeviceOutcome.AMBIGUOUS
    assert AgentDevice(agent(path, plug="3", ip="192.0.2.1")).perform("status", within(10_000)).identity == "3,5 at 192.0.2.1"


@pytest.mark.parametrize(
    ("parameters", "said"),
    [({"ipprot": "623"}, "ipport"), ({"user": "x"}, "username"), ({"cypher": "3"}, "cipher"), ({"ip": ""}, "'ip'")],
)
def test_keys_that_the_agent_does_not_know_and_keys_that_it_needs(ipmi: Callable[..., FenceDevice], parameters: dict[str, str], said: str):
    """D9: an agent ignores what it does not know, and would act on its default."""
    with pytest.raises(DeviceConfigError) as refused:
        AgentDevice(ipmi(**parameters))
    assert said in str(refused.value)


@pytest.mark.parametrize(("guid", "hint"), [("00" * 16, "empty GUID"), ("ff" * 16, "empty GUID")])
def test_an_empty_guid_is_no_identity(executable: Callable[[str, str], str], guid: str, hint: str, tmp_path: Path):
    """D14: every BMC of the make tells it. The way out is named."""
    tool = executable(f"#!/bin/sh\necho 'System GUID  : {guid}'\n", "ipmitool")
    answer = from_ipmi({"agent": "fence_ipmilan", "ip": "192.0.2.1"}, {}, within(10_000), tool=tool)
    assert (answer.outcome, answer.identity) == (DeviceOutcome.SUCCESS, "")
    assert hint in answer.detail
    assert "identity_command" in answer.detail


def test_a_bmc_without_get_guid_names_the_way_out(executable: Callable[[str, str], str]):
    tool = executable("#!/bin/sh\necho 'Get GUID command failed: Invalid command' >&2\nexit 1\n", "ipmitool")
    answer = from_ipmi({"agent": "fence_ipmilan", "ip": "192.0.2.1"}, {}, within(10_000), tool=tool)
    assert (answer.outcome, answer.identity) == (DeviceOutcome.SUCCESS, "")
    assert "identity_command" in answer.detail


def test_what_an_agent_says_is_shown_without_the_password(executable: Callable[[str, str], str], secret_file: Callable[[str, str], str]):
    path = lying(executable, 'print("bad password " + given["password"] + "\\x1b[31m", file=sys.stderr)\nsys.exit(1)\n')
    device = AgentDevice(agent(path, password_secret=secret_file(PASSWORD, "p")))
    detail = device.perform("off", within(10_000)).detail
    assert "bad password ***" in detail
    assert "\x1b" not in detail


def test_an_order_that_is_too_old_starts_nothing(executable: Callable[[str, str], str], tmp_path: Path):
    path = lying(executable, f"open({str(tmp_path / 'ran')!r}, 'w')\nsys.exit(0)\n")
    device = AgentDevice(agent(path))
    assert device.perform("off", within(10_000), now_ns() - 1).outcome is DeviceOutcome.STALE_ORDER
    assert not (tmp_path / "ran").exists()


# --- what is refused before anything runs ---


def test_stdin_always_begins_with_the_action():
    assert build_stdin("off", {}, {}) == b"action=off\n"
    assert build_stdin("status", {"agent": "fence_x", "ip": "192.0.2.1", "settle_ms": "5"}, {}) == b"action=status\nip=192.0.2.1\n"


@pytest.mark.parametrize(
    "parameters", [{"action": "reboot"}, {"ip": "192.0.2.1\naction=reboot"}, {"x\naction": "reboot"}, {"option": "reboot"}]
)
def test_nothing_in_the_parameters_can_change_the_action(parameters: dict[str, str]):
    with pytest.raises(DeviceConfigError):
        build_stdin("off", parameters, {})


@pytest.mark.parametrize(
    "parameters",
    [
        {"agent": "fence_does_not_exist"},
        {"agent": ""},
        {"agent": "/bin/true"},
        {"agent": "/bin/false"},
        {"agent": "fence_ipmilan", "method": "cycle"},
    ],
)
def test_what_cannot_be_armed_says_so(parameters: dict[str, str]):
    with pytest.raises(DeviceConfigError):
        AgentDevice(FenceDevice("x", "agent", "b", tuple(parameters.items())))


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path):
    path = tmp_path / "open"
    path.write_text("x")
    path.chmod(0o644)
    with pytest.raises(SecretError):
        AgentDevice(agent("fence_dummy", password_secret=f"file:{path}"))


@pytest.mark.parametrize(
    ("listing", "plug", "identity"),
    [
        ("1,web\n2,db\n", "2", "2,db at x"),
        ("1,web\n2,db\n", "web", "1,web at x"),
        ("12,x\n", "1", ""),
        ("", "1", ""),
        ("1\n", "1", ""),
        ("\x00,,\n", "", ""),
    ],
)
def test_outlets_are_found_by_number_or_name_and_nothing_else(listing: str, plug: str, identity: str):
    answer = from_list(listing, plug or "zzz", "x")
    assert answer.identity == identity
    assert (answer.outcome is DeviceOutcome.SUCCESS) == bool(identity)
