"""What the kernel tells about the network, from its bytes on, and how often that is told to others."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.engine.pair import virtual
from weft.io import changes
from weft.io.changes import FIRST_PAUSE_S, KNOWN, LAST_PAUSE_S, PROMPT, REST_S, Change, Notifications, watch_changes

UP, DOWN = 0x10043, 0x1002
OURS, THEIRS = 7, 2


def attribute(kind: int, content: bytes) -> bytes:
    return pack("=HH", 4 + len(content), kind) + content + bytes(-len(content) % 4)


def message(kind: int, body: bytes) -> bytes:
    return pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def link(index: int, flags: int = UP, *, name: str = "eth0", mtu: int = 1500, kind: int = 16, family: int = 0) -> bytes:
    attributes = attribute(3, name.encode() + b"\0") + attribute(4, pack("=I", mtu)) + attribute(11, b"radio")
    return message(kind, pack("=BxHiII", family, 1, index, flags, 0) + attributes)


def address(index: int, number: int, flags: int = 0x80, *, kind: int = 20) -> bytes:
    lifetime = attribute(6, pack("=IIII", number * 7919 % 100, 0, 0, 0))
    body = pack("=BBBBI", socket.AF_INET, 24, flags, 0, index) + attribute(1, bytes([192, 0, 2, number])) + lifetime
    return message(kind, body)


def route(index: int, flags: int = 0, *, age: int = 0, kind: int = 24) -> bytes:
    attributes = attribute(4, pack("=i", index)) + attribute(12, pack("=8I", *[age] * 8))
    return message(kind, pack("=8BI", 2, 0, 0, 0, 254, 3, 0, 1, flags) + attributes)


def told(*messages: bytes) -> list[Change]:
    """What each of some notifications is."""
    notifications = Notifications(lambda ifname: ifname == "weft0")
    return [notifications.receive(each) for each in messages]


def test_what_comes_goes_or_differs_is_a_change() -> None:
    sent = [
        link(THEIRS),
        link(THEIRS, DOWN),
        link(THEIRS, DOWN, mtu=1400),
        address(THEIRS, 1),
        address(THEIRS, 2),
        address(THEIRS, 2, kind=21),
        address(THEIRS, 2),
        route(THEIRS),
        route(THEIRS, 0x10),
        route(THEIRS, kind=25),
        link(THEIRS, kind=17),
        message(32, bytes(12)),
    ]
    assert told(*sent) == [Change.UNDERLAY] * len(sent)


def test_what_is_told_again_as_it_was_is_none() -> None:
    sent = [link(THEIRS), address(THEIRS, 1), address(THEIRS, 1, 0xC0), address(THEIRS, 1), route(THEIRS)]
    assert told(*sent, link(THEIRS, name="wan0"), address(THEIRS, 1), route(THEIRS, age=9)) == [
        *[Change.UNDERLAY] * len(sent),
        *[Change.NOTHING] * 3,
    ]


def test_own_interface_is_told_apart_from_its_making_to_its_end() -> None:
    sent = [link(OURS, name="weft0"), address(OURS, 1), route(OURS), link(OURS, DOWN, name="moved0"), route(OURS, 0x10)]
    assert told(*sent, link(OURS, kind=17), link(OURS)) == [
        *[Change.OVERLAY] * (len(sent) + 1),
        Change.UNDERLAY,
    ]


def test_what_bridges_say_of_their_ports_and_what_was_learned_of_one_destination_is_no_change() -> None:
    assert told(link(THEIRS, family=socket.AF_BRIDGE if sys.platform == "linux" else 7), route(THEIRS, 0x200)) == [
        Change.NOTHING,
        Change.NOTHING,
    ]


def test_several_messages_of_one_notification_are_all_read() -> None:
    first = link(OURS, name="weft0") + address(OURS, 1)
    assert told(first, first, first + route(THEIRS)) == [
        Change.OVERLAY,
        Change.NOTHING,
        Change.UNDERLAY,
    ]


def test_what_is_remembered_is_bounded_and_what_was_forgotten_is_news() -> None:
    notifications = Notifications(lambda ifname: False)
    for index in range(1, 2 * KNOWN):
        assert notifications.receive(link(index))
    assert len(notifications._known) <= KNOWN
    assert not notifications.receive(link(2 * KNOWN - 1))
    notifications.forget()
    assert notifications.receive(link(2 * KNOWN - 1))


@given(
    st.one_of(st.binary(max_size=80), st.tuples(st.integers(16, 33), st.binary(max_size=60)).map(lambda m: message(*m)))
)
def test_whatever_the_bytes_are_they_are_a_change_or_none(data: bytes) -> None:
    assert isinstance(Notifications(lambda ifname: True).receive(data), Change)


# When it is told.


class Watch:
    """What the kernel says, and when it was told."""

    def __init__(self, kernel: socket.socket) -> None:
        self.kernel = kernel
        self.told: list[float] = []
        self.changes: list[Change] = []
        self._number = 0

    async def handle_change(self, change: Change) -> None:
        self.told.append(asyncio.get_running_loop().time())
        self.changes.append(change)

    async def say(self, count: int, interval_s: float) -> float:
        """Changes, one each so often; returns when the first came."""
        began = asyncio.get_running_loop().time()
        for _ in range(count):
            self._number += 1
            # The kernel has a bound for what waits, too.
            with suppress(BlockingIOError):
                self.kernel.send(link(THEIRS, DOWN if self._number % 2 else UP))
            await asyncio.sleep(interval_s)
        return began

    async def during(self, seconds: float) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watch_changes(self.handle_change, lambda ifname: ifname == "weft0"), seconds)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    kernel.setblocking(False)
    ours.setblocking(False)
    monkeypatch.setattr(changes, "_open_watch", lambda: ours)
    with kernel, ours:
        yield Watch(kernel)


@virtual
async def test_changes_that_come_together_are_told_once_and_at_once(watch: Watch) -> None:
    running = asyncio.create_task(watch.during(5))
    began = await watch.say(9, FIRST_PAUSE_S / 10)
    await running
    assert watch.told == [pytest.approx(began + FIRST_PAUSE_S)]
    assert FIRST_PAUSE_S < 0.1


@virtual
async def test_change_after_a_rest_is_told_at_once_again(watch: Watch) -> None:
    running = asyncio.create_task(watch.during(20))
    began = await watch.say(5, REST_S + FIRST_PAUSE_S)
    await running
    assert watch.told == [
        pytest.approx(began + number * (REST_S + FIRST_PAUSE_S) + FIRST_PAUSE_S) for number in range(5)
    ]


@virtual
async def test_storm_of_a_hundred_changes_a_second_is_told_less_and_less_often_and_its_end_always(watch: Watch) -> None:
    running = asyncio.create_task(watch.during(100))
    began = await watch.say(5000, 0.01)
    ended = asyncio.get_running_loop().time()
    pauses = PROMPT + 8  # the short ones, and doubling from the first to the last
    assert 50 / LAST_PAUSE_S - 1 < len(watch.told) < 50 / LAST_PAUSE_S + pauses
    assert watch.told[0] == pytest.approx(began + FIRST_PAUSE_S)
    await asyncio.sleep(10)
    assert ended - 0.1 < watch.told[-1] <= ended + LAST_PAUSE_S
    later = await watch.say(1, 1)
    assert watch.told[-1] == pytest.approx(later + FIRST_PAUSE_S)
    await running


@virtual
async def test_dozen_of_changes_as_a_cable_makes_is_told_without_delay_to_the_last(watch: Watch) -> None:
    running = asyncio.create_task(watch.during(10))
    began = await watch.say(12, 0.1)
    assert watch.told[-1] <= began + 11 * 0.1 + 2 * FIRST_PAUSE_S
    assert len(watch.told) == 12
    await running


@virtual
async def test_what_is_no_change_is_not_told_and_what_concerns_our_interface_is_told_as_such(watch: Watch) -> None:
    running = asyncio.create_task(watch.during(5))
    for each in (link(OURS, name="weft0"), link(THEIRS, family=7), link(OURS, name="weft0")):
        watch.kernel.send(each)
        await asyncio.sleep(1)
    await running
    assert watch.changes == [Change.OVERLAY]


@virtual
async def test_system_that_does_not_tell_changes_never_does(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> socket.socket:
        raise OSError(93, "Protocol not supported")

    monkeypatch.setattr(changes, "_open_watch", fail)
    await watch.during(1000)
    assert watch.told == []


class Overflowing:
    """A socket whose queue was too short, and then is empty."""

    def __init__(self) -> None:
        self.errors = [OSError(105, "No buffer space available"), BlockingIOError()]

    def recv(self, _: int) -> bytes:
        raise self.errors.pop(0)


def test_more_than_the_kernel_could_keep_is_a_change_of_anything() -> None:
    notifications = Notifications(lambda ifname: False)
    notifications.receive(link(THEIRS))
    change = changes._take_waiting(Overflowing(), notifications)  # type: ignore[arg-type]
    assert change == Change.UNDERLAY | Change.OVERLAY
    assert notifications.receive(link(THEIRS)) == Change.UNDERLAY


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: rtnetlink")
def test_watch_of_linux_never_blocks() -> None:
    with changes._open_watch() as watch:
        changes._take_waiting(watch, Notifications(lambda ifname: False))
        assert not watch.getblocking()
