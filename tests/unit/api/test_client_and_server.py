"""The synchronous client against the real server: every route, every kind of error."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from pathlib import Path

import msgspec
import pytest

from tests.unit.api.fake_engine import KEY, FakeEngine, serving
from weft.api.client import Client, NoDaemon
from weft.api.openapi import example_of
from weft.api.problem import KINDS
from weft.api.v0 import fc00 as fc00_api
from weft.api.v0 import node as node_api
from weft.api.v0 import peer as peer_api
from weft.api.v0.fc00 import ChangePorts, StartInterface
from weft.api.v0.listener import ChangeListener
from weft.api.v0.log import Tail
from weft.api.v0.peer import AddWireguard, Connect, Ping, Set, Whom
from weft.api.v0.route import Done, Nothing, Route
from weft.api.v0.table import ROUTES
from weft.api.v0.task import RestartTask
from weft.errors import Broken, ConfigError, DecodeError, PeerError, TransportError, UsageError, WeftError

PARAMETERS: dict[str, msgspec.Struct] = {
    "/v0/peer/connect": Connect(target="/ip4/192.0.2.1/udp/1312"),
    "/v0/peer/disconnect": Whom(peer="loom"),
    "/v0/peer/persist": Whom(peer="loom"),
    "/v0/peer/set": Set(peer="loom", name="heddle", keepalive_s=None),
    "/v0/peer/remove": Whom(peer="loom"),
    "/v0/peer/block": Whom(peer="loom"),
    "/v0/peer/unblock": Whom(peer="loom"),
    "/v0/peer/add-wireguard": AddWireguard(public_key=KEY, name="phone", allowed_ips=["10.0.0.2/32"]),
    "/v0/peer/ping": Ping(peer="loom", size=100),
    "/v0/fc00/start": StartInterface(ifname="weft7"),
    "/v0/fc00/allow": ChangePorts(rules=["/tcp/80", "/udp/0"]),
    "/v0/fc00/deny": ChangePorts(rules=["/icmp"]),
    "/v0/task/restart": RestartTask(name="udp"),
    "/v0/listener/stop": ChangeListener(multiaddr="/ip4/0.0.0.0/udp/1312"),
    "/v0/log/list": Tail(lines=1, level="error"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api.sock"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
async def test_each_route_answers_its_type_with_the_schema(path: Path, route: Route) -> None:
    parameters = PARAMETERS.get(route.path)
    if parameters is None and route.parameters is not Nothing:
        parameters = msgspec.convert(example_of(route), route.parameters)
    async with serving(FakeEngine(), path):
        raw = await asyncio.to_thread(Client(path).fetch, route, parameters)
    assert isinstance(msgspec.json.decode(raw, type=route.result), route.result)
    assert msgspec.json.decode(raw)["schema"] == 1


def test_route_table_has_no_pair_twice() -> None:
    pairs = [(route.method, route.path) for route in ROUTES]
    assert len(set(pairs)) == len(pairs)
    assert all(route.summary for route in ROUTES)


async def test_all_parameters_reach_the_node(path: Path) -> None:
    engine = FakeEngine()
    asked = AddWireguard(
        public_key=KEY,
        name="phone",
        allowed_ips=["10.0.0.2/32"],
        endpoint="192.0.2.7:51820",
        preshared_key=KEY,
        keepalive_s=25,
    )
    async with serving(engine, path):
        reply = await asyncio.to_thread(Client(path).call, peer_api.ADD_WIREGUARD, asked)
        await asyncio.to_thread(Client(path).call, peer_api.CONNECT, Connect(target="/x", timeout_s=2.5))
        await asyncio.to_thread(Client(path).call, fc00_api.START)
    assert engine.calls == [
        ("add_wireguard", KEY, "phone", ["10.0.0.2/32"], "192.0.2.7:51820", KEY, 25),
        ("connect", "/x", 2.5),
        ("fc00_start", None),
    ]
    assert reply.peer.kind == "wireguard"


def test_preshared_key_is_not_in_the_repr() -> None:
    asked = AddWireguard(public_key="public", name="phone", allowed_ips=["::/0"], preshared_key="secret")
    assert "secret" not in repr(asked)
    assert "phone" in repr(asked)


async def test_stop_answers_before_the_node_ends(path: Path) -> None:
    engine = FakeEngine()
    async with serving(engine, path):
        assert await asyncio.to_thread(Client(path).call, node_api.STOP) == Done()
    assert engine.stop_asked.is_set()


@pytest.mark.parametrize(
    ("raised", "arrives", "status"),
    [
        (UsageError("no peer 'x'"), UsageError("no peer 'x'"), 400),
        (DecodeError("a multiaddr", offset=3), UsageError("expected a multiaddr at offset 3"), 400),
        (ConfigError("not there", file="a", key="b"), ConfigError("a: b: not there"), 409),
        (PeerError("refused"), PeerError("refused"), 502),
        (Broken("gone"), Broken("gone"), 503),
        (TransportError("gone"), TransportError("gone"), 503),
        (TimeoutError("no answer within 10 s"), TimeoutError("no answer within 10 s"), 504),
        (PermissionError("needs CAP_NET_ADMIN"), PermissionError("needs CAP_NET_ADMIN"), 403),
        (PermissionError(13, "Permission denied", "/f"), PermissionError("/f: Permission denied"), 403),
        (WeftError("two\nlines"), WeftError("two lines"), 500),
        (TimeoutError(), TimeoutError("The other side did not answer in time"), 504),
    ],
    ids=lambda value: f"{type(value).__name__}" if isinstance(value, Exception) else str(value),
)
async def test_error_of_the_node_arrives_as_the_same_class(
    path: Path, raised: Exception, arrives: Exception, status: int
) -> None:
    engine = FakeEngine()
    engine.fails["ping"] = raised
    async with serving(engine, path):
        with pytest.raises(type(arrives)) as caught:
            await asyncio.to_thread(Client(path).call, peer_api.PING, Ping(peer="x"))
    assert type(caught.value) is type(arrives)
    assert str(caught.value) == str(arrives)
    assert next(kind.status for kind in KINDS if isinstance(raised, kind.raised)) == status


async def test_foreign_exception_is_logged_without_its_message_and_the_server_lives(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = FakeEngine()
    engine.fails["ping"] = ValueError("the key is s3cr3t")
    async with serving(engine, path):
        with caplog.at_level(logging.DEBUG), pytest.raises(WeftError, match="its log says where"):
            await asyncio.to_thread(Client(path).call, peer_api.PING, Ping(peer="x"))
        assert (await asyncio.to_thread(Client(path).call, node_api.INFO)).schema == 1
    assert "ValueError" in caplog.text
    assert "fake_engine.py" in caplog.text
    assert "s3cr3t" not in caplog.text


@pytest.mark.parametrize("dead", [False, True], ids=["no file", "left by a dead daemon"])
def test_no_daemon_is_said_with_what_to_do(path: Path, dead: bool) -> None:
    if dead:
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
    with pytest.raises(NoDaemon, match=r"no daemon answers at .*api\.sock; start it with `weft up`"):
        Client(path).call(node_api.INFO)


def test_too_long_path_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="can't connect"):
        Client(tmp_path / ("x" * 200)).call(node_api.INFO)


async def test_silent_daemon_is_given_up(path: Path) -> None:
    engine = FakeEngine()
    engine.blocks = asyncio.Event()
    async with serving(engine, path):
        with pytest.raises(TransportError, match=r"did not answer within 0\.05 s"):
            await asyncio.to_thread(Client(path).fetch, peer_api.CONNECT, Connect(target="/x"), patience_s=0.05)
        engine.blocks.set()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"", "went away"),
        (b"\xff\xfe garbage\r\n\r\n", "went away"),
        (b"HTTP/1.1 500 no\r\nContent-Length: 2\r\n\r\nno", "no weft daemon"),
        (b"HTTP/1.1 500 no\r\nContent-Type: application/problem+json\r\nContent-Length: 2\r\n\r\nno", "no weft daemon"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "another version"),
    ],
)
def test_something_else_on_the_socket_is_one_clear_error(path: Path, answer: bytes, says: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer_once() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(65536)
                client.sendall(answer)

        thread = threading.Thread(target=answer_once)
        thread.start()
        with pytest.raises(Broken, match=says):
            Client(path).call(node_api.INFO)
        thread.join()
