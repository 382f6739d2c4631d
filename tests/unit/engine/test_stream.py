"""Whatever goes into one TUN comes out of the other: the same bytes in the same order per flow."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.engine import packets
from tests.unit.engine.packets import ACK, CWR, ECE, FIN, PSH, RST, SYN, URG
from tests.unit.engine.pair import FakeTun, Net, Node, add_device

V4 = {"alice": bytes((10, 99, 0, 1)), "bob": bytes((10, 99, 0, 2))}
DESTINATION_OPTIONS = bytes((0, 1)) + bytes((1, 12)) + bytes(12)
"""A header of 16 bytes whose first byte, the protocol that follows, is filled in."""
TIMESTAMPS = b"\1\1\x08\x0a" + bytes(range(8))
FLOWS = 2


@dataclass(frozen=True)
class Item:
    """What one program does once."""

    shape: str
    flow: int
    v4: bool
    size: int
    segment: int
    flags: int
    fields: int
    pause: bool


class Programs:
    """Programs of one host that talk to another one."""

    def __init__(self, here: Node, there: Node, seed: int) -> None:
        self.random = Random(seed)
        self.sequences = [self.random.getrandbits(32) for _ in range(FLOWS)]
        self.identifications = [self.random.getrandbits(16) for _ in range(FLOWS)]
        self.ends = {False: (here.address, there.address), True: (V4[here.name], V4[there.name])}

    def make(self, item: Item) -> tuple[bytes, int]:
        """The packet and, if it is a super-packet, its segment size."""
        ends, ports = self.ends[item.v4], (1000 + item.flow, 2000)
        fields: dict[str, int | bytes] = {"ecn": item.fields % 4, "dscp": item.fields // 4 % 64}
        if item.v4:
            fields["identification"] = self.identifications[item.flow]
            fields["dont_fragment"] = bool(item.fields & 256)
            fields["options"] = bytes((1, 1, 1, 0)) if item.fields & 512 else b""
        payload = self.random.randbytes(item.size)
        match item.shape:
            case "tcp":
                sequence = self.sequences[item.flow]
                self.sequences[item.flow] = (sequence + item.size) & 0xFFFFFFFF
                segments = -(-item.size // item.segment) if item.size else 1
                self.identifications[item.flow] = (self.identifications[item.flow] + segments) & 0xFFFF
                more: dict[str, bytes] = {"tcp_options": TIMESTAMPS} if item.fields & 1024 else {}
                if item.fields & 2048 and not item.v4:
                    more["extension"] = bytes((packets.TCP,)) + DESTINATION_OPTIONS[1:]
                packet = packets.tcp(*ends, payload, ports=ports, sequence=sequence, flags=item.flags, **more, **fields)
                return packet, item.segment
            case "udp":
                return packets.udp(*ends, payload, ports=ports, **fields), item.segment
            case "udp without checksum":
                packet = packets.udp(*ends, payload[:1200], ports=ports, **fields)
                at = packets.upper(packet)[1] + 6
                return packet[:at] + bytes(2) + packet[at + 2 :], 0
            case "echo":
                return packets.echo(*ends, payload[:1200], **fields), 0
            case _:
                extension = {} if item.v4 else {"extension": bytes((packets.UDP,)) + DESTINATION_OPTIONS[1:]}
                return packets.udp(*ends, payload[:1200], ports=ports, **fields, **extension), 0


FLAGS = [ACK] * 6 + [ACK | PSH, ACK | PSH, ACK | FIN, ACK | ECE, ACK | CWR, ACK | CWR | PSH]
LONE_FLAGS = [SYN, SYN | ACK, RST | ACK, ACK | URG]


@st.composite
def items(draw: st.DrawFn) -> Item:
    shape = draw(st.sampled_from(["tcp"] * 8 + ["udp", "udp", "udp without checksum", "echo", "extension"]))
    v4 = shape == "udp without checksum" or draw(st.integers(0, 3)) == 0
    segment = draw(st.sampled_from([100, 255, 256, 257, 536, 1000, 1212, 1279, 1280, 1291]))
    size = draw(st.one_of(st.integers(0, 90), st.integers(256, 1291), st.integers(256, 1291), st.integers(1, 65_400)))
    flags = draw(st.sampled_from(FLAGS))
    if shape == "tcp" and draw(st.integers(0, 9)) == 0:
        flags, size = draw(st.sampled_from(LONE_FLAGS)), min(size, 100)
    if shape == "udp":
        size = min(size, 128 * segment)
    return Item(
        shape=shape,
        flow=int(draw(st.integers(0, 4)) == 0),
        v4=v4,
        size=size,
        segment=segment,
        flags=flags,
        fields=draw(st.sampled_from([0, 0, 0, 256, 1024, 2048, draw(st.integers(0, 4095))])),
        pause=draw(st.integers(0, 4)) == 0,
    )


SCRIPTS = st.tuples(st.lists(items(), min_size=1, max_size=12), st.integers(0, 2**32))


def joined(net: Net, pieces: int | None = None) -> tuple[Node, Node]:
    """Two weft nodes with IPv4 addresses of the overlay too."""
    alice, bob = net.node("alice", fixed_pieces=pieces), net.node("bob", fixed_pieces=pieces)
    join(net, alice, bob)
    return alice, bob


def join(net: Net, alice: Node, bob: Node) -> None:
    """Connect them and give them IPv4 addresses of the overlay."""
    net.connect(alice, bob)
    for one, other in ((alice, bob), (bob, alice)):
        one.session.contacts.routes.insert(ip_network(V4[other.name]), one.peer(other))


def stock(net: Net) -> tuple[Node, Node]:
    """Two nodes that take each other for WireGuard devices."""
    alice, bob = net.node("alice"), net.node("bob")
    for one, other in ((alice, bob), (bob, alice)):
        networks = (ip_network(other.address), ip_network(V4[other.name]))
        peer = add_device(one.session.contacts, other.identity.noise_public, other.name, networks, bytes(32), 0)
        if one is alice:
            one.session.call(peer, one.endpoint(other.socket))
    net.run(0.5)
    return alice, bob


def check(net: Net, alice: Node, bob: Node, script: tuple[list[Item], int]) -> None:
    """Run a script at one node and compare what the other one's programs get."""
    given_items, seed = script
    programs = Programs(alice, bob, seed)
    expected: list[bytes] = []
    for item in given_items:
        packet, segment = programs.make(item)
        is_super = 0 < segment < item.size
        expected += packets.segments(packet, segment) if is_super else [packet]
        alice.tun.program_sends(packet, segment=segment if is_super else 0)
        if item.pause:
            net.run()
    net.run()
    assert all(map(packets.is_sound, expected))
    received = bob.tun.received
    assert packets.by_flow(received) == packets.by_flow(expected)
    assert not alice.drops
    assert not bob.drops


@given(SCRIPTS)
def test_whole_bursts_deliver_all_flows_as_they_were(script: tuple[list[Item], int]) -> None:
    with Net() as net:
        check(net, *joined(net), script)


@given(SCRIPTS, st.integers(2, 63))
def test_runs_deliver_all_flows_as_they_were(script: tuple[list[Item], int], pieces: int) -> None:
    with Net() as net:
        check(net, *joined(net, pieces), script)


@settings(max_examples=60)
@given(SCRIPTS)
def test_type_4_alone_delivers_all_flows_as_they_were(script: tuple[list[Item], int]) -> None:
    with Net() as net:
        check(net, *joined(net, 0), script)


@settings(max_examples=60)
@given(SCRIPTS)
def test_stock_peer_gets_all_flows_as_they_were(script: tuple[list[Item], int]) -> None:
    with Net() as net:
        check(net, *stock(net), script)


@pytest.mark.parametrize("link_mtu", [576, 1280, 9000, 16_384, 65_535, 65_536])
@pytest.mark.parametrize("host", ["10.0.0.1", "2001:db8::1"])
@settings(max_examples=8)
@given(script=SCRIPTS, pieces=st.sampled_from([None, 0, 3]))
def test_any_link_carries_all_flows_as_they_were(
    host: str, link_mtu: int, script: tuple[list[Item], int], pieces: int | None
) -> None:
    if link_mtu < 1280 and ":" in host:
        return
    with Net(link_mtu=link_mtu) as net:
        alice, bob = (
            net.node(name, f"{host}{last}", fixed_pieces=pieces) for last, name in enumerate(("alice", "bob"))
        )
        join(net, alice, bob)
        check(net, alice, bob, script)


LEVELS = {
    "no offloads": {"csum": False},
    "checksums only": {"tso": False},
    "no USO": {"uso": False},
}


@pytest.mark.parametrize("receiving", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("sending", [{}, *LEVELS.values()], ids=["all", *LEVELS])
@settings(max_examples=12)
@given(script=SCRIPTS, pieces=st.sampled_from([0, 8, 64]))
def test_tun_with_fewer_offloads_gives_and_takes_all_flows_as_they_were(
    sending: dict[str, bool], receiving: dict[str, bool], script: tuple[list[Item], int], pieces: int
) -> None:
    with Net() as net:
        alice, bob = joined(net, pieces)
        alice.attach(FakeTun(alice, **sending))
        bob.attach(FakeTun(bob, **receiving))
        net.run(0.1)
        check(net, alice, bob, script)


@settings(max_examples=40)
@given(SCRIPTS, st.sampled_from([None, 0, 5]))
def test_sockets_without_gro_and_reordered_datagrams_of_other_flows_change_nothing(
    script: tuple[list[Item], int], pieces: int | None
) -> None:
    with Net() as net:
        alice, bob = joined(net, pieces)
        bob.socket.gro = False
        check(net, alice, bob, script)


def test_super_packet_behind_a_single_packet_of_its_flow_does_not_overtake_it() -> None:
    with Net() as net:
        alice, bob = joined(net)
        first = packets.tcp(alice.address, bob.address, bytes(500), sequence=1000)
        second = packets.tcp(alice.address, bob.address, bytes(5000), sequence=1500)
        alice.tun.program_sends(first)
        alice.tun.program_sends(second, segment=1000)
        net.run()
        assert bob.tun.received == [first, *packets.segments(second, 1000)]


@pytest.mark.parametrize(("size", "segment"), [(9_000, 100), (60_000, 500)])
def test_super_packet_that_no_receiver_takes_goes_in_single_packets(size: int, segment: int) -> None:
    with Net() as net:
        alice, bob = joined(net)
        small = packets.tcp(alice.address, bob.address, bytes(size), flags=ACK)
        many = packets.udp(alice.address, bob.address, bytes(size))
        for packet in (small, many) if segment < 256 else (many,):
            bob.tun.received.clear()
            alice.tun.program_sends(packet, segment=segment)
            net.run()
            assert bob.tun.received == packets.segments(packet, segment)


@pytest.mark.parametrize("size", [30_000, 40_000, 60_000])
def test_single_packet_that_64_small_pieces_do_not_carry_is_answered(size: int) -> None:
    with Net(link_mtu=600) as net:
        alice, bob = joined(net)
        packet = packets.udp(alice.address, bob.address, bytes(size))
        alice.tun.program_sends(packet)
        net.run()
        assert bob.tun.received == ([packet] if size == 30_000 else [])
        assert len(alice.tun.received) == (size != 30_000)
