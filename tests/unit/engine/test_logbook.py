"""The last lines of the log, and those that are yet to come."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator

import pytest

from weft.engine.events import Events
from weft.engine.logbook import TEXT_CHARACTERS, Logbook
from weft.engine.status import LOG_LINES

log = logging.getLogger("weft.test")


@pytest.fixture
async def book() -> AsyncIterator[Logbook]:
    book = Logbook(Events())
    log.setLevel(logging.DEBUG)
    book.open()
    yield book
    book.close()


async def test_lines_are_kept_in_order_and_chosen_by_level(book: Logbook) -> None:
    log.info("one %s", "node")
    log.debug("details")
    log.error("broken")
    lines = book.list(10, "debug").lines
    assert [(line.number, line.level, line.logger, line.text) for line in lines] == [
        (1, "info", "weft.test", "one node"),
        (2, "debug", "weft.test", "details"),
        (3, "error", "weft.test", "broken"),
    ]
    assert [line.text for line in book.list(10, "info").lines] == ["one node", "broken"]
    assert [line.text for line in book.list(1, "debug").lines] == ["broken"]
    assert book.list(0, "debug").lines == []


async def test_old_lines_give_way_and_long_ones_are_cut(book: Logbook) -> None:
    for number in range(LOG_LINES):
        log.info("%d", number)
    log.info("x" * (2 * TEXT_CHARACTERS))
    lines = book.list(LOG_LINES, "debug").lines
    assert (len(lines), lines[0].text, lines[-1].number) == (LOG_LINES, "1", LOG_LINES + 1)
    assert (len(lines[-1].text), lines[-1].text[-1]) == (TEXT_CHARACTERS, "…")


async def test_follower_gets_the_past_and_then_each_line_as_it_comes(book: Logbook) -> None:
    for text in ("old", "past"):
        log.info(text)
    following = book.follow(1, "info")
    assert (await anext(following)).text == "past"
    log.debug("not this")
    log.warning("while it reads")
    assert (await anext(following)).text == "while it reads"
    waiting = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0)
    assert not waiting.done()
    log.info("new")
    assert (await waiting).text == "new"


async def test_line_of_another_thread_reaches_the_loop(book: Logbook) -> None:
    following = book.follow(0, "info")
    waiting = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0)
    thread = threading.Thread(target=log.info, args=("from a thread",))
    thread.start()
    assert (await waiting).text == "from a thread"
    thread.join()


async def test_exception_is_part_of_its_line(book: Logbook) -> None:
    try:
        raise ValueError("odd")
    except ValueError:
        log.exception("failed")
    (line,) = book.list(10, "debug").lines
    assert line.text.startswith("failed\nTraceback")
    assert line.text.endswith("ValueError: odd")


async def test_listeners_of_events_are_told_too() -> None:
    events = Events()
    listening = events.listen(frozenset({"log"}))
    first = asyncio.ensure_future(anext(listening))
    await asyncio.sleep(0)
    book = Logbook(events)
    book.open()
    log.warning("look")
    event = await first
    assert (event.kind, event.level, event.text) == ("log", "warning", "look")
    book.close()
    log.warning("not any more")
    assert len(book.list(10, "debug").lines) == 1
