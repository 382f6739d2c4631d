"""Descriptors that a daemon was given: what each is good for, and one line for those that are good for nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from weft.api.unix_socket import ApiSocket
from weft.engine.passed import sort_descriptors
from weft.engine.underlay import Underlay
from weft.errors import UsageError
from weft.io.udp import UdpSocket
from weft.multiaddr import decode_multiaddr

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def udp(host: str = "127.0.0.1", *, only: bool = True) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as made:
        if ":" in host:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        made.bind((host, 0))
        return os.dup(made.fileno())


def stream(path: Path, *, listens: bool = True) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        made.bind(str(path))
        if listens:
            made.listen()
        return os.dup(made.fileno())


def a_file() -> int:
    return os.open(os.devnull, os.O_RDONLY)


def test_each_goes_to_its_place_in_its_order(tmp_path: Path, stack: ExitStack) -> None:
    numbers = [udp(), stream(tmp_path / "api.sock"), udp("::1"), a_file()]
    passed = sort_descriptors(zip(["udp", "api", "udp", "tun"], numbers, strict=True))
    stack.callback(passed.close)
    assert passed.api is not None
    assert [passed.api.fileno(), *(each.fileno() for each in passed.udp)] == [numbers[1], numbers[0], numbers[2]]
    assert not any(each.getblocking() for each in (passed.api, *passed.udp))
    assert passed.take_tun() == numbers[3]
    assert passed.tun is None
    os.close(numbers[3])


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        ("http", a_file, "a descriptor is called 'http'; there are: api, udp, tun"),
        ("unknown", a_file, "a descriptor is called 'unknown'"),
        ("udp", a_file, "the descriptor 'udp' is no socket"),
        ("udp", lambda: socket.socket().detach(), "the descriptor 'udp' is no UDP socket"),
        ("udp", lambda: udp("::", only=False), "takes IPv4 too"),
        ("api", udp, "'api' is no Unix socket that listens"),
    ],
)
def test_descriptor_that_is_not_what_its_name_says_is_one_line(name: str, make: Callable[[], int], says: str) -> None:
    number = make()
    with pytest.raises(UsageError, match=says):
        sort_descriptors([(name, number)])


def test_api_that_does_not_listen_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'api' is no Unix socket that listens"):
        sort_descriptors([("api", stream(tmp_path / "api.sock", listens=False))])


def test_two_of_a_kind_that_there_can_be_one_of_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two descriptors are called 'api'"):
        sort_descriptors([("api", stream(tmp_path / "a")), ("api", stream(tmp_path / "b"))])
    with pytest.raises(UsageError, match="two descriptors are called 'tun'"):
        sort_descriptors([("tun", a_file()), ("tun", a_file())])


def test_api_listens_where_the_socket_that_was_passed_does_and_leaves_the_file(
    tmp_path: Path, stack: ExitStack
) -> None:
    passed = sort_descriptors([("api", stream(tmp_path / "given.sock"))])
    with ApiSocket(tmp_path / "own.sock", passed.api) as api:
        assert api.path == tmp_path / "given.sock"
        client = stack.enter_context(socket.socket(socket.AF_UNIX))
        client.connect(str(tmp_path / "given.sock"))
        api.socket.accept()[0].close()
    assert (tmp_path / "given.sock").exists()
    assert not (tmp_path / "own.sock").exists()


def test_socket_that_was_passed_serves_the_listener_of_its_address(
    stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    passed = sort_descriptors([("udp", udp()), ("udp", udp())])
    ports = [each.getsockname()[1] for each in passed.udp]
    underlay = Underlay(lambda _: None, passed.udp)
    stack.callback(underlay.close)
    underlay.open([decode_multiaddr(f"/ip4/127.0.0.1/udp/{ports[0]}"), decode_multiaddr("/ip4/127.0.0.1/udp/0")])
    first, second = underlay.sockets
    assert isinstance(first, UdpSocket)
    assert first.fileno() == passed.udp[0].fileno()
    assert second.address[1] not in ports
    assert f"a socket was passed for /ip4/127.0.0.1/udp/{ports[1]}" in caplog.text
    assert passed.udp[1].fileno() == -1
