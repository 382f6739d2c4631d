"""Two nodes on one machine, each in a network of its own: what clashes is told, and packets find their way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.system.lab import Host, Lab
from tests.system.node import EVERYTHING, PORT, Node, at_once
from tests.system.process import Outcome
from tests.system.waiting import until

pytestmark = pytest.mark.system

LISTEN = f"/ip4/0.0.0.0/udp/{PORT + 1},/ip6/::/udp/{PORT + 1}"


@dataclass
class Machines:
    """Bob is at home with alice, whom he calls, and in the lab with carol, who calls him."""

    alice: Node
    carol: Node
    home: Node
    lab: Node
    bob: Host
    refusals: list[str]

    def routes(self) -> str:
        """Of fc00::/8 in bob's machine."""
        return self.bob.ip("-6", "route", "show", "root", "fc00::/8")

    def reaches(self, host: Host, address: str) -> bool:
        return host.ping(address, count=1, wait_s=2).received == 1


def one_line(outcome: Outcome) -> str:
    """How a command fails."""
    assert outcome.code in {1, 2}, outcome
    assert outcome.err.count("\n") == 1, outcome
    return outcome.err


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with Lab() as lab:
        alice, bob, carol = (lab.host(name) for name in ("alice", "bob", "carol"))
        to_alice, to_carol = lab.veth(bob, alice), lab.veth(bob, carol)
        nodes = [Node(host, lab.directory(name)) for host, name in ((alice, "alice"), (carol, "carol"), (bob, "home"))]
        at_once(lambda node: node.up(*EVERYTHING), *nodes)
        second = Node(bob, lab.directory("lab"))
        made = Machines(*nodes, second, bob, [])
        made.home.connect(made.alice, to_alice.right)

        made.refusals.append(one_line(second.outcome("up")))
        second.weft("config", "set", "peer.listen", LISTEN)
        made.refusals.append(second.outcome("up").err)
        second.weft("config", "set", "fc00.ifname", "weft1")
        made.refusals.append(one_line(second.outcome("up")))
        second.weft("config", "set", "fc00.routes", "peers")
        second.up(*EVERYTHING)

        address = f"/ip4/{to_carol.left.ip4}/udp/{PORT + 1}/p2p/{second.id}"
        made.carol.weft("peer", "connect", address)
        yield made


def test_each_thing_that_clashes_is_one_line_that_says_what_to_set(machines: Machines) -> None:
    port, name, route = machines.refusals
    assert f"can't listen on UDP 0.0.0.0:{PORT}" in port
    assert f"weft --dir DIR config set peer.listen {LISTEN}" in port
    assert "can't make the interface weft0" in name
    assert "weft --dir DIR config set fc00.ifname weft1" in name
    assert "weft0, of another node, has the route fc00::/8 already" in route
    assert "weft --dir DIR config set fc00.routes peers" in route


def test_both_networks_are_reached_from_the_address_that_this_machine_has_there(machines: Machines) -> None:
    assert machines.reaches(machines.bob, machines.alice.address)
    # Carol has called, so she is a stranger, whom nobody has given a route.
    assert machines.reaches(machines.bob, machines.carol.address)
    assert machines.reaches(machines.alice.host, machines.home.address)
    assert machines.reaches(machines.carol.host, machines.lab.address)
    for peer, own, ifname in (
        (machines.alice, machines.home, "weft0"),
        (machines.carol, machines.lab, "weft1"),
    ):
        (way,) = json.loads(machines.bob.ip("-j", "route", "get", peer.address))
        assert (way["dev"], way["prefsrc"]) == (ifname, own.address)


def test_network_of_the_other_node_is_not_reached_through_this_one(machines: Machines) -> None:
    assert not machines.reaches(machines.carol.host, machines.home.address)
    assert not machines.reaches(machines.alice.host, machines.carol.address)


def test_stranger_loses_the_route_when_it_is_forgotten_and_has_it_again_when_it_calls(machines: Machines) -> None:
    carol, lab = machines.carol, machines.lab
    assert f"{carol.address} dev weft1" in machines.routes()
    lab.weft("peer", "remove", carol.id)
    until(lambda: f"{carol.address} dev weft1" not in machines.routes(), "the route is gone", timeout_s=2)
    carol.weft("peer", "connect", lab.id)
    assert machines.reaches(carol.host, lab.address)
    assert f"{carol.address} dev weft1" in machines.routes()


def test_all_and_peers_change_at_once_and_only_one_node_has_all(machines: Machines) -> None:
    home, lab = machines.home, machines.lab
    assert "of another node" in one_line(lab.outcome("config", "set", "fc00.routes", "all"))
    assert lab.weft("config", "get", "fc00.routes") == "peers\n"
    home.weft("config", "set", "fc00.routes", "peers")
    assert "fc00::/8" not in machines.routes()
    assert machines.reaches(machines.bob, machines.alice.address)
    lab.weft("config", "set", "fc00.routes", "all")
    assert "fc00::/8 dev weft1" in machines.routes()
    assert machines.reaches(machines.bob, machines.alice.address)
    assert machines.reaches(machines.bob, machines.carol.address)
    lab.weft("config", "set", "fc00.routes", "peers")
    home.weft("config", "unset", "fc00.routes")
    assert "fc00::/8 dev weft0" in machines.routes()


def test_peer_of_both_nodes_belongs_to_the_one_that_had_it_first(machines: Machines) -> None:
    home, lab, carol = machines.home, machines.lab, machines.carol
    home.weft("config", "set", "fc00.routes", "peers")
    home.weft("peer", "connect", f"/ip4/{carol.host.interfaces[0].ip4}/udp/{PORT}/p2p/{carol.id}")
    assert f"{carol.address} dev weft1" in machines.routes()
    log = (home.directory / "daemon.log").read_text()
    assert f"weft0: {carol.address}/128 has a route already, to weft1" in log
    assert machines.reaches(machines.bob, carol.address)
    lab.down()
    home.weft("peer", "set", carol.id, "--name", "carol")
    assert f"{carol.address} dev weft0" in machines.routes()
    assert machines.reaches(machines.bob, carol.address)
