"""Two nodes in one program; each could be anywhere, and neither needs any right."""

import asyncio

import weft


async def greet(reader, writer):
    writer.write(b"hello from bob\n")
    writer.close()


async def main():
    async with weft.Node() as alice, weft.Node() as bob:
        await bob.start_server(greet, port=80)
        await alice.connect_peer(bob.multiaddrs[0])
        reader, _ = await alice.open_connection(bob, 80)
        print((await reader.readline()).decode(), end="")


asyncio.run(main())
