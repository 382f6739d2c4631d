"""The daemon's sockets for programs in every language: messages on a Unix socket."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weft.netd.client import Client, NetdError
    from weft.netd.client_socket import Socket

__all__ = ["Client", "NetdError", "Socket"]

_PLACES = {"Client": "client", "NetdError": "client", "Socket": "client_socket"}


def __getattr__(name: str) -> object:
    # The daemon serves clients, and needs none.
    if name in _PLACES:
        return getattr(import_module(f"weft.netd.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
