"""OPEN and the other calls of a user (RFC 9293 section 3.9.1)."""

from __future__ import annotations

from ipaddress import ip_interface, ip_network

import pytest

from tests.unit.stack.tcp.script import ANY, Script
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure, StackError
from weft.stack.tcp.states import State
from weft.stack.tcp.tcp import _key
from weft.stack.tcp.time_wait import TimeWait


def test_3_9_1_1_must_41_second_passive_open_changes_nothing(script: Script) -> None:
    listener = script.listen()
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    with pytest.raises(StackError) as in_use:
        script.host.tcp.listen(ANY)
    assert in_use.value.failure is Failure.IN_USE
    with pytest.raises(StackError):
        script.host.tcp.listen(Endpoint(script.us, 80))
    assert script.host.tcp.listeners == [listener]
    script.inject(".", seq=1, ack=1)
    assert listener.accept() is not None


def test_3_9_1_1_must_42_listen_beside_connections_of_the_same_port(script: Script) -> None:
    first = script.connect(4000)
    script.expect("S", seq=0)
    listener = script.host.tcp.listen(Endpoint(script.us, 4000))
    script.inject("S", seq=0, port=81)
    script.expect("S.", seq=0, ack=1, port=81)
    assert first.state is State.SYN_SENT
    assert listener.half_open == 1
    # A second connection from there, to another place.
    second = script.host.tcp.connect(Endpoint(script.peer, 82), script.now, local=Endpoint(script.us, 4000))
    script.flush()
    script.expect("S", seq=0, port=82)
    assert second.local == first.local


def test_3_9_1_1_must_43_local_address_may_be_said(script: Script) -> None:
    other = bytes((10, 7, 0, 9))
    script.host.addresses.add(ip_interface("10.7.0.9/24"))
    connection = script.host.tcp.connect(Endpoint(script.peer, 80), script.now, local=Endpoint(other, 0))
    assert connection.local.address == other
    outgoing = script.host.next_packet(script.now)
    assert outgoing is not None
    assert bytes(outgoing.parts[0][12:16]) == other
    with pytest.raises(StackError) as not_ours:
        script.host.tcp.connect(Endpoint(script.peer, 80), script.now, local=Endpoint(bytes((10, 7, 0, 77)), 0))
    assert not_ours.value.failure is Failure.NOT_OURS
    with pytest.raises(StackError) as not_ours:
        script.host.tcp.listen(Endpoint(bytes((10, 7, 0, 77)), 80))
    assert not_ours.value.failure is Failure.NOT_OURS


def test_3_9_1_1_must_44_ip_chooses_the_local_address(script: Script) -> None:
    assert script.connect().local.address == script.us
    script.expect("S", seq=0)
    script.host.addresses.add(ip_interface("192.168.5.1/24"))
    connection = script.host.tcp.connect(Endpoint(bytes((192, 168, 5, 9)), 80), script.now)
    assert connection.local.address == bytes((192, 168, 5, 1))
    outgoing = script.host.next_packet(script.now)
    assert outgoing is not None
    assert bytes(outgoing.parts[0][12:20]) == bytes((192, 168, 5, 1, 192, 168, 5, 9))


def test_3_9_1_1_must_45_local_address_stays_with_the_connection(script: Script) -> None:
    connection = script.accepted()
    script.host.addresses.add(ip_interface("10.7.0.3/32"))
    script.host.routes.add(ip_network("10.7.0.2/32"), source=bytes((10, 7, 0, 3)))
    script.send(b"x")
    script.expect("P.", seq=1, ack=1, data=b"x")
    assert connection.local.address == script.us


@pytest.mark.parametrize(
    "address",
    [
        bytes((255, 255, 255, 255)),
        bytes((10, 7, 0, 255)),
        bytes((224, 0, 0, 1)),
        b"\xff\x02" + bytes(13) + b"\1",
        bytes(4),
    ],
)
def test_3_9_1_1_must_46_open_to_what_is_no_host_is_refused(script: Script, address: bytes) -> None:
    script.host.addresses.add(ip_interface("fc00::1/64"))
    with pytest.raises(StackError):
        script.host.tcp.connect(Endpoint(address, 80), script.now)
    assert script.host.tcp.connections == []


@pytest.mark.parametrize("address", [bytes((127, 0, 0, 1)), bytes((10, 7, 0, 1)), bytes(15) + b"\1"])
def test_open_to_the_host_itself(script: Script, address: bytes) -> None:
    listener = script.listen()
    connection = script.host.tcp.connect(Endpoint(address, 80), script.now)
    for _ in range(4):
        assert script.host.next_packet(script.now) is None
        script.host.handle_timer(script.now)
    assert connection.is_established
    assert listener.accept() is not None


def test_open_from_a_place_that_is_taken_is_refused(script: Script) -> None:
    script.connect(4000)
    script.expect("S", seq=0)
    with pytest.raises(StackError) as in_use:
        script.connect(4000)
    assert in_use.value.failure is Failure.IN_USE
    assert str(in_use.value) == "address in use: 10.7.0.1:4000"


def test_open_to_where_no_route_leads_is_refused(script: Script) -> None:
    with pytest.raises(StackError) as no_route:
        script.host.tcp.connect(Endpoint(bytes((8, 8, 8, 8)), 80), script.now)
    assert no_route.value.failure is Failure.NO_ROUTE


def test_connections_are_bounded(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weft.stack.tcp.tcp.MAX_CONNECTIONS", 2)
    script.listen()
    for port in (1, 2):
        script.inject("S", seq=0, port=port)
        script.expect("S.", seq=0, ack=1, port=port)
    with pytest.raises(StackError) as no_room:
        script.connect()
    assert no_room.value.failure is Failure.NO_ROOM
    script.peer_port = 5000
    script.inject("S", seq=0, port=3)
    assert script.drops("tcp: backlog is full") == 1


def test_listener_of_an_address_takes_only_what_is_for_it(script: Script) -> None:
    script.host.addresses.add(ip_interface("10.7.0.9/24"))
    listener = script.host.tcp.listen(Endpoint(bytes((10, 7, 0, 9)), 80))
    script.inject("S", seq=0)
    script.expect("R.", seq=0, ack=1)
    assert listener.half_open == 0
    own = script.host.tcp.listen(Endpoint(script.us, 80))
    assert own.local == Endpoint(script.us, 80)
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    assert own.half_open == 1


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        (bytes(16), bytes(4), False),
        (bytes(4), bytes(16), False),
        (bytes(4), bytes((10, 7, 0, 1)), False),
        (bytes((10, 7, 0, 1)), bytes(4), False),
        (bytes((10, 7, 0, 1)), bytes((10, 7, 0, 1)), False),
        (bytes((10, 7, 0, 1)), bytes((10, 7, 0, 9)), True),
        (bytes(4), b"\xfc" + bytes(14) + b"\1", True),
        (b"\xfc" + bytes(14) + b"\1", bytes((10, 7, 0, 1)), True),
    ],
)
def test_listeners_share_no_address(script: Script, first: bytes, second: bytes, *, both: bool) -> None:
    script.host.addresses.add(ip_interface("10.7.0.9/24"))
    script.host.addresses.add(ip_interface("fc00::1/64"))
    script.host.tcp.listen(Endpoint(first, 80))
    script.host.tcp.listen(Endpoint(first, 81))
    if both:
        script.host.tcp.listen(Endpoint(second, 80))
    else:
        with pytest.raises(StackError) as in_use:
            script.host.tcp.listen(Endpoint(second, 80))
        assert in_use.value.failure is Failure.IN_USE


def test_listener_of_all_ipv4_addresses(script: Script) -> None:
    listener = script.host.tcp.listen(Endpoint(bytes(4), 80))
    script.inject("S", seq=0)
    script.expect("S.", seq=0, ack=1)
    assert listener.half_open == 1


def test_listener_of_all_ipv4_addresses_takes_no_ipv6() -> None:
    with Script(version=6) as script:
        script.host.tcp.listen(Endpoint(bytes(4), 80))
        script.inject("S", seq=0)
        script.expect("R.", seq=0, ack=1)


def test_listener_on_any_port_gets_a_free_one(script: Script) -> None:
    ports = {script.host.tcp.listen(Endpoint(bytes(16), 0)).local.port for _ in range(50)}
    assert len(ports) == 50
    assert 0 not in ports


def test_listen_again_after_close(script: Script) -> None:
    script.listen().close(script.now)
    assert script.listen().local == ANY


def test_3_9_1_2_must_60_data_is_not_kept_for_ever_and_must_61_the_last_is_pushed(script: Script) -> None:
    script.accepted()
    script.send(2500)
    script.expect(".", seq=1, ack=1, length=2000, segment=1000)
    script.inject(".", seq=1, ack=2001)
    script.expect("P.", seq=2001, ack=1, length=500)
    script.inject(".", seq=1, ack=2501)
    script.send(2000)
    script.expect("P.", seq=2501, ack=1, length=2000, segment=1000)


def test_user_learns_what_is_not_sent_and_not_acknowledged(script: Script) -> None:
    script.accepted(window=1000)
    script.send(1700)
    script.expect(".", seq=1, ack=1, length=1000)
    connection = script.connection
    assert (connection.unsent_bytes, connection.unacknowledged_bytes) == (700, 1000)
    script.inject(".", seq=1, ack=1001, window=0)
    assert (connection.unsent_bytes, connection.unacknowledged_bytes) == (700, 0)
    assert script.events() == [connection]


def test_writer_is_told_when_its_data_leaves(script: Script) -> None:
    connection = script.accepted(window=1000)
    connection.awaits_room = True
    script.send(1700)
    script.expect(".", seq=1, ack=1, length=1000)
    assert script.events() == [connection]
    script.expect(".", seq=1, ack=1, length=1000, after=200)
    assert script.events() == []


def test_writer_that_does_not_wait_is_told_of_acknowledgments_only(script: Script) -> None:
    connection = script.accepted()
    script.send(700)
    script.expect("P.", seq=1, ack=1, length=700)
    assert script.events() == []
    script.inject(".", seq=1, ack=701)
    assert script.events() == [connection]


def test_user_takes_as_much_as_it_likes(script: Script) -> None:
    script.accepted()
    script.inject(".", seq=1, ack=1, data=b"abcdef")
    script.inject("P.", seq=7, ack=1, data=b"ghi")
    assert script.receive(2) == b"ab"
    assert script.connection.readable_bytes == 7
    assert script.receive(0) == b""
    assert script.receive(5) == b"cdefg"
    assert script.receive() == b"hi"
    assert script.receive() == b""
    script.expect(".", seq=1, ack=10, after=40)


def test_names_of_a_connection(script: Script) -> None:
    connection = script.accepted()
    assert repr(connection) == "<Connection 10.7.0.1:80 - 10.7.0.2:5000 ESTABLISHED>"
    assert connection.local == Endpoint(script.us, 80)
    assert connection.remote == Endpoint(script.peer, 5000)


def test_many_connections_send_in_turn(script: Script) -> None:
    connections = []
    script.listen()
    for port in (1, 2, 3):
        script.inject("S", seq=0, mss=1000, port=port)
        script.expect("S.", seq=0, ack=1, port=port)
        script.inject(".", seq=1, ack=1, port=port)
        connections.append(script.accept())
    for connection in connections:
        connection.set_no_delay(True)
        connection.sender.cubic.window = 100_000
        connection.send(bytes(64_000 + 500))
    script.flush()
    sent = [each.port for each in script.take_all()]
    assert sent[:3] == [1, 2, 3]
    assert sorted(sent[3:]) == sorted(sent[:3] * (len(sent) // 3 - 1))
    assert sent[3:6] == [1, 2, 3]


def test_3_9_1_9_must_48_traffic_class_may_be_said(script: Script) -> None:
    script.accepted().traffic_class = 0xB8
    script.send(b"x")
    assert script.expect("P.", seq=1, ack=1, data=b"x").packet[1] == 0xB8
    script.abort()
    assert script.expect("R.", seq=2, ack=1).packet[1] == 0xB8


def test_3_9_1_9_traffic_class_of_ipv6() -> None:
    with Script(version=6) as script:
        script.accepted().traffic_class = 0xB8
        script.send(b"x")
        assert script.expect("P.", seq=1, ack=1, data=b"x").packet[:2] == b"\x6b\x80"


def test_3_9_2_must_49_time_to_live_may_be_said(script: Script) -> None:
    connection = script.accepted()
    script.send(b"x")
    assert script.expect("P.", seq=1, ack=1, data=b"x").packet[8] == 64
    connection.hop_limit = 3
    connection.set_no_delay(True)
    script.send(b"y")
    assert script.expect("P.", seq=2, ack=1, data=b"y").packet[8] == 3
    script.abort()
    assert script.expect("R.", seq=3, ack=1).packet[8] == 3


def test_bounds_of_a_host() -> None:
    """So many connections, places of old ones, and bytes of all windows beyond the first 256 KiB."""
    with Script() as script:
        tcp = script.host.tcp
        assert tcp.budget.take(1 << 60) == 256 << 20
        wait = TimeWait(Endpoint(script.us, 1), Endpoint(script.peer, 1), 0, 0, 0, None, 1 << 60)
        tcp._connections.update((number.to_bytes(4, "big"), wait) for number in range(65_535))
        script.connect()
        script.expect("S", seq=0)
        with pytest.raises(StackError) as no_room:
            script.connect()
        assert no_room.value.failure is Failure.NO_ROOM


def test_bound_of_connections_that_are_over(script: Script) -> None:
    tcp = script.host.tcp
    for number in range(16_390):
        local, remote = Endpoint(script.us, 80), Endpoint(script.peer, number)
        tcp._keep_wait(_key(local, remote), TimeWait(local, remote, 0, 0, 0, None, 1 << 60))
    assert len(tcp._connections) == 16_384


def test_runs_whose_time_is_kept_are_bounded(script: Script) -> None:
    connection = script.accepted()
    connection.set_no_delay(True)
    for number in range(70):
        script.send(b"x")
        script.expect("P.", seq=1 + number, ack=1, data=b"x")
    assert len(connection.sender._timed) == 64


def test_3_9_1_9_traffic_class_is_none_by_default(script: Script) -> None:
    connection = script.accepted()
    script.send(b"x")
    sent = script.expect("P.", seq=1, ack=1, data=b"x")
    assert sent.packet[1] == 0
    assert connection.traffic_class == 0


@pytest.mark.parametrize(("size", "is_all"), [(1, True), (10_000, True), (10_001, False)])
def test_who_has_sent_all_is_not_asked_again(script: Script, size: int, is_all: bool) -> None:
    connection, to_send = script.accepted(), script.host.tcp.to_send
    connection.send(bytes(size))
    assert script.host.next_packet(script.now) is not None
    assert list(to_send) == ([] if is_all else [connection])
    # It may have more, but for the congestion window.
    assert script.host.next_packet(script.now) is None
    assert not to_send
    connection.set_no_delay(True)
    assert list(to_send) == [connection]
