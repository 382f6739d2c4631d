"""What a daemon does with programs that ask for sockets in ways that they should not."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

import weft
from tests.unit.api.fake_engine import FakeEngine, serving
from tests.unit.api.lent.test_attached import sockets_of
from tests.unit.api.node.test_node import echo, until
from weft.api.lent import lender, lending
from weft.api.loopback import Loopback

ASKED = b"GET /v0/sockets HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: weft-sockets\r\n\r\n"


async def asked(path: Path, request: bytes) -> tuple[bytes, dict[str, Any]]:
    """The head of a reply, and the problem in it."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request.replace(b"Connection: Upgrade", b"Connection: close"))
    head, _, body = (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")
    writer.close()
    return head, json.loads(body)


class Program:
    """Speaks to the daemon as a program would."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.descriptors: list[int] = []
        self._received = b""

    def say(self, **message: Any) -> None:
        self.socket.send(json.dumps(message).encode() + b"\n")

    async def hear(self) -> dict[str, Any] | None:
        """The next message; None at the end."""
        while b"\n" not in self._received:
            try:
                data, descriptors, _, _ = socket.recv_fds(self.socket, 4096, 16)
            except BlockingIOError:
                await asyncio.sleep(0.005)
                continue
            except ConnectionError:
                return None
            self.descriptors += descriptors
            if not data:
                return None
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        told: dict[str, Any] = json.loads(line)
        return told


@asynccontextmanager
async def program(path: Path) -> AsyncIterator[Program]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, str(path))
        await loop.sock_sendall(sock, ASKED)
        head = b""
        while b"\r\n\r\n" not in head:
            head += await asyncio.wait_for(loop.sock_recv(sock, 1), 10)
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols")
        assert b"Upgrade: weft-sockets" in head
        made = Program(sock)
        try:
            yield made
        finally:
            for descriptor in made.descriptors:
                os.close(descriptor)


# --- who comes to the wrong place ---


async def test_who_does_not_leave_http_is_told_how(daemon: weft.Node, tmp_path: Path) -> None:
    for upgrade in (b"Upgrade: websocket\r\n", b""):
        request = ASKED.replace(b"Upgrade: weft-sockets\r\n", upgrade)
        head, problem = await asked(tmp_path / "api.sock", request)
        assert head.startswith(b"HTTP/1.1 426 ")
        assert b"Upgrade: weft-sockets" in head
        assert "weft-sockets" in problem["detail"]


async def test_node_without_a_stack_lends_nothing(tmp_path: Path) -> None:
    async with serving(FakeEngine(), tmp_path / "api.sock"):
        head, problem = await asked(tmp_path / "api.sock", ASKED)
    assert head.startswith(b"HTTP/1.1 400 ")
    assert problem["type"] == "urn:weft:problem:usage"
    assert "no stack" in problem["detail"]


async def test_descriptors_are_passed_by_the_unix_socket_alone(tmp_path: Path) -> None:
    with Loopback("127.0.0.1:0", tmp_path / "token") as loopback:
        async with serving(FakeEngine(), tmp_path / "api.sock", loopback):
            host, port = loopback.socket.getsockname()
            reader, writer = await asyncio.open_connection(host, port)
            token = (tmp_path / "token").read_bytes().strip()
            writer.write(ASKED.replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer " + token + b"\r\n\r\n"))
            assert (await reader.readline()).startswith(b"HTTP/1.1 403 ")
            writer.close()


async def test_one_program_too_many_is_told(daemon: weft.Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lending, "MAX_PROGRAMS", 1)
    async with program(tmp_path / "api.sock"):
        head, _ = await asked(tmp_path / "api.sock", ASKED)
        assert head.startswith(b"HTTP/1.1 503 ")


# --- who says what makes no sense ---


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense\n",
        b"{}\n",
        b'{"type":"connect"}\n',
        b'{"type":"connect","id":0,"remote":["fc00::1",80]}\n',
        b'{"type":"connect","id":1,"remote":["fc00::1",65536]}\n',
        b'{"type":"listen","id":1,"local":["::",80],"more":1}\n',
        b'{"type":"destroy","id":1}\n',
        b"\xff\n",
        b"[" * 3000 + b"\n",
        b"x" * 20_000,
    ],
)
async def test_what_is_no_message_ends_the_program(daemon: weft.Node, tmp_path: Path, said: bytes) -> None:
    async with program(tmp_path / "api.sock") as rude, program(tmp_path / "api.sock") as polite:
        rude.say(type="listen", id=1, local=("::", 80))
        assert await rude.hear() is not None
        rude.socket.send(said)
        assert await asyncio.wait_for(rude.hear(), 10) is None
        await until(lambda: sockets_of(daemon) == 0)
        polite.say(type="listen", id=1, local=("::", 80))
        assert (await polite.hear()) == {"type": "listening", "id": 1, "local": ["::", 80]}


@pytest.mark.parametrize(
    ("message", "failure"),
    [
        ({"type": "connect", "id": 3, "remote": ("nowhere", 80)}, "NO_ROUTE"),
        ({"type": "connect", "id": 3, "remote": ("10.0.0.1", 80)}, "NO_ROUTE"),
        ({"type": "connect", "id": 2, "remote": ("fc00:1::1", 80)}, "NO_ROOM"),
        ({"type": "connect", "id": 1, "remote": ("fc00:1::1", 80)}, "NO_ROOM"),
        ({"type": "listen", "id": 3, "local": ("::", 80)}, "IN_USE"),
        ({"type": "listen", "id": 3, "local": ("fc00:1::1", 80)}, "NOT_OURS"),
        ({"type": "open", "id": 3, "local": ("fc00:1::1", 80)}, "NOT_OURS"),
    ],
)
async def test_what_can_not_be_done_has_failed(
    daemon: weft.Node, tmp_path: Path, message: dict[str, Any], failure: str
) -> None:
    async with program(tmp_path / "api.sock") as asking:
        asking.say(type="listen", id=1, local=("::", 80))
        await asking.hear()
        asking.say(**message)
        assert await asking.hear() == {"type": "failed", "id": message["id"], "failure": failure}


async def test_what_ends_without_a_word_is_not_taken_for_the_whole(
    daemon: weft.Node, bob: weft.Node, tmp_path: Path
) -> None:
    for is_killed in (False, True):
        accepted: asyncio.Queue[asyncio.StreamReader] = asyncio.Queue()
        server = await bob.start_server(lambda reader, _, them=accepted: them.put_nowait(reader), port=80)
        async with program(tmp_path / "api.sock") as one:
            one.say(type="connect", id=1, remote=[str(bob.address), 80])
            told = await one.hear()
            assert told is not None
            assert told["type"] == "opened"
            theirs = await asyncio.wait_for(accepted.get(), 10)
            # The kernel closes what a killed process had open in the order of its descriptors.
            with socket.socket(fileno=one.descriptors.pop()) as stream:
                stream.send(b"a part")
            assert await asyncio.wait_for(theirs.readexactly(6), 10) == b"a part"
            rest = asyncio.ensure_future(theirs.read())
            await asyncio.sleep(0.1)
            assert not rest.done()
            if not is_killed:
                one.say(type="end", id=1)
                assert await asyncio.wait_for(rest, 10) == b""
        if is_killed:
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(rest, 10)
        server.close()


async def test_what_is_said_of_no_socket_is_passed_over(daemon: weft.Node, tmp_path: Path) -> None:
    async with program(tmp_path / "api.sock") as asking:
        for message in (
            {"type": "close"},
            {"type": "end"},
            {"type": "abort"},
            {"type": "option", "name": "join", "value": "ff02::5"},
        ):
            asking.say(id=7, **message)
        asking.say(type="keepalive", id=7, times=None)
        asking.say(type="listen", id=9, local=("::", 0))
        told = await asking.hear()
        assert told is not None
        assert (told["type"], told["id"]) == ("listening", 9)


async def test_one_socket_too_many_is_not_lent(
    daemon: weft.Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lender, "MAX_SOCKETS", 3)
    async with program(tmp_path / "api.sock") as asking:
        for number in (1, 3, 5, 7):
            asking.say(type="open", id=number)
        told = [await asking.hear() for _ in range(4)]
        assert [each and each["type"] for each in told] == ["opened"] * 3 + ["failed"]
        asking.say(type="close", id=3)
        asking.say(type="open", id=9)
        assert (await asking.hear() or {})["type"] == "opened"


async def test_who_does_not_hear_keeps_others_waiting_in_the_backlog(
    daemon: weft.Node, bob: weft.Node, tmp_path: Path
) -> None:
    async with program(tmp_path / "api.sock") as deaf:
        deaf.say(type="listen", id=1, local=("::", 80), backlog=4)
        await deaf.hear()
        opened = [asyncio.ensure_future(bob.open_connection(daemon, 80)) for _ in range(40)]
        await asyncio.sleep(0.5)
        assert sockets_of(daemon) <= 60
        deaf.say(type="close", id=1)
        for each in opened:
            each.cancel()
        for each in await asyncio.gather(*opened, return_exceptions=True):
            if not isinstance(each, BaseException):
                each[1].close()
    await until(lambda: sockets_of(daemon) == 0)


async def test_random_messages_do_no_harm(daemon: weft.Node, bob: weft.Node, tmp_path: Path) -> None:
    random = Random(4)
    await bob.start_server(echo, port=7)
    places: list[Any] = [("::", 0), ("::", 80), (str(bob.address), 7), (str(bob.address), 9), ("10.0.0.1", 7), None]
    values: list[Any] = [True, False, "ff02::5", "10.0.0.1", "nonsense"]
    for _ in range(5):
        async with program(tmp_path / "api.sock") as wild:
            for _ in range(150):
                number = random.choice((1, 3, 5, 7, 9, 2, 4))
                wild.say(
                    **random.choice(
                        [
                            {"type": "connect", "id": number, "remote": random.choice(places[:-1])},
                            {"type": "listen", "id": number, "local": random.choice(places[:-1])},
                            {"type": "open", "id": number, "local": random.choice((None, ("::", 0)))},
                            {"type": "option", "id": number, "name": "join", "value": random.choice(values)},
                            {"type": "option", "id": number, "name": "no_delay", "value": random.choice(values)},
                            {"type": "keepalive", "id": number, "times": random.choice((None, (1.0, 2.0, 3)))},
                            {"type": "close", "id": number},
                            {"type": "end", "id": number},
                            {"type": "abort", "id": number},
                        ]
                    )
                )
                if random.random() < 0.2:
                    await asyncio.sleep(0.002)
                for descriptor in wild.descriptors[:]:
                    if random.random() < 0.1:
                        wild.descriptors.remove(descriptor)
                        os.close(descriptor)
        await until(lambda: sockets_of(daemon) == 0)
    async with weft.Node.attach(tmp_path / "api.sock") as node:
        reader, writer = await node.open_connection("bob", 7)
        writer.write(b"still here")
        assert await reader.readexactly(10) == b"still here"
        writer.close()
