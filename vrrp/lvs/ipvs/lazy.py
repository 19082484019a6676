"""IPVS that is opened when it is first needed, and again if it was not there: a director may start before its kernel module.

Every call raises OSError (IpvsUnavailable) while this kernel has no IPVS; the checker process goes on probing meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from base.clock import now_ns
from base.core import NS_PER_S
from vrrp.config.model.daemon import ReceiveBuffer
from vrrp.lvs.ipvs.kernel import Failure, IpvsKernel, IpvsUnavailable
from vrrp.lvs.model.desired import Change, Entry, ServiceKey
from vrrp.system.namespaces import inside, path_of

RETRY_NS = 10 * NS_PER_S
"""Between two tries to load the module."""


class LazyIpvs:
    """A backend of the checker process; ``kernel()`` for all that it does not wrap.

    ``namespace``: the network namespace whose table it is (``net_namespace_ipvs``): None = our own, "" = the first one. It counts when
    IPVS is opened; the connections of the checkers stay in ours.
    """

    def __init__(self) -> None:
        self._kernel: IpvsKernel | None = None
        self._missing: IpvsUnavailable | None = None
        self._tried_ns = 0
        self._buffer = ReceiveBuffer()
        self.namespace: str | None = None

    def set_receive_buffer(self, buffer: ReceiveBuffer) -> None:
        """Of the netlink socket, now or as soon as there is one."""
        self._buffer = buffer
        if self._kernel is not None:
            self._kernel.set_receive_buffer(buffer.size, force=buffer.force)

    def kernel(self) -> IpvsKernel:
        """The open IPVS; raises IpvsUnavailable, or OSError (no such namespace)."""
        if self._kernel is not None:
            return self._kernel
        if self._missing is not None and now_ns() - self._tried_ns < RETRY_NS:
            raise self._missing
        try:
            self._kernel = self._opened()
        except IpvsUnavailable as error:
            self._missing, self._tried_ns = error, now_ns()
            raise
        self._kernel.set_receive_buffer(self._buffer.size, force=self._buffer.force)
        return self._kernel

    def _opened(self) -> IpvsKernel:
        if self.namespace is None:
            return IpvsKernel()
        with inside(path_of(self.namespace)):
            return IpvsKernel()

    def services(self) -> dict[ServiceKey, Entry]:
        """The whole table."""
        return self.kernel().services()

    def apply(self, changes: Iterable[Change]) -> Sequence[Failure]:
        """Execute ``changes`` in order; answers the failures."""
        return self.kernel().apply(changes)
