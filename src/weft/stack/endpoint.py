"""One end of a flow."""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple


class Endpoint(NamedTuple):
    """An address of the overlay, and a port."""

    address: bytes
    """4 bytes, or 16; all zero for any address."""
    port: int
    """0 to 65,535; 0 for any port."""

    @property
    def is_ipv4(self) -> bool:
        """Whether it is one of IPv4."""
        return len(self.address) == 4

    def __str__(self) -> str:
        text = str(ip_address(self.address))
        return f"{text}:{self.port}" if len(self.address) == 4 else f"[{text}]:{self.port}"
