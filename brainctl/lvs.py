"""Virtual servers of vrrpd: who takes traffic, why the others do not, and a server taken out by hand.

brainctl lvs                                          services, real servers, every checker with its last answer
brainctl lvs 10.0.0.9                                 only services of which this is a part of the name
brainctl lvs drain 10.0.0.9:80 192.0.2.1 --why disk   no new connections; stays so over reload and restart
brainctl lvs undrain 10.0.0.9:80 192.0.2.1

Exit status, as Nagios expects: 0 OK, 1 warning (a server is down or drained, IPVS was repaired within the hour),
2 critical (a service lost its quorum, IPVS cannot be set), 3 unknown (no answer).
"""

from __future__ import annotations

import argparse
import json
import os
import re
from typing import Any

from base.control import ControlClient, RequestError
from brainctl.options import add_common
from brainctl.output import age, complain, paint, table
from brainctl.status import CRITICAL, OK, UNKNOWN, WARNING, Document, word_of

RECENT_NS = 3600 * 10**9
_NAME = re.compile(r"\[(?P<address>[^]]+)\]:(?P<protocol>\w+):(?P<port>\d+)")


class Unclear(Exception):
    """A name that fits no service or server, or several."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``brainctl lvs``."""
    parser.add_argument("words", nargs="*", metavar="[drain|undrain] [SERVICE [SERVER]]", help="what to show, or to take out")
    parser.add_argument("--why", default="", help="goes into status and record with a drain")
    parser.add_argument("--brief", action="store_true", help="no line per checker")
    add_common(parser, config=False)


def run(args: argparse.Namespace) -> int:
    """Show, drain or undrain."""
    path = os.path.join(args.run_dir, "vrrpd-lvs.sock")
    acts = bool(args.words) and args.words[0] in ("drain", "undrain")
    if (acts and len(args.words) != 3) or (not acts and len(args.words) > 1):
        complain("this is no order", "write: lvs [SERVICE], lvs drain SERVICE SERVER or lvs undrain SERVICE SERVER", as_json=args.json)
        return UNKNOWN
    try:
        with ControlClient(path) as client:
            status, services = client.call("status"), read_services(client)
            if acts:
                return _act(client, args, services)
    except Unclear as error:
        complain(str(error), as_json=args.json)
        return UNKNOWN
    except RequestError as error:
        complain(f"refused: {error.where}: {error.code}", error.remedy, as_json=args.json)
        return CRITICAL
    except OSError as error:
        complain(f"vrrpd has no virtual servers, or does not run: no answer on {path}: {error}", as_json=args.json)
        return UNKNOWN
    wanted = [service for service in services if not args.words or args.words[0] in (service["id"], *spellings(service["id"]))]
    if args.words and not wanted:
        wanted = [service for service in services if args.words[0] in service["id"]]
    code, problems = grade(status, wanted)
    if args.json:
        print(json.dumps({"exit": code, "word": word_of(code)[0], "problems": problems, **status, "services": wanted}))
    else:
        print(render(status, wanted, code, problems, brief=args.brief))
    return code


def read_services(client: ControlClient) -> list[Document]:
    """Every virtual server, gathered page by page; one that is spread over pages is put together again."""
    found: dict[str, Document] = {}
    skip: int | None = 0
    while skip is not None:
        page = client.call("services", skip=skip)
        for service in page["services"]:
            if service["id"] in found:
                found[service["id"]]["real_servers"] += service["real_servers"]
            else:
                found[service["id"]] = service
        skip = page["next"]
    return list(found.values())


# ---- drain ------------------------------------------------------------------------------------------------------------


def spellings(name: str) -> set[str]:
    """How people write ``[192.0.2.9]:tcp:80``: with and without port and protocol. Other names have one spelling."""
    match = _NAME.fullmatch(name)
    if match is None:
        return {name}
    address, port = match["address"], match["port"]
    host = f"[{address}]" if ":" in address else address
    return {name, address, host, f"{host}:{port}", f"{host}:{port}/{match['protocol']}"}


def pick(word: str, names: list[str], what: str) -> str:
    """The one name that ``word`` means; raises Unclear."""
    fitting = [name for name in names if word == name] or [name for name in names if word in spellings(name)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise Unclear(f"'{word}' may be {' or '.join(fitting[:5])}: write the whole name")
    raise Unclear(f"there is no {what} '{word}'; there are: {', '.join(names[:10]) or 'none'}")


def _act(client: ControlClient, args: argparse.Namespace, services: list[Document]) -> int:
    op = args.words[0]
    service = pick(args.words[1], [each["id"] for each in services], "service")
    (chosen,) = (each for each in services if each["id"] == service)
    server = pick(args.words[2], [each["id"] for each in chosen["real_servers"]], f"server of {service}")
    answer = client.call(op, service=service, server=server, note=args.why)
    if args.json:
        print(json.dumps(answer))
    elif op == "drain":
        active = next(each["active"] for each in chosen["real_servers"] if each["id"] == server)
        back = f"brainctl lvs undrain '{service}' '{server}'"
        print(f"{server} of {service} takes no new connections; {active} still open. Back again: {back}")
    else:
        print(f"{server} of {service} takes connections again, as its checks allow")
    return OK


# ---- judging ----------------------------------------------------------------------------------------------------------


def grade(status: Document, services: list[Document]) -> tuple[int, list[str]]:
    """The exit status and every reason for it, worst first."""
    critical: list[str] = []
    warning: list[str] = []
    if status["kernel_problem"]:
        critical.append(f"IPVS: {status['kernel_problem']}")
    for service in services:
        if not service["quorum"]:
            instead = "; the sorry server stands in" if service["sorry_server"] else ""
            critical.append(f"{service['id']} has lost its quorum: weight {service['weight']} of {service['quorum_wanted']}{instead}")
        for server in service["real_servers"]:
            if not server["alive"] or server["drained"]:
                warning.append(f"{server['id']} of {service['id']}: {server['reason']}")
    repaired = [event for event in status["events"] if event["event"] == "repaired" and status["now_ns"] - event["at_ns"] < RECENT_NS]
    if repaired:
        ago = age((status["now_ns"] - repaired[-1]["at_ns"]) / 1e6)
        warning.append(f"somebody else changed IPVS {ago} ago; put right: {', '.join(repaired[-1]['changes'][:3])}")
    return CRITICAL if critical else WARNING if warning else OK, critical + warning


# ---- drawing ----------------------------------------------------------------------------------------------------------


def render(status: Document, services: list[Document], code: int, problems: list[str], *, brief: bool) -> str:
    """The whole page as text."""
    word, colour = word_of(code)
    count = sum(len(service["real_servers"]) for service in services)
    good = f"{len(services)} services, {count} real servers, all in order"
    parts = [f"{paint(word, colour)} lvs: {problems[0] if problems else good}"]
    parts += [f"  {paint('•', 'yellow')} {text}" for text in problems[1:]]
    for service in services:
        parts.append("")
        parts += _service(service, brief=brief)
    parts.append("")
    parts.append(f"  checker process {status['pid']}, {status['probes']} probes, {status['repairs']} repairs of IPVS{_sync(status)}")
    return "\n".join(parts)


def _sync(status: Document) -> str:
    daemons = [f"{daemon['role'].lower()} on {daemon['interface']} (id {daemon['sync_id']})" for daemon in status["sync_daemons"]]
    return f", connection sync: {', '.join(daemons)}" if daemons else ""


def _service(service: Document, *, brief: bool) -> list[str]:
    counters = service["counters"]
    quorum = paint("quorum", "green") if service["quorum"] else paint("no quorum", "red")
    where = "in IPVS" if service["in_kernel"] else paint(f"not in IPVS: {service['only_while_master']} is not MASTER here", "grey")
    more = f" and {service['listen_count'] - 1} more" if service["listen_count"] > 1 else ""
    suspended = paint("; checks suspended (ha_suspend)", "yellow") if service["suspended"] else ""
    head = (
        f"{paint(service['id'], 'bold')}{more}  {service['scheduler']} {service['method']}  {quorum} {service['weight']}/"
        f"{service['quorum_wanted']}, {where}{suspended}  {_rates(counters)}"
    )
    rows = []
    for server in service["real_servers"]:
        rows.append(_server_row(server))
        rows += [] if brief else [_checker_row(checker) for checker in server["checkers"]]
    if service["sorry"] is not None:
        rows.append(_sorry_row(service))
    return [head, table(rows, ("server", "state", "weight", "active", "inactive", "rates", "why"), "  ")]


def _server_row(server: Document) -> list[str]:
    if server["drained"]:
        state = paint("drained", "yellow")
    elif not server["alive"]:
        state = paint("down", "red")
    else:
        state = paint("in", "green") if server["in_pool"] else paint("out", "yellow")
    why = f"{server['reason']}{': ' + server['note'] if server['note'] else ''}"
    weight = str(server["weight"]) if server["in_pool"] else "–"
    return [server["id"], state, weight, str(server["active"]), str(server["inactive"]), _rates(server["counters"]), why]


def _checker_row(checker: Any) -> list[str]:
    state = paint("passes", "green") if checker["up"] else paint("fails", "red")
    tries = f" ({checker['failures']} failed in a row)" if checker.get("failures") else ""
    return [f"  {checker['id']}", state, "", "", "", "", f"{checker['reason']}{tries}"]


def _sorry_row(service: Document) -> list[str]:
    sorry = service["sorry"]
    name = f"{sorry['address']}:{sorry['port']}" if sorry["port"] else sorry["address"]
    state = paint("in", "yellow") if service["sorry_server"] else paint("waits", "grey")
    return [name, state, "", str(sorry["active"]), str(sorry["inactive"]), _rates(sorry["counters"]), "sorry server"]


def _rates(counters: Document) -> str:
    if not counters["connections"]:
        return "–"
    return (
        f"{counters['connections']} conns, {counters['connections_per_s']}/s, "
        f"{_bytes(counters['bytes_in_per_s'])}/s in {_bytes(counters['bytes_out_per_s'])}/s out"
    )


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.0f} TB"
