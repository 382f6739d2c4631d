"""The firewall over a real tunnel: what programs on both sides see of it."""

from __future__ import annotations

import socket

import pytest

from tests.system.node import Node, Trio
from tests.system.traffic import MB, Echo, Flow, connected, listening, socket_of, transfer
from tests.system.waiting import until
from weft.firewall.judge import ADOPTION_NS

pytestmark = pytest.mark.system

PORT = 8080
SILENCE_S = 0.5
IPV6_DSTOPTS = 59
DESTINATION_OPTIONS = bytes([0, 0, 1, 4, 0, 0, 0, 0])
"""An extension header with six bytes of padding in it."""


def connects(here: Node, there: Node, port: int = PORT, timeout_s: float = 5, options: bytes = b"") -> bool:
    """Whether a connection is made; ConnectionRefusedError and TimeoutError if not."""
    with (
        listening(there.host, there.address, port) as listener,
        socket_of(here.host, there.address, socket.SOCK_STREAM) as client,
    ):
        if options:
            client.setsockopt(socket.IPPROTO_IPV6, IPV6_DSTOPTS, options)
        client.settimeout(timeout_s)
        client.connect((there.address, port))
        far, _ = listener.accept()
        with far:
            client.sendall(b"hello")
            return far.recv(5) == b"hello"


def echoes(here: Node, there: Node, size: int = 100, timeout_s: float = 5, options: bytes = b"") -> bool:
    """Whether a datagram comes back; ConnectionRefusedError and TimeoutError if not."""
    with (
        Echo(there.host, there.address, PORT),
        socket_of(here.host, there.address, socket.SOCK_DGRAM) as client,
    ):
        if options:
            client.setsockopt(socket.IPPROTO_IPV6, IPV6_DSTOPTS, options)
        client.settimeout(timeout_s)
        client.connect((there.address, PORT))
        client.send(bytes(size))
        return client.recv(65_535) == bytes(size)


def until_it_speaks(node: Node) -> None:
    """A node that has just started keeps still, lest it break connections that it does not know yet."""
    until(lambda: node.age_s > ADOPTION_NS / 1e9 + 5, "the firewall adopts no more connections", 90)


def test_tcp_is_refused_until_its_port_is_allowed(trio: Trio) -> None:
    alice, bob = trio.alice, trio.bob
    with pytest.raises(ConnectionRefusedError):
        connects(alice, bob)
    with bob.allowing(f"/tcp/{PORT}"):
        assert connects(alice, bob)
        with pytest.raises(ConnectionRefusedError):
            connects(alice, bob, PORT + 1)
    with pytest.raises(ConnectionRefusedError):
        connects(alice, bob)


def test_all_ports_are_allowed_by_port_zero(trio: Trio) -> None:
    with trio.bob.allowing("/tcp/0", "/udp/0"):
        assert connects(trio.alice, trio.bob, 1)
        assert connects(trio.alice, trio.bob, 65_535)
        assert echoes(trio.alice, trio.bob)


def test_connection_outlives_the_rule_that_let_it_in(trio: Trio) -> None:
    with trio.bob.allowing("/tcp/0"):
        stack = connected(trio.alice.host, trio.bob.host, trio.bob.address)
        ends = stack.__enter__()
        ends.client.sendall(b"before")
        assert ends.server.recv(10) == b"before"
    ends.server.sendall(b"after")
    assert ends.client.recv(10) == b"after"
    ends.client.sendall(b"after")
    assert ends.server.recv(10) == b"after"
    stack.__exit__(None, None, None)


def test_answers_to_what_was_asked_come_in(trio: Trio) -> None:
    for node in (trio.bob, trio.carol):
        transfer(node.host, trio.alice.host, trio.alice.address, 5 * MB)
        assert echoes(node, trio.alice)
        assert echoes(node, trio.alice, 20_000)
        assert node.host.ping(trio.alice.address, size=20_000).received == 3
        # What the other side's kernel says about a closed port comes in too.
        with socket_of(node.host, trio.alice.address, socket.SOCK_DGRAM) as client:
            client.connect((trio.alice.address, 9))
            client.send(b"anybody?")
            with pytest.raises(ConnectionRefusedError):
                client.recv(10)


def test_ping_is_prohibited_until_icmp_is_allowed(trio: Trio) -> None:
    alice, bob = trio.alice, trio.bob
    said = alice.host.run("ping", "-n", "-c1", "-W2", bob.address, check=False)
    assert f"From {bob.address} icmp_seq=1 Destination unreachable: Administratively prohibited" in said
    with bob.allowing("/icmp"):
        for size in (0, 56, 1304, 1305, 20_000):
            assert alice.host.ping(bob.address, size=size).received == 3, size
    assert alice.host.ping(bob.address, count=1, wait_s=1).received == 0


def test_fragments_come_in_only_where_the_whole_would(trio: Trio) -> None:
    alice, bob = trio.alice, trio.bob
    with bob.allowing(f"/udp/{PORT}"):
        assert echoes(alice, bob, 20_000)
    before = received_fragments(bob)
    with pytest.raises((ConnectionRefusedError, TimeoutError)):
        echoes(alice, bob, 20_000, SILENCE_S)
    assert alice.host.ping(bob.address, count=1, size=20_000, wait_s=1).received == 0
    assert received_fragments(bob) == before


def received_fragments(node: Node) -> int:
    """Fragments that the kernel of a host was given since its start."""
    said = node.host.run("cat", "/proc/net/snmp6")
    return int(next(line.split()[1] for line in said.splitlines() if line.startswith("Ip6ReasmReqds")))


def test_extension_headers_hide_nothing_from_the_firewall(trio: Trio) -> None:
    alice, bob = trio.alice, trio.bob
    with pytest.raises(ConnectionRefusedError):
        connects(alice, bob, options=DESTINATION_OPTIONS)
    with pytest.raises((ConnectionRefusedError, TimeoutError)):
        echoes(alice, bob, timeout_s=SILENCE_S, options=DESTINATION_OPTIONS)
    with bob.allowing(f"/tcp/{PORT}", f"/udp/{PORT}"):
        assert connects(alice, bob, options=DESTINATION_OPTIONS)
        assert echoes(alice, bob, options=DESTINATION_OPTIONS)
        assert echoes(alice, bob, 20_000, options=DESTINATION_OPTIONS)
        with bob.allowing("/tcp/0"), connected(alice.host, bob.host, bob.address) as ends:
            for end in ends:
                end.setsockopt(socket.IPPROTO_IPV6, IPV6_DSTOPTS, DESTINATION_OPTIONS)
            Flow(ends.client, ends.server, 2 * MB).finish()


def test_whoever_drops_tells_nobody(trio: Trio) -> None:
    alice, carol = trio.alice, trio.carol
    before = carol.status().drops.get("not_allowed", 0)
    with pytest.raises(TimeoutError):
        connects(alice, carol, timeout_s=SILENCE_S)
    with pytest.raises(TimeoutError):
        echoes(alice, carol, timeout_s=SILENCE_S)
    said = alice.host.run("ping", "-n", "-c1", "-W1", carol.address, check=False)
    assert "0 received" in said
    assert "From" not in said
    assert carol.status().drops["not_allowed"] > before


def test_rules_are_shown_and_wrong_ones_refused(trio: Trio) -> None:
    with trio.bob.allowing("/tcp/80", "/udp/53", "/icmp"):
        assert trio.bob.weft("fc00", "ports").splitlines() == [
            "allow /tcp/80  from everybody",
            "allow /udp/53  from everybody",
            "allow /icmp    from everybody",
            "all else that comes in is rejected",
        ]
    assert trio.carol.weft("fc00", "ports").splitlines() == ["all else that comes in is dropped"]
    for wrong in ("/tcp", "/tcp/65536", "/sctp/1", "tcp/80", "/icmp/1", ""):
        seen = trio.bob.outcome("fc00", "allow", "/tcp/81", wrong)
        assert (seen.code, seen.out, seen.err.count("\n")) == (2, "", 1), wrong
    assert trio.bob.status().drops is not None
    assert trio.bob.weft("fc00", "ports").splitlines() == ["all else that comes in is rejected"]


def test_udp_is_refused_until_its_port_is_allowed(trio: Trio) -> None:
    alice, bob = trio.alice, trio.bob
    until_it_speaks(bob)
    with pytest.raises(ConnectionRefusedError):
        echoes(alice, bob)
    with bob.allowing(f"/udp/{PORT}"):
        assert echoes(alice, bob)
    with pytest.raises(ConnectionRefusedError):
        echoes(alice, bob)


def test_rejections_are_limited_and_counted(trio: Trio) -> None:
    alice, bob = trio.alice, trio.bob
    until_it_speaks(bob)
    before = bob.status().drops
    # All shall reach Alice's daemon, however late it comes to read its interface.
    alice.host.ip("link", "set", "weft0", "txqueuelen", "10000")
    with socket_of(alice.host, bob.address, socket.SOCK_DGRAM) as client:
        for port in range(2000):
            client.sendto(b"knock", (bob.address, 10_000 + port))
    until(lambda: bob.status().drops.get("rejection_rate", 0) > before.get("rejection_rate", 0), "some stay unanswered")
    until(lambda: bob.status().drops["not_allowed"] - before.get("not_allowed", 0) > 1000, "and all are counted")
    assert connects(bob, alice)
