"""Tasks that die, are killed, can't be helped, or end, in virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.unit.engine.pair import in_virtual_time, virtual
from weft.engine.stage import FIRST_DELAY_S, HEALTHY_S, LAST_DELAY_S, MAX_DEATHS, WINDOW_S, Stage
from weft.engine.status import TaskStatus
from weft.errors import UsageError


class Work:
    """Something to do that dies after a while, each time."""

    def __init__(self, *lives_s: float) -> None:
        self.lives_s = list(lives_s)
        self.starts: list[float] = []
        self.cancelled = 0

    async def __call__(self) -> None:
        self.starts.append(asyncio.get_running_loop().time())
        life_s = self.lives_s.pop(0) if self.lives_s else 1e6
        try:
            await asyncio.sleep(life_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise OSError("out of luck")

    def pauses(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.starts, self.starts[1:], strict=False)]


def status(stage: Stage, name: str) -> TaskStatus:
    return next(task for task in stage.tasks() if task.name == name)


@virtual
async def test_task_that_runs_is_told_as_running() -> None:
    stage = Stage()
    stage.start("one", Work())
    await asyncio.sleep(100)
    assert stage.tasks() == [TaskStatus(name="one", state="running", restarts=0)]
    await stage.close()


@virtual
async def test_task_that_dies_starts_again_after_a_pause_that_doubles() -> None:
    stage = Stage()
    work = Work(0, 0, 0, 0)
    stage.start("one", work)
    await asyncio.sleep(0.001)
    assert status(stage, "one") == TaskStatus(name="one", state="waiting", restarts=1)
    await asyncio.sleep(10)
    assert work.pauses() == pytest.approx([0.05, 0.1, 0.2, 0.4])
    assert status(stage, "one") == TaskStatus(name="one", state="running", restarts=4)
    assert not stage.failed.done()
    await stage.close()


@virtual
async def test_pause_grows_to_a_bound_and_shrinks_after_a_healthy_life() -> None:
    stage = Stage()
    work = Work(*[3] * 10, HEALTHY_S + 1, 0)
    stage.start("one", work)
    await asyncio.sleep(300)
    pauses = [round(pause - life, 3) for pause, life in zip(work.pauses(), [3] * 10 + [HEALTHY_S + 1, 0], strict=True)]
    assert pauses[:10] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, LAST_DELAY_S, LAST_DELAY_S, LAST_DELAY_S]
    assert pauses[10:] == [FIRST_DELAY_S, 2 * FIRST_DELAY_S]
    await stage.close()


@virtual
async def test_task_that_ends_by_itself_starts_again_too() -> None:
    starts = []

    async def work() -> None:
        starts.append(asyncio.get_running_loop().time())

    stage = Stage()
    stage.start("one", work)
    await asyncio.sleep(0.3)
    assert len(starts) == 3
    await stage.close()


@virtual
async def test_fault_at_the_call_itself_is_a_death_like_any_other() -> None:
    calls = []

    def work() -> Coroutine[Any, Any, None]:
        calls.append(1)
        raise ValueError("before it began")

    stage = Stage()
    stage.start("one", work)
    await asyncio.sleep(0.3)
    assert len(calls) == 3
    await stage.close()


def test_death_is_told_in_one_line_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        stage = Stage()
        stage.start("one", Work(1))
        await asyncio.sleep(2)
        await stage.close()

    with caplog.at_level(logging.WARNING, "weft.engine"):
        in_virtual_time(main())
    (record,) = caplog.records
    assert record.getMessage() == "task one died and starts again: OSError: out of luck"
    assert record.exc_info is not None


@virtual
async def test_task_that_is_killed_by_name_starts_again_and_others_do_not_notice() -> None:
    stage = Stage()
    one, two = Work(), Work()
    stage.start("one", one)
    stage.start("two", two)
    await asyncio.sleep(1)
    stage.kill("one")
    await asyncio.sleep(0.01)
    assert status(stage, "one") == TaskStatus(name="one", state="waiting", restarts=1)
    assert one.cancelled == 1
    await asyncio.sleep(1)
    assert status(stage, "one") == TaskStatus(name="one", state="running", restarts=1)
    assert status(stage, "two") == TaskStatus(name="two", state="running", restarts=0)
    assert len(two.starts) == 1
    await stage.close()


@virtual
async def test_task_that_is_killed_while_it_waits_waits_on() -> None:
    stage = Stage()
    work = Work(0, 0, 0, 0, 0)
    stage.start("one", work)
    await asyncio.sleep(1)
    assert status(stage, "one").state == "waiting"
    stage.kill("one")
    await asyncio.sleep(5)
    assert status(stage, "one") == TaskStatus(name="one", state="running", restarts=5)
    await stage.close()


@virtual
async def test_killing_an_unknown_task_tells_which_there_are() -> None:
    stage = Stage()
    stage.start("one", Work())
    stage.start("two", Work())
    with pytest.raises(UsageError, match=r"no task 'three'; there are: one, two"):
        stage.kill("three")
    await stage.close()


@virtual
async def test_task_that_keeps_dying_is_hopeless_and_goes_on_trying() -> None:
    stage = Stage()
    work = Work(*[0] * 50)
    stage.start("one", Work())
    stage.start("two", work)
    assert await asyncio.wait_for(asyncio.shield(stage.failed), 60) == "two"
    assert len(work.starts) == MAX_DEATHS
    await asyncio.sleep(30)
    assert len(work.starts) > MAX_DEATHS
    assert status(stage, "one").state == "running"
    await stage.close()


@virtual
async def test_task_that_dies_now_and_then_is_not_hopeless() -> None:
    stage = Stage()
    stage.start("one", Work(*[WINDOW_S / (MAX_DEATHS - 1) + 0.1] * 100))
    await asyncio.sleep(300)
    assert status(stage, "one").restarts > 30
    assert not stage.failed.done()
    await stage.close()


@virtual
async def test_two_hopeless_tasks_fail_the_stage_once() -> None:
    stage = Stage()
    stage.start("one", Work(*[0] * 50))
    stage.start("two", Work(*[0] * 50))
    await asyncio.sleep(60)
    assert stage.failed.result() in {"one", "two"}
    await stage.close()


@virtual
async def test_stopping_a_task_ends_it_for_good() -> None:
    stage = Stage()
    one, two = Work(), Work()
    stage.start("one", one)
    stage.start("two", two)
    await asyncio.sleep(1)
    await stage.stop("one")
    assert one.cancelled == 1
    await stage.stop("one")
    await asyncio.sleep(60)
    assert [task.name for task in stage.tasks()] == ["two"]
    assert len(one.starts) == 1
    await stage.close()


@pytest.mark.parametrize("after_s", [0, 0.02, 1])
def test_closing_ends_everything_whatever_it_does(after_s: float) -> None:
    async def main() -> None:
        stage = Stage()
        works = [Work(), Work(0, 0, 0, 0), Work(0.5)]
        for number, work in enumerate(works):
            stage.start(str(number), work)
        await asyncio.sleep(after_s)
        await stage.close()
        assert stage.tasks() == []
        assert asyncio.all_tasks() == {asyncio.current_task()}
        starts = [len(work.starts) for work in works]
        await asyncio.sleep(60)
        assert [len(work.starts) for work in works] == starts

    in_virtual_time(main())


@virtual
async def test_closing_waits_for_a_task_that_tidies_up() -> None:
    tidied = []

    async def work() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            await asyncio.sleep(2)
            tidied.append(True)

    stage = Stage()
    stage.start("one", work)
    await asyncio.sleep(1)
    await stage.close()
    assert tidied == [True]


@virtual
async def test_fault_while_a_task_tidies_up_does_not_stop_the_closing_of_others() -> None:
    async def clumsy() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            raise OSError("can't even end")

    stage = Stage()
    other = Work()
    stage.start("clumsy", clumsy)
    stage.start("other", other)
    await asyncio.sleep(1)
    await stage.close()
    assert other.cancelled == 1


@virtual
async def test_stage_that_closes_starts_nothing_any_more() -> None:
    stage, slow, late = Stage(), asyncio.Event(), Work()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await slow.wait()

    stage.start("slow", work)
    await asyncio.sleep(1)
    closing = asyncio.create_task(stage.close())
    await asyncio.sleep(1)
    stage.start("late", late)
    await asyncio.sleep(1)
    assert "late" not in stage
    assert late.starts == []
    slow.set()
    await closing
    assert stage.tasks() == []


@virtual
async def test_task_that_is_stopped_twice_has_ended_for_both() -> None:
    stage, slow, ended = Stage(), asyncio.Event(), False

    async def work() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            await slow.wait()
            ended = True

    stage.start("slow", work)
    await asyncio.sleep(1)
    stops = [asyncio.create_task(stage.close()), asyncio.create_task(stage.stop("slow"))]
    await asyncio.sleep(1)
    assert not any(stop.done() for stop in stops)
    slow.set()
    await asyncio.wait(stops, return_when=asyncio.FIRST_COMPLETED)
    assert ended
    await asyncio.wait(stops)
