"""Pipes by themselves: what waits in them has bounds, and nobody is woken for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from weft.blocking.background import Background
from weft.blocking.pipe import MAX_PIECES, READ_BYTES, WRITE_BYTES, Pipe


class FakeBackground:
    """Collects what the loop is asked to do."""

    def __init__(self) -> None:
        self.open: set[Any] = set()
        self.wanted: list[Callable[[], object]] = []

    def soon(self, function: Callable[[], object]) -> None:
        self.wanted.append(function)

    def turn(self) -> None:
        wanted, self.wanted = self.wanted, []
        for function in wanted:
            function()


class FakeTransport(asyncio.Transport):
    """Collects what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[object] = []

    def write(self, data: object) -> None:
        self.said.append(bytes(cast(bytes, data)))

    def write_eof(self) -> None:
        self.said.append("end")

    def pause_reading(self) -> None:
        self.said.append("pause")

    def resume_reading(self) -> None:
        self.said.append("resume")

    def close(self) -> None:
        self.said.append("close")

    def is_closing(self) -> bool:
        return "close" in self.said


@pytest.fixture
async def made() -> tuple[Pipe, FakeTransport, FakeBackground]:
    background, transport = FakeBackground(), FakeTransport()
    pipe = Pipe(cast(Background, background))
    pipe.connection_made(transport)
    return pipe, transport, background


Made = tuple[Pipe, FakeTransport, FakeBackground]


class TestReading:
    async def test_stops_above_the_bound_and_goes_on_at_half_of_it(self, made: Made) -> None:
        pipe, transport, background = made
        for _ in range(READ_BYTES // 65536):
            pipe.data_received(bytes(65536))
        assert transport.said == []
        pipe.data_received(b"x")
        pipe.data_received(b"x")
        assert transport.said == ["pause"]
        while pipe._unread_bytes > READ_BYTES // 2 + 65536:
            pipe.read(65536, 0)
        assert background.wanted == []
        pipe.read(65536, 0)
        pipe.read(65536, 0)
        background.turn()
        assert transport.said == ["pause", "resume"]

    async def test_of_very_small_pieces_few_wait(self, made: Made) -> None:
        pipe, transport, background = made
        for _ in range(MAX_PIECES):
            assert transport.said == []
            pipe.data_received(b"x")
        assert transport.said == ["pause"]
        assert pipe.read(MAX_PIECES, 0) == b"x" * MAX_PIECES
        background.turn()
        assert transport.said == ["pause", "resume"]

    async def test_what_waits_is_read_without_asking_the_loop(self, made: Made) -> None:
        pipe, _, background = made
        pipe.data_received(b"some data")
        assert [pipe.read(4, 0), pipe.read(100, 0)] == [b"some", b" data"]
        assert background.wanted == []

    async def test_one_piece_is_not_copied(self, made: Made) -> None:
        pipe, _, _ = made
        data = bytes(1000)
        pipe.data_received(data)
        assert pipe.read(1000, 0) is data

    async def test_before_it_is_accepted_one_piece_is_taken(self) -> None:
        background, transport = FakeBackground(), FakeTransport()
        pipe = Pipe(cast(Background, background), lambda _: None)
        pipe.connection_made(transport)
        pipe.data_received(b"x")
        assert transport.said == ["pause"]
        pipe.begin()
        background.turn()
        assert transport.said == ["pause", "resume"]
        pipe.data_received(b"x")
        assert transport.said == ["pause", "resume"]


class TestWriting:
    async def test_loop_is_woken_once_for_all_that_is_written_until_it_looks(self, made: Made) -> None:
        pipe, transport, background = made
        for part in (b"one, ", b"two, ", b"three"):
            pipe.write(part, 0)
        assert len(background.wanted) == 1
        background.turn()
        assert transport.said == [b"one, two, three"]

    async def test_no_more_is_taken_than_there_is_room_for(self, made: Made) -> None:
        pipe, transport, background = made
        pipe.pause_writing()
        assert pipe.write(bytes(WRITE_BYTES + 1), 0) == WRITE_BYTES
        with pytest.raises(BlockingIOError):
            pipe.write(b"x", 0)
        assert background.wanted == []
        pipe.resume_writing()
        assert transport.said == [bytes(WRITE_BYTES)]
        assert pipe.write(b"x", 0) == 1

    async def test_of_very_small_pieces_few_wait(self, made: Made) -> None:
        pipe, _, _ = made
        pipe.pause_writing()
        for _ in range(MAX_PIECES):
            pipe.write(b"x", 0)
        with pytest.raises(BlockingIOError):
            pipe.write(b"x", 0)

    async def test_end_and_close_come_after_what_was_written(self, made: Made) -> None:
        pipe, transport, background = made
        pipe.pause_writing()
        pipe.write(b"last", 0)
        pipe.end_writing()
        background.turn()
        assert transport.said == []
        pipe.resume_writing()
        assert transport.said == [b"last", "end"]
        pipe.close()
        background.turn()
        assert transport.said == [b"last", "end", "close"]

    async def test_closed_while_much_waits_closes_when_it_has_gone(self, made: Made) -> None:
        pipe, transport, background = made
        pipe.pause_writing()
        pipe.write(b"last", 0)
        pipe.close()
        background.turn()
        assert transport.said == []
        pipe.resume_writing()
        assert transport.said == [b"last", "close"]


async def test_lost_pipe_asks_nothing_more_of_the_loop(made: Made) -> None:
    pipe, transport, background = made
    pipe.data_received(b"came")
    pipe.write(b"never", 0)
    pipe.connection_lost(ConnectionResetError(104, "reset"))
    background.turn()
    assert transport.said == []
    assert pipe.read(10, 0) == b"came"
    with pytest.raises(ConnectionResetError):
        pipe.read(10, 0)
    with pytest.raises(ConnectionResetError):
        pipe.write(b"x", 0)
    assert (pipe.over.done(), background.open) == (True, set())
