"""What an operator's scripts and monitoring see of the daemon: names of processes, pid files, dumps, scripts around the daemon, signals.

Where keepalived 2.2.7 knows it, the same test runs with it. /run/keepalived and /etc/group are the test's own (a mount namespace).
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.lab import ROOT, Daemon, Lab
from tests.listener import Listener
from tests.vrrp.interop.test_vrrpd_features import rewrite, script
from tests.vrrp.interop.vrrp_conf import VIP, conf
from tests.vrrp.interop.vrrpd_status import instance, is_in

pytestmark = pytest.mark.system
BOTH = pytest.mark.parametrize("ours", [True, False], ids=["vrrpd", "keepalived"])
OTHER = "10.77.0.111"
OWN_DEV = (
    "mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/urandom c 1 9; mknod -m 666 /dev/random c 1 8; "
    'ln -s "$0/syslog" /dev/log; exec "$@"'
)
"""So that syslog(3) speaks to a socket of the test."""
PREPARE = 'mkdir -p /run/keepalived; mount -t tmpfs none /run/keepalived; mount --bind "$0/group" /etc/group; exec "$@"'


def launch(
    lab: Lab,
    text: str,
    *options: str,
    ours: bool = True,
    node: str = "a",
    env: tuple[str, ...] = (),
    home: Path | None = None,
    prepare: str = PREPARE,
) -> Daemon:
    """Without pid files on the command line; dumps go to the daemon's directory."""
    home = home or lab.home(node)
    lab.directory.chmod(0o755)
    home.chmod(0o755)
    (home / "conf").write_text(text)
    (home / "group").write_text("root:x:0:\nnogroup:x:65534:\ncdrom:x:24:nobody\n")
    program = [sys.executable, "-m", "vrrp.daemon", "--run-dir", f"{home}/run"] if ours else ["keepalived", "-G"]
    environment = ["env", f"PYTHONPATH={ROOT}", f"TMPDIR={home}", *env]
    return lab.start(node, [*environment, "sh", "-c", prepare, str(home), *program, "-n", "-D", "-f", f"{home}/conf", *options], home)


def comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def pids_in(daemon: Daemon) -> dict[str, int]:
    """The pid files in the daemon's own /run/keepalived."""
    directory = Path(f"/proc/{daemon.pid}/root/run/keepalived")
    return {path.name: int(path.read_text()) for path in directory.glob("*.pid")} if directory.exists() else {}


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.shows("instance", "use_pid_dir", "global_defs/process_names", "global_defs/data_use_instance", "global_defs/umask")
@pytest.mark.shows("global_defs/startup_script", "global_defs/shutdown_script", "global_defs/disable_local_igmp")
@pytest.mark.shows("global_defs/startup_script_timeout", "global_defs/config_save_dir", "global_defs/reload_file")
@BOTH
def test_a_daemon_with_a_name(ours: bool) -> None:
    igmp = ("sysctl", "-n", "net.ipv4.igmp_link_local_mcast_reports")
    with Lab("a") as lab:
        node, out, saved, marker = lab.nodes["a"], lab.directory / "out", lab.directory / "saved", lab.directory / "marker"
        say = script(
            lab.directory / "say", f'ip addr show dev eth0 | grep -c " {VIP}/" | xargs echo "$1" >> {out}\n[ "$1" = stay ] && sleep 60'
        )
        defs = f"process_names\ndata_use_instance\numask 0137\ndisable_local_igmp\nconfig_save_dir {saved}\nreload_file {marker}\n"
        defs += f'startup_script "{say} stay" root\nstartup_script_timeout 1\nshutdown_script "{say} down" root'
        daemon = launch(lab, "instance foo\nuse_pid_dir\n" + conf(150, global_extra=defs), ours=ours)
        lab.until(lambda: node.holds(VIP))
        assert lines(out) == ["stay 0"], "ended by its timeout, before anything else began"
        found = pids_in(daemon)
        assert {name: comm(pid) for name, pid in found.items()} == {"keepalived_foo.pid": "keepalived", "vrrp_foo.pid": "keepalived_vrrp"}
        assert node.run(*igmp).strip() == "0"
        daemon.signal(signal.SIGUSR1)
        dump = daemon.directory / "keepalived.foo.data"
        lab.until(lambda: dump.exists() and " VRRP Instance = V1" in lines(dump))
        assert dump.stat().st_mode & 0o777 == 0o640
        marker.write_text("somebody edits the configuration")
        rewrite(daemon, (daemon.directory / "conf").read_text().replace(f"{VIP}/24", f"{VIP}/24\n{OTHER}/24"))
        lab.until(lambda: node.holds(OTHER))
        assert not marker.exists(), "everything was read"
        lab.until(
            lambda: (
                {re.sub(r"\d{2,}", "PID", path.name) for path in saved.iterdir()} >= {f"keepalived_vrrp.PID.1.{w}" for w in ("pre", "post")}
            )
        )
        before, after = (next(saved.glob(f"keepalived_vrrp.*.1.{word}")).read_text() for word in ("pre", "post"))
        assert OTHER not in before and OTHER in after
        assert daemon.stop() == 0
        assert lines(out) == ["stay 0", "down 0"], "the addresses are gone when the last script runs"
        assert node.run(*igmp).strip() == "1"


@pytest.mark.shows(
    "global_defs/process_name", "global_defs/vrrp_process_name", "global_defs/bfd_process_name", "global_defs/shutdown_script_timeout"
)
@pytest.mark.shows("global_defs/vrrp_rlimit_rttime", "global_defs/bfd_rlimit_rttime", "use_pid_dir")
@pytest.mark.shows("global_defs/vrrp_rlimit_rtime", "global_defs/bfd_rlimit_rtime")
@pytest.mark.shows("global_defs/checker_process_name", "global_defs/lvs_process_name")
@pytest.mark.parametrize(
    ("ours", "limit", "checker"),
    [(True, "rlimit_rttime", "checker_process_name"), (True, "rlimit_rtime", "lvs_process_name"), (False, "rlimit_rttime", "")],
)
def test_names_one_by_one(ours: bool, limit: str, checker: str) -> None:
    """keepalived runs no checkers here: this kernel has no IPVS."""
    bfd = "bfd_instance peer {\n neighbor_ip 10.77.0.2\n source_ip 10.77.0.1\n}"
    defs = "process_name p0\nvrrp_process_name p1\nbfd_process_name p2\nvrrp_rt_priority 11\nbfd_rt_priority 12\n"
    defs += f'vrrp_{limit} 700000\nbfd_{limit} 800000\nshutdown_script "/bin/sleep 60"\nshutdown_script_timeout 1'
    names = {"keepalived.pid": "p0", "vrrp.pid": "p1", "bfd.pid": "p2"}
    if checker:
        defs += f"\n{checker} p3"
        bfd += "\nvirtual_server 10.77.0.99 80 {\n lvs_sched rr\n protocol TCP\n real_server 10.77.0.1 9 {\n  weight 1\n }\n}"
        names["checkers.pid"] = "p3"
    with Lab("a") as lab:
        daemon = launch(lab, "use_pid_dir\n" + conf(150, global_extra=defs, blocks=bfd), ours=ours)
        lab.until(lambda: lab.nodes["a"].holds(VIP))
        found = pids_in(daemon)
        lab.until(lambda: {name: comm(pid) for name, pid in found.items()} == names)
        for name, value in (("vrrp", 700_000), ("bfd", 800_000)):
            limits = Path(f"/proc/{found[f'{name}.pid']}/limits").read_text()
            assert re.search(rf"Max realtime timeout +\d+ +{value} ", limits), "the hard limit; keepalived's soft one is half of it"
        begin = time.monotonic()
        daemon.process.terminate()
        assert daemon.process.wait(20) == 0
        assert time.monotonic() - begin >= 0.9, "the script had its second, and no minute"


@pytest.mark.shows("global_defs/set_supplementary_groups", "global_defs/use_symlink_paths", "global_defs/vrrp_delay_after_boot")
@pytest.mark.shows("global_defs/state_dump_file", "global_defs/stats_dump_file", "global_defs/json_dump_file", "global_defs/json_version")
@pytest.mark.shows("global_defs/reload_time_file", "global_defs/reload_repeat")
def test_what_only_newer_keepaliveds_know_and_a_reload_by_the_clock() -> None:
    with Lab("a") as lab:
        node, out, due = lab.nodes["a"], lab.directory / "out", lab.directory / "due"
        out.touch()
        out.chmod(0o666)
        real = script(lab.directory / "real", f'echo "$(basename $0) $(id -G)" >> {out}')
        os.symlink(real, lab.directory / "link")
        dumps = lab.directory / "dumps"
        dumps.mkdir()
        up_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        defs = (
            f"reload_time_file {due}\nstate_dump_file {dumps}/\nstats_dump_file {dumps}/numbers\njson_dump_file own.json\njson_version 2\n"
        )
        defs += f"vrrp_delay_after_boot {up_s + 3:.2f}\n"
        notify = f'notify_master "{lab.directory}/link" nobody'
        ours = launch(lab, conf(150, global_extra=defs, instance=notify, password="secret1"))
        lab.until(lambda: node.holds(VIP))
        assert time.clock_gettime(time.CLOCK_BOOTTIME) >= up_s + 3
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGRTMIN + 2):
            ours.signal(number)
        made = [dumps / "keepalived.data", dumps / "numbers", ours.directory / "own.json"]
        lab.until(lambda: all(path.exists() for path in made))
        assert "secret1" not in "".join(path.read_text() for path in made)
        assert {path.stat().st_mode & 0o777 for path in made} == {0o600}
        assert json.loads(made[2].read_text())["vrrp"][0]["data"]["iname"] == "V1"
        # The next configuration waits for its time; of the two that the file gives the first is passed over.
        after = defs.replace(f"vrrp_delay_after_boot {up_s + 3:.2f}", "use_symlink_paths off\nset_supplementary_groups\nreload_repeat")
        (ours.directory / "conf").write_text(conf(150, global_extra=after, instance=notify, vip=f"{VIP}/24\n{OTHER}/24"))
        due.write_text("2001-02-03 04:05:06Z\n")
        time.sleep(1.2)
        moment = time.time() + 3
        due.write_text(time.strftime("%Y-%m-%d %H:%M:%SZ\n", time.gmtime(moment)))
        lab.always(lambda: not node.holds(OTHER), max(0.0, int(moment) - time.time() - 0.1), "not before its time")
        lab.until(lambda: node.holds(OTHER))
        lab.until(lambda: not due.exists())
        # With reload_repeat a time of day stays in the file.
        (ours.directory / "conf").write_text(conf(150, global_extra=after, instance=notify))
        due.write_text(time.strftime("%H:%M:%SZ\n", time.gmtime(time.time() + 2)))
        lab.until(lambda: not node.holds(OTHER))
        lab.always(due.exists, 0.5)
        ip_down, ip_up = (("ip", "link", "set", "eth0", word) for word in ("down", "up"))
        node.run(*ip_down)
        lab.until(lambda: is_in(ours, "FAULT"))
        node.run(*ip_up)
        lab.until(lambda: lines(out) == ["link 65534", "real 65534 24"])


DUMPED = """
vrrp_script s {
    script "/usr/bin/true"
    interval 1
    timeout 1
    weight 3
}
track_file f {
    file %s
    weight 2
}
static_ipaddress {
    10.88.0.9/32 dev eth0
}
vrrp_sync_group G {
    group {
        V1
        V2
    }
    sync_group_tracking_weight
    notify "/usr/bin/true g"
}
vrrp_instance V3 {
    interface eth0
    virtual_router_id 53
    priority 100
    advert_int 0.1
    higher_prio_send_advert on
    use_vmac
    vmac_xmit_base
    virtual_ipaddress {
        10.77.0.120
    }
}
vrrp_instance V2 {
    interface eth0
    virtual_router_id 52
    priority 100
    advert_int 0.1
    higher_prio_send_advert on
    unicast_src_ip %s
    unicast_peer {
        10.77.0.9
    }
    check_unicast_src on
    virtual_ipaddress {
        10.77.0.110
    }
}
"""
CHANGING = ("Last transition", "Read timeout", "Sent", "Timeout")
"""Lines whose values are of the moment (and keepalived's Timeout, which is 0 for one that is left out)."""
OF_KEEPALIVEDS_MEMORY = ("fd_in", "State = idle", "Tracking instances")


def topology(path: Path) -> list[str]:
    """The lines of a dump from the static addresses on, without what only keepalived has, and values of the moment."""
    found: list[str] = []
    kept = False
    for line in lines(path):
        if line.startswith("------<"):
            kept = line not in ("------< Global definitions >------", "------< VRRP Sockpool >------", "------< Interfaces >------")
            continue
        words = line.strip()
        if not kept or words.startswith(OF_KEEPALIVEDS_MEMORY):
            continue
        found.append(line.partition("=")[0] if words.startswith(CHANGING) else line)
    return found


def changed(values: dict[str, object]) -> dict[str, object]:
    return {
        name: value for name, value in values.items() if name not in ("last_transition", "advert_sent") and not name.startswith("auth_ext")
    }


def test_dumps_are_keepaliveds_line_by_line() -> None:
    """The same file on the same node, one daemon after the other: keepalived.data, keepalived.stats and keepalived.json; then the
    statistics count anew."""
    with Lab("a") as lab:
        node, number = lab.nodes["a"], lab.directory / "number"
        number.write_text("2\n")
        extra = 'higher_prio_send_advert on\ntrack_script {\ns\n}\ntrack_file {\nf weight 1 reverse\n}\nnotify_master "/usr/bin/true m"'
        vips = f"{VIP}/24\n10.77.0.101/24 brd + label eth0:x\n}}\nvirtual_ipaddress_excluded {{\n10.78.0.100/32"
        text = conf(150, instance=extra, vip=vips, blocks=DUMPED % (number, node.address))
        texts: list[list[str]] = []
        data: list[list[dict[str, object]]] = []
        for ours in (True, False):
            daemon = launch(lab, text, ours=ours)
            lab.until(lambda: node.holds(VIP) and node.holds("10.77.0.110") and node.holds("10.77.0.120", "vrrp.53"))
            names = ("keepalived.data", "keepalived.stats", "keepalived.json")
            paths = [daemon.directory / name for name in names]
            for signum, path in zip((signal.SIGUSR1, signal.SIGUSR2, signal.SIGRTMIN + 2), paths, strict=True):
                daemon.signal(signum)
                lab.until(path.exists)
                lab.until(lambda path=path: path.read_text() != "")  # type: ignore[misc]
                time.sleep(0.2)  # keepalived writes its files piece by piece
            texts.append([*topology(paths[0]), *(line for line in lines(paths[1]) if "Sent" not in line)])
            data.append(
                [
                    changed({**i["data"], **i["stats"]})
                    for i in sorted(json.loads(paths[2].read_text()), key=lambda i: str(i["data"]["iname"]))
                ]
            )
            transition = json.loads(paths[2].read_text())[0]["data"]["last_transition"]
            assert abs(transition - time.time()) < 60, "seconds since 1970"
            daemon.signal(signal.SIGRTMAX - 1)
            lab.until(lambda: "  Became master: 1" in lines(paths[1]))  # noqa: B023
            time.sleep(0.5)
            daemon.signal(signal.SIGUSR2)
            lab.until(lambda: "  Became master: 0" in lines(paths[1]))  # noqa: B023
            daemon.stop()
        assert sorted(texts[0]) == sorted(texts[1])
        assert data[0] == data[1]


@pytest.mark.shows("track_group", "track_group/group")
@BOTH
def test_instances_follow_the_static_entries_of_their_group(ours: bool) -> None:
    with Lab("a") as lab:
        node = lab.nodes["a"]
        node.run("ip", "link", "add", "x0", "type", "veth", "peer", "name", "x1")
        for name in ("x0", "x1"):
            node.run("ip", "link", "set", name, "up")
        statics = "track_group TG {\ngroup {\nV1\n}\n}\nstatic_ipaddress {\n10.88.0.9/24 dev x0 track_group TG\n}\n"
        statics += "static_routes {\n10.99.0.0/24 via 10.88.0.1 dev x0 track_group TG\n}\n"
        daemon = launch(lab, conf(150, blocks=statics), ours=ours)

        def route() -> str:
            return node.run("ip", "route", "show", "10.99.0.0/24").strip()

        lab.until(lambda: node.holds(VIP) and node.holds("10.88.0.9", "x0") and route() != "")
        node.run("ip", "route", "del", "10.99.0.0/24")
        lab.until(lambda: route() != "", what="put back")
        assert node.holds(VIP)
        node.run("ip", "link", "set", "x0", "down")
        lab.until(lambda: not node.holds(VIP), what="FAULT")
        node.run("ip", "link", "set", "x0", "up")
        lab.until(lambda: node.holds(VIP) and route() != "", what="and back, with the route")
        if not ours:
            return
        # What keepalived's manual promises and only vrrpd does: an entry that cannot be put back is a FAULT.
        rewrite(daemon, conf(150, blocks=statics.replace("via 10.88.0.1", "via 10.55.0.1")))
        lab.until(lambda: instance(daemon).get("faults") == ["static entry of track_group TG"] and not node.holds(VIP))
        rewrite(daemon, conf(150, blocks=statics))
        lab.until(lambda: node.holds(VIP) and instance(daemon)["faults"] == [])


def test_systemd_hears_of_start_reload_hang_and_stop_and_the_log_goes_where_it_should() -> None:
    with Lab("a") as lab:
        home = lab.home("a")
        manager, syslog = Listener(lab.directory / "notify"), Listener(home / "syslog")
        env = (f"NOTIFY_SOCKET={lab.directory}/notify", "WATCHDOG_USEC=2000000")
        options = ("--log-json", "-g", f"{home}/own.log", "-S", "3")
        ours = launch(lab, conf(150), *options, env=env, home=home, prepare=OWN_DEV)
        lab.until(lambda: "READY=1" in manager.read() and is_in(ours, "MASTER"))
        lab.until(lambda: manager.read().count("WATCHDOG=1") >= 2)
        assert "RELOADING=1" not in manager.heard
        del manager.heard[:]
        rewrite(ours, conf(150, vip=f"{OTHER}/24"))
        lab.until(lambda: "READY=1" in manager.read() and lab.nodes["a"].holds(OTHER))
        assert [word for word in manager.heard if word in ("RELOADING=1", "READY=1")] == ["RELOADING=1", "READY=1"]
        del manager.heard[:]
        rewrite(ours, "vrrp_instance V1 {\n")
        lab.until(lambda: "READY=1" in manager.read(), what="also after a reload that was refused")
        child = int((ours.directory / "run" / "vrrpd_vrrp.pid").read_text())
        os.kill(child, signal.SIGSTOP)
        time.sleep(0.6)
        manager.read()
        del manager.heard[:]
        lab.always(lambda: "WATCHDOG=1" not in manager.read(), 1.5, "the parent alone does not feed the watchdog")
        os.kill(child, signal.SIGCONT)
        lab.until(lambda: "WATCHDOG=1" in manager.read())
        assert ours.stop() == 0
        assert "STOPPING=1" in manager.read()
        entries = [json.loads(line) for line in lines(home / "own.log")]
        assert {entry["name"] for entry in entries} >= {"vrrpd", "vrrpd-vrrp"}
        priorities = {int(found[1]) >> 3 for line in syslog.read() if (found := re.match(r"<(\d+)>", line))}
        assert priorities == {16 + 3}, "the facility local3"
        manager.close()
        syslog.close()
