"""What a person settles about peers holds over a crash, and carries packets of other addresses than weft's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.system.lab import Lab
from tests.system.node import Node, Pair, at_once, connected_pair
from tests.system.waiting import until
from weft.api.v0 import node as node_api
from weft.errors import WeftError

pytestmark = pytest.mark.system


def crash(node: Node) -> None:
    """Kill the daemon and start it again."""
    node.kill()
    node.host.daemon(node.directory)
    killed = node.info.pid

    def is_back() -> bool:
        # Who was killed may still hold its socket for a moment.
        with suppress(WeftError):
            node.info = node.client.call(node_api.INFO)
        return node.info.pid != killed

    until(is_back, "the daemon answers again")


def is_up(node: Node, name: str) -> bool:
    return any(peer.state == "up" for peer in node.peers() if name in {peer.name, peer.id})


@pytest.fixture
def nodes(lab: Lab) -> tuple[Node, Node]:
    """Two without an interface, on one host."""
    host = lab.host("machine")
    alice, bob = (
        Node(host, lab.directory(name), f'[peer]\nlisten = ["/ip4/127.0.0.1/udp/{port}"]\n')
        for name, port in (("alice", 2001), ("bob", 2002))
    )
    at_once(Node.run_daemon, alice, bob)
    return alice, bob


def test_disconnected_peer_stays_away_over_a_crash_until_it_is_wanted_again(nodes: tuple[Node, Node]) -> None:
    alice, bob = nodes
    alice.weft("peer", "connect", bob.info.multiaddrs[0], "--name", "loom")
    bob.weft("peer", "disconnect", alice.id)
    alice.weft("peer", "disconnect", "loom")
    crash(alice)
    (peer,) = alice.peers()
    assert (peer.name, peer.standing, peer.state) == ("loom", "known", "idle")
    assert alice.status().peers[0].tx_bytes == 0
    alice.weft("peer", "persist", "loom")
    until(lambda: is_up(alice, "loom"), "the peer that is wanted is up")
    crash(alice)
    until(lambda: is_up(alice, "loom"), "the peer that is wanted is called after a crash")


def test_blocked_peer_is_not_answered_over_a_crash_until_it_is_unblocked(nodes: tuple[Node, Node]) -> None:
    alice, bob = nodes
    multiaddr = bob.info.multiaddrs[0]
    bob.weft("peer", "block", alice.id)
    for _ in range(2):
        refused = alice.outcome("peer", "connect", multiaddr, "--timeout", "1")
        assert (refused.code, refused.out) == (1, "")
        assert "no answer from 127.0.0.1:2002 within 1 s" in refused.err
        (peer,) = bob.peers()
        assert (peer.id, peer.standing, peer.state) == (alice.id, "blocked", "blocked")
        crash(bob)
    bob.weft("peer", "unblock", alice.id)
    alice.weft("peer", "connect", multiaddr)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with connected_pair("IPv4") as pair:
        yield pair


IP4, IP6 = {"alice": "10.7.0.1", "bob": "10.7.0.2"}, {"alice": "fd00:7::1", "bob": "fd00:7::2"}


def routes(node: Node) -> set[str]:
    """What leads to the interface."""
    return {
        route["dst"]
        for version in "46"
        for route in json.loads(node.host.ip(f"-{version}", "-json", "route", "show", "dev", "weft0"))
    }


def test_other_addresses_of_weft_peers_cross_the_tunnel_while_they_are_allowed(pair: Pair) -> None:
    ends = {"alice": (pair.alice, pair.bob), "bob": (pair.bob, pair.alice)}
    for name, (node, other) in ends.items():
        for address in (IP4[name], IP6[name]):
            node.host.ip("addr", "add", address, "dev", "weft0", *(["nodad"] if ":" in address else []))
        there = "bob" if name == "alice" else "alice"
        node.weft("peer", "set", other.id, "--allowed-ips", f"{IP4[there]}/32,{IP6[there]}/128", "--name", there)
        assert {IP4[there], IP6[there]} <= routes(node)
    for node, there in ((pair.alice, "bob"), (pair.bob, "alice")):
        for address in (IP4[there], IP6[there]):
            assert node.host.ping(address, count=3).received == 3
        assert node.host.ping(IP4[there], count=1, size=20_000).received == 1
    assert pair.crosses()
    pair.bob.weft("peer", "set", "alice", "--allowed-ips", "none")
    assert IP4["alice"] not in routes(pair.bob)
    assert pair.alice.host.ping(IP4["bob"], count=1, wait_s=1).received == 0
    assert pair.crosses()
    assert any("source" in reason for reason in pair.bob.status().drops)


def test_default_route_of_the_system_is_no_peers(pair: Pair) -> None:
    before = routes(pair.alice)
    pair.alice.weft("peer", "set", pair.bob.id, "--allowed-ips", "0.0.0.0/0,::/0,10.9.0.0/16")
    assert routes(pair.alice) - before == {"10.9.0.0/16"}
    assert pair.crosses()
    refused = pair.alice.outcome("peer", "set", pair.bob.id, "--endpoint", "10.9.3.4:1312")
    assert (refused.code, "10.9.3.4 is inside 10.9.0.0/16" in refused.err) == (2, True)
