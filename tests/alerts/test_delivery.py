"""The delivery process, real: real outbox, real receivers, real kills. Never lost; sent once, or repeated with the same id."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.alerts.servers import HttpServer, MailServer, check_pagerduty_event
from tests.children import PATIENCE_S, ChildProcess, wait_until
from watchdog.record.rows import Stamp, table_row
from watchdog.record.store import Store

ROUTING_KEY = "0123456789abcdef0123456789abcdef"


class Lab:
    """A record, receivers and a delivery process that can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = str(directory / "brain.db")
        self.store = Store(self.path)
        self.store.open()
        self.mail = MailServer()
        self.http = HttpServer()
        self.child: ChildProcess | None = None
        key = directory / "routing-key"
        key.write_text(ROUTING_KEY)
        key.chmod(0o600)
        self.receivers: list[dict[str, Any]] = []
        self.mailer = {
            "name": "mail",
            "type": "email",
            "parameters": {"to": "a@e.com", "from": "b@e.com", "smtp_host": "127.0.0.1", "smtp_port": str(self.mail.port)},
        }
        self.pager = {
            "name": "pager",
            "type": "pagerduty",
            "parameters": {"routing_key_secret": f"file:{key}", "url": f"http://127.0.0.1:{self.http.port}/v2/enqueue"},
        }
        self.hook = {"name": "hook", "type": "webhook", "parameters": {"url": f"http://127.0.0.1:{self.http.port}/hook"}}

    def start(self, *receivers: dict[str, Any], deadline_s: float = 10.0) -> ChildProcess:
        self.receivers = list(receivers) or self.receivers
        args = ("--database", self.path, "--deadline-s", str(deadline_s))
        self.child = ChildProcess("alerts.delivery", *args, env={"no_proxy": "*"})
        self.configure()
        return self.child

    def configure(self, *receivers: dict[str, Any]) -> None:
        self.receivers = list(receivers) or self.receivers
        assert self.child is not None
        self.child.send({"op": "configure", "cluster": "prod", "receivers": self.receivers})

    def kill(self) -> None:
        assert self.child is not None
        self.child.kill()

    def record(self, key: str, action: str = "trigger", severity: str = "critical", summary: str = "split") -> None:
        stamp = Stamp("a", "b", 1, time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        fields = {"dedup_key": key, "incident": key, "severity": severity, "action": action, "summary": summary, "details": {"k": "v"}}
        self.store.write([table_row("incident", {"id": key, "state": "open"}, stamp), table_row("alert", fields, stamp)])  # type: ignore[arg-type]
        if self.child is not None and self.child.process.poll() is None:
            self.child.send({"op": "wake"})

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def states(self) -> dict[tuple[int, str], str]:
        return {(row[0], row[1]): row[2] for row in self.query("SELECT alert_id, receiver, state FROM deliveries")}

    def wait_states(self, expected: dict[tuple[int, str], str]) -> None:
        wait_until(lambda: self.states() == expected)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    if lab.child is not None and lab.child.process.poll() is None:
        lab.kill()
    lab.mail.stop()
    lab.http.stop()
    lab.store.close()


def keys(lab: Lab) -> list[tuple[str, str]]:
    return [(m["X-Brainctl-Dedup-Key"], m["X-Brainctl-Action"]) for m in lab.mail.mails]


def test_alerts_reach_every_receiver_in_order(lab: Lab) -> None:
    lab.mail.start()
    lab.http.start()
    lab.record("k0")
    child = lab.start(lab.mailer, lab.pager, lab.hook)
    lab.record("k1")
    lab.record("k1", "resolve", severity="info")
    receivers = ("mail", "pager", "hook")
    lab.wait_states({(n, r): "delivered" for n in (1, 2, 3) for r in receivers})
    assert keys(lab) == [("k0", "trigger"), ("k1", "trigger"), ("k1", "resolve")]
    events = [body for path, _, body in lab.http.requests if path == "/v2/enqueue"]
    for event in events:
        check_pagerduty_event(event)
    assert [(e["dedup_key"], e["event_action"]) for e in events] == keys(lab)
    assert [b["dedup_key"] for path, _, b in lab.http.requests if path == "/hook"] == ["k0", "k1", "k1"]
    delivered = child.wait_for("delivered", lambda d: d["receiver"] == "mail" and d["alert_id"] == 3)
    assert (delivered["incident"], delivered["action"]) == ("k1", "resolve")
    assert {r[0] for r in lab.query("SELECT outcome FROM delivery_attempts")} == {"delivered"}


def sending(lab: Lab, receiver: str) -> bool:
    return lab.states().get((1, receiver)) == "sending"


@pytest.mark.parametrize("kind", ["mail", "pager"])
def test_killed_before_the_receiver_has_it(lab: Lab, kind: str) -> None:
    """Point 1: marked as sending, nothing accepted yet: it is sent once, by the next process."""
    block = threading.Event()
    server: MailServer | HttpServer = lab.mail if kind == "mail" else lab.http
    if isinstance(server, MailServer):
        server.before_accept = lambda: (block.wait(PATIENCE_S), None)[1]
        server.reply = lambda _m: "421 going down" if not block_done.is_set() else "250 ok"
    else:
        server.status = lambda _b: (block.wait(PATIENCE_S), 503 if not block_done.is_set() else 202)[1]
    block_done = threading.Event()
    server.start()
    lab.record("k")
    lab.start(lab.mailer if kind == "mail" else lab.pager)
    wait_until(lambda: sending(lab, kind))
    lab.kill()
    block.set()
    time.sleep(0.3)  # the server notices that the connection is gone and accepts nothing
    block_done.set()
    lab.start()
    lab.wait_states({(1, kind): "delivered"})
    lab.kill()
    count = len(lab.mail.mails) if kind == "mail" else len(lab.http.requests)
    assert count == 1
    outcomes = [r[0] for r in lab.query("SELECT outcome FROM delivery_attempts ORDER BY id")]
    assert outcomes[0] == "interrupted" and outcomes[-1] == "delivered"


@pytest.mark.parametrize("kind", ["mail", "pager", "hook"])
def test_killed_between_acceptance_and_commit(lab: Lab, kind: str) -> None:
    """Point 2: the receiver has it, our disk does not know: repeated, and the repeat is recognisable."""
    accepted, killed = threading.Event(), threading.Event()

    def after_accept() -> None:
        accepted.set()
        killed.wait(PATIENCE_S)

    if kind == "mail":
        lab.mail.after_accept = after_accept
        lab.mail.start()
    else:
        lab.http.before_answer = after_accept
        lab.http.start()
    lab.record("k")
    lab.start({"mail": lab.mailer, "pager": lab.pager, "hook": lab.hook}[kind])
    assert accepted.wait(PATIENCE_S)
    assert sending(lab, kind)
    lab.kill()
    killed.set()
    lab.start()
    lab.wait_states({(1, kind): "delivered"})
    if kind == "mail":
        assert len(lab.mail.ids) == 2 and len(set(lab.mail.ids)) == 1
    else:
        bodies = [b for _, _, b in lab.http.requests]
        assert len(bodies) == 2 and bodies[0]["dedup_key"] == bodies[1]["dedup_key"] == "k"
        headers = {h.get("Idempotency-Key") for _, h, _ in lab.http.requests}
        assert len(headers) == 1


def test_killed_while_the_commit_waits(lab: Lab) -> None:
    """Point 2 once more, as late as possible: the answer has been read, the commit waits for the database's lock."""
    lab.mail.start()
    accepted, locked = threading.Event(), threading.Event()

    def hold() -> None:
        accepted.set()
        locked.wait(PATIENCE_S)

    lab.mail.after_accept = hold
    lab.record("k")
    child = lab.start(lab.mailer)
    assert accepted.wait(PATIENCE_S)
    blocker = sqlite3.connect(lab.path)
    blocker.execute("BEGIN IMMEDIATE")
    locked.set()
    child.wait_for("delivered")  # said before it is on the disk
    assert sending(lab, "mail")
    lab.kill()
    blocker.rollback()
    blocker.close()
    lab.start()
    lab.wait_states({(1, "mail"): "delivered"})
    assert len(lab.mail.ids) == 2 and len(set(lab.mail.ids)) == 1


def test_killed_after_the_commit(lab: Lab) -> None:
    """Point 3: nothing is sent again."""
    lab.mail.start()
    lab.http.start()
    lab.record("k")
    lab.start(lab.mailer, lab.pager)
    lab.wait_states({(1, "mail"): "delivered", (1, "pager"): "delivered"})
    lab.kill()
    lab.start()
    lab.record("k2")
    lab.wait_states({(n, r): "delivered" for n in (1, 2) for r in ("mail", "pager")})
    assert keys(lab) == [("k", "trigger"), ("k2", "trigger")]
    assert len(lab.http.requests) == 2


def test_killed_again_and_again(lab: Lab) -> None:
    """Kills at random moments during a stream of alerts: each arrives, repeats have the same id, order holds per incident."""
    lab.mail.start()
    for number in range(12):
        lab.record(f"k{number}")
        lab.record(f"k{number}", "resolve")
    for pause_s in (0.45, 0.6, 0.75, 0.9):
        lab.start(lab.mailer)
        time.sleep(pause_s)
        lab.kill()
    lab.start()
    lab.wait_states({(n, "mail"): "delivered" for n in range(1, 25)})
    first_seen = list(dict.fromkeys(keys(lab)))
    assert first_seen == [(f"k{n}", action) for n in range(12) for action in ("trigger", "resolve")]
    assert len(set(lab.mail.ids)) == 24
    interrupted = lab.query("SELECT count(*) FROM delivery_attempts WHERE outcome = 'interrupted'")[0][0]
    assert len(lab.mail.ids) <= 24 + interrupted


def test_receivers_down_then_up(lab: Lab) -> None:
    lab.http.start()
    child = lab.start(lab.mailer, lab.pager)
    for number in range(5):
        lab.record(f"k{number}")
    lab.record("k0", "resolve")
    child.wait_for("failing", lambda f: f["receiver"] == "mail" and f["attempt"] >= 2)
    child.send({"op": "status"})
    status = child.wait_for("status")
    assert status["receivers"]["mail"]["failures"] >= 2 and status["receivers"]["mail"]["detail"]
    assert status["database"] == "ok"
    wait_until(lambda: len(lab.http.requests) == 6)  # the other receiver is not held up
    lab.mail.start()
    lab.wait_states({(n, r): "delivered" for n in range(1, 7) for r in ("mail", "pager")})
    assert keys(lab) == [(f"k{n}", "trigger") for n in range(5)] + [("k0", "resolve")]
    lab.mail.stop()
    lab.record("later")
    child.wait_for("failing")
    lab.mail.start()
    wait_until(lambda: keys(lab)[-1] == ("later", "trigger"))


def test_receiver_that_never_answers_holds_up_nobody(lab: Lab) -> None:
    import socket

    black_hole = socket.create_server(("127.0.0.1", 0))
    lab.mail.start()
    hole = {"name": "hole", "type": "webhook", "parameters": {"url": f"http://127.0.0.1:{black_hole.getsockname()[1]}/"}}
    child = lab.start(hole, lab.mailer, deadline_s=1.0)
    lab.record("k")
    wait_until(lambda: len(lab.mail.mails) == 1)
    failing = child.wait_for("failing", lambda f: f["receiver"] == "hole")
    assert failing["attempt"] == 1
    black_hole.close()


def test_configuration_errors_are_mended_by_reload(lab: Lab) -> None:
    lab.mail.start()
    broken = {**lab.mailer, "parameters": {**lab.mailer["parameters"], "tls": "perhaps"}}
    lab.start(broken)
    lab.record("k")
    lab.wait_states({(1, "mail"): "refused"})
    lab.configure(lab.mailer)
    lab.wait_states({(1, "mail"): "delivered"})


def test_without_receivers_nobody_is_told_and_the_record_says_so(lab: Lab) -> None:
    lab.start()
    lab.record("k")
    lab.wait_states({(1, ""): "refused"})
    lab.mail.start()
    lab.configure(lab.mailer)
    lab.wait_states({(1, ""): "skipped", (1, "mail"): "delivered"})


def test_escalation_and_acknowledgement_survive_a_kill(lab: Lab) -> None:
    lab.mail.start()
    boss = {**lab.mailer, "name": "boss", "escalate_after_ms": 2_500}
    child = lab.start(boss)
    lab.record("taken")
    lab.record("open")
    child.send({"op": "acknowledged", "incident": "taken", "who": "0 root"})
    wait_until(lambda: lab.states().get((1, "boss")) == "skipped")
    lab.kill()
    lab.start()
    lab.wait_states({(1, "boss"): "skipped", (2, "boss"): "delivered"})
    assert keys(lab) == [("open", "trigger")]
    assert lab.query("SELECT incident, who FROM acknowledgements") == [("taken", "0 root")]


def test_alerts_that_cannot_be_recorded_still_go_out(tmp_path: Path) -> None:
    """The record is in trouble: sent at once, and the recorded twin is recognised later."""
    lab = Lab(tmp_path)
    lab.store.close()
    for name in os.listdir(tmp_path):
        if name.startswith("brain.db"):
            os.unlink(tmp_path / name)
    lab.mail.start()
    child = lab.start(lab.mailer)
    child.send({"op": "send_now", "alert": {"dedup_key": "k", "incident": "k", "severity": "critical", "summary": "split"}})
    wait_until(lambda: keys(lab) == [("k", "trigger")])
    lab.store.open()
    lab.record("k")
    lab.record("other")
    lab.wait_states({(1, "mail"): "skipped", (2, "mail"): "delivered"})
    assert keys(lab) == [("k", "trigger"), ("other", "trigger")]
    child.end()
    lab.mail.stop()
    lab.store.close()


def test_replaced_database_is_read_anew(lab: Lab) -> None:
    """The recorder set a damaged file aside: the new one's alerts count from 1 again."""
    lab.mail.start()
    lab.start(lab.mailer)
    lab.record("old")
    lab.wait_states({(1, "mail"): "delivered"})
    lab.store.close()
    for suffix in ("", "-wal", "-shm"):
        if os.path.exists(lab.path + suffix):
            shutil.move(lab.path + suffix, lab.path + ".aside" + suffix)
    lab.store.open()
    lab.record("new")
    lab.wait_states({(1, "mail"): "delivered"})
    wait_until(lambda: keys(lab) == [("old", "trigger"), ("new", "trigger")])


def test_damage_is_reported_to_the_parent(lab: Lab) -> None:
    lab.record("k")
    lab.store.close()
    Path(lab.path).write_bytes(os.urandom(40_960))
    child = lab.start(lab.mailer)
    child.wait_for("damaged")


def test_pages_go_on_when_nothing_can_be_written(lab: Lab) -> None:
    """Somebody holds the database's lock: the mail goes out, its mark follows when that is possible."""
    lab.mail.start()
    child = lab.start(lab.mailer)
    lab.record("first")
    lab.wait_states({(1, "mail"): "delivered"})
    lab.record("second")
    blocker = sqlite3.connect(lab.path, timeout=30)
    blocker.execute("BEGIN IMMEDIATE")
    child.wait_for("delivered", lambda d: d["alert_id"] == 2)
    assert keys(lab)[-1] == ("second", "trigger")
    blocker.rollback()
    blocker.close()
    lab.wait_states({(1, "mail"): "delivered", (2, "mail"): "delivered"})
    assert len(lab.mail.mails) == 2


def test_two_writers_wait_for_each_other(lab: Lab) -> None:
    """The recorder writes without a pause while deliveries are marked: neither is refused, neither starves."""
    lab.mail.start()
    lab.store.close()
    child = lab.start(lab.mailer)
    recorder = ChildProcess("watchdog.record.recorder", "--state-dir", str(lab.directory), "--node", "a")
    recorder.send({"op": "restore"})
    recorder.wait_for("restored")
    sent = 0
    end = time.monotonic() + PATIENCE_S
    expected = {(n, "mail"): "delivered" for n in range(1, 11)}
    while lab.states() != expected:
        assert time.monotonic() < end, f"after {sent} transactions: {lab.states()}"
        for _ in range(20):
            sent += 1
            recorder.send({"op": "persist", "rows": [["evidence", {"id": str(sent)}]]})
        if sent <= 200:
            fields = {"dedup_key": f"k{sent}", "incident": "i", "severity": "critical", "action": "trigger", "summary": "s"}
            recorder.send({"op": "persist", "rows": [["alert", fields]], "barrier": sent})
            assert recorder.wait_for("persisted") == sent
            child.send({"op": "wake"})
    recorder.send({"op": "health"})
    recorder.wait_for("health")
    assert not [m for m in recorder.messages if "trouble" in m]
    child.send({"op": "status"})
    assert child.wait_for("status")["unwritten"] == 0
    recorder.end()


def test_orderly_end_waits_for_what_is_on_its_way(lab: Lab) -> None:
    accepted = threading.Event()

    def slow() -> None:
        accepted.set()
        time.sleep(0.5)

    lab.mail.after_accept = slow
    lab.mail.start()
    child = lab.start(lab.mailer)
    lab.record("k")
    assert accepted.wait(PATIENCE_S)
    assert child.end() == 0
    assert lab.states() == {(1, "mail"): "delivered"}


@pytest.mark.parametrize(
    "bad",
    [
        {"op": "configure"},
        {"op": "configure", "receivers": [{"name": "x"}]},
        {"op": "configure", "receivers": [{"name": "x", "type": "email", "escalate_after_ms": "soon"}]},
        {"op": "send_now"},
        {"op": "send_now", "alert": []},
        {"op": "acknowledged"},
        {"op": 5},
        {},
    ],
)
def test_bad_messages_change_nothing(lab: Lab, bad: dict[str, Any]) -> None:
    lab.mail.start()
    child = lab.start(lab.mailer)
    child.send(bad)
    child.wait_for("rejected")
    lab.record("k")
    lab.wait_states({(1, "mail"): "delivered"})


def test_secrets_are_in_no_process_listing_and_no_record(lab: Lab) -> None:
    lab.http.status = lambda _b: 401
    lab.http.start()
    child = lab.start(lab.pager)
    lab.record("k")
    lab.wait_states({(1, "pager"): "refused"})
    assert ROUTING_KEY.encode() not in Path(f"/proc/{child.process.pid}/cmdline").read_bytes()
    assert ROUTING_KEY.encode() not in Path(f"/proc/{child.process.pid}/environ").read_bytes()
    lab.kill()
    for name in os.listdir(lab.directory):
        if name.startswith("brain.db"):
            assert ROUTING_KEY.encode() not in (lab.directory / name).read_bytes()
    assert ROUTING_KEY not in str(child.messages)
