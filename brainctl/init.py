"""Reads keepalived.conf and writes, into --out: brain.toml (commented), cluster.key (0600), keepalived-stanza.conf, firewall-NODE.nft,
braind.service (with --daemon vrrpd: vrrpd.service), tmpfiles.conf (the gate's directory).

Copy the same brain.toml and cluster.key to both nodes. Nothing is installed or restarted. The mode is observe until you change it.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
from dataclasses import dataclass
from ipaddress import ip_address

from base.diagnostics import ConfigError
from brainctl.local_network import LocalAddress, default_gateway, interface_towards, local_addresses
from brainctl.output import complain
from brainctl.stanza import firewall_rules, keepalived_stanza, tmpfiles, unit_file
from watchdog.config.load import parse_brain
from watchdog.config.model import GroupSettings, Mode
from watchdog.groups import LoadedGroups, read_groups

KEY_BYTES = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``brainctl init``."""
    parser.add_argument(
        "--from", dest="source", default="/etc/keepalived/keepalived.conf", help="keepalived.conf of this node (%(default)s)"
    )
    parser.add_argument("--out", default="/etc/brainctl", help="directory to write to (%(default)s)")
    parser.add_argument("--cluster", help="name of the pair (default: the router_id or the first instance's name)")
    parser.add_argument("--node", help="name of this node (default: its host name)")
    parser.add_argument("--peer", help="name of the other node (default: NODE-peer)")
    parser.add_argument(
        "--daemon", choices=("keepalived", "vrrpd"), default="keepalived", help="the VRRP daemon beside braind (%(default)s)"
    )
    parser.add_argument("--mode", choices=[m.value for m in Mode], default="observe", help="what braind may do (%(default)s)")
    parser.add_argument(
        "--heartbeat", metavar="IFACE=IP,PEER_IP", action="append", default=[], help="a second network between the nodes; repeat for more"
    )
    parser.add_argument("--serial", metavar="TTY", action="append", default=[], help="a serial line between the nodes, e.g. /dev/ttyS0")
    parser.add_argument(
        "--reference", metavar="IP", action="append", default=[], help="hosts that answer ARP (default: the default gateway)"
    )
    parser.add_argument(
        "--peer-address",
        metavar="IP",
        action="append",
        default=[],
        help="the peer's own address on the service network (default: unicast_peer)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that exist (never the key)")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One ``--heartbeat``: an interface of this node and both addresses on it."""

    interface: str
    address: str
    peer_address: str


@dataclass(frozen=True, slots=True)
class Network:
    """What is known of the networks: own and the peer's addresses where VIPs are served, references with their interfaces."""

    own: tuple[str, ...]
    peer: tuple[str, ...]
    references: tuple[tuple[str, str], ...]


def run(args: argparse.Namespace) -> int:
    """Write the files; 0 when all is written, 2 when something was refused."""
    try:
        return _init(args)
    except (ConfigError, ValueError) as error:
        complain(str(error), as_json=args.json)
    except OSError as error:
        complain(
            f"{error.filename or args.out}: cannot be written: {error.strerror}", "name another directory with --out", as_json=args.json
        )
    return 2


def _init(args: argparse.Namespace) -> int:
    loaded = read_groups(args.source)
    if not loaded.groups:
        raise ValueError(f"{args.source} has no vrrp_instance; brainctl watches VRRP pairs")
    heartbeats = [_heartbeat(text) for text in args.heartbeat]
    for text in args.reference:
        _address("--reference", text)
    for text in args.peer_address:
        _address("--peer-address", text)
    node = args.node or socket.gethostname().partition(".")[0]
    peer = args.peer or f"{node}-peer"
    if node == peer:
        raise ValueError(f"--node and --peer are both {node}; each is the host name of one of the two nodes")
    network = _network(args, loaded)
    references = [address for address, _ in network.references]
    text = brain_toml(args, loaded, node, peer, heartbeats, network)
    brain = parse_brain(text, os.path.join(args.out, "brain.toml"), node).settings
    os.makedirs(args.out, mode=0o755, exist_ok=True)
    files = {"brain.toml": text}
    if args.daemon == "keepalived":
        files["tmpfiles.conf"] = tmpfiles(brain.gate)
        files["keepalived-stanza.conf"] = keepalived_stanza((g.key for g in loaded.groups), Mode(args.mode), brain.gate)
    interfaces = [g.interface for g in loaded.groups]
    for name, other in ((node, peer), (peer, node)):
        files[f"firewall-{name}.nft"] = firewall_rules(brain.paths, name, other, interfaces)
    config, mode = os.path.join(os.path.abspath(args.out), "brain.toml"), Mode(args.mode)
    for unit in ("braind", "vrrpd") if args.daemon == "vrrpd" else ("braind",):
        files[f"{unit}.service"] = unit_file(unit, config, os.path.abspath(args.source), mode)
    written, kept = _write_all(args.out, files, args.force)
    key_path = os.path.join(args.out, "cluster.key")
    (written if _write_key(key_path) else kept).append(key_path)
    if args.json:
        print(json.dumps({"written": written, "kept": kept, "node": node, "peer": peer}))
    else:
        _explain(args, written, kept, node, peer, references, loaded)
    return 0 if not [k for k in kept if not k.endswith("cluster.key")] else 2


def _network(args: argparse.Namespace, loaded: LoadedGroups) -> Network:
    """From the kernel, the options and keepalived.conf. A gateway behind an interface without VIPs is none of the clients' side."""
    service = list(dict.fromkeys(g.interface for g in loaded.groups))
    vips = {vip for g in loaded.groups for vip in g.vips}
    local = local_addresses()
    own = tuple(dict.fromkeys(a.address for a in local if a.interface in service and a.address not in vips))
    peers = [str(p.address) for instance in loaded.config.instances for p in instance.unicast_peers]
    references = [(address, _towards(address, local, service)) for address in args.reference]
    if not references and (gateway := default_gateway()) is not None:
        references = [gateway]
    return Network(own, tuple(args.peer_address or dict.fromkeys(peers)), tuple(references))


def _towards(address: str, local: tuple[LocalAddress, ...], service: list[str]) -> str:
    return interface_towards(address, local, service) or service[0]


def _heartbeat(text: str) -> Heartbeat:
    interface, _, addresses = text.partition("=")
    own, _, other = addresses.partition(",")
    if not (interface and own and other):
        raise ValueError(f"--heartbeat {text}: write IFACE=OWN_IP,PEER_IP, for example eth1=10.9.0.1,10.9.0.2")
    return Heartbeat(interface, _address("--heartbeat", own), _address("--heartbeat", other))


def _address(option: str, text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError(f"{option}: {text!r} is not an IP address; write one such as 192.0.2.1, without a prefix length") from None


def brain_toml(args: argparse.Namespace, loaded: LoadedGroups, node: str, peer: str, heartbeats: list[Heartbeat], network: Network) -> str:
    """The text of a brain.toml for this pair, with comments that tell what each part is for."""
    first = loaded.groups[0]
    cluster = args.cluster or loaded.config.global_defs.router_id or first.name

    def both(own: str, other: str) -> str:
        return f"{{ {_key(node)} = {_quote(own)}, {_key(peer)} = {_quote(other)} }}"

    out = [
        "# brainctl: the same file on both nodes. Check it with: brainctl check",
        "version = 1",
        "",
        "[cluster]",
        f"name = {_quote(cluster)}",
        f"key_file = {_quote(os.path.join(os.path.abspath(args.out), 'cluster.key'))}   # 0600, the same bytes on both nodes",
        "",
        f"[node.{_key(node)}]",
        "rank = 1   # acts first where both may act (keep the address, fence)",
        _addresses(network.own, "this node's own, where VIPs are served: they tell a crashed watcher from a dead node"),
        "",
        f"[node.{_key(peer)}]",
        "rank = 2",
        _addresses(network.peer, "the same of the peer; needed before fencing may be armed"),
        "",
        "[policy]",
        "# observe: look, record, page. resolve: also end a split. strict: no takeover without a proved fence or a person.",
        f"mode = {_quote(args.mode)}",
        "",
        "[gate]",
        f"daemon = {_quote(args.daemon)}",
        f"config = {_quote(os.path.abspath(args.source))}",
        "",
        "# Heartbeat paths. Paths on the same medium fail together; have at least two media.",
    ]
    for interface in sorted({g.interface for g in loaded.groups}):
        out += [
            "[[path]]",
            f"name = {_quote('lan-' + interface)}",
            'type = "ethernet"       # raw frames: work even when IP is misconfigured',
            f"interface = {_quote(interface)}   # or " + both(interface, "ens3"),
            "",
        ]
    for number, heartbeat in enumerate(heartbeats, 1):
        out += [
            "[[path]]",
            f"name = {_quote(f'heartbeat{number}')}",
            'type = "unicast"',
            f"interface = {_quote(heartbeat.interface)}",
            "address = " + both(heartbeat.address, heartbeat.peer_address),
            "",
        ]
    for number, tty in enumerate(args.serial, 1):
        out += ["[[path]]", f"name = {_quote(f'serial{number}')}", 'type = "serial"', f"device = {_quote(tty)}", "baud = 9600", ""]
    if not heartbeats and not args.serial:
        out += [
            "# A second line is missing. Add a network or a serial cable between the nodes:",
            "# [[path]]",
            '# type = "serial"',
            '# device = "/dev/ttyS0"',
            "",
        ]
    out.append("# Hosts on the service network that answer ARP: they tell an isolated node from a dead peer.")
    for address, interface in network.references:
        out += ["[[reference]]", f"address = {_quote(address)}", f"interface = {_quote(interface)}", ""]
    if not network.references:
        out += ["# [[reference]]", '# address = "192.0.2.1"', f"# interface = {_quote(first.interface)}", ""]
    out += _fence_example(node, peer) + _alert_example()
    return "\n".join(out)


def _addresses(known: tuple[str, ...], what: str) -> str:
    listed = ", ".join(_quote(address) for address in known)
    return f"addresses = [{listed}]   # {what}" if known else f'# addresses = ["192.0.2.2"]   # {what}'


def _fence_example(node: str, peer: str) -> list[str]:
    return [
        "# Fencing: powers the other node off and proves it. Stays off until `brainctl fence check` has passed and enabled = true.",
        "[fence]",
        "enabled = false",
        "# delay_ms = 30000   # how long the rank-2 node waits; `brainctl check` tells the least value",
        "",
        "# [[fence.level]]",
        f"# target = {_quote(peer)}",
        "# [[fence.level.device]]",
        '# type = "agent"        # any fence_* agent; parameters as in its manual',
        '# agent = "fence_ipmilan"',
        '# ip = "10.9.9.2"',
        '# username = "fence"',
        '# password_secret = "file:/etc/brainctl/ipmi-password"',
        f"# (and a level with target = {_quote(node)} for the other direction)",
        "",
    ]


def _alert_example() -> list[str]:
    return [
        "# [[alert]]",
        '# type = "email"',
        '# to = "oncall@example.com"',
        '# from = "brainctl@example.com"',
        '# smtp_host = "mail.example.com"',
        "",
    ]


def _quote(text: str) -> str:
    return json.dumps(text)


def _key(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() else json.dumps(name)


def _write_all(directory: str, files: dict[str, str], force: bool) -> tuple[list[str], list[str]]:
    written, kept = [], []
    for name, text in files.items():
        path = os.path.join(directory, name)
        if os.path.exists(path) and not force:
            kept.append(path)
            continue
        with open(path + ".new", "w", encoding="utf-8") as f:
            f.write(text)
        os.replace(path + ".new", path)
        written.append(path)
    return written, kept


def _write_key(path: str) -> bool:
    """Create the key; an existing one is never touched (the other node has it too)."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="ascii") as f:
        f.write(secrets.token_hex(KEY_BYTES) + "\n")
    return True


def _explain(
    args: argparse.Namespace, written: list[str], kept: list[str], node: str, peer: str, references: list[str], loaded: LoadedGroups
) -> None:
    for path in written:
        print(f"wrote  {path}")
    for path in kept:
        print(f"kept   {path} (exists{'' if path.endswith('.key') else '; --force overwrites'})")
    groups: tuple[GroupSettings, ...] = loaded.groups
    print(
        f"\n{len(groups)} VIP group(s): "
        + ", ".join(f"{g.name} vrid {g.key} on {g.interface}: {', '.join(g.vips) or 'no VIP'}" for g in groups)
    )
    print(f"reference: {', '.join(references) or 'none found; add one, or silence can never be judged'}")
    print(f"\nnext:\n  1. brainctl check --config {os.path.join(args.out, 'brain.toml')} --node {node}")
    print(f"  2. copy brain.toml and cluster.key (mode 0600) to {peer}, load firewall-*.nft on each node")
    units = "braind.service" if args.daemon == "keepalived" else "braind.service and vrrpd.service"
    if args.daemon == "keepalived":
        print("  3. on both nodes, in this order (a gate whose directory is missing when keepalived reads its file is never looked at):")
        print(f"     cp {os.path.join(args.out, 'tmpfiles.conf')} /etc/tmpfiles.d/brainctl.conf && systemd-tmpfiles --create brainctl.conf")
        print("     put keepalived-stanza.conf into keepalived.conf, then: systemctl reload keepalived")
    else:
        print("  3. on both nodes: systemctl disable --now keepalived, if it runs there")
    print(f"  4. copy {units} to /etc/systemd/system on both nodes, systemctl enable --now")
    print("  5. brainctl status: the gate of every group must be obeyed")
