import asyncio
import threading
import time

import pytest

from weft.errors import UsageError
from weft.testing import MS, Faults, Network, S, Stuck, VirtualClock, VirtualLoop, loop, run

YEAR_S = 365 * 24 * 3600


def now() -> int:
    running = asyncio.get_running_loop()
    assert isinstance(running, VirtualLoop)
    return running.clock.now


async def passes(span_ns: int) -> None:
    await asyncio.sleep(span_ns / S)


def test_an_hour_of_sleep_takes_an_hour_to_the_nanosecond_and_no_time() -> None:
    async def main() -> tuple[int, float]:
        start, began = now(), asyncio.get_running_loop().time()
        for _ in range(3600):
            await asyncio.sleep(1)
        return now() - start, asyncio.get_running_loop().time() - began

    began = time.monotonic()
    assert run(main()) == (3600 * S, 3600.0)
    assert time.monotonic() - began < 60


def test_timers_of_the_loop_and_callbacks_of_the_clock_run_in_the_order_of_their_times() -> None:
    async def main() -> list[int]:
        ran: list[int] = []
        running = asyncio.get_running_loop()
        assert isinstance(running, VirtualLoop)
        for at in (5, 1, 3):
            running.call_later(at / 1000, ran.append, at)
        for at in (4, 2):
            running.clock.call_later(at * MS, lambda at=at: ran.append(at))
        await passes(10 * MS)
        return ran

    assert run(main()) == [1, 2, 3, 4, 5]


def test_callback_of_the_clock_that_is_due_runs_although_the_loop_is_never_idle() -> None:
    async def main() -> None:
        running = asyncio.get_running_loop()
        assert isinstance(running, VirtualLoop)
        happened = asyncio.Event()
        running.clock.call_later(0, happened.set)
        while not happened.is_set():  # noqa: ASYNC110 - it is to be busy
            await asyncio.sleep(0)

    run(main())


def test_time_out_comes_when_it_is_due() -> None:
    async def main() -> int:
        start = now()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(90):
                await asyncio.Event().wait()
        return now() - start

    assert run(main()) == 90 * S


def test_cancelled_timer_does_not_move_time() -> None:
    async def main() -> int:
        start = now()
        timer = asyncio.get_running_loop().call_later(1, int)
        asyncio.get_running_loop().call_later(2, int)
        timer.cancel()
        await passes(3 * S)
        return now() - start

    assert run(main()) == 3 * S


@pytest.mark.parametrize("years", [1, 100, 10_000])
def test_timers_are_met_after_very_long_times_too(years: int) -> None:
    async def main() -> list[str]:
        ran: list[str] = []
        await asyncio.sleep(years * YEAR_S)
        for name, delay in (("second", 0.002), ("first", 0.001), ("at once", 0.0), ("third", 1.0)):
            asyncio.get_running_loop().call_later(delay, ran.append, name)
        await asyncio.sleep(2)
        return ran

    assert run(main()) == ["at once", "first", "second", "third"]


def test_machines_on_the_clock_of_the_loop_go_on_while_it_runs() -> None:
    async def main() -> list[bytes]:
        running = asyncio.get_running_loop()
        assert isinstance(running, VirtualLoop)
        network = Network(running.clock, faults=Faults(latency_ns=20 * MS))
        alice, bob = network.host("alice", "192.0.2.1").bind(1), network.host("bob", "192.0.2.2").bind(1)
        alice.send(b"hello", ("192.0.2.2", 1))
        await passes(30 * MS)
        return [datagram.data for datagram in bob.received]

    assert run(main()) == [b"hello"]


def test_clock_that_was_given_is_that_of_the_loop() -> None:
    clock = VirtualClock(now=7 * S)

    async def main() -> int:
        await asyncio.sleep(1)
        return now()

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        assert runner.run(main()) == clock.now == 8 * S


def test_loop_in_debug_mode_works() -> None:
    with asyncio.Runner(debug=True, loop_factory=VirtualLoop) as runner:
        assert runner.run(asyncio.sleep(1, "done")) == "done"


# When nothing is left to happen.


async def wait_for_ever() -> None:
    await asyncio.Event().wait()


def test_nothing_left_to_happen_is_an_error_that_says_where_each_task_waits() -> None:
    async def main() -> None:
        task = asyncio.create_task(wait_for_ever(), name="other")
        await task

    with pytest.raises(Stuck, match="nothing is left to happen") as stuck:
        run(main())
    other_line, main_line = str(stuck.value).splitlines()[1:]
    assert main_line.endswith(" in main")
    assert other_line.startswith("  other: test_loop.py:")
    assert "in wait_for_ever > locks.py:" in other_line


def test_main_task_that_is_stuck_is_cancelled_and_may_clean_up_in_virtual_time() -> None:
    cleaned: list[int] = []

    async def main() -> None:
        try:
            await wait_for_ever()
        finally:
            start = now()
            await asyncio.sleep(5)
            cleaned.append(now() - start)

    with pytest.raises(Stuck):
        run(main())
    assert cleaned == [5 * S]


def test_clean_up_that_is_stuck_too_is_the_same_error() -> None:
    async def main() -> None:
        try:
            await wait_for_ever()
        finally:
            await wait_for_ever()

    with pytest.raises(Stuck, match=r"in main > test_loop\.py"):
        run(main())


def test_only_some_of_many_tasks_are_shown() -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(50):
                group.create_task(wait_for_ever())

    with pytest.raises(Stuck, match="… and 31 more"):
        run(main())


def test_loop_that_turns_and_turns_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "TURNS_PER_INSTANT", 1000)

    async def main() -> None:
        while True:  # noqa: ASYNC110 - it is to be busy
            await asyncio.sleep(0)

    with pytest.raises(Stuck, match="livelock"):
        run(main())


def test_assertion_of_the_program_is_its_own() -> None:
    async def main() -> None:
        raise Stuck("mine")

    with pytest.raises(Stuck, match="mine"):
        run(main())


# Threads.


def test_work_in_a_thread_takes_no_virtual_time() -> None:
    async def main() -> tuple[int, str]:
        start = now()
        async with asyncio.timeout(0.001):
            await asyncio.to_thread(time.sleep, 0.05)
            word = await asyncio.to_thread(str.upper, "done")
        return now() - start, word

    assert run(main()) == (0, "DONE")


def test_what_a_thread_asks_of_the_loop_is_done() -> None:
    async def main() -> str:
        running, asked = asyncio.get_running_loop(), asyncio.Event()

        def work() -> str:
            done = threading.Event()
            running.call_soon_threadsafe(lambda: (asked.set(), done.set()))
            return "in time" if done.wait(30) else "too late"

        word = await asyncio.to_thread(work)
        await asked.wait()
        return word

    assert run(main()) == "in time"


def test_thread_that_failed_keeps_time_from_nothing() -> None:
    async def main() -> int:
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        start = now()
        await asyncio.sleep(1)
        return now() - start

    assert run(main()) == S


# Sockets.


@pytest.mark.parametrize("method", ["create_connection", "create_server", "create_datagram_endpoint"])
def test_sockets_of_the_kernel_are_refused_with_a_word_about_others(method: str) -> None:
    async def main() -> None:
        await getattr(asyncio.get_running_loop(), method)(asyncio.Protocol, "127.0.0.1", 80)

    with pytest.raises(UsageError, match=f"use {method} of a node of a SimulatedNetwork"):
        run(main())
