"""What we send to the kernel reads back as what was meant; no kernel needed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vrrp.lvs.tables import destinations, service_keys, services
from vrrp.lvs.ipvs import messages, translation
from vrrp.lvs.model.desired import Destination, DestinationKey, Service, ServiceKey
from vrrp.lvs.model.settings import Forwarding, Method, TunnelType


def through_the_wire(name: str, attributes: messages.Attributes) -> Any:
    """Encoded by pyroute2 and read by us."""
    return messages.decode(messages.encode(30, messages.GET_SERVICE, [(name, {"attrs": attributes})], 0, 1)).get_attr(name)


@given(data=st.data(), key=service_keys(), engine=st.sampled_from(("", "sip")))
def test_services(data: st.DataObject, key: ServiceKey, engine: str) -> None:
    drawn = data.draw(services(key.family))
    service = Service(drawn.scheduler, drawn.scheduler_flags, drawn.one_packet, drawn.persistence_timeout_s, drawn.prefix, engine)
    nest = through_the_wire("IPVS_CMD_ATTR_SERVICE", translation.service_attributes(key, service))
    assert translation.read_service(nest) == (key, service)


@given(destinations(4) | destinations(6))
def test_destinations(given_pair: tuple[DestinationKey, Destination]) -> None:
    nest = through_the_wire("IPVS_CMD_ATTR_DEST", translation.destination_attributes(*given_pair))
    assert translation.read_destination(nest, 4) == given_pair


@pytest.mark.parametrize(("number", "method"), [(1, "local node"), (4, "bypass"), (7, "unknown")])
def test_a_method_that_we_do_not_have_differs_from_every_wanted_value(number: int, method: str) -> None:
    key = DestinationKey(4, "10.0.0.1", 80)
    attributes = dict(translation.destination_attributes(key, Destination(1)))
    attributes["IPVS_DEST_ATTR_FWD_METHOD"] = number
    found, value = translation.read_destination(through_the_wire("IPVS_CMD_ATTR_DEST", list(attributes.items())), 4)
    assert found == key and value.weight < 0, method


@given(st.integers(0, 32))
def test_ipv4_masks(prefix: int) -> None:
    assert translation.prefix_of(4, translation.netmask_bytes(4, prefix)) == prefix


def test_a_mask_with_holes_is_no_prefix() -> None:
    assert translation.prefix_of(4, bytes((255, 0, 255, 0))) < 0


def test_only_options_that_count_are_kept() -> None:
    assert translation.canonical(Forwarding(Method.DIRECT, TunnelType.GUE, 1)) == Forwarding(Method.DIRECT)
    assert translation.canonical(Forwarding(Method.TUNNEL, TunnelType.GRE, 9)) == Forwarding(Method.TUNNEL, TunnelType.GRE)
