"""The firewall in front of a host that refuses by itself: it lets all pass, and remembers nothing.

A host inside this program has no port open but where a program of this node listens, so that to listen is the
permission to be reached. It answers what nobody listens for, and looks at headers itself.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from weft.firewall.explain import Notes
from weft.firewall.firewall import Firewall
from weft.firewall.judge import Verdict
from weft.packet.checksum import Buffer

_ACCEPT: Final = Verdict.ACCEPT


class OpenFirewall(Firewall):
    """A `Firewall` that has nothing to decide."""

    def __init__(self) -> None:
        super().__init__(())

    def outbound(self, packet: Buffer, now: int) -> bool:
        """Everything may leave."""
        return True

    def inbound(self, packet: Buffer, now: int, source: Hashable = None) -> Verdict:
        """Everything comes in."""
        return _ACCEPT

    def explain_outbound(self, packet: Buffer, now: int) -> tuple[bool, Notes]:
        """As `outbound`; there is nothing to note."""
        return True, Notes()

    def explain_inbound(self, packet: Buffer, now: int, source: Hashable = None) -> tuple[Verdict, Notes]:
        """As `inbound`; there is nothing to note."""
        return _ACCEPT, Notes()
