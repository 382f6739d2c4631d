"""A node for code that blocks: the same network, by sockets as the `socket` module has them.

    with weft.blocking.Node() as node:
        peer = node.connect_peer("/ip4/192.0.2.1/udp/1312/p2p/12D3KooW…")
        with node.create_connection((peer, 80), timeout=10) as stream:
            stream.sendall(b"hello")

The node runs in a thread of its own (background.py). What its sockets send and receive waits where that thread and
those of the program meet (meeting.py, pipe.py); only what opens or changes a socket is asked of the node's thread and
waited for.
"""

from typing import TYPE_CHECKING

from weft.blocking.node import AttachedNode, Node, attach

if TYPE_CHECKING:
    from weft.blocking.adapter import HTTPAdapter
    from weft.blocking.pools import PoolManager

__all__ = ["AttachedNode", "HTTPAdapter", "Node", "PoolManager", "attach"]


def __getattr__(name: str) -> object:
    # They stand on packages of an extra.
    from weft.clients.extras import extra

    if name == "HTTPAdapter":
        with extra("requests"):
            from weft.blocking.adapter import HTTPAdapter
        return HTTPAdapter
    if name == "PoolManager":
        with extra("requests"):
            from weft.blocking.pools import PoolManager
        return PoolManager
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
