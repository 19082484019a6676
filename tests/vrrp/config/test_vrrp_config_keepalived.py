"""``vrrpd -t`` says the same as Debian's ``keepalived -t`` on a corpus of files: its own samples and ours, tutorials included."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.vrrp.config.reading import INTERFACES
from vrrp.commandline import Options
from vrrp.loading import judge

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

OURS = Path(__file__).parent / "corpus"
SAMPLES = Path("/usr/share/doc/keepalived/samples")

DIFFERENT = {
    "bad-missing-value": (2, 5, "keepalived exits at once with 2; we go on and find the other errors, too"),
    "bad-script-unquoted": (6, 5, "keepalived drops the arguments in silence and complains about security only"),
    "bad-lvs-mixed-families": (0, 5, "the kernel refuses the service, every time it is tried; keepalived tries"),
}
"""Status of keepalived, ours, and why they differ. Everything else is equal."""
DANGEROUS = {"bytes-bom-instance", "bytes-ideographic-space-auth", "bytes-ideographic-space-interval"}
"""keepalived runs without the router, without the password, with another interval: another cluster than the one on paper."""
DANGEROUS |= {"bytes-full-width-digits", "bytes-zero-width"}
"""A number that is none could have been any."""
RUNS = ("history-", "order-", "dynamic-", "bytes-", "lvs-quorum-")

FILES = {path.stem: path for path in sorted(OURS.glob("*.conf"))} | {
    path.name: path for path in sorted(SAMPLES.glob("keepalived.conf.*")) if path.suffix != ".gz"
}

SET_UP = """
set -e
ip link set lo up
for i in 0 1 2 3; do
    ip link add eth$i type veth peer name far$i
    ip link set far$i up
    ip link set eth$i up
    ip address add 192.168.20$i.1/24 dev eth$i
done
ip link add link eth0 name eth0.1 type vlan id 1 || ip link add eth0.1 type veth peer name far0.1
ip link set eth0.1 up
set +e
judge() { timeout 60 keepalived -t -l -f "$1" >/dev/null 2>&1; echo "status $1 $?"; }
export -f judge
printf '%s\\0' "$@" | xargs -0 -n 1 -P 4 bash -c 'judge "$0"'
"""


@pytest.fixture(scope="module")
def verdicts() -> dict[Path, int]:
    """What ``keepalived -t`` says to every file, in a network namespace with eth0 … eth3 and eth0.1."""
    assert shutil.which("keepalived"), "apt-get install keepalived"
    command = ["unshare", "--net", "bash", "-c", SET_UP, "corpus", *map(str, FILES.values())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return {Path(m[1]): int(m[2]) for m in re.finditer(r"^status (\S+) (\d+)$", done.stdout, re.MULTILINE)}


def test_the_corpus_is_what_it_claims() -> None:
    assert len(list(OURS.glob("*.conf"))) >= 60
    assert len([name for name in FILES if name.startswith("tutorial-")]) >= 8
    assert len([name for name in FILES if name.startswith("keepalived.conf.")]) >= 25
    assert DIFFERENT.keys() <= FILES.keys()


@pytest.mark.parametrize("name", list(FILES))
def test_the_same_verdict(name: str, verdicts: dict[Path, int]) -> None:
    verdict = judge(Options(config=str(FILES[name])), interface_exists=INTERFACES.__contains__)
    expected, ours, _ = DIFFERENT.get(name, (verdicts[FILES[name]], verdicts[FILES[name]], ""))
    assert verdicts[FILES[name]] == expected
    assert verdict.status == ours, "\n".join(verdict.lines)


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith(RUNS)])
def test_history_warns_and_danger_refuses(name: str) -> None:
    verdict = judge(Options(config=str(FILES[name])), interface_exists=INTERFACES.__contains__)
    assert ("refused" in verdict.lines[-1]) == (name in DANGEROUS), "\n".join(verdict.lines)
