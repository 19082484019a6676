"""Hypothesis strategies for any table that IPVS would take, and the step from one table to another in a real kernel."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from hypothesis import strategies as st

from vrrp.lvs.ipvs.kernel import Failure, IpvsKernel
from vrrp.lvs.model.desired import Change, Destination, DestinationKey, Entry, Service, ServiceKey, Table, diff
from vrrp.lvs.model.settings import Forwarding, Method, TunnelChecksum, TunnelType

SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "fo", "ovf", "sed", "nq")
# Few addresses and ports: two tables shall have keys in common.
V4, V6 = ("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")
ports = st.sampled_from((1, 80, 65535))


def service_keys() -> st.SearchStrategy[ServiceKey]:
    """Identities of services of both families."""
    by_mark = st.builds(ServiceKey, st.sampled_from((4, 6)), st.sampled_from((1, 0xFFFFFFFF)))
    transports = st.sampled_from((6, 17, 132))
    v4 = st.builds(ServiceKey, st.just(4), st.just(0), transports, st.sampled_from(V4), ports)
    v6 = st.builds(ServiceKey, st.just(6), st.just(0), transports, st.sampled_from(V6), ports)
    return by_mark | v4 | v6


def services(family: int) -> st.SearchStrategy[Service]:
    """Options of a service; no engine, which only takes UDP."""
    return st.builds(
        Service,
        scheduler=st.sampled_from(SCHEDULERS),
        scheduler_flags=st.integers(0, 7),
        one_packet=st.booleans(),
        persistence_timeout_s=st.just(0) | st.integers(1, 100_000),
        prefix=st.integers(0 if family == 4 else 1, 32 if family == 4 else 128),
    )


def forwardings(*, only_tunnel: bool = False) -> st.SearchStrategy[Forwarding]:
    """Every method, with options that count only."""
    checksums = st.sampled_from(TunnelChecksum)
    tunnels = (
        st.just(Forwarding(Method.TUNNEL))
        | st.builds(Forwarding, st.just(Method.TUNNEL), st.just(TunnelType.GUE), st.integers(1, 65535), checksums)
        | st.builds(Forwarding, st.just(Method.TUNNEL), st.just(TunnelType.GRE), st.just(0), checksums)
    )
    return tunnels if only_tunnel else tunnels | st.builds(Forwarding, st.sampled_from((Method.NAT, Method.DIRECT)))


@st.composite
def destinations(draw: st.DrawFn, family: int) -> tuple[DestinationKey, Destination]:
    """A destination of a service of ``family``; of the other family only by tunnel."""
    own = draw(st.sampled_from((4, 6)))
    key = DestinationKey(own, draw(st.sampled_from(V4 if own == 4 else V6)), draw(ports))
    upper = draw(st.integers(0, 1000))
    lower = draw(st.integers(0, upper))
    return key, Destination(draw(st.integers(0, 65535)), draw(forwardings(only_tunnel=own != family)), upper, lower)


@st.composite
def entries(draw: st.DrawFn, family: int) -> Entry:
    """A service with up to three destinations."""
    return Entry(draw(services(family)), dict(draw(st.lists(destinations(family), max_size=3))))


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Up to four services."""
    return {key: draw(entries(key.family)) for key in draw(st.lists(service_keys(), max_size=4, unique=True))}


@dataclass(frozen=True, slots=True)
class Repair:
    """What was wrong, what the kernel refused, and what still differs."""

    changes: tuple[Change, ...]
    failures: tuple[Failure, ...]
    remaining: tuple[Change, ...]


def repair(kernel: IpvsKernel, desired: Table, owned: Collection[ServiceKey] = ()) -> Repair:
    """One step from the kernel's table to ``desired``; services neither desired nor ``owned`` are left alone."""

    def difference() -> tuple[Change, ...]:
        return diff(desired, {key: entry for key, entry in kernel.services().items() if key in desired or key in owned})

    changes = difference()
    failures = tuple(kernel.apply(changes))
    return Repair(changes, failures, difference())
