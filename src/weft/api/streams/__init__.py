"""The overlay as programs on asyncio see it: transports, servers, TLS, names; on asyncio's loop and on uvloop."""

from weft.api.streams.ground import DescribePeer, Resolve
from weft.api.streams.pair import OverlayStreamWriter
from weft.api.streams.server import Server
from weft.api.streams.streams import Streams

__all__ = ["DescribePeer", "OverlayStreamWriter", "Resolve", "Server", "Streams"]
