"""Files over streams: what CPython's own tests ask of `makefile`."""

from __future__ import annotations

import gzip
import io
import socket
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.unit.blocking.conftest import Pair, begin, wait_until
from weft.blocking.stream import Stream

Ends = tuple[Stream, Stream]

LINES = b"first line\nsecond line\nand a third one, without an end"


@pytest.fixture
def ends(stacks: Pair) -> Iterator[Ends]:
    with stacks.connected() as both:
        yield both


@pytest.mark.parametrize("buffering", [0, 1, 7, None, -1])
class TestBinary:
    def test_all_is_read(self, ends: Ends, buffering: int | None) -> None:
        near, far = ends
        near.sendall(LINES)
        near.close()
        with far.makefile("rb", buffering) as file:
            assert file.read() == LINES
            assert file.read() == b""

    def test_line_by_line(self, ends: Ends, buffering: int | None) -> None:
        near, far = ends
        with near.makefile("wb", buffering) as file:
            file.write(LINES)
            file.flush()
        near.shutdown(socket.SHUT_WR)
        with far.makefile("rb", buffering) as file:
            assert list(file) == LINES.splitlines(keepends=True)

    def test_a_second_file_goes_on_where_the_first_was(self, ends: Ends, buffering: int | None) -> None:
        near, far = ends
        near.sendall(LINES)
        near.close()
        wait_until(lambda: far._pipe._unread_bytes == len(LINES))
        with far.makefile("rb", 0) as first:
            assert first.readline() == b"first line\n"
        with far.makefile("rb", buffering) as second:
            assert second.readline() == b"second line\n"

    def test_mode_name_and_state(self, ends: Ends, buffering: int | None) -> None:
        file = ends[0].makefile("rb", buffering)
        assert (file.mode, file.name, file.closed) == ("rb", -1, False)
        assert (file.readable(), file.writable(), file.seekable()) == (True, False, False)
        with pytest.raises(io.UnsupportedOperation, match="no descriptor"):
            file.fileno()
        file.close()
        assert file.closed
        for call in (file.readable, file.fileno, file.readline):
            with pytest.raises(ValueError, match="closed"):
                call()


class TestText:
    def test_lines_of_any_letters(self, ends: Ends) -> None:
        near, far = ends
        with near.makefile("w", encoding="utf-8", newline="\n") as writing, far.makefile(encoding="utf-8") as reading:
            assert (writing.mode, reading.mode) == ("w", "r")
            writing.write("grüße\nzwei\n")
            writing.flush()
            assert [reading.readline(), reading.readline()] == ["grüße\n", "zwei\n"]

    def test_needs_a_buffer(self, ends: Ends) -> None:
        with pytest.raises(ValueError, match="binary"):
            ends[0].makefile("r", 0)

    @pytest.mark.parametrize("mode", ["a", "rx", "r+", "z"])
    def test_mode_that_is_none(self, ends: Ends, mode: str) -> None:
        with pytest.raises(ValueError, match="invalid mode"):
            ends[0].makefile(mode)


def test_both_ways_in_one_file(ends: Ends, threads: ThreadPoolExecutor) -> None:
    near, far = ends
    with near.makefile("rwb") as asking, far.makefile("rwb") as answering:
        asking.write(b"question\n")
        asking.flush()
        assert answering.readline() == b"question\n"
        answering.write(b"answer\n")
        answering.flush()
        assert asking.readline() == b"answer\n"


def test_files_keep_the_stream_open(ends: Ends) -> None:
    near, far = ends
    first, second = near.makefile("rb"), near.makefile("wb")
    near.close()
    far.sendall(b"line\n")
    assert first.readline() == b"line\n"
    first.close()
    second.write(b"still open")
    second.flush()
    assert far.recv(100) == b"still open"
    second.close()
    assert far.recv(100) == b""
    with pytest.raises(OSError, match="Bad file descriptor"):
        near.recv(1)


def test_file_outlives_the_last_name_of_the_stream(stacks: Pair) -> None:
    with stacks.bob.create_server(("", 0)) as server:
        file = stacks.alice.create_connection(("bob", server.getsockname()[1]), 20).makefile("rb")
        with server.accept()[0] as far:
            far.sendall(b"line\n")
            assert file.readline() == b"line\n"
        file.raw._sock.close()
        file.close()


def test_after_a_timeout_a_file_can_be_read_no_more(ends: Ends) -> None:
    # As of the standard library: what was read until then may be lost.
    near, far = ends
    near.settimeout(0.05)
    with near.makefile("rb") as file:
        with pytest.raises(TimeoutError):
            file.read(3)
        far.sendall(b"late")
        with pytest.raises(OSError, match="cannot read from timed out object"):
            file.read(3)


def test_without_waiting_a_file_gives_nothing_yet(ends: Ends) -> None:
    near, far = ends
    near.setblocking(False)
    with near.makefile("rb", 0) as file:
        assert file.read(3) is None
        far.sendall(b"now")
        wait_until(lambda: near.is_readable)
        assert file.read(3) == b"now"
    with near.makefile("wb", 0) as file:
        written = [file.write(bytes(100_000)) for _ in range(200)]
        assert written[0] == 100_000
        assert written[-1] is None


def test_close_of_the_stream_wakes_no_reader_of_its_file_but_the_end_does(
    ends: Ends, threads: ThreadPoolExecutor
) -> None:
    near, far = ends
    file = near.makefile("rb")
    waiting = begin(threads, near, file.read, 1)
    near.close()
    assert not waiting.done()
    far.close()
    assert waiting.result(20) == b""
    file.close()


def test_archives_and_compressed_files_are_read_from_it(ends: Ends, threads: ThreadPoolExecutor) -> None:
    near, far = ends

    def send() -> None:
        with near.makefile("wb") as file, tarfile.open(fileobj=file, mode="w|gz") as archive:
            info = tarfile.TarInfo("hello")
            info.size = 300_000
            archive.addfile(info, io.BytesIO(b"x" * 300_000))
        near.shutdown(socket.SHUT_WR)

    sending = threads.submit(send)
    with far.makefile("rb") as file, tarfile.open(fileobj=file, mode="r|gz") as archive:
        member = archive.next()
        assert member is not None
        found = archive.extractfile(member)
        assert found is not None
        assert found.read() == b"x" * 300_000
    sending.result(20)
    with far.makefile("wb") as file, gzip.GzipFile(fileobj=file, mode="wb") as zipped:
        zipped.write(b"hello")
    far.shutdown(socket.SHUT_WR)
    with near.makefile("rb") as file, gzip.GzipFile(fileobj=file) as zipped:
        assert zipped.read() == b"hello"
