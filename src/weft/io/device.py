"""What the datapath needs of the interface that it joins to the network: a TUN, or a host inside the program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

Buffer = bytes | bytearray | memoryview

MAX_PACKET_BYTES = 65_535


class Read(Struct, frozen=True, gc=False):
    """One packet, or super-packet, that the device gave."""

    length: int
    kind: int
    """KIND_PACKET, KIND_TCP or KIND_UDP of `burst.records`."""
    segment: int
    """Payload bytes of each segment; 0 for a single packet."""
    is_partial: bool
    """The transport checksum is not computed."""


class Device(Protocol):
    """An interface of the overlay.

    Attributes:
        name: of the interface.
        offloads: what it takes, for people.
        takes_tcp: whether TCP super-packets can be written.
        takes_udp: whether UDP super-packets can be written.
        takes_partial: whether it completes transport checksums.
        needs_pseudo_header: whether a checksum that it is to complete must hold the sum of the pseudo-header; what it
            holds else is of no matter.
    """

    name: str
    offloads: list[str]
    takes_tcp: bool
    takes_udp: bool
    takes_partial: bool
    needs_pseudo_header: bool

    @property
    def drops(self) -> Counter[str]:
        """Packets that it did not take, by reason."""

    def read(self, into: memoryview) -> Read | None:
        """Read one packet.

        Args:
            into: room for MAX_PACKET_BYTES.

        Returns:
            What it is, or None when there is nothing (more).
        """

    def write(self, parts: Sequence[Buffer]) -> bool:
        """Write one packet whose checksums are all computed; the buffers are the caller's again afterwards.

        Args:
            parts: buffers whose concatenation is the packet.

        Returns:
            Whether it was taken; else it is counted.
        """

    def write_partial(self, parts: Sequence[Buffer], transport: int, checksum_offset: int) -> bool:
        """Write one packet whose transport checksum is not computed; needs `takes_partial`.

        Args:
            parts: as for `write`.
            transport: offset of the transport header.
            checksum_offset: of the checksum in that header.
        """

    def write_super(self, parts: Sequence[Buffer], kind: int, segment: int, transport: int, headers: int) -> bool:
        """Write one super-packet; needs `takes_tcp` or `takes_udp`.

        Args:
            parts: as for `write`, the first one with all headers; the checksum is not computed.
            kind: KIND_TCP or KIND_UDP.
            segment: payload bytes of each segment but the last.
            transport: offset of the transport header.
            headers: bytes of IP and transport header.
        """

    def settle(self) -> None:
        """All that there was to write has been written for now; only then is something made of it.

        Whoever calls is done with all else.
        """

    def wake(self) -> None:
        """Something was written, of which something is to be made soon, but not now."""
