"""What came through a tunnel and may enter, handed to the interface: as it takes it, or made ready here.

Packets that came one by one are merged into super-packets while they wait; `flush` writes what is still open. A super-
packet goes as it is where the device takes such, else in segments; a checksum that was left open is left to the
device, or completed.

Source: house.md, "The way of a burst".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from weft.burst.merge import Merged, Merger
from weft.burst.records import KIND_TCP
from weft.burst.split import split
from weft.engine.capture import Captures
from weft.engine.peer import Peer
from weft.io.device import Buffer, Device
from weft.noise.allowed import AllowedSources
from weft.packet.checksum import FIELD, complete, write_pseudo_header_sum
from weft.packet.protocols import TCP


class Delivery:
    """Writes to the interface.

    Attributes:
        device: the interface; None while there is none.
        extend: takes the next segment of the super-packet that is open; see `Merger.extend`.
    """

    def __init__(self, drops: Counter[str], routes: AllowedSources[Peer], captures: Captures) -> None:
        self._drops = drops
        self._routes = routes
        self._captures = captures
        self._listeners = captures.listeners
        self._merger = Merger()
        self.extend = self._merger.extend
        self.device: Device | None = None

    def merge(self, packet: memoryview) -> bool:
        """Take a packet that the next ones may be merged with.

        Args:
            packet: whole, its checksums computed; its buffer stays as it is until `flush`.

        Returns:
            False if it was written at once, because the interface takes no super-packets.
        """
        if self.device is None or not self.device.takes_tcp:
            self.write([packet])
            return False
        for merged in self._merger.add(packet):
            self._write_merged(merged)
        return True

    def flush(self) -> None:
        """Write what is still being merged."""
        for merged in self._merger.flush():
            self._write_merged(merged)

    def settle(self) -> None:
        """All that a wake-up brought was given."""
        if self.device is not None:
            self.device.settle()

    def write(self, parts: Sequence[Buffer]) -> None:
        """Write one packet whose checksums are computed.

        Args:
            parts: buffers whose concatenation is the packet.
        """
        if self.device is None:
            self._drops["no interface"] += 1
            if self._listeners:
                self._tell(parts, dropped="no interface")
            return
        if self._listeners:
            self._tell(parts)
        self.device.write(parts)

    def write_partial(self, packet: memoryview, protocol: int, transport: int) -> None:
        """Write one packet whose transport checksum is not computed.

        Args:
            packet: a plain IP packet; writable.
            protocol: of the transport header, one of `FIELD`.
            transport: offset of that header.
        """
        device = self.device
        if device is not None and device.takes_partial:
            if self._listeners:
                self._tell([packet], is_partial=True)
            if device.needs_pseudo_header:
                write_pseudo_header_sum(packet, transport, protocol)
            device.write_partial([packet], transport, FIELD[protocol])
        else:
            complete(packet, transport, protocol)
            self.write([packet])

    def write_super(self, packet: memoryview, kind: int, segment: int, protocol: int, transport: int) -> None:
        """Write one super-packet, whose transport checksum is not computed.

        Args:
            packet: one without a `super_packet_fault`; writable.
            kind: KIND_TCP or KIND_UDP.
            segment: payload bytes of each segment but the last.
            protocol: of the transport header.
            transport: offset of that header.
        """
        device = self.device
        if device is not None and (device.takes_tcp if kind == KIND_TCP else device.takes_udp):
            if self._listeners:
                self._tell([packet], segment, is_partial=True)
            headers = transport + ((packet[transport + 12] >> 4) * 4 if protocol == TCP else 8)
            if device.needs_pseudo_header:
                write_pseudo_header_sum(packet, transport, protocol)
            device.write_super([packet], kind, segment, transport, headers)
        else:
            for run in split(packet, transport, segment, 1):
                self.write([run])

    def _write_merged(self, merged: Merged) -> None:
        parts, segment, transport = merged
        if not segment:
            self.write(parts)
        elif self.device is not None:
            if self._listeners:
                self._tell(parts, segment, is_partial=True)
            first = parts[0]
            if self.device.needs_pseudo_header:
                write_pseudo_header_sum(first, transport, TCP, sum(map(len, parts)))
            self.device.write_super(parts, KIND_TCP, segment, transport, len(first) - segment)

    def _tell(
        self, parts: Sequence[Buffer], segment: int = 0, *, is_partial: bool = False, dropped: str | None = None
    ) -> None:
        """Tell a packet to whoever captures."""
        first = parts[0]
        peer = self._routes.lookup(bytes(first[8:24] if first[0] >> 4 == 6 else first[12:16]))
        self._captures.put("in", peer, parts, segment, is_partial=is_partial, dropped=dropped)
