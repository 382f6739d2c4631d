"""Two nodes in threads of their own: with the stack and with sockets of the kernel, on both event loops."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self

import pytest
import uvloop

import weft
from tests.unit.api.node.conftest import LISTEN
from tests.unit.clients.certificates import Files
from weft.api.kernel import KernelSockets
from weft.api.overlay import Overlay
from weft.api.server import Server
from weft.api.unix_socket import ApiSocket
from weft.blocking.node import BlockingNode, Node
from weft.blocking.stream import Stream

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


class KernelOverlay(Overlay):
    """What a node with a TUN has, on the loopback interface."""

    async def __aenter__(self) -> Self:
        async def resolve(host: str, family: int) -> list[bytes]:
            if host == "bob":
                host = "127.0.0.1"
            try:
                return [ip_address(host).packed]
            except ValueError:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None

        self._sockets = KernelSockets(resolve, lambda: ["127.0.0.1"])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sockets = None


class Daemon(weft.Node):
    """A node whose API answers at a socket."""

    socket: ApiSocket

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._server = Server(self._engine, self.socket.__enter__())
        await self._server.start()
        return self

    async def __aexit__(self, *arguments: Any) -> None:
        await self._server.stop()
        self.socket.__exit__(None, None, None)
        await super().__aexit__(*arguments)


@dataclass
class Pair:
    """Two nodes; the first knows the second as bob."""

    alice: BlockingNode
    bob: BlockingNode
    kind: str

    @contextmanager
    def connected(self, timeout: float | None = 20) -> Iterator[tuple[Stream, Stream]]:
        """The two ends of a connection, alice's first."""
        with self.bob.create_server(("", 0)) as server:
            server.settimeout(20)
            with self.alice.create_connection(("bob", server.getsockname()[1]), timeout) as near:
                far, _ = server.accept()
                far.settimeout(timeout)
                with far:
                    yield near, far


def make_node(kind: str, loop: str) -> BlockingNode:
    """A node of a kind, on a loop, in its thread; to be left."""
    node = BlockingNode(KernelOverlay()) if kind == "kernel" else Node(listen=LISTEN)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.events, "new_event_loop", LOOPS[loop])
        return node.__enter__()


def make_pair(param: str, folder: Path) -> Iterator[Pair]:
    """Two nodes, of a kind and on a loop, such as `stack-asyncio`; `attached`, Alice's is that of a daemon."""
    kind, _, loop = param.partition("-")
    with ExitStack() as stack:
        bob = make_node(kind, loop)
        stack.push(bob.__exit__)
        if kind == "attached":
            daemon = Daemon(listen=LISTEN)
            daemon.socket = ApiSocket(folder / "api.sock")
            stack.enter_context(BlockingNode(daemon))
            alice: BlockingNode = stack.enter_context(weft.blocking.attach(folder / "api.sock"))
        else:
            alice = make_node(kind, loop)
            stack.push(alice.__exit__)
        if kind != "kernel":
            alice.connect_peer(bob.multiaddrs[0], name="bob")
        yield Pair(alice, bob, "kernel" if kind == "kernel" else "stack")


@pytest.fixture(
    scope="module", params=["stack-asyncio", "stack-uvloop", "kernel-asyncio", "kernel-uvloop", "attached-asyncio"]
)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    yield from make_pair(request.param, tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Where sockets of the kernel would tell nothing more."""
    yield from make_pair("stack-asyncio", tmp_path_factory.mktemp("stacks"))


@pytest.fixture
def ends(pair: Pair) -> Iterator[tuple[Stream, Stream]]:
    with pair.connected() as both:
        yield both


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as executor:
        yield executor


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def wait_until(is_so: Callable[[], object]) -> None:
    """Return when it is so."""
    limit = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < limit
        time.sleep(0.001)


def is_waiting(socket_: Any) -> bool:
    """Whether a thread waits for something to be read or written there."""
    meeting = socket_._meeting
    return bool(meeting._readable._waiters or meeting._writable._waiters)


def begin(threads: ThreadPoolExecutor, socket_: Any, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Call something of a socket in another thread, which waits there when this returns."""
    future = threads.submit(function, *arguments)
    wait_until(lambda: is_waiting(socket_) or future.done())
    assert not future.done(), future.result()
    return future
