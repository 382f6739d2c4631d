"""`ping -i 0.01` while something else happens."""

from __future__ import annotations

import re
import signal

from tests.system.lab import Host, Ping
from tests.system.waiting import until

INTERVAL_S = "0.01"


class Pinging:
    """Pings an address until it is stopped; runs when it is made, with the first answer there."""

    def __init__(self, host: Host, address: str) -> None:
        self._process = host.start("ping", "-n", "-i", INTERVAL_S, address, name=f"ping {address}")
        self._process.wait_for("icmp_seq=1 ")

    @property
    def answered(self) -> int:
        """The number of the last request that was answered."""
        numbers = re.findall(r"icmp_seq=(\d+) ttl=", self._process.output())
        return int(numbers[-1])

    def wait_for_more(self, count: int, timeout_s: float = 10) -> None:
        """Return when as many further requests were sent and one after them was answered."""
        goal = self.answered + count
        until(lambda: self.answered >= goal, f"answer to ping {goal}", timeout_s)

    def stop(self) -> Ping:
        """End it; the requests up to the last one that was answered, and how many of those were answered."""
        self._process.stop(signal.SIGINT)
        output = self._process.output()
        answered = {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl=", output)}
        assert "(DUP!)" not in output
        return Ping(max(answered), len(answered), None)
