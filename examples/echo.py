"""An echo server in the network, and its client.

python echo.py                          serves, and says where it is
python echo.py MULTIADDR WORD ...       on any machine that reaches it: sends words there and back
"""

import asyncio
import sys
from contextlib import suppress

import weft

PORT = 7


async def echo(reader, writer):
    # Who calls is known by their key: nobody else can have their address.
    host, *_ = writer.get_extra_info("peername")
    print(f"{host} calls", flush=True)
    while data := await reader.read(64 * 1024):
        writer.write(data)
        await writer.drain()  # as long as the other side does not read, neither do we
    writer.close()


async def serve():
    async with weft.Node() as node:
        # Listening is the permission: others reach this port, and nothing else of this machine.
        server = await node.start_server(echo, port=PORT)
        print(node.multiaddrs[0], flush=True)
        await server.serve_forever()


async def ask(multiaddr, text):
    async with weft.Node() as node:
        peer = await node.connect_peer(multiaddr)
        reader, writer = await node.open_connection(peer, PORT)
        writer.write(text.encode())
        writer.write_eof()  # there is no more to come; what was sent still comes back
        print((await reader.read()).decode())
        writer.close()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(ask(sys.argv[1], " ".join(sys.argv[2:])) if sys.argv[1:] else serve())
