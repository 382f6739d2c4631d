"""`node.http()` and `node.serve_app()` of nodes in one process, over the loopback interface."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

import weft
from tests.unit.api.node.conftest import LISTEN
from weft.errors import UsageError


@asynccontextmanager
async def pair() -> Any:
    """Two nodes; the first knows the second as bob."""
    async with weft.Node(listen=LISTEN) as alice, weft.Node(listen=LISTEN) as bob:
        await alice.connect_peer(bob.multiaddrs[0], name="bob")
        yield alice, bob


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Says who asks."""
    if scope["type"] != "http":
        raise ValueError
    peer = scope["extensions"]["weft"]["peer"]
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": str(peer.id).encode()})


def of_aiohttp() -> web.Application:
    async def hello(request: web.Request) -> web.Response:
        return web.Response(text=str(request.get_extra_info("peer").id))

    app = web.Application()
    app.router.add_get("/", hello)
    return app


@pytest.mark.parametrize("kind", ["asgi", "aiohttp"])
async def test_who_asks_is_known_and_a_peer_is_found_by_name_id_and_address(kind: str) -> None:
    async with pair() as (alice, bob):
        server = await bob.serve_app(asgi if kind == "asgi" else of_aiohttp(), 80)
        async with alice.http() as client:
            for host in ("bob", "bob.weft", bob.identity, f"{bob.identity.to_dns_label()}.weft", f"[{bob.address}]"):
                assert (await client.get(f"http://{host}/")).text == str(alice.identity)
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("host", ["localhost", "own"])
async def test_node_asks_itself(host: str) -> None:
    async def hello(request: web.Request) -> web.Response:
        return web.Response(text=str(request.get_extra_info("peer")))

    app = web.Application()
    app.router.add_get("/", hello)
    async with weft.Node(listen=LISTEN) as node, node.http() as client:
        server = await node.serve_app(app, 80)
        url = f"http://[{node.address}]/" if host == "own" else f"http://{host}/"
        assert (await client.get(url)).text == "None"
        server.close()
        await server.wait_closed()


async def test_what_is_served_ends_with_the_node_and_in_order() -> None:
    events = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        for stage in ("startup", "shutdown"):
            assert await receive() == {"type": f"lifespan.{stage}"}
            events.append(stage)
            await send({"type": f"lifespan.{stage}.complete"})

    async with weft.Node(listen=LISTEN) as node:
        await node.serve_app(app, 80)
        early = await node.serve_app(app, 81)
        early.close()
        await early.wait_closed()
        assert events == ["startup", "startup", "shutdown"]
        await node.serve_app(of_aiohttp(), 82)
    assert events == ["startup", "startup", "shutdown", "shutdown"]


async def test_what_is_being_answered_when_a_node_ends_is_answered() -> None:
    begun = asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        begun.set()
        await asyncio.sleep(0.2)
        return web.Response(text="done")

    app = web.Application()
    app.router.add_get("/", slow)
    async with weft.Node(listen=LISTEN) as alice:
        async with weft.Node(listen=LISTEN) as bob:
            await alice.connect_peer(bob.multiaddrs[0], name="bob")
            await bob.serve_app(app, 80)
            client = alice.http()
            asked = asyncio.create_task(client.get("http://bob/"))
            await begun.wait()
        assert (await asked).text == "done"
        await client.aclose()


async def test_node_that_does_not_run_serves_nothing_and_asks_nobody() -> None:
    node = weft.Node(listen=LISTEN)
    with pytest.raises(UsageError, match="does not run"):
        await node.serve_app(of_aiohttp(), 80)
    async with node.http() as client:
        with pytest.raises(UsageError, match="does not run"):
            await client.get("http://bob/")
