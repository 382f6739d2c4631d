"""Datagrams of strangers and of malicious peers: counted, never delivered, never the end of a task."""

from __future__ import annotations

import struct
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.engine import forge, packets
from tests.unit.engine.forge import record
from tests.unit.engine.packets import ACK, RST, SYN, URG
from tests.unit.engine.pair import Datagram, Net, Node, Written, identity
from weft.burst.join import MAX_BURSTS_PER_PEER, MAX_BYTES_PER_NODE, MAX_BYTES_PER_PEER
from weft.noise.keypair import KeypairTable
from weft.noise.primitives import StaticKey
from weft.noise.tunnel import Tunnel

PROBE, ETHER, NOTICE, FORWARD = b"\x85\xc0\x90\0", b"\x86\xc0\x90\0", b"\x87\xc0\x90\0", b"\xc5\xc6\x84\0"
STRANGER = ("10.66.66.66", 6666)


def joined(net: Net) -> tuple[Node, Node]:
    alice, bob = net.node("alice"), net.node("bob")
    net.connect(alice, bob)
    return alice, bob


def works(net: Net, alice: Node, bob: Node) -> bool:
    """Whether a burst and a single packet still arrive."""
    bob.tun.received.clear()
    small, large = (packets.tcp(alice.address, bob.address, bytes(size), ports=(7, 7)) for size in (10, 30_000))
    alice.tun.program_sends(small)
    alice.tun.program_sends(large, segment=1000)
    net.run()
    return bob.tun.received == [small, *packets.segments(large, 1000)]


def genuine(net: Net, alice: Node) -> list[Datagram]:
    """A burst and a type 4 message that were sent and not delivered."""
    net.hold()
    alice.tun.program_sends(packets.tcp(alice.address, net.nodes[1].address, bytes(3000)), segment=1000)
    alice.tun.program_sends(packets.udp(alice.address, net.nodes[1].address, b"single"))
    net.run(0.001)
    return net.release()


# Whoever has no keys.

KINDS = st.sampled_from([b"", *(bytes((kind, 0, 0, 0)) for kind in range(7)), b"\0\1\0\0\x21\x12\xa4\x42"])


@given(st.lists(st.tuples(KINDS, st.booleans(), st.binary(max_size=200)), min_size=1, max_size=8))
def test_datagrams_of_strangers_change_nothing(given_datagrams: list[tuple[bytes, bool, bytes]]) -> None:
    with Net() as net:
        alice, bob = joined(net)
        index = struct.pack("<I", next(iter(bob.session.gate.keypairs)))
        before = bob.peer(alice).path.endpoint
        for kind, knows_index, rest in given_datagrams:
            net.deliver(Datagram(kind + index * knows_index + rest, STRANGER, bob.socket.source))
        net.run(0.001)
        assert bob.tun.written == []
        assert len(bob.session.contacts) == 1
        assert bob.peer(alice).path.endpoint == before
        assert works(net, alice, bob)


@pytest.mark.parametrize(
    ("host", "reason"),
    [("2001:db8::66", None), ("fcaa::66", "source is of the overlay"), ("fdaa::1", None)],
)
@pytest.mark.parametrize("data", [b"", b"\4", b"\1\0\0\0" + bytes(144)])
def test_datagrams_from_the_overlay_and_empty_ones_do_no_harm(data: bytes, host: str, reason: str | None) -> None:
    with Net() as net:
        bob = net.node("bob", "2001:db8::1")
        forge.deliver(net, Datagram(data, (host, 7, 0, 0), bob.socket.source))
        assert bob.drops == ({reason: 1} if reason else {"unknown": 1} if data == b"\4" else {})


def test_every_truncation_of_a_genuine_datagram_is_dropped() -> None:
    with Net() as net:
        alice, bob = joined(net)
        for datagram in genuine(net, alice):
            for length in {*range(1, 90), *range(90, len(datagram.data), 97)}:
                net.deliver(datagram._replace(data=datagram.data[:length]))
                net.run(0.0001)
        assert bob.tun.written == []
        assert works(net, alice, bob)


def test_every_single_bit_of_a_type_4_message_counts() -> None:
    with Net() as net:
        alice, bob = joined(net)
        message = genuine(net, alice)[-1]
        for bit in range(8 * len(message.data)):
            data = bytearray(message.data)
            data[bit // 8] ^= 1 << bit % 8
            net.deliver(message._replace(data=bytes(data)))
        net.run(0.01)
        assert bob.tun.written == []
        forge.deliver(net, message)
        assert len(bob.tun.written) == 1


def test_messages_that_are_played_again_are_dropped() -> None:
    with Net() as net:
        alice, bob = joined(net)
        datagrams = genuine(net, alice)
        for _ in range(3):
            forge.deliver(net, *datagrams)
            forge.deliver(net, *reversed(datagrams))
        assert [each.kind for each in bob.tun.written] == ["tcp", "plain"]
        assert bob.drops["replayed"]
        assert bob.drops.total() == bob.drops["replayed"]


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.sampled_from(["the peer's endpoint", "one other", "many others"]), st.booleans())
def test_forged_pieces_with_a_valid_index_stay_within_their_bounds(seed: int, where: str, whole: bool) -> None:
    random = Random(seed)
    with Net() as net:
        alice, bob = joined(net)
        index = forge.keypair_of(alice, bob).remote_index
        joiner = bob.peer(alice).joiner
        for number in range(300):
            total = random.choice([0, 15, 16, 512, 1452, 1453, 20_000, 64_400, 64_401, 65_535, random.getrandbits(16)])
            size = random.choice([0, 1, 511, 512, 1452, total % 1453])
            count = random.choice([0, 1, 2, 64, 65, 255, max(1, -(-total // max(size, 1))) % 256])
            source = {
                "the peer's endpoint": alice.socket.source,
                "one other": STRANGER,
                "many others": ("10.66.0.1", 1000 + number),
            }[where]
            header = struct.pack("<IIQH", 5, index, random.getrandbits(random.choice([8, 32, 64])), total)
            for piece in range(count if whole else 1):
                each = random.choice([0, piece, count - 1, random.getrandbits(8)]) % 256 if not whole else piece
                net.deliver(Datagram(header + bytes((each, count)) + bytes(size), source, bob.socket.source))
            if number % 10 == 0:
                net.run(0.001)
                assert joiner.unfinished <= (MAX_BURSTS_PER_PEER if where == "the peer's endpoint" else 1)
                assert MAX_BYTES_PER_NODE - joiner._budget.free <= MAX_BYTES_PER_PEER
        net.run(0.001)
        assert bob.tun.written == []
        assert bob.peer(alice).path.endpoint == bob.endpoint(alice.socket)
        net.run(3)
        assert joiner.unfinished == 0
        assert joiner._budget.free == MAX_BYTES_PER_NODE
        net.run(40)
        assert works(net, alice, bob)


@pytest.mark.parametrize("length", [0, 1, 3, 4, 17, 18, 19, 20, 21, 1471, 1472, 1473])
def test_anything_between_the_pieces_of_a_burst_is_told_apart(length: int) -> None:
    with Net() as net:
        alice, bob = joined(net)
        first, second, *rest, _ = genuine(net, alice)
        noise = [
            second._replace(data=second.data[:length]),
            second._replace(data=second.data[:20] + bytes(max(0, length - 20))),
            first._replace(data=bytes(length)),
        ]
        if length in {1472, 1473}:
            noise = noise[2:]
        for each in noise:
            forge.deliver(net, first, each)
        forge.deliver(net, second, *rest)
        assert [written.kind for written in bob.tun.written] == ["tcp"]


def test_forged_pieces_from_elsewhere_do_not_disturb_a_burst_that_is_being_joined() -> None:
    with Net() as net:
        alice, bob = joined(net)
        *pieces, single = genuine(net, alice)
        index = forge.keypair_of(alice, bob).remote_index
        forge.deliver(net, *pieces[:-1])
        for counter in range(1000, 1100):
            header = struct.pack("<IIQHBB", 5, index, counter, 64_400, 0, 45)
            net.deliver(Datagram(header + bytes(1432), ("10.66.66.66", counter), bob.socket.source))
        net.run(0.001)
        forge.deliver(net, pieces[-1], single)
        assert [each.kind for each in bob.tun.written] == ["tcp", "plain"]


@pytest.mark.parametrize("valid_index", [True, False])
def test_forged_first_piece_does_not_take_the_pieces_behind_it_along(valid_index: bool) -> None:
    with Net() as net:
        alice, bob = joined(net)
        pieces = genuine(net, alice)[:-1]
        forged = bytearray(pieces[0].data)
        forged[-1 if valid_index else 4] ^= 1
        forge.deliver(net, pieces[0]._replace(data=bytes(forged)), *pieces[1:])
        forge.deliver(net, pieces[0])
        assert bool(bob.tun.written) is not valid_index


def test_initiation_of_whoever_has_our_own_key_is_refused() -> None:
    with Net() as net:
        bob = net.node("bob")
        own = StaticKey(bob.identity.noise_private)
        random = Random(1)
        twin = Tunnel(
            own, bob.identity.noise_public, table=KeypairTable(random.randbytes), random_bytes=random.randbytes
        )
        twin.initiate(net.now, 1_800_000_000 * 10**9)
        (initiation,) = twin.datagrams_to_send()
        forge.deliver(net, Datagram(initiation, STRANGER, bob.socket.source))
        assert len(bob.session.contacts) == 0
        assert bob.session.gate.drops["initiation: peer refused"] == 1


# Whoever has keys: records.


def allowed(written: Written, alice: Node, bob: Node) -> bool:
    """Whether a write to the TUN is one that the specification allows of a record of Alice's."""
    packet = written.packet
    if packet[0] >> 4 != 6 or packet[8:24] != alice.address or packet[4:6] != (len(packet) - 40).to_bytes(2, "big"):
        return False
    if written.kind in {"plain", "partial"}:
        return True
    if packet[6] not in {packets.TCP, packets.UDP}:
        return False
    head = 40 + (packet[52] >> 4) * 4 if written.kind == "tcp" else 48
    payload = len(packet) - head
    if not 256 <= written.segment < payload:
        return False
    if written.kind == "tcp":
        return not packet[53] & (SYN | RST | URG)
    return -(-payload // written.segment) <= 64


@st.composite
def hostile_packets(draw: st.DrawFn, alice: bytes, bob: bytes) -> bytes:
    """A packet that is nearly right, or not at all."""
    source = draw(st.sampled_from([alice, alice, alice, bob, bytes(16), b"\xff" * 16, bytes((10, 0, 0, 1))]))
    destination = bob if len(source) == 16 else bytes((10, 0, 0, 2))
    payload = bytes(draw(st.sampled_from([0, 1, 255, 256, 300, 600, 5000, 64_000 - 512])))
    flags = draw(st.sampled_from([ACK, ACK, ACK, SYN, RST, URG | ACK, 0, 255]))
    extension = draw(st.sampled_from([b"", b"", b"\x06\0" + bytes(6), b"\x2c\0" + bytes(6) + b"\x06\0\0\1\0\0\0\1"]))
    make = draw(st.sampled_from(["tcp", "tcp", "tcp", "udp", "echo", "other"]))
    more = {"extension": extension} if len(source) == 16 else {"options": draw(st.sampled_from([b"", bytes(40)]))}
    if make == "tcp":
        packet = packets.tcp(source, destination, payload, flags=flags)
        if extension and len(source) == 16:
            packet = packets.ip(source, destination, packets.TCP, packet[40:], **more)
    elif make == "udp":
        packet = packets.udp(source, destination, payload)
    elif make == "echo":
        packet = packets.echo(source, destination, payload)
    else:
        packet = packets.ip(source, destination, draw(st.integers(0, 255)), payload, **more)
    mutable = bytearray(packet)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 9, 40, 44, 45, 46, 47, 52, 53]))
        if at < len(mutable):
            mutable[at] = draw(st.integers(0, 255))
    cut = draw(st.sampled_from([None, None, None, 0, 1, 19, 20, 22, 23, 24, 39, 40, 41, 47, 48, 59, 60, 61]))
    return bytes(mutable[:cut])


NAMES = identity("alice").address, identity("bob").address
HOSTILE_RECORDS = st.builds(
    record,
    hostile_packets(*NAMES),
    st.sampled_from([0, 0, 1, 1, 1, 2, 2, 3, 4, 255]),
    st.sampled_from([0, 1, 1, 1, 2, 128, 255]),
    st.sampled_from([0, 1, 255, 256, 256, 257, 300, 1000, 65_535]),
)


@settings(max_examples=150)
@given(st.lists(HOSTILE_RECORDS, min_size=1, max_size=4), st.booleans(), st.sampled_from([0, 3]))
def test_hostile_records_write_nothing_that_the_specification_forbids(
    each: list[bytes], offloads: bool, ecn: int
) -> None:
    plain = forge.padded(b"".join(each))
    if len(plain) > 64_000:
        plain = plain[:64_000]
    with Net() as net:
        alice, bob = joined(net)
        if not offloads:
            bob.tun.takes_tcp = bob.tun.takes_udp = bob.tun.takes_partial = False
        forge.deliver(net, *forge.burst(alice, bob, plain, ecn=ecn))
        assert all(allowed(written, alice, bob) for written in bob.tun.written)
        assert len(bob.tun.received) >= len(bob.tun.written)
        assert works(net, alice, bob)


@settings(max_examples=150)
@given(
    st.one_of(
        hostile_packets(*NAMES),
        st.binary(max_size=100),
        st.builds(
            lambda head, rest: head + rest,
            st.sampled_from([b"\x85\xc0\x90\0", b"\x87\xc0\x90\0", b"\xc5\xc6\x84\0"]),
            st.binary(max_size=200),
        ),
    ),
    st.integers(0, 15),
)
def test_hostile_plain_texts_of_type_4_write_nothing_that_the_specification_forbids(plain: bytes, padding: int) -> None:
    with Net() as net:
        alice, bob = joined(net)
        forge.deliver(net, forge.data(alice, bob, plain[:1400] + bytes(padding)))
        assert all(allowed(written, alice, bob) for written in bob.tun.written)
        assert works(net, alice, bob)


def supers(**changes: object) -> bytes:
    """A TCP super-packet from Alice to Bob that is right but for what is changed."""
    return packets.tcp(*NAMES, bytes(3000), **changes)  # type: ignore[arg-type]


def with_bytes(packet: bytes, at: int, value: bytes) -> bytes:
    return packet[:at] + value + packet[at + len(value) :]


FRAGMENT_HEADER = bytes((packets.TCP, 0, 0, 1, 0, 0, 0, 7))
TCP_BYTES = supers()[40:]

FORBIDDEN = {
    "segment size 255": (record(supers(), 1, 1, 255), "record: super: segment size"),
    "segment size 0": (record(supers(), 1, 1, 0), "record: super: segment size"),
    "one segment": (record(supers(), 1, 1, 3000), "record: super: segment size"),
    "SYN": (record(supers(flags=SYN), 1, 1, 1000), "record: super: TCP flags"),
    "SYN and ACK": (record(supers(flags=SYN | ACK), 1, 1, 1000), "record: super: TCP flags"),
    "RST": (record(supers(flags=RST | ACK), 1, 1, 1000), "record: super: TCP flags"),
    "URG": (record(supers(flags=URG | ACK, urgent=5), 1, 1, 1000), "record: super: TCP flags"),
    "UDP said to be TCP": (record(packets.udp(*NAMES, bytes(3000)), 1, 1, 1000), "record: super: other protocol"),
    "TCP said to be UDP": (record(supers(), 2, 1, 1000), "record: super: other protocol"),
    "65 UDP segments": (
        record(packets.udp(*NAMES, bytes(64 * 256 + 1)), 2, 1, 256),
        "record: super: too many segments",
    ),
    "UDP length that lies": (
        record(with_bytes(packets.udp(*NAMES, bytes(3000)), 44, b"\0\x10"), 2, 1, 1000),
        "record: super: UDP length",
    ),
    "extension header": (
        record(packets.ip(*NAMES, packets.TCP, TCP_BYTES, extension=b"\x06\0" + bytes(6)), 1, 1, 1000),
        "record: not plain IP",
    ),
    "fragment": (
        record(packets.ip(*NAMES, packets.TCP, TCP_BYTES, extension=FRAGMENT_HEADER, first_header=44), 1, 1, 1000),
        "record: not plain IP",
    ),
    "unknown kind": (record(supers(), 4, 1, 1000), "record: unknown kind or flag"),
    "unknown flag": (record(supers(), 1, 3, 1000), "record: unknown kind or flag"),
    "unknown flag of a packet": (record(packets.udp(*NAMES, b"x"), 0, 2, 0), "record: unknown kind or flag"),
    "flag of a multigram": (record(NOTICE, 3, 1, 0), "record: unknown kind or flag"),
    "shorter than a header": (record(b"\x60" + bytes(18)), "record: too short"),
    "source of another peer": (record(packets.udp(NAMES[1], NAMES[1], b"x")), "source is not the peer's"),
    "source in IPv4": (
        record(packets.udp(bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)), b"x")),
        "source is not the peer's",
    ),
    "IP version 5": (record(b"\x50" + bytes(60)), "source is not the peer's"),
    **{
        f"IPv6 of {length} bytes": (record(packets.udp(*NAMES, bytes(8))[:length]), "record: too short")
        for length in (20, 21, 22, 23, 24, 39)
    },
}


@pytest.mark.parametrize("offloads", [True, False])
@pytest.mark.parametrize(("bad", "reason"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_forbidden_record_is_skipped_and_counted_and_the_others_delivered(
    bad: bytes, reason: str, offloads: bool
) -> None:
    with Net() as net:
        alice, bob = joined(net)
        if not offloads:
            bob.tun.takes_tcp = bob.tun.takes_udp = bob.tun.takes_partial = False
        first, last = (packets.udp(*NAMES, bytes((number,))) for number in (1, 2))
        forge.deliver(net, *forge.records(alice, bob, record(first), bad, record(last)))
        assert bob.tun.received == [first, last]
        assert bob.drops == {reason: 1}


LYING_LENGTHS = {
    "shorter packet than its record": record(packets.udp(*NAMES, b"12345678") + b"more"),
    "longer packet than its record": record(packets.udp(*NAMES, b"12345678")[:-4]),
    "super-packet shorter than its record": record(supers() + b"more", 1, 1, 1000),
    "UDP longer than its packet": record(with_bytes(packets.udp(*NAMES, b"12345678"), 44, b"\0\xff")),
    "TCP header longer than its packet": record(with_bytes(packets.tcp(*NAMES, b"1234"), 52, b"\xf0")),
    "TCP header of 16 bytes": record(with_bytes(supers(), 52, b"\x40"), 1, 1, 1000),
}


@pytest.mark.parametrize("bad", LYING_LENGTHS.values(), ids=LYING_LENGTHS)
def test_inner_lengths_that_lie_are_not_delivered(bad: bytes) -> None:
    with Net() as net:
        alice, bob = joined(net)
        forge.deliver(net, *forge.records(alice, bob, bad))
        assert bob.tun.written == []
        assert bob.firewall.drops["malformed"] + bob.drops.total() == 1


GOOD = record(packets.udp(*NAMES, b"good"))
BAD_ENDS = {
    "record beyond the end": forge.padded(GOOD + struct.pack("<IBBH", 10_000, 0, 0, 0)),
    "record of 4 GiB": forge.padded(GOOD + struct.pack("<IBBH", 2**32 - 1, 0, 0, 0)),
    "padding that is not zero": forge.padded(GOOD)[:-1] + b"\1",
    "too much padding": forge.padded(GOOD) + bytes(16),
    "nothing but zeros": bytes(32),
    "nothing": b"",
    "odd length": forge.padded(GOOD) + bytes(3),
}


@pytest.mark.parametrize("plain", BAD_ENDS.values(), ids=BAD_ENDS)
def test_burst_whose_lengths_do_not_end_exactly_is_dropped_as_a_whole(plain: bytes) -> None:
    with Net() as net:
        alice, bob = joined(net)
        forge.deliver(net, *forge.burst(alice, bob, plain))
        assert bob.tun.written == []
        assert bob.drops == {"burst: bad records": 1}
        assert works(net, alice, bob)


# Whoever has keys: multigrams.

NATURALS = st.one_of(st.integers(0, 100), st.integers(0, 2**62), st.just(2**62))
NOTICES = st.fixed_dictionaries(
    {},
    optional={
        "b": st.binary(min_size=7, max_size=8),
        "n": st.one_of(NATURALS, st.just(-1)),
        "a": NATURALS,
        "of": st.binary(min_size=8, max_size=8),
        "id": st.sampled_from([identity("alice").peer_id.public_key, bytes(32), b"\xff" * 32]),
        "v": st.lists(st.integers(0, 3), max_size=3),
        "burst": st.sampled_from([0, 1, 100, 64_400, 65_535, 70_000]),
        "caps": st.lists(st.sampled_from(["uso", "forward", "x" * 40]), max_size=3),
        "mtu": st.integers(0, 70_000),
        "r": st.lists(NATURALS, min_size=5, max_size=7),
        "unknown": st.none(),
    },
)


@settings(max_examples=150)
@given(st.lists(NOTICES, min_size=1, max_size=6), st.booleans())
def test_hostile_notices_never_end_a_task(notices: list[dict[str, object]], in_burst: bool) -> None:
    with Net() as net:
        alice, bob = joined(net)
        for notice in notices:
            multigram = NOTICE + msgspec.msgpack.encode(notice)
            if alice.identity.noise_public not in bob.session.contacts._by_key:
                break
            if in_burst:
                forge.deliver(net, *forge.records(alice, bob, record(multigram, 3)))
            else:
                forge.deliver(net, forge.data(alice, bob, multigram))
            bob.tun.program_sends(packets.tcp(bob.address, alice.address, bytes(20_000)), segment=1000)
            net.run(0.3)
        net.run(3)
        for peer in bob.session.contacts:
            assert 1 <= peer.path.size.pieces <= 64
            assert 0 <= peer.path.size.loss <= 1
            assert 0 <= peer.burst_limit <= 64_400


def test_pings_are_answered_at_a_bounded_rate_and_never_with_more_bytes() -> None:
    with Net() as net:
        alice, bob = joined(net)
        net.run(2)
        before = len(net.wire)
        ping = struct.pack(">BBH8s32s", 1, 0, 0, b"12345678", alice.identity.peer_id.public_key)
        for size in (114, 113, 44, 1000):
            for _ in range(50):
                net.deliver(forge.data(alice, bob, PROBE + ping.ljust(size, b"\0")))
        net.run(0.01)
        answers = [each for each in net.wire[before:] if each.source == bob.socket.source]
        assert 10 <= len(answers) <= 11
        assert max(len(answer.data) for answer in answers) <= 114 + 4 + 32
        assert bob.drops["probe: undecodable"] == 100


def test_pongs_that_nobody_asked_for_prove_nothing() -> None:
    with Net() as net:
        alice, bob = joined(net)
        pong = struct.pack(">BBH8s32s", 2, 0, 0, b"12345678", alice.identity.peer_id.public_key)
        forge.deliver(net, forge.data(alice, bob, PROBE + pong + bytes(70)))
        assert bob.drops == {"probe: unasked pong": 1}


def test_multigrams_of_later_versions_are_counted() -> None:
    with Net() as net:
        alice, bob = joined(net)
        forge.deliver(net, forge.data(alice, bob, ETHER + bytes(40)))
        forge.deliver(net, *forge.records(alice, bob, record(FORWARD + bytes(40), 3)))
        forge.deliver(net, forge.data(alice, bob, b"\xff\xff"))
        assert bob.drops == {"multigram: unknown codec": 2, "multigram: undecodable": 1}
