from __future__ import annotations

from ipaddress import ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stack.wire import Wire, make_host, v4, v6
from weft.errors import UsageError
from weft.stack.addresses import ANY_V4, ANY_V6
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure, StackError
from weft.stack.udp_socket import RECEIVE_QUEUE_BYTES, UdpSocket
from weft.testing import MS, Faults, S

BOTH = pytest.mark.parametrize("address", [v4, v6], ids=["v4", "v6"])


def joined(**options: object) -> Wire:
    return Wire(make_host(1), make_host(2), **options)  # type: ignore[arg-type]


def all_of(socket: UdpSocket) -> list[bytes]:
    return [datagram[0] for datagram in iter(socket.receive, None)]


@BOTH
def test_datagram_reaches_a_socket_of_both_versions_and_the_answer_the_sender(address: type) -> None:
    wire = joined()
    server = wire.right.udp.open(Endpoint(ANY_V6, 53))
    client = wire.left.udp.open(None, Endpoint(address(2), 53))
    client.send(b"question", None, wire.now)
    wire.drive()
    data, remote = server.receive()
    assert (data, remote) == (b"question", client.local)
    assert remote.address == address(1)
    server.send(b"answer", remote, wire.now)
    wire.drive()
    assert client.receive() == (b"answer", Endpoint(address(2), 53))
    assert not wire.left.drops
    assert not wire.right.drops


@BOTH
def test_closed_port_refuses_and_the_socket_is_told(address: type) -> None:
    wire = joined()
    client = wire.left.udp.open(None, Endpoint(address(2), 53))
    client.send(b"question", None, wire.now)
    wire.drive()
    assert client.take_failure() == (Failure.REFUSED, Endpoint(address(2), 53))
    assert client.take_failure() is None
    assert wire.left.next_event() is None


@BOTH
@pytest.mark.parametrize("whole", [False, True])
def test_datagrams_of_one_size_in_a_row_leave_as_one_super_packet(address: type, whole: bool) -> None:
    wire = joined(whole=whole)
    server = wire.right.udp.open(Endpoint(ANY_V6, 53))
    client = wire.left.udp.open(None, Endpoint(address(2), 53))
    sent = [bytes([number]) * 1000 for number in range(70)] + [b"short"]
    for data in sent:
        client.send(data, None, wire.now)
    wire.drive()
    assert all_of(server) == sent
    if whole:
        assert [crossing.segment for crossing in wire.to_right.sent] == [1000, 1000]
    else:
        assert len(wire.to_right.sent) == 71


@BOTH
@pytest.mark.parametrize("length", [1, 1304, 1305, 5000, 65_000])
def test_datagram_over_the_mtu_crosses_in_fragments(address: type, length: int) -> None:
    wire = joined(faults=Faults(latency_ns=MS, mtu_bytes=1352))
    server = wire.right.udp.open(Endpoint(ANY_V6, 53))
    client = wire.left.udp.open(None, Endpoint(address(2), 53))
    data = bytes(range(256)) * 256
    client.send(data[:length], None, wire.now)
    wire.drive()
    assert all_of(server) == [data[:length]]


@given(st.lists(st.integers(0, 2000), max_size=30), st.sampled_from([v4, v6]), st.booleans())
def test_any_sizes_arrive_in_their_order(sizes: list[int], address: type, whole: bool) -> None:
    wire = joined(whole=whole)
    server = wire.right.udp.open(Endpoint(ANY_V6, 53))
    client = wire.left.udp.open(None, Endpoint(address(2), 53))
    sent = [number.to_bytes(2, "big") * (size // 2) for number, size in enumerate(sizes)]
    for data in sent:
        client.send(data, None, wire.now)
    wire.drive()
    assert all_of(server) == sent


@given(
    st.lists(st.integers(0, 5000), min_size=1, max_size=20),
    st.sampled_from([v4, v6]),
    st.floats(0, 0.5),
    st.floats(0, 0.5),
    st.floats(0, 0.5),
    st.integers(0, 1000),
)
def test_whatever_the_wire_does_nothing_arrives_that_was_not_sent(
    sizes: list[int], address: type, loss: float, reordering: float, duplication: float, seed: int
) -> None:
    wire = joined(seed=seed)
    wire.to_right.faults = Faults(
        latency_ns=MS, jitter_ns=MS, loss=loss, reordering=reordering, duplication=duplication
    )
    server = wire.right.udp.open(Endpoint(ANY_V6, 53))
    client = wire.left.udp.open(None, Endpoint(address(2), 53))
    sent = [number.to_bytes(2, "big") * (size // 2) for number, size in enumerate(sizes)]
    for data in sent:
        client.send(data, None, wire.now)
    wire.drive()
    assert set(all_of(server)) <= set(sent)
    wire.advance(61 * S)
    assert wire.right.next_timer() is None, "no fragment is kept for ever"


def test_receive_queue_has_a_bound_and_what_does_not_fit_is_counted() -> None:
    wire = joined()
    server = wire.right.udp.open(Endpoint(ANY_V6, 53))
    client = wire.left.udp.open(None, Endpoint(v6(2), 53))
    for _ in range(400):
        client.send(bytes(1000), None, wire.now)
        wire.drive()
    kept = RECEIVE_QUEUE_BYTES // (1000 + 256)
    assert wire.right.drops["udp: receive queue full"] == 400 - kept
    assert len(all_of(server)) == kept
    assert server.queued_bytes == 0


def test_the_most_particular_socket_gets_the_datagram() -> None:
    wire = joined()
    wire.right.addresses.add(ip_interface("10.7.0.3/24"))
    udp = wire.right.udp
    any_of_both = udp.open(Endpoint(ANY_V6, 53), reuse=True)
    any_v4 = udp.open(Endpoint(ANY_V4, 53), reuse=True)
    one = udp.open(Endpoint(v4(2), 53), reuse=True)
    client = wire.left.udp.open(Endpoint(ANY_V6, 1000))
    connected = udp.open(Endpoint(v4(2), 53), Endpoint(v4(1), 1000), reuse=True)
    other = wire.left.udp.open(Endpoint(ANY_V6, 1001))
    client.send(b"to the connected one", Endpoint(v4(2), 53), wire.now)
    other.send(b"to the address", Endpoint(v4(2), 53), wire.now)
    other.send(b"to any of IPv4", Endpoint(v4(3), 53), wire.now)
    other.send(b"to any", Endpoint(v6(2), 53), wire.now)
    wire.drive()
    assert all_of(connected) == [b"to the connected one"]
    assert all_of(one) == [b"to the address"]
    assert all_of(any_v4) == [b"to any of IPv4"]
    assert all_of(any_of_both) == [b"to any"]


def test_port_in_use_is_refused_unless_both_share_it() -> None:
    udp = make_host(1).udp
    udp.open(Endpoint(ANY_V6, 53))
    for address in (ANY_V6, ANY_V4, v4(1), v6(1)):
        with pytest.raises(StackError) as refused:
            udp.open(Endpoint(address, 53), reuse=True)
        assert refused.value.failure is Failure.IN_USE
    first = udp.open(Endpoint(v4(1), 54))
    udp.open(Endpoint(v6(1), 54))
    first.close()
    udp.open(Endpoint(ANY_V4, 54))


@pytest.mark.parametrize(
    ("local", "remote", "failure"),
    [
        (Endpoint(v4(9), 0), None, Failure.NOT_OURS),
        (None, Endpoint(bytes((192, 0, 2, 1)), 53), Failure.NO_ROUTE),
        (Endpoint(v6(9), 0), Endpoint(v6(2), 53), Failure.NOT_OURS),
        (Endpoint(v6(1), 0), Endpoint(v4(2), 53), Failure.NO_ROUTE),
        (Endpoint(ANY_V4, 0), Endpoint(v6(2), 53), Failure.NO_ROUTE),
        (None, Endpoint(b"\xff" * 4, 53), Failure.PROHIBITED),
        (Endpoint(bytes((127, 0, 0, 1)), 0), Endpoint(v4(2), 53), Failure.NO_ROUTE),
    ],
)
def test_socket_that_can_not_be_opened_says_why(
    local: Endpoint | None, remote: Endpoint | None, failure: Failure
) -> None:
    with pytest.raises(StackError) as refused:
        make_host(1).udp.open(local, remote)
    assert refused.value.failure is failure


def test_send_that_can_not_be_done_says_why_and_queues_nothing() -> None:
    host = make_host(1)
    socket = host.udp.open(Endpoint(ANY_V6, 0))
    cases = [
        (b"", None, Failure.NOT_CONNECTED),
        (bytes(65_508), Endpoint(v4(2), 53), Failure.TOO_LONG),
        (bytes(65_528), Endpoint(v6(2), 53), Failure.TOO_LONG),
        (b"", Endpoint(bytes((192, 0, 2, 1)), 53), Failure.NO_ROUTE),
        (b"", Endpoint(bytes((10, 7, 0, 255)), 53), Failure.PROHIBITED),
    ]
    for data, remote, failure in cases:
        with pytest.raises(StackError) as refused:
            socket.send(data, remote, 0)
        assert refused.value.failure is failure
    with pytest.raises(StackError) as refused:
        host.udp.open(Endpoint(ANY_V4, 0)).send(b"", Endpoint(v6(2), 53), 0)
    assert refused.value.failure is Failure.NO_ROUTE
    socket.close()
    with pytest.raises(StackError) as refused:
        socket.send(b"", Endpoint(v4(2), 53), 0)
    assert refused.value.failure is Failure.CLOSED
    assert host.next_packet(0) is None


@BOTH
def test_datagrams_to_oneself_stay_in_the_host(address: type) -> None:
    wire = joined()
    for destination in (address(1), bytes((127, 0, 0, 1)), bytes(15) + b"\1"):
        server = wire.left.udp.open(Endpoint(ANY_V6, 0))
        client = wire.left.udp.open(None, Endpoint(destination, server.local.port))
        client.send(bytes(30_000), None, wire.now)
        wire.drive()
        assert server.receive() == (bytes(30_000), Endpoint(destination, client.local.port))
    assert not wire.to_right.sent


def test_multicast_reaches_the_sockets_that_joined_here_and_there() -> None:
    wire = joined()
    group = bytes((239, 1, 2, 3))
    here, there, outside = (host.udp.open(Endpoint(ANY_V6, 5353)) for host in (wire.left, wire.right, make_host(3)))
    deaf = wire.right.udp.open(Endpoint(ANY_V6, 5354))
    here.send(b"nobody there", Endpoint(group, 5353), wire.now)
    wire.drive()
    assert wire.right.drops == {"ip: not for us": 1}
    for socket in (here, there, outside):
        socket.join(group)
    here.send(b"all", Endpoint(group, 5353), wire.now)
    here.send(b"port", Endpoint(group, 5354), wire.now)
    wire.drive()
    assert here.receive() == there.receive() == (b"all", Endpoint(v4(1), 5353))
    assert deaf.receive() is None
    assert not wire.to_left.sent, "multicast is never refused"
    there.leave(group)
    here.send(b"again", Endpoint(group, 5353), wire.now)
    wire.drive()
    assert there.receive() is None


@pytest.mark.parametrize("destination", [b"\xff" * 4, bytes((10, 7, 0, 255))])
def test_broadcast_reaches_all_sockets_of_the_port(destination: bytes) -> None:
    wire = joined()
    first = wire.right.udp.open(Endpoint(ANY_V6, 67), reuse=True)
    second = wire.right.udp.open(Endpoint(ANY_V4, 67), reuse=True)
    client = wire.left.udp.open(Endpoint(ANY_V4, 0), broadcast=True)
    client.send(b"who is there", Endpoint(destination, 67), wire.now)
    wire.drive()
    assert all_of(first) == all_of(second) == [b"who is there"]


def test_connected_socket_takes_nothing_from_others() -> None:
    wire = joined()
    server = wire.right.udp.open(Endpoint(v6(2), 53), Endpoint(v6(1), 1000))
    client = wire.left.udp.open(Endpoint(ANY_V6, 1001))
    client.send(b"from another port", server.local, wire.now)
    wire.drive()
    assert server.receive() is None
    assert client.take_failure() == (Failure.REFUSED, server.local)


def test_datagrams_to_others_in_between_end_a_train() -> None:
    wire = joined(whole=True)
    one, other = (wire.right.udp.open(Endpoint(ANY_V6, port)) for port in (53, 54))
    client = wire.left.udp.open(Endpoint(ANY_V6, 0))
    for number in range(6):
        client.send(bytes(1000), (one if number % 3 else other).local._replace(address=v6(2)), wire.now)
    wire.drive()
    assert [crossing.segment for crossing in wire.to_right.sent] == [0, 1000, 0, 1000]
    assert (len(all_of(one)), len(all_of(other))) == (4, 2)


def test_socket_bound_to_a_group_takes_what_is_sent_there_and_sends_from_the_host() -> None:
    wire = joined()
    group = b"\xff\x02" + bytes(13) + b"\x77"
    member = wire.right.udp.open(Endpoint(group, 5353))
    member.join(group)
    member.join(group)
    client = wire.left.udp.open(Endpoint(ANY_V6, 0))
    client.send(b"to the group", Endpoint(group, 5353), wire.now)
    client.send(b"to the host", Endpoint(v6(2), 5353), wire.now)
    wire.drive()
    data, remote = member.receive()
    assert data == b"to the group"
    assert member.receive() is None
    member.send(b"answer", remote, wire.now)
    wire.drive()
    assert client.receive() == (b"answer", Endpoint(v6(2), 5353))
    member.close()
    assert group not in wire.right.ip.groups


def test_groups_of_a_socket_and_of_a_host_have_bounds() -> None:
    udp = make_host(1).udp
    sockets = [udp.open(Endpoint(ANY_V6, 0)) for _ in range(17)]
    groups = [b"\xff\x05" + number.to_bytes(14, "big") for number in range(2000)]
    for number in range(1024):
        sockets[number // 64].join(groups[number])
    for socket, group in ((sockets[0], groups[1999]), (sockets[16], groups[1999])):
        with pytest.raises(StackError) as refused:
            socket.join(group)
        assert refused.value.failure is Failure.NO_ROOM
    sockets[16].join(groups[0])
    with pytest.raises(UsageError):
        sockets[16].join(v4(1))
    sockets[16].close()
    with pytest.raises(StackError):
        sockets[16].join(groups[0])


def test_sockets_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weft.stack.udp.MAX_SOCKETS", 3)
    udp = make_host(1).udp
    sockets = [udp.open(None) for _ in range(3)]
    with pytest.raises(StackError) as refused:
        udp.open(None)
    assert refused.value.failure is Failure.NO_ROOM
    sockets[0].close()
    sockets[0].close()
    udp.open(None)


def test_port_to_send_to_must_be_one() -> None:
    socket = make_host(1).udp.open(None)
    for port in (0, 65_536):
        with pytest.raises(UsageError):
            socket.send(b"", Endpoint(v4(2), port), 0)


def test_socket_whose_address_is_taken_away_sends_no_more() -> None:
    host = make_host(1)
    socket = host.udp.open(None, Endpoint(v4(2), 53))
    socket.send(b"data", None, 0)
    host.addresses.remove(ip_interface("10.7.0.1/24"))
    with pytest.raises(StackError) as refused:
        socket.send(b"data", None, 0)
    assert refused.value.failure is Failure.NO_ROUTE
    host.addresses.add(ip_interface("10.7.0.9/24"))
    with pytest.raises(StackError) as refused:
        socket.send(b"data", None, 0)
    assert refused.value.failure is Failure.NOT_OURS


def test_failures_that_nobody_takes_have_a_bound() -> None:
    wire = joined()
    client = wire.left.udp.open(Endpoint(ANY_V6, 0))
    for port in range(1, 21):
        client.send(b"", Endpoint(v6(2), port), wire.now)
        wire.advance(S)
    failures = list(iter(client.take_failure, None))
    assert [remote.port for _, remote in failures] == list(range(5, 21))
