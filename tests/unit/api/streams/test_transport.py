"""The contract of a stream transport, case by case, against a connection that does what the test wants.

The cases are those of CPython's `test_selector_events` (SelectorTransportTests, SelectorSocketTransportTests,
SelectorSocketTransportBufferedProtocolTests) and `test_transports`, as far as they are about what a protocol sees.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import logging
import socket
import struct
from typing import Any

import pytest

from tests.unit.api.streams.fake_connection import FakeConnection, make_ground, settle
from tests.unit.api.streams.recorders import BufferedRecorder, Recorder
from weft.api.streams.transport import READ_BYTES, SEND_BUFFER_BYTES, TcpTransport
from weft.stack.failure import Failure
from weft.stack.tcp.connection import Keepalive

Complaints = list[dict[str, Any]]


async def make(protocol: Any = None) -> tuple[Any, Any, FakeConnection]:
    """A transport whose protocol has been told `connection_made`."""
    connection: Any = FakeConnection()
    protocol = Recorder() if protocol is None else protocol
    transport = TcpTransport(make_ground(), connection, protocol)
    await settle()
    return transport, protocol, connection


class TestBegin:
    async def test_is_made_in_the_next_turn_before_the_waiter_is_done(self) -> None:
        connection: Any = FakeConnection()
        protocol = Recorder()
        waiter = asyncio.get_running_loop().create_future()
        waiter.add_done_callback(lambda _: protocol.events.append("waiter"))
        transport = TcpTransport(make_ground(), connection, protocol, waiter=waiter)
        assert protocol.events == []
        await waiter
        await settle()
        assert protocol.events == ["made", "waiter"]
        assert protocol.transport is transport
        transport.abort()

    async def test_data_that_is_there_already_comes_after_connection_made(self) -> None:
        connection: Any = FakeConnection()
        connection.bring(b"early")
        protocol = Recorder()
        TcpTransport(make_ground(), connection, protocol)
        await settle()
        assert protocol.events == ["made"]
        assert protocol.data == b"early"

    async def test_nagle_is_off(self) -> None:
        _, _, connection = await make()
        assert ("no delay", True) in connection.calls

    async def test_pause_in_connection_made_holds_data_back(self) -> None:
        class Shy(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.pause_reading()

        connection: Any = FakeConnection()
        connection.bring(b"later")
        protocol = Shy()
        transport = TcpTransport(make_ground(), connection, protocol)
        await settle()
        assert not protocol.data
        assert not transport.is_reading()
        transport.resume_reading()
        await settle()
        assert protocol.data == b"later"

    async def test_fault_in_connection_made_is_reported_and_reading_goes_on(self, complaints: Complaints) -> None:
        class Faulty(Recorder):
            def connection_made(self, transport: Any) -> None:
                raise RuntimeError("fault")

        waiter = asyncio.get_running_loop().create_future()
        connection: Any = FakeConnection()
        protocol = Faulty()
        TcpTransport(make_ground(), connection, protocol, waiter=waiter)
        await waiter
        connection.bring(b"data")
        assert protocol.data == b"data"
        assert isinstance(complaints[0]["exception"], RuntimeError)

    async def test_waiter_that_was_cancelled_is_left_alone(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        connection: Any = FakeConnection()
        TcpTransport(make_ground(), connection, Recorder(), waiter=waiter)
        waiter.cancel()
        await settle()
        assert waiter.cancelled()

    async def test_is_a_transport(self) -> None:
        transport, protocol, _ = await make()
        assert isinstance(transport, asyncio.Transport)
        assert transport.get_protocol() is protocol
        assert not transport.is_closing()
        assert transport.is_reading()
        assert transport.can_write_eof()


class TestRead:
    async def test_data_comes_as_bytes(self) -> None:
        _, protocol, connection = await make()
        connection.bring(b"one", b"two")
        assert protocol.data == b"onetwo"

    async def test_small_chunks_come_in_one_call(self) -> None:
        _, protocol, connection = await make()
        connection.bring(*[b"x" * 1000] * 50)
        assert protocol.chunks == [b"x" * 50_000]

    async def test_large_chunks_come_as_they_are(self) -> None:
        _, protocol, connection = await make()
        chunks = [bytes([number]) * 60_000 for number in range(3)]
        connection.bring(*chunks)
        assert all(ours is theirs for ours, theirs in zip(protocol.chunks, chunks, strict=True))

    async def test_more_than_is_taken_at_a_time_comes_whole(self) -> None:
        _, protocol, connection = await make()
        data = b"".join(bytes([number]) * 70_001 for number in range(20))
        connection.bring(data[:500_000], data[500_000:])
        assert len(data) > 3 * READ_BYTES
        assert protocol.data == data

    async def test_paused_takes_nothing_from_the_stack(self) -> None:
        transport, protocol, connection = await make()
        transport.pause_reading()
        connection.bring(b"data")
        await settle()
        assert connection.readable_bytes == 4
        assert not protocol.data

    async def test_resume_gives_what_came_meanwhile_in_a_later_turn(self) -> None:
        transport, protocol, connection = await make()
        transport.pause_reading()
        connection.bring(b"data")
        transport.resume_reading()
        assert not protocol.data
        await settle()
        assert protocol.data == b"data"

    async def test_pause_and_resume_may_be_repeated(self) -> None:
        transport, _, _ = await make()
        assert transport.is_reading()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        transport.resume_reading()
        transport.resume_reading()
        assert transport.is_reading()
        transport.close()
        assert not transport.is_reading()
        transport.pause_reading()
        transport.resume_reading()
        assert not transport.is_reading()

    async def test_pause_amid_chunks_holds_the_rest_back(self) -> None:
        class Fussy(Recorder):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                self.transport.pause_reading()

        transport, protocol, connection = await make(Fussy())
        connection.bring(b"a" * 50_000, b"b" * 50_000, b"c" * 50_000)
        assert protocol.data == b"a" * 50_000
        transport.resume_reading()
        await settle()
        assert protocol.data == b"a" * 50_000 + b"b" * 50_000
        connection.bring_end()
        assert "eof" not in protocol.events
        transport.resume_reading()
        await settle()
        transport.resume_reading()
        await settle()
        assert protocol.data.endswith(b"c" * 50_000)
        assert protocol.events[:2] == ["made", "eof"]

    async def test_pause_and_resume_within_data_received_keep_the_order(self) -> None:
        class Nervous(Recorder):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                self.transport.pause_reading()
                self.transport.resume_reading()

        _, protocol, connection = await make(Nervous())
        connection.bring(b"a" * 50_000, b"b" * 50_000)
        await settle()
        assert protocol.data == b"a" * 50_000 + b"b" * 50_000

    async def test_nothing_comes_after_close(self) -> None:
        class Closing(Recorder):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                self.transport.close()

        _, protocol, connection = await make(Closing())
        connection.bring(b"a" * 50_000, b"b" * 50_000)
        await settle()
        connection.bring(b"c")
        assert protocol.data == b"a" * 50_000
        assert protocol.events == ["made", "lost"]

    async def test_fault_in_data_received_ends_the_connection(self, complaints: Complaints) -> None:
        class Faulty(Recorder):
            def data_received(self, data: bytes) -> None:
                raise LookupError("fault")

        transport, protocol, connection = await make(Faulty())
        connection.bring(b"data")
        assert transport.is_closing()
        await settle()
        assert isinstance(protocol.error, LookupError)
        assert complaints[0]["message"] == "Fatal error: protocol.data_received() call failed."
        assert complaints[0]["transport"] is transport
        assert complaints[0]["protocol"] is protocol

    async def test_cancelled_error_in_data_received_ends_the_connection(self, complaints: Complaints) -> None:
        class Faulty(Recorder):
            def data_received(self, data: bytes) -> None:
                raise asyncio.CancelledError

        _, protocol, connection = await make(Faulty())
        connection.bring(b"data")
        await settle()
        assert isinstance(protocol.error, asyncio.CancelledError)
        assert len(complaints) == 1

    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
    async def test_exit_of_the_program_goes_through(self, error: type[BaseException]) -> None:
        class Leaving(Recorder):
            def data_received(self, data: bytes) -> None:
                raise error

        transport, _, connection = await make(Leaving())
        with pytest.raises(error):
            connection.bring(b"data")
        transport.abort()

    async def test_new_protocol_gets_what_comes_next(self) -> None:
        transport, protocol, connection = await make()
        connection.bring(b"one")
        other = Recorder()
        transport.set_protocol(other)
        connection.bring(b"two")
        assert (bytes(protocol.data), bytes(other.data)) == (b"one", b"two")
        assert transport.get_protocol() is other


class TestEnd:
    async def test_end_of_the_other_side_closes(self) -> None:
        transport, protocol, connection = await make()
        connection.bring_end()
        assert transport.is_closing()
        await settle()
        assert protocol.events == ["made", "eof", "lost"]
        assert protocol.error is None
        assert connection.calls[-1] == "close"

    async def test_end_keeps_open_if_the_protocol_wants(self) -> None:
        transport, protocol, connection = await make(Recorder(keeps_open=True))
        connection.bring_end()
        connection.tell()
        await settle()
        assert protocol.events == ["made", "eof"]
        transport.write(b"answer")
        assert connection.sent == b"answer"
        assert not transport.is_closing()

    async def test_end_comes_after_the_data(self) -> None:
        _, protocol, connection = await make()
        connection.has_end = True
        connection.bring(b"last")
        await settle()
        assert protocol.data == b"last"
        assert protocol.events == ["made", "eof", "lost"]

    async def test_end_is_not_told_while_paused(self) -> None:
        transport, protocol, connection = await make()
        transport.pause_reading()
        connection.bring_end()
        await settle()
        assert protocol.events == ["made"]
        transport.resume_reading()
        await settle()
        assert protocol.events == ["made", "eof", "lost"]

    async def test_fault_in_eof_received_ends_the_connection(self, complaints: Complaints) -> None:
        class Faulty(Recorder):
            def eof_received(self) -> bool:
                raise LookupError("fault")

        _, protocol, connection = await make(Faulty())
        connection.bring_end()
        await settle()
        assert isinstance(protocol.error, LookupError)
        assert complaints[0]["message"] == "Fatal error: protocol.eof_received() call failed."

    async def test_close_in_eof_received_and_a_true_answer_closes(self) -> None:
        class Polite(Recorder):
            def eof_received(self) -> bool:
                super().eof_received()
                self.transport.write(b"bye")
                self.transport.close()
                return True

        _, protocol, connection = await make(Polite())
        connection.bring_end()
        connection.drain()
        await settle()
        assert connection.sent == b"bye"
        assert protocol.events == ["made", "eof", "lost"]


class TestWrite:
    @pytest.mark.parametrize("data", [b"data", bytearray(b"data"), memoryview(b"data")])
    async def test_buffers_are_sent(self, data: Any) -> None:
        transport, _, connection = await make()
        transport.write(data)
        assert connection.sent == b"data"

    async def test_driver_is_woken(self) -> None:
        transport, _, _ = await make()
        wakes = transport._ground.driver.wakes
        transport.write(b"data")
        assert transport._ground.driver.wakes == wakes + 1

    async def test_nothing_is_nothing(self) -> None:
        transport, _, connection = await make()
        transport.write(b"")
        transport.writelines([])
        assert connection.sent == b""

    @pytest.mark.parametrize("data", ["text", 1, None, [b"data"]])
    async def test_what_is_no_buffer_is_refused(self, data: Any) -> None:
        transport, _, _ = await make()
        with pytest.raises(TypeError, match="bytes-like"):
            transport.write(data)

    async def test_lines_are_sent_in_order(self) -> None:
        transport, _, connection = await make()
        transport.writelines([b"one ", bytearray(b"two "), memoryview(b"three")])
        transport.writelines(part for part in (b" four", b" five"))
        assert connection.sent == b"one two three four five"

    async def test_write_after_write_eof_is_refused(self) -> None:
        transport, _, connection = await make()
        transport.write_eof()
        transport.write_eof()
        assert connection.calls.count("shutdown") == 1
        with pytest.raises(RuntimeError, match="write_eof"):
            transport.write(b"data")

    async def test_write_eof_after_close_is_nothing(self) -> None:
        transport, _, connection = await make()
        transport.close()
        transport.write_eof()
        assert "shutdown" not in connection.calls

    async def test_write_eof_leaves_reading_alone(self) -> None:
        transport, protocol, connection = await make()
        transport.write_eof()
        connection.bring(b"data")
        assert protocol.data == b"data"
        assert not transport.is_closing()

    async def test_both_ends_over_is_no_close(self) -> None:
        transport, protocol, connection = await make(Recorder(keeps_open=True))
        transport.write_eof()
        connection.has_end = connection.is_closed = True
        connection.tell()
        await settle()
        assert protocol.events == ["made", "eof"]
        transport.close()
        await settle()
        assert protocol.events == ["made", "eof", "lost"]

    async def test_write_after_the_end_warns_in_the_end(self, caplog: pytest.LogCaptureFixture) -> None:
        transport, _, connection = await make()
        transport.abort()
        with caplog.at_level(logging.WARNING, "weft.api"):
            for _ in range(4):
                transport.write(b"data")
            assert not caplog.records
            transport.write(b"data")
            assert len(caplog.records) == 1
        assert connection.sent == b""

    async def test_write_to_a_failed_connection_ends_it(self) -> None:
        transport, protocol, connection = await make()
        connection.failure, connection.is_closed = Failure.RESET, True
        transport.write(b"data")
        assert transport.is_closing()
        await settle()
        assert isinstance(protocol.error, ConnectionResetError)

    async def test_write_to_a_closed_connection_is_a_broken_pipe(self) -> None:
        transport, protocol, connection = await make()
        connection.is_closed = True
        transport.write(b"data")
        await settle()
        assert isinstance(protocol.error, BrokenPipeError)


class TestFlowControl:
    async def test_protocol_pauses_above_the_high_water_mark(self) -> None:
        transport, protocol, connection = await make()
        low, high = transport.get_write_buffer_limits()
        assert (low, high) == (16 * 1024, 64 * 1024)
        transport.write(bytes(SEND_BUFFER_BYTES))
        assert transport.get_write_buffer_size() == 0
        transport.write(bytes(high))
        assert protocol.events == ["made"]
        assert transport.get_write_buffer_size() == high
        transport.write(b"x")
        assert protocol.events == ["made", "pause"]
        transport.write(b"x")
        assert protocol.events == ["made", "pause"]
        connection.drain(SEND_BUFFER_BYTES + low + 1)
        assert protocol.events == ["made", "pause"]
        connection.drain(SEND_BUFFER_BYTES + low)
        assert protocol.events == ["made", "pause", "resume"]
        connection.drain(0)
        assert protocol.events == ["made", "pause", "resume"]

    @pytest.mark.parametrize(
        ("arguments", "limits"),
        [
            ({}, (16 * 1024, 64 * 1024)),
            ({"high": 100}, (25, 100)),
            ({"low": 10}, (10, 40)),
            ({"high": 100, "low": 99}, (99, 100)),
            ({"high": 0}, (0, 0)),
        ],
    )
    async def test_limits_follow_from_each_other(self, arguments: Any, limits: tuple[int, int]) -> None:
        transport, _, _ = await make()
        transport.set_write_buffer_limits(**arguments)
        assert transport.get_write_buffer_limits() == limits

    @pytest.mark.parametrize("arguments", [{"high": 1, "low": 2}, {"high": -1}, {"low": -1}])
    async def test_limits_that_can_not_be_are_refused(self, arguments: Any) -> None:
        transport, _, _ = await make()
        with pytest.raises(ValueError, match="must be >="):
            transport.set_write_buffer_limits(**arguments)

    async def test_lower_limit_pauses_at_once(self) -> None:
        transport, protocol, _ = await make()
        transport.write(bytes(SEND_BUFFER_BYTES + 5))
        transport.set_write_buffer_limits(high=4)
        assert protocol.events == ["made", "pause"]

    async def test_limit_of_zero_pauses_with_any_data_that_a_kernel_would_not_take(self) -> None:
        transport, protocol, connection = await make()
        transport.set_write_buffer_limits(high=0)
        transport.write(bytes(SEND_BUFFER_BYTES))
        assert protocol.events == ["made"]
        transport.write(b"1")
        assert protocol.events == ["made", "pause"]
        connection.drain(SEND_BUFFER_BYTES)
        assert protocol.events == ["made", "pause", "resume"]

    async def test_fault_in_pause_writing_is_reported(self, complaints: Complaints) -> None:
        class Faulty(Recorder):
            def pause_writing(self) -> None:
                raise LookupError("pause")

            def resume_writing(self) -> None:
                raise LookupError("resume")

        transport, _, connection = await make(Faulty())
        transport.write(bytes(300_000))
        connection.drain()
        assert [complaint["message"] for complaint in complaints] == [
            "protocol.pause_writing() failed",
            "protocol.resume_writing() failed",
        ]
        assert not transport.is_closing()

    async def test_write_within_resume_writing_may_pause_again(self) -> None:
        class Eager(Recorder):
            def resume_writing(self) -> None:
                super().resume_writing()
                if self.events.count("resume") < 3:
                    self.transport.write(bytes(300_000))

        transport, protocol, connection = await make(Eager())
        transport.write(bytes(300_000))
        for _ in range(3):
            connection.drain()
        assert protocol.events == ["made", *["pause", "resume"] * 3]


class TestClose:
    async def test_close_without_data_ends_in_a_later_turn(self) -> None:
        transport, protocol, connection = await make()
        transport.close()
        assert transport.is_closing()
        assert protocol.events == ["made"]
        await settle()
        assert protocol.events == ["made", "lost"]
        assert protocol.error is None
        assert connection.calls[-1] == "close"
        assert connection.user is None
        assert transport.get_protocol() is None

    async def test_close_leaves_to_the_stack_what_a_kernel_would_have_taken(self) -> None:
        transport, protocol, connection = await make()
        transport.write(bytes(SEND_BUFFER_BYTES))
        transport.close()
        assert connection.calls[-1] == "close"
        await settle()
        assert protocol.events == ["made", "lost"]
        assert "abort" not in connection.calls

    async def test_close_waits_for_the_write_buffer(self) -> None:
        transport, protocol, connection = await make()
        transport.write(bytes(SEND_BUFFER_BYTES + 1))
        transport.close()
        await settle()
        assert protocol.events == ["made"]
        assert connection.calls[-1] == "shutdown"
        connection.drain(SEND_BUFFER_BYTES)
        await settle()
        assert protocol.events == ["made", "lost"]
        assert connection.calls[-1] == "close"

    async def test_close_twice_is_told_once(self) -> None:
        transport, protocol, _ = await make()
        transport.close()
        transport.close()
        await settle()
        transport.close()
        transport.abort()
        await settle()
        assert protocol.events == ["made", "lost"]

    async def test_failure_while_closing_is_told(self) -> None:
        transport, protocol, connection = await make()
        transport.write(bytes(SEND_BUFFER_BYTES + 1))
        transport.close()
        connection.fail(Failure.TIMED_OUT)
        await settle()
        assert isinstance(protocol.error, TimeoutError)

    async def test_close_waits_for_all_where_nobody_else_goes_on_with_it(self) -> None:
        transport, protocol, connection = await make()
        transport._ground.keeps_sending = False
        transport.write(b"data")
        transport.close()
        await settle()
        assert protocol.events == ["made"]
        connection.drain()
        await settle()
        assert protocol.events == ["made", "lost"]
        assert "abort" not in connection.calls

    async def test_abort_with_data_resets(self) -> None:
        transport, protocol, connection = await make()
        transport.write(b"data")
        transport.abort()
        await settle()
        assert protocol.error is None
        assert "abort" in connection.calls

    async def test_abort_without_data_does_not_reset(self) -> None:
        transport, protocol, connection = await make()
        transport.abort()
        assert protocol.events == ["made"]
        await settle()
        assert protocol.events == ["made", "lost"]
        assert "abort" not in connection.calls

    @pytest.mark.parametrize("end", ["abort", "close"])
    async def test_reset_that_is_asked_for_by_so_linger(self, end: str) -> None:
        transport, _, connection = await make()
        transport.write(b"all of it is sent")
        connection.drain()
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER) == 1
        getattr(transport, end)()
        await settle()
        assert "abort" in connection.calls

    async def test_end_that_nobody_can_wait_for_is_refused(self) -> None:
        transport, _, connection = await make()
        sock = transport.get_extra_info("socket")
        for value in (struct.pack("ii", 1, 5), b"\1", 1):
            with pytest.raises(OSError) as caught:  # noqa: PT011 - the number says it
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, value)
            assert caught.value.errno == errno.EINVAL
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 5))
        transport.abort()
        await settle()
        assert "abort" not in connection.calls

    async def test_abort_while_closing_ends_it(self) -> None:
        transport, protocol, connection = await make()
        transport.write(bytes(SEND_BUFFER_BYTES + 1))
        transport.close()
        transport.abort()
        await settle()
        assert protocol.events == ["made", "lost"]
        assert "abort" in connection.calls

    async def test_force_close_tells_its_error(self) -> None:
        transport, protocol, _ = await make()
        error = ConnectionError("why")
        transport._force_close(error)
        transport._force_close(ConnectionError("too late"))
        await settle()
        assert protocol.error is error

    async def test_fault_in_connection_lost_lets_go_all_the_same(self, complaints: Complaints) -> None:
        class Faulty(Recorder):
            def connection_lost(self, exc: BaseException | None) -> None:
                raise LookupError("fault")

        transport, _, connection = await make(Faulty())
        transport.close()
        await settle()
        assert isinstance(complaints[0]["exception"], LookupError)
        assert connection.user is None
        assert transport not in transport._ground.open

    async def test_host_that_goes_away_aborts(self) -> None:
        transport, protocol, connection = await make()
        transport.end()
        await settle()
        assert isinstance(protocol.error, ConnectionAbortedError)
        assert "abort" in connection.calls

    @pytest.mark.parametrize("is_sent", [False, True])
    async def test_host_that_goes_away_lets_what_was_closed_before_leave(self, *, is_sent: bool) -> None:
        transport, protocol, connection = await make()
        transport.write(b"last words")
        if is_sent:
            connection.drain()
        transport.close()
        transport.end()
        await settle()
        assert protocol.error is None
        assert connection.calls[-1] == "close"
        assert "abort" not in connection.calls


class TestFailure:
    @pytest.mark.parametrize(
        ("failure", "error"),
        [
            (Failure.RESET, ConnectionResetError),
            (Failure.TIMED_OUT, TimeoutError),
            (Failure.ABORTED, ConnectionAbortedError),
            (Failure.REFUSED, ConnectionRefusedError),
            (Failure.PROHIBITED, PermissionError),
        ],
    )
    async def test_failure_is_told_as_the_kernel_would(self, failure: Failure, error: type[OSError]) -> None:
        transport, protocol, connection = await make()
        connection.fail(failure)
        assert transport.is_closing()
        await settle()
        assert type(protocol.error) is error
        assert protocol.error.errno

    async def test_data_before_the_failure_comes(self) -> None:
        _, protocol, connection = await make()
        connection.incoming = [b"last words"]
        connection.fail(Failure.RESET)
        await settle()
        assert protocol.data == b"last words"
        assert isinstance(protocol.error, ConnectionResetError)

    async def test_data_before_the_failure_waits_for_who_has_paused(self) -> None:
        transport, protocol, connection = await make()
        transport.pause_reading()
        connection.bring(b"last words")
        connection.fail(Failure.RESET)
        await settle()
        assert protocol.events == ["made"]
        transport.resume_reading()
        await settle()
        assert protocol.data == b"last words"
        assert isinstance(protocol.error, ConnectionResetError)

    async def test_failure_is_told_to_who_has_paused_without_data(self) -> None:
        transport, protocol, connection = await make()
        transport.pause_reading()
        connection.fail(Failure.RESET)
        await settle()
        assert isinstance(protocol.error, ConnectionResetError)

    async def test_failure_before_connection_made_comes_after_it(self) -> None:
        connection: Any = FakeConnection()
        protocol = Recorder()
        TcpTransport(make_ground(), connection, protocol)
        connection.failure, connection.is_closed = Failure.RESET, True
        await settle()
        assert protocol.events == ["made", "lost"]
        assert isinstance(protocol.error, ConnectionResetError)

    async def test_failure_of_the_network_is_no_complaint(self, complaints: Complaints) -> None:
        _, _, connection = await make()
        connection.fail(Failure.RESET)
        await settle()
        assert complaints == []

    async def test_failure_is_logged_in_debug_mode(self, caplog: pytest.LogCaptureFixture) -> None:
        loop = asyncio.get_running_loop()
        _, _, connection = await make()
        loop.set_debug(True)
        with caplog.at_level(logging.DEBUG, "weft.api"):
            connection.fail(Failure.RESET)
        loop.set_debug(False)
        assert "ConnectionResetError" in caplog.text


class TestBuffered:
    async def test_data_fills_the_buffer_again_and_again(self) -> None:
        _, protocol, connection = await make(BufferedRecorder(10))
        connection.bring(b"0123456789abcdef", b"XYZ")
        assert protocol.data == b"0123456789abcdefXYZ"
        assert set(protocol.hints) == {-1}

    async def test_many_chunks_fill_one_buffer(self) -> None:
        _, protocol, connection = await make(BufferedRecorder(100_000))
        connection.bring(*[b"x" * 20_000] * 4)
        assert protocol.data == b"x" * 80_000
        assert len(protocol.hints) == 1

    @pytest.mark.parametrize("buffer", [bytearray(8), memoryview(bytearray(8)), memoryview(bytearray(16)).cast("H")])
    async def test_any_buffer_will_do(self, buffer: Any) -> None:
        class Taking(BufferedRecorder):
            def buffer_updated(self, nbytes: int) -> None:
                self.data += memoryview(self.buffer).cast("B")[:nbytes]

        protocol = Taking()
        protocol.buffer = buffer
        _, _, connection = await make(protocol)
        connection.bring(b"0123456789")
        assert protocol.data == b"0123456789"

    async def test_buffer_may_be_cut_when_it_is_filled(self) -> None:
        class Cutting(BufferedRecorder):
            def get_buffer(self, sizehint: int) -> Any:
                self.buffer = bytearray(8)
                return self.buffer

            def buffer_updated(self, nbytes: int) -> None:
                del self.buffer[nbytes:]
                self.data += self.buffer

        _, protocol, connection = await make(Cutting())
        connection.bring(b"0123456789")
        assert protocol.data == b"0123456789"

    async def test_pause_amid_data_holds_the_rest_back(self) -> None:
        class Fussy(BufferedRecorder):
            def buffer_updated(self, nbytes: int) -> None:
                super().buffer_updated(nbytes)
                self.transport.pause_reading()

        transport, protocol, connection = await make(Fussy(4))
        connection.bring(b"0123456789")
        assert protocol.data == b"0123"
        transport.resume_reading()
        await settle()
        assert protocol.data == b"01234567"

    async def test_protocols_of_both_kinds_take_turns(self) -> None:
        transport, protocol, connection = await make()
        connection.bring(b"one")
        buffered = BufferedRecorder()
        transport.set_protocol(buffered)
        connection.bring(b"two")
        transport.set_protocol(protocol)
        connection.bring(b"three")
        assert protocol.data == b"onethree"
        assert buffered.data == b"two"

    async def test_rest_of_a_chunk_comes_as_bytes_after_a_switch(self) -> None:
        after = Recorder()

        class Switching(BufferedRecorder):
            def buffer_updated(self, nbytes: int) -> None:
                super().buffer_updated(nbytes)
                self.transport.set_protocol(after)

        _, protocol, connection = await make(Switching(4))
        connection.bring(b"0123456789")
        assert protocol.data == b"0123"
        assert after.data == b"456789"

    async def test_end_and_half_close(self) -> None:
        transport, protocol, connection = await make(BufferedRecorder(keeps_open=True))
        connection.bring_end()
        await settle()
        assert protocol.events == ["made", "eof"]
        assert not transport.is_closing()

        transport, protocol, connection = await make(BufferedRecorder())
        connection.bring_end()
        await settle()
        assert protocol.events == ["made", "eof", "lost"]

    @pytest.mark.parametrize("what", ["get_buffer", "buffer_updated", "eof_received"])
    async def test_faults_end_the_connection(self, what: str, complaints: Complaints) -> None:
        def fail(*_: object) -> None:
            raise LookupError("fault")

        protocol = BufferedRecorder()
        setattr(protocol, what, fail)
        transport, _, connection = await make(protocol)
        connection.bring(b"data")
        connection.bring_end()
        await settle()
        assert isinstance(await protocol.lost, LookupError)
        assert complaints[0]["message"] == f"Fatal error: protocol.{what}() call failed."
        assert transport.is_closing()

    @pytest.mark.parametrize("buffer", [bytearray(), b"read only", None])
    async def test_buffer_that_takes_nothing_ends_the_connection(self, buffer: Any, complaints: Complaints) -> None:
        protocol = BufferedRecorder()
        protocol.buffer = buffer
        _, _, connection = await make(protocol)
        connection.bring(b"data")
        assert isinstance(await protocol.lost, RuntimeError | TypeError)
        assert len(complaints) == 1


class TestExtraInfo:
    async def test_addresses_are_as_the_kernel_gives_them(self) -> None:
        transport, _, _ = await make()
        assert transport.get_extra_info("sockname") == ("fc00::1", 1000, 0, 0)
        assert transport.get_extra_info("peername") == ("fc00::2", 80, 0, 0)

    async def test_peer_is_who_the_node_says(self) -> None:
        transport, _, _ = await make()
        assert transport.get_extra_info("peer") == "peer 2"
        transport._ground.describe_peer = lambda _: None
        assert transport.get_extra_info("peer", "nobody") == "nobody"

    async def test_what_is_not_known_is_the_default(self) -> None:
        transport, _, _ = await make()
        assert transport.get_extra_info("cipher") is None
        assert transport.get_extra_info("sslcontext", 7) == 7

    async def test_is_known_after_the_end(self) -> None:
        transport, _, _ = await make()
        transport.abort()
        await settle()
        assert transport.get_extra_info("peername") == ("fc00::2", 80, 0, 0)
        assert transport.get_extra_info("socket") is not None

    async def test_socket_is_like_one(self) -> None:
        transport, _, _ = await make()
        sock = transport.get_extra_info("socket")
        assert sock is transport.get_extra_info("socket")
        assert (sock.family, sock.type, sock.proto) == (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        assert sock.getsockname() == ("fc00::1", 1000, 0, 0)
        assert sock.getpeername() == ("fc00::2", 80, 0, 0)
        assert sock.fileno() == -1
        assert sock.gettimeout() == 0
        assert "fc00::2" in repr(sock)

    async def test_socket_options_act_on_the_connection(self) -> None:
        transport, _, connection = await make()
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        assert connection.calls[-1] == ("no delay", False)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)
        assert connection.calls[-1] == ("keepalive", Keepalive(10, 75, 9))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, (3).to_bytes(4, "little"))
        assert connection.calls[-1] == ("keepalive", Keepalive(10, 2, 3))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)
        assert connection.calls[-1] == ("keepalive", None)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4) == (3).to_bytes(4, "little")

    @pytest.mark.parametrize(
        ("level", "option"), [(socket.IPPROTO_TCP, socket.TCP_NODELAY), (socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
    )
    async def test_host_is_looked_after_when_an_option_is_set(self, level: int, option: int) -> None:
        transport, _, _ = await make()
        sock, wakes = transport.get_extra_info("socket"), transport._ground.driver.wakes
        sock.setsockopt(level, option, 1)
        assert transport._ground.driver.wakes == wakes + 1

    async def test_socket_refuses_what_it_does_not_know(self) -> None:
        transport, _, _ = await make()
        sock = transport.get_extra_info("socket")
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number says it
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        assert caught.value.errno == errno.ENOPROTOOPT
        with pytest.raises(OSError) as caught:  # noqa: PT011
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
        assert caught.value.errno == errno.ENOPROTOOPT
        with pytest.raises(OSError) as caught:  # noqa: PT011
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 0)
        assert caught.value.errno == errno.EINVAL

    async def test_repr_says_what_it_is(self) -> None:
        transport, _, _ = await make()
        assert repr(transport) == "<TcpTransport [fc00::1]:1000 -> [fc00::2]:80 open write=0>"
        transport.write(bytes(SEND_BUFFER_BYTES + 4))
        transport.close()
        assert repr(transport) == "<TcpTransport [fc00::1]:1000 -> [fc00::2]:80 closing write=4>"
        transport.abort()
        assert repr(transport) == "<TcpTransport [fc00::1]:1000 -> [fc00::2]:80 lost write=0>"


class TestContext:
    async def test_protocol_runs_where_its_transport_was_made(self) -> None:
        who = contextvars.ContextVar("who", default="nobody")
        seen: list[str] = []

        class Curious(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                seen.append(who.get())

            def data_received(self, data: bytes) -> None:
                seen.append(who.get())

            def eof_received(self) -> bool:
                seen.append(who.get())
                return False

            def connection_lost(self, exc: BaseException | None) -> None:
                seen.append(who.get())

        who.set("maker")
        connection: Any = FakeConnection()
        TcpTransport(make_ground(), connection, Curious())
        who.set("waker")
        await settle()
        connection.bring(b"data")
        connection.bring_end()
        await settle()
        assert seen == ["maker"] * 4
