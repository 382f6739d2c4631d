"""IP protocol numbers: what the `protocol` field of IPv4 and the last `next header` of IPv6 say.

Plain integers and not an enum, because they are compared once per packet on the fast path.

Source: the IANA registry of assigned Internet protocol numbers.
"""

from __future__ import annotations

from typing import Final

ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
ICMPV6: Final = 58
NO_NEXT_HEADER: Final = 59
