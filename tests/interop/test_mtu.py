"""Packets near the limit of what one message to a stock device carries, and beyond it."""

import re

import pytest

from tests.interop.meeting import meet
from tests.system.lab import Cable, Lab
from tests.system.node import Family
from tests.system.traffic import MB, transfer

pytestmark = [pytest.mark.system, pytest.mark.interop("wireguard-go", "wg")]

FAMILIES = pytest.mark.parametrize("family", ["IPv4", "IPv6"])
OUTER_BYTES = {"IPv4": 20 + 8 + 32, "IPv6": 40 + 8 + 32}
INNER_BYTES = {"IPv4": 20 + 8, "IPv6": 40 + 8}
"""IP and ICMP header of an echo request."""
SMALL_MTU = 1400
TINY_MTU = 1300
"""An inner packet of 1,280 bytes does not fit."""


@FAMILIES
def test_packet_that_fits_exactly_crosses_and_one_byte_more_is_told_the_limit(lab: Lab, family: Family) -> None:
    meeting = meet(lab, family, cable=lab.veth(lab.host("weft"), lab.host("stock"), mtu=SMALL_MTU))
    room = SMALL_MTU - OUTER_BYTES[family]
    for inner, address in (("IPv6", meeting.stock_addresses[0]), ("IPv4", meeting.stock_addresses[1])):
        fits = room - INNER_BYTES[inner]
        # What is no multiple of 16 is padded, but never beyond the limit.
        for size in range(fits - 17, fits + 1):
            assert meeting.weft_host.ping(address, count=1, size=size).received == 1, (inner, size)
        said = meeting.weft_host.run("ping", "-n", "-Mdo", "-c1", "-W1", "-s", str(fits + 1), address, check=False)
        assert re.search(rf"(Packet too big: mtu=|Frag needed and DF set \(mtu = ){room}\b", said)


@FAMILIES
def test_tcp_finds_the_limit_of_the_link(lab: Lab, family: Family) -> None:
    meeting = meet(lab, family, cable=lab.veth(lab.host("weft"), lab.host("stock"), mtu=SMALL_MTU))
    for address in meeting.stock_addresses:
        transfer(meeting.weft_host, meeting.stock_host, address, MB, direction="up")
    assert meeting.dropped("too big for the path") > 0
    meeting.cable.left.set_mtu(SMALL_MTU - 20)
    for address in meeting.stock_addresses:
        transfer(meeting.weft_host, meeting.stock_host, address, MB, direction="up")
    assert meeting.dropped("udp: too big") > 0


@FAMILIES
def test_link_below_the_least_mtu_of_ipv6_is_crossed_in_fragments(lab: Lab, family: Family) -> None:
    meeting = meet(lab, family, cable=lab.veth(lab.host("weft"), lab.host("stock"), mtu=TINY_MTU))
    meeting.stock_host.ip("link", "set", meeting.stock.ifname, "mtu", "1280")
    for address in meeting.stock_addresses:
        transfer(meeting.weft_host, meeting.stock_host, address, MB, direction="up")


@FAMILIES
def test_tcp_finds_the_limit_of_a_link_behind_a_router(lab: Lab, family: Family) -> None:
    meeting = meet(lab, family, cable=cable_with_router(lab))
    for address in meeting.stock_addresses:
        transfer(meeting.weft_host, meeting.stock_host, address, MB, direction="up")
    assert meeting.node.peer().path_mtu == SMALL_MTU


def cable_with_router(lab: Lab) -> Cable:
    """Two hosts on networks of their own; the router between them knows that one of its links is small."""
    weft, router, stock = (lab.host(name) for name in ("weft", "router", "stock"))
    near, far = lab.veth(weft, router), lab.veth(router, stock, mtu=SMALL_MTU)
    router.forward()
    for host, gateway in ((weft, near.right), (stock, far.left)):
        host.ip("route", "add", "default", "via", gateway.ip4)
        host.ip("-6", "route", "add", "default", "via", gateway.ip6)
    return Cable(near.left, far.right)
