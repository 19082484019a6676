"""IPVS that is opened when it is first needed, and again if it was not there: a director may start before its kernel module.

Every call raises OSError (IpvsUnavailable) while this kernel has no IPVS; the checker process goes on probing meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from base.clock import now_ns
from base.core import NS_PER_S
from vrrp.lvs.ipvs.kernel import Failure, IpvsKernel, IpvsUnavailable
from vrrp.lvs.model.desired import Change, Entry, ServiceKey

RETRY_NS = 10 * NS_PER_S
"""Between two tries to load the module."""


class LazyIpvs:
    """A backend of the checker process; ``kernel()`` for all that it does not wrap."""

    def __init__(self) -> None:
        self._kernel: IpvsKernel | None = None
        self._missing: IpvsUnavailable | None = None
        self._tried_ns = 0

    def kernel(self) -> IpvsKernel:
        """The open IPVS; raises IpvsUnavailable."""
        if self._kernel is not None:
            return self._kernel
        if self._missing is not None and now_ns() - self._tried_ns < RETRY_NS:
            raise self._missing
        try:
            self._kernel = IpvsKernel()
        except IpvsUnavailable as error:
            self._missing, self._tried_ns = error, now_ns()
            raise
        return self._kernel

    def services(self) -> dict[ServiceKey, Entry]:
        """The whole table."""
        return self.kernel().services()

    def apply(self, changes: Iterable[Change]) -> Sequence[Failure]:
        """Execute ``changes`` in order; answers the failures."""
        return self.kernel().apply(changes)
