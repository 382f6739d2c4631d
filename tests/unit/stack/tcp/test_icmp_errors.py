"""ICMP messages about segments (RFC 9293 section 3.9.2.2; RFC 1191, RFC 5461, RFC 5927)."""

from __future__ import annotations

import pytest

from tests.unit.stack.tcp.script import Script
from weft.packet.checksum import complete, write_ipv4_header_checksum
from weft.packet.icmp import IcmpHeader, encode_icmp
from weft.packet.icmpv6 import Icmpv6Header, encode_icmpv6
from weft.packet.ip import encode_packet
from weft.packet.protocols import ICMP, ICMPV6, TCP
from weft.stack.failure import Failure
from weft.stack.tcp.states import State

ROUTER = {4: bytes((10, 7, 0, 254)), 6: b"\xfc" + bytes(14) + b"\xfe"}
NET, HOST, PROTOCOL, PORT, TOO_BIG, ROUTE_FAILED = (3, 0), (3, 1), (3, 2), (3, 3), (3, 4), (3, 5)
SOFT = [NET, HOST, ROUTE_FAILED, (11, 0), (11, 1), (12, 0), (12, 1)]
HARD = [PROTOCOL, PORT, (3, 10), (3, 13)]


def complain(script: Script, about: bytes, what: tuple[int, int], mtu: int = 0) -> None:
    """A router, or the peer, says what became of a packet."""
    kind, code = what
    quote = about[:68]
    if script.version == 4:
        message, protocol = encode_icmp(IcmpHeader(kind, code, mtu)) + quote, ICMP
    else:
        message, protocol = encode_icmpv6(Icmpv6Header(kind, code, mtu)) + quote, ICMPV6
    script.expect_nothing()
    script.deliver(encode_packet(ROUTER[script.version], script.us, protocol, message))
    script.flush()


@pytest.mark.parametrize("what", SOFT)
def test_3_9_2_2_must_56_soft_errors_end_nothing(script: Script, what: tuple[int, int]) -> None:
    connection = script.accepted()
    script.send(b"abc")
    sent = script.expect("P.", seq=1, ack=1, data=b"abc")
    complain(script, sent.packet, what)
    assert not connection.is_closed
    assert connection.soft is not None
    script.inject(".", seq=1, ack=4)
    assert connection.soft is None


@pytest.mark.parametrize("what", HARD)
def test_3_9_2_2_shld_26_hard_errors_end_no_established_connection(script: Script, what: tuple[int, int]) -> None:
    """RFC 5927 section 6: anybody could send them."""
    connection = script.accepted()
    script.send(b"abc")
    sent = script.expect("P.", seq=1, ack=1, data=b"abc")
    complain(script, sent.packet, what)
    assert not connection.is_closed


@pytest.mark.parametrize(
    ("what", "failure"),
    [
        (NET, Failure.NO_ROUTE),
        (HOST, Failure.UNREACHABLE),
        (PORT, Failure.REFUSED),
        (PROTOCOL, Failure.REFUSED),
        ((3, 13), Failure.PROHIBITED),
        ((11, 0), Failure.TIMED_OUT),
    ],
)
def test_3_9_2_2_must_54_error_reaches_the_connection_that_caused_it(
    script: Script, what: tuple[int, int], failure: Failure
) -> None:
    """In the handshake it ends it (RFC 5461 section 4.1)."""
    connection = script.connect()
    sent = script.expect("S", seq=0)
    complain(script, sent.packet, what)
    assert connection.failure is failure
    assert script.events() == [connection]
    assert script.host.next_timer() is None


def test_3_9_2_2_must_54_error_about_an_answer_to_a_syn(script: Script) -> None:
    listener = script.listen()
    script.inject("S", seq=0)
    sent = script.expect("S.", seq=0, ack=1)
    complain(script, sent.packet, HOST)
    assert listener.half_open == 0
    assert script.host.tcp.connections == []


def test_3_9_1_8_must_47_user_is_told_of_a_soft_error_when_it_gives_up(script: Script) -> None:
    connection = script.accepted()
    connection.give_up_retries = 1
    script.send(b"abc")
    sent = script.expect("P.", seq=1, ack=1, data=b"abc")
    complain(script, sent.packet, HOST)
    assert connection.soft is Failure.UNREACHABLE
    script.expect("P.", seq=1, ack=1, data=b"abc", after=200)
    script.advance_quietly(400)
    assert connection.failure is Failure.UNREACHABLE


def test_3_9_2_2_must_55_source_quench_is_nothing(script: Script) -> None:
    connection = script.accepted()
    script.send(b"abc")
    sent = script.expect("P.", seq=1, ack=1, data=b"abc")
    complain(script, sent.packet, (4, 0))
    assert connection.soft is None
    assert connection.sender.cubic.window == 10_000


@pytest.mark.parametrize("seq", [-1, 4, 1 << 30])
def test_rfc_5927_4_1_error_about_what_is_not_on_the_way_is_nothing(script: Script, seq: int) -> None:
    connection = script.connect()
    sent = bytearray(script.expect("S", seq=0).packet)
    sequence = (int.from_bytes(sent[24:28], "big") + seq) & 0xFFFFFFFF
    sent[24:28] = sequence.to_bytes(4, "big")
    complain(script, bytes(sent), PORT)
    assert not connection.is_closed
    assert script.drops("icmp: error about nothing that was sent") == 1


def test_rfc_5927_4_1_error_after_all_was_acknowledged_is_about_the_next_byte_at_most(script: Script) -> None:
    script.accepted()
    script.send(b"abc")
    sent = script.expect("P.", seq=1, ack=1, data=b"abc")
    script.inject(".", seq=1, ack=4)
    complain(script, sent.packet, HOST)
    assert script.connection.soft is None


def test_error_about_no_connection_is_nothing(script: Script) -> None:
    script.connect()
    sent = bytearray(script.expect("S", seq=0).packet)
    sent[23:24] = b"\x51"
    complain(script, bytes(sent), PORT)
    assert script.state is State.SYN_SENT


def test_rfc_1191_6_4_smaller_segments_leave_at_once(script: Script) -> None:
    script.accepted()
    window = script.connection.sender.cubic.window
    script.send(3000)
    sent = script.expect("P.", seq=1, ack=1, length=3000, segment=1000)
    complain(script, sent.packet[:40] + sent.packet[40:1040], TOO_BIG, mtu=640)
    assert script.connection.maximum_segment == 600
    script.expect("P.", seq=1, ack=1, length=3000, segment=600)
    # No sign of congestion.
    assert script.connection.sender.cubic.window == window
    script.inject(".", seq=1, ack=3001)
    script.send(1200)
    script.expect("P.", seq=3001, ack=1, length=1200, segment=600)


def test_rfc_1191_not_larger_ones(script: Script) -> None:
    script.accepted()
    script.send(3000)
    sent = script.expect("P.", seq=1, ack=1, length=3000, segment=1000)
    complain(script, sent.packet, TOO_BIG, mtu=1400)
    assert script.connection.maximum_segment == 1000


def test_rfc_1191_not_below_576(script: Script) -> None:
    script.accepted()
    script.send(1000)
    sent = script.expect("P.", seq=1, ack=1, length=1000)
    complain(script, sent.packet, TOO_BIG, mtu=100)
    script.expect("P.", seq=1, ack=1, length=1000, segment=536)


def test_rfc_8201_ipv6() -> None:
    with Script(version=6, mtu=1500) as script:
        script.accepted(mss=1440)
        script.send(2880)
        sent = script.expect("P.", seq=1, ack=1, length=2880, segment=1440)
        complain(script, sent.packet, (2, 0), mtu=1280)
        script.expect("P.", seq=1, ack=1, length=2880, segment=1220)


def test_rfc_1191_in_the_handshake_the_offer_stays(script: Script) -> None:
    script.connect()
    sent = script.expect("S", seq=0, mss=1000)
    complain(script, sent.packet, TOO_BIG, mtu=640)
    assert script.state is State.SYN_SENT
    script.expect("S", seq=0, mss=600, after=1000)
    script.inject("S.", seq=0, ack=1, mss=1000)
    script.expect(".", seq=1, ack=1)
    assert script.connection.maximum_segment == 600


def test_3_9_2_3_must_63_syn_from_what_is_no_host_is_ignored(script: Script) -> None:
    script.listen()
    for source in ((0, 0, 0, 0), (127, 0, 0, 1), (224, 0, 0, 1), (255, 255, 255, 255), (10, 7, 0, 255), (10, 7, 0, 1)):
        script.peer = bytes(source)
        script.deliver(script.packet("S", seq=0))
        script.flush()
    assert script.host.tcp.connections == []
    assert sum(script.host.drops.values()) == 6


def test_3_9_2_3_must_57_syn_to_many_is_discarded(script: Script) -> None:
    script.listen()
    for destination in ((224, 0, 0, 1), (255, 255, 255, 255), (10, 7, 0, 255)):
        script.us = bytes(destination)
        script.deliver(script.packet("S", seq=0))
        script.flush()
    assert script.host.tcp.connections == []
    assert script.host.next_packet(script.now) is None


def test_3_9_2_must_50_ip_options_are_ignored(script: Script) -> None:
    """Of IPv4: no operation and an unknown one. Source routes are dropped (RFC 7126)."""

    def with_options(options: bytes) -> bytes:
        packet = bytearray(script.packet("S", seq=0))
        packet[20:20] = options
        packet[0] = 0x40 | (20 + len(options)) // 4
        packet[2:4] = len(packet).to_bytes(2, "big")
        packet[36 + len(options) : 38 + len(options)] = bytes(2)
        write_ipv4_header_checksum(packet)
        complete(packet, 20 + len(options), TCP)
        return bytes(packet)

    script.listen()
    script.deliver(with_options(bytes.fromhex("01 5e03ff")))
    script.flush()
    script.expect("S.", seq=0, ack=1)
    script.deliver(with_options(bytes.fromhex("8307040a070009 00")))
    script.flush()
    assert sum(script.host.drops.values()) == 1


def test_rfc_5927_4_1_what_is_on_the_way_is_what_was_sent_and_not_acknowledged(script: Script) -> None:
    connection = script.accepted()
    tcp, una = script.host.tcp, connection.sender.una

    def is_on_the_way(seq: int) -> bool:
        return tcp.is_on_the_way(connection.local, connection.remote, (una + seq) & 0xFFFFFFFF)

    # A reset or an acknowledgment has the next number, so that one is always good.
    assert [is_on_the_way(seq) for seq in (-1, 0, 1)] == [False, True, False]
    script.send(3000)
    script.expect("P.", seq=1, ack=1, length=3000)
    assert [is_on_the_way(seq) for seq in (-1, 0, 2999, 3000)] == [False, True, True, False]
    script.inject(".", seq=1, ack=1001)
    assert [is_on_the_way(seq) for seq in (999, 1000, 2999, 3000)] == [False, True, True, False]


def test_rfc_1191_smaller_path_with_nothing_on_the_way_sends_nothing(script: Script) -> None:
    script.accepted()
    script.send(1000)
    sent = script.expect("P.", seq=1, ack=1, length=1000)
    script.inject(".", seq=1, ack=1001)
    quote = bytearray(sent.packet)
    quote[24:28] = ((int.from_bytes(quote[24:28], "big") + 1000) & 0xFFFFFFFF).to_bytes(4, "big")
    complain(script, bytes(quote), TOO_BIG, mtu=640)
    assert script.connection.maximum_segment == 600
    script.send(1200)
    script.expect("P.", seq=1001, ack=1, length=1200, segment=600)
