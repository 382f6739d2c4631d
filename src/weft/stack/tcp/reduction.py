"""How the window goes down after a loss: in proportion to what arrives.

So the path neither falls idle nor is flooded with all that was lost.

    more on the way than the threshold    threshold / in flight at the loss, of what has been delivered since
    less                                  as much as is delivered, and a segment more while that goes well (slow start)

Source: RFC 6937 sections 3 and 3.1; RFC 9937 (only an acknowledgment that brings no further loss lets it grow).
"""

from __future__ import annotations


class Reduction:
    """One recovery.

    Args:
        in_flight: bytes on the way when the loss came to light.
    """

    __slots__ = ("_delivered", "_in_flight", "_sent")

    def __init__(self, in_flight: int) -> None:
        self._in_flight = max(1, in_flight)
        self._delivered = 0
        self._sent = 0

    def handle_sent(self, size: int) -> None:
        """So many bytes left, again or for the first time."""
        self._sent += size

    def window(self, delivered: int, pipe: int, threshold: int, segment: int, *, goes_well: bool) -> int:
        """The window after an acknowledgment, bytes.

        Args:
            delivered: bytes that it says have arrived, in order or not.
            pipe: bytes that are on the way.
            threshold: where the window is to end.
            segment: bytes of a full segment.
            goes_well: whether it acknowledges more, and shows no further loss.
        """
        self._delivered += delivered
        if pipe > threshold:
            more = -(-self._delivered * threshold // self._in_flight) - self._sent
        else:
            more = self._delivered - self._sent
            if goes_well:
                more = max(more, delivered) + segment
            more = min(threshold - pipe, more)
        if not self._sent:
            more = max(more, segment)
        return pipe + max(0, more)
