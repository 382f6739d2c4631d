"""`ping` while something else happens, and until the last request was answered.

With a count, `ping` waits for the last answer for two round trips only, so that on a busy machine some seem lost.
"""

from __future__ import annotations

import re
import signal

from tests.system.lab import Host, Ping
from tests.system.waiting import until

INTERVAL_S = "0.01"


class Pinging:
    """Pings an address every 10 ms until it is stopped; when it is made, the first request was answered."""

    def __init__(self, host: Host, address: str, *, size: int = 56) -> None:
        self._process = host.start("ping", "-n", "-i", INTERVAL_S, "-s", str(size), address, name=f"ping {address}")
        self.wait_for_more(1)

    def wait_for_more(self, count: int, timeout_s: float = 10) -> None:
        """Return when the request was answered that is so many after the last one that was."""
        goal = max(self._answered(), default=0) + count
        until(lambda: max(self._answered(), default=0) >= goal, f"answer to ping {goal}", timeout_s)

    def stop(self) -> Ping:
        """End it; the requests up to the last one that was answered, and how many of those were answered."""
        self._process.stop(signal.SIGINT)
        answered = self._answered()
        assert len(set(answered)) == len(answered), "an answer came twice"
        return Ping(max(answered), len(answered), None)

    def _answered(self) -> list[int]:
        """The numbers of the requests that were answered."""
        return [int(number) for number in re.findall(r"icmp_seq=(\d+) ttl=", self._process.output())]
