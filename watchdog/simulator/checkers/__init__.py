"""The promises of DESIGN section 1, each watched by observers that know what really happened."""

from __future__ import annotations

from watchdog.simulator.checker import Checker
from watchdog.simulator.checkers.conduct import ObserveActsOnNobody, Planned, Stalls
from watchdog.simulator.checkers.evidence import Evidence
from watchdog.simulator.checkers.fencing import Budget, Intent, IsolatedNeverFences, NoMutualFencing, Proof, Recovery, SecondLook
from watchdog.simulator.checkers.observer import Observer
from watchdog.simulator.checkers.ownership import ExactlyOneKeeps, IsolatedGivesUp, ResolvedInTime, StrictOneOwner
from watchdog.simulator.checkers.recovery import Healed
from watchdog.simulator.checkers.service import NobodyFitIsShot, Paging, Service, Strangers

__all__ = ["Observer", "all_checkers"]


def all_checkers() -> list[Checker]:
    """A fresh set for one run; the first one is the common observer that the others ask."""
    observer = Observer()
    return [
        observer,
        Evidence(observer),
        Intent(observer),
        SecondLook(observer),
        Proof(observer),
        Recovery(observer),
        IsolatedNeverFences(observer),
        IsolatedGivesUp(observer),
        NoMutualFencing(observer),
        Planned(observer),
        Budget(observer),
        Stalls(observer),
        StrictOneOwner(observer),
        ResolvedInTime(observer),
        ExactlyOneKeeps(observer),
        ObserveActsOnNobody(observer),
        Service(observer),
        Paging(observer),
        Strangers(observer),
        NobodyFitIsShot(observer),
        Healed(observer),
    ]
