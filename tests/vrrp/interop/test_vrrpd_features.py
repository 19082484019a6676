"""What an operator asks of vrrpd, against a real kernel and (where two are needed) a real keepalived."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from base.control import ControlClient, RequestError
from tests.lab import Daemon, Lab
from tests.vrrp.interop.vrrp_conf import VIP, conf

pytestmark = pytest.mark.system

OTHER_VIP = "10.77.0.111"


def control(daemon: Daemon) -> ControlClient:
    return ControlClient(str(daemon.directory / "run" / "vrrpd.sock"))


def status(daemon: Daemon) -> dict[str, Any]:
    with control(daemon) as client:
        found: dict[str, Any] = client.call("status")
        return found


def instance(daemon: Daemon) -> dict[str, Any]:
    try:
        return dict(status(daemon)["instances"][0])
    except (OSError, IndexError):
        return {"state": "not running"}


def is_in(daemon: Daemon, state: str) -> bool:
    return bool(instance(daemon)["state"] == state)


def rewrite(daemon: Daemon, text: str) -> None:
    (daemon.directory / "conf").write_text(text)
    daemon.signal(signal.SIGHUP)


def script(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def zeroes(frames: list[tuple[str, bytes]], port: str) -> int:
    return sum(1 for p, f in frames if p == port and f[12:14] == b"\x08\x00" and f[23] == 112 and f[36] == 0)


def garps(frames: list[tuple[str, bytes]], port: str) -> int:
    return sum(1 for p, f in frames if p == port and f[12:14] == b"\x08\x06" and f[28:32] == f[38:42])


class TestReload:
    def test_mastership_stays_and_only_the_difference_changes(self) -> None:
        with Lab("a", "b") as lab:
            ours = lab.vrrpd("a", conf(150))
            lab.keepalived("b", conf(100))
            lab.until(lambda: is_in(ours, "MASTER"))
            since = instance(ours)["since_ns"]
            capture = lab.capture()
            rewrite(ours, conf(160, instance=f"virtual_ipaddress_excluded {{\n {OTHER_VIP}/24\n}}"))
            lab.until(lambda: lab.nodes["a"].holds(OTHER_VIP), what="the new address is there")
            lab.until(lambda: instance(ours)["priority"] == 160)
            rewrite(ours, conf(160))
            lab.until(lambda: not lab.nodes["a"].holds(OTHER_VIP), what="the address that left the file is gone")
            capture.read()
            assert zeroes(capture.frames, "p1") == 0
            assert (instance(ours)["since_ns"], lab.nodes["b"].holds(VIP)) == (since, False)
            assert lab.nodes["a"].holds(VIP)

    def test_a_bad_file_changes_nothing(self) -> None:
        with Lab("a") as lab:
            ours = lab.vrrpd("a", conf(150))
            lab.until(lambda: is_in(ours, "MASTER"))
            before = instance(ours)
            rewrite(ours, conf(90) + "\nvrrp_instence X {\n}\n")
            lab.until(lambda: "refused" in ours.text(), what="the refusal is said")
            lab.always(lambda: lab.nodes["a"].holds(VIP) and instance(ours)["priority"] == 150, 0.5)
            assert instance(ours)["since_ns"] == before["since_ns"]
            rewrite(ours, conf(151))
            lab.until(lambda: instance(ours)["priority"] == 151, what="a good file is taken afterwards")

    def test_a_vrrp_process_that_dies_of_it_comes_back_with_the_former_one(self) -> None:
        """Whatever it dies of between the new configuration and its word that it lives with it."""
        with Lab("a") as lab:
            ours = lab.vrrpd("a", conf(150))
            lab.until(lambda: is_in(ours, "MASTER"))
            child = int((ours.directory / "vrrp.pid").read_text())
            os.kill(child, signal.SIGSTOP)
            rewrite(ours, conf(150, vip=f"{OTHER_VIP}/24"))
            lab.until(lambda: "Reloading" in ours.text(), what="the parent has read it")
            os.kill(child, signal.SIGKILL)
            lab.until(lambda: int((ours.directory / "vrrp.pid").read_text()) != child and is_in(ours, "MASTER"))
            assert lab.nodes["a"].holds(VIP) and not lab.nodes["a"].holds(OTHER_VIP)
            ours.signal(signal.SIGHUP)
            lab.until(lambda: lab.nodes["a"].holds(OTHER_VIP) and not lab.nodes["a"].holds(VIP), what="asked for once more")

    def test_another_vrid_is_another_instance(self) -> None:
        with Lab("a") as lab:
            ours = lab.vrrpd("a", conf(150))
            lab.until(lambda: is_in(ours, "MASTER"))
            capture = lab.capture()
            rewrite(ours, conf(150).replace("virtual_router_id 51", "virtual_router_id 52"))
            lab.until(lambda: instance(ours).get("vrid") == 52 and is_in(ours, "MASTER"))
            capture.read()
            assert zeroes(capture.frames, "p1") == 1
            assert lab.nodes["a"].holds(VIP)

    def test_a_new_name_is_the_same_instance(self) -> None:
        with Lab("a") as lab:
            ours = lab.vrrpd("a", conf(150))
            lab.until(lambda: is_in(ours, "MASTER"))
            since = instance(ours)["since_ns"]
            rewrite(ours, conf(150, name="RENAMED"))
            lab.until(lambda: instance(ours).get("name") == "RENAMED")
            assert (instance(ours)["since_ns"], lab.nodes["a"].holds(VIP)) == (since, True)
            lab.always(lambda: is_in(ours, "MASTER"), 0.5)


class TestTracking:
    @pytest.mark.shows(
        "vrrp_script", "vrrp_script/script", "vrrp_script/interval", "vrrp_script/weight", "vrrp_script/user", "vrrp_instance/track_script"
    )
    def test_weight_of_a_script_moves_the_address_to_keepalived_and_back(self) -> None:
        with Lab("a", "b") as lab:
            flag = lab.directory / "fail"
            check = script(lab.directory / "check", f"test ! -e {flag}")
            os.chmod(lab.directory, 0o755)
            block = f'vrrp_script check {{\n script "{check}"\n interval 0.1\n weight -60\n user root\n}}'
            ours = lab.vrrpd("a", conf(150, blocks=block, instance="track_script {\n check\n}"))
            lab.keepalived("b", conf(100))
            lab.until(lambda: lab.nodes["a"].holds(VIP))
            flag.touch()
            lab.until(lambda: lab.nodes["b"].holds(VIP) and not lab.nodes["a"].holds(VIP), what="90 against 100")
            assert instance(ours)["priority"] == 90
            flag.unlink()
            lab.until(lambda: lab.nodes["a"].holds(VIP) and not lab.nodes["b"].holds(VIP), what="150 again")

    @pytest.mark.parametrize("command", ["/does/not/exist", "/bin/false", "/bin/sleep 30"])
    @pytest.mark.shows("vrrp_script/timeout")
    def test_a_script_that_cannot_run_fails_or_hangs_is_a_fault(self, command: str) -> None:
        with Lab("a") as lab:
            block = f'vrrp_script check {{\n script "{command}"\n interval 0.2\n timeout 0.3\n user root\n}}'
            ours = lab.vrrpd("a", conf(150, blocks=block, instance="track_script {\n check\n}"))
            lab.until(lambda: is_in(ours, "FAULT"))
            assert "script check" in instance(ours)["faults"]

    @pytest.mark.shows("track_file", "track_file/file", "vrrp_instance/track_file")
    @pytest.mark.shows("vrrp_script/fail_open")
    def test_with_fail_open_a_missing_script_is_good_as_in_keepalived(self) -> None:
        text = 'vrrp_script gone {{\nscript "/does/not/exist"\ninterval 1\n{}\n}}'
        with Lab("a") as lab:
            ours = lab.vrrpd("a", conf(150, blocks=text.format("fail_open"), instance="track_script {\ngone\n}"))
            lab.until(lambda: is_in(ours, "MASTER"))
            rewrite(ours, conf(150, blocks=text.format(""), instance="track_script {\ngone\n}"))
            lab.until(lambda: is_in(ours, "FAULT"))

    def test_tracked_file_moves_the_address_and_holds_it(self) -> None:
        with Lab("a", "b") as lab:
            value, grant = lab.directory / "value", lab.directory / "grant"
            blocks = f"track_file value {{\n file {value}\n}}\ntrack_file grant {{\n file {grant}\n}}"
            tracks = "track_file {\n value weight 1\n grant weight 0 reverse\n}"
            ours = lab.vrrpd("a", conf(150, blocks=blocks, instance=tracks))
            lab.keepalived("b", conf(100))
            lab.until(lambda: is_in(ours, "FAULT"), what="no grant, no part in the election")
            grant.write_text("1\n")
            lab.until(lambda: lab.nodes["a"].holds(VIP))
            value.write_text("-60\n")
            lab.until(lambda: lab.nodes["b"].holds(VIP) and not lab.nodes["a"].holds(VIP))
            value.write_text("rubbish\n")
            lab.until(lambda: lab.nodes["a"].holds(VIP) and not lab.nodes["b"].holds(VIP), what="rubbish counts as 0")
            grant.unlink()
            lab.until(lambda: is_in(ours, "FAULT") and not lab.nodes["a"].holds(VIP))

    def test_own_interface_down_is_a_fault_and_up_again_is_none(self) -> None:
        with Lab("a") as lab:
            ours = lab.vrrpd("a", conf(150))
            lab.until(lambda: is_in(ours, "MASTER"))
            lab.cut("a")
            lab.until(lambda: is_in(ours, "FAULT") and not lab.nodes["a"].holds(VIP))
            lab.heal("a")
            lab.until(lambda: is_in(ours, "MASTER") and lab.nodes["a"].holds(VIP))

    @pytest.mark.shows("vrrp_instance/track_interface")
    def test_tracked_interface(self) -> None:
        with Lab("a", "b") as lab:
            node = lab.nodes["a"]
            node.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
            node.run("ip", "link", "set", "up0", "up")
            node.run("ip", "link", "set", "up1", "up")
            ours = lab.vrrpd("a", conf(150, instance="track_interface {\n up0\n}"))
            lab.keepalived("b", conf(100))
            lab.until(lambda: is_in(ours, "MASTER"))
            node.run("ip", "link", "set", "up1", "down")
            lab.until(lambda: is_in(ours, "FAULT") and lab.nodes["b"].holds(VIP))
            node.run("ip", "link", "del", "up0")
            node.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
            lab.always(lambda: is_in(ours, "FAULT"), 0.5)
            node.run("ip", "link", "set", "up0", "up")
            node.run("ip", "link", "set", "up1", "up")
            lab.until(lambda: is_in(ours, "MASTER") and not lab.nodes["b"].holds(VIP))

    def test_interface_that_is_made_anew_is_used_again(self) -> None:
        with Lab("a") as lab:
            node = lab.nodes["a"]
            ours = lab.vrrpd("a", conf(150))
            lab.until(lambda: is_in(ours, "MASTER"))
            node.run("ip", "link", "del", "eth0")
            lab.until(lambda: is_in(ours, "FAULT"))
            node.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth9")
            node.run("ip", "link", "set", "eth9", "up")
            node.run("ip", "link", "set", "eth0", "up")
            node.run("ip", "addr", "add", "10.77.0.1/24", "dev", "eth0")
            lab.until(lambda: is_in(ours, "MASTER") and node.holds(VIP))
            sent = instance(ours)["counters"]["adverts_sent"]
            lab.until(lambda: instance(ours)["counters"]["adverts_sent"] > sent + 3)
            errors = instance(ours)["egress_errors"]
            lab.always(lambda: instance(ours)["egress_errors"] == errors, 0.5, "nothing goes to the interface that is gone")


class TestPreemption:
    @pytest.mark.shows("vrrp_instance/nopreempt")
    def test_nopreempt_leaves_keepalived_alone(self) -> None:
        with Lab("a", "b") as lab:
            lab.keepalived("b", conf(100))
            lab.until(lambda: lab.nodes["b"].holds(VIP))
            ours = lab.vrrpd("a", conf(150, instance_extra="nopreempt"))
            lab.until(lambda: is_in(ours, "BACKUP"))
            lab.always(lambda: is_in(ours, "BACKUP") and lab.nodes["b"].holds(VIP), 1.5)

    @pytest.mark.shows("vrrp_instance/preempt_delay")
    def test_preempt_delay(self) -> None:
        with Lab("a", "b") as lab:
            lab.keepalived("b", conf(100))
            lab.until(lambda: lab.nodes["b"].holds(VIP))
            ours = lab.vrrpd("a", conf(150, instance_extra="preempt_delay 2"))
            lab.until(lambda: is_in(ours, "BACKUP"))
            begin = time.monotonic()
            lab.until(lambda: is_in(ours, "MASTER"))
            assert 1.8 < time.monotonic() - begin < 5
            lab.until(lambda: not lab.nodes["b"].holds(VIP))


class TestNotifies:
    @pytest.mark.shows("vrrp_instance/notify", "vrrp_instance/notify_master", "vrrp_instance/notify_fault")
    def test_scripts_get_keepalived_s_arguments_in_the_order_of_the_changes(self) -> None:
        with Lab("a") as lab:
            os.chmod(lab.directory, 0o755)
            out = lab.directory / "out"
            slow = script(lab.directory / "slow", f"sleep 0.6; echo master >> {out}")
            fast = script(lab.directory / "fast", f"echo fault >> {out}")
            every = script(lab.directory / "every", f'echo "$@" >> {out}')
            text = f'notify_master "{slow} with arguments" root\n notify_fault {fast} root\n notify "{every}" root\n'
            ours = lab.vrrpd("a", conf(150, instance=text))
            lab.until(lambda: is_in(ours, "MASTER"))
            lab.cut("a")
            lab.until(lambda: is_in(ours, "FAULT"))
            lab.until(lambda: out.exists() and "FAULT" in out.read_text() and "fault" in out.read_text())
            ours.stop()
            lines = out.read_text().splitlines()
        assert lines[0] == "INSTANCE V1 BACKUP 150"
        assert lines[1:3] == ["INSTANCE V1 MASTER 150", "master"]
        assert sorted(lines[3:5]) == ["INSTANCE V1 FAULT 150", "fault"]
        assert lines[5:] == ["INSTANCE V1 STOP 150"]

    @pytest.mark.shows("global_defs/vrrp_notify_fifo")
    def test_fifo(self) -> None:
        with Lab("a") as lab:
            path = lab.directory / "fifo"
            ours = lab.vrrpd("a", conf(150, global_extra=f"vrrp_notify_fifo {path}"))
            lab.until(lambda: is_in(ours, "MASTER"))
            fifo = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            ours.stop()
            assert os.read(fifo, 4096).decode() == 'INSTANCE "V1" BACKUP 150\nINSTANCE "V1" MASTER 150\nINSTANCE "V1" STOP 150\n'
            os.close(fifo)


class TestGate:
    def test_closed_gate_waits_for_a_grant(self) -> None:
        with Lab("a") as lab:
            ours = lab.vrrpd("a", conf(150), "--gate", "closed")
            lab.until(lambda: instance(ours).get("shown_state") == "WAITING_FOR_FENCE")
            lab.always(lambda: not lab.nodes["a"].holds(VIP), 0.5)
            with control(ours) as client:
                client.call("subscribe")
                client.call("grant", vrid=51, family=4, epoch=3, expires_ms=2000)
                pushed = [client.next_push() for _ in range(2)]
            assert {"state", "report"} == {p["event"] for p in pushed}
            lab.until(lambda: is_in(ours, "MASTER") and lab.nodes["a"].holds(VIP))
            with control(ours) as client:
                client.call("yield", vrid=51, family=4, until_ms=60000)
                lab.until(lambda: not lab.nodes["a"].holds(VIP))
                client.call("unyield", vrid=51, family=4)
                lab.until(lambda: instance(ours)["shown_state"] == "WAITING_FOR_FENCE", what="a yield voids the grant")
                client.call("grant", vrid=51, family=4, epoch=1, expires_ms=0)
                assert client.call("status")["instances"][0]["state"] == "MASTER"

    def test_yield_hands_over_at_once_and_unyield_takes_back(self) -> None:
        with Lab("a", "b") as lab:
            ours = lab.vrrpd("a", conf(150))
            lab.keepalived("b", conf(100))
            lab.until(lambda: lab.nodes["a"].holds(VIP))
            time.sleep(1)
            with control(ours) as client:
                client.call("yield", vrid=51, family=4, until_ms=0)
                lab.until(lambda: lab.nodes["b"].holds(VIP) and not lab.nodes["a"].holds(VIP), 2)
                lab.always(lambda: not lab.nodes["a"].holds(VIP), 1)
                client.call("unyield", vrid=51, family=4)
            lab.until(lambda: lab.nodes["a"].holds(VIP) and not lab.nodes["b"].holds(VIP))

    def test_bridged_adverts_hold_a_backup(self) -> None:
        with Lab("a", "b") as lab:
            ours = lab.vrrpd("b", conf(100))
            lab.keepalived("a", conf(150))
            lab.until(lambda: lab.nodes["a"].holds(VIP) and is_in(ours, "BACKUP"))
            lab.nodes["b"].nft("table ip t {\n chain c {\n type filter hook input priority 0; ip protocol 112 drop\n }\n}\n")
            with control(ours) as client:
                end = time.monotonic() + 2
                while time.monotonic() < end:
                    client.call("bridge_advert", vrid=51, family=4, priority=150, source="10.77.0.1", age_ms=50, valid_ms=300)
                    assert not lab.nodes["b"].holds(VIP)
                    time.sleep(0.05)
            lab.until(lambda: lab.nodes["b"].holds(VIP), what="without the bridge it takes over")

    @pytest.mark.parametrize(
        "fields",
        [
            {"op": "grant", "vrid": 51, "family": 4},
            {"op": "grant", "vrid": 51, "family": 4, "epoch": -1, "expires_ms": 1},
            {"op": "yield", "vrid": 99, "family": 4, "until_ms": 1},
            {"op": "yield", "vrid": 51, "family": 4, "until_ms": "soon"},
            {"op": "bridge_advert", "vrid": 51, "family": 4, "priority": 300, "source": "x", "age_ms": 1, "valid_ms": 1},
            {"op": "nonsense"},
        ],
    )
    def test_bad_requests_are_refused(self, fields: dict[str, Any], shared_vrrpd: Daemon) -> None:
        with control(shared_vrrpd) as client, pytest.raises(RequestError):
            client.call(**fields)


class TestDeathAndHang:
    def test_kill_of_the_vrrp_process_hands_over_by_its_last_will(self) -> None:
        with Lab("a", "b") as lab:
            ours = lab.vrrpd("a", conf(150, version=2, interval="1"))
            lab.keepalived("b", conf(100, version=2, interval="1"))
            lab.until(lambda: lab.nodes["a"].holds(VIP))
            time.sleep(2)
            capture = lab.capture()
            victim = int((ours.directory / "vrrp.pid").read_text())
            os.kill(victim, signal.SIGKILL)
            gone = lab.until(lambda: not lab.nodes["a"].holds(VIP))
            taken = lab.until(lambda: lab.nodes["b"].holds(VIP))
            capture.read()
            assert zeroes(capture.frames, "p1") == 1
            assert gone < 1.0
            assert taken < 2.5, "sooner than a master down interval"
            lab.until(lambda: is_in(ours, "MASTER"), what="the new process takes the address back")
            assert int((ours.directory / "vrrp.pid").read_text()) != victim
            assert ours.stop() == 0

    def test_kill_of_the_parent_is_a_clean_stop(self) -> None:
        with Lab("a") as lab:
            ours = lab.vrrpd("a", conf(150))
            lab.until(lambda: lab.nodes["a"].holds(VIP))
            capture = lab.capture()
            os.kill(int((ours.directory / "pid").read_text()), signal.SIGKILL)
            lab.until(lambda: not lab.nodes["a"].holds(VIP))
            capture.read()
            assert zeroes(capture.frames, "p1") == 1

    def test_stop_with_a_hung_vrrp_process_still_frees_the_address(self) -> None:
        with Lab("a") as lab:
            ours = lab.vrrpd("a", conf(150))
            lab.until(lambda: lab.nodes["a"].holds(VIP))
            capture = lab.capture()
            os.kill(int((ours.directory / "vrrp.pid").read_text()), signal.SIGSTOP)
            ours.signal(signal.SIGTERM)
            ours.process.wait(15)
            assert not lab.nodes["a"].holds(VIP)
            capture.read()
            assert zeroes(capture.frames, "p1") == 1

    def test_terminating_only_the_vrrp_process_is_clean_and_it_comes_back(self) -> None:
        with Lab("a") as lab:
            ours = lab.vrrpd("a", conf(150))
            lab.until(lambda: lab.nodes["a"].holds(VIP))
            os.kill(int((ours.directory / "vrrp.pid").read_text()), signal.SIGTERM)
            lab.until(lambda: not lab.nodes["a"].holds(VIP))
            lab.until(lambda: is_in(ours, "MASTER"))

    @pytest.mark.shows("vrrp_instance/notify_stop")
    def test_stop_waits_for_a_stop_script(self) -> None:
        with Lab("a") as lab:
            lab.directory.chmod(0o755)
            out = lab.directory / "out"
            slow = script(lab.directory / "slow", f"sleep 1.5; echo done > {out}")
            ours = lab.vrrpd("a", conf(150, instance=f'notify_stop "{slow}" root'))
            lab.until(lambda: is_in(ours, "MASTER"))
            assert ours.stop() == 0
            assert out.read_text() == "done\n"

    def test_more_signals_do_not_disturb_a_stop(self) -> None:
        """Somebody who is impatient, or systemd beside an operator; it held no scripts back, but died of the second SIGTERM."""
        with Lab("a") as lab:
            ours = lab.vrrpd("a", conf(150))
            lab.until(lambda: is_in(ours, "MASTER"))
            number = signal.SIGTERM
            while ours.process.poll() is None:
                ours.signal(number)
                number = signal.SIGHUP if number == signal.SIGTERM else signal.SIGTERM
                time.sleep(0.002)
            assert ours.process.returncode == 0
            assert not lab.nodes["a"].holds(VIP)

    def test_no_respawn(self) -> None:
        with Lab("a") as lab:
            ours = lab.vrrpd("a", conf(150), "-R")
            lab.until(lambda: lab.nodes["a"].holds(VIP))
            os.kill(int((ours.directory / "vrrp.pid").read_text()), signal.SIGKILL)
            assert ours.process.wait(10) != 0
            assert not lab.nodes["a"].holds(VIP)

    def test_after_a_hang_the_announcements_are_bounded(self) -> None:
        with Lab("a", "b") as lab:
            ours = lab.vrrpd("a", conf(150))
            lab.keepalived("b", conf(100))
            lab.until(lambda: lab.nodes["a"].holds(VIP))
            time.sleep(1)
            ours.signal_all(signal.SIGSTOP)
            lab.until(lambda: lab.nodes["b"].holds(VIP))
            time.sleep(3)
            capture = lab.capture()
            ours.signal_all(signal.SIGCONT)
            lab.until(lambda: not lab.nodes["b"].holds(VIP), what="the healed pair has one owner")
            lab.always(lambda: lab.nodes["a"].holds(VIP), 2)
            capture.read()
            assert 1 <= garps(capture.frames, "p1") <= 15, "keepalived sends hundreds here"
            assert status(ours)["stalls"]["count"] >= 1

    def test_nopreempt_master_that_hung_does_not_fight(self) -> None:
        with Lab("a", "b") as lab:
            ours = lab.vrrpd("a", conf(150, instance_extra="nopreempt"))
            lab.until(lambda: is_in(ours, "MASTER"))
            lab.keepalived("b", conf(100))
            time.sleep(1)
            assert not lab.nodes["b"].holds(VIP)
            ours.signal_all(signal.SIGSTOP)
            lab.until(lambda: lab.nodes["b"].holds(VIP))
            time.sleep(1)
            ours.signal_all(signal.SIGCONT)
            lab.until(lambda: is_in(ours, "BACKUP") and not lab.nodes["a"].holds(VIP))
            lab.always(lambda: lab.nodes["b"].holds(VIP), 1)


class TestHeal:
    def test_the_winner_always_announces_after_a_split(self) -> None:
        """Whoever hears the other first: the switch drops protocol 112 and lets it pass again at moments that fall into any phase."""
        rules = "table bridge t {\n chain c {\n type filter hook forward priority 0; ip protocol 112 drop\n }\n}\n"
        with Lab("a", "b") as lab:
            first, second = lab.vrrpd("a", conf(150)), lab.vrrpd("b", conf(100))
            lab.until(lambda: is_in(first, "MASTER") and is_in(second, "BACKUP"))
            for phase in range(6):
                subprocess.run(["ip", "netns", "exec", lab.switch, "nft", "-f", "-"], input=rules, text=True, check=True, timeout=20)
                lab.until(lambda: is_in(second, "MASTER"), what="the split")
                time.sleep(1.2 + phase * 0.017)
                capture = lab.capture()
                heal = "delete table bridge t\n"
                subprocess.run(["ip", "netns", "exec", lab.switch, "nft", "-f", "-"], input=heal, text=True, check=True, timeout=20)
                lab.until(lambda: is_in(second, "BACKUP"))
                lab.until(lambda c=capture: c.read() is not None and garps(c.frames, "p1") >= 1, 3)  # type: ignore[misc]
                assert is_in(first, "MASTER")

    def test_address_that_somebody_removed_is_put_back_and_announced(self) -> None:
        with Lab("a") as lab:
            ours = lab.vrrpd("a", conf(150))
            lab.until(lambda: lab.nodes["a"].holds(VIP))
            time.sleep(0.3)
            capture = lab.capture()
            lab.nodes["a"].run("ip", "addr", "del", f"{VIP}/24", "dev", "eth0")
            lab.until(lambda: lab.nodes["a"].holds(VIP), 2)
            lab.until(lambda: capture.read() is not None and garps(capture.frames, "p1") >= 5, 2)
            assert is_in(ours, "MASTER")
            assert zeroes(capture.frames, "p1") == 0

    def test_own_firewall_is_named(self) -> None:
        with Lab("a") as lab:
            ours = lab.vrrpd("a", conf(150))
            lab.until(lambda: is_in(ours, "MASTER"))
            lab.nodes["a"].nft("table ip t {\n chain c {\n type filter hook output priority 0; ip protocol 112 drop\n }\n}\n")
            lab.until(lambda: instance(ours)["egress_errors"].get("EPERM", 0) > 2)
            assert is_in(ours, "MASTER")


@pytest.mark.shows("vrrp_sync_group", "vrrp_sync_group/group", "vrrp_sync_group/notify")
def test_sync_group_moves_together() -> None:
    text = """
vrrp_sync_group G {{
    group {{
        V1
        V2
    }}
    notify "{notify}" root
}}
{first}
vrrp_instance V2 {{
    interface second0
    virtual_router_id 52
    priority {priority}
    advert_int 0.1
    virtual_ipaddress {{
        10.78.0.100/24
    }}
}}
"""
    with Lab("a", "b") as lab:
        os.chmod(lab.directory, 0o755)
        out = lab.directory / "out"
        every = script(lab.directory / "every", f'echo "$@" >> {out}')
        for number, node in enumerate(lab.nodes.values(), 1):
            switch_port = f"q{number}"
            lab_ip = ["ip", "link", "add", switch_port, "netns", lab.switch, "type", "veth", "peer", "name", "second0", "netns"]
            subprocess.run([*lab_ip, node.namespace], check=True, timeout=20)
            subprocess.run(["ip", "-n", lab.switch, "link", "set", switch_port, "up"], check=True, timeout=20)
            node.run("ip", "link", "set", "second0", "up")
            node.run("ip", "addr", "add", f"10.78.0.{number}/24", "dev", "second0")
        subprocess.run(["ip", "-n", lab.switch, "link", "add", "br1", "type", "bridge", "mcast_snooping", "0"], check=True, timeout=20)
        subprocess.run(["ip", "-n", lab.switch, "link", "set", "br1", "up"], check=True, timeout=20)
        for port in ("q1", "q2"):
            subprocess.run(["ip", "-n", lab.switch, "link", "set", port, "master", "br1"], check=True, timeout=20)
        ours = lab.vrrpd("a", text.format(notify=every, first=conf(150), priority=150))
        lab.keepalived("b", text.format(notify="/bin/true", first=conf(100), priority=100))

        def owner(name: str) -> tuple[bool, bool]:
            return lab.nodes[name].holds(VIP), lab.nodes[name].holds("10.78.0.100", "second0")

        lab.until(lambda: owner("a") == (True, True) and owner("b") == (False, False))
        subprocess.run(["ip", "-n", lab.switch, "link", "set", "q1", "down"], check=True, timeout=20)
        lab.until(lambda: owner("a") == (False, False) and owner("b") == (True, True), what="one link down moves both")
        subprocess.run(["ip", "-n", lab.switch, "link", "set", "q1", "up"], check=True, timeout=20)
        lab.until(lambda: owner("a") == (True, True) and owner("b") == (False, False))
        ours.stop()
        lines = out.read_text().splitlines()
        assert lines == [f"GROUP G {state} 0" for state in ("BACKUP", "MASTER", "FAULT", "BACKUP", "MASTER", "STOP")]


@pytest.fixture(scope="module")
def shared_vrrpd() -> Any:
    with Lab("a") as lab:
        ours = lab.vrrpd("a", conf(150))
        lab.until(lambda: is_in(ours, "MASTER"))
        yield ours


def test_the_vrrp_process_keeps_only_two_capabilities(shared_vrrpd: Daemon) -> None:
    pid = int((shared_vrrpd.directory / "vrrp.pid").read_text())
    words = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert int(words["CapEff"], 16) == int(words["CapPrm"], 16) == 1 << 12 | 1 << 13


def test_second_daemon_with_the_same_pid_file_is_refused(shared_vrrpd: Daemon) -> None:
    with Lab("z") as lab:
        assert lab.vrrpd("z", conf(150), "-p", str(shared_vrrpd.directory / "pid")).process.wait(20) == 1
        stale = lab.directory / "stale"
        stale.write_text(f"{os.getpid()}\n")
        lab.vrrpd("z", conf(150), "-p", str(stale))
        lab.until(lambda: lab.nodes["z"].holds(VIP), what="a pid that was used again does not keep it from starting")
    assert is_in(shared_vrrpd, "MASTER")


def test_second_daemon_on_the_same_socket_is_refused(shared_vrrpd: Daemon) -> None:
    with Lab("z") as lab:
        second = lab.vrrpd("z", conf(150), "--run-dir", str(shared_vrrpd.directory / "run"))
        assert second.process.wait(20) == 1
    assert is_in(shared_vrrpd, "MASTER")
