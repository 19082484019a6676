"""Mail about real servers and services, and lines of the FIFO: the same from vrrpd and Debian's keepalived, in the same order.

Runs in the lab's guest: see tests/guest.py.
"""

from __future__ import annotations

import os
import re
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.vrrp.lvs.guest_snmp import keepalived
from tests.vrrp.outside.test_mail_beside_keepalived import Mailbox

PORT = 12525
BESIDE = "virtual_server group g {\n lb_algo rr\n lb_kind NAT\n protocol UDP\n smtp_alert\n real_server 127.0.0.7 80 {\n weight 1\n }\n}\n"
"""The first virtual server of a group: what the other one is called counts from it."""


def configuration(extra: str, fifo: Path, head: str, group: str) -> str:
    check = "TCP_CHECK {{\n connect_port {}\n connect_timeout 2\n retry 0\n warmup 0\n }}\n"
    return (
        f"global_defs {{\n router_id orc\n script_user root\n notification_email {{\n a@example.net\n }}\n"
        f" notification_email_from v@example.net\n smtp_server 127.0.0.1 {PORT}\n"
        f" lvs_notify_fifo {fifo}\n {extra}\n}}\n{group}virtual_server {head} {{\n delay_loop 1\n lb_algo rr\n lb_kind NAT\n protocol TCP\n"
        f" smtp_alert\n real_server 127.0.0.1 8080 {{\n {check.format(8080)} {check.format(8081)} }}\n}}\n"
    )


@pytest.mark.shows("global_defs/no_checker_emails", "virtual_server/smtp_alert", "virtual_server/real_server/smtp_alert")
@pytest.mark.parametrize(
    ("extra", "head", "group"),
    [
        ("", "10.9.0.1 80", ""),
        ("no_checker_emails", "10.9.0.1 80", ""),
        ("no_checker_emails", "fwmark 7", ""),
        ("no_checker_emails", "group g", "virtual_server_group g {\n 10.9.0.1 80\n}\n" + BESIDE),
    ],
)
def test_the_same_mail_and_lines(extra: str, head: str, group: str, tmp_path: Path) -> None:
    """Both live through the same at the same time."""
    with Lab("a", "b") as lab, ExitStack() as stack:
        boxes, readers, ports, daemons = {}, {}, {}, {}
        for node in ("a", "b"):
            boxes[node], fifo = Mailbox(), tmp_path / f"fifo-{node}"
            os.mkfifo(fifo)
            readers[node] = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
            stack.callback(os.close, readers[node])
            stack.enter_context(boxes[node].listening(lab.nodes[node], PORT))
            for port in (8080, 8081):
                ports[node, port] = stack.enter_context(lab.nodes[node].socket(socket.AF_INET, socket.SOCK_STREAM))
                ports[node, port].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                ports[node, port].bind(("127.0.0.1", port))
                ports[node, port].listen(50)
            text = configuration(extra, fifo, head, group)
            daemons[node] = keepalived(lab, node, text) if node == "a" else lab.vrrpd(node, text, "-C")
        lab.until(lambda: "Startup complete" in daemons["a"].text() and "success" in daemons["a"].text(), 30)
        lab.until((daemons["b"].directory / "run/vrrpd-lvs.sock").exists, 40)
        lab.always(lambda: True, 3)
        for node in ("a", "b"):
            ports[node, 8080].close()
        lab.until(lambda: all(any("Virtualserver" in each and "DOWN" in each for each in box.subjects()) for box in boxes.values()), 30)
        for node in ("a", "b"):
            ports[node, 8081].close()
        lab.always(lambda: True, 4)
        found = []
        for node in ("a", "b"):
            daemons[node].stop()
            subjects = [re.sub(r"\r?\n\s+", " ", subject) for subject in boxes[node].subjects()]  # long ones come folded
            found.append((subjects, os.read(readers[node], 65536)))
    theirs, ours = found
    assert ours[1] == theirs[1]
    assert sorted(ours[0]) == sorted(theirs[0])
