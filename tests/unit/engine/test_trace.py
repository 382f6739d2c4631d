"""What a trace says is what happens to that packet, and asking changes nothing."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

import pytest

from tests.unit.engine import packets
from tests.unit.engine.packets import SYN
from tests.unit.engine.pair import Net, Node, S
from tests.unit.engine.test_passing import stock
from weft.engine.observed import SOURCE_PORT, Packet, Trace
from weft.engine.trace import Tracer
from weft.errors import UsageError
from weft.firewall.judge import ADOPTION_NS
from weft.firewall.rules import Rule
from weft.identity import encode_wireguard_key


def tracer(node: Node, *more: str, has_interface: bool = True) -> Tracer:
    own = [IPv6Address(node.address), *map(ip_address, more)]
    return Tracer(node.session.contacts, node.firewall, own, has_interface=has_interface, now=node.net.now)


def name(node: Node) -> str:
    return str(node.identity.peer_id)


def stages(trace: Trace) -> list[str]:
    return [step.stage for step in trace.steps]


def key_text(text: str) -> str:
    return text.partition("/from/")[0]


@pytest.mark.parametrize("what", ["/tcp/22", "/tcp/80", "/udp/53", "/udp/9", "/icmp"])
@pytest.mark.parametrize("who", ["alice", "carol"])
def test_trace_in_says_what_then_happens(what: str, who: str) -> None:
    with Net() as net:
        alice, carol = net.node("alice"), net.node("carol")
        bob = net.node("bob", rules=("/tcp/80", "/udp/53"))
        bob.firewall.allow(Rule("tcp", 22, alice.identity.noise_public))
        bob.firewall.allow(Rule("icmp", 0, carol.identity.noise_public))
        net.connect(bob, alice, carol)
        net.run(ADOPTION_NS / S)
        sender = alice if who == "alice" else carol
        before = (bob.firewall.flows, dict(bob.firewall.drops))
        trace = tracer(bob).trace_in(Packet(what=what), name(sender))
        assert (bob.firewall.flows, dict(bob.firewall.drops)) == before
        allowed = {"alice": {"/tcp/22"}, "carol": {"/icmp"}}[who] | {"/tcp/80", "/udp/53"}
        assert trace.verdict == ("accept" if what in allowed else "reject")
        assert (key_text(trace.rule) if trace.rule else None) == (what if what in allowed else None)
        assert stages(trace)[0] == "source"
        assert stages(trace).count("rule") == 4

        _, protocol, *port = what.split("/")
        ports = (SOURCE_PORT, int(port[0]) if port else 0)
        if protocol == "icmp":
            packet = packets.echo(sender.address, bob.address)
        elif protocol == "tcp":
            packet = packets.tcp(sender.address, bob.address, ports=ports, flags=SYN)
        else:
            packet = packets.udp(sender.address, bob.address, ports=ports)
        sender.tun.program_sends(packet)
        net.run()
        assert bob.tun.received == ([packet] if trace.verdict == "accept" else [])
        assert len(sender.tun.received) == (trace.answer is not None)


def test_trace_in_tells_whose_keys_are_in_the_rules() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        stock(net, alice, bob, "10.7.0.0/24")
        for source in (alice.identity.noise_public, bytes(31) + b"\1"):
            bob.firewall.allow(Rule("tcp", 22, source))
        trace = tracer(bob, "10.7.1.1").trace_in(Packet(what="/tcp/22", destination="10.7.1.1"), "alice")
        assert trace.peers == {encode_wireguard_key(alice.identity.noise_public): "alice"}


def test_trace_in_from_what_is_not_the_peer_s_is_dropped_and_says_whose_it_is() -> None:
    with Net() as net:
        alice, bob, carol = (net.node(each) for each in ("alice", "bob", "carol"))
        net.connect(bob, alice, carol)
        source = str(IPv6Address(carol.address))
        trace = tracer(bob).trace_in(Packet(what="/tcp/22", source=source), name(alice))
        assert (trace.verdict, trace.reason, trace.answer) == ("drop", "its source is not the peer's", None)
        assert trace.steps[0].text.startswith(f"{source} belongs to {name(carol)}")
        trace = tracer(bob).trace_in(Packet(what="/tcp/22", source="fc00::9"), name(alice))
        assert "is of no peer" in trace.steps[0].text


def test_trace_in_of_a_device_uses_its_network_and_our_address_of_that_version() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        stock(net, alice, bob, "10.7.0.0/24")
        trace = tracer(bob, "10.7.1.1").trace_in(Packet(what="/udp/53", destination="10.7.1.1"), "alice")
        assert (trace.packet, trace.verdict) == (f"10.7.0.1.{SOURCE_PORT} > 10.7.1.1.53: udp, length 0", "accept")


def test_trace_without_an_interface_says_so() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        trace = tracer(bob, has_interface=False).trace_in(Packet(what="/tcp/22"), name(alice))
        assert (trace.verdict, stages(trace)[-1]) == ("drop", "interface")


def test_trace_out_to_a_peer_tells_session_path_and_size() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        trace = tracer(alice).trace_out(Packet(what="/tcp/80", destination=name(bob)))
        assert (trace.verdict, trace.peer, trace.answer) == ("send", name(bob), None)
        assert stages(trace) == ["route", "flow", "flow", "session", "path", "size"]
        assert "bursts of up to" in trace.steps[4].text
        by_address = tracer(alice).trace_out(Packet(what="/tcp/80", destination=str(IPv6Address(bob.address))))
        assert by_address == trace


@pytest.mark.parametrize(
    ("size", "goes"),
    [(0, "fit one datagram"), (1352, "fit one datagram"), (9000, "as a burst of")],
)
def test_trace_out_says_how_a_packet_fits(size: int, goes: str) -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        trace = tracer(alice).trace_out(Packet(what="/udp/80", destination=name(bob), size=size))
        assert trace.verdict == "send"
        assert goes in trace.steps[-1].text


def test_trace_out_of_what_is_too_big_for_a_device_gives_the_answer_that_comes() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        stock(net, alice, bob)
        trace = tracer(alice).trace_out(Packet(what="/udp/80", destination="bob", size=2000))
        assert (trace.verdict, trace.reason) == ("too-big", "it is too big for the path")
        assert trace.answer is not None
        assert "packet too big" in trace.answer
        payload = bytes(2000 - 48)
        alice.tun.program_sends(packets.udp(alice.address, bob.address, payload, ports=(SOURCE_PORT, 80)))
        net.run()
        assert alice.tun.received[0][40] == 2


def test_trace_out_to_nobody_is_unreachable_and_to_the_node_itself_answered() -> None:
    with Net() as net:
        alice = net.node("alice")
        nobody = tracer(alice).trace_out(Packet(what="/tcp/80", destination="fc00::9"))
        assert (nobody.verdict, nobody.peer) == ("unreachable", None)
        assert nobody.answer is not None
        assert "address unreachable" in nobody.answer
        own = tracer(alice).trace_out(Packet(what="/tcp/80", destination=str(IPv6Address(alice.address))))
        assert (own.verdict, own.answer) == ("local", None)
        itself = tracer(alice).trace_out(Packet(what="/icmp", destination="fc00::1"))
        assert itself.verdict == "local"
        assert itself.answer is not None
        assert "echo reply" in itself.answer


def test_trace_out_without_a_session_waits() -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        alice.session.contacts.add_weft(bob.identity.noise_public, bob.identity.peer_id, is_wanted=True)
        trace = tracer(alice).trace_out(Packet(what="/udp/53", destination=name(bob)))
        assert (trace.verdict, trace.reason) == ("wait", "there is no session yet")
        assert any("nobody knows where the peer is" in step.text for step in trace.steps)


@pytest.mark.parametrize(
    ("packet", "says"),
    [
        (Packet(what="/tcp/0"), "a packet goes to one port"),
        (Packet(what="/tcp/22/from/xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="), "a packet goes to one port"),
        (Packet(what="tcp"), "a rule like"),
        (Packet(what="/tcp/22", source="x"), "'x' is no IP address"),
        (Packet(what="/tcp/22", source="10.0.0.1"), "of one IP version"),
    ],
)
def test_what_is_no_packet_is_refused_in_one_line(packet: Packet, says: str) -> None:
    with Net() as net:
        alice, bob = net.node("alice"), net.node("bob")
        net.connect(alice, bob)
        with pytest.raises(UsageError, match=says):
            tracer(alice).trace_in(packet, name(bob))
        with pytest.raises(UsageError, match="no peer 'nobody'"):
            tracer(alice).trace_out(Packet(what="/tcp/22", destination="nobody"))
