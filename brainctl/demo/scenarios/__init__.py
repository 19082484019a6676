"""Every scenario, in the order of the demo. To add one: a class in a file here, and its name in ``SCENARIOS``."""

from __future__ import annotations

from brainctl.demo.scenario import Scenario
from brainctl.demo.scenarios.cables import CutEthernetSerialAlive, CutEverything, CutEverythingAndManagement, CutHeartbeat, OneWay
from brainctl.demo.scenarios.devices import FencedNodeReturns, KillBetweenIntentAndResult, LyingFence, LyingStatus, RestartInTime
from brainctl.demo.scenarios.holding import (
    GateLate,
    HoldEnds,
    HoldIgnored,
    HoldUnwritable,
    ManyAddresses,
    NoPreempt,
    NoStandby,
    OwnerStopsAfterSplit,
)
from brainctl.demo.scenarios.interfaces import ForeignElsewhere, LocalNode, PortDead, RoutedPeers, SameVrid, SixGroups, TwoLans, TwoLansSync
from brainctl.demo.scenarios.operators import HandoverAndBack
from brainctl.demo.scenarios.peace import Planned, Quiet, Reload
from brainctl.demo.scenarios.processes import (
    DescriptorsRunOut,
    Hang,
    HangAll,
    Orphan,
    OrphanAll,
    VrrpProcessDies,
    WatcherCrashes,
    WatcherDies,
)
from brainctl.demo.scenarios.reboots import GatewayReboots, GatewayRebootsAfterStop, OwnerShutsDown, WatcherStopsFirst
from brainctl.demo.scenarios.records import DiskFull
from brainctl.demo.scenarios.strangers import Foreign, ForgedFrames
from brainctl.demo.scenarios.upkeep import KeyChange, NodeReplaced, Upgrade
from brainctl.demo.scenarios.witnessed import WitnessCutEverything, WitnessDisk, WitnessHangs, WitnessOrphans

SCENARIOS: tuple[Scenario, ...] = (
    Quiet(),
    CutHeartbeat(),
    CutEthernetSerialAlive(),
    CutEverything(),
    CutEverythingAndManagement(),
    Hang(),
    HangAll(),
    Orphan(),
    OrphanAll(),
    VrrpProcessDies(),
    OneWay(),
    PortDead(),
    TwoLans(),
    TwoLansSync(),
    SameVrid(),
    RoutedPeers(),
    ManyAddresses(),
    SixGroups(),
    LocalNode(),
    GatewayReboots(),
    GatewayRebootsAfterStop(),
    OwnerShutsDown(),
    WatcherStopsFirst(),
    Foreign(),
    ForeignElsewhere(),
    ForgedFrames(),
    Planned(),
    HandoverAndBack(),
    Upgrade(),
    KeyChange(),
    NodeReplaced(),
    NoPreempt(),
    NoStandby(),
    Reload(),
    WatcherDies(),
    WatcherCrashes(),
    DescriptorsRunOut(),
    DiskFull(),
    HoldIgnored(),
    HoldUnwritable(),
    HoldEnds(),
    OwnerStopsAfterSplit(),
    GateLate(),
    LyingFence(),
    LyingStatus(),
    FencedNodeReturns(),
    KillBetweenIntentAndResult(),
    RestartInTime(),
    WitnessHangs(),
    WitnessDisk(),
    WitnessOrphans(),
    WitnessCutEverything(),
)


def find_scenario(name: str) -> Scenario | None:
    """The scenario of that name."""
    return next((scenario for scenario in SCENARIOS if scenario.name == name), None)
