"""A calculator for those in the network, by code that blocks: threads, and sockets as Python's socket module has them.

python blocking.py                        serves, and says where it is
python blocking.py MULTIADDR 1 2 3.5      on any machine that reaches it: asks for the sum
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import weft

PORT = 1202
GUESTS = 16  # at once; who comes then waits


def answer(stream):
    with stream, stream.makefile("rw", encoding="utf-8") as file:
        for line in file:
            try:
                file.write(f"{sum(map(float, line.split())):g}\n")
            except ValueError:
                file.write("numbers, please\n")
            file.flush()


def serve():
    # The node ends first, and with it whatever the threads wait for.
    with ThreadPoolExecutor(GUESTS) as threads, weft.blocking.Node() as node:
        listener = node.create_server(("", PORT))
        print(node.multiaddrs[0], flush=True)
        while True:
            stream, _ = listener.accept()
            threads.submit(answer, stream)


def ask(multiaddr, numbers):
    with weft.blocking.Node() as node:
        peer = node.connect_peer(multiaddr)
        with node.create_connection((peer, PORT), timeout=10) as stream:
            stream.sendall(" ".join(numbers).encode() + b"\n")
            with stream.makefile(encoding="utf-8") as file:
                print(file.readline(), end="")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        match sys.argv[1:]:
            case []:
                serve()
            case [multiaddr, *numbers] if numbers:
                ask(multiaddr, numbers)
            case _:
                sys.exit(__doc__)
