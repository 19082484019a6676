#!/usr/bin/env python3
"""A fence agent for the laboratory's power switches; speaks the fence_* convention (parameters on standard input, one key=value a line).

Actions: off, on, reboot, status, monitor, list, metadata, validate-all. Exit codes: 0 done (status: on), 1 failed, 2 status: off.
``off`` and ``on`` are verified by reading the status back, as the convention asks; a device that lies in its status is beyond it.
"""

from __future__ import annotations

import base64
import http.client
import json
import sys
import time

METADATA = """<?xml version="1.0" ?>
<resource-agent name="fence_lab" shortdesc="Fence agent for the power switches of brainctl demo">
<longdesc>Switches one outlet of a laboratory power switch over HTTP.</longdesc>
<vendor-url>https://example.org/</vendor-url>
<parameters>
<parameter name="action" unique="0" required="1"><content type="string" default="reboot" />
<shortdesc lang="en">Fencing action</shortdesc></parameter>
<parameter name="ip" unique="0" required="1"><content type="string" /><shortdesc lang="en">Address</shortdesc></parameter>
<parameter name="ipport" unique="0" required="0"><content type="integer" default="80" />
<shortdesc lang="en">TCP port</shortdesc></parameter>
<parameter name="plug" unique="0" required="1"><content type="string" /><shortdesc lang="en">Outlet</shortdesc></parameter>
<parameter name="username" unique="0" required="0"><content type="string" /><shortdesc lang="en">User</shortdesc></parameter>
<parameter name="password" unique="0" required="0"><content type="string" /><shortdesc lang="en">Password</shortdesc></parameter>
<parameter name="power_timeout" unique="0" required="0"><content type="second" default="5" />
<shortdesc lang="en">Seconds to wait for the new state</shortdesc></parameter>
</parameters>
<actions><action name="on" automatic="0" /><action name="off" /><action name="reboot" /><action name="status" /><action name="monitor" />
<action name="list" /><action name="list-status" /><action name="metadata" /><action name="validate-all" /></actions>
</resource-agent>"""


class DeviceError(Exception):
    """The switch said no, or nothing."""


def parameters() -> dict[str, str]:
    """key=value lines; the last of a key wins."""
    found = {}
    for line in sys.stdin:
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            found[key.strip()] = value.strip().strip('"')
    return found


def call(given: dict[str, str], method: str, path: str, body: object = None) -> object:
    """One request; DeviceError says what went wrong."""
    token = base64.b64encode(f"{given.get('username', '')}:{given.get('password', '')}".encode()).decode()
    connection = http.client.HTTPConnection(given["ip"], int(given.get("ipport", "80")), timeout=float(given.get("login_timeout", "5")))
    try:
        connection.request(method, path, None if body is None else json.dumps(body), {"Authorization": f"Basic {token}"})
        answer = connection.getresponse()
        data = answer.read(65536)
    except (OSError, http.client.HTTPException) as error:
        raise DeviceError(f"Unable to connect/login to fencing device: {error}") from error
    finally:
        connection.close()
    if answer.status == 401:
        raise DeviceError("Unable to connect/login to fencing device: login denied")
    if answer.status == 404:
        raise DeviceError("Failed: unknown plug")
    if answer.status != 200:
        raise DeviceError(f"Failed: {answer.status} {data.decode(errors='replace')}")
    return json.loads(data)


def outlet(given: dict[str, str]) -> dict[str, str]:
    """The outlet's state and identity."""
    if not given.get("plug"):
        raise DeviceError("Failed: You have to enter plug number or machine identification")
    state = call(given, "GET", f"/outlets/{given['plug']}")
    assert isinstance(state, dict)
    return state


def switch(given: dict[str, str], power: str) -> None:
    """Order and verify."""
    outlet(given)
    call(given, "PUT", f"/outlets/{given['plug']}", {"power": power})
    until = time.monotonic() + float(given.get("power_timeout", "5"))
    while outlet(given)["power"] != power:
        if time.monotonic() > until:
            raise DeviceError(f"Failed: Timed out waiting to power {power.upper()}")
        time.sleep(0.2)


def act(given: dict[str, str], action: str) -> int:
    """Run one action; the exit code."""
    if action in ("off", "on"):
        switch(given, action)
        print(f"Success: Powered {action.upper()}")
    elif action == "reboot":
        switch(given, "off")
        switch(given, "on")
        print("Success: Rebooted")
    elif action in ("status", "monitor"):
        state = outlet(given)
        print(f"Status: {state['power'].upper()}")
        print(f"Serial: {state['serial']}")
        return 2 if state["power"] == "off" and action == "status" else 0
    elif action in ("list", "list-status"):
        found = call(given, "GET", "/outlets")
        assert isinstance(found, list)
        for entry in found:
            print(f"{entry['plug']},{entry['serial']}")
    elif action == "validate-all":
        if not given.get("ip"):
            raise DeviceError("Failed: ip is missing")
    else:
        raise DeviceError(f"Failed: unknown action {action!r}")
    return 0


def main() -> int:
    """Read standard input and act."""
    given = {} if "metadata" in sys.argv[1:] else parameters()
    action = given.get("action", "")
    if "metadata" in (*sys.argv[1:], action):
        print(METADATA)
        return 0
    if not action:
        print("Failed: no action given", file=sys.stderr)
        return 1
    try:
        return act(given, action)
    except (DeviceError, KeyError) as error:
        print(str(error), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
