"""What a host sends to itself, and its timers, in the turns of a driver."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tests.unit.stack.wire import make_host, v6
from weft.engine import driver as driver_module
from weft.engine.driver import Driver
from weft.stack.endpoint import Endpoint
from weft.stack.failure import Failure
from weft.stack.host import Host
from weft.stack.udp_socket import UdpSocket

FIRST, SECOND = Endpoint(v6(1), 1001), Endpoint(v6(1), 1002)


class User:
    """Takes what comes, and does something for each."""

    def __init__(self, socket: UdpSocket, then: Callable[[], None] = lambda: None) -> None:
        self.heard: list[bytes] = []
        self._socket, self._then = socket, then
        socket.user = self

    def handle_event(self) -> None:
        while (received := self._socket.receive()) is not None:
            self.heard.append(received[0])
            self._then()


class Ended:
    """Says when something happened."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    def handle_event(self) -> None:
        self._event.set()


def driven() -> tuple[Host, Driver]:
    host = make_host(1)

    def transmit() -> bool:
        while host.next_packet(time.monotonic_ns()) is not None:
            pass  # it is for others, who are not there
        return False

    return host, Driver(host, time.monotonic_ns, transmit)


async def test_what_a_host_sends_to_itself_arrives_in_the_same_turn() -> None:
    host, driver = driven()
    one, other = host.udp.open(FIRST), host.udp.open(SECOND)
    user = User(other)
    one.send(b"x", SECOND, driver.clock())
    driver.wake()
    await asyncio.sleep(0)
    assert user.heard == [b"x"]
    driver.close()


async def test_run_waits_for_no_turn_and_leaves_none_behind() -> None:
    host, driver = driven()
    one, other = host.udp.open(FIRST), host.udp.open(SECOND)
    user = User(other)
    turns = 0

    def count() -> bool:
        nonlocal turns
        turns += 1
        return driven_transmit()

    driven_transmit, driver.transmit = driver.transmit, count
    one.send(b"x", SECOND, driver.clock())
    driver.wake()
    driver.run()
    assert user.heard == [b"x"]
    passes = turns
    await asyncio.sleep(0)
    assert turns == passes, "the turn that was asked for before has been"
    driver.close()


async def test_run_within_a_turn_is_no_second_one() -> None:
    host, driver = driven()
    one, other = host.udp.open(FIRST), host.udp.open(SECOND)
    user = User(other, driver.run)
    one.send(b"x", SECOND, driver.clock())
    one.send(b"y", SECOND, driver.clock())
    driver.wake()
    driver.run()
    assert user.heard == [b"x", b"y"]
    driver.close()


async def test_two_that_answer_each_other_for_ever_leave_turns_to_others() -> None:
    host, driver = driven()
    one, other = host.udp.open(FIRST), host.udp.open(SECOND)

    def answer(socket: UdpSocket, to: Endpoint) -> Callable[[], None]:
        def send() -> None:
            socket.send(b"x", to, driver.clock())
            driver.wake()

        return send

    users = User(one, answer(one, SECOND)), User(other, answer(other, FIRST))
    one.send(b"x", SECOND, driver.clock())
    driver.wake()
    counts = []
    for _ in range(5):
        await asyncio.sleep(0)
        counts.append(sum(len(user.heard) for user in users))
    assert 0 < counts[0] <= driver_module.PASSES_IN_A_TURN
    # Nobody is forgotten either: it goes on in each turn.
    assert counts == sorted(set(counts))
    driver.close()


async def test_what_is_done_to_a_host_while_it_sends_brings_one_turn_more_and_not_two() -> None:
    host, driver = driven()
    one, other = host.udp.open(FIRST), host.udp.open(SECOND)
    users = (
        User(one, lambda: one.send(b"x", SECOND, driver.clock())),
        User(other, lambda: other.send(b"x", FIRST, driver.clock())),
    )
    transmit = driver.transmit

    def answered() -> bool:
        has_more = transmit()
        driver.wake()
        return has_more

    driver.transmit = answered
    one.send(b"x", SECOND, driver.clock())
    driver.wake()
    for _ in range(10):
        before = sum(len(user.heard) for user in users)
        await asyncio.sleep(0)
        assert sum(len(user.heard) for user in users) - before <= driver_module.PASSES_IN_A_TURN
    driver.close()


async def test_timer_that_has_become_later_ends_when_it_is_due() -> None:
    host, driver = driven()
    answered = host.icmp.ping(v6(1), driver.clock(), timeout_s=0.02)
    driver._arm()
    began = driver.clock()
    unanswered = host.icmp.ping(v6(2), began, timeout_s=0.06)
    ended = asyncio.Event()
    unanswered.user = Ended(ended)
    driver.wake()
    await asyncio.wait_for(ended.wait(), 2)
    assert answered.reply_ns is not None
    assert unanswered.failure is Failure.TIMED_OUT
    assert driver.clock() - began >= 60_000_000
    driver.close()
