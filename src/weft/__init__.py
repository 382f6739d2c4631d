"""weft: programs, machines and browsers in one encrypted network, peer to peer."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weft import blocking
    from weft.api.node import Node

__all__ = ["Node", "__version__", "blocking"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Nobody pays for a node who only asks for the version, as each command does.
    if name == "Node":
        from weft.api.node import Node

        return Node
    if name == "blocking":
        return importlib.import_module("weft.blocking")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
