"""One end of HTTP, SFTP and SOCKS5, beside what stream_ends.py does: over the kernel's sockets, or a rootless node.

Usage: python -m bench.generators.client_ends kernel
       python -m bench.generators.client_ends node
Client and server of HTTP are weft's on both. SFTP is weft's over a node, and asyncssh as it comes over the kernel.

| port | what |
|---|---|
| HTTP | `/` answers SMALL, `/large` answers LARGE_BYTES |
| FILES | SFTP of the folder that was said |
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast

import asyncssh
from aiohttp import web

import weft
from bench.generators.stream_ends import End, NodeEnd, Result
from bench.generators.verbs import Verb, obey
from weft.clients.http.client import http_client
from weft.clients.network import Network
from weft.clients.proxy.proxy import serve_proxy
from weft.clients.serving import serve_app
from weft.clients.sftp.tree import Trees
from weft.clients.ssh.client import Login, ssh_connection
from weft.clients.ssh.hosts import KnownHosts
from weft.clients.ssh.server import serve_ssh

HTTP, FILES = 7010, 7011
SMALL = b"warp and weft\n"
LARGE_BYTES = 64 << 20
PIECE = bytes(256 * 1024)
OVERLAY = "fc00::/8"
EVERYBODY = (ip_network("0.0.0.0/0"), ip_network("::/0"))

Copy = Callable[[asyncssh.SFTPClient], Awaitable[Any]]


def application() -> web.Application:
    """What is served over HTTP."""

    async def small(_request: web.Request) -> web.Response:
        return web.Response(body=SMALL)

    async def large(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = LARGE_BYTES
        await response.prepare(request)
        for _ in range(LARGE_BYTES // len(PIECE)):
            await response.write(PIECE)
        return response

    app = web.Application()
    app.add_routes([web.get("/", small), web.get("/large", large)])
    return app


class Clients:
    """What is done over a network.

    Args:
        network: over which.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.servers: list[Any] = []

    def verbs(self) -> dict[str, Verb]:
        """All that it can be told."""
        return {
            "serve_http": self.serve_http,
            "request": self.request,
            "fetch": self.fetch,
            "serve_files": self.serve_files,
            "get": self.get,
            "put": self.put,
        }

    async def serve_http(self, host: str | None = None) -> Result:
        """Serve the application."""
        self.servers.append(await serve_app(self.network, application(), HTTP, host))
        return {}

    async def request(self, host: str, clients: int, seconds: float) -> Result:
        """Ask for something small again and again, so many at a time, over connections that are kept."""
        started = time.monotonic()
        async with http_client(self.network) as client:

            async def ask() -> int:
                count = 0
                while time.monotonic() < started + seconds:
                    answer = await client.get(url(host, "/"))
                    assert answer.content == SMALL
                    count += 1
                return count

            count = sum(await asyncio.gather(*(ask() for _ in range(clients))))
        return {"count": count, "seconds": time.monotonic() - started}

    async def fetch(self, host: str, seconds: float) -> Result:
        """Take something large, as it comes, again and again over one connection."""
        arrived = 0
        async with http_client(self.network) as client:
            # The connection is open already, as that of a stream is.
            await client.get(url(host, "/"))
            started = time.monotonic()
            while time.monotonic() < started + seconds:
                async with client.stream("GET", url(host, "/large")) as answer:
                    async for part in answer.aiter_raw():
                        arrived += len(part)
        return {"bytes": arrived, "seconds": time.monotonic() - started}

    async def serve_files(self, folder: str, host: str | None = None) -> Result:
        """Serve a folder."""
        key = asyncssh.generate_private_key("ssh-ed25519")
        self.servers.append(await serve_ssh(self.network, EVERYBODY, key=key, port=FILES, host=host, root=Path(folder)))
        return {}

    async def get(self, host: str, there: str, here: str) -> Result:
        """Copy a file from there."""
        return await self.copied(host, lambda sftp: Trees(sftp, host).download([there], Path(here)))

    async def put(self, host: str, here: str, there: str) -> Result:
        """Copy a file to there."""
        return await self.copied(host, lambda sftp: Trees(sftp, host).upload([Path(here)], there))

    async def copied(self, host: str, copy: Copy) -> Result:
        """How long that takes, once logged in."""
        async with (
            ssh_connection(self.network, host, FILES, login=Login(), hosts=KnownHosts(), trust=True) as connection,
            connection.start_sftp_client() as sftp,
        ):
            started = time.monotonic()
            await copy(sftp)
            return {"seconds": time.monotonic() - started}


class _AnyName(asyncssh.SSHServer):
    """Lets everybody in."""

    def begin_auth(self, username: str) -> bool:
        return False


class KernelClients(Clients):
    """The same over the kernel's sockets, with asyncssh as it comes."""

    async def serve_files(self, folder: str, host: str | None = None) -> Result:
        def files(channel: Any) -> asyncssh.SFTPServer:
            return asyncssh.SFTPServer(channel, chroot=folder.encode())

        key = asyncssh.generate_private_key("ssh-ed25519")
        self.servers.append(
            await asyncssh.listen(
                host, FILES, config=None, server_host_keys=[key], server_factory=_AnyName, sftp_factory=files
            )
        )
        return {}

    async def get(self, host: str, there: str, here: str) -> Result:
        return await self.copied(host, lambda sftp: sftp.get(there, here))

    async def put(self, host: str, here: str, there: str) -> Result:
        return await self.copied(host, lambda sftp: sftp.put(here, there))

    async def copied(self, host: str, copy: Copy) -> Result:
        async with (
            asyncssh.connect(
                host, FILES, config=None, known_hosts=None, client_keys=None, agent_path=None, username="anybody"
            ) as connection,
            connection.start_sftp_client() as sftp,
        ):
            started = time.monotonic()
            await copy(sftp)
            return {"seconds": time.monotonic() - started}


def url(host: str, path: str) -> str:
    """Of something on that host."""
    return f"http://{f'[{host}]' if ':' in host else host}:{HTTP}{path}"


async def over_kernel() -> None:
    """Work over the kernel's sockets."""
    clients = KernelClients(cast(Network, asyncio.get_running_loop()))
    await obey(End(asyncio).verbs() | clients.verbs())


async def over_node() -> None:
    """Work over a node."""
    async with weft.Node() as node:

        async def serve_socks() -> Result:
            return {"port": (await serve_proxy(node, lambda: (OVERLAY,), port=0)).port}

        await obey(NodeEnd(node).verbs() | Clients(node).verbs() | {"serve_socks": serve_socks})


if __name__ == "__main__":
    asyncio.run({"kernel": over_kernel, "node": over_node}[sys.argv[1]]())
