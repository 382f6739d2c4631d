"""What is told of the ports of a host inside a node, and whether it is so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_address, ip_interface

import pytest

from tests.unit.engine.nodes import Nodes, Test
from tests.unit.engine.test_host_interface import ANY, connect, driver_of, joined, until, with_stacks
from weft.engine.host_ports import listening
from weft.engine.lifetime import Lifetime
from weft.engine.observed import Packet
from weft.engine.verbs.fc00 import Fc00
from weft.engine.verbs.packets import Packets
from weft.stack.endpoint import Endpoint


def name(node: Lifetime) -> str:
    return str(node.identity.peer_id)


def test_ports_are_those_that_programs_listen_on_whatever_the_rules_are(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice = await nodes.start("alice")
        fc00 = Fc00(alice)
        await fc00.allow(["/tcp/22"])
        assert fc00.ports().listening is None
        await fc00.start(device="stack")
        assert fc00.ports().listening == ["/icmp"]
        assert alice.interface is not None
        await alice.interface.set_addresses([ip_interface("10.7.0.1/24")])
        host = driver_of(alice).host
        host.tcp.listen(Endpoint(ANY, 443))
        host.tcp.listen(Endpoint(ANY, 80))
        host.tcp.listen(Endpoint(bytes((10, 7, 0, 1)), 8080))
        host.tcp.listen(Endpoint(ip_address("::1").packed, 7))
        host.udp.open(Endpoint(bytes(4), 53))
        host.udp.open(None, Endpoint(alice.identity.address, 53))
        assert fc00.ports().listening == ["/tcp/80", "/tcp/443", "/tcp/8080/at/10.7.0.1", "/udp/53", "/icmp"]
        assert fc00.ports().allow == ["/tcp/22"]
        await fc00.stop()
        assert fc00.ports().listening is None

    run(test)


@pytest.mark.parametrize("is_open", [True, False])
def test_trace_of_a_connection_says_what_then_happens(run: Callable[[Test], None], is_open: bool) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await with_stacks(nodes, "alice", "bob")
        if is_open:
            driver_of(bob).host.tcp.listen(Endpoint(ANY, 80))
        trace = Packets(bob).trace_in(Packet(what="/tcp/80"), name(alice))
        connection = connect(alice, bob, 80)
        await until(driver_of(alice), lambda: connection.is_established or connection.is_closed)
        assert (
            trace.verdict
            == ("accept" if connection.is_established else "reject")
            == ("accept" if is_open else "reject")
        )
        assert (trace.answer is None) == is_open
        assert [step.stage for step in trace.steps] == ["source", "stack"]

    run(test)


def test_trace_knows_connections_datagrams_and_pings(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await with_stacks(nodes, "alice", "bob")
        packets, peer = Packets(bob), name(alice)
        assert packets.trace_in(Packet(what="/icmp"), peer).verdict == "accept"
        assert packets.trace_in(Packet(what="/udp/53"), peer).verdict == "reject"
        driver_of(bob).host.udp.open(Endpoint(ANY, 53))
        assert packets.trace_in(Packet(what="/udp/53"), peer).verdict == "accept"
        ours, theirs = await joined(alice, bob)
        late = Packet(what="/tcp/80", source_port=theirs.remote.port, flags=".")
        assert packets.trace_in(late, peer).steps[-1].text == "a program has this connection open"
        assert packets.trace_in(Packet(what="/tcp/80", flags="."), peer).verdict == "reject"
        ours.abort(driver_of(alice).clock())
        driver_of(alice).wake()
        await asyncio.sleep(0.1)
        assert packets.trace_in(late, peer).verdict == "reject"

    run(test)


def test_trace_out_of_a_stack_needs_no_rule(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await with_stacks(nodes, "alice", "bob")
        trace = Packets(alice).trace_out(Packet(what="/tcp/80", destination=name(bob)))
        # By the clock of this machine, which the session does not go by, it may be over.
        assert trace.verdict in {"send", "wait"}
        assert "flow" not in {step.stage for step in trace.steps}
        own = Packets(alice).trace_out(Packet(what="/tcp/80", destination=str(ip_address(alice.identity.address))))
        assert own.verdict == "local"
        assert "whose stack delivers that" in own.steps[0].text
        assert alice.firewall.flows == 0

    run(test)


def test_asking_changes_nothing(run: Callable[[Test], None]) -> None:
    async def test(nodes: Nodes) -> None:
        alice, bob = await with_stacks(nodes, "alice", "bob")
        host = driver_of(bob).host
        host.tcp.listen(Endpoint(ANY, 80))
        before = (listening(host), host.tcp.connections, dict(host.drops), host.next_timer())
        Packets(bob).trace_in(Packet(what="/tcp/80"), name(alice))
        Packets(bob).trace_in(Packet(what="/tcp/81"), name(alice))
        assert (listening(host), host.tcp.connections, dict(host.drops), host.next_timer()) == before
        assert host.next_packet(driver_of(bob).clock()) is None

    run(test)
