"""Autobahn's test suite for WebSockets, with two nodes between it and what it tests; for people, not for `make test`.

    python -m tests.interop.autobahn FOLDER CASES WSTEST…

`WSTEST…` is how the suite's command is started, which needs Python 2; `CASES` are its patterns, such as `*` or
`5.*,7.*`; its reports go into FOLDER. It tests what is served with `serve_app`, of ASGI and of aiohttp, and two clients
in the network: httpx2's of `node.http()`, and aiohttp's. Prints the cases by what came of them.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx2
from httpx2.websockets import AsyncWebSocketSession, HTTPXWSException
from wsproto.events import BytesMessage, TextMessage

import weft
from tests.unit.api.streams.test_libraries import Connector
from tests.unit.clients.test_websocket import echo, echo_of_aiohttp
from weft.clients.forward import Forwarder

HERE = "127.0.0.1"
SUITE = 9001
SERVED = {"asgi": 9011, "aiohttp": 9012}
NONE: dict[str, Any] = {"exclude-agent-cases": {}}
LARGEST = 2**26
"""Of the suite's messages, the longest has 16 MiB."""


@asynccontextmanager
async def nodes() -> AsyncIterator[tuple[weft.Node, weft.Node]]:
    async with weft.Node() as alice, weft.Node() as bob:
        await alice.connect_peer(bob.multiaddrs[0], name="bob")
        yield alice, bob


async def run(*words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.DEVNULL)


async def test_servers(folder: Path, cases: str, command: list[str]) -> None:
    async with nodes() as (alice, bob):
        apps = {"asgi": echo, "aiohttp": echo_of_aiohttp()}
        for port, app in enumerate(apps.values(), 80):
            await bob.serve_app(app, port)
        loop: Any = asyncio.get_running_loop()
        for inner, outer in zip(range(80, 82), SERVED.values(), strict=True):
            await Forwarder.listen(loop, HERE, outer, alice, ("bob", inner), told=print)
        told = {
            "outdir": str(folder / "servers"),
            "servers": [{"agent": name, "url": f"ws://{HERE}:{port}/chat"} for name, port in SERVED.items()],
            "cases": cases.split(","),
            "exclude-cases": [],
            **NONE,
        }
        (folder / "servers.json").write_text(json.dumps(told))
        process = await run(*command, "-m", "fuzzingclient", "-s", str(folder / "servers.json"))
        await process.wait()


async def test_clients(folder: Path, cases: str, command: list[str]) -> None:
    url = f"ws://{HERE}:{SUITE}"
    told = {"url": url, "outdir": str(folder / "clients"), "cases": cases.split(","), "exclude-cases": [], **NONE}
    (folder / "clients.json").write_text(json.dumps(told))
    process = await run(*command, "-m", "fuzzingserver", "-u", "0", "-s", str(folder / "clients.json"))
    async with nodes() as (alice, bob):
        loop: Any = asyncio.get_running_loop()
        await Forwarder.listen(bob, None, SUITE, loop, (HERE, SUITE), told=print)
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection(HERE, SUITE)
                writer.close()
                break
            await asyncio.sleep(0.1)
        for talk in (talk_by_httpx2, talk_by_aiohttp):
            agent = talk.__name__.rpartition("_")[2]
            count = int((await talk(alice, "/getCaseCount"))[0])
            for number in range(1, count + 1):
                await talk(alice, f"/runCase?case={number}&agent={agent}")
            await talk(alice, f"/updateReports?agent={agent}")
    process.terminate()
    await process.wait()


async def talk_by_httpx2(node: weft.Node, path: str) -> list[str]:
    """Say what is heard, or keep it if it is about the suite itself, until it is over."""
    heard: list[str] = []
    async with node.http(timeout=60) as client:
        with suppress(HTTPXWSException, httpx2.TransportError, ExceptionGroup):
            async with client.websocket(f"ws://bob:{SUITE}{path}", max_message_size_bytes=LARGEST) as socket:
                await _answer(socket, heard, speaks="case=" in path)
    return heard


async def _answer(socket: AsyncWebSocketSession, heard: list[str], *, speaks: bool) -> None:
    while True:
        message = await socket.receive()
        match message:
            case TextMessage() if not speaks:
                heard.append(message.data)
            case TextMessage():
                await socket.send_text(message.data)
            case BytesMessage():
                await socket.send_bytes(bytes(message.data))


async def talk_by_aiohttp(node: weft.Node, path: str) -> list[str]:
    """The same."""
    heard: list[str] = []
    network: Any = SimpleNamespace(streams=node)
    async with aiohttp.ClientSession(connector=Connector(network)) as session:
        with suppress(aiohttp.ClientError, OSError):
            url = f"http://bob:{SUITE}{path}"
            async with session.ws_connect(url, compress=15, max_msg_size=LARGEST) as socket:
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT and "case=" not in path:
                        heard.append(message.data)
                    elif message.type is aiohttp.WSMsgType.TEXT:
                        await socket.send_str(message.data)
                    elif message.type is aiohttp.WSMsgType.BINARY:
                        await socket.send_bytes(message.data)
    return heard


def show(folder: Path) -> None:
    """The cases by agent and outcome."""
    for index in sorted(folder.glob("*/index.json")):
        for agent, cases in json.loads(index.read_text()).items():
            by_outcome = defaultdict(list)
            for case, told in cases.items():
                by_outcome[told["behavior"], told["behaviorClose"]].append(case)
            print(f"{index.parent.name}: {agent}")
            for (outcome, closing), names in sorted(by_outcome.items()):
                listed = f": {', '.join(sorted(names))}" if (outcome, closing) != ("OK", "OK") else ""
                print(f"  {outcome}, closing {closing}: {len(names)}{listed}")


async def main(folder: Path, cases: str, command: list[str]) -> None:
    await test_servers(folder, cases, command)
    await test_clients(folder, cases, command)
    show(folder)


if __name__ == "__main__":
    reports = Path(sys.argv[1]).absolute()
    reports.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(reports, sys.argv[2], sys.argv[3:]))
