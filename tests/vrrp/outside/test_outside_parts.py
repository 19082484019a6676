"""The pure parts: nothing is told twice or lost; where snmpd is; what is mailed."""

from __future__ import annotations

import asyncio
import threading
from email.utils import getaddresses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.channel import JsonObject
from base.control import Client, ControlServer
from base.log import Log
from base.pump import Pump
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.daemon import DbusSettings, GlobalDefs, MailSettings, SnmpSettings
from vrrp.config.model.instance import VrrpInstance
from vrrp.outside.agentx import Type
from vrrp.outside.events import AdvertRefused, Kind, StateChanged, StateTracker
from vrrp.outside.keepalived_mib import keepalived_mib
from vrrp.outside.mail import Mail, MailRules, compose
from vrrp.outside.mib_tree import MibTree
from vrrp.outside.notifications import SNMP_TRAP_OID, notifications
from vrrp.outside.rfc_mibs import V2_AUTH_FAILURE, V3_PROTO_ERROR, vrrp_mib, vrrpv3_mib
from vrrp.outside.snmp_agent import MasterAddress, parse_socket
from vrrp.outside.view import Link, View
from vrrp.outside.vrrpd_client import VrrpdClient, VrrpdGoneError

STATES = st.sampled_from(["BACKUP", "MASTER", "FAULT"])
STEPS = st.lists(st.tuples(st.sampled_from(["event", "missed", "document"]), st.sampled_from(["a", "b"]), STATES), max_size=40)


@given(STEPS)
def test_after_every_document_exactly_the_truth_was_told(steps: list[tuple[str, str, str]]) -> None:
    """Events may be missed; the next document makes good for them, and nothing is told twice in a row."""
    tracker = StateTracker()
    truth: dict[str, str] = {}
    told: dict[str, str] = {}

    def tell(change: StateChanged) -> None:
        assert told.get(change.name) != change.state
        told[change.name] = change.state

    for what, name, state in steps:
        if what == "document":
            for change in tracker.compare({(Kind.INSTANCE, n): (s, 100, "") for n, s in truth.items()}):
                tell(change)
            assert told == truth
            continue
        truth[name] = state
        if what == "event":
            change = tracker.happened(StateChanged(Kind.INSTANCE, name, state))
            if change is not None:
                tell(change)
            assert told[name] == state


def test_a_name_that_is_gone_is_forgotten_and_may_come_back() -> None:
    tracker = StateTracker()
    master = {(Kind.INSTANCE, "a"): ("MASTER", 100, "")}
    assert len(tracker.compare(master)) == 1
    assert tracker.compare({}) == []
    assert len(tracker.compare(master)) == 1


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", MasterAddress("/var/agentx/master")),
        ("/run/agentx", MasterAddress("/run/agentx")),
        ("unix:/run/agentx", MasterAddress("/run/agentx")),
        ("tcp:localhost:705", MasterAddress("", "localhost", 705)),
        ("localhost:705", MasterAddress("", "localhost", 705)),
        ("tcp:705", MasterAddress("", "127.0.0.1", 705)),
        ("705", MasterAddress("", "127.0.0.1", 705)),
        ("tcp6:[::1]:705", MasterAddress("", "::1", 705)),
    ],
)
def test_snmp_sockets(text: str, address: MasterAddress) -> None:
    assert parse_socket(text) == address


@pytest.mark.parametrize("text", ["udp:localhost:705", "localhost", "tcp:host:0", "tcp:host:99999", "tcp:host:x"])
def test_snmp_sockets_that_cannot_work_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unix:PATH"):
        parse_socket(text)


def test_events_are_heard_from_a_daemon_too_large_for_a_status_document(tmp_path: Path) -> None:
    """A real control server whose answer does not fit into one line."""
    pump = Pump(next_deadline=lambda: None, on_deadline=lambda _now: None)
    event = {"event": "state", "kind": "instance", "name": "VI", "state": "MASTER"}
    asked = []

    def status(client: Client, _request: JsonObject) -> JsonObject:
        asked.append(1)
        client.push(event)
        return {"instances": ["x" * 100] * 20_000}

    server = ControlServer(pump, f"{tmp_path}/run/vrrpd.sock", {"status": (status, False), "subscribe": (lambda _c, _r: {}, False)})
    done = threading.Event()

    def serve() -> None:
        while not done.is_set():
            pump.turn(10_000_000)

    thread = threading.Thread(target=serve)
    thread.start()
    seen: list[object] = []

    async def listen() -> None:
        client = VrrpdClient(server.path, Log("test", -1), on_up=seen.append, on_event=seen.append, on_down=lambda: seen.append("down"))
        task = asyncio.create_task(client.run())
        async with asyncio.timeout(20):
            while len(seen) < 2:
                await asyncio.sleep(0.01)
        with pytest.raises(VrrpdGoneError):
            await client.status()
        task.cancel()

    try:
        asyncio.run(listen())
    finally:
        done.set()
        thread.join(10)
        server.close()
    assert seen[:2] == [{"instances": [], "groups": []}, event]
    assert len(asked) == 1


def view(state: str = "MASTER", version: int = 2, **globals_: object) -> View:
    instance = VrrpInstance("VI", "eth0", 51, version=version, smtp_alert=True)
    snmp = SnmpSettings(vrrp=True, rfc_v2=True, rfc_v3=True, traps=True)
    config = VrrpConfig(global_defs=GlobalDefs(snmp=snmp, dbus=DbusSettings(True), **globals_), instances=(instance,))  # type: ignore[arg-type]
    status = {"now_ns": 5_000_000_000, "instances": [{"name": "VI", "state": state, "since_ns": 1_000_000_000, "counters": {}}]}
    return View(config, status, {"eth0": Link(7, bytes(6), True)}, host="host")


@given(st.sampled_from(["INIT", "BACKUP", "MASTER", "FAULT", "SOMETHING"]), st.sampled_from([2, 3]))
def test_tables_can_be_made_of_a_bare_status(state: str, version: int) -> None:
    """Also of one from an older or newer vrrp process that lacks most fields."""
    shown = view(state, version)
    tree = MibTree(value for make in (keepalived_mib, vrrp_mib, vrrpv3_mib) for value in make(shown))
    names = [name for name, _ in tree.items()]
    assert names == sorted(set(names))
    assert all(value.type is not Type.NULL for _, value in tree.items())


def test_without_the_vrrp_process_there_are_no_instances() -> None:
    shown = view()
    empty = View(shown.config, {}, host="host")
    names = [name for make in (vrrp_mib, vrrpv3_mib) for name, _ in make(empty)]
    assert not any(name[:10] == (1, 3, 6, 1, 2, 1, 68, 1, 3, 1) or name[:11] == (1, 3, 6, 1, 2, 1, 207, 1, 1, 1, 1) for name in names)


def test_refused_adverts_are_told_by_the_rfc_notifications() -> None:
    settings = view().config.global_defs.snmp
    wrong_password = notifications(AdvertRefused("VI", "password"), view(), settings)
    assert [n.variables[0].name for n in wrong_password] == [SNMP_TRAP_OID]
    assert wrong_password[0].variables[0].value.value == V2_AUTH_FAILURE
    wrong_ttl = notifications(AdvertRefused("VI", "ttl"), view(version=3), settings)
    assert wrong_ttl[0].variables[0].value.value == V3_PROTO_ERROR
    assert notifications(AdvertRefused("VI", "own_address"), view(), settings) == []
    assert notifications(AdvertRefused("nobody", "ttl"), view(), settings) == []


def test_without_enable_traps_nothing_is_sent() -> None:
    assert notifications(StateChanged(Kind.INSTANCE, "VI", "MASTER"), view(), SnmpSettings(vrrp=True, rfc_v2=True, rfc_v3=True)) == []


def test_mail_is_sent_once_for_each_state_and_never_for_the_end() -> None:
    rules = MailRules()
    config = view().config
    states = ["BACKUP", "BACKUP", "MASTER", "STOP", "MASTER", "FAULT", "DELETED", "MASTER"]
    mails = [rules.mail_of(StateChanged(Kind.INSTANCE, "VI", state, reason="why"), config, "id") for state in states]
    assert [mail.subject.split()[-2] for mail in mails if mail is not None] == ["BACKUP", "MASTER", "FAULT", "MASTER"]
    assert "why" in str(mails[2])
    silent = view(mail=MailSettings(no_faults=True)).config
    assert MailRules().mail_of(StateChanged(Kind.INSTANCE, "VI", "FAULT"), silent, "id") is None
    assert MailRules().mail_of(StateChanged(Kind.GROUP, "unknown", "MASTER"), config, "id") is None


@pytest.mark.parametrize(
    ("written", "name", "address"),
    [
        ("HA pair, site 1 <ka@node1.example.org>", "HA pair, site 1", "ka@node1.example.org"),
        ("root", "", "root"),
        ("ka@example.org", "", "ka@example.org"),
        ('"A, b" <c@example.org>', "A, b", "c@example.org"),
        ("<only@example.org>", "", "only@example.org"),
        ("Jörg, Köln <jörg@bücher.example>", "Jörg, Köln", "jörg@bücher.example"),
        ("a <b> c <d@example.org>", "a <b> c", "d@example.org"),
    ],
)
def test_the_envelope_has_the_address_and_not_a_part_of_the_name(written: str, name: str, address: str) -> None:
    """A comma in notification_email_from made MAIL FROM:<HA> (keepalived #2365)."""
    message = compose(Mail("subject", "text"), written, (written, "ops@example.org"), "host")
    assert getaddresses([str(message["From"])]) == [(name, address)], "what smtplib puts into the envelope"
    assert getaddresses([str(message["To"])]) == [(name, address), ("", "ops@example.org")]
