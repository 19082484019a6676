"""``fence check`` and ``fence enroll`` on real devices."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fencing.check import check_device, measured_ms
from fencing.check_report import CheckReport, Grade
from fencing.devices.build import build_device
from fencing.devices.device import DeviceConfigError
from fencing.devices.parameters import validate_device
from fencing.enrolment import Enrolment, EnrolmentError, enroll, load_enrolments, save_enrolments, with_enrolments
from fencing.plan.events import PowerState
from fencing.plan.settings import FenceDevice, FenceLevel, FenceSettings
from tests.fencing.conftest import PASSWORD, Bmc, free_port

Build = Callable[..., FenceDevice]


def errors(report: CheckReport) -> set[str]:
    return {finding.code for finding in report.findings if finding.grade is Grade.ERROR}


def warnings(report: CheckReport) -> set[str]:
    return {finding.code for finding in report.findings if finding.grade is Grade.WARNING}


def test_a_good_bmc_is_checked_really_enrolled_and_recognised(bmc: Bmc, ipmi: Build, tmp_path: Path):
    path = tmp_path / "state" / "enrolment.json"
    report = check_device(ipmi(), really=True)
    assert report.passed, report.findings
    assert report.power is PowerState.ON
    assert {"wrong-password", "off", "on"} <= {f.code for f in report.findings if f.grade is Grade.OK}
    assert "argv-leak" in warnings(report)
    assert min(report.status_ms, report.effect_ms, report.on_ms) > 0
    assert bmc.node_alive
    entry = enroll(ipmi(), report, path)
    assert load_enrolments(path) == {"ipmi-b": entry}
    assert path.stat().st_mode & 0o777 == 0o600
    again = check_device(ipmi(identity=entry.identity))
    assert "identity" in {f.code for f in again.findings if f.grade is Grade.OK}
    assert PASSWORD not in json.dumps([report.to_json(), again.to_json()]) + path.read_text()


def test_the_four_reasons_are_four_reasons(bmc: Bmc, ipmi: Build, ssh: Build, secret_file: Callable[[str, str], str], tmp_path: Path):
    assert errors(check_device(ipmi(password_secret=secret_file("wrong", "w")))) == {"denied"}
    assert errors(check_device(ipmi(ipport=str(free_port(socket.SOCK_DGRAM)), deadline_ms=6_000))) == {"unreachable"}
    assert errors(check_device(ipmi(identity="guid of another node"))) == {"identity-mismatch"}
    bmc.freeze()
    assert errors(check_device(ipmi(deadline_ms=1_500, identity_from="none"))) == {"timeout"}
    assert errors(check_device(ssh(port=str(free_port(socket.SOCK_STREAM))))) == {"unreachable"}


def test_a_bmc_that_ignores_off_fails_the_real_check(bmc: Bmc, ipmi: Build):
    bmc.fault("ignore")
    assert errors(check_device(ipmi(power_timeout="2"), really=True)) == {"off-failed"}


def test_a_command_that_claims_and_does_nothing_fails_the_real_check(executable: Callable[[str, str], str]):
    path = executable("#!/bin/sh\necho identity=b\nexit 0\n", "liar")
    report = check_device(FenceDevice("x", "exec", "b", (("command", path),), 4_000), really=True)
    assert errors(report) == {"off-without-effect"}


def test_an_identity_that_changes_is_no_identity(executable: Callable[[str, str], str], tmp_path: Path):
    path = executable(f"#!/bin/sh\necho x >> {tmp_path}/n\necho identity=$(wc -l < {tmp_path}/n)\n", "fickle")
    assert errors(check_device(FenceDevice("x", "exec", "b", (("command", path),)))) == {"identity-changes"}


def test_a_device_without_identity_is_warned_about_and_cannot_be_enrolled(executable: Callable[[str, str], str], tmp_path: Path):
    device = FenceDevice("x", "exec", "b", (("command", executable("#!/bin/sh\nexit 0\n", "mute")),))
    report = check_device(device)
    assert report.passed
    assert not report.can_prove
    assert warnings(report) == {"no-identity", "worth"}
    with pytest.raises(EnrolmentError):
        enroll(device, report, tmp_path / "e.json")


def test_a_device_that_takes_any_password_fails(executable: Callable[[str, str], str], secret_file: Callable[[str, str], str]):
    path = executable(
        "#!/bin/sh\ngrep -q action=metadata && "
        "echo '<resource-agent><parameters><parameter name=\"password\"/></parameters></resource-agent>'\nexit 0\n",
        "fence_open",
    )
    report = check_device(FenceDevice("x", "agent", "b", (("agent", path), ("password_secret", secret_file("p", "p")))))
    assert errors(report) == {"any-password"}


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"cipher": "0"}, "cipher-0"),
        ({"ssl_insecure": "1"}, "ssl-insecure"),
        ({"ssl": "0"}, "no-tls"),
        ({"community": "private"}, "community"),
        ({"snmp_version": "2c"}, "snmp-clear"),
        ({"password_script": "/x"}, "password-script"),
    ],
)
def test_insecure_settings_are_named(parameters: dict[str, str], code: str, tmp_path: Path):
    device = FenceDevice("x", "agent", "b", (("agent", "fence_dummy"), ("status_file", str(tmp_path / "s")), *parameters.items()))
    assert code in warnings(check_device(device)) | errors(check_device(device))


def test_one_outlet_cannot_be_enrolled_for_two_nodes_nor_change_silently(tmp_path: Path):
    path = tmp_path / "e.json"
    a = FenceDevice("pdu-a", "agent", "a", ())
    report = CheckReport("pdu-a", "a", identity="outlet 1")
    enroll(a, report, path)
    with pytest.raises(EnrolmentError):
        enroll(FenceDevice("pdu-b", "agent", "b", ()), CheckReport("pdu-b", "b", identity="outlet 1"), path)
    changed = CheckReport("pdu-a", "a", identity="outlet 2")
    changed.add(Grade.ERROR, "identity-mismatch", "")
    known = replace(a, identity="outlet 1")
    with pytest.raises(EnrolmentError):
        enroll(known, changed, path)
    assert enroll(known, changed, path, replace_identity=True).identity == "outlet 2"
    assert list(load_enrolments(path)) == ["pdu-a"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"version": 2, "devices": []}',
        '{"version": 1}',
        '{"version": 1, "devices": [{"device": 1}]}',
        "[" * 100_000,
        '{"version":1,"devices":[5]}',
    ],
)
def test_a_damaged_enrolment_file_is_said_and_enrols_nobody(tmp_path: Path, text: str):
    path = tmp_path / "e.json"
    path.write_text(text)
    with pytest.raises(EnrolmentError):
        load_enrolments(path)


def test_no_enrolment_file_is_no_enrolment(tmp_path: Path):
    assert load_enrolments(tmp_path / "none.json") == {}


def test_enrolments_fill_the_settings_only_where_they_fit(tmp_path: Path):
    path = tmp_path / "e.json"
    save_enrolments([Enrolment("pdu", "b", "agent", "outlet 2", 1, 0, 0), Enrolment("moved", "a", "agent", "outlet 1", 1, 0, 0)], path)
    level = FenceLevel(
        "one", (FenceDevice("pdu", "agent", "b", ()), FenceDevice("moved", "agent", "b", ()), FenceDevice("new", "ssh", "b", ()))
    )
    filled = with_enrolments(FenceSettings(levels=(("b", (level,)),)), load_enrolments(path))
    assert [d.identity for d in filled.levels_for("b")[0].devices] == ["outlet 2", "", ""]


def test_f_is_the_slowest_level_and_counts_the_deadline_of_what_was_not_tried():
    one = FenceLevel("one", (FenceDevice("x", "exec", "b", (), 5_000),))
    two = FenceLevel("two", (FenceDevice("y", "exec", "b", (), 7_000), FenceDevice("z", "exec", "b", (), 9_000)))
    reports = [CheckReport("x", "b", effect_ms=300, bound_ms=5_000), CheckReport("y", "b", effect_ms=400, bound_ms=7_000)]
    assert measured_ms(reports, [one]) == 300
    assert measured_ms(reports, [one, two]) == 9_400
    assert measured_ms([], []) == 0


# --- what the configuration loader asks ---


def test_a_typing_error_is_answered_with_the_nearest_word():
    problems = validate_device(
        FenceDevice("x", "ssh", "b", (("host", "h"), ("host_key", "k"), ("key_secret", "file:/k"), ("of_command", "x")))
    )
    assert len(problems) == 1
    assert "off_command" in problems[0]


@pytest.mark.parametrize(
    ("kind", "parameters", "deadline_ms", "word"),
    [
        ("shh", {}, 20_000, "ssh"),
        ("ssh", {"host": "h", "host_key": "k"}, 20_000, "key_secret"),
        ("ssh", {"host": "h", "host_key": "k", "password_secret": "hunter2"}, 20_000, "file:"),
        ("ssh", {"host": "h", "host_key": "k", "key_secret": "file:/k", "port": "x"}, 20_000, "port"),
        ("agent", {}, 20_000, "agent"),
        ("agent", {"agent": "fence_x", "password": "hunter2"}, 20_000, "password_secret"),
        ("agent", {"agent": "fence_x", "action": "reboot"}, 20_000, "action"),
        ("agent", {"agent": "fence_x", "method": "cycle"}, 20_000, "method"),
        ("agent", {"agent": "fence_x", "identity_from": "lists"}, 20_000, "list"),
        ("agent", {"agent": "fence_x", "ip": "a\nb"}, 20_000, "line"),
        ("agent", {"agent": "/usr/sbin/fence_redfish", "ip": "h"}, 20_000, "systems_uri"),
        ("exec", {}, 20_000, "command"),
        ("exec", {"command": "/x", "settle_ms": "soon"}, 20_000, "settle_ms"),
        ("exec", {"command": "/x"}, 0, "deadline_ms"),
    ],
)
def test_every_mistake_is_named_and_no_secret_is_repeated(kind: str, parameters: dict[str, str], deadline_ms: int, word: str):
    problems = validate_device(FenceDevice("x", kind, "b", tuple(parameters.items()), deadline_ms))
    assert len(problems) == 1
    assert word in problems[0]
    assert "hunter2" not in problems[0]


def test_a_key_given_twice_is_named():
    assert validate_device(FenceDevice("x", "exec", "b", (("command", "/x"), ("a", "1"), ("a", "2"))))


def test_good_devices_have_no_problem_and_unknown_types_cannot_be_built(ipmi: Build, ssh: Build):
    assert validate_device(ipmi()) == []
    assert validate_device(ssh()) == []
    redfish = (("agent", "fence_redfish"), ("ip", "h"), ("systems_uri", "/redfish/v1/Systems/1"), ("password_secret", "file:/k"))
    assert validate_device(FenceDevice("x", "agent", "b", redfish)) == []
    with pytest.raises(DeviceConfigError):
        build_device(FenceDevice("x", "telepathy", "b", ()))
