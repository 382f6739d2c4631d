"""The UDP socket: real ones on the loopback interface, and a kernel that refuses on demand."""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.system.lab import Lab
from weft.errors import TransportError
from weft.io import udp
from weft.io.recvmmsg import (
    Address,
    Received,
    arrival_interface,
    by_any_interface,
    decode_local,
    local_address,
)
from weft.io.udp import MAX_QUEUED_BYTES, MAX_SEGMENTS, UdpSocket, link_mtu
from weft.testing.device import inside_namespace

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs what Linux' UDP can do")
HOSTS = ["127.0.0.1", "::1"]
WAIT_S = 5


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(host: str) -> Iterator[Callable[..., UdpSocket]]:
    """Makes sockets of one family, and closes them."""
    made: list[UdpSocket] = []

    def one(**options: bool) -> UdpSocket:
        made.append(UdpSocket(host, 0, **options))
        return made[-1]

    yield one
    for each in made:
        each.close()


def address_of(receiver: UdpSocket) -> Address:
    return receiver.address_of(*receiver.address)


_unread: WeakKeyDictionary[UdpSocket, list[tuple[Received, bytes]]] = WeakKeyDictionary()
"""Runs of a call that gave several, with their bytes, which hold only until the next call."""


def receive(receiver: UdpSocket) -> tuple[Received, list[bytes]]:
    """One run, and its datagrams."""
    unread = _unread.setdefault(receiver, [])
    if not unread:
        ready, _, _ = select.select([receiver], [], [], WAIT_S)
        assert ready, "nothing came"
        unread += [(run, bytes(run.data)) for run in receiver.receive()]
    received, data = unread.pop(0)
    step = received.segment or 1
    return received, [data[start : start + step] for start in range(0, len(data), step)] or [b""]


def receive_all(receiver: UdpSocket, count: int) -> list[bytes]:
    """As many datagrams, however many receives it takes."""
    datagrams: list[bytes] = []
    while len(datagrams) < count:
        datagrams += receive(receiver)[1]
    assert receiver.receive() == []
    return datagrams


def cut(data: bytes, segment: int) -> list[bytes]:
    return [data[start : start + segment] for start in range(0, len(data), segment)]


# What arrives.


def test_datagram_arrives_with_its_source(make: Callable[..., UdpSocket]) -> None:
    sender, receiver = make(), make()
    assert sender.send(b"hello, you", 100, address_of(receiver))
    received, datagrams = receive(receiver)
    assert datagrams == [b"hello, you"]
    assert received.source == address_of(sender)
    assert receiver.receive() == []


@LINUX
@pytest.mark.parametrize("length", [1472 * 10, 1472 * 10 - 1, 1472 * 9 + 1])
def test_many_datagrams_leave_in_one_send_and_arrive_in_one_receive(
    make: Callable[..., UdpSocket], length: int
) -> None:
    sender, receiver = make(), make()
    assert sender.offloads == receiver.offloads == ["gso", "gro", "recvmmsg"]
    data = os.urandom(length)
    assert sender.send(data, 1472, address_of(receiver))
    received, datagrams = receive(receiver)
    assert (len(received.data), received.segment) == (length, 1472)
    assert datagrams == cut(data, 1472)
    assert receiver.receive() == []


FALLBACKS: dict[str, dict[str, bool]] = {
    "all": {},
    "no GSO": {"gso": False},
    "no GRO": {"gro": False},
    "neither": {"gso": False, "gro": False},
    "no sendmsg": {"sendmsg": False},
    "no recvmmsg": {"recvmmsg": False},
    "no recvmmsg, no GRO": {"recvmmsg": False, "gro": False},
    "nothing": {"gso": False, "gro": False, "sendmsg": False, "recvmmsg": False},
}


@pytest.mark.parametrize("options", FALLBACKS.values(), ids=FALLBACKS)
@pytest.mark.parametrize(
    ("segment", "length"), [(1472, 1), (1472, 1472), (1472, 1473), (1472, 54 * 1192), (100, 6400), (512, 64 * 512 - 3)]
)
def test_datagrams_keep_their_bounds_and_order_with_whatever_the_kernel_has(
    make: Callable[..., UdpSocket], options: dict[str, bool], segment: int, length: int
) -> None:
    sender, receiver = make(**options), make(**options)
    data = os.urandom(length)
    expected = cut(data, segment)
    assert len(expected) <= MAX_SEGMENTS
    assert sender.send(memoryview(data), segment, address_of(receiver))
    assert receive_all(receiver, len(expected)) == expected
    assert not sender.drops
    assert not sender.is_blocked


@pytest.mark.parametrize("options", FALLBACKS.values(), ids=FALLBACKS)
def test_offloads_that_are_switched_off_are_not_told(make: Callable[..., UdpSocket], options: dict[str, bool]) -> None:
    made = make(**options)
    if options.get("gso") is False or options.get("sendmsg") is False:
        assert "gso" not in made.offloads
    for name in ("gro", "recvmmsg"):
        assert (name in made.offloads) is (options.get(name) is not False)


def test_system_without_recvmsg_receives_datagram_by_datagram(
    make: Callable[..., UdpSocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, receiver = make(gso=False), make(gro=False, recvmmsg=False)
    monkeypatch.setattr(receiver, "_has_recvmsg", False)
    sender.send(b"onetwo", 3, address_of(receiver))
    received, datagrams = receive(receiver)
    assert received == Received(memoryview(b"one"), 3, address_of(sender), 0)
    assert datagrams + receive(receiver)[1] == [b"one", b"two"]
    assert receiver.receive() == []


@LINUX
@pytest.mark.parametrize("gso", [True, False])
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("ecn", range(4))
def test_ecn_of_the_outer_header_arrives(make: Callable[..., UdpSocket], ecn: int, count: int, gso: bool) -> None:
    sender, receiver = make(gso=gso), make()
    sender.send(bytes(1000 * count), 1000, address_of(receiver), ecn)
    left = count
    while left:
        received, datagrams = receive(receiver)
        assert received.ecn == ecn
        left -= len(datagrams)


def test_empty_datagram_is_received_as_such(make: Callable[..., UdpSocket], host: str) -> None:
    receiver = make()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"", receiver.address)
        stranger.sendto(b"x", receiver.address)
        received, datagrams = receive(receiver)
        assert (len(received.data), datagrams) == (0, [b""])
        assert receive(receiver)[1] == [b"x"]


def test_largest_datagram_fits_the_buffer(make: Callable[..., UdpSocket], host: str) -> None:
    sender, receiver = make(), make()
    data = os.urandom(65_488 if ":" in host else 65_507)
    assert sender.send(data, 65_507, address_of(receiver))
    assert receive_all(receiver, 1) == [data]


def test_datagrams_of_two_senders_are_told_apart(make: Callable[..., UdpSocket]) -> None:
    one, two, receiver = make(), make(), make()
    for _ in range(3):
        one.send(bytes(300), 100, address_of(receiver))
        two.send(b"\1" * 300, 100, address_of(receiver))
    found: dict[Address, set[bytes]] = {}
    count = 0
    while count < 18:
        received, datagrams = receive(receiver)
        found.setdefault(received.source, set()).update(datagrams)
        count += len(datagrams)
    assert found == {address_of(one): {bytes(100)}, address_of(two): {b"\1" * 100}}


# Addresses.


def test_busy_port_is_told_in_one_line(host: str) -> None:
    first = UdpSocket(host, 0)
    port = first.address[1]
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    with pytest.raises(TransportError) as caught:
        UdpSocket(host, port)
    assert str(caught.value) == f"can't listen on UDP {where}: Address already in use"
    first.close()
    UdpSocket(host, port).close()


@pytest.mark.parametrize("other", ["192.0.2.1", "2001:db8::1"])
def test_address_of_another_machine_is_told_in_one_line(other: str) -> None:
    with pytest.raises(TransportError, match=r"can't listen on UDP \[?[0-9a-f.:]+\]?:7777: Cannot assign"):
        UdpSocket(other, 7777)


def test_family_that_the_machine_lacks_is_told_like_any_other_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(udp.socket, "socket", refuse)
    with pytest.raises(TransportError, match=r"can't listen on UDP \[::\]:1312: Address family not") as caught:
        UdpSocket("::", 1312)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EAFNOSUPPORT


def test_both_families_listen_on_one_port() -> None:
    four = UdpSocket("0.0.0.0", 0)
    six = UdpSocket("::", four.address[1])
    assert six.address == ("::", four.address[1])
    four.close()
    six.close()


def test_address_is_given_as_it_comes_with_what_is_received(make: Callable[..., UdpSocket], host: str) -> None:
    made = make()
    expected = (host, 7, 0, 0) if ":" in host else (host, 7)
    assert made.address_of(host, 7) == expected
    if ":" in host:
        assert made.address_of("2001:DB8:0::1", 7) == ("2001:db8::1", 7, 0, 0)
        assert made.address_of("fe80::1%lo", 7)[3] == socket.if_nametoindex("lo")


@pytest.mark.parametrize("bad", ["nobody.example", "-", "fe80::1%nosuchif0", "1.2.3.4.5"])
def test_address_that_can_not_be_reached_is_told_in_one_line(make: Callable[..., UdpSocket], bad: str) -> None:
    with pytest.raises(TransportError) as caught:
        make().address_of(bad, 7)
    assert "\n" not in str(caught.value)


@LINUX
def test_mtu_of_the_link_is_that_of_the_loopback_interface_and_1500_where_there_is_no_route(host: str) -> None:
    assert link_mtu(host, 7) >= 16_384
    assert link_mtu("no address", 7) == 1500


# A kernel that refuses.


class Kernel:
    """Stands before a real socket and refuses what a test says."""

    def __init__(self, made: UdpSocket) -> None:
        self._real = made._socket
        self.free = -1
        """Datagrams (or super-datagrams) that are still taken before sends would block; -1: all."""
        self.failures: deque[int | None] = deque()
        """errno of the next calls; None lets one pass."""
        self.refuses_segmentation = 0
        """errno for every send that asks for segmentation."""
        self.calls: list[tuple[int, bool]] = []
        """(bytes, whether segmentation was asked for) of each call that was taken."""
        made._socket = self  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def sendmsg(self, parts: Any, ancillary: Any, flags: int, address: Address) -> int:
        segmented = any(level == udp._SOL_UDP for level, _, _ in ancillary)
        self._check(sum(map(len, parts)), segmented)
        return self._real.sendmsg(parts, ancillary, flags, address)

    def sendto(self, data: Any, address: Address) -> int:
        self._check(len(data), False)
        return self._real.sendto(data, address)

    def _check(self, length: int, segmented: bool) -> None:
        if segmented and self.refuses_segmentation:
            raise OSError(self.refuses_segmentation, os.strerror(self.refuses_segmentation))
        if self.failures and (failure := self.failures.popleft()):
            raise OSError(failure, os.strerror(failure))
        if self.free == 0:
            raise BlockingIOError(errno.EAGAIN, "would block")
        self.free -= self.free > 0
        self.calls.append((length, segmented))


def test_send_that_would_block_waits_and_leaves_in_order(make: Callable[..., UdpSocket]) -> None:
    sender, receiver = make(), make()
    kernel = Kernel(sender)
    told: list[bool] = []
    sender.when_blocked = lambda: told.append(True)
    kernel.free = 1
    for number in range(5):
        assert sender.send(bytes((number,)) * 100, 100, address_of(receiver))
    assert sender.is_blocked
    assert told == [True]
    assert sender.flush() is False
    kernel.free = 2
    assert sender.flush() is False
    sender.send(b"\5" * 100, 100, address_of(receiver))
    kernel.free = -1
    assert sender.flush() is True
    assert not sender.is_blocked
    assert receive_all(receiver, 6) == [bytes((number,)) * 100 for number in range(6)]
    assert told == [True]
    kernel.free = 0
    sender.send(b"again", 100, address_of(receiver))
    assert told == [True, True]


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=8),
    frees=st.lists(st.integers(0, 6), max_size=20),
    options=st.sampled_from(list(FALLBACKS.values())),
)
def test_whatever_blocks_when_nothing_is_lost_doubled_or_out_of_order(
    sizes: list[int], frees: list[int], options: dict[str, bool]
) -> None:
    sender, receiver = UdpSocket("127.0.0.1", 0, **options), UdpSocket("127.0.0.1", 0)
    kernel = Kernel(sender)
    pending = deque(frees)
    expected = []
    number = 0
    for size in sizes:
        kernel.free = pending.popleft() if pending else -1
        datagrams = [bytes((number + each,)) * 50 for each in range(size)]
        number += size
        expected += datagrams
        sender.send(b"".join(datagrams), 50, address_of(receiver))
        if number % 2:
            sender.flush()
    while sender.is_blocked:
        kernel.free = pending.popleft() if pending else -1
        sender.flush()
    assert receive_all(receiver, len(expected)) == expected
    assert not sender.drops
    sender.close()
    receiver.close()


def test_what_waits_is_bounded_and_what_is_too_much_is_counted_in_datagrams(make: Callable[..., UdpSocket]) -> None:
    sender, receiver = make(), make()
    kernel = Kernel(sender)
    kernel.free = 0
    burst = bytes(64_000)
    fit = MAX_QUEUED_BYTES // len(burst)
    for _ in range(fit + 3):
        assert sender.send(burst, 1000, address_of(receiver))
    assert sender.drops == {"udp: queue full": 3 * 64}
    assert sender._queued_bytes == fit * len(burst)
    sender.send(b"small", 1000, address_of(receiver))
    kernel.free = -1
    assert sender.flush()
    assert sender._queued_bytes == 0


def test_closing_forgets_what_waits(make: Callable[..., UdpSocket]) -> None:
    sender, receiver = make(), make()
    Kernel(sender).free = 0
    sender.send(b"x", 1, address_of(receiver))
    sender.close()
    assert not sender.is_blocked
    assert receiver.receive() == []


@LINUX
@pytest.mark.parametrize("failure", [errno.EIO, errno.EOPNOTSUPP, errno.EINVAL])
def test_device_that_fails_at_segmentation_gets_datagram_by_datagram_from_then_on(
    make: Callable[..., UdpSocket], failure: int
) -> None:
    sender, receiver = make(), make()
    kernel = Kernel(sender)
    kernel.refuses_segmentation = failure
    data = os.urandom(5500)
    assert sender.send(data, 1000, address_of(receiver))
    assert receive_all(receiver, 6) == cut(data, 1000)
    assert sender.offloads == ["gro", "recvmmsg"]
    assert not sender.drops
    sender.send(data, 1000, address_of(receiver))
    assert receive_all(receiver, 6) == cut(data, 1000)
    assert not any(segmented for _, segmented in kernel.calls)


@LINUX
def test_segmentation_that_fails_while_data_waits_falls_away_too(make: Callable[..., UdpSocket]) -> None:
    sender, receiver = make(), make()
    kernel = Kernel(sender)
    kernel.free = 0
    data = os.urandom(5500)
    sender.send(data, 1000, address_of(receiver))
    kernel.free, kernel.refuses_segmentation = -1, errno.EIO
    assert sender.flush()
    assert receive_all(receiver, 6) == cut(data, 1000)
    assert sender.offloads == ["gro", "recvmmsg"]


@LINUX
@pytest.mark.parametrize("count", [1, 5])
def test_address_that_can_not_be_sent_to_does_not_cost_segmentation(make: Callable[..., UdpSocket], count: int) -> None:
    sender, receiver = make(), make()
    kernel = Kernel(sender)
    kernel.failures += [errno.EINVAL] * 6
    assert sender.send(bytes(1000 * count), 1000, address_of(receiver))
    assert sender.offloads == ["gso", "gro", "recvmmsg"]
    assert sender.drops["udp: unreachable"] >= 1
    kernel.failures.clear()
    kernel.free = 0
    sender.send(bytes(1000), 1000, address_of(receiver))
    kernel.free = -1
    kernel.failures += [errno.EINVAL]
    sender.flush()
    assert sender.offloads == ["gso", "gro", "recvmmsg"]


@LINUX
@pytest.mark.parametrize("segmentation", [0, errno.EINVAL, errno.EMSGSIZE])
def test_datagrams_too_big_for_the_path_are_told_and_do_not_cost_segmentation(
    make: Callable[..., UdpSocket], segmentation: int
) -> None:
    sender, receiver = make(), make()
    kernel = Kernel(sender)
    kernel.refuses_segmentation = segmentation
    kernel.failures += [errno.EMSGSIZE] * 2
    assert sender.send(bytes(5000), 1000, address_of(receiver)) is False
    assert sender.offloads == ["gso", "gro", "recvmmsg"]
    assert sender.drops == {"udp: too big": 1}


def test_datagram_that_no_udp_carries_is_too_big(make: Callable[..., UdpSocket]) -> None:
    sender, receiver = make(), make()
    assert sender.send(bytes(66_000), 66_000, address_of(receiver)) is False
    assert sender.drops == {"udp: too big": 1}
    assert sender.send(b"x", 1, address_of(receiver))
    assert receive_all(receiver, 1) == [b"x"]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (errno.ENETUNREACH, "udp: unreachable"),
        (errno.EHOSTUNREACH, "udp: unreachable"),
        (errno.ENETDOWN, "udp: unreachable"),
        (errno.ECONNREFUSED, "udp: unreachable"),
        (errno.EADDRNOTAVAIL, "udp: unreachable"),
        (errno.EPERM, "udp: forbidden"),
        (errno.EACCES, "udp: forbidden"),
        (errno.ENOBUFS, "udp: no buffers"),
    ],
)
def test_error_of_one_destination_concerns_that_send_alone(
    make: Callable[..., UdpSocket], failure: int, reason: str
) -> None:
    sender, receiver = make(), make()
    kernel = Kernel(sender)
    kernel.failures.append(failure)
    assert sender.send(b"lost", 4, address_of(receiver)) is True
    assert sender.drops == {reason: 1}
    assert sender.send(b"there", 5, address_of(receiver)) is True
    assert receive_all(receiver, 1) == [b"there"]
    kernel.free = 0
    sender.send(b"lost", 4, address_of(receiver))
    sender.send(b"there", 5, address_of(receiver))
    kernel.free = -1
    kernel.failures.append(failure)
    assert sender.flush() is True
    assert sender.drops == {reason: 2}
    assert receive_all(receiver, 1) == [b"there"]


def test_socket_that_is_gone_raises(make: Callable[..., UdpSocket]) -> None:
    sender, receiver = make(), make()
    there = address_of(receiver)
    sender.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        sender.send(b"x", 1, there)
    with pytest.raises(OSError, match="Bad file descriptor"):
        sender.receive()


@pytest.mark.parametrize("failure", [errno.ECONNREFUSED, errno.ECONNRESET])
def test_error_that_waited_in_the_socket_is_no_end_of_receiving(
    make: Callable[..., UdpSocket], monkeypatch: pytest.MonkeyPatch, failure: int
) -> None:
    sender, receiver = make(), make(recvmmsg=False)
    kernel = Kernel(receiver)

    def refuse(*_: Any) -> Any:
        raise OSError(failure, os.strerror(failure))

    monkeypatch.setattr(kernel, "recvmsg_into", refuse, raising=False)
    assert receiver.receive() == []
    monkeypatch.delattr(kernel, "recvmsg_into")
    sender.send(b"x", 1, address_of(receiver))
    assert receive_all(receiver, 1) == [b"x"]


@LINUX
def test_kernel_without_the_options_is_used_without_them(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "_UDP_SEGMENT", 9999)
    monkeypatch.setattr(udp, "_UDP_GRO", 9998)
    sender, receiver = UdpSocket(host, 0), UdpSocket(host, 0)
    assert sender.offloads == ["recvmmsg"]
    sender.send(bytes(3000), 1000, address_of(receiver))
    assert receive_all(receiver, 3) == [bytes(1000)] * 3
    sender.close()
    receiver.close()


@pytest.mark.system
@pytest.mark.parametrize("version", [4, 6])
def test_datagram_that_may_be_fragmented_crosses_a_link_that_is_too_small(version: int) -> None:
    with Lab() as lab:
        alice, bob = lab.host("alice"), lab.host("bob")
        cable = lab.veth(alice, bob, mtu=1280)
        here, there = (end.ip4 if version == 4 else end.ip6 for end in (cable.left, cable.right))
        with inside_namespace(bob.namespace):
            receiver = UdpSocket(there, 0)
        with inside_namespace(alice.namespace):
            sender = UdpSocket(here, 0)
        data = os.urandom(1400)
        sender.send_fragmentable(data, address_of(receiver))
        assert receive_all(receiver, 1) == [data]
        assert not sender.drops
        assert not sender.send(data, 1400, address_of(receiver))
        assert sender.send(bytes(3000), 1000, address_of(receiver))
        assert sender.offloads == ["gso", "gro", "recvmmsg"]
        sender.close()
        receiver.close()


def test_other_system_is_asked_for_no_option_of_linux(
    make: Callable[..., UdpSocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, receiver = make(), make()
    asked: list[tuple[int, int, int]] = []
    monkeypatch.setattr(udp.sys, "platform", "darwin")
    monkeypatch.setattr(sender, "_try_option", lambda *option: asked.append(option))
    sender.send_fragmentable(b"x", address_of(receiver))
    assert asked == []
    assert receive_all(receiver, 1) == [b"x"]


@pytest.mark.system
@pytest.mark.parametrize("version", [4, 6])
def test_link_whose_mtu_shrank_is_told_and_costs_no_segmentation(version: int) -> None:
    with Lab() as lab:
        alice, bob = lab.host("alice"), lab.host("bob")
        cable = lab.veth(alice, bob)
        here, there = (end.ip4 if version == 4 else end.ip6 for end in (cable.left, cable.right))
        headers = 28 if version == 4 else 48
        with inside_namespace(alice.namespace):
            sender = UdpSocket(here, 0)
            assert link_mtu(there, 7) == 1500
            assert sender.send(bytes(10 * (1500 - headers)), 1500 - headers, sender.address_of(there, 7))
            cable.left.set_mtu(1400)
            assert link_mtu(there, 7) == 1400
            assert not sender.send(bytes(10 * (1500 - headers)), 1500 - headers, sender.address_of(there, 7))
            assert not sender.send(bytes(1500 - headers), 1500 - headers, sender.address_of(there, 7))
            assert sender.offloads == ["gso", "gro", "recvmmsg"]
            assert sender.send(bytes(10 * (1400 - headers)), 1400 - headers, sender.address_of(there, 7))
            assert sender.drops == {"udp: too big": 2}
            sender.close()


# Our own address.


@LINUX
@pytest.mark.parametrize("recvmmsg", [True, False])
@pytest.mark.parametrize("count", [1, 5])
def test_answer_leaves_from_the_address_that_the_question_came_to(recvmmsg: bool, count: int) -> None:
    with closing(UdpSocket("0.0.0.0", 0, recvmmsg=recvmmsg)) as asked, closing(UdpSocket("127.0.0.1", 0)) as asker:
        port = asked.address[1]
        for host in ("127.0.0.2", "127.0.0.3"):
            assert asker.send(b"question", 100, (host, port))
            question, _ = receive(asked)
            assert asked.send(bytes(100 * count), 100, question.source, local=by_any_interface(question.local))
            answer, datagrams = receive(asker)
            assert answer.source == (host, port)
            assert local_address(question.local) == socket.inet_aton(host)
            assert arrival_interface(question.local) == socket.if_nametoindex("lo")
            assert len(datagrams) == count


@LINUX
def test_address_of_a_socket_that_is_bound_to_one_is_not_told(make: Callable[..., UdpSocket]) -> None:
    sender, receiver = make(), make()
    sender.send(b"x", 1, address_of(receiver))
    assert receive(receiver)[0].local == b""


@LINUX
@pytest.mark.parametrize(
    ("anywhere", "host", "foreign"),
    [
        ("0.0.0.0", "127.0.0.1", bytes(4) + socket.inet_aton("192.0.2.9") + bytes(4)),
        ("::", "::1", socket.inet_pton(socket.AF_INET6, "2001:db8::9") + bytes(4)),
    ],
)
@pytest.mark.parametrize("count", [1, 5])
def test_address_that_this_machine_has_no_more_is_given_up_and_nothing_lost(
    anywhere: str, host: str, foreign: bytes, count: int
) -> None:
    with closing(UdpSocket(anywhere, 0)) as sender, closing(UdpSocket(host, 0)) as receiver:
        assert sender.send(bytes(100 * count), 100, address_of(receiver), local=foreign)
        assert receive_all(receiver, count) == [bytes(100)] * count
        assert sender.gso
        assert not sender.drops


def test_control_message_that_is_cut_off_or_of_another_kind_tells_no_address() -> None:
    told = socket.inet_pton(socket.AF_INET6, "2001:db8::9") + bytes([7, 0, 0, 0])
    local = decode_local(socket.IPPROTO_IPV6, 50, told + b"more")
    assert local == told
    assert (local_address(local), arrival_interface(local)) == (told[:16], 7)
    assert by_any_interface(local) == told[:16] + bytes(4)
    assert decode_local(socket.IPPROTO_IPV6, 50, told[:15]) == b""
    assert decode_local(socket.IPPROTO_IPV6, 51, told) == b""
    assert decode_local(socket.IPPROTO_IPV6, 50, socket.inet_pton(socket.AF_INET6, "ff02::1") + bytes(4)) == b""


@LINUX
def test_mark_is_set_changed_and_taken_away(make: Callable[..., UdpSocket]) -> None:
    sender = make()
    for mark in (0x1234, 0xFFFFFFFF, 0):
        try:
            sender.set_mark(mark)
        except PermissionError:
            pytest.skip("marks need CAP_NET_ADMIN")
        told = socket.socket(fileno=os.dup(sender.fileno()))
        with told:
            assert told.getsockopt(socket.SOL_SOCKET, 36) & 0xFFFFFFFF == sender.mark == mark


@LINUX
def test_mark_without_the_right_to_it_is_refused_in_one_line_and_nothing_changes(
    make: Callable[..., UdpSocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(udp, "_mark", refuse)
    sender = make()
    sender.set_mark(0)
    with pytest.raises(PermissionError) as caught:
        sender.set_mark(0x1234)
    assert str(caught.value) == "can't mark packets with 0x1234: needs root or CAP_NET_ADMIN"
    assert sender.mark == 0


@LINUX
def test_port_is_shared_only_while_both_sockets_are_willing(make: Callable[..., UdpSocket], host: str) -> None:
    leaving = make()
    port = leaving.address[1]
    everywhere = "::" if ":" in host else "0.0.0.0"
    with pytest.raises(TransportError, match="in use"):
        UdpSocket(everywhere, port, shared=True)
    leaving.share(True)
    with pytest.raises(TransportError, match="in use"):
        UdpSocket(everywhere, port)
    with closing(UdpSocket(everywhere, port, shared=True)) as coming:
        leaving.close()
        coming.share(False)
        with pytest.raises(TransportError, match="in use"):
            UdpSocket(host, port, shared=True)


@LINUX
def test_socket_tells_what_was_dropped_because_it_was_full(make: Callable[..., UdpSocket]) -> None:
    receiver, sender = make(), make()
    assert receiver.overflows() == 0
    receiver._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(100):
        sender.send(memoryview(bytes(1000)), 1000, address_of(receiver))
    assert 50 < receiver.overflows() <= 100
    receiver.close()
    assert receiver.overflows() == 0
