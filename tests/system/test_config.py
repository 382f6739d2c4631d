"""The configuration of nodes that run: reload and SIGHUP under load, listeners, marks, addresses."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.lab import Interface, Lab
from tests.system.node import EVERYTHING, Node, Pair, connected_pair
from tests.system.traffic import flowing, socket_of, transfer, wait_until_all_go_on
from tests.system.waiting import until

pytestmark = pytest.mark.system

MARK = "0x1234"


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with connected_pair() as pair:
        yield pair


def port_seen(node: Node, other: Node) -> int:
    """The port of another node, as this one sees it."""
    return int((node.peer(other).endpoint or ":0").rpartition(":")[2])


def log_of(node: Node) -> str:
    return (node.directory / "daemon.log").read_text()


def test_listeners_come_and_go_and_connections_go_on(pair: Pair) -> None:
    alice, bob = pair.alice, pair.bob
    with flowing(alice.host, bob.host, bob.address) as flows:
        wait_until_all_go_on(flows)
        alice.weft("listener", "start", "/ip4/0.0.0.0/udp/2001")
        alice.weft("listener", "stop", "/ip4/0.0.0.0/udp/1312")
        until(lambda: port_seen(bob, alice) == 2001, "Bob follows")
        wait_until_all_go_on(flows)
        config = bob.directory / "weft.toml"
        config.write_text(config.read_text().replace("/ip4/0.0.0.0/udp/1312", "/ip4/0.0.0.0/udp/3000"))
        os.kill(bob.info.pid, signal.SIGHUP)
        until(lambda: port_seen(alice, bob) == 3000, "Alice follows")
        wait_until_all_go_on(flows)
        alice.weft("config", "set", "peer.listen", f"/ip4/{pair.left.ip4}/udp/2001,/ip6/::/udp/1312")
        wait_until_all_go_on(flows)
        assert f"/ip4/{pair.left.ip4}/udp/2001" in [each.multiaddr for each in alice.status().listeners]
        alice.weft("config", "set", "peer.listen", "/ip4/0.0.0.0/udp/1312,/ip6/::/udp/1312")
        bob.weft("config", "unset", "peer.listen")
        until(lambda: (port_seen(alice, bob), port_seen(bob, alice)) == (1312, 1312), "all is as it was")
        wait_until_all_go_on(flows)
    for node in (alice, bob):
        assert set(node.restarts().values()) == {0}


def test_transport_is_switched_under_a_connection(pair: Pair) -> None:
    alice, bob = pair.alice, pair.bob
    alice.connect(bob, pair.right, "IPv6")
    alice.connect(bob, pair.right, "IPv4")
    with flowing(alice.host, bob.host, bob.address) as flows:
        wait_until_all_go_on(flows)
        assert "off" in alice.weft("transport", "disable", "ip4")
        until(lambda: (alice.peer(bob).endpoint or "").startswith("["), "IPv6 carries the tunnel")
        wait_until_all_go_on(flows, 20)
        assert "off" not in alice.weft("transport", "enable", "ip4")
        wait_until_all_go_on(flows)
    alice.connect(bob, pair.right, "IPv4")


def test_bad_file_and_busy_port_change_nothing_and_are_named(pair: Pair) -> None:
    alice = pair.alice
    config, listeners = alice.directory / "weft.toml", alice.status().listeners
    good = config.read_text()
    bad = good.replace("keepalive_s = 25", "keepalive_s = -25")
    line = bad.splitlines().index("keepalive_s = -25") + 1
    config.write_text(bad)
    message = f"{config}: peer.keepalive_s: expected 0 to 65535 seconds (line {line})"
    failed = alice.outcome("reload")
    assert (failed.code, failed.err) == (1, f"weft: {message}\n")
    os.kill(alice.info.pid, signal.SIGHUP)
    until(lambda: f"the configuration stays as it is: {message}" in log_of(alice), "the log says why")
    config.write_text(good)
    with socket_of(alice.host, "0.0.0.0", socket.SOCK_DGRAM) as rival:
        rival.bind(("0.0.0.0", 4000))
        failed = alice.outcome("config", "set", "peer.listen", "/ip4/0.0.0.0/udp/5000,/ip4/0.0.0.0/udp/4000")
    assert (failed.code, failed.err) == (1, "weft: can't listen on UDP 0.0.0.0:4000: Address already in use\n")
    assert config.read_text() == good
    assert alice.status().listeners == listeners
    assert pair.crosses()


def test_network_secret_of_running_nodes_is_changed(pair: Pair) -> None:
    for node in (pair.alice, pair.bob):
        secret = node.directory / "network.secret"
        secret.write_text("correct horse battery staple")
        secret.chmod(0o600)
        assert node.weft("config", "set", "network.secret_file", "network.secret") == "changed: network.secret_file\n"
        if node is pair.alice:
            until(lambda: not pair.crosses(), "Bob does not know the secret")
    until(pair.crosses, "Bob knows it")
    for node in (pair.alice, pair.bob):
        node.weft("config", "unset", "network.secret_file")
    until(pair.crosses, "there is none any more")


def test_ipv4_and_ipv6_addresses_of_both_nodes_reach_each_other(pair: Pair) -> None:
    alice, bob = pair.alice, pair.bob
    for node, other, number in ((alice, bob, 1), (bob, alice, 2)):
        said = node.weft("config", "set", "fc00.addresses", f"10.7.0.{number}/24,2001:db8:7::{number}/64")
        assert said == "changed: fc00.addresses\n"
        prefixes = f"10.7.0.{3 - number}/32,2001:db8:7::{3 - number}/128"
        node.weft("peer", "set", other.id, "--allowed-ips", prefixes)
        assert f"10.7.0.{number}/24" in node.weft("fc00", "status")
    for address in ("10.7.0.2", "2001:db8:7::2"):
        until(lambda address=address: alice.host.ping(address, count=1).received == 1, address)
        transfer(alice.host, bob.host, address, 2_000_000)
    assert not any("10.7.0" in each or "2001:db8:7:" in each for each in alice.status().info.multiaddrs)
    refused = alice.outcome("peer", "connect", f"/ip4/10.7.0.2/udp/1312/p2p/{bob.id}")
    assert refused.code == 2
    assert "10.7.0.2 is inside 10.7.0." in refused.err
    alice.weft("fc00", "stop")
    alice.weft("fc00", "start")
    until(lambda: alice.host.ping("10.7.0.2", count=1).received == 1, "they are there again")
    for node in (alice, bob):
        node.weft("config", "unset", "fc00.addresses")
        node.weft("peer", "set", (bob if node is alice else alice).id, "--allowed-ips", "")
    assert "10.7.0" not in alice.host.ip("addr", "show") + alice.host.ip("route", "show")
    assert pair.crosses()


def test_address_whose_route_another_interface_has_is_refused_and_nothing_changes(pair: Pair) -> None:
    alice = pair.alice
    alice.weft("config", "set", "fc00.addresses", "10.8.0.1/24")
    network = f"{pair.left.ip4.rpartition('.')[0]}.0/24"
    refused = alice.outcome("config", "set", "fc00.addresses", f"10.9.0.1/24,{pair.left.ip4.rpartition('.')[0]}.77/24")
    assert (refused.code, refused.out) == (2, "")
    assert f"{pair.left.ifname} has the route {network} already" in refused.err
    assert "10.8.0.1/24" in alice.weft("config", "show")
    assert "10.8.0.1/24" in alice.host.ip("addr", "show")
    assert "10.9.0.1" not in alice.host.ip("addr", "show")
    alice.weft("config", "unset", "fc00.addresses")
    assert "10.8.0.1" not in alice.host.ip("addr", "show")


def test_marked_packets_take_the_way_that_a_rule_gives_them(lab: Lab) -> None:
    alice_host, bob_host = lab.host("alice"), lab.host("bob")
    usual, other = lab.veth(alice_host, bob_host), lab.veth(alice_host, bob_host)
    for end in (usual.right, other.right):
        bob_host.run("sysctl", "-qw", f"net.ipv4.conf.{end.ifname}.rp_filter=0")
    bob_host.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0")
    alice_host.ip("rule", "add", "fwmark", MARK, "table", "77")
    alice_host.ip("route", "add", f"{usual.right.ip4}/32", "via", other.right.ip4, "table", "77")
    alice, bob = Node(alice_host, lab.directory("alice")), Node(bob_host, lab.directory("bob"))
    for node in (alice, bob):
        node.up(*EVERYTHING)
    alice.connect(bob, usual.right)
    assert sent(usual.left) > 0
    assert alice.weft("config", "set", "peer.fwmark", MARK) == "changed: peer.fwmark\n"
    before = sent(usual.left), sent(other.left)
    assert alice.host.ping(bob.address, count=20).received == 20
    assert sent(other.left) - before[1] >= 20
    assert sent(usual.left) - before[0] < 20
    alice.weft("config", "unset", "peer.fwmark")
    before = sent(usual.left), sent(other.left)
    assert alice.host.ping(bob.address, count=20).received == 20
    assert sent(usual.left) - before[0] > sent(other.left) - before[1]


def sent(end: Interface) -> int:
    return int(end.host.run("cat", str(Path("/sys/class/net", end.ifname, "statistics/tx_packets"))))
