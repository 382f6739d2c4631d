"""The way to one peer: which endpoint, how far it is trusted, how large and how many its datagrams may be.

    unknown     no endpoint: nothing can be sent
    unproven    the endpoint came with an authenticated message, but nobody answered from there yet: type 4 messages
                only, and at most three times the bytes that came from it
    proven      a handshake was completed over it, or a probe answered from it: everything may go there

The endpoint follows the source of the last authenticated message (roaming). An endpoint is opaque here; the engine
knows the socket and the address behind it. A stock WireGuard peer can't be probed; its endpoints count as proven, as
WireGuard has it.

Source: wire.md section 3 (roaming) and 4.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from weft.burst.size import BurstSize
from weft.paths.mtu import PathMtu

AMPLIFICATION: Final = 3

IP_UDP_BYTES: Final = {False: 28, True: 48}
"""IP and UDP header of the underlay, by whether it is IPv6."""


class Path:
    """What is known of the way to a peer.

    Attributes:
        endpoint: where datagrams go; None while unknown.
        is_proven: whether somebody answered from there.
        mtu: the search for its path MTU.
        size: how many pieces a burst may have there.
        tx_bytes: datagram payloads sent to the peer, whatever the endpoint.
        rx_bytes: received from it.
        rtt_ns: smoothed round trip; None before the first answer.
    """

    def __init__(self, *, can_probe: bool, fixed_pieces: int | None = None) -> None:
        """Start without an endpoint.

        Args:
            can_probe: False for a stock WireGuard peer.
            fixed_pieces: see `BurstSize`.
        """
        self._can_probe = can_probe
        self._fixed_pieces = fixed_pieces
        self.endpoint: Hashable | None = None
        self.is_ipv6 = False
        self.is_proven = False
        self.mtu = PathMtu()
        self.size = BurstSize(fixed=fixed_pieces)
        self.tx_bytes = 0
        self.rx_bytes = 0
        self.rtt_ns: int | None = None
        self._allowance = 0

    def move(self, endpoint: Hashable, *, is_ipv6: bool, ceiling: int, proven: bool) -> None:
        """Use another endpoint; what was measured belongs to the old one.

        Args:
            endpoint: the new one.
            is_ipv6: of the underlay.
            ceiling: MTU of the local link towards it, bytes.
            proven: whether the endpoint is known to be the peer's: it was configured, or completed a handshake.
        """
        self.endpoint = endpoint
        self.is_ipv6 = is_ipv6
        self.is_proven = proven or not self._can_probe
        self.mtu = PathMtu(ceiling)
        self.size = BurstSize(fixed=self._fixed_pieces)
        self.rtt_ns = None
        self._allowance = 0

    def prove(self) -> None:
        """Somebody who holds the peer's key answered from the endpoint."""
        self.is_proven = True

    def has_room(self, length: int) -> bool:
        """Whether so many bytes may go to the endpoint."""
        return self.is_proven or length <= self._allowance

    def may_send(self, length: int) -> bool:
        """Whether so many bytes may go to the endpoint; takes them from the allowance of an unproven one."""
        if self.is_proven:
            return True
        if length > self._allowance:
            return False
        self._allowance -= length
        return True

    def handle_received(self, length: int) -> None:
        """Bytes came from the endpoint in an authenticated message."""
        self.rx_bytes += length
        if not self.is_proven:
            self._allowance += AMPLIFICATION * length

    def handle_rtt(self, rtt_ns: int) -> None:
        """A probe was answered after so long."""
        self.rtt_ns = rtt_ns if self.rtt_ns is None else self.rtt_ns + (rtt_ns - self.rtt_ns) // 8

    @property
    def datagram_bytes(self) -> int:
        """The largest UDP payload of the path."""
        return self.mtu.mtu - IP_UDP_BYTES[self.is_ipv6]
