"""TLS over streams."""

from __future__ import annotations

import os
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.unit.blocking.conftest import Pair, begin, wait_until
from tests.unit.blocking.test_stream import MUCH, read, read_all
from tests.unit.clients.certificates import Files
from weft.blocking.stream import Stream
from weft.clients.tls.connect import client_context


def test_of_a_connection_from_its_beginning(pair: Pair, files: Files, threads: ThreadPoolExecutor) -> None:
    def serve() -> bytes:
        with server.accept()[0] as far:
            far.settimeout(20)
            asked = read(far, len(MUCH))
            far.sendall(b"answer")
            return asked

    with pair.bob.create_server(("", 0), ssl=files.server()) as server:
        served = threads.submit(serve)
        address, context = ("bob", server.getsockname()[1]), client_context(roots=files.roots)
        with pair.alice.create_connection(address, 20, ssl=context, server_hostname="right") as near:
            near.sendall(MUCH)
            assert read_all(near) == b"answer"
            assert near.version() == "TLSv1.3"
            assert near.cipher()[1] == "TLSv1.3"  # type: ignore[index]
            assert near.selected_alpn_protocol() is None
            assert ("DNS", "right") in near.getpeercert()["subjectAltName"]
            assert near.getpeercert(binary_form=True).startswith(b"\x30")
        assert served.result(20) == MUCH


@pytest.mark.parametrize(
    ("name", "trusts", "reason"), [("wrong", True, "Hostname mismatch"), ("right", False, "unable to get local issuer")]
)
def test_certificate_that_is_not_the_expected_one_is_refused(
    pair: Pair, files: Files, name: str, trusts: bool, reason: str
) -> None:
    context = client_context(roots=files.roots) if trusts else ssl.create_default_context()
    with pair.bob.create_server(("", 0), ssl=files.server()) as server:
        address = "bob", server.getsockname()[1]
        with pytest.raises(ssl.SSLCertVerificationError, match=reason):
            pair.alice.create_connection(address, 20, ssl=context, server_hostname=name)
        # Nothing comes to who accepts.
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.accept()


class TestStartTls:
    def test_after_words_in_the_clear(self, pair: Pair, files: Files, threads: ThreadPoolExecutor) -> None:
        with pair.connected() as (near, far):

            def serve() -> None:
                assert far.recv(100) == b"STARTTLS"
                far.sendall(b"go on")
                assert far.start_tls(files.server(), server_side=True) is far
                assert read(far, 8) == b"question"
                far.sendall(MUCH)
                far.close()

            served = threads.submit(serve)
            near.sendall(b"STARTTLS")
            assert near.recv(100) == b"go on"
            assert near.version() is None
            assert near.start_tls(client_context(roots=files.roots), server_hostname="right") is near
            assert near.version() == "TLSv1.3"
            near.sendall(b"question")
            assert read_all(near) == MUCH
            served.result(20)

    def test_much_that_was_written_before_goes_before(
        self, pair: Pair, files: Files, threads: ThreadPoolExecutor
    ) -> None:
        with pair.connected() as (near, far):

            def serve() -> bytes:
                before = read(far, 2_000_000)
                far.sendall(b"now")
                far.start_tls(files.server(), server_side=True)
                assert far.recv(10) == b"after"
                far.sendall(MUCH[:100_000])
                return before

            served = threads.submit(serve)
            near.sendall(MUCH[:2_000_000])
            assert near.recv(3) == b"now"
            near.start_tls(client_context(roots=files.roots), server_hostname="right")
            near.sendall(b"after")
            assert read(near, 100_000) == MUCH[:100_000]
            assert served.result(20) == MUCH[:2_000_000]

    def test_who_speaks_before_is_not_heard(self, pair: Pair, files: Files) -> None:
        # The flaw of STARTTLS (CVE-2011-0411): what came in the clear must not count as if it came over TLS.
        with pair.connected() as (near, far):
            far.sendall(b"injected")
            wait_until(lambda: near.is_readable)
            with pytest.raises(ssl.SSLError, match=r"WRONG_VERSION|RECORD_LAYER"):
                near.start_tls(client_context(roots=files.roots), server_hostname="right")
            with pytest.raises(OSError, match="Bad file descriptor"):
                near.recv(1)

    def test_client_that_is_early_is_heard_by_a_server(
        self, stacks: Pair, files: Files, threads: ThreadPoolExecutor
    ) -> None:
        with stacks.connected() as (near, far):
            begun = threads.submit(near.start_tls, client_context(roots=files.roots), server_hostname="right")
            wait_until(lambda: far.is_readable)
            far.start_tls(files.server(), server_side=True)
            begun.result(20)
            near.sendall(b"hello")
            assert read(far, 5) == b"hello"

    def test_time_is_up(self, pair: Pair, files: Files) -> None:
        with pair.connected(0.1) as (near, _), pytest.raises(TimeoutError, match="timed out"):
            near.start_tls(client_context(roots=files.roots), server_hostname="right")


def established(pair: Pair, files: Files, threads: ThreadPoolExecutor) -> tuple[Stream, Stream]:
    with pair.bob.create_server(("", 0), ssl=files.server()) as server:
        accepted = threads.submit(server.accept)
        near = pair.alice.create_connection(
            ("bob", server.getsockname()[1]), 20, ssl=client_context(roots=files.roots), server_hostname="right"
        )
        far, _ = accepted.result(20)
        far.settimeout(20)
        return near, far


def test_one_direction_can_not_be_ended(pair: Pair, files: Files, threads: ThreadPoolExecutor) -> None:
    near, far = established(pair, files, threads)
    with near, far:
        with pytest.raises(OSError, match="TLS has no end for one direction"):
            near.shutdown(socket.SHUT_WR)
        near.sendall(b"goes on")
        assert read(far, 7) == b"goes on"


def test_back_pressure_and_close(pair: Pair, files: Files, threads: ThreadPoolExecutor) -> None:
    near, far = established(pair, files, threads)
    with far:
        writing = begin(threads, near, near.sendall, os.urandom(60_000_000))
        assert len(read_all_in_pieces(far, 10_000_000)) == 10_000_000
        near.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            writing.result(20)


def read_all_in_pieces(stream: Stream, count: int) -> bytes:
    return read(stream, count, 3000)
