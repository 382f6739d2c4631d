"""Segments of attackers, and bytes of nobody: no exception, no change (RFC 5961; RFC 5927; RFC 4953)."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.stack.tcp.script import Script
from weft.packet.checksum import complete
from weft.packet.ip import encode_packet
from weft.packet.protocols import TCP
from weft.packet.tcp import RST, TcpHeader, decode_tcp, encode_tcp
from weft.stack.tcp.connection import Connection
from weft.stack.tcp.states import State
from weft.stack.tcp.tcp import Tcp


def established(script: Script) -> None:
    script.accepted(ts=1000, sack=True, ws=4, window=60_000)
    script.send(2000)
    script.take_all()
    script.inject(".", seq=5, ack=1, data=b"behind a hole", ts=(1000, 0))
    script.take_all()


def syn_sent(script: Script) -> None:
    script.connect()
    script.take_all()


def syn_received(script: Script) -> None:
    script.listen()
    script.inject("S", seq=0, mss=1000, ts=(1000, 0))
    script.take_all()
    (script._connection,) = script.host.tcp.connections


def fin_wait(script: Script) -> None:
    script.accepted()
    script.shutdown()
    script.take_all()


def close_wait(script: Script) -> None:
    script.accepted()
    script.inject("F.", seq=1, ack=1)
    script.take_all()


def time_wait(script: Script) -> None:
    fin_wait(script)
    script.inject("F.", seq=1, ack=2)
    script.take_all()


def listening(script: Script) -> None:
    script.listen()


EXAMPLES = settings.default.max_examples if settings.default is not None else 100
SITUATIONS = [established, syn_sent, syn_received, fin_wait, close_wait, time_wait, listening]
MAY_CHANGE = {"heard_at", "challenged_at", "owes_ack", "is_queued_to_send", "armed_at", "unanswered", "_is_queued"}


def _slots(thing: object) -> dict[str, Any]:
    names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    return {name: getattr(thing, name) for name in names}


def picture(connection: Connection) -> dict[str, object]:
    """All that is known of a connection, but for what asking back needs."""
    seen: dict[str, object] = {}
    for name, value in _slots(connection).items():
        if name in MAY_CHANGE | {"tcp", "_events", "listener", "user"}:
            continue
        if name in {"sender", "receiver"}:
            for inner, part in _slots(value).items():
                seen[f"{name}.{inner}"] = repr(_slots(part)) if hasattr(part, "__slots__") else repr(part)
        elif name == "timers":
            seen[name] = repr({timer: at for timer, at in value.items() if timer.name != "ACKNOWLEDGE"})
        else:
            seen[name] = repr(value)
    return seen


def blind(script: Script, random: Random) -> bytes:
    """What somebody sends who knows the addresses and ports, but no sequence numbers."""
    header = TcpHeader(
        script.peer_port,
        script.our_port,
        random.getrandbits(32),
        random.getrandbits(32),
        random.choice([0x02, 0x04, 0x10, 0x14, 0x18, 0x11, 0x12, 0x38, random.getrandbits(8)]),
        random.getrandbits(16),
        random.getrandbits(16),
        options=random.choice(
            [b"", random.randbytes(4 * random.randrange(11)), bytes.fromhex("0101080affffffff00000000")]
        ),
    )
    packet = bytearray(
        encode_packet(script.peer, script.us, TCP, encode_tcp(header) + random.randbytes(random.choice([0, 1, 1400])))
    )
    complete(packet, 20, TCP)
    return bytes(packet)


@pytest.mark.parametrize("situation", [established, syn_sent, syn_received, fin_wait, close_wait])
def test_blind_segments_change_nothing(script: Script, situation: Callable[[Script], None]) -> None:
    """Of 400 random ones, none is within what would count: two windows of 64 KiB, of 4 GiB each."""
    situation(script)
    before = picture(script.connection)
    random = Random(situation.__name__)
    answers = 0
    for _ in range(400):
        packet = blind(script, random)
        if situation is syn_sent and packet[33] & 0x16 == 0x02:
            # Both may begin at once, so a SYN with any number is good then.
            continue
        script.deliver(packet)
        script.flush()
        answers += len(script.take_all())
        assert picture(script.connection) == before
    # At most an answer each, that is no larger.
    assert answers <= 400
    assert script.host.tcp.connections == [script.connection]


@pytest.mark.parametrize("situation", SITUATIONS)
@given(data=st.data())
@settings(max_examples=EXAMPLES // 2)
def test_any_segment_is_survived(situation: Callable[[Script], None], data: st.DataObject) -> None:
    """Close to what counts: numbers near the right ones, any flags, any options, any payload."""
    script = Script()
    situation(script)
    near = st.integers(-3, 3) | st.sampled_from([1000, 65_535, 70_000, 1 << 31, -(1 << 31), 300_000])
    for _ in range(data.draw(st.integers(1, 6))):
        flags = "".join(data.draw(st.sets(st.sampled_from("SFRPU."))))
        packet = script.packet(
            flags,
            seq=data.draw(near),
            ack=data.draw(near),
            data=data.draw(st.binary(max_size=20)),
            window=data.draw(st.sampled_from([0, 1, 100, 65_535])),
            urgent=data.draw(st.sampled_from([0, 1, 65_535])),
            options=data.draw(
                st.binary(max_size=40)
                | st.sampled_from([b"", bytes.fromhex("0101080a000003e800000000"), bytes.fromhex("0402")])
            ),
        )
        # Three of the same are a sign of loss.
        for _ in range(data.draw(st.sampled_from([1, 1, 4]))):
            script.deliver(packet)
        script.flush()
        script.take_all()
        script.events()
        script.advance(data.draw(st.sampled_from([0, 0, 41, 1000, 100_000])))
        script.take_all()
    check(script.host.tcp)
    for connection in script.host.tcp.connections:
        connection.receive()
        connection.close(script.now)
    script.flush()
    script.take_all()
    # Whatever happened, all of it ends by itself.
    script.advance(40 * 60_000)
    script.take_all()
    check(script.host.tcp)
    assert script.host.tcp.connections == []
    assert script.host.next_timer() is None


def check(tcp: Tcp) -> None:
    """What holds of every connection at every time."""
    for connection in tcp.connections:
        sender, receiver = connection.sender, connection.receiver
        assert sender.una <= sender.nxt <= sender.highest
        assert sender.highest <= max(sender.end, sender.una + 1)
        assert receiver.next <= receiver.edge
        assert not connection.is_closed
        assert connection.state not in {State.CLOSED, State.TIME_WAIT, State.LISTEN}
        assert sender.cubic.window >= 1
        if sender.in_flight and not connection.owes_syn:
            assert connection.timers.next() is not None
            assert connection.armed_at is not None
            assert connection.armed_at <= connection.timers.next()  # type: ignore[operator]


@pytest.mark.parametrize("situation", SITUATIONS)
@given(message=st.binary(max_size=80), is_partial=st.booleans())
@settings(max_examples=EXAMPLES // 2)
def test_any_bytes_for_tcp_are_survived(
    situation: Callable[[Script], None], message: bytes, *, is_partial: bool
) -> None:
    script = Script()
    situation(script)
    ports = script.peer_port.to_bytes(2, "big") + script.our_port.to_bytes(2, "big")
    for transport in (message, ports + message):
        packet = bytearray(encode_packet(script.peer, script.us, TCP, transport + bytes(max(0, 18 - len(transport)))))
        port = int.from_bytes(packet[-max(18, len(transport)) :][2:4], "big")
        script.host.receive(memoryview(packet), script.now, is_partial=is_partial)
        if port == script.our_port:
            script.flush()
            script.take_all()
        while (outgoing := script.host.next_packet(script.now)) is not None:
            answer = decode_tcp(memoryview(b"".join(outgoing.parts)), len(packet) - max(18, len(transport)))
            assert (answer.source_port, bool(answer.flags & RST)) == (port, True)
    check(script.host.tcp)


@given(packet=st.binary(max_size=120), segment=st.integers(0, 2000), is_partial=st.booleans())
def test_any_bytes_are_survived(packet: bytes, segment: int, *, is_partial: bool) -> None:
    script = Script()
    script.listen()
    for data in (packet, b"\x45" + packet[1:], b"\x60" + packet[1:]):
        script.host.receive(memoryview(bytearray(data)), script.now, segment=segment, is_partial=is_partial)
        script.host.handle_timer(script.now)
    assert script.host.tcp.connections == []


@pytest.mark.parametrize("length", [20, 24, 60])
@pytest.mark.parametrize("offset", range(16))
def test_data_offset_is_within_the_packet(script: Script, length: int, offset: int) -> None:
    script.listen()
    packet = bytearray(script.packet("S", seq=0, options=bytes([1]) * (length - 20)))
    packet[32] = offset << 4
    packet[36:38] = bytes(2)
    complete(packet, 20, TCP)
    script.deliver(bytes(packet))
    script.flush()
    is_good = 5 <= offset <= length // 4
    assert len(script.take_all()) == is_good
    assert script.drops("tcp: bad header") == (not is_good)


def test_header_that_is_cut_off(script: Script) -> None:
    script.listen()
    for length in range(20, 40):
        packet = bytearray(script.packet("S", seq=0)[:length])
        packet[2:4] = length.to_bytes(2, "big")
        script.host.receive(memoryview(packet), script.now, is_partial=True)
        script.flush()
    assert script.host.tcp.connections == []


def test_reserved_bits_and_ecn_flags_are_ignored(script: Script) -> None:
    script.listen()
    packet = bytearray(script.packet("S", seq=0))
    packet[32] |= 0x0F
    packet[33] |= 0xC0
    packet[36:38] = bytes(2)
    complete(packet, 20, TCP)
    script.deliver(bytes(packet))
    script.flush()
    script.expect("S.", seq=0, ack=1)


def test_overlapping_segments_with_other_content_cannot_replace_what_came(script: Script) -> None:
    script.accepted(sack=True)
    random = Random(1)
    truth = random.randbytes(500)
    script.inject(".", seq=101, ack=1, data=truth[100:200])
    script.take_all()
    for _ in range(100):
        # The hole stays open.
        start = random.randrange(1, 200)
        script.inject(".", seq=1 + start, ack=1, data=bytes(random.randrange(1, 300)))
        script.take_all()
    script.inject(".", seq=1, ack=1, data=truth[:100])
    script.take_all()
    assert script.receive()[100:200] == truth[100:200]
    script.take_all()


@pytest.mark.parametrize("flags", ["SF", "SR", "FR", "SFRPU.", "SFRPU", "SFPU."])
def test_flags_that_make_no_sense_open_nothing(script: Script, flags: str) -> None:
    script.listen()
    script.inject(flags, seq=0, ack=5)
    script.take_all()
    if "R" in flags or "." in flags:
        assert script.host.tcp.connections == []
    else:
        # SYN with FIN: a SYN, whose FIN was not taken.
        assert [each.receiver.next - each.receiver.edge for each in script.host.tcp.connections] == [-65_535]


def test_land(script: Script) -> None:
    """From us to us, from outside: not by IP's rules."""
    script.listen()
    script.peer, script.peer_port = script.us, script.our_port
    script.deliver(script.packet("S", seq=0))
    script.flush()
    assert script.host.next_packet(script.now) is None
    assert script.host.tcp.connections == []


def test_wrong_checksum_and_claimed_partial(script: Script) -> None:
    """What comes from a network with checksums is verified; what never left a machine has none."""
    script.accepted()
    good = script.packet("P.", seq=1, ack=1, data=b"hello")
    for at in range(20, len(good)):
        bad = bytearray(good)
        bad[at] ^= 0x10
        script.host.receive(memoryview(bad), script.now)
    script.flush()
    assert script.connection.readable_bytes == 0
    assert script.drops("ip: bad transport checksum") == len(good) - 20
