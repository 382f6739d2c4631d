"""Whom a node asks for names."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest

from weft.engine import keys
from weft.engine.config import Config, Fc00Section
from weft.engine.resolver import ServerResolver
from weft.engine.verbs.names import QUESTIONS_AT_ONCE, Names
from weft.stack.dns import resolver as machine

BOB = bytes([0xFC]) + bytes(15)
SERVER = "fc00::53"


def make(*servers: str, backend: object = None) -> tuple[Names, Any]:
    interface = SimpleNamespace(backend=backend) if backend is not None else None
    life = SimpleNamespace(config=Config(fc00=Fc00Section(dns=servers)), interface=interface)
    return Names(cast("Any", life), lambda name: (BOB,) if name == "bob" else ()), life


def test_as_many_servers_can_be_configured_as_are_asked() -> None:
    assert keys.MAX_SERVERS == machine.MAX_SERVERS


async def test_what_is_known_here_is_asked_of_nobody() -> None:
    for servers in ((), (SERVER,)):
        names, _ = make(*servers)
        assert await names.resolve("bob.weft") == [BOB]
        assert await names.resolve("192.0.2.1") == [bytes([192, 0, 2, 1])]


async def test_without_interface_servers_are_not_asked_and_the_system_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lambda *args, **_: asked.append(args))
    names, _ = make(SERVER)
    with pytest.raises(socket.gaierror) as caught:
        await names.resolve("www.example")
    assert caught.value.errno == socket.EAI_AGAIN
    assert asked == []


async def test_system_is_asked_a_few_things_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go = [], asyncio.Event()

    async def getaddrinfo(host: str, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        await go.wait()
        return [(0, 0, 0, "", ("192.0.2.1", 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    names, _ = make()
    tasks = [asyncio.create_task(names.resolve(f"{number}.example")) for number in range(10)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(asked) == QUESTIONS_AT_ONCE
    go.set()
    assert await asyncio.gather(*tasks) == [[bytes([192, 0, 2, 1])]] * 10


async def test_other_servers_or_another_interface_are_asked_from_then_on() -> None:
    backend = SimpleNamespace(clock=lambda: 0, wake=lambda: None)
    names, life = make(SERVER, backend=backend)
    first = names._current()
    assert isinstance(first, ServerResolver)
    assert names._current() is first
    life.config = Config(fc00=Fc00Section(dns=(SERVER, "fc00::54")))
    second = names._current()
    assert second is not first
    life.interface = SimpleNamespace(backend=SimpleNamespace(clock=lambda: 0, wake=lambda: None))
    third = names._current()
    assert isinstance(third, ServerResolver)
    assert third is not second
    life.config = Config()
    assert not isinstance(names._current(), ServerResolver)
