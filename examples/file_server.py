"""A folder on the web, for those in the network.

python file_server.py FOLDER            serves it, and says where it is
python file_server.py MULTIADDR PATH    fetches a file, and writes it to standard output

It is a web server like any other: aiohttp, with the node's sockets in place of the system's. Where a node has a TUN,
a browser opens http://[ADDRESS]/.
"""

import asyncio
import sys
from contextlib import suppress
from urllib.parse import quote

from aiohttp import web

import weft

PORT = 80


async def serve(folder):
    app = web.Application()
    # aiohttp gives away nothing outside the folder, neither by way of `..` nor of a symbolic link.
    app.router.add_static("/", folder, show_index=True)
    runner = web.AppRunner(app)
    await runner.setup()
    async with weft.Node() as node:
        server = await node.create_server(runner.server, port=PORT)
        print(node.multiaddrs[0], flush=True)
        try:
            await server.serve_forever()
        finally:
            await runner.cleanup()


async def fetch(multiaddr, path):
    async with weft.Node() as node:
        peer = await node.connect_peer(multiaddr)
        reader, writer = await node.open_connection(peer, PORT)
        writer.write(f"GET /{quote(path)} HTTP/1.0\r\n\r\n".encode())
        status, *_ = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        if " 200 " not in status:
            sys.exit(f"{path}: {status}")
        while data := await reader.read(64 * 1024):
            sys.stdout.buffer.write(data)
        writer.close()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        match sys.argv[1:]:
            case [folder]:
                asyncio.run(serve(folder))
            case [multiaddr, path]:
                asyncio.run(fetch(multiaddr, path))
            case _:
                sys.exit(__doc__)
