"""Pings, errors that go out, and errors that come in."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    ICMPv6Unknown,
    IPv6,
)
from scapy.packet import Packet, Raw

from tests.unit.stack.packets import PORT, Target, ip4, ip6
from tests.unit.stack.wire import ROUTER_V6, Wire, make_host, v4, v6
from weft.packet.answers import packet_too_big
from weft.stack import icmp, ping
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure, StackError
from weft.stack.icmp_error import PathError
from weft.testing import MS, Faults, S

BOTH = pytest.mark.parametrize("address", [v4, v6], ids=["v4", "v6"])


def joined(**options: Any) -> Wire:
    return Wire(make_host(1), make_host(2), **options)


# Pings.


@BOTH
@pytest.mark.parametrize("length", [0, 100, 5000, 60_000])
def test_ping_is_answered_in_the_time_of_the_way(address: Any, length: int) -> None:
    wire = joined(faults=Faults(latency_ns=7 * MS, mtu_bytes=1352))
    asked = wire.left.icmp.ping(address(2), wire.now, data=bytes(length))
    wire.drive()
    assert (asked.reply_ns, asked.failure) == (14 * MS, None)
    assert wire.left.next_timer() is None
    assert not wire.left.drops
    assert not wire.right.drops


@BOTH
def test_ping_without_reply_is_given_up(address: Any) -> None:
    wire = joined(faults=Faults(loss=1))
    asked = wire.left.icmp.ping(address(2), wire.now, timeout_s=1.5)
    started = wire.now
    wire.drive(lambda: asked.failure is not None)
    assert (asked.reply_ns, asked.failure) == (None, Failure.TIMED_OUT)
    assert wire.now == started + 3 * S // 2


@BOTH
def test_ping_tells_its_user(address: Any) -> None:
    class User:
        told = 0

        def handle_event(self) -> None:
            self.told += 1

    wire = joined()
    for destination in (address(2), address(1), address(9)):
        asked = wire.left.icmp.ping(destination, wire.now)
        asked.user = user = User()
        wire.drive(lambda: asked.reply_ns is not None or asked.failure is not None)  # noqa: B023
        assert user.told == 1


def test_ping_to_nowhere_and_pings_beyond_the_bound_are_refused() -> None:
    host = make_host(1)
    with pytest.raises(StackError) as refused:
        host.icmp.ping(bytes((192, 0, 2, 1)), 0)
    assert refused.value.failure is Failure.NO_ROUTE
    with pytest.raises(StackError) as refused:
        host.icmp.ping(v4(2), 0, data=bytes(65_535))
    assert refused.value.failure is Failure.TOO_LONG
    assert host.next_timer() is None
    for _ in range(ping.MAX_PINGS):
        host.icmp.ping(v4(2), 0)
    with pytest.raises(StackError) as refused:
        host.icmp.ping(v4(2), 0)
    assert refused.value.failure is Failure.NO_ROOM


def test_only_the_very_reply_ends_a_ping() -> None:
    target = Target()
    asked = target.host.icmp.ping(v6(2), 1, data=b"data")
    (request,) = target.answers()
    number = {"id": request[ICMPv6EchoRequest].id, "seq": request[ICMPv6EchoRequest].seq}
    wrong = [
        ip6() / ICMPv6EchoReply(**(number | {"id": number["id"] ^ 1}), data=b"data"),
        ip6() / ICMPv6EchoReply(**(number | {"seq": number["seq"] ^ 1}), data=b"data"),
        ip6() / ICMPv6EchoReply(**number, data=b"dat"),
        ip6(src="fc00::3") / ICMPv6EchoReply(**number, data=b"data"),
    ]
    for reply in wrong:
        assert target.receive(reply) == []
    assert target.host.drops == {"icmp: reply without request": 4}
    assert asked.reply_ns is None
    target.receive(ip6() / ICMPv6EchoReply(**number, data=b"data"), 5)
    assert asked.reply_ns == 4
    target.receive(ip6() / ICMPv6EchoReply(**number, data=b"data"), 6)
    assert target.host.drops == {"icmp: reply without request": 5}


def test_ping_that_is_refused_on_its_way_fails() -> None:
    target = Target()
    asked = target.host.icmp.ping(v6(2), 1)
    (request,) = target.answers()
    target.receive(ip6() / ICMPv6DestUnreach(code=1) / request)
    assert asked.failure is Failure.PROHIBITED
    target.receive(ip6() / ICMPv6DestUnreach(code=1) / request)
    assert target.host.drops == {"icmp: error about nothing that was sent": 1}


@pytest.mark.parametrize("ip", [ip4, ip6])
def test_echo_reply_equals_scapy(ip: Any) -> None:
    target = Target()
    if ip is ip4:
        (reply,) = target.receive(ip4() / ICMP(type=8, id=5, seq=6) / b"data")
        assert bytes(reply) == bytes(
            IP(src="10.7.0.1", dst="10.7.0.2", flags="DF", id=0) / ICMP(type=0, id=5, seq=6) / b"data"
        )
    else:
        (reply,) = target.receive(ip6() / ICMPv6EchoRequest(id=5, seq=6, data=b"data"))
        expected = IPv6(src="fc00::1", dst="fc00::2") / ICMPv6EchoReply(id=5, seq=6, data=b"data", cksum=0)
        assert bytes(reply) == bytes(expected), "the checksum is left to the datapath"


def test_replies_have_a_rate() -> None:
    target = Target()
    request = ip6() / ICMPv6EchoRequest()
    replies = sum(len(target.receive(request)) for _ in range(icmp.REPLIES_BURST + 50))
    assert replies == icmp.REPLIES_BURST
    assert target.host.drops == {"icmp: reply over the rate": 50}
    assert len(target.receive(request, S)) == 1


# Errors that go out.


def test_errors_have_a_rate_for_each_source_and_in_sum() -> None:
    target = Target()
    first = sum(len(target.receive(ip6() / UDP(dport=1))) for _ in range(100))
    assert first == icmp.ERRORS_PER_SOURCE_BURST
    others = sum(
        len(target.receive(ip6(src=f"fc00::2:{number:x}") / UDP(dport=1))) for number in range(2 * icmp.ERRORS_BURST)
    )
    assert first + others == icmp.ERRORS_BURST
    assert len(target.receive(ip6() / UDP(dport=1), S)) == 1


@pytest.mark.parametrize(
    "packet",
    [
        ip6() / ICMPv6DestUnreach() / ip6(src="fc00::1", dst="fc00::2", nh=200) / Raw(bytes(8)),
        ip6(dst="ff02::1") / UDP(dport=1),
        ip6() / ICMPv6Unknown(type=127),
        ip6() / ICMPv6Unknown(type=200),
        ip4() / ICMP(type=13),
        ip4() / ICMP(type=3, code=3) / IP(src="10.7.0.1", dst="10.7.0.2", proto=200) / Raw(bytes(8)),
    ],
)
def test_nothing_answers_an_error_or_what_was_for_many(packet: Packet) -> None:
    target = Target()
    assert target.receive(packet) == []
    assert sum(target.host.drops.values()) == 1


# Errors that come in.

ERRORS_V6 = [
    (ICMPv6DestUnreach(code=0), PathError(Failure.NO_ROUTE)),
    (ICMPv6DestUnreach(code=1), PathError(Failure.PROHIBITED, is_hard=True)),
    (ICMPv6DestUnreach(code=2), PathError(Failure.UNREACHABLE)),
    (ICMPv6DestUnreach(code=3), PathError(Failure.UNREACHABLE)),
    (ICMPv6DestUnreach(code=4), PathError(Failure.REFUSED, is_hard=True)),
    (ICMPv6DestUnreach(code=5), PathError(Failure.PROHIBITED, is_hard=True)),
    (ICMPv6DestUnreach(code=6), PathError(Failure.PROHIBITED, is_hard=True)),
    (ICMPv6TimeExceeded(code=0), PathError(Failure.TIMED_OUT)),
    (ICMPv6ParamProblem(code=0), PathError(Failure.UNREACHABLE)),
    (ICMPv6ParamProblem(code=1), PathError(Failure.REFUSED, is_hard=True)),
    (ICMPv6PacketTooBig(mtu=1300), PathError(Failure.TOO_LONG, 1300)),
    (ICMPv6PacketTooBig(mtu=100), PathError(Failure.TOO_LONG, 1352)),
]
ERRORS_V4 = [
    *[(ICMP(type=3, code=code), PathError(Failure.NO_ROUTE)) for code in (0, 6, 11)],
    *[(ICMP(type=3, code=code), PathError(Failure.UNREACHABLE)) for code in (1, 5, 7, 8, 12)],
    *[(ICMP(type=3, code=code), PathError(Failure.REFUSED, is_hard=True)) for code in (2, 3)],
    *[(ICMP(type=3, code=code), PathError(Failure.PROHIBITED, is_hard=True)) for code in (9, 10, 13)],
    (ICMP(type=11), PathError(Failure.TIMED_OUT)),
    (ICMP(type=12), PathError(Failure.UNREACHABLE)),
    (ICMP(type=3, code=4, nexthopmtu=1000), PathError(Failure.TOO_LONG, 1000)),
    (ICMP(type=3, code=4, nexthopmtu=0), PathError(Failure.TOO_LONG, 1006)),
]


@pytest.mark.parametrize(("message", "error"), [*ERRORS_V6, *ERRORS_V4])
def test_error_reaches_the_socket_that_it_is_about(message: Packet, error: PathError) -> None:
    target = Target()
    is_ipv6 = not isinstance(message, ICMP)
    remote = Endpoint(v6(2) if is_ipv6 else v4(2), 53)
    told: list[PathError] = []
    original = target.host.udp.receive_error
    target.host.udp.receive_error = lambda error, *rest: (told.append(error), original(error, *rest))  # type: ignore
    bystander = target.host.udp.open(None, Endpoint(remote.address, 54))
    client = target.host.udp.open(None, remote)
    client.send(bytes(1300), None, 1)
    (packet,) = target.answers()
    target.receive((ip6() if is_ipv6 else ip4()) / message / Raw(bytes(packet)[:100]))
    assert told == [error]
    assert client.take_failure() == (error.failure, remote)
    assert bystander.take_failure() is None
    assert not target.host.drops


@pytest.mark.parametrize(
    ("quoted", "reason"),
    [
        (ip6(src="fc00::3", dst="fc00::2") / UDP(sport=PORT, dport=53), "error about a stranger's packet"),
        (ip6(src="fc00::1", dst="fc00::2") / UDP(sport=PORT + 1, dport=53), "error about nothing that was sent"),
        (ip6(src="fc00::1", dst="fc00::2") / TCP(sport=PORT, dport=53), "error about nothing that was sent"),
        (ip6(src="fc00::1", dst="fc00::2", nh=200) / Raw(bytes(20)), "error about nothing that was sent"),
        (ip4(src="10.7.0.1", dst="10.7.0.2") / UDP(sport=PORT, dport=53), "error with a bad quote"),
        (Raw(bytes(ip6(src="fc00::1", dst="fc00::2") / UDP(sport=PORT))[:47]), "error with a bad quote"),
        (Raw(b""), "error with a bad quote"),
        (ip6(src="fc00::1", dst="fc00::2", nh=44) / Raw(b"\x11\0\0\x08" + bytes(20)), "error with a bad quote"),
    ],
)
@pytest.mark.parametrize("message", [ICMPv6DestUnreach(code=4), ICMPv6PacketTooBig(mtu=1280)])
def test_error_about_what_was_never_sent_changes_nothing(message: Packet, quoted: Packet, reason: str) -> None:
    target = Target()
    assert target.receive(ip6() / message / Raw(bytes(quoted))) == []
    assert target.socket.take_failure() is None
    assert target.host.ip.mtu(v6(2)) == 1352
    assert target.host.drops == {f"icmp: {reason}": 1}


@pytest.mark.parametrize("message", [ICMP(type=4), ICMP(type=5), ICMP(type=3, code=14)])
def test_other_errors_are_ignored(message: Packet) -> None:
    target = Target()
    client = target.host.udp.open(None, Endpoint(v4(2), 53))
    client.send(b"data", None, 1)
    (packet,) = target.answers()
    target.receive(ip4() / message / Raw(bytes(packet)))
    assert client.take_failure() is None
    assert target.host.drops == {"icmp: other error": 1}


# Path MTU.


def test_udp_fragments_what_its_way_does_not_take_any_more() -> None:
    wire = joined(faults=Faults(latency_ns=MS, mtu_bytes=1290), answers_too_big=True)
    server = wire.right.udp.open(Endpoint(bytes(16), 53))
    client = wire.left.udp.open(None, Endpoint(v6(2), 53))
    client.send(bytes(1300), None, wire.now)
    wire.drive(lambda: client.take_failure() == (Failure.TOO_LONG, Endpoint(v6(2), 53)))
    assert wire.left.ip.mtu(v6(2)) == 1290
    assert wire.left.ip.mtu(v6(3)) == 1352
    client.send(bytes(1300), None, wire.now)
    wire.drive(lambda: server.receive() is not None)
    wire.advance(600 * S)
    assert wire.left.ip.mtu(v6(2)) == 1352
    assert wire.left.next_timer() is None


def test_tcp_goes_on_where_the_way_takes_less_than_before() -> None:
    wire = joined(answers_too_big=True)
    listener = wire.right.tcp.listen(Endpoint(bytes(16), 80))
    connection = wire.left.tcp.connect(Endpoint(v6(2), 80), wire.now)
    wire.drive(lambda: connection.is_established)
    wire.drive()
    wire.to_right.faults = Faults(latency_ns=MS, mtu_bytes=1290)
    data = bytes(range(256)) * 400
    connection.send(data)
    accepted = listener.accept()
    assert accepted is not None
    received = bytearray()

    def is_there() -> bool:
        received.extend(b"".join(accepted.receive()))
        return len(received) == len(data)

    started = wire.now
    wire.drive(is_there)
    assert received == data
    assert wire.left.ip.mtu(v6(2)) == 1290
    assert wire.now - started < S


def test_too_big_about_a_segment_that_is_not_on_the_way_changes_nothing() -> None:
    wire = joined()
    wire.right.tcp.listen(Endpoint(bytes(16), 80))
    connection = wire.left.tcp.connect(Endpoint(v6(2), 80), wire.now)
    wire.drive(lambda: connection.is_established)
    wire.drive()
    segment = bytearray(wire.to_right.sent[0].packet)
    segment[44] ^= 0x40
    forged = packet_too_big(bytes(segment), 1280, ROUTER_V6)
    assert forged is not None
    wire.to_left.inject(forged)
    wire.drive()
    assert wire.left.ip.mtu(v6(2)) == 1352
    assert wire.left.drops["icmp: error about nothing that was sent"] == 1
