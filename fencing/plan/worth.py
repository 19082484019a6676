"""PURE: what a fence device's word is worth (Promise 3), by its type and agent.

POWER cuts the power of the outlet, chassis or virtual machine and reads that very thing back: enrolled, it is proved by reading.
FABRIC cuts a port or path while the node runs on: only the silence of every channel proves it.
BOOKKEEPING leaves a message, a reservation or a person's word and reads back what it wrote itself: it only ever claims.

A program that nobody here has judged (an agent that is not in the table, a command of the operator's) is BOOKKEEPING until the operator
says ``worth = "power"`` or ``"fabric"`` for it, which ``brainctl fence check`` repeats to him.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Worth(Enum):
    """See the module docstring; from the best to the least."""

    POWER = "power"
    FABRIC = "fabric"
    BOOKKEEPING = "bookkeeping"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an agent is worth and why, in words for docs/FENCING.md. ``refused``: why it can never fence a pair, else ""."""

    worth: Worth
    why: str
    refused: str = ""


def _power(why: str) -> Judgement:
    return Judgement(Worth.POWER, why)


def _fabric(why: str) -> Judgement:
    return Judgement(Worth.FABRIC, why)


def _book(why: str, refused: str = "") -> Judgement:
    return Judgement(Worth.BOOKKEEPING, why, refused)


_BMC = "the node's own management controller reads the chassis' power"
_PDU = "the outlet's relay is read by the power strip"
_BLADE = "the enclosure reads the blade's power"
_HYPERVISOR = "the hypervisor reads whether the virtual machine runs"
_CLOUD = "the provider's API reads the state of the instance"
_LPAR = "the hardware console reads the partition's state"

AGENTS: Mapping[str, Judgement] = {
    "fence_ack_manual": _book("a person's word; nothing is read"),
    "fence_aliyun": _power(_CLOUD),
    "fence_alom": _power(_BMC),
    "fence_amt": _power(_BMC),
    "fence_apc": _power(_PDU),
    "fence_apc_snmp": _power(_PDU),
    "fence_aws": _power(_CLOUD),
    "fence_azure_arm": _power(_CLOUD),
    "fence_bladecenter": _power(_BLADE),
    "fence_brocade": _fabric("a port of a Fibre Channel switch: the node loses its disks and runs on"),
    "fence_cdu": _power(_PDU),
    "fence_cisco_mds": _fabric("a port of a Fibre Channel switch: the node loses its disks and runs on"),
    "fence_cisco_ucs": _power(_BLADE),
    "fence_compute": _book("tells Nova that a host is down; reads back what it told"),
    "fence_crosslink": _book(
        "pings over a cable and switches nothing", "it calls a node dead that does not answer; that is a heartbeat path, not a fence"
    ),
    "fence_cyberpower_ssh": _power(_PDU),
    "fence_docker": _power("the engine reads whether the container runs"),
    "fence_drac": _power(_BMC),
    "fence_drac5": _power(_BMC),
    "fence_dummy": _book("a test agent: writes a file and reads it"),
    "fence_eaton_snmp": _power(_PDU),
    "fence_ecloud": _power(_CLOUD),
    "fence_emerson": _power(_PDU),
    "fence_eps": _power(_PDU),
    "fence_evacuate": _book("asks Nova to move instances; switches no host", "it fences no node: it moves virtual machines"),
    "fence_gce": _power(_CLOUD),
    "fence_hds_cb": _power(_BLADE),
    "fence_heuristics_ping": _book(
        "pings and switches nothing", "it is a condition for other agents, not a fence; write a [[reference]] instead"
    ),
    "fence_hpblade": _power(_BLADE),
    "fence_ibm_powervs": _power(_CLOUD),
    "fence_ibm_vpc": _power(_CLOUD),
    "fence_ibmblade": _power(_BLADE),
    "fence_ibmz": _power(_LPAR),
    "fence_idrac": _power(_BMC),
    "fence_ifmib": _fabric("a switch port: the node is cut off there and runs on"),
    "fence_ilo": _power(_BMC),
    "fence_ilo2": _power(_BMC),
    "fence_ilo3": _power(_BMC),
    "fence_ilo3_ssh": _power(_BMC),
    "fence_ilo4": _power(_BMC),
    "fence_ilo4_ssh": _power(_BMC),
    "fence_ilo5": _power(_BMC),
    "fence_ilo5_ssh": _power(_BMC),
    "fence_ilo_moonshot": _power(_BLADE),
    "fence_ilo_mp": _power(_BMC),
    "fence_ilo_ssh": _power(_BMC),
    "fence_imm": _power(_BMC),
    "fence_intelmodular": _power(_BLADE),
    "fence_ipdu": _power(_PDU),
    "fence_ipmilan": _power(_BMC),
    "fence_ipmilanplus": _power(_BMC),
    "fence_ironic": _power("Ironic reads the power through the node's management controller"),
    "fence_kdump": _book("waits for the message of a crashing kernel; a node that does not crash sends none"),
    "fence_kubevirt": _power(_HYPERVISOR),
    "fence_ldom": _power(_HYPERVISOR),
    "fence_lindypdu": _power(_PDU),
    "fence_lpar": _power(_LPAR),
    "fence_mpath": _book("a SCSI reservation: the node loses its disks at most; reads back its own key"),
    "fence_netio": _power(_PDU),
    "fence_openstack": _power(_CLOUD),
    "fence_ovh": _book("power off is a restart into a rescue system, and the state read is that of the order"),
    "fence_powerman": _power("powerman reads the outlet or chassis"),
    "fence_pve": _power(_HYPERVISOR),
    "fence_raritan": _power(_PDU),
    "fence_raritan_px3": _power(_PDU),
    "fence_rcd_serial": _book(
        "toggles a reset line and reads nothing", "it can only reset, never keep a node off, and its status is always 'on'"
    ),
    "fence_redfish": _power(_BMC),
    "fence_rhevm": _power(_HYPERVISOR),
    "fence_rsa": _power(_BMC),
    "fence_rsb": _power(_BMC),
    "fence_sanbox2": _fabric("a port of a Fibre Channel switch: the node loses its disks and runs on"),
    "fence_sbd": _book("a message on a shared disk; its status reads back the message, not the node"),
    "fence_scsi": _book("a SCSI reservation: the node loses its disks at most; reads back its own key"),
    "fence_skalar": _power(_HYPERVISOR),
    "fence_tripplite_snmp": _power(_PDU),
    "fence_vbox": _power(_HYPERVISOR),
    "fence_virsh": _power(_HYPERVISOR),
    "fence_vmware": _power(_HYPERVISOR),
    "fence_vmware_rest": _power(_HYPERVISOR),
    "fence_vmware_soap": _power(_HYPERVISOR),
    "fence_vmware_vcloud": _power(_HYPERVISOR),
    "fence_wti": _power(_PDU),
    "fence_xenapi": _power(_HYPERVISOR),
    "fence_zvmip": _power(_HYPERVISOR),
}
"""The agents of Debian 12's fence-agents 4.12.1."""

_UNJUDGED = _book("not in the table: nobody here has judged what its status reads")
NATIVE: Mapping[str, Judgement] = {
    "redfish": _power(_BMC),
    "ipmi": _power(_BMC),
    "snmp_pdu": _power(_PDU),
    "snmp_port": _fabric("a switch port: the node is cut off there and runs on"),
    "libvirt": _power(_HYPERVISOR),
    "ssh": _power("switches the machine itself off, or asks the host that runs it; without status_command it never reads OFF"),
    "wake_on_lan": _book("can only switch on"),
    "exec": _book("a command of the operator's: nobody here has judged what its status reads"),
}
DECLARABLE = frozenset({"agent", "exec"})
"""Device types whose worth the operator may state himself (parameter ``worth``), where the table knows nothing better."""


def judge(kind: str, agent: str, declared: str = "") -> Judgement:
    """What a device of this type is worth. ``agent`` is a name or path ("" for the other types); ``declared`` is its parameter ``worth``,
    which counts only for an agent or command that the table does not know: nobody can declare a message to be a power switch."""
    known = AGENTS.get(agent.rsplit("/", 1)[-1]) if kind == "agent" else None if kind == "exec" else NATIVE.get(kind)
    if known is not None:
        return known
    if kind in DECLARABLE and declared in {worth.value for worth in Worth}:
        return Judgement(Worth(declared), "as the operator declares it (worth)")
    return NATIVE["exec"] if kind == "exec" else _UNJUDGED
