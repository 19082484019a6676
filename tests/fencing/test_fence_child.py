"""Other people's programs: whatever they do, we are back in time and nothing of them is left."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

from base.clock import now_ns
from base.core import NS_PER_MS
from fencing.devices.child import MAX_OUTPUT_BYTES, run_child


def script(tmp_path: Path, body: str, name: str = "agent") -> str:
    path = tmp_path / name
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def python_script(tmp_path: Path, body: str) -> str:
    path = Path(script(tmp_path, ""))
    path.write_text(f"#!{sys.executable}\n{body}")
    return str(path)


def within(ms: int) -> int:
    return now_ns() + ms * NS_PER_MS


def left_over(marker: str) -> list[str]:
    """Command lines of living processes that contain ``marker``."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                line = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                state = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if marker in line and state != "Z":
                found.append(line)
    return found


def gone(marker: str) -> bool:
    for _ in range(50):
        if not left_over(marker):
            return True
        time.sleep(0.05)
    return False


def test_an_ordinary_program(tmp_path: Path):
    result = run_child([script(tmp_path, 'read line; echo "got $line"; echo oops >&2; exit 2')], b"action=off\n", within(10_000))
    assert (result.exit_code, result.stdout, result.stderr) == (2, "got action=off\n", "oops\n")
    assert not result.timed_out


def test_a_program_that_does_not_exist():
    result = run_child(["/nonexistent/agent"], b"", within(2_000))
    assert not result.started
    assert "/nonexistent/agent" in result.stderr


def test_a_hanging_program_and_its_children_are_killed_at_the_deadline(tmp_path: Path):
    marker = f"31{os.getpid()}"
    path = script(tmp_path, f"sleep {marker} &\nsleep {marker}\n")
    started_ns = now_ns()
    result = run_child([path], b"action=off\n", within(500))
    assert result.timed_out
    assert result.exit_code is None
    assert now_ns() - started_ns < 5_000 * NS_PER_MS
    assert gone(f"sleep {marker}")


def test_a_program_that_ignores_sigterm_is_killed(tmp_path: Path):
    path = script(tmp_path, "trap '' TERM INT HUP\nwhile :; do sleep 0.1; done\n")
    assert run_child([path], b"x", within(400)).timed_out
    assert gone(path)


def test_ten_megabytes_are_read_but_not_kept(tmp_path: Path):
    result = run_child([script(tmp_path, "head -c 10000000 /dev/zero | tr '\\0' x; exit 0")], b"", within(30_000))
    assert result.exit_code == 0
    assert len(result.stdout) == MAX_OUTPUT_BYTES


def test_endless_output_ends_at_the_deadline(tmp_path: Path):
    result = run_child([script(tmp_path, "yes brainctl-endless")], b"", within(700))
    assert result.timed_out
    assert len(result.stdout) == MAX_OUTPUT_BYTES
    assert gone("brainctl-endless")


def test_a_child_that_keeps_the_pipe_delays_nobody(tmp_path: Path):
    marker = f"32{os.getpid()}"
    started_ns = now_ns()
    result = run_child([script(tmp_path, f"sleep {marker} &\necho done\nexit 0\n")], b"", within(30_000))
    assert (result.exit_code, result.stdout) == (0, "done\n")
    assert now_ns() - started_ns < 5_000 * NS_PER_MS
    assert gone(f"sleep {marker}")


def test_a_child_that_left_the_group_is_found_too(tmp_path: Path):
    marker = f"33{os.getpid()}"
    result = run_child([script(tmp_path, f"setsid sleep {marker} &\nsleep 0.3\nexit 0\n")], b"", within(30_000))
    assert result.exit_code == 0
    assert gone(f"sleep {marker}")


def test_a_program_killed_by_a_signal_says_which(tmp_path: Path):
    result = run_child([script(tmp_path, "kill -SEGV $$")], b"", within(10_000))
    assert (result.exit_code, result.killed_by) == (None, 11)


def test_a_program_that_reads_nothing_and_a_large_input(tmp_path: Path):
    result = run_child([script(tmp_path, "exit 0")], b"x" * 1_000_000, within(10_000))
    assert result.exit_code == 0


def test_our_environment_is_not_handed_on(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("BRAINCTL_TEST_TOKEN", "hunter2")
    assert "hunter2" not in run_child([script(tmp_path, "env")], b"", within(10_000)).stdout


def test_many_at_once_do_not_disturb_each_other(tmp_path: Path):
    path = script(tmp_path, "cat; exit 2")
    results: dict[int, str] = {}

    def one(n: int) -> None:
        results[n] = run_child([path], f"n={n}\n".encode(), within(30_000)).stdout

    threads = [threading.Thread(target=one, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: f"n={n}\n" for n in range(12)}


def test_a_grandchild_that_left_group_and_environment_dies_with_the_run_in_a_reaper(tmp_path: Path):
    """D16: own session, empty environment, pipes closed: only its parenthood is left, and the runner is its heir."""
    pid_file = tmp_path / "pid"
    path = python_script(
        tmp_path,
        "import os, sys, time\n"
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork():\n        os._exit(0)\n    for n in (0, 1, 2):\n        os.close(n)\n"
        f"    os.execve(sys.executable, ['left-behind', '-c', \"import os,time; open({str(pid_file)!r},'w').write(str(os.getpid()));"
        ' time.sleep(60)"], {})\n'
        f"while not os.path.exists({str(pid_file)!r}):\n    time.sleep(0.01)\n",
    )
    code = (
        "import sys\nfrom base.clock import now_ns\nfrom fencing.devices.child import become_reaper, run_child\n"
        "become_reaper()\nprint(run_child([sys.argv[1]], b'', now_ns() + 10_000_000_000).exit_code)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code, path], cwd=root, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "0\n", done.stderr
    assert not Path(f"/proc/{int(pid_file.read_text())}").exists()
