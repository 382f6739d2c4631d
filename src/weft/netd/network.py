"""What netd needs of the node that it serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from weft.engine.status import Interface
from weft.io.backend import Backend


class Network(Protocol):
    """A node; its methods are called on the loop on which it runs."""

    @property
    def backend(self) -> Backend | None:
        """Where its sockets come from; None while it has no interface."""

    def interface(self) -> Interface:
        """Its interface."""

    async def resolve(self, name: str, family: int) -> Sequence[bytes]:
        """Look up a name.

        Args:
            name: of a host or a peer, or an address.
            family: `AF_UNSPEC`, `AF_INET` or `AF_INET6`.

        Returns:
            Addresses of 4 or 16 bytes, at least one.

        Raises:
            socket.gaierror: there is none, or it can't be told now.
        """
