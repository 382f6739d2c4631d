"""A chat without a server: everybody is connected with a few others, and passes on what is new.

python chat.py NAME                     begins one, and says where it is
python chat.py NAME MULTIADDR ...       joins, by way of one or more who are in it

Each line that is typed is said. test_chat.py tests it in a simulated network.
"""

import asyncio
import json
import secrets
import sys
from collections import deque
from contextlib import suppress

import weft

PORT = 1234
REMEMBERED = 1000


class Chat:
    """One who takes part; `node` is a `weft.Node`, or whatever has its sockets."""

    def __init__(self, node, name, show=print):
        self.node = node
        self.name = name
        self.show = show
        self.neighbours = {}  # to whom we write, and the task that listens to them
        self.seen = deque(maxlen=REMEMBERED)

    async def start(self):
        await self.node.start_server(self.meet, port=PORT)

    async def join(self, peer):
        self.meet(*await self.node.open_connection(peer, PORT))

    def meet(self, reader, writer):
        """Somebody called, or was called by us; from here on there is no difference."""
        self.neighbours[writer] = asyncio.create_task(self.listen(reader, writer))

    def say(self, text):
        self.hear({"id": secrets.token_hex(8), "name": self.name, "text": text})

    def hear(self, message):
        """Take a message from anywhere; it may come along several ways, and counts once."""
        line = f"{message['name']}: {message['text']}"
        if message["id"] in self.seen or not line.isprintable():
            return
        self.seen.append(message["id"])
        self.show(line)
        for writer in self.neighbours:
            writer.write(json.dumps(message).encode() + b"\n")

    async def listen(self, reader, writer):
        try:
            async for line in reader:
                self.hear(json.loads(line))
        except (OSError, ValueError, KeyError, TypeError):
            pass  # the connection broke; or it was no message, and we do not talk to such people
        finally:
            del self.neighbours[writer]
            writer.close()


async def main(name, *peers):
    async with weft.Node() as node:
        chat = Chat(node, name, show=lambda line: print(line, flush=True))
        await chat.start()
        for multiaddr in peers:
            await chat.join(await node.connect_peer(multiaddr))
        print(node.multiaddrs[0], flush=True)
        chat.say("is here")
        while line := await asyncio.to_thread(sys.stdin.readline):
            chat.say(line.rstrip())


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(__doc__)
    with suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
