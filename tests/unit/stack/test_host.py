"""The host as a whole: what stays inside, what is handed out, bounds."""

from __future__ import annotations

from ipaddress import ip_interface, ip_network

import pytest

from tests.unit.stack.wire import Wire, make_host, v4, v6
from weft.errors import UsageError
from weft.stack import host as host_module
from weft.stack import ip as ip_module
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure, StackError
from weft.stack.ip import LOOPBACK_MTU, MAX_PATHS, Path

LOOPBACK = bytes((127, 0, 0, 1))


def test_way_to_a_destination() -> None:
    host = make_host(1)
    host.addresses.add(ip_interface("10.8.0.1/24"))
    host.routes.add(ip_network("192.0.2.0/24"), bytes((10, 8, 0, 1)))
    host.routes.add(ip_network("198.51.100.0/24"), bytes((10, 9, 0, 1)))
    path = host.ip.path
    assert [host.ip.mtu(destination) for destination in (v4(1), LOOPBACK, v4(2))] == [LOOPBACK_MTU, LOOPBACK_MTU, 1352]
    assert path(v4(2)) == Path(v4(1), 1352, False)
    assert path(v4(1)) == Path(v4(1), LOOPBACK_MTU, True)
    assert path(LOOPBACK) == path(LOOPBACK, bytes(4)) == Path(LOOPBACK, LOOPBACK_MTU, True)
    assert path(bytes((192, 0, 2, 9))).source == bytes((10, 8, 0, 1)), "the source of the route"
    assert path(bytes((198, 51, 100, 9))).source == v4(1), "the source of the route is not ours"
    assert path(v4(2), bytes((10, 8, 0, 1))).source == bytes((10, 8, 0, 1))
    assert path(bytes((10, 8, 0, 9))).source == bytes((10, 8, 0, 1))
    for destination, source, failure in (
        (bytes((203, 0, 113, 1)), None, Failure.NO_ROUTE),
        (bytes(4), None, Failure.NO_ROUTE),
        (bytes(16), None, Failure.NO_ROUTE),
        (v4(2), bytes((10, 9, 0, 1)), Failure.NOT_OURS),
        (v4(2), v6(1), Failure.NO_ROUTE),
        (v4(2), LOOPBACK, Failure.NO_ROUTE),
    ):
        with pytest.raises(StackError) as refused:
            path(destination, source)
        assert refused.value.failure is failure
    with pytest.raises(UsageError):
        path(b"abc")


def test_way_is_looked_for_anew_after_a_change() -> None:
    host = make_host(1)
    host.routes.add(ip_network("192.0.2.0/24"))
    destination = bytes((192, 0, 2, 9))
    assert host.ip.path(destination).source == v4(1)
    host.routes.add(ip_network("192.0.2.0/24"), bytes((10, 8, 0, 1)))
    host.addresses.add(ip_interface("10.8.0.1/24"))
    assert host.ip.path(destination).source == bytes((10, 8, 0, 1))
    host.routes.remove(ip_network("192.0.2.0/24"))
    with pytest.raises(StackError):
        host.ip.path(destination)


def test_ways_that_are_remembered_have_a_bound() -> None:
    host = make_host(1)
    host.routes.add(ip_network("0.0.0.0/0"))
    for number in range(MAX_PATHS + 10):
        host.ip.path((0x0B000000 + number).to_bytes(4, "big"))
    assert len(host.ip._paths) <= MAX_PATHS


def test_queue_has_a_bound_and_what_does_not_fit_is_counted() -> None:
    host = make_host(1)
    socket = host.udp.open(None, Endpoint(v4(2), 53))
    for _ in range(ip_module.QUEUE_PACKETS + 10):
        socket.send(b"short", None, 0)
    assert host.drops == {"ip: queue full": 10}
    assert not host.ip.has_room()
    assert sum(1 for _ in iter(lambda: host.next_packet(0), None)) == ip_module.QUEUE_PACKETS
    for _ in range(100):
        socket.send(bytes(60_000), None, 0)
    sent = sum(len(part) for packet in iter(lambda: host.next_packet(0), None) for part in packet.parts)
    assert ip_module.QUEUE_BYTES < sent < ip_module.QUEUE_BYTES + 65_535 * 1.1
    assert host.ip._queued_bytes == 0
    assert host.drops["ip: queue full"] > 10


def test_packets_to_oneself_wait_in_bounded_numbers_and_none_is_dropped() -> None:
    host = make_host(1)
    server = host.udp.open(Endpoint(LOOPBACK, 53))
    client = host.udp.open(None, server.local)
    for number in range(600):
        client.send(number.to_bytes(2, "big"), None, 7)
    received, turns = [], 0
    while True:
        assert host.next_packet(7) is None
        if host.next_timer() is None:
            break
        assert host.next_timer() == 7
        assert len(host._looped) <= host_module.LOOPED_PACKETS
        host.handle_timer(7)
        received += list(iter(server.receive, None))
        turns += 1
    assert [int.from_bytes(data, "big") for data, _ in received] == list(range(600))
    assert turns == 3
    assert host._looped_bytes == 0


def test_closed_port_of_oneself_refuses() -> None:
    for address in (LOOPBACK, v4(1), v6(1)):
        wire = Wire(make_host(1), make_host(2))
        client = wire.left.udp.open(None, Endpoint(address, 53))
        client.send(b"data", None, wire.now)
        wire.drive()
        assert client.take_failure() == (Failure.REFUSED, Endpoint(address, 53))
        connection = wire.left.tcp.connect(Endpoint(address, 53), wire.now)
        wire.drive(lambda: connection.is_closed)  # noqa: B023
        assert connection.failure is Failure.REFUSED


@pytest.mark.parametrize("address", [LOOPBACK, v4(1), v6(1), bytes(15) + b"\1"])
def test_tcp_to_oneself_stays_in_the_host(address: bytes) -> None:
    wire = Wire(make_host(1), make_host(2))
    listener = wire.left.tcp.listen(Endpoint(bytes(16), 80))
    connection = wire.left.tcp.connect(Endpoint(address, 80), wire.now)
    wire.drive(lambda: connection.is_established)
    accepted = listener.accept()
    assert accepted is not None
    data, received = bytes(range(256)) * 4000, bytearray()
    connection.send(data)

    def is_there() -> bool:
        received.extend(b"".join(accepted.receive()))
        return len(received) == len(data)

    wire.drive(is_there)
    assert received == data
    assert not wire.to_right.sent


def test_each_socket_waits_once_in_the_queue_of_events() -> None:
    wire = Wire(make_host(1), make_host(2))
    server = wire.right.udp.open(Endpoint(bytes(16), 53))
    client = wire.left.udp.open(None, Endpoint(v6(2), 53))
    for _ in range(3):
        client.send(b"data", None, wire.now)
    while (packet := wire.left.next_packet(wire.now)) is not None:
        wire.right.receive(memoryview(b"".join(packet.parts)), wire.now, is_partial=True)
    assert wire.right.next_event() is server
    assert wire.right.next_event() is None
