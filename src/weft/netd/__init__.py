"""The daemon's sockets for programs in every language: messages on a Unix socket."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weft.netd.client import Client, NetdError, Socket

__all__ = ["Client", "NetdError", "Socket"]


def __getattr__(name: str) -> object:
    # The daemon serves clients, and needs none.
    if name in __all__:
        from weft.netd import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
