"""The path MTU is found and used, whatever lies between: the hosts of this module only know their own links.

    alice === router --- one host for each MTU

Alice's cable carries 9,000 bytes; what fits further on, nobody tells her.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.system.lab import Host, Interface, Lab
from tests.system.node import Family, Node, connected_pair, nodes_on
from tests.system.traffic import MB, flowing, transfer, wait_until_all_go_on
from tests.system.waiting import until

pytestmark = pytest.mark.system

FAMILIES: dict[int, Family] = {1280: "IPv6", 1420: "IPv4", 1492: "IPv6", 9000: "IPv4"}


@dataclass
class Star:
    """Alice, and the others by the MTU of their cables."""

    lab: Lab
    alice: Node
    others: dict[int, Node]


@pytest.fixture(scope="module")
def star() -> Iterator[Star]:
    with Lab() as lab:
        router = lab.host("router")
        router.forward()
        trunk = lab.veth(lab.host("alice"), router, mtu=9000)
        send_everything_to(trunk.left.host, trunk.right)
        ends = [trunk.left]
        for mtu in FAMILIES:
            cable = lab.veth(router, lab.host(f"mtu{mtu}"), mtu=mtu)
            send_everything_to(cable.right.host, cable.left)
            ends.append(cable.right)
        alice, *others = nodes_on(lab, *ends)
        for other, end, family in zip(others, ends[1:], FAMILIES.values(), strict=True):
            alice.connect(other, end, family)
        yield Star(lab, alice, dict(zip(FAMILIES, others, strict=True)))


def send_everything_to(host: Host, gateway: Interface) -> None:
    host.ip("route", "add", "default", "via", gateway.ip4)
    host.ip("-6", "route", "add", "default", "via", gateway.ip6)


@pytest.mark.parametrize("mtu", FAMILIES)
def test_path_mtu_ends_at_what_fits_and_bulk_gets_through(star: Star, mtu: int) -> None:
    alice, other = star.alice, star.others[mtu]
    transfer(alice.host, other.host, other.address, 10 * MB)
    # Each size that is too large shows only by two probes without an answer.
    until(lambda: path_mtus(alice, other) == (mtu, mtu), "both sides find the path MTU", 20)
    transfer(alice.host, other.host, other.address, 10 * MB)
    assert path_mtus(alice, other) == (mtu, mtu)
    assert alice.peer(other).mode == other.peer().mode == "burst"


def path_mtus(one: Node, other: Node) -> tuple[int, int]:
    return one.peer(other).path_mtu, other.peer(one).path_mtu


def test_link_that_narrows_under_a_transfer_is_followed_at_once() -> None:
    with connected_pair() as pair:
        until(lambda: pair.alice.peer().path_mtu == 1500, "the path MTU is found")
        with flowing(pair.alice.host, pair.bob.host, pair.bob.address) as flows:
            wait_until_all_go_on(flows)
            for end in (pair.left, pair.right):
                end.set_mtu(1300)
            wait_until_all_go_on(flows, 5)
        assert pair.alice.peer().path_mtu <= 1300
        assert pair.bob.peer().path_mtu <= 1300


@pytest.mark.long
def test_path_that_narrows_far_away_is_followed(star: Star) -> None:
    alice, other = star.alice, star.others[9000]
    until(lambda: path_mtus(alice, other) == (9000, 9000), "both sides find the path MTU", 20)
    with flowing(alice.host, other.host, other.address) as flows:
        wait_until_all_go_on(flows)
        for end in (star.lab.hosts["router"].interfaces[-1], other.host.interfaces[0]):
            end.set_mtu(1400)
        # Nobody tells: the size in use is probed each 15 s, and TCP has slept longer and longer meanwhile.
        wait_until_all_go_on(flows, 60)
    until(lambda: path_mtus(alice, other) == (1400, 1400), "both sides find the path MTU", 30)
