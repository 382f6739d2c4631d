"""Two nodes on a cable: everything that a person expects of a network, over both underlays."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from tests.system.lab import Lab, bits_per_second, iperf3
from tests.system.node import Family, Node, Pair, connected_pair, nodes_on
from tests.system.traffic import MB, SOL_UDP, UDP_SEGMENT, Echo, flowing, socket_of
from tests.system.waiting import until

pytestmark = pytest.mark.system

FAMILIES: tuple[Family, ...] = ("IPv4", "IPv6")


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with connected_pair(request.param) as pair:
        yield pair


def test_packets_of_all_sizes_are_pinged_both_ways(pair: Pair) -> None:
    for here, there in ((pair.alice, pair.bob), (pair.bob, pair.alice)):
        for size in (0, 56, 1304, 1305, 20_000, 65_000):
            pinged = here.host.ping(there.address, count=3, size=size)
            assert pinged.received == 3, (here.host.name, size)


def test_probe_is_answered_by_the_endpoint_that_was_dialled(pair: Pair) -> None:
    endpoint = f"{pair.right.ip4}:1312" if pair.family == "IPv4" else f"[{pair.right.ip6}]:1312"
    said = pair.alice.weft("ping", "-c", "1", pair.bob.id)
    assert said.startswith(f"pong from {pair.bob.id} ({pair.bob.address}) via direct {endpoint} in ")
    said = pair.bob.weft("ping", "-c", "1", "--size", "1400", pair.alice.address)
    assert said.splitlines()[1].startswith("1 sent, 1 received, 0 % lost")


def test_streams_arrive_as_they_were_sent(pair: Pair) -> None:
    for direction in ("up", "down", "both"):
        pair.transfer(20 * MB, direction=direction)


def test_stream_arrives_in_order(pair: Pair) -> None:
    before = [out_of_order(node) for node in (pair.alice, pair.bob)]
    pair.transfer(50 * MB)
    assert [out_of_order(node) for node in (pair.alice, pair.bob)] == before


def out_of_order(node: Node) -> int:
    """TCP segments that a host was given before those that precede them."""
    names, values = (line.split() for line in node.host.run("cat", "/proc/net/netstat").splitlines()[:2])
    return int(values[names.index("TCPOFOQueue")])


def test_daemon_answers_its_person_under_full_load(pair: Pair) -> None:
    with flowing(pair.alice.host, pair.bob.host, pair.bob.address, pace=None) as flows:
        until(lambda: min(flow.received for flow in flows) > 5 * MB, "the transfer runs")
        for node in (pair.alice, pair.bob):
            began = time.monotonic()
            for _ in range(20):
                assert node.status().peers[0].state == "up"
            assert (time.monotonic() - began) / 20 < 0.25


def test_fifty_streams_at_once_arrive_as_they_were_sent(pair: Pair) -> None:
    pair.transfer(500_000, streams=50)


def test_datagrams_of_all_sizes_come_back_as_they_were_sent(pair: Pair) -> None:
    sizes = [1, 2, 3, 511, 512, 1232, 1304, 1305, 2609, 9000, 30_001, 65_000]
    with (
        Echo(pair.bob.host, pair.bob.address) as echo,
        socket_of(pair.alice.host, pair.bob.address, socket.SOCK_DGRAM) as client,
    ):
        client.connect((pair.bob.address, echo.port))
        for number, size in enumerate(20 * sizes):
            datagram = (number.to_bytes(4, "big") * (size // 4 + 1))[:size]
            client.send(datagram)
            assert client.recv(65_535) == datagram


def test_datagrams_that_leave_in_one_call_come_back_one_by_one(pair: Pair) -> None:
    with (
        Echo(pair.bob.host, pair.bob.address) as echo,
        socket_of(pair.alice.host, pair.bob.address, socket.SOCK_DGRAM) as client,
    ):
        client.connect((pair.bob.address, echo.port))
        client.setsockopt(SOL_UDP, UDP_SEGMENT, 1000)
        for count in (2, 11, 40):
            expected = [bytes([number]) * 1000 for number in range(count)] + [b"the last is shorter"]
            client.send(b"".join(expected))
            assert [client.recv(65_535) for _ in expected] == expected


@pytest.mark.system("iperf3")
def test_iperf3_gets_through_both_ways(pair: Pair) -> None:
    for words in (("--bidir",), ("-u", "-b", "50M")):
        result = iperf3(pair.alice.host, pair.bob.host, pair.bob.address, *words, seconds=1)
        assert bits_per_second(result) > 20e6


def test_status_tells_what_the_tunnel_is(pair: Pair) -> None:
    before = pair.alice.peer()
    pair.transfer(5 * MB)
    until(lambda: pair.alice.peer().path_mtu == 1500, "the path MTU is found")
    peer = pair.alice.peer()
    assert (peer.id, peer.kind, peer.state, peer.mode) == (pair.bob.id, "weft", "up", "burst")
    assert peer.addresses == [pair.bob.address]
    assert (peer.burst_pieces, peer.loss) == (64, 0)
    assert peer.rtt_ms is not None
    for moved in (peer.tx_bytes - before.tx_bytes, peer.rx_bytes - before.rx_bytes):
        # Bursts spend little beside the payload, and acknowledgements are few.
        assert 5 * MB < moved < 1.1 * 5 * MB
    lines = pair.alice.weft("status").splitlines()
    assert lines[1].split()[:4] == [pair.bob.address, "-", "weft", "up"]


def test_nothing_was_dropped_and_no_task_died(pair: Pair) -> None:
    assert pair.drops() == {}
    for node in (pair.alice, pair.bob):
        assert set(node.restarts().values()) == {0}


def test_hosts_that_have_link_local_addresses_only_are_dialled_by_the_interface(lab: Lab) -> None:
    cable = lab.veth(lab.host("alice"), lab.host("bob"))
    for end in (cable.left, cable.right):
        end.host.ip("addr", "flush", "dev", end.ifname, "scope", "global")
    alice, bob = nodes_on(lab, cable.left, cable.right)
    shown = f"/ip6zone/{cable.right.ifname}/ip6/fe80::"
    (told,) = until(lambda: [each for each in bob.status().info.multiaddrs if each.startswith(shown)], "Bob tells it")
    alice.weft("peer", "connect", told.replace(cable.right.ifname, cable.left.ifname, 1))
    assert alice.host.ping(bob.address).received == 3
    endpoint = alice.peer(bob).endpoint
    assert endpoint is not None
    assert endpoint.startswith("[fe80::")
    assert endpoint.endswith(f"%{cable.left.ifname}]:1312")
    alice.down()
    alice.up()
    until(lambda: alice.host.ping(bob.address, count=1).received == 1, "Bob is called again")
