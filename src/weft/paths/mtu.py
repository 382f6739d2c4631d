"""The path MTU to one endpoint, found by padded probes.

    start       1280, which every IPv6 path carries
    search      1500 first (or what the local link allows), then larger ones up to it; after a loss the sizes between
    confirmed   the size in use is probed again while data is sent; a lost one lowers it
    raise       with each new session, which comes every two minutes in use, larger sizes are tried again

A size counts as lost after two lost probes of it in a row; an EMSGSIZE of the local kernel counts at once, and the
next smaller size of the table is the most that is tried from then on. All sizes are bytes of whole IP packets of the
underlay.

Source: RFC 8899 (PLPMTUD) in outline; wire.md section 4, "Path MTU".
"""

from __future__ import annotations

from typing import Final

BASE_MTU: Final = 1280
SIZES: Final = (
    1280,
    1340,
    1380,
    1400,
    1420,
    1440,
    1460,
    1472,
    1480,
    1492,
    1500,
    2000,
    4000,
    8000,
    9000,
    16000,
    32000,
    65535,
)
"""What is tried, smallest first: IPv6's least, common tunnels, PPPoE, Ethernet, jumbo frames, loopback."""
USUAL_MTU: Final = 1500
CONFIRM_INTERVAL_NS: Final = 15_000_000_000
RETRY_NS: Final = 200_000_000
MAX_LOSSES: Final = 2


class PathMtu:
    """The search for one endpoint.

    Attributes:
        mtu: what is used now, bytes.
        ceiling: MTU of the local link towards the endpoint, bytes; at most what an IPv4 packet can have.
    """

    def __init__(self, ceiling: int = USUAL_MTU) -> None:
        self.ceiling = min(ceiling, SIZES[-1])
        self.mtu = min(BASE_MTU, self.ceiling)
        self._failed_at = self.ceiling + 1
        self._probing: int | None = None
        self._losses = 0
        self._due_at: int | None = None

    def start(self, now: int) -> None:
        """Begin the search, or begin it anew: the path can be probed from now on."""
        self._failed_at = self.ceiling + 1
        self._probing = None
        self._losses = 0
        self._schedule(now)

    def probe_due(self, now: int, *, in_use: bool) -> int | None:
        """The size to probe now, or None.

        Args:
            now: monotonic ns.
            in_use: whether data was sent since the last call; an idle path is not confirmed again and again, but what
                sends over one that shrank may well be silent for a while.

        Returns:
            Bytes of the IP packet that the probe shall have. The caller says how it ended by `handle_answered`,
            `handle_lost` or `handle_too_big`.
        """
        if self._due_at is None or now < self._due_at or self._probing is not None:
            return None
        size = self._next_size()
        if size is None:
            if not in_use and not self._losses:
                self._due_at = now + CONFIRM_INTERVAL_NS
                return None
            size = self.mtu
        self._probing = size
        self._due_at = None
        return size

    def suspect(self, now: int) -> None:
        """What is sent seems to vanish: confirm the size in use at once, if it is used at all."""
        if self._due_at is not None:
            self._due_at = now

    def handle_answered(self, size: int, now: int) -> None:
        """A probe of that size was answered."""
        self.mtu = max(self.mtu, min(size, self.ceiling))
        self._end(size, now)

    def handle_lost(self, size: int, now: int) -> None:
        """A probe of that size was not answered."""
        if size != self._probing:
            return
        self._losses += 1
        if self._losses < MAX_LOSSES:
            self._probing = None
            self._due_at = now + RETRY_NS
            return
        self._fail(size, now)

    def handle_too_big(self, size: int, now: int) -> None:
        """The local kernel refused a datagram of that size."""
        self.ceiling = min(self.ceiling, max((less for less in SIZES if less < size), default=BASE_MTU))
        self._fail(size, now)
        self.mtu = min(self.mtu, self.ceiling)

    def next_timer(self) -> int | None:
        """When to ask `probe_due` again, monotonic ns; None while a probe is on its way."""
        return self._due_at if self._probing is None else None

    def _fail(self, size: int, now: int) -> None:
        if size <= self.mtu:
            self.mtu = min(BASE_MTU, self.mtu)
        self._failed_at = max(BASE_MTU + 1, min(self._failed_at, size))
        self._end(size, now)

    def _end(self, size: int, now: int) -> None:
        if self._probing == size:
            self._probing = None
        self._losses = 0
        self._schedule(now)

    def _schedule(self, now: int) -> None:
        searching = self._next_size() is not None
        self._due_at = now if searching else now + CONFIRM_INTERVAL_NS

    def _next_size(self) -> int | None:
        """The next size above the one in use and below the smallest that failed; None when the search is over."""
        if self._failed_at <= self.ceiling:
            between = [size for size in SIZES if self.mtu < size < self._failed_at]
            return between[len(between) // 2] if between else None
        if self.mtu < self.ceiling:
            return min(USUAL_MTU, self.ceiling) if self.mtu < USUAL_MTU else self.ceiling
        return None
